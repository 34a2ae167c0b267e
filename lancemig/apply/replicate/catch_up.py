"""Catching up: commits to the live root since it was pinned, replicated into the staged root in rounds."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

from lancemig.apply.commit.committer import ContentionError
from lancemig.apply.effects.replay import TablePath
from lancemig.apply.effects.stage import stage
from lancemig.apply.environment import Progress
from lancemig.apply.replicate.carried import carry_references, carry_settings
from lancemig.apply.replicate.replicate import replicate
from lancemig.apply.replicate.types import ReplicationResult, ReplicationTask
from lancemig.apply.rows.context import StagingContext
from lancemig.apply.run import RunContext
from lancemig.catalog.operations import CreateIndex, Operation, RenameColumn, SetMetadata
from lancemig.catalog.schema import Index, TableSchema, has_column
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import side_change_stamp
from lancemig.errors import VerifyFailed
from lancemig.events import log_event
from lancemig.store.lance import Staged, Stamp, Table
from lancemig.store.lance.inventory import UNFLUSHED_NEXT_STEP

_log = logging.getLogger(__name__)

MAX_ROUNDS = 100

_UPGRADE_AGAIN = "lancemig recover --undo, then upgrade again, which includes the change"


def schema_side_changes(
    table_path: TablePath, before: TableSchema, now: TableSchema, target: TableSchema
) -> list[Operation]:
    """The operations that apply other writers' indices and metadata to the staged table.

    `before` is the schema of the source as it was pinned, `now` the present one, `target` that of the staged
    table. An index that is gone from the source stays in the target, where verification looks for it.

    Raises:
        VerifyFailed: columns or the key were changed, or an index that no operation can create was built.
    """
    name = table_path.source or ""
    if before.columns != now.columns:
        raise VerifyFailed(f"the columns of {name} were changed during the rebuild", next_step=_UPGRADE_AGAIN)
    if before.key != now.key:
        raise VerifyFailed(f"the key of {name} was changed during the rebuild", next_step=_UPGRADE_AGAIN)
    return [*_new_indices(table_path, before, now, target), *_changed_metadata(table_path, before, now)]


def _new_indices(
    table_path: TablePath, before: TableSchema, now: TableSchema, target: TableSchema
) -> Iterator[Operation]:
    table, staged = table_path.target or "", {index.name: index for index in target.indices}
    for index in now.indices:
        wanted = _in_target(table_path, index)
        if index in before.indices or not has_column(target.columns, wanted.column):
            continue
        if staged.get(wanted.name) == wanted:
            continue
        try:
            yield CreateIndex(table=table, **wanted.model_dump())
        except ValueError as error:
            raise VerifyFailed(
                f"the index {index.name} ({index.type}) of {table_path.source} was built during the "
                "rebuild, and no operation can create this type of index",
                next_step=_UPGRADE_AGAIN,
            ) from error


def _in_target(table_path: TablePath, index: Index) -> Index:
    """The index with the name that its column has in the target."""
    column = index.column
    for step in table_path.steps:
        if isinstance(step.operation, RenameColumn) and step.operation.column == column:
            column = step.operation.to
    return index.model_copy(update={"column": column})


def _changed_metadata(table_path: TablePath, before: TableSchema, now: TableSchema) -> Iterator[Operation]:
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


def catch_up(context: RunContext) -> tuple[int, int]:
    """Replicate in rounds until one is short; later commits are reconciled after the flip.

    Returns:
        The number of rounds, and the number of rows that they replicated.

    Raises:
        ContentionError: writers add rows faster than they are replicated.
    """
    _refuse_new_tables(context)
    store, began, replicated = context.store, context.environment.now(), 0
    for number in range(MAX_ROUNDS):
        start = context.environment.now()
        rows = _round(context)
        replicated += rows
        seconds = (context.environment.now() - start).total_seconds()
        if rows <= store.catch_up_rows and seconds <= store.catch_up_seconds:
            break
        if number and context.environment.now() - began > timedelta(seconds=store.retry_seconds):
            raise ContentionError(
                f"{count_text(rows, 'row')} arrived in {seconds:.0f} s, more than catch_up_rows = "
                f"{store.catch_up_rows:,} allows at the flip: the live tables are written to faster "
                "than the staged root catches up",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in "
                "lancemig.ini",
            )
    carry_references(context)
    _report_derived_tables(context)
    return number + 1, replicated


def rows_behind(context: RunContext) -> int:
    """An estimate, from the manifests, of the rows that arrived since the staged root last caught up."""
    tables, rows = context.store.tables, 0
    for name, version in context.run.caught_up.items():
        newest, caught_up = tables.find(context.root, name), tables.find(context.root, name, version)
        if newest is not None and caught_up is not None and newest.version != version:
            rows += abs(newest.count() - caught_up.count())
    return rows


def _round(context: RunContext) -> int:
    results = []
    for table_path in _replicated_paths(context):
        results.append(replicate(context.executor, _task(context, table_path), context.staged_revision))
        _apply_side_changes(context, table_path)
    context.record.save(caught_up={**context.run.caught_up, **{r.source: r.upto for r in results}})
    for result in results:
        report_result(context, result)
    return sum(result.rows for result in results)


def _apply_side_changes(context: RunContext, table_path: TablePath) -> None:
    """Apply other writers' indices and metadata to the staged table; repeated, it does nothing twice."""
    tables, source, target = context.store.tables, table_path.source or "", table_path.target or ""
    live = tables.open(context.root, source)
    if live.version == context.run.caught_up[source]:
        return
    before = tables.open(context.root, source, context.run.bases[source]).schema()
    staged = tables.open(context.staged_prefix, target)
    operations = schema_side_changes(table_path, before, live.schema(), staged.schema())
    for number, operation in enumerate(operations):
        stamp = Stamp(
            context.run.run, context.staged_revision, side_change_stamp(source, live.version, number)
        )
        context.executor.commit_with_retry(context.staged_prefix, target, stamp, partial(_staged, operation))
        context.messages.append(f"{target}: {operation.describe()}, as another writer did to {source}")
    carry_settings(context, source, target)


def _staged(operation: Operation, table: Table) -> Staged | None:
    return stage(operation, table, StagingContext())


def _refuse_new_tables(context: RunContext) -> None:
    """Refuse a table that another writer created in the live root: the flip would leave it behind."""
    known = {carried.table for carried in context.plan.carried}
    new = [name for name in context.store.tables.names(context.root) if name not in known]
    if new:
        raise VerifyFailed(
            f"created in {context.root} during the rebuild: {', '.join(new)}",
            next_step="lancemig recover --undo, then upgrade again, which includes the table",
        )
    inventory = context.store.inventory(context.root)
    if inventory.unflushed:
        raise VerifyFailed(inventory.unflushed_text, next_step=UNFLUSHED_NEXT_STEP)


def _report_derived_tables(context: RunContext) -> None:
    """Report writes to a table that is derived again: its rows come from its source alone."""
    for table_path in context.table_paths():
        if table_path.source and table_path.target and table_path.derived:
            live = context.store.tables.find(context.root, table_path.source)
            if live is not None and live.version != context.run.bases[table_path.source]:
                text = (
                    "changed while it was derived again from its source; check that the source has those rows"
                )
                context.messages.append(f"{table_path.source}: {text}")
                about = {"table": table_path.source, "root": context.root, "reason": text}
                log_event(_log, "table_not_replicated", "%s: %s", table_path.source, text, **about)


def _replicated_paths(context: RunContext) -> Iterator[TablePath]:
    return (p for p in context.table_paths() if p.source and p.target and not p.derived)


def _task(context: RunContext, table_path: TablePath) -> ReplicationTask:
    source = table_path.source or ""
    copied = any(c.table == source and c.copied for c in context.plan.carried)
    task = ReplicationTask(
        path=table_path,
        source_root=context.root,
        target_root=context.staged_prefix,
        schema=context.staging_start().table(source),
        after=context.run.bases[source],
        target_base=context.run.bases[source] if copied else 0,
        private=True,
    )
    return replace(task, after=context.run.caught_up[source]) if task.keyed else task


def report_result(context: RunContext, result: ReplicationResult) -> None:
    """Report the replicated rows of one table, and what was not replicated, to the caller of the run."""
    if result.rows:
        context.on_progress(Progress("catch-up", result.source, text="rows replicated", rows=result.rows))
        context.messages.append(f"{result.source}: {count_text(result.rows, 'new row')} replicated")
    context.messages.extend(result.conflicts)
