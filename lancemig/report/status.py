"""Status, progress, outcome of a run, and checks, as text and as JSON."""

from collections.abc import Sequence
from typing import Any

from lancemig.apply.environment import Progress
from lancemig.apply.runner import RunOutcome
from lancemig.catalog.lineage import CheckResult, RootRevision, StepDone
from lancemig.catalog.schema import TableStats
from lancemig.catalog.value import format_revision, format_root
from lancemig.commands.status import Status
from lancemig.report.words import JSON_FORMAT, columns, number, size, step_name
from lancemig.report.words import seconds as seconds_text


def progress_text(progress: Progress, seconds: float, rows_per_second: float | None = None) -> str:
    """One line: phase, step, table, text, amount, rate, time left."""
    parts = [
        progress.phase,
        step_name(progress.step),
        progress.table,
        progress.text,
        amount_text(progress, seconds, rows_per_second),
    ]
    return "  ".join(part for part in parts if part)


def amount_text(progress: Progress, seconds: float, rows_per_second: float | None = None) -> str:
    """`120,000 of 320,000 rows, 14 MB, 7 MB/s, 60,000 rows/s, 4 s left`; rates only after the first second.

    Args:
        progress: How far the step is.
        seconds: How long the step has taken.
        rows_per_second: The current rate; None where it is not known.
    """
    if progress.rows is None:
        return ""
    of = f"{progress.rows:,} of {number(progress.of, 'row')}" if progress.of else number(progress.rows, "row")
    parts = [of]
    if progress.bytes:
        parts.append(size(progress.bytes))
        if seconds >= 1:
            parts.append(f"{size(int(progress.bytes / seconds))}/s")
    if rows_per_second and seconds >= 1:
        rate = f"{rows_per_second:,.0f}" if rows_per_second >= _ROUNDED else f"{rows_per_second:.1f}"
        parts.append(f"{rate} rows/s")
        if progress.of and progress.of > progress.rows:
            parts.append(f"{seconds_text((progress.of - progress.rows) / rows_per_second)} left")
    return ", ".join(parts)


_ROUNDED = 10
"""From this rate on, rows per second have no decimals."""


def root_text(active: RootRevision, head: str | None) -> str:
    """`0006 (head)  ursa/v0.2.0/`."""
    return f"{format_revision(active.revision, head)}  {format_root(active.prefix)}"


def root_json(active: RootRevision, head: str | None) -> dict[str, Any]:
    """The live root and revision as JSON."""
    return {"format": JSON_FORMAT, "revision": active.revision, "prefix": active.prefix, "head": head}


def status_text(status: Status) -> str:
    """The state of the catalog, and the next command."""
    lines = [
        f"catalog  {status.catalog}  {status.store}",
        f"live     {root_text(status.place, status.head)}",
    ]
    if status.pointer is None:
        lines.append("pointer  none: no revision applied yet")
    elif status.pointer.previous is not None:
        lines.append(f"previous {root_text(status.pointer.previous, None)}")
    lines.append(f"head     {status.head or 'no revisions'}")
    if status.pending:
        lines.append(f"pending  {', '.join(status.pending)}")
    lines += _table_lines(status)
    if status.run is not None:
        run = status.run
        lines += [
            "",
            f"run      {run.run} to {format_revision(run.plan.target)}, phase {run.phase}: {run.stage.text}",
        ]
        lines.append(f"         {len(run.done)} steps done; started {run.started} by {run.actor}@{run.host}")
        if run.staged_prefix:
            lines.append(f"         staged root {run.staged_prefix}")
    lines += _lock_and_readers(status)
    lines += [f"{finding.code}    {finding.message}" for finding in status.findings]
    return "\n".join([*lines, "", f"next     {status.next_step}"])


def _lock_and_readers(status: Status) -> list[str]:
    """The owner of the lock, and the number of leases."""
    lines = []
    if status.lock is not None:
        lines.append(f"lock     {status.lock.describe(status.now)}")
        if status.lock.doing is not None:
            lines.append(f"         {progress_text(status.lock.doing, 0)}")
    if status.readers:
        lines.append(f"readers  {number(status.readers, 'lease')}; gc keeps their roots")
    return lines


def _table_lines(status: Status) -> list[str]:
    if not status.live.tables:
        return ["tables   none"]
    cells = [
        [
            t.name,
            f"v{t.version}",
            number(t.rows, "row"),
            size(t.bytes),
            ", ".join(t.table.key) and f"key {', '.join(t.table.key)}",
            _coverage_text(t),
        ]
        for t in status.live.tables.values()
    ]
    borrowing = sum(bool(t.borrows) for t in status.live.tables.values())
    if borrowing:
        borrowed = f"{number(borrowing, 'table')} from other roots; to copy the files: lancemig detach"
        return ["tables", *columns(cells), f"borrows  {borrowed}"]
    return ["tables", *columns(cells)]


def _coverage_text(table: TableStats) -> str:
    """`2 indices cover all rows`; of an index that does not, `text_idx covers 400 of 410 rows (97 %)`."""
    if not table.unindexed:
        return ""
    partial = [
        f"{name} covers {table.rows - rows:,} of {number(table.rows, 'row')} "
        f"({100 * (table.rows - rows) // table.rows} %)"
        for name, rows in sorted(table.unindexed.items())
        if rows
    ]
    count = len(table.unindexed)
    if not partial:
        return "1 index covers all rows" if count == 1 else f"{count} indices cover all rows"
    return "; ".join(partial)


def status_json(status: Status) -> dict[str, Any]:
    """The status as JSON."""
    return {
        "format": JSON_FORMAT,
        "catalog": status.catalog,
        "store": status.store,
        "live": status.place.model_dump(mode="json"),
        "previous": status.pointer.previous.model_dump(mode="json")
        if status.pointer and status.pointer.previous
        else None,
        "head": status.head,
        "pending": list(status.pending),
        "tables": {
            name: {
                "version": t.version,
                "rows": t.rows,
                "bytes": t.bytes,
                "key": list(t.table.key),
                "unindexed": t.unindexed,
            }
            for name, t in status.live.tables.items()
        },
        "run": None
        if status.run is None
        else {
            "run": status.run.run,
            "target": status.run.plan.target,
            "phase": status.run.phase,
            "started": status.run.started,
            "staged_prefix": status.run.staged_prefix,
            "steps_done": len(status.run.done),
        },
        "lock": status.lock.model_dump(mode="json") if status.lock else None,
        "readers": status.readers,
        "findings": [finding.model_dump(mode="json") for finding in status.findings],
        "next": status.next_step,
    }


def outcome_text(outcome: RunOutcome) -> str:
    """The steps of a run, its messages, and the root that is now live or waits for a flip."""
    changed = [
        f"  {step_name(step.step)}  {step.table}: {step_text(step)}" for step in outcome.steps if step.counts
    ]
    lines = [*changed, *(f"  {message}" for message in outcome.messages)]
    if outcome.staged_prefix and not outcome.flipped:
        return "\n".join([*lines, f"staged   {outcome.staged_prefix} (verified); next: lancemig flip"])
    return "\n".join([*lines, f"done     {root_text(outcome.active, None)}"])


def step_text(step: StepDone) -> str:
    """`12 rows changed, 3 unchanged (matching rows: 15 → 3)`."""
    parts = [f"{number(step.changed, 'row')} changed"]
    if step.skipped:
        parts.append(f"{step.skipped:,} unchanged")
    if step.indeterminate:
        parts.append(f"of these {step.indeterminate:,} indeterminate")
    if step.unfilled:
        parts.append(f"{step.unfilled:,} appended too late to be backfilled (null)")
    text = ", ".join(parts)
    if step.matched_before is None and step.matched_after is None:
        return text
    return f"{text} (matching rows: {_count(step.matched_before)} → {_count(step.matched_after)})"


def _count(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def outcome_json(outcome: RunOutcome) -> dict[str, Any]:
    """The outcome of a run as JSON."""
    return {
        "format": JSON_FORMAT,
        "run": outcome.run,
        "live": outcome.active.model_dump(mode="json"),
        "steps": [done.model_dump(mode="json") for done in outcome.steps],
        "messages": list(outcome.messages),
        "staged_prefix": outcome.staged_prefix,
        "flipped": outcome.flipped,
    }


def checks_text(results: Sequence[CheckResult]) -> str:
    """One line a check."""
    of_tables = any(r.table for r in results)
    cells = [
        ["ok" if r.ok else "FAILED", r.check, *([r.table or ""] if of_tables else []), r.detail]
        for r in results
    ]
    return "\n".join(columns(cells, indent=""))


def checks_json(results: Sequence[CheckResult]) -> dict[str, Any]:
    """The checks as JSON."""
    return {
        "format": JSON_FORMAT,
        "ok": all(result.ok for result in results),
        "checks": [result.model_dump(mode="json") for result in results],
    }
