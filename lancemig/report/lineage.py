"""Lineage, reconciliation and rollback as text and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from lancemig.apply.replicate.types import ReplicationResult
from lancemig.apply.verify.derived import RAISE_LIMIT
from lancemig.catalog.lineage import LineageEntry
from lancemig.catalog.value import Timing, format_revision, format_root
from lancemig.commands.flip import FlipPlan, LateWrites, RollbackResult
from lancemig.report.status import root_text, step_text
from lancemig.report.words import JSON_FORMAT, columns, number, seconds, size, step_name


def lineage_text(entries: Sequence[LineageEntry], *, verbose: bool, timings: bool = False) -> str:
    """The lineage entries, newest first."""
    lines = []
    for entry in entries:
        revisions = ", ".join(m.revision for m in entry.migrations)
        lines.append(
            f"{entry.id}  {entry.finished}  {entry.action:<9} {format_revision(entry.origin.revision)} -> "
            f"{format_revision(entry.target.revision)}  {format_root(entry.target.prefix)}  "
            f"{entry.actor}@{entry.host}" + (f"  {entry.note}" if entry.note else "")
        )
        if verbose:
            lines += _detail_lines(entry, revisions)
        if timings and entry.timings:
            lines += columns([_timing_cells(timing) for timing in entry.timings], indent="    ")
    return "\n".join(lines) or "no changes recorded yet"


def _timing_cells(timing: Timing) -> list[str]:
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


def _detail_lines(entry: LineageEntry, revisions: str) -> list[str]:
    plan, commit = (entry.plan_digest or "-")[:16], (entry.git_commit or "-")[:12]
    lines = [f"    run {entry.run}  plan {plan}  commit {commit}"]
    if entry.begun_by is not None:
        lines.append(
            f"    begun by {entry.begun_by} at {entry.started}, finished by {entry.actor}@{entry.host}: the "
            "run was interrupted"
        )
    if entry.foreign is not None:
        by = f" by {entry.foreign.written_by}" if entry.foreign.written_by else ""
        at = f" at {entry.foreign.written_at}" if entry.foreign.written_at else ""
        lines.append(f"    acknowledges a pointer that another program wrote{at}{by}: {entry.foreign.why}")
    if entry.report:
        lines.append(f"    report {entry.report[:16]}")
    if revisions:
        lines.append(f"    migrations {revisions} ({entry.direction or 'stamped'})")
    changed = [t for t in entry.tables if t.version_before != t.version_after]
    for t in changed:
        before, after = (
            _table_state(t.version_before, t.rows_before),
            _table_state(t.version_after, t.rows_after),
        )
        lines.append(f"    {t.table}: {before} -> {after}")
    same = [t.table for t in entry.tables if t not in changed]
    if same:
        lines.append(f"    unchanged: {', '.join(same)}")
    lines += [
        f"    {step_name(rollback.step)} on {rollback.table}: {step_text(rollback)}"
        for rollback in entry.steps
        if rollback.counts
    ]
    lines += _retention_lines(entry)
    if entry.reads:
        lines.append(f"    borrows from {', '.join(format_root(root) for root in entry.reads)}")
    checks = (f"    {'ok' if c.ok else 'FAILED'}  {c.check} {c.table}  {c.detail}" for c in entry.checks)
    return [*lines, *(check.rstrip() for check in checks)]


def _retention_lines(entry: LineageEntry) -> list[str]:
    """What an entry archived, copied or deleted."""
    lines = []
    if entry.archived is not None:
        lines.append(f"    archived {format_root(entry.archived.root)} until {entry.archived.retain_until}")
    copied = entry.copied or (entry.archived.copied if entry.archived else None)
    if copied is not None:
        lines.append(f"    copied to {copied.to}: {number(copied.objects, 'object')}, {size(copied.bytes)}")
    return lines + [f"    deleted {c.kind} {c.name}: {size(c.bytes)}, {c.why}" for c in entry.collected]


def _table_state(version: int | None, rows: int | None) -> str:
    if version is None:
        return "absent"
    return f"v{version}" if rows is None else f"v{version}, {number(rows, 'row')}"


def lineage_json(entries: Sequence[LineageEntry]) -> dict[str, Any]:
    """The lineage entries as JSON, newest first."""
    return {"format": JSON_FORMAT, "entries": [{"id": e.id, **e.model_dump(mode="json")} for e in entries]}


def reconcile_text(results: Sequence[ReplicationResult]) -> str:
    """The replicated rows of each table, then the conflicts."""
    return "\n".join(_replicated_lines(results)) or "no late writes in previous roots"


def _replicated_lines(results: Sequence[ReplicationResult]) -> Iterator[str]:
    for result in results:
        if result.rows:
            yield f"{result.source}: {number(result.rows, 'row')} replicated"
        if result.kept:
            yield f"{result.source}: {number(result.kept, 'row')} unchanged (live values kept)"
    yield from (text for result in results for text in result.conflicts)


def reconcile_json(results: Sequence[ReplicationResult]) -> dict[str, Any]:
    """The replicated rows and the conflicts, as JSON."""
    return {"format": JSON_FORMAT, "tables": _replicated_json(results)}


def _replicated_json(results: Sequence[ReplicationResult]) -> list[dict[str, Any]]:
    return [
        {"table": b.source, "rows": b.rows, "kept": b.kept, "upto": b.upto, "left": list(b.conflicts)}
        for b in results
    ]


def discarded_text(late: Sequence[LateWrites]) -> str:
    """The late writes that are never replicated."""
    lines = [f"discarded: {_late_writes(result)}" for result in late]
    return "\n".join(lines) or "no late writes in previous roots"


def discarded_json(late: Sequence[LateWrites]) -> dict[str, Any]:
    """The late writes that are never replicated, as JSON."""
    return {"format": JSON_FORMAT, "discarded": [_late_json(result) for result in late]}


def flip_plan_text(plan: FlipPlan, head: str | None) -> str:
    """What a flip would do: the roots, the rows that are replicated before it, and derived tables."""
    lines = [f"to       {root_text(plan.staged, head)}", f"from     {root_text(plan.live, None)}"]
    lines.append(f"run      {plan.run}; the staged root is caught up and verified again before the flip")
    lines += [f"behind   {_late_writes(result)}; replicated before the flip" for result in plan.behind]
    lines += [f"derived  {outcome.table}: {outcome.detail}" for outcome in plan.derived]
    refused = [outcome.table or "" for outcome in plan.derived if not outcome.ok]
    if refused:
        lines.append(f"refused  the flip is refused because of {', '.join(refused)}; next: {RAISE_LIMIT}")
    return "\n".join(lines)


def flip_plan_json(plan: FlipPlan) -> dict[str, Any]:
    """What a flip would do, as JSON."""
    return {
        "format": JSON_FORMAT,
        "run": plan.run,
        "live": plan.live.model_dump(mode="json"),
        "staged": plan.staged.model_dump(mode="json"),
        "behind": [{"table": late.table, "rows": late.rows, "commits": late.commits} for late in plan.behind],
        "derived": [
            {"table": outcome.table, "ok": outcome.ok, "detail": outcome.detail} for outcome in plan.derived
        ],
        "refused": any(not outcome.ok for outcome in plan.derived),
    }


def rollback_text(rollback: RollbackResult, head: str | None) -> str:
    """The root that is, or would be, live, and what happens to rows written since the flip."""
    verbs = ("to", "from") if rollback.carried_back is None else ("live", "previous")
    lines = [
        f"{verbs[0]:<8} {root_text(rollback.live, head)}",
        f"{verbs[1]:<8} {root_text(rollback.previous, None)}",
    ]
    if rollback.restored_from:
        lines.append(f"         restored from {rollback.restored_from}")
    if rollback.failed:
        failed = f"late writes could not be carried back: {rollback.failed}"
        return "\n".join([*lines, f"         rolled back; {failed}"])
    if not rollback.late_writes:
        return "\n".join([*lines, "         no writes since the flip"])
    lines += [f"         since the flip: {_late_writes(result)}" for result in rollback.late_writes]
    if rollback.discarded:
        lines.append("         discarded: these writes stay there and are not carried back")
    return "\n".join(
        [*lines, *(f"         {text}" for text in _replicated_lines(rollback.carried_back or ()))]
    )


def _late_writes(result: LateWrites) -> str:
    text = f"{result.table}: {result.rows:+,} rows, {number(result.commits, 'commit')}"
    if result.why:
        return f"{text}; cannot be carried back: {result.why}"
    if result.inserted is None:
        return text
    kinds = f"{result.inserted:,} inserted, {result.updated:,} updated, {result.deleted:,} deleted"
    return f"{text}; can be carried back: {kinds}"


def _late_json(result: LateWrites) -> dict[str, Any]:
    return {
        "table": result.table,
        "rows": result.rows,
        "commits": result.commits,
        "inserted": result.inserted,
        "updated": result.updated,
        "deleted": result.deleted,
        "why_not": result.why or None,
    }


def rollback_json(rollback: RollbackResult) -> dict[str, Any]:
    """A rollback, or its plan, as JSON."""
    return {
        "format": JSON_FORMAT,
        "done": rollback.carried_back is not None,
        "failed": rollback.failed or None,
        "live": rollback.live.model_dump(mode="json"),
        "left": rollback.previous.model_dump(mode="json"),
        "written_since": [_late_json(result) for result in rollback.late_writes],
        "discarded": rollback.discarded,
        "restored_from": rollback.restored_from,
        "carried_back": _replicated_json(rollback.carried_back or ()),
    }
