"""What `check` and `lint` found, as text, as JSON, and as annotations of a pull request."""

from collections.abc import Sequence
from typing import Any

from lancemig.catalog.findings import Finding, Severity
from lancemig.report.words import JSON_FORMAT

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def findings_text(findings: Sequence[Finding], none: str = "in sync") -> str:
    """One finding a paragraph: place, code, what, next command; `none` where there is nothing."""
    return "\n".join(map(_paragraph, findings)) or none


def _paragraph(finding: Finding) -> str:
    # Where there is a line, its place comes first, so that editors and terminals jump to it.
    place = f"{finding.place}: " if finding.line is not None else ""
    text = f"{place}{finding.code}  {finding.message}"
    return f"{text}\n       next: {finding.next_step}" if finding.next_step else text


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "format": JSON_FORMAT,
        "ok": not findings,
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }


def findings_github(findings: Sequence[Finding]) -> str:
    """A workflow command a finding, which GitHub shows beside the line."""
    return "\n".join(map(_annotation, findings))


def _annotation(finding: Finding) -> str:
    given = {"file": finding.path, "line": finding.line, "title": finding.code}
    properties = ",".join(f"{name}={_escaped(str(v), ':,')}" for name, v in given.items() if v is not None)
    text = f"{finding.message}\nnext: {finding.next_step}" if finding.next_step else finding.message
    return f"::{_COMMANDS[finding.severity]} {properties}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
