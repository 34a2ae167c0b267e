"""What `check` found: as text, as JSON, and as annotations of a pull request."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lancemig.catalog.findings import Finding, Level
from lancemig.commands.findings import Comparison, of
from lancemig.report.lint import annotation, needs_place
from lancemig.report.words import JSON_FORMAT


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
