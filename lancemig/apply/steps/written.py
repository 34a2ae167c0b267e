"""Tables written as a whole: created, derived, transformed, or stored in another layout."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import singledispatch

import pyarrow as pa

from lancemig.apply.rows.sorting import sorted_batches
from lancemig.catalog.operations import BuildTable, CreateTable, Operation, RewriteTable, TransformTable
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import conform, read_source
from lancemig.errors import PlanError
from lancemig.store.tables import Layout, Table

Writing = CreateTable | BuildTable | TransformTable | RewriteTable


Piece = tuple[int, Iterable[pa.RecordBatch]]
"""So many rows of the source, and what became of them."""


@dataclass(frozen=True)
class Content:
    """What a table is to hold, from a row of its source on; a stream that can be asked for once.

    Only where `source` names a pinned table can it begin at another row than the first: a function that
    yields rows, and a sorted order, begin anew.
    """

    pieces: Callable[[int], Iterator[Piece]]
    layout: Layout
    source: str | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of it."""
        return (batch for _, made in self.pieces(0) for batch in made)


@singledispatch
def content(operation: Operation, source: Table | None, after: TableSchema) -> Content:
    """The rows of the table that `operation` writes, read from `source` where it transforms one."""
    raise TypeError(f"{operation.op} does not write a table")


@content.register
def _(operation: CreateTable, source: Table | None, after: TableSchema) -> Content:
    rows = read_source(operation.rows if operation.rows is not None else [], after.columns)
    return Content(_from_source(rows), Layout())


@content.register
def _(operation: BuildTable, source: Table | None, after: TableSchema) -> Content:
    return Content(_from_source(read_source(operation.rows, after.columns)), layout_of(source))


@content.register
def _(operation: TransformTable, source: Table | None, after: TableSchema) -> Content:
    table, columns = _needed(operation, source), after.columns

    def pieces(start: int) -> Iterator[Piece]:
        for batch in table.batches_from(start, operation.reads):
            yield batch.num_rows, transformed(operation, batch, columns)

    return Content(pieces, layout_of(table), _pinned(table))


@content.register
def _(operation: RewriteTable, source: Table | None, after: TableSchema) -> Content:
    table = _needed(operation, source)
    layout = changed_layout(layout_of(table), operation)
    if operation.order_by:
        return Content(_from_source(sorted_batches(table, operation.order_by)), layout)

    def pieces(start: int) -> Iterator[Piece]:
        for batch in table.batches_from(start):
            yield batch.num_rows, [batch]

    return Content(pieces, layout, _pinned(table))


def _from_source(batches: Iterable[pa.RecordBatch]) -> Callable[[int], Iterator[Piece]]:
    return lambda _: ((batch.num_rows, [batch]) for batch in batches)


def _pinned(table: Table) -> str:
    return f"{table.root}{table.name}@{table.version}"


def changed_layout(old: Layout, operation: RewriteTable) -> Layout:
    """The layout that the operation asks for."""
    return Layout(
        data_storage_version=operation.data_storage_version or old.data_storage_version,
        stable_row_ids=old.stable_row_ids if operation.stable_row_ids is None else operation.stable_row_ids,
    )


def layout_of(table: Table | None) -> Layout:
    """The layout that `table` has; Lance's default for none."""
    if table is None:
        return Layout()
    return Layout(str(table.dataset.data_storage_version), table.stable_row_ids)


def transformed(
    operation: TransformTable, batch: pa.RecordBatch, columns: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """What the operation's function makes of one batch; PlanError says what is wrong with it."""
    name = operation.using.__name__
    try:
        given = operation.using(batch)
        given = [given] if isinstance(given, pa.RecordBatch | pa.Table) else list(given)
    except Exception as error:
        raise PlanError(f"{name}() raised {type(error).__name__}: {error}") from error
    for one in given:
        if not isinstance(one, pa.RecordBatch | pa.Table):
            raise PlanError(f"{name}() yielded {type(one).__name__}; expected record batches")
        for part in one.to_batches() if isinstance(one, pa.Table) else [one]:
            yield conform(part, columns)


def _needed(operation: Operation, source: Table | None) -> Table:
    if source is None:
        raise PlanError(f"table {operation.table!r} does not exist")
    return source
