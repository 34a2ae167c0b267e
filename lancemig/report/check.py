"""What `check` found: as text, as JSON, and as annotations of a pull request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lancemig.catalog.findings import Finding, Level
from lancemig.commands.check_files import Comparison, of
from lancemig.report.words import JSON_FORMAT

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "notice"}


def lint_text(findings: Sequence[Finding]) -> str:
    """One finding a paragraph: place, code, what, what to do."""
    return "\n".join(map(_lint_paragraph, findings)) or "no findings"


def _lint_paragraph(finding: Finding) -> str:
    # The place comes first, so that editors and terminals jump to it.
    place = f"{finding.place}: " if needs_place(finding) else ""
    text = f"{place}{finding.code}  {finding.message}"
    return f"{text}\n       next: {finding.next_step}" if finding.next_step else text


def needs_place(finding: Finding) -> bool:
    """Whether the file is to be named beside the message, for the message does not name it itself."""
    return finding.path is not None and (finding.line is not None or str(finding.path) not in finding.message)


def lint_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "format": JSON_FORMAT,
        "ok": not findings,
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }


def lint_github(findings: Sequence[Finding], top: Path | None = None) -> str:
    """A workflow command a finding, which GitHub shows beside the line; the repository begins at `top`."""
    return "\n".join(annotation(finding, top) for finding in findings)


def annotation(finding: Finding, top: Path | None = None) -> str:
    """`::error file=versions/0007_x.py,line=12,title=LM001::…`."""
    given = {"file": _below(finding.path, top), "line": finding.line, "title": finding.code}
    properties = ",".join(f"{name}={_escaped(str(v), ':,')}" for name, v in given.items() if v is not None)
    text = f"{finding.message}\nnext: {finding.next_step}" if finding.next_step else finding.message
    return f"::{_COMMANDS[finding.level]} {properties}::{_escaped(text)}"


def _below(path: Path | None, top: Path | None) -> Path | None:
    """The path as GitHub counts it: from the top of the repository, wherever the command was run."""
    whole = path.absolute() if path is not None else None
    return whole.relative_to(top) if whole and top and whole.is_relative_to(top) else path


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def findings_text(comparisons: Sequence[Comparison]) -> str:
    """One finding a paragraph: code, what, next command."""
    lines = [_paragraph(finding) for finding in of(comparisons)]
    return "\n".join([*lines, "in sync"] if all(one.ok for one in comparisons) else lines)


def _paragraph(finding: Finding) -> str:
    mark = "" if finding.level is Level.ERROR else f"{finding.level}: "
    step = f"\n       next: {finding.next_step}" if finding.next_step else ""
    place = f"{finding.place}: " if needs_place(finding) else ""
    return f"{finding.code}  {mark}{place}{finding.message}{step}"


def findings_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The findings for programs, and which comparisons were made."""
    return {
        "format": JSON_FORMAT,
        "ok": all(one.ok for one in comparisons),
        "comparisons": [
            {
                "code": one.code,
                "name": one.name,
                "ok": None if one.skipped else one.ok,
                "skipped": one.skipped or None,
            }
            for one in comparisons
        ],
        "findings": [finding.model_dump(mode="json") for finding in of(comparisons)],
    }


def findings_github(comparisons: Sequence[Comparison], top: Path | None = None) -> str:
    """A workflow command of GitHub Actions for each finding, which it shows beside the pull request."""
    return "\n".join(annotation(finding, top) for finding in of(comparisons))
