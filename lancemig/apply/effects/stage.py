"""The effect of each operation on a pinned table, as a staged transaction.

Two functions are dispatched on the operation's type: `parts` splits an operation into its commits, each of
them an operation again; `stage` stages one of them. `rewrite` has the operations that write a whole table.
"""

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import ClassVar, Literal

import pyarrow as pa

from lancemig.apply.rows.context import RowCounts, StagingContext, check_limits
from lancemig.apply.rows.duplicates import staged_removal
from lancemig.apply.rows.keys import require_key
from lancemig.apply.rows.new_columns import staged_addition
from lancemig.apply.rows.updates import staged_changes
from lancemig.apply.rows.upserts import staged_upsert
from lancemig.apply.rows.values import child, fitted, lossless, with_child
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    DeduplicateRows,
    DeleteRows,
    DropColumn,
    DropIndex,
    Kind,
    Operation,
    RelaxColumn,
    RenameColumn,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    SetKey,
    SetMetadata,
    Strategy,
    TransformTable,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.operations.effects import ROWS_STAY, ColumnEffects, RowEffect
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column, replace_field
from lancemig.errors import PlanError
from lancemig.store.lance import LanceFragment, Staged, Table, quoted, staging
from lancemig.store.lance.patches import updated_rows

Schemas = tuple[TableSchema | None, TableSchema | None]
"""The table before and after the operation; None where it does not exist."""


class Part(Operation):
    """A commit of a declared operation, which alone answers for schema and columns; files declare none."""

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.COLUMN
    why: ClassVar[str] = "part of another operation"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The same catalog."""
        return catalog

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """None of its own."""
        raise self.irreversible()

    def describe(self) -> str:
        """`rewrite struct`."""
        return self.op.replace("_", " ")

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """None of its own."""
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY


class RewriteStruct(Part):
    """Write all fields of a struct again.

    To drop a struct's last written field in the schema alone would turn whole structs to null
    (tests/surface/test_lance_schema.py).
    """

    op: Literal["rewrite_struct"] = "rewrite_struct"
    column: str


class SwapComputedColumn(Part):
    """Replace `column` by the column that was computed beside it."""

    op: Literal["swap_computed_column"] = "swap_computed_column"
    column: str


class StoreKey(Part):
    """Store the key in the table's metadata."""

    op: Literal["store_key"] = "store_key"
    key: tuple[str, ...]


@singledispatch
def parts(operation: Operation, schemas: Schemas) -> tuple[Operation, ...]:
    """The commits of `operation` in order, each itself an operation.

    The answer follows from the plan alone, so that a resumed run has the same parts under the same numbers.
    An operation that other operations can carry out needs no `stage`: it answers with them.
    """
    return (operation,)


@parts.register
def _(operation: RenameColumn, schemas: Schemas) -> tuple[Operation, ...]:
    before, after = schemas
    key = before is not None and after is not None and before.key != after.key
    commits = [StoreKey(table=operation.table, key=after.key)] if key and after is not None else []
    return (operation, *commits, *_changed_metadata(operation.table, schemas))


@parts.register
def _(operation: RetypeColumn, schemas: Schemas) -> tuple[Operation, ...]:
    head = operation.column.partition(".")[0]
    before = schemas[0]
    commits: list[Operation] = [operation]
    if before and needs_swap(operation, before.columns):
        commits.append(SwapComputedColumn(table=operation.table, column=head))
    return _around(commits, head, schemas)


@parts.register
def _(operation: DropColumn, schemas: Schemas) -> tuple[Operation, ...]:
    head, *rest = operation.column.split(".")
    before = [RewriteStruct(table=operation.table, column=head)] if rest else []
    return (
        *_around([*before, operation], head, schemas),
        *_changed_metadata(operation.table, schemas),
    )


@parts.register(TransformTable)
@parts.register(BuildTable)
@parts.register(RewriteTable)
def _(operation: Operation, schemas: Schemas) -> tuple[Operation, ...]:
    after = schemas[1]
    return (operation, *(_create(operation.table, index) for index in (after.indices if after else ())))


def needs_swap(operation: RetypeColumn, columns: pa.Schema) -> bool:
    """Whether the new column is computed beside the old one: Lance replaces no nested one."""
    head = operation.column.partition(".")[0]
    return bool(pa.types.is_nested(columns.field(head).type) or pa.types.is_nested(operation.to))


def late_row_fill(operation: AddColumn) -> Operation:
    """The value change that fills rows which were written without the column."""
    name = operation.column.name
    if operation.sql is not None:
        return UpdateRows(table=operation.table, set={name: operation.sql})
    return BackfillColumns(
        table=operation.table,
        columns=(name,),
        reads=operation.reads,
        using=operation.using,
        retries=operation.retries,
        pause=operation.pause,
    )


def _changed_metadata(table: str, schemas: Schemas) -> Iterator[SetMetadata]:
    """Metadata that names columns, such as LanceDB's embedding functions, follows a change of columns."""
    old, new = (schema.metadata if schema is not None else {} for schema in schemas)
    changed = {name: new.get(name) for name in {**old, **new} if old.get(name) != new.get(name)}
    if changed:
        yield SetMetadata(table=table, metadata=changed)


def _around(commits: Sequence[Operation], head: str, schemas: Schemas) -> tuple[Operation, ...]:
    """The commits, with the column's indices dropped before them and built again after them."""
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


@singledispatch
def stage(operation: Operation, table: Table, context: StagingContext) -> Staged | None:
    """Stage `operation` on the pinned `table`; None when there is nothing to do."""
    raise TypeError(f"{operation.op} does not change an existing table")


@stage.register(UpdateRows)
@stage.register(BackfillColumns)
def _(operation: UpdateRows | BackfillColumns, table: Table, context: StagingContext) -> Staged | None:
    return staged_changes(operation, table, context)


@stage.register
def _(operation: UpsertRows, table: Table, context: StagingContext) -> Staged | None:
    return staged_upsert(operation, table, context)


@stage.register
def _(operation: DeleteRows, table: Table, context: StagingContext) -> Staged | None:
    staged = staging.deleted_rows(table, operation.where)
    if staged is not None and context.check_limits:
        check_limits(operation, RowCounts(staged.changed))
    return staged


@stage.register
def _(operation: DeduplicateRows, table: Table, context: StagingContext) -> Staged | None:
    return staged_removal(operation, table, context)


@stage.register
def _(operation: SetMetadata, table: Table, context: StagingContext) -> Staged | None:
    return staging.metadata_entries(table, operation.metadata, operation.column)


@stage.register
def _(operation: AddColumn, table: Table, context: StagingContext) -> Staged | None:
    if operation.computed:
        return staged_addition(operation, table, context)
    return staging.null_column(table, operation.column, context.schemas)


@stage.register
def _(operation: CreateIndex, table: Table, context: StagingContext) -> Staged | None:
    return staging.index(table, operation.index)


@stage.register
def _(operation: DropIndex, table: Table, context: StagingContext) -> Staged | None:
    return staging.no_index(table, [operation.name])


@stage.register
def _(operation: RenameColumn, table: Table, context: StagingContext) -> Staged | None:
    return staging.renamed_column(table, operation.column, operation.to)


@stage.register
def _(operation: RequireColumn, table: Table, context: StagingContext) -> Staged | None:
    nulls = table.count(f"`{operation.column}` is null")
    if nulls:
        raise PlanError(
            f"{table.name}.{operation.column} is null in {nulls:,} rows",
            next_step="fill the nulls in an earlier operation: UpdateRows or BackfillColumns",
        )
    return staging.nullability(table, operation.column, nullable=False)


@stage.register
def _(operation: RelaxColumn, table: Table, context: StagingContext) -> Staged | None:
    return staging.nullability(table, operation.column, nullable=True)


@stage.register
def _(operation: RetypeColumn, table: Table, context: StagingContext) -> Staged | None:
    head, *rest = operation.column.split(".")
    where = f"{table.name}.{operation.column}"
    old = column(table.name, table.columns, operation.column)
    field = replace_field([table.columns.field(head)], operation.column, [old.with_type(operation.to)])[0]

    def values(fragment: LanceFragment) -> Iterator[pa.Array]:
        expression = quoted(head) if operation.using is None else operation.using
        for batch in table.batches({"new": expression, "old": quoted(head)}, fragments=[fragment]):
            context.watch(batch.num_rows, batch.nbytes)
            array = batch.column("new")
            if operation.using is not None:
                yield fitted(array, field, where)
            elif rest:
                yield with_child(array, rest, lossless(child(array, rest), operation.to, where))
            else:
                yield lossless(array, operation.to, where)

    if needs_swap(operation, table.columns):
        return staging.computed_beside(table, head, field, values)
    return staging.recomputed_column(table, head, field, values)


@stage.register
def _(operation: SwapComputedColumn, table: Table, context: StagingContext) -> Staged | None:
    return staging.taken_place(table, operation.column)


@stage.register
def _(operation: SetKey, table: Table, context: StagingContext) -> Staged | None:
    if operation.key:
        require_key(table, operation.key)
    return staging.stored_key(table, operation.key)


@stage.register
def _(operation: StoreKey, table: Table, context: StagingContext) -> Staged | None:
    return staging.stored_key(table, operation.key)


@stage.register
def _(operation: RewriteStruct, table: Table, context: StagingContext) -> Staged | None:
    def rows() -> Iterator[tuple[LanceFragment, pa.Table]]:
        for fragment in table.fragments:
            yield fragment, table.read([operation.column], fragments=[fragment], row_ids=True)

    return updated_rows(table, rows())


@stage.register
def _(operation: DropColumn, table: Table, context: StagingContext) -> Staged | None:
    return staging.dropped_column(table, operation.column)
