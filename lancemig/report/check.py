"""Findings of `check` and `lint`: as text, as JSON, and as annotations of a pull request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lancemig.catalog.findings import Finding, Level
from lancemig.commands.check_files import Comparison, all_findings
from lancemig.report.words import JSON_FORMAT

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "notice"}


def lint_text(findings: Sequence[Finding]) -> str:
    """One paragraph a finding: location, code, message, next step."""
    return "\n".join(map(_lint_paragraph, findings)) or "no findings"


def _lint_paragraph(finding: Finding) -> str:
    # The place comes first, so that editors and terminals jump to it.
    location = f"{finding.place}: " if needs_location(finding) else ""
    text = f"{location}{finding.code}  {finding.message}"
    return f"{text}\n       next: {finding.next_step}" if finding.next_step else text


def needs_location(finding: Finding) -> bool:
    """Whether the message does not name the file itself."""
    return finding.path is not None and (finding.line is not None or str(finding.path) not in finding.message)


def lint_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as JSON."""
    return {
        "format": JSON_FORMAT,
        "ok": not findings,
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }


def lint_github(findings: Sequence[Finding], top: Path | None = None) -> str:
    """One workflow command of GitHub Actions a finding; `top` is the top of the repository."""
    return "\n".join(annotation(finding, top) for finding in findings)


def annotation(finding: Finding, top: Path | None = None) -> str:
    """`::error file=versions/0007_x.py,line=12,title=LM001::…`."""
    fields = {"file": _relative(finding.path, top), "line": finding.line, "title": finding.code}
    properties = ",".join(f"{name}={_escaped(str(v), ':,')}" for name, v in fields.items() if v is not None)
    text = f"{finding.message}\nnext: {finding.next_step}" if finding.next_step else finding.message
    return f"::{_COMMANDS[finding.level]} {properties}::{_escaped(text)}"


def _relative(path: Path | None, top: Path | None) -> Path | None:
    """The path relative to the top of the repository, wherever the command was run."""
    whole = path.absolute() if path is not None else None
    return whole.relative_to(top) if whole and top and whole.is_relative_to(top) else path


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def findings_text(comparisons: Sequence[Comparison]) -> str:
    """One paragraph a finding: code, message, next step."""
    lines = [_check_paragraph(finding) for finding in all_findings(comparisons)]
    return "\n".join([*lines, "in sync"] if all(comparison.ok for comparison in comparisons) else lines)


def _check_paragraph(finding: Finding) -> str:
    mark = "" if finding.level is Level.ERROR else f"{finding.level}: "
    step = f"\n       next: {finding.next_step}" if finding.next_step else ""
    location = f"{finding.place}: " if needs_location(finding) else ""
    return f"{finding.code}  {mark}{location}{finding.message}{step}"


def findings_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The findings, and the comparisons with their outcome, as JSON."""
    return {
        "format": JSON_FORMAT,
        "ok": all(comparison.ok for comparison in comparisons),
        "comparisons": [
            {
                "code": comparison.code,
                "name": comparison.name,
                "ok": None if comparison.skipped else comparison.ok,
                "skipped": comparison.skipped or None,
            }
            for comparison in comparisons
        ],
        "findings": [finding.model_dump(mode="json") for finding in all_findings(comparisons)],
    }


def findings_github(comparisons: Sequence[Comparison], top: Path | None = None) -> str:
    """One workflow command of GitHub Actions a finding."""
    return "\n".join(annotation(finding, top) for finding in all_findings(comparisons))
