"""A preview of an operation: old and new values of some rows, before anything is written."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.effects.replay import AppliedOperation, TablePath, replay_rows, scratch_table
from lancemig.apply.effects.stage import late_row_fill
from lancemig.apply.rows.context import StagingContext
from lancemig.apply.rows.duplicates import repeated_groups
from lancemig.apply.rows.skipped import keys_at
from lancemig.apply.rows.updates import Delta, deltas
from lancemig.apply.rows.upserts import decide_upsert, existing
from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    DeduplicateRows,
    DeleteRows,
    Operation,
    RenameColumn,
    RetypeColumn,
    TransformTable,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.store.lance import MANY, ROW_ID, Table

ROWS_TRIED = 1000
"""How many rows are read of a table that earlier operations change, or of one that gets a column."""


FUNCTION_ROWS = 128
"""How many rows a function is tried on at a time: it may be slow, or cost money."""


@dataclass(frozen=True)
class SampledRow:
    """One row that an operation changes."""

    key: dict[str, Any]

    old: dict[str, Any] | None
    """The cells that change, with their old values; None for a new row."""

    new: dict[str, Any] | None
    """The same cells with their new values; None for a row that is deleted; `old` for one that stays."""


def sample(
    operation: Operation,
    earlier: Sequence[AppliedOperation],
    start: TableSchema | None,
    live: Table | None,
    count: int,
) -> list[SampledRow]:
    """A preview of the rows that `operation` changes.

    Args:
        operation: the operation.
        earlier: operations of the same plan that change the table before it. If there are any, only the first
            1,000 rows of the table are looked at.
        start: the schema of the live table.
        live: the live table.
        count: the largest number of rows to return.
    """
    if live is None or start is None:
        return []
    if not earlier:
        return list(islice(sampled_rows(operation, live), count))
    rows = live.head(ROWS_TRIED)
    name, last = operation.table, earlier[-1].after
    if last is None:
        return []
    before = replay_rows(TablePath(name, name, tuple(earlier)), start, rows)
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        return list(islice(sampled_rows(operation, scratch_table(folder, last, before)), count))


@singledispatch
def sampled_rows(_operation: Operation, _table: Table) -> Iterator[SampledRow]:
    """The rows that the operation changes on the pinned table.

    Empty where no preview is supported: of whole tables, and of schemas.
    """
    yield from ()


@sampled_rows.register(UpdateRows)
@sampled_rows.register(BackfillColumns)
def _(operation: UpdateRows | BackfillColumns, table: Table) -> Iterator[SampledRow]:
    rows = FUNCTION_ROWS if isinstance(operation, BackfillColumns) else MANY
    for delta in deltas(operation, table, StagingContext(), batch_size=rows):
        yield from _changed(table, delta)


@sampled_rows.register
def _(operation: DeleteRows, table: Table) -> Iterator[SampledRow]:
    for batch in table.batches(where=operation.where):
        yield from (SampledRow(_key(table, row), row, None) for row in batch.to_pylist())


@sampled_rows.register
def _(operation: DeduplicateRows, table: Table) -> Iterator[SampledRow]:
    for row, stays in repeated_groups(operation, table):
        cells = row.to_pylist()[0]
        yield SampledRow({name: cells[name] for name in operation.key}, cells, cells if stays else None)


@sampled_rows.register
def _(operation: AddColumn, table: Table) -> Iterator[SampledRow]:
    if not operation.computed:
        return
    rows = table.head(ROWS_TRIED if operation.using is None else FUNCTION_ROWS)
    schema = table.schema()
    wide = schema.with_columns(pa.schema([*schema.columns, operation.column]))
    values = rows.append_column(operation.column, nulls(rows.num_rows, operation.column.type))
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        yield from sampled_rows(late_row_fill(operation), scratch_table(folder, wide, values))


@sampled_rows.register(RetypeColumn)
@sampled_rows.register(RenameColumn)
@sampled_rows.register(TransformTable)
def _(operation: RetypeColumn | RenameColumn | TransformTable, table: Table) -> Iterator[SampledRow]:
    before = table.schema()
    after = operation.after(CatalogSchema(tables={operation.table: before})).table(operation.table)
    rows = table.head(FUNCTION_ROWS if isinstance(operation, TransformTable) else ROWS_TRIED)
    if not rows.num_rows:
        return
    step = AppliedOperation(operation, before.model_copy(update={"indices": ()}), after)
    path = TablePath(operation.table, operation.table, (step,))
    made = replay_rows(path, step.before or before, rows)
    if isinstance(operation, TransformTable):
        yield from _transformed(before.key if before.key == after.key else (), rows, made)
        return
    old, new = operation.column, operation.column
    if isinstance(operation, RenameColumn):
        new = ".".join([*operation.column.split(".")[:-1], operation.to])
    head, new_head = old.partition(".")[0], new.partition(".")[0]
    for then, now in zip(rows.to_pylist(), made.to_pylist(), strict=True):
        yield SampledRow(_key(table, then), {old: _at(then[head], old)}, {new: _at(now[new_head], new)})


def _at(value: Any, path: str) -> Any:
    """The value of the field at `path` inside the value of its top-level column."""
    for name in path.split(".")[1:]:
        value = None if value is None else value[name]
    return value


def _transformed(key: tuple[str, ...], rows: pa.Table, made: pa.Table) -> Iterator[SampledRow]:
    """The rows before and after a function: paired by key, or by position if there are as many of each."""
    before, after = rows.to_pylist(), made.to_pylist()
    if key:
        by_key = {tuple(row[name] for name in key): row for row in after}
        pairs = [(row, by_key.pop(tuple(row[name] for name in key), None)) for row in before]
        added = list(by_key.values())
    elif len(before) == len(after):
        pairs, added = list(zip(before, after, strict=True)), []
    else:
        pairs, added = [(row, None) for row in before], after
    for then, now in pairs:
        if now is None:
            yield SampledRow({name: then[name] for name in key}, then, None)
            continue
        names = [name for name in now if name not in then or _differ(then[name], now[name])]
        if names:
            old = {name: then.get(name) for name in names}
            yield SampledRow({name: then[name] for name in key}, old, {name: now[name] for name in names})
    for now in added:
        yield SampledRow({name: now[name] for name in key}, None, now)


def _differ(old: Any, new: Any) -> bool:
    """Whether two values are different; NaN equals NaN."""
    return bool(old != new) and not (old != old and new != new)


def has_sample(operation: Operation) -> bool:
    """Whether a preview of the operation can show a row: it changes values or rows, and reads no source."""
    shown = sampled_rows.dispatch(type(operation)) is not sampled_rows.dispatch(object)
    return shown and not (isinstance(operation, AddColumn) and not operation.computed)


def _changed(table: Table, delta: Delta) -> Iterator[SampledRow]:
    changed = delta.changed
    ids = pa.table({ROW_ID: delta.row_ids}).filter(changed)
    keys = iter(keys_at(table, ids, table.schema().key))
    for at in pc.indices_nonzero(changed).to_pylist():
        paths = [path for path, differs in delta.differs.items() if differs[at].as_py()]
        yield SampledRow(
            next(keys),
            {path: delta.old[path][at].as_py() for path in paths},
            {path: delta.new[path][at].as_py() for path in paths},
        )


@sampled_rows.register
def _(operation: UpsertRows, table: Table) -> Iterator[SampledRow]:
    decision = decide_upsert(operation, table)
    replaced = decision.rows.slice(0, decision.places.num_rows)
    old_rows = existing(table, replaced, operation.on).to_pylist()
    by_key = {tuple(row[name] for name in operation.on): row for row in old_rows}
    for row in decision.rows.to_pylist():
        key = {name: row[name] for name in operation.on}
        old = by_key.get(tuple(key.values()))
        if old is None:
            yield SampledRow(key, None, row)
        else:
            cells = [name for name in row if row[name] != old[name]]
            yield SampledRow(key, {name: old[name] for name in cells}, {name: row[name] for name in cells})


def _key(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in table.schema().key}
