"""Rebuild operations: an old program breaks, or rows are derived anew."""

from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from lancemig.catalog.operations.additive import described_table, new_table
from lancemig.catalog.operations.base import Function, Operation, Source, Strategy, TableName
from lancemig.catalog.operations.drops import DropTable, Rebuild
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column, edited, has_column
from lancemig.catalog.spelling import ArrowSchema, ArrowType, spell_type
from lancemig.errors import Irreversible, PlanError


class RenameColumn(Rebuild):
    """Rename a column (or a struct's field) to the name `to`; its indices and key follow."""

    op: Literal["rename_column"] = "rename_column"
    column: str
    to: str = Field(pattern=r"^[^.`]+$")
    why: ClassVar[str] = "programs that use the old name break"

    @property
    def new_path(self) -> str:
        """The path after the renaming."""
        parent, dot, _ = self.column.rpartition(".")
        return f"{parent}{dot}{self.to}"

    def _after(self, table: TableSchema) -> TableSchema:
        field = column(self.table, table.columns, self.column)
        if has_column(table.columns, self.new_path):
            raise PlanError(f"table {self.table!r} already has a column {self.new_path!r}")
        columns = edited(table.columns, self.column, [field.with_name(self.to)])
        return TableSchema(
            columns=pa.schema(columns),
            key=tuple(self.to if name == self.column else name for name in table.key),
            indices=tuple(self._follows(index) for index in table.indices),
            metadata=table.metadata,
        )

    def _follows(self, index: Index) -> Index:
        if index.column == self.column or index.column.startswith(self.column + "."):
            renamed = self.new_path + index.column[len(self.column) :]
            return index.model_copy(update={"column": renamed})
        return index

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Rename it back."""
        old = self.column.rpartition(".")[2]
        return (RenameColumn(table=self.table, column=self.new_path, to=old),)

    def describe(self) -> str:
        """`rename column fs to sample_rate_hz`."""
        return f"rename column {self.column} to {self.to}"


class RetypeColumn(Rebuild):
    """Give a column the type `to`, by the SQL expression `using`, or by a cast that must lose nothing.

    The cast is refused when casting back does not give the old value in every row.
    """

    op: Literal["retype_column"] = "retype_column"
    column: str
    to: ArrowType
    using: str | None = None
    strategy: ClassVar[Strategy] = Strategy.COLUMN
    why: ClassVar[str] = "programs that expect the old type break"

    def check(self) -> None:
        """Refuse SQL on a struct's field, which Lance cannot assign."""
        if self.using is not None and "." in self.column:
            raise ValueError("`using` works on whole columns; retype the struct field without it")

    def _after(self, table: TableSchema) -> TableSchema:
        field = column(self.table, table.columns, self.column)
        if self.using is None:
            castable(self.table, self.column, field.type, self.to)
        return table.with_columns(edited(table.columns, self.column, [field.with_type(self.to)]))

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Cast back; what an SQL expression did has no inverse."""
        if self.using is not None:
            raise Irreversible(
                f"{self.table}.{self.column} was computed by {self.using!r}; the inverse cannot be derived",
                next_step="declare `downgrade = [...]` in the migration",
            )
        old = column(self.table, before.table(self.table).columns, self.column).type
        return (RetypeColumn(table=self.table, column=self.column, to=old),)

    def describe(self) -> str:
        """`retype column duration to float64 using duration / 1000.0`."""
        text = f"retype column {self.column} to {spell_type(self.to)}"
        return text if self.using is None else f"{text} using {self.using}"


class RequireColumn(Rebuild):
    """Refuse nulls in a column from now on; impossible while there are any."""

    op: Literal["require_column"] = "require_column"
    column: str
    why: ClassVar[str] = "programs that write nulls break"

    def check(self) -> None:
        """Refuse a struct's field."""
        if "." in self.column:
            raise ValueError("RequireColumn works on whole columns, not on struct fields")

    def _after(self, table: TableSchema) -> TableSchema:
        return _nullable(self.table, table, self.column, now=False)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Allow nulls again."""
        return (RelaxColumn(table=self.table, column=self.column),)

    def describe(self) -> str:
        """`require column c (non-null)`."""
        return f"require column {self.column} (non-null)"


class RelaxColumn(Rebuild):
    """Allow nulls in a column: the inverse of `RequireColumn`."""

    op: Literal["relax_column"] = "relax_column"
    column: str
    why: ClassVar[str] = "programs that expect no nulls break"

    def check(self) -> None:
        """Refuse a struct's field."""
        if "." in self.column:
            raise ValueError("AllowNulls works on whole columns, not on struct fields")

    def _after(self, table: TableSchema) -> TableSchema:
        return _nullable(self.table, table, self.column, now=True)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Require it again."""
        return (RequireColumn(table=self.table, column=self.column),)

    def describe(self) -> str:
        """`allow nulls in column c`."""
        return f"allow nulls in column {self.column}"


class RenameTable(Rebuild):
    """Rename the table to `to`."""

    op: Literal["rename_table"] = "rename_table"
    to: TableName
    why: ClassVar[str] = "programs that open the old name break"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog with the table under its new name."""
        table = catalog.table(self.table)
        catalog.absent(self.to)
        return catalog.without(self.table).with_table(self.to, table)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Rename it back."""
        return (RenameTable(table=self.to, to=self.table),)

    def describe(self) -> str:
        """`rename table to sessions`."""
        return f"rename table to {self.to}"


class TransformTable(Rebuild):
    """Stream the table through a function: a batch of the columns it `reads` (all) → batch or batches."""

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

    def describe(self) -> str:
        """`transform with f(a, b)`."""
        return f"transform with {self.using.__name__}({', '.join(self.reads or ('all columns',))})"


class BuildTable(Rebuild):
    """Derive the rows of a table anew from a source, whether or not it exists already."""

    op: Literal["build_table"] = "build_table"
    rows: Source
    columns: ArrowSchema = Field(alias="schema")
    key: tuple[str, ...] = ()
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
        return super().inverse(before)

    def describe(self) -> str:
        """`build table, 5 columns, key rec_id, rows from f()`."""
        return "build table" + described_table(self.columns, self.key, self.rows)


class RewriteTable(Rebuild):
    """Write the same rows in another storage version, order, or with stable row ids."""

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


def rewritten(name: str, old: TableSchema, columns: pa.Schema, key: tuple[str, ...]) -> TableSchema:
    """The schema of a table whose rows are written anew; indices live on where their column does."""
    new = new_table(name, columns, key)
    kept = tuple(i for i in old.indices if has_column(columns, i.column))
    return new.model_copy(update={"indices": kept, "metadata": {**old.metadata, **new.metadata}})


def castable(table: str, path: str, old: pa.DataType, new: pa.DataType) -> None:
    """Refuse a cast that Arrow does not know, whatever the values."""
    try:
        pa.nulls(0, old).cast(new)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise PlanError(
            f"{table}.{path}: no cast from {spell_type(old)} to {spell_type(new)} exists",
            next_step="give an SQL expression: RetypeColumn(…, using=…)",
        ) from error


def _nullable(name: str, table: TableSchema, path: str, *, now: bool) -> TableSchema:
    field = column(name, table.columns, path)
    if field.nullable == now:
        raise PlanError(f"{name}.{path} is already {'nullable' if now else 'non-null'}")
    return table.with_columns(edited(table.columns, path, [field.with_nullable(now)]))
