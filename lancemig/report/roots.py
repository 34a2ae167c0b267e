"""What was brought between roots, and what a rollback left, as text and JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from lancemig.apply.tail.terms import Brought
from lancemig.commands.pointing import RolledBack, Written
from lancemig.report.states import place_text
from lancemig.report.words import JSON_FORMAT, number


def brought_text(brought: Sequence[Brought]) -> str:
    """What was brought over, table by table, and what was left."""
    return "\n".join(_brought(brought)) or "no late writes in previous roots"


def _brought(brought: Sequence[Brought]) -> Iterator[str]:
    for one in brought:
        if one.rows:
            yield f"{one.source}: {number(one.rows, 'row')} replicated"
        if one.kept:
            yield f"{one.source}: {number(one.kept, 'row')} unchanged (live values kept)"
    yield from (text for one in brought for text in one.left)


def brought_json(brought: Sequence[Brought]) -> dict[str, Any]:
    """What was brought over, for programs."""
    return {"format": JSON_FORMAT, "tables": _brought_json(brought)}


def _brought_json(brought: Sequence[Brought]) -> list[dict[str, Any]]:
    return [
        {"table": b.source, "rows": b.rows, "kept": b.kept, "upto": b.upto, "left": list(b.left)}
        for b in brought
    ]


def rollback_text(done: RolledBack, head: str | None) -> str:
    """Where the catalog is again, or would be, and what becomes of what was written to the root it leaves."""
    verbs = ("to", "from") if done.brought is None else ("live", "previous")
    lines = [f"{verbs[0]:<8} {place_text(done.place, head)}", f"{verbs[1]:<8} {place_text(done.left, None)}"]
    if done.restored_from:
        lines.append(f"         restored from {done.restored_from}")
    if not done.written:
        return "\n".join([*lines, "         no writes since the flip"])
    lines += [f"         since the flip: {_written(one)}" for one in done.written]
    if done.discarded:
        lines.append("         discarded: these writes stay there and are not carried back")
    return "\n".join([*lines, *(f"         {text}" for text in _brought(done.brought or ()))])


def _written(one: Written) -> str:
    text = f"{one.table}: {one.rows:+,} rows, {number(one.commits, 'commit')}"
    if one.why:
        return f"{text}; cannot be carried back: {one.why}"
    if one.inserted is None:
        return text
    kinds = f"{one.inserted:,} inserted, {one.updated:,} updated, {one.deleted:,} deleted"
    return f"{text}; can be carried back: {kinds}"


def rollback_json(done: RolledBack) -> dict[str, Any]:
    """A rollback, or its plan, for programs."""
    return {
        "format": JSON_FORMAT,
        "done": done.brought is not None,
        "live": done.place.model_dump(mode="json"),
        "left": done.left.model_dump(mode="json"),
        "written_since": [
            {
                "table": one.table,
                "rows": one.rows,
                "commits": one.commits,
                "inserted": one.inserted,
                "updated": one.updated,
                "deleted": one.deleted,
                "why_not": one.why or None,
            }
            for one in done.written
        ],
        "discarded": done.discarded,
        "restored_from": done.restored_from,
        "carried_back": _brought_json(done.brought or ()),
    }
