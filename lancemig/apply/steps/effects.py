"""What each operation does to a pinned table: a staged transaction, dispatched on the operation's type."""

from collections.abc import Iterator
from functools import singledispatch

import pyarrow as pa

from lancemig.apply.rows.additions import staged_addition
from lancemig.apply.rows.brakes import Tally, checked_brakes
from lancemig.apply.rows.changes import staged_changes
from lancemig.apply.rows.scope import Scope
from lancemig.apply.rows.upserts import staged_upsert
from lancemig.apply.rows.values import child, fitted, lossless, with_child
from lancemig.apply.steps.parts import NameKey, TakePlace, WriteAgain, beside
from lancemig.catalog.keys import checked_keys
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    CreateIndex,
    DeleteRows,
    DropColumn,
    DropIndex,
    Operation,
    RelaxColumn,
    RenameColumn,
    RequireColumn,
    RetypeColumn,
    SetKey,
    SetMetadata,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import column, edited
from lancemig.errors import PlanError
from lancemig.store.tables import LanceFragment, Staged, Table, quoted, staging
from lancemig.store.tables.patches import updated_rows


@singledispatch
def stage(operation: Operation, table: Table, scope: Scope) -> Staged | None:
    """Stage `operation` on the pinned `table`; None when there is nothing to do."""
    raise TypeError(f"{operation.op} does not change an existing table")


@stage.register(UpdateRows)
@stage.register(BackfillColumns)
def _(operation: UpdateRows | BackfillColumns, table: Table, scope: Scope) -> Staged | None:
    return staged_changes(operation, table, scope)


@stage.register
def _(operation: UpsertRows, table: Table, scope: Scope) -> Staged | None:
    return staged_upsert(operation, table, scope)


@stage.register
def _(operation: DeleteRows, table: Table, scope: Scope) -> Staged | None:
    staged = staging.deleted_rows(table, operation.where)
    if staged is not None and scope.braked:
        checked_brakes(operation, Tally(staged.changed))
    return staged


@stage.register
def _(operation: SetMetadata, table: Table, scope: Scope) -> Staged | None:
    return staging.metadata_entries(table, operation.metadata, operation.column)


@stage.register
def _(operation: AddColumn, table: Table, scope: Scope) -> Staged | None:
    if operation.computed:
        return staged_addition(operation, table, scope)
    return staging.null_column(table, operation.column, scope.schemas)


@stage.register
def _(operation: CreateIndex, table: Table, scope: Scope) -> Staged | None:
    return staging.index(table, operation.index)


@stage.register
def _(operation: DropIndex, table: Table, scope: Scope) -> Staged | None:
    return staging.no_index(table, [operation.name])


@stage.register
def _(operation: RenameColumn, table: Table, scope: Scope) -> Staged | None:
    return staging.renamed_column(table, operation.column, operation.to)


@stage.register
def _(operation: RequireColumn, table: Table, scope: Scope) -> Staged | None:
    nulls = table.count(f"`{operation.column}` is null")
    if nulls:
        raise PlanError(
            f"{table.name}.{operation.column} is null in {nulls:,} rows",
            next_step="fill the nulls in an earlier operation: UpdateRows or BackfillColumns",
        )
    return staging.nullability(table, operation.column, nullable=False)


@stage.register
def _(operation: RelaxColumn, table: Table, scope: Scope) -> Staged | None:
    return staging.nullability(table, operation.column, nullable=True)


@stage.register
def _(operation: RetypeColumn, table: Table, scope: Scope) -> Staged | None:
    head, *rest = operation.column.split(".")
    where = f"{table.name}.{operation.column}"
    old = column(table.name, table.columns, operation.column)
    field = edited([table.columns.field(head)], operation.column, [old.with_type(operation.to)])[0]

    def values(fragment: LanceFragment) -> Iterator[pa.Array]:
        expression = quoted(head) if operation.using is None else operation.using
        for batch in table.batches({"new": expression, "old": quoted(head)}, fragments=[fragment]):
            scope.watch(batch.num_rows, batch.nbytes)
            array = batch.column("new")
            if operation.using is not None:
                yield fitted(array, field, where)
            elif rest:
                yield with_child(array, rest, lossless(child(array, rest), operation.to, where))
            else:
                yield lossless(array, operation.to, where)

    if beside(operation, table.columns):
        return staging.computed_beside(table, head, field, values)
    return staging.recomputed_column(table, head, field, values)


@stage.register
def _(operation: TakePlace, table: Table, scope: Scope) -> Staged | None:
    return staging.taken_place(table, operation.column)


@stage.register
def _(operation: SetKey, table: Table, scope: Scope) -> Staged | None:
    if operation.key:
        checked_keys(table.read(operation.key), operation.key, f"table {table.name}")
    return staging.stored_key(table, operation.key)


@stage.register
def _(operation: NameKey, table: Table, scope: Scope) -> Staged | None:
    return staging.stored_key(table, operation.key)


@stage.register
def _(operation: WriteAgain, table: Table, scope: Scope) -> Staged | None:
    def rows() -> Iterator[tuple[LanceFragment, pa.Table]]:
        for fragment in table.fragments:
            yield fragment, table.read([operation.column], fragments=[fragment], row_ids=True)

    return updated_rows(table, rows())


@stage.register
def _(operation: DropColumn, table: Table, scope: Scope) -> Staged | None:
    return staging.dropped_column(table, operation.column)
