"""The codes of findings are those that the documentation lists, with the same levels."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from lancemig.catalog.findings import Code, Finding, Level, matches

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| (?P<codes>`LM\d{3}`(?: `LM\d{3}`)*) \| (?P<text>.+) \|$", re.MULTILINE)


def rows() -> dict[str, str]:
    """What docs/command-line.md says of each code."""
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    found = [(code, row["text"]) for row in ROW.finditer(page) for code in re.findall(r"LM\d+", row["codes"])]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_every_code_of_lint_has_a_section_and_every_section_a_code() -> None:
    page = (DOCS / "lint.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (LM\d+)\b", page, re.MULTILINE) == [code for code in Code if code.of_lint]


def test_every_other_code_has_a_row_and_every_row_a_code() -> None:
    assert sorted(rows()) == sorted(code for code in Code if not code.of_lint)


def test_the_codes_that_are_only_worth_knowing_are_marked_in_the_documentation() -> None:
    marked = sorted(code for code, text in rows().items() if text.startswith("info:"))
    assert marked == sorted(code for code in Code if code.level is Level.INFO)


def test_no_other_code_is_written_anywhere_in_the_documentation() -> None:
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")]
    assert {code for page in pages for code in re.findall(r"\bLM\d{3}\b", page)} <= {*Code}


def test_no_module_spells_a_code() -> None:
    """But for comments of `lint`, which are text that a user copies."""
    package = DOCS.parent / "lancemig"
    spelled = {
        path.name
        for path in package.rglob("*.py")
        if re.search(r"""(?<!r)["']LM\d{3}["']""", path.read_text(encoding="utf-8"))
    }
    assert spelled == {"findings.py"}


def test_every_code_is_reported_by_some_module() -> None:
    package = DOCS.parent / "lancemig"
    others = [path for path in package.rglob("*.py") if path.name != "findings.py"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in others)
    assert [code for code in Code if not re.search(rf"\b(Code|codes)\.{code.name}\b", text)] == []


def test_a_finding_has_the_level_of_its_code_unless_another_is_given() -> None:
    assert Finding(code=Code.DROPPED, message="x").level is Level.ERROR
    assert Finding(code=Code.SUM_MISSING, message="x").level is Level.WARNING
    assert Finding(code=Code.ROWS_EDITED, message="x").level is Level.INFO
    reverted = Finding(code=Code.FOREIGN_COMMIT, message="x", level=Level.WARNING)
    assert reverted.model_dump(mode="json", include={"code", "level"}) == {
        "code": "LM312",
        "level": "warning",
    }


def test_a_code_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError):
        Finding(code="LM999", message="x")


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [("LM3", True), ("lm301", True), ("LM*1", True), ("LM4,LM30?", True), ("LM302", False), (" , ", False)],
)
def test_a_pattern_selects_codes(pattern: str, wanted: bool) -> None:
    assert matches(Code.TABLE_ADDED, [pattern]) is wanted
