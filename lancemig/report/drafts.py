"""What `revision` wrote, as text and as JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lancemig.report.words import JSON_FORMAT

if TYPE_CHECKING:
    # An empty revision needs no Arrow.
    from lancemig.plan.changes import Change, Changes

_COMPARED = {
    "files": "the revisions match the models",
    "live": "the live catalog matches the models",
}


def draft_text(path: Path | None, against: Literal["files", "live"]) -> str:
    """The path; or, where there is none, what was compared with the models."""
    return f"wrote {path}" if path else f"no difference: {_COMPARED[against]}; no file written"


def draft_json(path: Path | None, changes: "Changes | None" = None) -> dict[str, Any]:
    """What was written, for programs: no `path` where there was no difference."""
    return {
        "format": JSON_FORMAT,
        "path": str(path) if path else None,
        "kind": changes.kind if path and changes else None,
        "changes": [_change(change) for change in changes.changes] if changes else [],
    }


def _change(change: "Change") -> dict[str, Any]:
    place = change.place
    return {
        "table": change.operation.table,
        "op": change.operation.op,
        "said": change.operation.describe(),
        "remarks": list(change.remarks),
        "to_write": place.__name__ if place else None,
    }
