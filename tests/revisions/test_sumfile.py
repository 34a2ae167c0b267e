"""The sum file: what it says, what it finds, and what it leaves to be found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lancemig.errors import ConfigError
from lancemig.revisions.chain import chain_of
from lancemig.revisions.header import read_headers
from lancemig.revisions.sumfile import in_conflict, missing_sum, sum_findings, write_sum

Write = Callable[..., Path]


@pytest.fixture
def three(write: Write, versions: Path) -> Path:
    """Three revisions and their sum file."""
    for number, parent in ((1, "None"), (2, '"0001"'), (3, '"0002"')):
        write(name=f"000{number}.py", revision=f'"000{number}"', parent=parent)
    resum(versions)
    return versions


def resum(versions: Path, changed: set[str] | None = None):
    return write_sum(versions, chain_of(read_headers(versions)), changed)


def found(versions: Path) -> list[tuple[str, str]]:
    line = chain_of(read_headers(versions))
    return [(finding.code, finding.message) for finding in sum_findings(versions, line)]


def codes(versions: Path) -> list[str]:
    return [code for code, _ in found(versions)]


def edit(versions: Path, name: str) -> None:
    path = versions / name
    path.write_text(path.read_text() + "# edited\n")


def lines(versions: Path) -> list[str]:
    return (versions / "lancemig.sum").read_text().splitlines()


def put(versions: Path, *text: str) -> None:
    (versions / "lancemig.sum").write_text("".join(f"{line}\n" for line in text))


def test_it_is_the_same_whenever_it_is_written(three: Path):
    before = lines(three)
    resum(three)
    assert lines(three) == before
    assert codes(three) == []


def test_it_has_a_line_for_all_and_one_for_each_revision_in_order(three: Path):
    first, *others = lines(three)
    assert first.startswith("lancemig.sum 2 ")
    assert [line.split(" ")[0] for line in others] == ["0001", "0002", "0003"]


def test_an_edit_changes_the_first_line_and_all_from_its_own_on(three: Path):
    before = lines(three)
    edit(three, "0002.py")
    resum(three)
    same = [old == new for old, new in zip(before, lines(three), strict=True)]
    assert same == [False, True, False, False]


def test_no_revisions_have_a_sum_too(versions: Path):
    resum(versions)
    assert codes(versions) == []


def test_without_a_sum_file_nothing_is_found_but_that(three: Path):
    (three / "lancemig.sum").unlink()
    assert codes(three) == []
    assert [each.code for each in missing_sum(three, chain_of(read_headers(three)))] == ["LM210"]


def test_an_edited_file_is_named_and_no_other(three: Path):
    edit(three, "0002.py")
    [(code, message)] = found(three)
    assert code == "LM211"
    assert "0002.py" in message


def test_a_new_file_and_a_missing_one_are_named(three: Path, write: Write):
    (three / "0003.py").unlink()
    write(name="0004.py", revision='"0004"', parent='"0002"')
    [(code, message)] = found(three)
    assert code == "LM212"
    assert message == f"0004 is missing from {three}/lancemig.sum; 0003 in {three}/lancemig.sum has no file"


def test_another_order_is_found(three: Path):
    for name, parent in (("0002.py", '"0003"'), ("0003.py", '"0001"')):
        path = three / name
        old = path.read_text()
        path.write_text(old.replace('"0001"' if name == "0002.py" else '"0002"', parent))
    assert codes(three) == ["LM211", "LM211", "LM212"]
    assert found(three)[-1][1].endswith("in another order")


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_line_changed_by_hand_is_named(three: Path, number: int):
    text = lines(three)
    text[number] = text[number][:-1] + ("0" if text[number][-1] != "0" else "1")
    put(three, *text)
    [finding] = sum_findings(three, chain_of(read_headers(three)))
    assert finding.code == "LM213"
    assert finding.place == f"{three / 'lancemig.sum'}:{number + 1}"


def test_a_line_taken_out_or_moved_is_found(three: Path):
    text = lines(three)
    put(three, *text[:2], *text[3:])
    assert codes(three) == ["LM213"]
    put(three, text[0], text[2], text[1], text[3])
    assert codes(three) == ["LM213"]
    put(three, *text[:-1])
    assert codes(three) == ["LM213"]


@pytest.mark.parametrize("text", [[""], ["nonsense"], ["\x00\xff"], []])
def test_what_is_no_sum_is_found(three: Path, text: list[str]):
    put(three, *text)
    assert codes(three) == ["LM213"]
    resum(three)
    assert codes(three) == []


def test_a_newer_format_is_refused(three: Path):
    text = lines(three)
    put(three, text[0].replace(" 2 ", " 3 "), *text[1:])
    with pytest.raises(ConfigError, match="format 3"):
        found(three)


def test_gits_conflict_is_named_with_the_way_out(three: Path):
    first, *others = lines(three)
    put(three, "<<<<<<< HEAD", first, "=======", first, ">>>>>>> theirs", *others)
    [finding] = sum_findings(three, None)
    assert (finding.code, finding.line, finding.next_step) == ("LM213", 1, "lancemig rebase")
    assert in_conflict(three)


def test_only_what_was_changed_on_purpose_is_taken_over(three: Path):
    edit(three, "0001.py")
    edit(three, "0002.py")
    assert resum(three, {"0002"}).changed == ("0002",)
    assert codes(three) == ["LM211"]
    assert "0001.py" in found(three)[0][1]


def test_what_is_new_in_it_is_told(three: Path, write: Write):
    edit(three, "0001.py")
    (three / "0003.py").unlink()
    write(name="0004.py", revision='"0004"', parent='"0002"')
    assert resum(three)[1:] == (("0004",), ("0001",), ("0003",))
    assert resum(three)[1:] == ((), (), ())


def test_both_sides_of_a_conflict_count(three: Path):
    first, *others = lines(three)
    edit(three, "0003.py")
    put(
        three,
        first,
        *others[:2],
        "<<<<<<< HEAD",
        others[2],
        "=======",
        f"0003 {'0' * 64} {'0' * 64}",
        ">>>>>>> x",
    )
    resum(three, set())
    assert codes(three) == ["LM211"]


def test_a_folder_that_cannot_be_written_is_named(three: Path):
    (three / "lancemig.sum").unlink()
    (three / "lancemig.sum").mkdir()
    with pytest.raises(ConfigError, match=r"lancemig\.sum cannot be"):
        resum(three)
