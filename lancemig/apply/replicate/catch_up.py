"""Catching up: what came to the live root since it was pinned, brought into the staged one, in rounds."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from lancemig.apply.commit.committer import ContentionError
from lancemig.apply.effects.replay import TablePath
from lancemig.apply.effects.stage import stage
from lancemig.apply.environment import Progress
from lancemig.apply.replicate.replicate import replicate
from lancemig.apply.replicate.types import ReplicationResult, ReplicationTask
from lancemig.apply.rows.context import StagingContext
from lancemig.apply.run import RunContext
from lancemig.catalog.operations import CreateIndex, Operation, RenameColumn, SetMetadata
from lancemig.catalog.schema import Index, TableSchema, has_column
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import side_change_stamp
from lancemig.errors import VerifyFailed
from lancemig.store.lance import Staged, Stamp, Table

_AGAIN = "lancemig recover --undo, then upgrade again, which includes the change"


def schema_side_changes(
    table_path: TablePath, before: TableSchema, now: TableSchema, target: TableSchema
) -> list[Operation]:
    """The operations that bring `target` what became of its source since it was pinned as `before`.

    An index that is gone from the source stays in the target, where the gates look for it. VerifyFailed for
    what cannot be brought: other columns, another key, an index that no operation makes.
    """
    name = table_path.source or ""
    if before.columns != now.columns:
        raise VerifyFailed(f"the columns of {name} were changed during the rebuild", next_step=_AGAIN)
    if before.key != now.key:
        raise VerifyFailed(f"the key of {name} was changed during the rebuild", next_step=_AGAIN)
    return [*_indices(table_path, before, now, target), *_metadata(table_path, before, now)]


def _indices(
    table_path: TablePath, before: TableSchema, now: TableSchema, target: TableSchema
) -> Iterator[Operation]:
    table, there = table_path.target or "", {index.name: index for index in target.indices}
    for index in now.indices:
        wanted = _called(table_path, index)
        if index in before.indices or wanted is None or not has_column(target.columns, wanted.column):
            continue
        if there.get(wanted.name) == wanted:
            continue
        try:
            yield CreateIndex(table=table, **wanted.model_dump())
        except ValueError as error:
            raise VerifyFailed(
                f"the index {index.name} ({index.type}) of {table_path.source} was built during the "
                "rebuild, and no operation can create this type of index",
                next_step=_AGAIN,
            ) from error


def _called(table_path: TablePath, index: Index) -> Index | None:
    """The index with its column called as at the end of the way."""
    column = index.column
    for step in table_path.steps:
        if isinstance(step.operation, RenameColumn) and step.operation.column == column:
            column = step.operation.to
    return index.model_copy(update={"column": column})


def _metadata(table_path: TablePath, before: TableSchema, now: TableSchema) -> Iterator[Operation]:
    own = {
        name
        for step in table_path.steps
        if isinstance(step.operation, SetMetadata) and step.operation.column is None
        for name in step.operation.metadata
    }
    names = sorted({*before.metadata, *now.metadata} - own)
    changed = {n: now.metadata.get(n) for n in names if now.metadata.get(n) != before.metadata.get(n)}
    if changed:
        yield SetMetadata(table=table_path.target or "", metadata=changed)


ROUNDS = 100


def catch_up(context: RunContext) -> tuple[int, int]:
    """Round after round, until one is short: what comes later is for the reconciliation.

    How many rounds it took, and how many rows they brought.

    Outrun when the tail does not get shorter: writers bring rows faster than they are carried over.
    """
    _refuse_new_tables(context)
    store, began, brought = context.store, context.environment.now(), 0
    for number in range(ROUNDS):
        start = context.environment.now()
        rows = _round(context)
        brought += rows
        took = (context.environment.now() - start).total_seconds()
        if rows <= store.catch_up_rows and took <= store.catch_up_seconds:
            break
        if number and context.environment.now() - began > timedelta(seconds=store.retry_seconds):
            raise ContentionError(
                f"{count_text(rows, 'row')} arrived in {took:.0f} s, more than catch_up_rows = "
                f"{store.catch_up_rows:,} allows at the flip: the live tables are written to faster "
                "than the staged root catches up",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in "
                "lancemig.ini",
            )
    _tell_of_derived(context)
    return number + 1, brought


def behind(context: RunContext) -> int:
    """About how many rows have come since the staged root was last caught up, as the manifests tell."""
    tables, rows = context.store.tables, 0
    for name, version in context.run.caught_up.items():
        now, then = tables.find(context.root, name), tables.find(context.root, name, version)
        if now is not None and then is not None and now.version != version:
            rows += abs(now.count() - then.count())
    return rows


def _round(context: RunContext) -> int:
    brought = []
    for table_path in _with_tail(context):
        brought.append(replicate(context.executor, _tail(context, table_path), context.staged_revision))
        _others_did(context, table_path)
    context.record.save(caught_up={**context.run.caught_up, **{b.source: b.upto for b in brought}})
    for one in brought:
        report_round(context, one)
    return sum(one.rows for one in brought)


def _others_did(context: RunContext, table_path: TablePath) -> None:
    """Indices and metadata that others made or took away; asked twice, it does nothing twice."""
    tables, source, target = context.store.tables, table_path.source or "", table_path.target or ""
    live = tables.open(context.root, source)
    if live.version == context.run.caught_up[source]:
        return
    before = tables.open(context.root, source, context.run.bases[source]).schema()
    staged = tables.open(context.staged_prefix, target)
    for number, operation in enumerate(
        schema_side_changes(table_path, before, live.schema(), staged.schema())
    ):
        stamp = Stamp(
            context.run.run, context.staged_revision, side_change_stamp(source, live.version, number)
        )
        context.executor.commit_with_retry(context.staged_prefix, target, stamp, partial(_staged, operation))
        context.messages.append(f"{target}: {operation.describe()}, as another writer did to {source}")


def _staged(operation: Operation, table: Table) -> Staged | None:
    return stage(operation, table, StagingContext())


def _refuse_new_tables(context: RunContext) -> None:
    """A table that somebody created in the live root meanwhile would be left behind by the flip."""
    known = {carried.table for carried in context.plan.carried}
    new = [name for name in context.store.tables.names(context.root) if name not in known]
    if new:
        raise VerifyFailed(
            f"created in {context.root} during the rebuild: {', '.join(new)}",
            next_step="lancemig recover --undo, then upgrade again, which includes the table",
        )


def _tell_of_derived(context: RunContext) -> None:
    """Rows that came to a table that is derived anew are not followed: they come from its source, or not."""
    for table_path in context.table_paths():
        if table_path.source and table_path.target and table_path.derived:
            found = context.store.tables.find(context.root, table_path.source)
            if found is not None and found.version != context.run.bases[table_path.source]:
                text = (
                    "changed while it was derived again from its source; check that the source has those rows"
                )
                context.messages.append(f"{table_path.source}: {text}")


def _with_tail(context: RunContext) -> Iterator[TablePath]:
    return (p for p in context.table_paths() if p.source and p.target and not p.derived)


def _tail(context: RunContext, table_path: TablePath) -> ReplicationTask:
    source = table_path.source or ""
    start = context.staging_start().table(source)
    copied = any(c.table == source and c.copied for c in context.plan.carried)
    tail = ReplicationTask(
        path=table_path,
        origin=context.root,
        target=context.staged_prefix,
        start=start,
        since=context.run.bases[source],
        base=context.run.bases[source] if copied else 0,
        private=True,
    )
    return replace(tail, since=context.run.caught_up[source]) if tail.keyed else tail


def report_round(context: RunContext, brought: ReplicationResult) -> None:
    """Say what was brought, and what was not."""
    if brought.rows:
        context.on_progress(Progress("catch-up", brought.source, text="rows replicated", rows=brought.rows))
        context.messages.append(f"{brought.source}: {count_text(brought.rows, 'new row')} replicated")
    context.messages.extend(brought.conflicts)
