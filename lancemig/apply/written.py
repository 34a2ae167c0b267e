"""Tables written as a whole: created, derived, transformed, or stored in another layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch

import pyarrow as pa

from lancemig.catalog.operations import BuildTable, CreateTable, Operation, RewriteTable, TransformTable
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import conform, read_source
from lancemig.errors import PlanError
from lancemig.store.tables import Layout, Table

Writing = CreateTable | BuildTable | TransformTable | RewriteTable


@dataclass(frozen=True)
class Content:
    """What a table is to hold: a stream of batches that can be asked for once."""

    batches: Iterator[pa.RecordBatch]
    layout: Layout


@singledispatch
def content(operation: Operation, source: Table | None, after: TableSchema) -> Content:
    """The rows of the table that `operation` writes, read from `source` where it transforms one."""
    raise TypeError(f"{operation.op} does not write a table")


@content.register
def _(operation: CreateTable, source: Table | None, after: TableSchema) -> Content:
    rows = read_source(operation.rows if operation.rows is not None else [], after.columns)
    return Content(iter(rows), Layout())


@content.register
def _(operation: BuildTable, source: Table | None, after: TableSchema) -> Content:
    return Content(iter(read_source(operation.rows, after.columns)), layout_of(source))


@content.register
def _(operation: TransformTable, source: Table | None, after: TableSchema) -> Content:
    table = _needed(operation, source)
    return Content(_transformed(operation, table, after.columns), layout_of(table))


@content.register
def _(operation: RewriteTable, source: Table | None, after: TableSchema) -> Content:
    table = _needed(operation, source)
    old = layout_of(table)
    layout = Layout(
        data_storage_version=operation.data_storage_version or old.data_storage_version,
        stable_row_ids=old.stable_row_ids if operation.stable_row_ids is None else operation.stable_row_ids,
    )
    return Content(table.batches(order_by=operation.order_by), layout)


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
            raise PlanError(f"{name}() gave {type(one).__name__}; record batches are needed")
        for part in one.to_batches() if isinstance(one, pa.Table) else [one]:
            yield conform(part, columns)


def _transformed(operation: TransformTable, table: Table, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in table.batches(operation.reads):
        yield from transformed(operation, batch, columns)


def _needed(operation: Operation, source: Table | None) -> Table:
    if source is None:
        raise PlanError(f"table {operation.table!r} is not there to be read")
    return source
