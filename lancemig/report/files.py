"""Revisions, and changes of their files, as text and as JSON; reads headers only."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lancemig.catalog.value import format_revision
from lancemig.report.words import JSON_FORMAT
from lancemig.revisions.header import Header
from lancemig.revisions.rebase import MovedFile
from lancemig.revisions.sumfile import SumChanges

if TYPE_CHECKING:
    from lancemig.autogenerate.diff import ModelChange
    from lancemig.autogenerate.diff import ModelChanges as ModelChanges
    from lancemig.revisions.squash import Squashed


def headers_text(headers: Sequence[Header], head: str | None, *, verbose: bool) -> str:
    """The revisions, newest first, for `history`."""
    lines = []
    for header in reversed(headers):
        shown = format_revision(header.revision, head)
        if not verbose:
            parent = format_revision(header.down_revision)
            lines.append(f"{parent} -> {shown}, {header.message}")
            continue
        lines += [
            f"Rev: {shown}",
            f"Parent: {format_revision(header.down_revision)}",
            f"Kind: {header.kind or '(derived)'}",
            f"Path: {header.path}",
            "",
            f"    {header.message}",
            "",
        ]
    return "\n".join(lines).rstrip() or "no revisions yet; write one: lancemig revision -m MESSAGE"


def headers_json(headers: Sequence[Header], head: str | None) -> dict[str, Any]:
    """The revisions as JSON, from base to head."""
    return {
        "format": JSON_FORMAT,
        "head": head,
        "revisions": [{**header.model_dump(mode="json"), "path": str(header.path)} for header in headers],
    }


def heads_text(headers: Sequence[Header]) -> str:
    """The heads, for `heads`."""
    return (
        "\n".join(f"{format_revision(h.revision, h.revision)}, {h.message}" for h in headers)
        or "no revisions yet"
    )


def rebase_text(moved: Sequence[MovedFile]) -> str:
    """One line a file that a rebase moved or rewrote."""
    if not moved:
        return "updated lancemig.sum; the revisions form one chain"
    return "\n".join(
        f"{file.old}" + (f" -> {file.new}" if file.new != file.old else "") + f": {', '.join(file.changes)}"
        for file in moved
    )


def rebase_json(moved: Sequence[MovedFile]) -> dict[str, Any]:
    """The files that a rebase moved or rewrote, as JSON."""
    files = [{"old": str(file.old), "new": str(file.new), "changes": list(file.changes)} for file in moved]
    return {"format": JSON_FORMAT, "moved": files}


def sum_text(changes: SumChanges) -> str:
    """One line a revision whose entry in the sum file changed."""
    lines = [
        f"{changes.path}: {'removed' if word == 'gone' else word} {rev}"
        for word, revisions in _words(changes)
        for rev in revisions
    ]
    return "\n".join(lines) or f"{changes.path}: unchanged"


def sum_json(changes: SumChanges) -> dict[str, Any]:
    """The changes of a sum file as JSON."""
    words = {word: list(revisions) for word, revisions in _words(changes)}
    return {"format": JSON_FORMAT, "path": str(changes.path), **words}


def _words(changes: SumChanges) -> Sequence[tuple[str, tuple[str, ...]]]:
    return (("added", changes.added), ("changed", changes.changed), ("gone", changes.removed))


def squashed_text(squashed: "Squashed") -> str:
    """The files that a squash wrote and moved."""
    return "\n".join([f"wrote {squashed.path}", *(f"moved {path}" for path in squashed.moved)])


def squashed_json(squashed: "Squashed") -> dict[str, Any]:
    """The files that a squash wrote and moved, as JSON."""
    return {
        "format": JSON_FORMAT,
        "path": str(squashed.path),
        "moved": [str(path) for path in squashed.moved],
        "left_out": list(squashed.left_out),
    }


_MATCHES = {
    "files": "the revisions match the models",
    "live": "the live catalog matches the models",
}


def revision_text(path: Path | None, against: Literal["files", "live"]) -> str:
    """The path of the new file; without one, what was compared with the models."""
    return f"wrote {path}" if path else f"no difference: {_MATCHES[against]}; no file written"


def revision_json(path: Path | None, changes: "ModelChanges | None" = None) -> dict[str, Any]:
    """The new file as JSON; `path` is null if there was no difference."""
    return {
        "format": JSON_FORMAT,
        "path": str(path) if path else None,
        "kind": changes.kind if path and changes else None,
        "changes": [_change(change) for change in changes.changes] if changes else [],
    }


def _change(change: "ModelChange") -> dict[str, Any]:
    stub = change.stub
    return {
        "table": change.operation.table,
        "op": change.operation.op,
        "said": change.operation.describe(),
        "remarks": list(change.remarks),
        "to_write": stub.__name__ if stub else None,
    }
