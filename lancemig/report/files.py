"""Revisions as text and as JSON, from their headers alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lancemig.report.words import JSON_FORMAT
from lancemig.revisions.header import Header
from lancemig.revisions.rebase import MovedFile
from lancemig.revisions.sumfile import SumChanges

if TYPE_CHECKING:
    from lancemig.autogenerate.diff import ModelChange
    from lancemig.autogenerate.diff import ModelChanges as ModelChanges
    from lancemig.revisions.squash import Squashed


def headers_text(headers: Sequence[Header], head: str | None, *, verbose: bool) -> str:
    """Revisions, newest first, as `history` shows them."""
    lines = []
    for header in reversed(headers):
        mark = " (head)" if header.revision == head else ""
        if not verbose:
            parent = header.down_revision or "base"
            lines.append(f"{parent} -> {header.revision}{mark}, {header.message}")
            continue
        lines += [
            f"Rev: {header.revision}{mark}",
            f"Parent: {header.down_revision or 'base'}",
            f"Kind: {header.kind or '(derived)'}",
            f"Path: {header.path}",
            "",
            f"    {header.message}",
            "",
        ]
    return "\n".join(lines).rstrip() or "no revisions yet; write one: lancemig revision -m MESSAGE"


def headers_json(headers: Sequence[Header], head: str | None) -> dict[str, Any]:
    """Revisions for programs, from base to head."""
    return {
        "format": JSON_FORMAT,
        "head": head,
        "revisions": [{**header.model_dump(mode="json"), "path": str(header.path)} for header in headers],
    }


def heads_text(headers: Sequence[Header]) -> str:
    """The heads, as `heads` shows them."""
    return "\n".join(f"{h.revision} (head), {h.message}" for h in headers) or "no revisions yet"


def rebase_text(moved: Sequence[MovedFile]) -> str:
    """What a rebase did, a file a line."""
    if not moved:
        return "updated lancemig.sum; the revisions form one chain"
    return "\n".join(
        f"{one.old}" + (f" -> {one.new}" if one.new != one.old else "") + f": {', '.join(one.changes)}"
        for one in moved
    )


def rebase_json(moved: Sequence[MovedFile]) -> dict[str, Any]:
    """What a rebase did, for programs."""
    files = [{"old": str(one.old), "new": str(one.new), "changes": list(one.changes)} for one in moved]
    return {"format": JSON_FORMAT, "moved": files}


def sum_text(changes: SumChanges) -> str:
    """What is new in a sum file, a revision a line."""
    said = [
        f"{changes.path}: {'removed' if word == 'gone' else word} {rev}"
        for word, revisions in _words(changes)
        for rev in revisions
    ]
    return "\n".join(said) or f"{changes.path}: unchanged"


def sum_json(changes: SumChanges) -> dict[str, Any]:
    """What is new in a sum file, for programs."""
    words = {word: list(revisions) for word, revisions in _words(changes)}
    return {"format": JSON_FORMAT, "path": str(changes.path), **words}


def _words(changes: SumChanges) -> Sequence[tuple[str, tuple[str, ...]]]:
    return (("added", changes.added), ("changed", changes.changed), ("gone", changes.removed))


def squashed_text(done: "Squashed") -> str:
    """What a squash did."""
    return "\n".join([f"wrote {done.path}", *(f"moved {path}" for path in done.moved)])


def squashed_json(done: "Squashed") -> dict[str, Any]:
    """What a squash did, for programs."""
    return {
        "format": JSON_FORMAT,
        "path": str(done.path),
        "moved": [str(path) for path in done.moved],
        "left_out": list(done.left_out),
    }


_COMPARED = {
    "files": "the revisions match the models",
    "live": "the live catalog matches the models",
}


def revision_text(path: Path | None, against: Literal["files", "live"]) -> str:
    """The path; or, where there is none, what was compared with the models."""
    return f"wrote {path}" if path else f"no difference: {_COMPARED[against]}; no file written"


def revision_json(path: Path | None, changes: "ModelChanges | None" = None) -> dict[str, Any]:
    """What was written, for programs: no `path` where there was no difference."""
    return {
        "format": JSON_FORMAT,
        "path": str(path) if path else None,
        "kind": changes.kind if path and changes else None,
        "changes": [_change(change) for change in changes.changes] if changes else [],
    }


def _change(change: "ModelChange") -> dict[str, Any]:
    place = change.stub
    return {
        "table": change.operation.table,
        "op": change.operation.op,
        "said": change.operation.describe(),
        "remarks": list(change.remarks),
        "to_write": place.__name__ if place else None,
    }
