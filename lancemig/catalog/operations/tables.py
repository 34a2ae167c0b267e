"""Operations that create, rename, drop and rewrite whole tables."""

from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from lancemig.catalog.arrow_types import ArrowSchema
from lancemig.catalog.column_metadata import without_columns
from lancemig.catalog.operations.base import (
    Function,
    FunctionCall,
    Operation,
    Rebuild,
    Source,
    Strategy,
    TableName,
    checked_key,
)
from lancemig.catalog.operations.effects import ColumnEffects, RowEffect, heads
from lancemig.catalog.schema import (
    CatalogSchema,
    TableSchema,
    column,
    has_column,
    text_metadata,
)
from lancemig.catalog.sources import count_text, describe_source, known_rows
from lancemig.catalog.value import Kind
from lancemig.errors import PlanError


class DropTable(Operation):
    """Drop a table. Its data stays in the old root until that root is deleted.

    Args:
        table: The name of the table.
    """

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.METADATA

    op: Literal["drop_table"] = "drop_table"
    why: ClassVar[str] = "programs that open the table break"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog without the table."""
        return catalog.without_table(self.table)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """None: the rows are in the old root only."""
        raise self.irreversible()

    def describe(self) -> str:
        """`drop table`."""
        return "drop table"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """None: the columns go with the table."""
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        """No table, no rows."""
        return RowEffect(table_dropped=True, replayed=False)


class CreateTable(Operation):
    """Create a table.

    Args:
        table: The name of the table.
        schema: A pyarrow schema, a LanceModel or a list of fields.
        key: The columns that identify a row.
        rows: The rows of the table; default: none. For the kinds of sources, see `UpsertRows`.
    """

    kind: ClassVar[Kind] = Kind.ADDITIVE

    op: Literal["create_table"] = "create_table"
    columns: ArrowSchema = Field(alias="schema")
    key: tuple[str, ...] = ()
    rows: Source | None = None
    strategy: ClassVar[Strategy] = Strategy.SOURCE
    why: ClassVar[str] = "adds a table; existing programs don't read it"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog with the new table."""
        catalog.require_absent(self.table)
        return catalog.with_table(self.table, new_table(self.table, self.columns, self.key))

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the table."""
        return (DropTable(table=self.table),)

    def describe(self) -> str:
        """`create table, 7 columns, key rec_id, 12 rows`, `… rows from f()`."""
        return "create table" + described_table(self.columns, self.key, self.rows)

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """All columns are new."""
        return ColumnEffects(reason=self.describe(), replaced=self.columns)

    @property
    def row_effect(self) -> RowEffect:
        """All rows come from the source."""
        return RowEffect(from_source=True, writes_table=True, replayed=False)


def new_table(name: str, columns: pa.Schema, key: tuple[str, ...]) -> TableSchema:
    """The schema of a table that is made anew."""
    if not columns.names:
        raise PlanError(f"table {name!r} must have at least one column")
    odd = [n for n in columns.names if not n or "." in n or columns.names.count(n) > 1]
    if odd:
        raise PlanError(f"table {name!r}: the column name {odd[0]!r} is empty, repeated or contains a period")
    return TableSchema(
        columns=columns.remove_metadata(),
        key=checked_key(name, columns, key),
        metadata=text_metadata(columns.metadata),
    )


def described_table(columns: pa.Schema, key: tuple[str, ...], rows: Any) -> str:
    """The columns, key and rows of a table to be made, for `describe`."""
    parts = [count_text(len(columns), "column")]
    if key:
        parts.append(f"key {', '.join(key)}")
    if rows is not None:
        known = known_rows(rows)
        parts.append(f"rows from {describe_source(rows)}" if known is None else count_text(known, "row"))
    return ", " + ", ".join(parts)


class RenameTable(Operation):
    """Rename a table.

    Args:
        table: The name of the table.
        to: The new name.
    """

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.METADATA

    op: Literal["rename_table"] = "rename_table"
    to: TableName
    why: ClassVar[str] = "programs that open the old name break"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog with the table under its new name."""
        table = catalog.table(self.table)
        catalog.require_absent(self.to)
        return catalog.without_table(self.table).with_table(self.to, table)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Rename it back."""
        return (RenameTable(table=self.to, to=self.table),)

    def describe(self) -> str:
        """`rename table to sessions`."""
        return f"rename table to {self.to}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """None."""
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        """The rows stay, under the new name."""
        return RowEffect(table_renamed_to=self.to, replayed=False)


class TransformTable(Rebuild, FunctionCall):
    """Write all rows of a table again through a function.

    Args:
        table: The name of the table.
        using: A module-level function. It gets a `pa.RecordBatch` and returns one record batch or several,
            with any number of rows.
        schema: The schema of the result.
        reads: The paths of the columns that the function gets; default: all.
        retries: See `FunctionCall`, as for `pause`.
    """

    op: Literal["transform_table"] = "transform_table"
    using: Function
    columns: ArrowSchema = Field(alias="schema")
    reads: tuple[str, ...] | None = None
    strategy: ClassVar[Strategy] = Strategy.TABLE
    why: ClassVar[str] = "a function rewrites every row"

    def _after(self, table: TableSchema) -> TableSchema:
        for path in self.reads or ():
            column(self.table, table.columns, path)
        return rewritten(self.table, table, self.columns, table.key)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """None: a function has no derived inverse."""
        raise self.irreversible()

    def describe(self) -> str:
        """`transform with f(a, b)`."""
        return f"transform with {self.using.__name__}({', '.join(self.reads or ('all columns',))})"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The function gives every column."""
        reads = None if self.reads is None else heads(self.reads)
        return ColumnEffects(reason=self.describe(), reads=reads, replaced=self.columns)

    @property
    def row_effect(self) -> RowEffect:
        """The function may return fewer or more rows than it is given; later rows go through it as well."""
        return RowEffect(removes=True, writes_table=True)


class BuildTable(Operation):
    """Derive all rows of a table from a source. The table may exist or be new.

    Args:
        table: The name of the table.
        rows: The rows of the table. For the kinds of sources, see `UpsertRows`.
        schema: A pyarrow schema, a LanceModel or a list of fields.
        key: The columns that identify a row.
        max_gone: The number of rows of the live table whose key the source may lack; None for no limit.
        max_changed: The number of other rows of the live table that may get another value; None for no limit.
    """

    kind: ClassVar[Kind] = Kind.REBUILD

    op: Literal["build_table"] = "build_table"
    rows: Source
    columns: ArrowSchema = Field(alias="schema")
    key: tuple[str, ...] = ()
    max_gone: int | None = Field(default=0, ge=0)
    max_changed: int | None = Field(default=None, ge=0)
    strategy: ClassVar[Strategy] = Strategy.SOURCE
    why: ClassVar[str] = "every row is derived again from its source"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog with the new table in the place of the old one."""
        old = catalog.tables.get(self.table, TableSchema(columns=pa.schema([])))
        return catalog.with_table(self.table, rewritten(self.table, old, self.columns, self.key))

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the table if it was new; the rows it replaced are in the old root only."""
        if self.table not in before.tables:
            return (DropTable(table=self.table),)
        raise self.irreversible()

    def describe(self) -> str:
        """`build table, 5 columns, key rec_id, rows from f()`."""
        return "build table" + described_table(self.columns, self.key, self.rows)

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The source gives every column."""
        return ColumnEffects(reason=self.describe(), replaced=self.columns)

    @property
    def row_effect(self) -> RowEffect:
        """All rows come from the source."""
        return RowEffect(
            from_source=True,
            writes_table=True,
            replayed=False,
            max_gone=self.max_gone,
            max_changed=self.max_changed,
        )


class RewriteTable(Rebuild):
    """Write the same rows in another storage version or order, or with stable row ids.

    Args:
        table: The name of the table.
        data_storage_version: Lance's storage version.
        stable_row_ids: Whether rows keep their ids when a compaction moves them.
        order_by: The columns by which the rows are sorted.
    """

    op: Literal["rewrite_table"] = "rewrite_table"
    data_storage_version: Literal["2.0", "2.1", "2.2", "stable"] | None = None
    stable_row_ids: bool | None = None
    order_by: tuple[str, ...] = ()
    strategy: ClassVar[Strategy] = Strategy.TABLE
    why: ClassVar[str] = "every row is rewritten in another layout"

    def check(self) -> None:
        """Refuse a rewriting that changes nothing."""
        if not self.order_by and self.data_storage_version is None and self.stable_row_ids is None:
            raise ValueError("set at least one of data_storage_version, stable_row_ids, order_by")
        if any("." in path for path in self.order_by):
            raise ValueError("order_by accepts only whole columns")

    def _after(self, table: TableSchema) -> TableSchema:
        for path in self.order_by:
            column(self.table, table.columns, path)
        return table

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Nothing: programs do not notice the layout, so it stays."""
        return ()

    def describe(self) -> str:
        """`rewrite ordered by a, storage version 2.2, stable row ids`."""
        parts = []
        if self.order_by:
            parts.append(f"ordered by {', '.join(self.order_by)}")
        if self.data_storage_version:
            parts.append(f"storage version {self.data_storage_version}")
        if self.stable_row_ids is not None:
            parts.append("stable row ids" if self.stable_row_ids else "without stable row ids")
        return "rewrite " + ", ".join(parts)

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Read all columns; change none."""
        return ColumnEffects(reads=None)

    @property
    def row_effect(self) -> RowEffect:
        """The same rows, in another layout."""
        return RowEffect(writes_table=True, replayed=False)


def rewritten(name: str, old: TableSchema, columns: pa.Schema, key: tuple[str, ...]) -> TableSchema:
    """The schema of a table whose rows are written anew; indices live on where their column does."""
    new = new_table(name, columns, key)
    kept = tuple(i for i in old.indices if has_column(columns, i.column))
    metadata = without_columns(old.metadata, set(old.columns.names) - set(columns.names))
    return new.model_copy(update={"indices": kept, "metadata": {**metadata, **new.metadata}})
