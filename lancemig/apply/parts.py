"""An operation as the commits it takes: most are one; some drop an index first, or fill a column after."""

from functools import singledispatch

from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    DropColumn,
    DropIndex,
    Operation,
    RetypeColumn,
    RewriteTable,
    TransformTable,
    UpdateRows,
)
from lancemig.catalog.schema import Index, TableSchema

Schemas = tuple[TableSchema | None, TableSchema | None]
"""The table before and after the operation; None where it is not there."""


@singledispatch
def parts(operation: Operation, schemas: Schemas) -> tuple[Operation, ...]:
    """The commits of `operation` in order, each itself an operation.

    Computed from the plan alone, so that a resumed run has the same parts under the same numbers.
    """
    return (operation,)


@parts.register
def _(operation: AddColumn, schemas: Schemas) -> tuple[Operation, ...]:
    if not operation.computed:
        return (operation,)
    empty = AddColumn(table=operation.table, column=operation.column)
    return (empty, filling(operation))


@parts.register
def _(operation: RetypeColumn, schemas: Schemas) -> tuple[Operation, ...]:
    return _around(operation, operation.column, schemas)


@parts.register
def _(operation: DropColumn, schemas: Schemas) -> tuple[Operation, ...]:
    return _around(operation, operation.column, schemas)


@parts.register(TransformTable)
@parts.register(BuildTable)
@parts.register(RewriteTable)
def _(operation: Operation, schemas: Schemas) -> tuple[Operation, ...]:
    after = schemas[1]
    return (operation, *(_create(operation.table, index) for index in (after.indices if after else ())))


def filling(operation: AddColumn) -> Operation:
    """The value change that fills a column which was added without values."""
    name = operation.column.name
    if operation.sql is not None:
        return UpdateRows(table=operation.table, set={name: operation.sql})
    return BackfillColumns(
        table=operation.table, columns=(name,), reads=operation.reads, using=operation.using
    )


def _around(operation: Operation, path: str, schemas: Schemas) -> tuple[Operation, ...]:
    """The operation between dropping the indices on its column and building those that live on."""
    before, after = schemas
    head = path.partition(".")[0]
    dropped = _under(head, before)
    rebuilt = _under(head, after)
    return (
        *(DropIndex(table=operation.table, name=index.name) for index in dropped),
        operation,
        *(_create(operation.table, index) for index in rebuilt),
    )


def _under(head: str, table: TableSchema | None) -> list[Index]:
    indices = table.indices if table else ()
    return [index for index in indices if index.column.partition(".")[0] == head]


def _create(table: str, index: Index) -> CreateIndex:
    return CreateIndex(table=table, **index.model_dump())
