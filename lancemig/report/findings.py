"""What `check` found: as text, as JSON, and as annotations of a pull request."""

from collections.abc import Sequence
from typing import Any

from lancemig.catalog.findings import Finding, Level
from lancemig.commands.findings import Comparison, of
from lancemig.report.words import JSON_FORMAT


def findings_text(comparisons: Sequence[Comparison]) -> str:
    """One finding a paragraph: code, what, next command."""
    lines = [_paragraph(finding) for finding in of(comparisons)]
    return "\n".join([*lines, "in sync"] if all(one.ok for one in comparisons) else lines)


def _paragraph(finding: Finding) -> str:
    mark = "" if finding.level is Level.ERROR else f"{finding.level}: "
    step = f"\n       next: {finding.next_step}" if finding.next_step else ""
    return f"{finding.code}  {mark}{finding.message}{step}"


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


def findings_github(comparisons: Sequence[Comparison]) -> str:
    """A workflow command of GitHub Actions for each finding, which it shows beside the pull request."""
    return "\n".join(_annotation(finding) for finding in of(comparisons))


def _annotation(finding: Finding) -> str:
    word = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "notice"}[finding.level]
    file = f"file={_property(str(finding.path))}," if finding.path else ""
    file += f"line={finding.line}," if finding.line else ""
    said = finding.message + (f"\nnext: {finding.next_step}" if finding.next_step else "")
    return f"::{word} {file}title={finding.code}::{_escaped(said)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
