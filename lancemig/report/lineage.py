"""The lineage as text and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from lancemig.apply.replicate.types import ReplicationResult
from lancemig.catalog.lineage import LineageEntry
from lancemig.catalog.value import Timing, format_revision, format_root
from lancemig.commands.flip import LateWrites, RollbackResult
from lancemig.report.status import root_text, step_text
from lancemig.report.words import JSON_FORMAT, columns, number, seconds, size, step_name


def lineage_text(entries: Sequence[LineageEntry], *, verbose: bool, timings: bool = False) -> str:
    """The lineage, newest first."""
    lines = []
    for entry in entries:
        revisions = ", ".join(m.revision for m in entry.migrations)
        lines.append(
            f"{entry.id}  {entry.finished}  {entry.action:<9} {format_revision(entry.origin.revision)} -> "
            f"{format_revision(entry.target.revision)}  {format_root(entry.target.prefix)}  "
            f"{entry.actor}@{entry.host}" + (f"  {entry.note}" if entry.note else "")
        )
        if verbose:
            lines += _details(entry, revisions)
        if timings and entry.timings:
            lines += columns([_timing(timing) for timing in entry.timings], indent="    ")
    return "\n".join(lines) or "no changes recorded yet"


def _timing(timing: Timing) -> list[str]:
    did = " ".join(part for part in (timing.way, step_name(timing.step or "")) if part)
    much = [number(timing.rows, "row"), size(timing.bytes) if timing.bytes else ""]
    much.append(number(timing.rounds, "round"))
    return [
        timing.phase,
        timing.table or "",
        did,
        seconds(timing.seconds),
        ", ".join(part for part in much if part),
    ]


def _details(entry: LineageEntry, revisions: str) -> list[str]:
    plan, commit = (entry.plan_digest or "-")[:16], (entry.git_commit or "-")[:12]
    lines = [f"    run {entry.run}  plan {plan}  commit {commit}"]
    if entry.report:
        lines.append(f"    report {entry.report[:16]}")
    if revisions:
        lines.append(f"    migrations {revisions} ({entry.direction or 'stamped'})")
    changed = [t for t in entry.tables if t.version_before != t.version_after]
    for t in changed:
        before, after = _at(t.version_before, t.rows_before), _at(t.version_after, t.rows_after)
        lines.append(f"    {t.table}: {before} -> {after}")
    same = [t.table for t in entry.tables if t not in changed]
    if same:
        lines.append(f"    unchanged: {', '.join(same)}")
    lines += [
        f"    {step_name(done.step)} on {done.table}: {step_text(done)}"
        for done in entry.steps
        if done.counts
    ]
    lines += _kept(entry)
    if entry.reads:
        lines.append(f"    borrows from {', '.join(format_root(root) for root in entry.reads)}")
    checks = (f"    {'ok' if c.ok else 'FAILED'}  {c.check} {c.table}  {c.detail}" for c in entry.checks)
    return [*lines, *(check.rstrip() for check in checks)]


def _kept(entry: LineageEntry) -> list[str]:
    """What was archived, copied or deleted."""
    lines = []
    if entry.archived is not None:
        lines.append(f"    archived {format_root(entry.archived.root)} until {entry.archived.retain_until}")
    copied = entry.copied or (entry.archived.copied if entry.archived else None)
    if copied is not None:
        lines.append(f"    copied to {copied.to}: {number(copied.objects, 'object')}, {size(copied.bytes)}")
    return lines + [f"    deleted {c.kind} {c.name}: {size(c.bytes)}, {c.why}" for c in entry.collected]


def _at(version: int | None, rows: int | None) -> str:
    if version is None:
        return "absent"
    return f"v{version}" if rows is None else f"v{version}, {number(rows, 'row')}"


def lineage_json(entries: Sequence[LineageEntry]) -> dict[str, Any]:
    """The lineage for programs, newest first."""
    return {"format": JSON_FORMAT, "entries": [{"id": e.id, **e.model_dump(mode="json")} for e in entries]}


def reconcile_text(brought: Sequence[ReplicationResult]) -> str:
    """What was brought over, table by table, and what was left."""
    return "\n".join(_brought(brought)) or "no late writes in previous roots"


def _brought(brought: Sequence[ReplicationResult]) -> Iterator[str]:
    for one in brought:
        if one.rows:
            yield f"{one.source}: {number(one.rows, 'row')} replicated"
        if one.kept:
            yield f"{one.source}: {number(one.kept, 'row')} unchanged (live values kept)"
    yield from (text for one in brought for text in one.conflicts)


def reconcile_json(brought: Sequence[ReplicationResult]) -> dict[str, Any]:
    """What was brought over, for programs."""
    return {"format": JSON_FORMAT, "tables": _brought_json(brought)}


def _brought_json(brought: Sequence[ReplicationResult]) -> list[dict[str, Any]]:
    return [
        {"table": b.source, "rows": b.rows, "kept": b.kept, "upto": b.upto, "left": list(b.conflicts)}
        for b in brought
    ]


def rollback_text(done: RollbackResult, head: str | None) -> str:
    """Where the catalog is again, or would be, and what becomes of what was written to the root it leaves."""
    verbs = ("to", "from") if done.brought is None else ("live", "previous")
    lines = [f"{verbs[0]:<8} {root_text(done.place, head)}", f"{verbs[1]:<8} {root_text(done.left, None)}"]
    if done.restored_from:
        lines.append(f"         restored from {done.restored_from}")
    if not done.written:
        return "\n".join([*lines, "         no writes since the flip"])
    lines += [f"         since the flip: {_written(one)}" for one in done.written]
    if done.discarded:
        lines.append("         discarded: these writes stay there and are not carried back")
    return "\n".join([*lines, *(f"         {text}" for text in _brought(done.brought or ()))])


def _written(one: LateWrites) -> str:
    text = f"{one.table}: {one.rows:+,} rows, {number(one.commits, 'commit')}"
    if one.why:
        return f"{text}; cannot be carried back: {one.why}"
    if one.inserted is None:
        return text
    kinds = f"{one.inserted:,} inserted, {one.updated:,} updated, {one.deleted:,} deleted"
    return f"{text}; can be carried back: {kinds}"


def rollback_json(done: RollbackResult) -> dict[str, Any]:
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
