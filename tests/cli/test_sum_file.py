"""The sum file in a project: two branches that add a revision, merged by git; edits; `rehash`."""

from pathlib import Path

import pytest
from console import CREATE, DOUBLE, Console
from lab import Lab
from repository import committed, git, started


def written(lab: Lab, console: Console, message: str, operation: str) -> Path:
    """A revision that `lancemig revision` writes, filled in by hand."""
    path = Path(console.says("revision", "-m", message).removeprefix("wrote ").strip())
    text = path.read_text().replace("operations = []", f"operations = [{operation}]")
    path.write_text(text.replace("revision = ", "from lancemig import *\n\nrevision = ", 1))
    console.says("rehash")
    return path


@pytest.fixture
def live(lab: Lab, console: Console) -> Lab:
    """One revision, applied, its sum file, and all of it committed to git."""
    lab.revision(CREATE)
    console.says("upgrade")
    console.says("rehash")
    started(lab.folder)
    return lab


@pytest.fixture
def merged(live: Lab, console: Console) -> Lab:
    """Two branches that each added a revision, ours merged into theirs by git, which stopped."""
    git(live.folder, "checkout", "-q", "-b", "ours")
    written(live, console, "Ours", DOUBLE)
    committed(live.folder, "ours")
    git(live.folder, "checkout", "-q", "main")
    written(live, console, "Theirs", 'AddColumn(table="recordings", column="note: string")')
    committed(live.folder, "theirs")
    git(live.folder, "merge", "-q", "ours", status=1)
    return live


def test_two_branches_that_add_a_revision_conflict_in_the_sum_file(merged: Lab):
    assert git(merged.folder, "diff", "--name-only", "--diff-filter=U").split() == ["versions/lancemig.sum"]


def test_the_conflict_is_named_with_the_way_out(merged: Lab, console: Console):
    found = console.json("check", "--offline", status=1)["findings"]
    assert [(each["code"], each["next_step"]) for each in found] == [
        ("LM200", "lancemig rebase"),
        ("LM213", "lancemig rebase"),
    ]


def test_rebase_makes_one_line_of_it_and_check_passes(merged: Lab, console: Console):
    console.says("rebase", "0002_ours.py")
    console.says("check", "--offline")
    committed(merged.folder, "merged")
    console.says("upgrade")
    assert console.says("check") == "in sync\n"
    assert git(merged.folder, "status", "--porcelain", "versions") == ""


def test_rebase_keeps_what_was_applied_where_it_is(merged: Lab, console: Console):
    """Theirs was applied from main, while ours waited."""
    ours = merged.folder / "versions" / "0002_ours.py"
    kept = ours.read_bytes()
    ours.unlink()
    console.says("upgrade")
    ours.write_bytes(kept)
    console.says("rebase", "0002_ours.py")
    console.says("upgrade")
    assert console.says("check") == "in sync\n"
    assert sorted(merged.dataset("recordings").schema.names) == ["gain", "id", "note"]
    assert [row["gain"] for row in merged.rows("recordings", by="id")] == [2.0, 4.0]


@pytest.fixture
def twins(live: Lab, console: Console) -> Lab:
    """Two branches of three revisions each, with the same ids; theirs was applied up to its second."""
    git(live.folder, "checkout", "-q", "-b", "ours")
    for name in ("a", "b", "c"):
        written(live, console, f"Ours {name}", f'AddColumn(table="recordings", column="our_{name}: string")')
    committed(live.folder, "ours")
    git(live.folder, "checkout", "-q", "main")
    for name in ("a", "b", "c"):
        written(live, console, f"Their {name}", f'AddColumn(table="recordings", column="{name}: string")')
    committed(live.folder, "theirs")
    console.says("upgrade", "0003")
    return live


@pytest.mark.parametrize(
    ("words", "resolved"),
    [((), None), (("0003_ours_b.py",), None), ((), "--ours"), ((), "--theirs")],
    ids=["by the lineage", "by name", "ours taken for the sum file", "theirs taken for it"],
)
def test_two_branches_of_several_revisions_with_the_same_ids(
    twins: Lab, console: Console, words: tuple[str, ...], resolved: str | None
):
    git(twins.folder, "merge", "-q", "ours", status=1)
    if resolved is not None:
        git(twins.folder, "checkout", resolved, "versions/lancemig.sum")
    assert "0002_ours_a.py -> " in console.says("rebase", *words)
    names = sorted(path.name for path in (twins.folder / "versions").glob("*.py"))
    assert names[1:] == [
        "0002_their_a.py", "0003_their_b.py", "0004_their_c.py",
        "0005_ours_a.py", "0006_ours_b.py", "0007_ours_c.py",
    ]  # fmt: skip
    console.says("check", "--offline")
    console.says("upgrade")
    assert console.says("check") == "in sync\n"


def test_of_branches_with_the_same_ids_the_applied_one_stays(twins: Lab, console: Console):
    git(twins.folder, "merge", "-q", "ours", status=1)
    refused = console.refuses("rebase", str(twins.folder / "versions" / "0004_their_c.py"), status=2)
    assert "was already applied and cannot be moved" in refused
    assert "is ambiguous" in console.refuses("rebase", "0003", status=2)
    assert "is before the fork" in console.refuses("rebase", "0001", status=2)


def test_where_neither_was_applied_one_is_named(twins: Lab, console: Console):
    console.says("stamp", "0001")
    git(twins.folder, "merge", "-q", "ours", status=1)
    assert "none of them was applied" in console.refuses("rebase", status=2)
    console.says("rebase", "0004_their_c.py")
    assert (twins.folder / "versions" / "0007_their_c.py").exists()
    console.says("check", "--offline")


def test_what_was_stamped_is_not_moved(twins: Lab, console: Console):
    git(twins.folder, "checkout", "-q", "ours")
    console.says("stamp", "0002")
    git(twins.folder, "checkout", "-q", "main")
    git(twins.folder, "merge", "-q", "ours", status=1)
    assert "0002_their_a.py -> " in console.says("rebase")


def test_a_colleague_s_revision_of_the_same_number_is_told(twins: Lab, console: Console):
    git(twins.folder, "checkout", "-q", "ours")
    found = console.json("check", status=1)["findings"]
    assert {"LM201"} <= {each["code"] for each in found}
    done = console("upgrade", "--plan")
    assert "another branch's 0003 was" in done.stderr
    assert "lancemig rebase" in done.stderr


def test_rebase_ends_a_conflict_that_is_left_in_the_sum_file_alone(merged: Lab, console: Console):
    ours = merged.folder / "versions" / "0002_ours.py"
    text = ours.read_text().replace("0002", "0003").replace("0001", "0002")
    ours.rename(ours.with_name("0003_ours.py")).write_text(text)
    assert [each["code"] for each in console.json("check", "--offline", status=1)["findings"]] == ["LM213"]
    assert "updated lancemig.sum" in console.says("rebase")
    console.says("check", "--offline")


def test_a_revision_brings_the_sum_file_with_it(lab: Lab, console: Console):
    console.says("revision", "-m", "The first")
    assert (lab.folder / "versions" / "lancemig.sum").exists()
    assert console.says("check", "--offline") == "in sync\n"


def test_a_file_changed_by_hand_is_found_until_rehash(live: Lab, console: Console):
    path = written(live, console, "Double", DOUBLE)
    path.write_text(path.read_text() + "# once more\n")
    found = console.json("check", "--offline", status=1)["findings"]
    assert [each["code"] for each in found] == ["LM211"]
    assert found[0]["next_step"].endswith("lancemig rehash")
    assert console.says("rehash").endswith("changed 0002\n")
    assert console.json("rehash")["changed"] == []
    console.says("check", "--offline")


def test_a_revision_on_top_does_not_hide_an_edit_below(live: Lab, console: Console):
    path = live.folder / "versions" / "0001.py"
    path.write_text(path.read_text() + "# edited\n")
    console.says("revision", "-m", "On top")
    found = console.json("check", "--offline", status=1)["findings"]
    assert [each["code"] for each in found] == ["LM211"]
    assert "0001.py" in found[0]["message"]


def test_the_catalog_is_looked_at_beside_the_sum_file(live: Lab, console: Console):
    path = written(live, console, "Double", DOUBLE)
    path.write_text(path.read_text() + "# once more\n")
    assert [each["code"] for each in console.json("check", status=1)["findings"]] == ["LM211", "LM401"]


@pytest.fixture
def editor(tmp_path: Path) -> str:
    script = tmp_path / "editor.sh"
    script.write_text('#!/bin/sh\necho "# edited" >> "$1"\n')
    script.chmod(0o755)
    return str(script)


def test_what_edit_opened_is_taken_over(live: Lab, console: Console, editor: str):
    written(live, console, "Double", DOUBLE)
    below = live.folder / "versions" / "0001.py"
    below.write_text(below.read_text() + "# by hand\n")
    assert console("edit", EDITOR=editor, VISUAL=editor).exit_code == 0
    found = console.json("check", "--offline", status=1)["findings"]
    assert [each["path"].rpartition("/")[2] for each in found] == ["0001.py"]


def test_a_file_that_edit_leaves_broken_leaves_the_sum_file_alone(
    live: Lab, console: Console, tmp_path: Path
):
    script = tmp_path / "break.sh"
    script.write_text('#!/bin/sh\necho "(" >> "$1"\n')
    script.chmod(0o755)
    before = (live.folder / "versions" / "lancemig.sum").read_bytes()
    done = console("edit", EDITOR=str(script), VISUAL=str(script))
    assert done.exit_code == 0
    assert "lancemig.sum unchanged" in done.stderr
    assert (live.folder / "versions" / "lancemig.sum").read_bytes() == before


def test_a_project_without_a_sum_file_stays_without_until_it_gets_a_revision(
    lab: Lab, console: Console, editor: str
):
    lab.revision(CREATE)
    assert console("edit", EDITOR=editor, VISUAL=editor).exit_code == 0
    assert not (lab.folder / "versions" / "lancemig.sum").exists()
    assert console.says("check", "--offline") == "in sync\n"
