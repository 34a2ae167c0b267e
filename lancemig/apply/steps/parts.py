"""An operation as the commits it takes: most are one; some drop an index first, or fill a column after."""

from collections.abc import Sequence
from functools import singledispatch
from typing import ClassVar, Literal

import pyarrow as pa

from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    DropColumn,
    DropIndex,
    Kind,
    Operation,
    RenameColumn,
    RetypeColumn,
    RewriteTable,
    Strategy,
    TransformTable,
    UpdateRows,
)
from lancemig.catalog.schema import Index, TableSchema

Schemas = tuple[TableSchema | None, TableSchema | None]
"""The table before and after the operation; None where it is not there."""


class Part(Operation):
    """A commit on the way of an operation; no migration file declares it."""

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.COLUMN
    why: ClassVar[str] = "part of another operation"

    def describe(self) -> str:
        """`write again`."""
        return self.op.replace("_", " ")


class WriteAgain(Part):
    """Write all fields of a struct again.

    Dropping a struct's last written field in the schema alone would turn whole structs to null
    (tests/surface/test_lance_schema.py).
    """

    op: Literal["write_again"] = "write_again"
    column: str


class TakePlace(Part):
    """Let the column that was computed beside `column` take its place."""

    op: Literal["take_place"] = "take_place"
    column: str


class NameKey(Part):
    """Keep in the table that its key has these columns now."""

    op: Literal["name_key"] = "name_key"
    key: tuple[str, ...]


@singledispatch
def parts(operation: Operation, schemas: Schemas) -> tuple[Operation, ...]:
    """The commits of `operation` in order, each itself an operation.

    Computed from the plan alone, so that a resumed run has the same parts under the same numbers.
    """
    return (operation,)


@parts.register
def _(operation: RenameColumn, schemas: Schemas) -> tuple[Operation, ...]:
    before, after = schemas
    if before is None or after is None or before.key == after.key:
        return (operation,)
    return (operation, NameKey(table=operation.table, key=after.key))


@parts.register
def _(operation: RetypeColumn, schemas: Schemas) -> tuple[Operation, ...]:
    head = operation.column.partition(".")[0]
    before = schemas[0]
    commits: list[Operation] = [operation]
    if before and beside(operation, before.columns):
        commits.append(TakePlace(table=operation.table, column=head))
    return _around(commits, head, schemas)


@parts.register
def _(operation: DropColumn, schemas: Schemas) -> tuple[Operation, ...]:
    head, *rest = operation.column.split(".")
    before = [WriteAgain(table=operation.table, column=head)] if rest else []
    return _around([*before, operation], head, schemas)


@parts.register(TransformTable)
@parts.register(BuildTable)
@parts.register(RewriteTable)
def _(operation: Operation, schemas: Schemas) -> tuple[Operation, ...]:
    after = schemas[1]
    return (operation, *(_create(operation.table, index) for index in (after.indices if after else ())))


def beside(operation: RetypeColumn, columns: pa.Schema) -> bool:
    """Whether the new column is computed beside the old one: Lance replaces none with children at once."""
    head = operation.column.partition(".")[0]
    return bool(pa.types.is_nested(columns.field(head).type) or pa.types.is_nested(operation.to))


def filling(operation: AddColumn) -> Operation:
    """The value change that fills rows which were written without the column."""
    name = operation.column.name
    if operation.sql is not None:
        return UpdateRows(table=operation.table, set={name: operation.sql})
    return BackfillColumns(
        table=operation.table, columns=(name,), reads=operation.reads, using=operation.using
    )


def _around(commits: Sequence[Operation], head: str, schemas: Schemas) -> tuple[Operation, ...]:
    """The commits between dropping the indices on their column and building those that live on."""
    before, after = schemas
    table = commits[0].table
    return (
        *(DropIndex(table=table, name=index.name) for index in _under(head, before)),
        *commits,
        *(_create(table, index) for index in _under(head, after)),
    )


def _under(head: str, table: TableSchema | None) -> list[Index]:
    indices = table.indices if table else ()
    return [index for index in indices if index.column.partition(".")[0] == head]


def _create(table: str, index: Index) -> CreateIndex:
    return CreateIndex(table=table, **index.model_dump())
