"""What `check` found, as text and as JSON."""

from collections.abc import Sequence
from typing import Any

from lancemig.catalog.findings import Finding
from lancemig.report.words import JSON_FORMAT


def findings_text(findings: Sequence[Finding]) -> str:
    """One finding a paragraph: code, what, next command."""
    if not findings:
        return "in sync"
    return "\n".join(
        f"{f.code}  {f.message}" + (f"\n       next: {f.next_step}" if f.next_step else "") for f in findings
    )


def findings_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings for programs."""
    return {
        "format": JSON_FORMAT,
        "ok": not findings,
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }
