"""docs/lint.md is true: every code has a section, its bad example gives the code, its good one nothing."""

import re
from pathlib import Path

import pytest
from repository import started
from test_docs import DOCS, blocks, sections

from lancemig.catalog.findings import Code
from lancemig.commands.lint import lint
from lancemig.config import read_settings

LINT_CODES = [code for code in Code if code.of_lint]

PAGE = DOCS / "lint.md"
BLOCKS = blocks(PAGE)
FIRST = next(block for block in BLOCKS if "file" in block.marks)
SECTIONS = {heading.split(" ")[0]: text for heading, text in sections(PAGE, "###").items()}
THERE = '"""Was there before."""\n\nrevision = "0003"\ndown_revision = "{}"\n\noperations = []\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    versions = tmp_path / "versions"
    versions.mkdir()
    (tmp_path / "lancemig.ini").write_text("[lancemig]\nstore = %(here)s/store\n")
    (versions / "0001_first.py").write_text(FIRST.body)
    return tmp_path


def example(code: str, word: str) -> str:
    found = [
        block.body
        for block in BLOCKS
        if word in block.marks and block.body in SECTIONS[code] and block.language == "python"
    ]
    assert len(found) == 1, f"{code} needs one example that is {word}"
    return found[0]


def linted(project: Path, code: str, word: str) -> list[str]:
    """The codes that lint gives for an example, which is the only file that is new."""
    text = example(code, word)
    if "down_revision" not in text:
        text = f'"""An example."""\n\nrevision = "0002"\ndown_revision = "0001"\n{text}'
    if code == "LM017":
        below = "0002" if word == "bad" else "0001"
        (project / "versions" / "0003_was_there.py").write_text(THERE.format(below))
    started(project)
    (project / "versions" / "0002_example.py").write_text(text)
    settings = read_settings(project / "lancemig.ini", environ={})
    return [finding.code for finding in lint(settings, "HEAD", ["LM210"])]


@pytest.mark.parametrize("code", LINT_CODES)
def test_a_code_has_a_section_that_says_what_and_why(code: str):
    assert "**What.**" in SECTIONS[code]
    assert "**Why.**" in SECTIONS[code]


def test_there_is_no_section_of_a_code_that_is_not():
    assert [code for code in SECTIONS if code not in LINT_CODES and re.match("LM", code)] == []


@pytest.mark.parametrize("code", LINT_CODES)
def test_a_bad_example_gives_its_code(code: str, project: Path):
    # What is ignored without a reason is found as well.
    others = {"LM018": ["LM001"]}.get(code, [])
    assert linted(project, code, "bad") == [*others, code]


@pytest.mark.parametrize("code", LINT_CODES)
def test_a_good_example_gives_nothing(code: str, project: Path):
    assert linted(project, code, "good") == []
