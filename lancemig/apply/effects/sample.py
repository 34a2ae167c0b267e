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
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    DeduplicateRows,
    DeleteRows,
    Operation,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import TableSchema
from lancemig.store.lance import ROW_ID, Table

ROWS_TRIED = 1000
"""How many rows are read of a table that earlier operations change, or of one that gets a column."""


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
    for delta in deltas(operation, table, StagingContext()):
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
    rows = table.head(ROWS_TRIED)
    schema = table.schema()
    wide = schema.with_columns(pa.schema([*schema.columns, operation.column]))
    values = rows.append_column(operation.column, pa.nulls(rows.num_rows, operation.column.type))
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        yield from sampled_rows(late_row_fill(operation), scratch_table(folder, wide, values))


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
