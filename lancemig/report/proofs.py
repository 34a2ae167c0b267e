"""A proof as text and as JSON."""

from typing import Any

from lancemig.catalog.proof import Report
from lancemig.report.words import JSON_FORMAT


def proof_text(report: Report) -> str:
    """A line for each outcome, as the stored report has it."""
    return report.text()


def proof_json(report: Report) -> dict[str, Any]:
    """The report, whether all gates were passed, and its digest."""
    return {
        "format": JSON_FORMAT,
        "ok": report.ok,
        "failed": report.failed,
        "digest": report.digest,
        "report": report.document(),
    }
