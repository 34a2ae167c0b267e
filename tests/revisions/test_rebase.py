"""A fork becomes one line: which branch moves, what its files say then, and what stays as it was."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lancemig.commands import files
from lancemig.config import read_settings
from lancemig.errors import ConfigError, ScriptError, TwoHeads
from lancemig.revisions.branches import find_header
from lancemig.revisions.chain import chain_of
from lancemig.revisions.header import Header, read_header, read_headers
from lancemig.revisions.journal import apply_journal, begin_journal, end_journal
from lancemig.revisions.loader import load_migration
from lancemig.revisions.rebase import MovedFile, journal_of, moved_files, rebase_branch
from lancemig.revisions.writer import Draft, revision_file

NOW = datetime(2026, 5, 20, 19, 4, 1, tzinfo=UTC)
NONE: dict[str, str] = {}

Make = Callable[..., Path]


def text_of(revision: str, parent: str | None, message: str = "Something") -> str:
    revises, quoted = (f" {parent}", f'"{parent}"') if parent else ("", None)
    return (
        f'"""{message}.\n\nRevision ID: {revision}\nRevises:{revises}\n"""\n\n'
        f'revision = "{revision}"\ndown_revision = {quoted}\n\noperations = []\n'
    )


@pytest.fixture
def make(versions: Path) -> Make:
    """Write versions/<revision>_<name>.py, which follows `parent`."""

    def made(revision: str, parent: str | None, name: str = "x", *, directory: Path = versions) -> Path:
        path = directory / f"{revision}_{name}.py"
        path.write_text(text_of(revision, parent, name), encoding="utf-8")
        return path

    return made


@pytest.fixture
def fork(make: Make) -> None:
    """0001 and 0002, then 0003 and 0004 of ours; 0005 of theirs, who began at 0002 as well."""
    for revision, parent in (("0001", None), ("0002", "0001"), ("0003", "0002"), ("0004", "0003")):
        make(revision, parent, "ours")
    make("0005", "0002", "theirs")


def rebased(versions: Path, named: str | None = None, applied: Iterable[str] = ()) -> list[MovedFile]:
    """What the verb does to the files."""
    journal = journal_of(
        rebase_branch(read_headers(versions), named, dict.fromkeys(applied, "")), "lancemig rebase"
    )
    begin_journal(versions, journal)
    apply_journal(versions, journal)
    end_journal(versions)
    return moved_files(journal)


def line(versions: Path) -> list[str]:
    """The names of the files from base to head; each loads."""
    headers = chain_of(read_headers(versions)).headers
    assert all(load_migration(header).header == header for header in headers)
    return [header.path.stem for header in headers]


def contents(versions: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in versions.iterdir() if path.is_file()}


def refusal(
    versions: Path,
    named: str | None = None,
    applied: Iterable[str] = (),
    error: type[ScriptError] = ScriptError,
) -> ScriptError:
    before = contents(versions)
    with pytest.raises(ScriptError) as caught:
        rebased(versions, named, applied)
    assert type(caught.value) is error
    assert caught.value.next_step
    assert contents(versions) == before
    return caught.value


@pytest.mark.usefixtures("fork")
@pytest.mark.parametrize("named", ["0005", "0005_theirs.py", "0004", "0003", "0003_ours.py"])
def test_the_named_branch_moves_whichever_of_its_files_is_named(versions, named):
    rebased(versions, named)
    ours, theirs = ["0003_ours", "0004_ours"], ["0005_theirs"]
    top = theirs if named.startswith("0005") else ["0006_ours", "0007_ours"]
    assert line(versions) == ["0001_ours", "0002_ours", *(ours if top == theirs else theirs), *top]


@pytest.mark.usefixtures("fork")
def test_a_file_is_named_by_its_path(versions, monkeypatch):
    monkeypatch.chdir(versions.parent)
    assert [moved.old.name for moved in rebased(versions, "versions/0005_theirs.py")] == ["0005_theirs.py"]


@pytest.mark.usefixtures("fork")
def test_the_branch_without_an_applied_revision_moves(versions):
    rebased(versions, None, ["0001", "0002", "0005"])
    assert line(versions)[2:] == ["0005_theirs", "0006_ours", "0007_ours"]


@pytest.mark.usefixtures("fork")
def test_what_changed_is_told_in_the_order_of_the_branch(versions):
    assert rebased(versions, "0004") == [
        MovedFile(
            old=versions / "0003_ours.py",
            new=versions / "0006_ours.py",
            changes=("revision 0003 -> 0006", "down_revision 0002 -> 0005"),
        ),
        MovedFile(
            old=versions / "0004_ours.py",
            new=versions / "0007_ours.py",
            changes=("revision 0004 -> 0007", "down_revision 0003 -> 0006"),
        ),
    ]


@pytest.mark.usefixtures("fork")
def test_nothing_to_go_by_is_refused_with_all_files_named(versions):
    error = refusal(versions, error=TwoHeads)
    assert all(f"{name}.py" in error.message for name in ("0003_ours", "0004_ours", "0005_theirs"))
    assert "lancemig rebase FILE" in (error.next_step or "")


@pytest.mark.usefixtures("fork")
def test_two_applied_branches_are_refused_with_all_files_named(versions):
    error = refusal(versions, applied=["0003", "0005"], error=TwoHeads)
    assert "0003_ours.py" in error.message
    assert "0005_theirs.py" in error.message
    assert "lancemig rebase FILE" in (error.next_step or "")


@pytest.mark.usefixtures("fork")
@pytest.mark.parametrize(("named", "applied"), [("0005", ["0005"]), ("0004", ["0001", "0003"])])
def test_what_was_applied_is_not_moved(versions, named, applied):
    error = refusal(versions, named, applied)
    assert f"{applied[-1]} (" in error.message
    assert "was already applied" in error.message


@pytest.mark.usefixtures("fork")
@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("0002", "before the fork"),
        ("0009", "did you mean"),
        ("", "no file or revision"),
        ("000", "ambiguous"),
    ],
)
def test_a_name_that_names_no_branch_is_refused(versions, named, said):
    assert said in refusal(versions, named).message


def test_one_line_is_nothing_to_rebase(versions, make):
    make("0001", None)
    assert "nothing to rebase: the history has one head, 0001" in refusal(versions).message
    assert "nothing to rebase" in refusal(versions, "0001").message


def test_what_is_wrong_besides_is_told_before_anything_moves(versions, make):
    make("0001", None)
    make("0002", "0001", "a")
    make("0003", "0001", "b")
    make("0009", "0008", "lost")
    assert "`down_revision` is '0008', but no file has this id" in refusal(versions, "0003").message


def test_of_two_files_with_one_id_the_one_named_by_path_moves(versions, make):
    make("0007", None)
    kept, moved = make("0008", "0007", "a"), make("0008", "0007", "b")
    before = kept.read_bytes()
    for named in (None, "0008"):
        error = refusal(versions, named, error=ScriptError if named else TwoHeads)
        assert "0008_a.py" in error.message
        assert "0008_b.py" in error.message
    rebased(versions, str(moved), ["0007", "0008"])
    assert line(versions) == ["0007_x", "0008_a", "0009_b"]
    assert kept.read_bytes() == before


def test_of_two_first_files_the_one_named_by_path_moves(versions, make):
    make("0001", None, "a")
    make("0001", None, "b")
    rebased(versions, "0001_b.py")
    assert line(versions) == ["0001_a", "0002_b"]
    assert (versions / "0002_b.py").read_text() == text_of("0002", "0001", "b")


def test_what_was_applied_stands_on_the_twin_that_stays(versions, make):
    for revision, parent, name in (("0007", None, "x"), ("0008", "0007", "a"), ("0009", "0008", "a")):
        make(revision, parent, name)
    make("0008", "0007", "b")
    rebased(versions, "0008_b.py", ["0007", "0008", "0009"])
    assert line(versions) == ["0007_x", "0008_a", "0009_a", "0010_b"]


def test_whom_an_unapplied_file_follows_is_not_guessed_among_twins(versions, make):
    for revision, parent, name in (("0007", None, "x"), ("0008", "0007", "a"), ("0009", "0008", "a")):
        make(revision, parent, name)
    twin = make("0008", "0007", "b")
    error = refusal(versions, "0008_b.py")
    assert "which of them 0009" in error.message
    assert error.next_step == (
        f'replace "0008" by "0010" in {twin} and in `down_revision` of the revisions that follow it, '
        f"then: lancemig rebase {twin}"
    )
    twin.write_text(twin.read_text().replace("0008", "0010"))
    rebased(versions, str(twin))
    assert line(versions) == ["0007_x", "0008_a", "0009_a", "0008_b"]


def test_three_files_with_one_id_are_not_guessed_about(versions, make):
    make("0007", None)
    for name in "abc":
        make("0008", "0007", name)
    assert "have the same id" in refusal(versions, "0008_c.py").message
    assert "have the same id" in refusal(versions, error=TwoHeads).message


def test_of_three_branches_one_moves_at_a_time_onto_the_applied_one(versions, make):
    make("0001", None)
    for number, name in enumerate("abc", start=2):
        make(f"000{number}", "0001", name)
    rebased(versions, "0002", ["0001", "0004"])
    with pytest.raises(TwoHeads):
        line(versions)
    assert read_header(versions / "0005_a.py").down_revision == "0004"
    rebased(versions, None, ["0001", "0004"])
    assert line(versions) == ["0001_x", "0004_c", "0005_a", "0006_b"]


@pytest.mark.parametrize(
    ("kept", "moved", "expected"),
    [
        (["0003"], ["0004", "0005"], ["0004", "0005"]),
        (["0003"], ["0004", "0007"], ["0004", "0007"]),
        (["0004"], ["0003", "0009"], ["0005", "0009"]),
        (["0009"], ["0003", "0004"], ["0010", "0011"]),
        (["9999"], ["0003"], ["10000"]),
        (["00004"], ["00003"], ["00005"]),
        (["0003", "ae10"], ["0002x", "0002"], ["0002x", "0002"]),
        (["ae10"], ["b2", "c3"], ["b2", "c3"]),
        (["0003"], ["rate", "0002"], ["rate", "0004"]),
    ],
)
def test_numbers_go_on_rising_and_other_ids_stay(versions, make, kept, moved, expected):
    make("0001", None)
    for name, branch in (("kept", kept), ("moved", moved)):
        for parent, revision in pairwise(["0001", *branch]):
            make(revision, parent, name)
    rebased(versions, f"{moved[0]}_moved.py")
    assert line(versions) == ["0001_x", *(f"{r}_kept" for r in kept), *(f"{r}_moved" for r in expected)]


def test_a_taken_id_that_is_no_number_gets_a_number_behind_it(versions, make):
    make("a", None)
    for name in ("one", "two"):
        make("rate", "a", name)
    rebased(versions, "rate_two.py")
    assert line(versions) == ["a_x", "rate_one", "rate_2_two"]


FORMATTED = '''\ufeff# -*- coding: utf-8 -*-  Größe 0008 0007
r\'\'\' Measure 0008, which follows 0007 — “größer”.

  Revision ID :   0008  \t
  Revises: 0007
  Create Date: 2026-05-20 19:00:00+00:00
  Revises: 0007, said again; Revision ID: 0008
\'\'\'
from lancemig import SetMetadata;   ß = "0008"; revision: str = \'0008\'  # not "0008" but 0008


down_revision   =   (  # after 0007
    """0007"""
  )

operations = [SetMetadata( table="t", metadata={"revision": "0008", \'down_revision\': "0007"}, ), ]
# the end, without a newline: 0008'''


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_other_byte_is_kept(versions, make, newline):
    make("0007", None)
    make("0008", "0007", "a")
    path = versions / "0008-formatted 0008.py"
    path.write_bytes(FORMATTED.replace("\n", newline).encode())
    path.chmod(0o640)
    rebased(versions, path.name)
    expected = (
        FORMATTED.replace(":   0008  \t", ":   0009  \t")
        .replace("  Revises: 0007\n", "  Revises: 0008\n")
        .replace("'0008'  # not", "'0009'  # not")
        .replace('"""0007"""', '"""0008"""')
    )
    moved = versions / "0009-formatted 0008.py"
    assert moved.read_bytes() == expected.replace("\n", newline).encode()
    assert moved.stat().st_mode & 0o777 == 0o640
    assert line(versions) == ["0007_x", "0008_a", "0009-formatted 0008"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Revision ID: 0002\nRevises: 0001"""\n', '"""Revision ID: 0002\nRevises: 0002"""\n'),
        ('"""\nRevises: 0001\n\nRevision ID:0002\n"""\n', '"""\nRevises: 0001\n\nRevision ID:0003\n"""\n'),
        ("'No fields.'\n", "'No fields.'\n"),
        ("", ""),
    ],
)
def test_docstrings_are_read_as_the_header_reads_them(versions, make, before, after):
    make("0001", None)
    make("0002", "0001", "a")
    path = versions / "b.py"
    path.write_text(before + 'revision = "0002"\ndown_revision = "00" "01"\noperations = ()\n')
    rebased(versions, "b.py")
    assert path.read_text() == after + 'revision = "0003"\ndown_revision = "0002"\noperations = ()\n'
    assert line(versions) == ["0001_x", "0002_a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        '"""M.\\n\\nRevises: 0001"""\nrevision = "0002"\ndown_revision = "0001"\noperations = []\n',
        '"M.\\x0aRevision ID: 00\\x302"\nrevision = "0002"\ndown_revision = "0001"\noperations = []\n',
    ],
)
def test_a_header_that_cannot_be_rewritten_says_what_to_write_by_hand(versions, make, text):
    make("0001", None)
    make("0002", "0001", "a")
    (versions / "b.py").write_text(text)
    error = refusal(versions, "b.py")
    assert "b.py: its header cannot be rewritten" in error.message
    assert 'write `revision = "0003"` and `down_revision = "0002"`' in (error.next_step or "")


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("0002.py", "0003.py"),
        ("0002-a.py", "0003-a.py"),
        ("00021.py", "00021.py"),
        ("2026-0002_a.py", "2026-0002_a.py"),
        ("a.py", "a.py"),
    ],
)
def test_a_file_whose_name_begins_with_its_id_is_renamed(versions, make, name, renamed):
    make("0001", None)
    make("0002", "0001", "kept")
    (versions / name).write_text(text_of("0002", "0001"))
    assert [moved.new.name for moved in rebased(versions, name)] == [renamed]
    assert sorted(contents(versions)) == sorted(["0001_x.py", "0002_kept.py", renamed])


def test_names_within_a_branch_move_up_one_after_the_other(versions, make):
    make("0001", None)
    make("0002", "0001", "kept")
    make("0003", "0002", "kept")
    make("2", "0001", "x")
    make("0004", "2", "x")
    make("0005", "0004", "x")
    rebased(versions, "2")
    assert line(versions) == ["0001_x", "0002_kept", "0003_kept", "0004_x", "0005_x", "0006_x"]


def test_no_file_is_written_over(versions, make):
    make("0001", None)
    make("0002", "0001", "kept")
    make("0002", "0001", "b")
    (versions / "0003_b.py").symlink_to("nowhere")
    headers = [read_header(path) for path in sorted(versions.glob("000[12]*.py"))]
    before = sorted(versions.iterdir())
    with pytest.raises(
        ScriptError, match=r"0002_b\.py would be renamed to .*0003_b\.py, which already exists"
    ):
        rebase_branch(headers, "0002_b.py", NONE)
    assert sorted(versions.iterdir()) == before


def test_a_file_that_changed_since_it_was_read_is_left_alone(versions, make):
    make("0001", None)
    make("0002", "0001", "kept")
    moved = make("0003", "0001", "moved")
    headers = read_headers(versions)
    moved.write_text(moved.read_text() + "# more\n")
    before = contents(versions)
    with pytest.raises(ScriptError, match="was changed while lancemig read it"):
        rebase_branch(headers, "0003", NONE)
    assert contents(versions) == before


def test_generated_files_are_rebased_and_read_as_if_generated_there(versions):
    def generated(directory: Path, parent_line: list[Header], message: str) -> Path:
        draft = Draft(message=message, kind="rebuild", operations=('DropTable(table="t")',))
        new = revision_file(directory, chain_of(parent_line), draft, now=NOW, new_id=lambda: "x")
        new.path.write_bytes(new.content)
        return new.path

    first = read_header(generated(versions, [], "First"))
    ours = read_header(generated(versions, [first], "Ours"))
    theirs = generated(versions, [first], "Theirs")
    rebased(versions, str(theirs))
    elsewhere = versions.parent / "elsewhere"
    elsewhere.mkdir()
    fresh = generated(elsewhere, [first, ours], "Theirs")
    assert line(versions) == ["0001_first", "0002_ours", "0003_theirs"]
    assert (versions / fresh.name).read_bytes() == fresh.read_bytes()


def test_a_folder_that_cannot_be_written_is_told(versions, make):
    make("0001", None)
    make("0002", "0001", "kept")
    make("0002", "0001", "moved")
    before = contents(versions)
    (versions / ".0003_moved.py.new").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        rebased(versions, "0002_moved.py")
    (versions / ".0003_moved.py.new").rmdir()
    assert before.items() <= contents(versions).items()
    with pytest.raises(ScriptError, match="was interrupted"):
        read_headers(versions)


NUMBERS = st.integers(1, 40).map(lambda n: f"{n:04d}")
WORDS = st.sampled_from(["rate", "ae10", "b_2", "7", "00012", "x.y"])


@pytest.mark.slow
@given(
    trunk=st.integers(1, 3),
    ids=st.lists(st.one_of(NUMBERS, NUMBERS, WORDS), min_size=9, max_size=9, unique=True),
    lengths=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    twin=st.booleans(),
    by=st.sampled_from(["first", "last", "applied"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
def test_any_fork_becomes_one_line_and_what_is_kept_is_untouched(
    tmp_path_factory, make, trunk, ids, lengths, twin, by
):
    directory = tmp_path_factory.mktemp("versions")
    given_ids = iter(ids)
    below = [next(given_ids) for _ in range(trunk)]
    kept, moved = ([next(given_ids) for _ in range(length)] for length in lengths)
    if twin:
        kept, moved = kept[:1], [kept[0]]
    for name, start, branch in (
        ("below", None, below),
        ("kept", below[-1], kept),
        ("moved", below[-1], moved),
    ):
        for parent, revision in pairwise([start, *branch]):
            make(revision, parent, name, directory=directory)
    before = contents(directory)
    named = None if by == "applied" and not twin else f"{moved[0 if by == 'first' else -1]}_moved.py"
    told = rebased(directory, named, [*below, *kept])
    after = line(directory)
    intended = [header.revision for header in chain_of(read_headers(directory)).headers]
    stay = [*(f"{r}_below" for r in below), *(f"{r}_kept" for r in kept)]
    assert after[: len(stay)] == stay
    assert [stem.rpartition("_")[2] for stem in after[len(stay) :]] == ["moved"] * len(moved)
    assert all((directory / f"{stem}.py").read_bytes() == before[f"{stem}.py"] for stem in stay)
    by_new = {each.new.name: each.old.name for each in told}
    assert [by_new.get(f"{stem}.py", f"{stem}.py") for stem in after[len(stay) :]] == [
        f"{revision}_moved.py" for revision in moved
    ]
    if all(revision.isdecimal() for revision in ids) and sorted(stay) == stay:
        assert intended[len(stay) - 1 :] == sorted(intended[len(stay) - 1 :], key=int)


def test_a_header_is_found_without_a_line(versions, fork):
    headers = read_headers(versions)
    assert find_header(headers, "0005").path.name == "0005_theirs.py"
    assert find_header(headers, "0005_theirs.py") == find_header(headers, str(versions / "0005_theirs.py"))


def test_the_verb_reads_the_project_s_folder(versions, fork, monkeypatch):
    folder = versions.parent
    monkeypatch.chdir(folder)
    (folder / "lancemig.ini").write_text("[lancemig]\nstore = catalog\n")
    config = read_settings(Path("lancemig.ini"), "lancemig", environ={}, x=())
    assert files.edit(config, "0005") == Path("versions/0005_theirs.py")
    [moved] = files.rebase(config, "0005", NONE)
    assert (moved.old, moved.new) == (Path("versions/0005_theirs.py"), Path("versions/0005_theirs.py"))
    assert moved.changes == ("down_revision 0002 -> 0004",)
    assert files.edit(config, "head-1") == Path("versions/0004_ours.py")
    (versions / "0009_broken.py").write_text("revision = \n")
    for text in ("0009_broken.py", "versions/0009_broken.py", str(versions / "0009_broken.py")):
        assert (folder / files.edit(config, text)).samefile(versions / "0009_broken.py")
    (folder / "elsewhere.py").write_text("")
    with pytest.raises(ScriptError, match=r"0009_broken\.py"):
        files.edit(config, "elsewhere.py")
