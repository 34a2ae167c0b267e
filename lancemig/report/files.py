"""Revisions as text and as JSON, from their headers alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lancemig.report.words import JSON_FORMAT
from lancemig.script.header import Header
from lancemig.script.rebase import Moved
from lancemig.script.sum import Changes

if TYPE_CHECKING:
    # It runs files, and so needs Arrow, which verbs on headers do not.
    from lancemig.script.squash import Squashed


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


def moved_text(moved: Sequence[Moved]) -> str:
    """What a rebase did, a file a line."""
    if not moved:
        return "updated lancemig.sum; the revisions form one chain"
    return "\n".join(
        f"{one.old}" + (f" -> {one.new}" if one.new != one.old else "") + f": {', '.join(one.changes)}"
        for one in moved
    )


def moved_json(moved: Sequence[Moved]) -> dict[str, Any]:
    """What a rebase did, for programs."""
    files = [{"old": str(one.old), "new": str(one.new), "changes": list(one.changes)} for one in moved]
    return {"format": JSON_FORMAT, "moved": files}


def sum_text(changes: Changes) -> str:
    """What is new in a sum file, a revision a line."""
    said = [
        f"{changes.path}: {'removed' if word == 'gone' else word} {rev}"
        for word, revisions in _words(changes)
        for rev in revisions
    ]
    return "\n".join(said) or f"{changes.path}: unchanged"


def sum_json(changes: Changes) -> dict[str, Any]:
    """What is new in a sum file, for programs."""
    words = {word: list(revisions) for word, revisions in _words(changes)}
    return {"format": JSON_FORMAT, "path": str(changes.path), **words}


def _words(changes: Changes) -> Sequence[tuple[str, tuple[str, ...]]]:
    return (("added", changes.added), ("changed", changes.changed), ("gone", changes.gone))


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
