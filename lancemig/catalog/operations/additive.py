"""Additive operations: a program written for the old schema still works."""

from typing import Any, ClassVar, Literal, get_args

import pyarrow as pa
from pydantic import Field

from lancemig.catalog.kind import Kind
from lancemig.catalog.operations.base import (
    Function,
    Operation,
    Source,
    Strategy,
    checked_key,
    one_of,
)
from lancemig.catalog.operations.drops import DropColumn, DropTable
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column, edited, text_metadata
from lancemig.catalog.sources import counted, known_rows, spell_source
from lancemig.catalog.spelling import ArrowField, ArrowSchema, spell_type
from lancemig.errors import PlanError

IndexType = Literal[
    "BTREE", "BITMAP", "LABEL_LIST", "INVERTED", "NGRAM", "ZONEMAP", "BLOOMFILTER",
    "IVF_FLAT", "IVF_PQ", "IVF_SQ", "IVF_HNSW_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ",
]  # fmt: skip
CREATABLE: tuple[str, ...] = get_args(IndexType)


class Additive(Operation):
    """Adds to a table, or to the catalog, what no old program looks at."""

    kind: ClassVar[Kind] = Kind.ADDITIVE


class CreateTable(Additive):
    """Create a table with `schema`, identified by `key`, filled from the source `rows`."""

    op: Literal["create_table"] = "create_table"
    columns: ArrowSchema = Field(alias="schema")
    key: tuple[str, ...] = ()
    rows: Source | None = None
    strategy: ClassVar[Strategy] = Strategy.SOURCE
    why: ClassVar[str] = "adds a table; existing programs don't read it"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog with the new table."""
        catalog.absent(self.table)
        return catalog.with_table(self.table, new_table(self.table, self.columns, self.key))

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the table."""
        return (DropTable(table=self.table),)

    def describe(self) -> str:
        """`create table, 7 columns, key rec_id, 12 rows`, `… rows from f()`."""
        return "create table" + described_table(self.columns, self.key, self.rows)


class AddColumn(Additive):
    """Add a nullable column: null, or computed by `sql`, or by a function `using` the columns it `reads`.

    A path (`info.serial: string`) adds a field to a struct; that one starts null.
    """

    op: Literal["add_column"] = "add_column"
    column: ArrowField
    sql: str | None = None
    using: Function | None = None
    reads: tuple[str, ...] = ()
    why: ClassVar[str] = "adds a nullable column; existing programs don't read it"

    @property
    def computed(self) -> bool:
        """Whether the column gets values."""
        return self.sql is not None or self.using is not None

    @property
    def strategy(self) -> Strategy:  # type: ignore[override]
        """A null column is an entry in the schema; a computed one is new files."""
        return Strategy.COLUMN if self.computed else Strategy.METADATA

    def check(self) -> None:
        """Refuse a non-null column, two ways to compute it, and a function that reads nothing."""
        one_of(sql=self.sql, using=self.using)
        if not self.column.nullable:
            raise ValueError(
                f"a new column must be nullable, and {self.column.name} is not: add it as nullable, fill "
                "it, then RequireColumn"
            )
        if (self.using is None) != (not self.reads):
            raise ValueError("`using` requires `reads`, and `reads` requires `using`")
        if self.computed and "." in self.column.name:
            raise ValueError("a struct field cannot be added with values: add it, then fill it")

    def _after(self, table: TableSchema) -> TableSchema:
        for path in self.reads:
            column(self.table, table.columns, path)
        parent, _, name = self.column.name.rpartition(".")
        if not parent:
            return table.with_columns(_appended(self.table, list(table.columns), self.column))
        struct = column(self.table, table.columns, parent)
        if not pa.types.is_struct(struct.type):
            raise PlanError(
                f"{self.table}.{parent} is not a struct; the field {name!r} cannot be added to it"
            )
        children = _appended(self.table, list(struct.type), self.column.with_name(name))
        return table.with_columns(edited(table.columns, parent, [struct.with_type(pa.struct(children))]))

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the column."""
        return (DropColumn(table=self.table, column=self.column.name),)

    def describe(self) -> str:
        """`add column c: int64 = <sql>`."""
        text = f"add column {self.column.name}: {spell_type(self.column.type)}"
        if self.sql is not None:
            return f"{text} = {self.sql}"
        if self.using is not None:
            return f"{text} = {self.using.__name__}({', '.join(self.reads)})"
        return text


class CreateIndex(Additive):
    """Index `column`; `type` and `params` are Lance's (`BTREE`; `IVF_PQ`, `num_partitions`, …)."""

    op: Literal["create_index"] = "create_index"
    column: str
    type: IndexType
    name: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    strategy: ClassVar[Strategy] = Strategy.METADATA
    why: ClassVar[str] = "adds an index; query results don't change"

    @property
    def index(self) -> Index:
        """The index this makes; Lance's own default name where none is given."""
        name = self.name or f"{self.column}_idx"
        return Index(name=name, column=self.column, type=self.type, params=self.params)

    def _after(self, table: TableSchema) -> TableSchema:
        field = column(self.table, table.columns, self.column)
        if not indexable(self.type, field.type):
            raise PlanError(
                f"index type {self.type} does not support {self.table}.{self.column}: "
                f"{spell_type(field.type)}"
            )
        if any(index.name == self.index.name for index in table.indices):
            raise PlanError(f"table {self.table!r} already has an index {self.index.name!r}")
        return table.model_copy(update={"indices": (*table.indices, self.index)})

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the index."""
        return (DropIndex(table=self.table, name=self.index.name),)

    def describe(self) -> str:
        """`create index rec_id_idx on rec_id (BTREE)`."""
        params = "".join(f", {name}={value}" for name, value in self.params.items())
        return f"create index {self.index.name} on {self.column} ({self.type}{params})"


class DropIndex(Additive):
    """Drop the index called `name`; queries still get the same answers, more slowly."""

    op: Literal["drop_index"] = "drop_index"
    name: str
    strategy: ClassVar[Strategy] = Strategy.METADATA
    why: ClassVar[str] = "drops an index; query results don't change"

    def _after(self, table: TableSchema) -> TableSchema:
        self._found(table)
        kept = tuple(index for index in table.indices if index.name != self.name)
        return table.model_copy(update={"indices": kept})

    def _found(self, table: TableSchema) -> Index:
        found = next((index for index in table.indices if index.name == self.name), None)
        if found is None:
            there = ", ".join(index.name for index in table.indices) or "none"
            raise PlanError(f"table {self.table!r} has no index {self.name!r}; its indices: {there}")
        return found

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Build the index again."""
        index = self._found(before.table(self.table))
        return (CreateIndex(table=self.table, **index.model_dump()),)

    def describe(self) -> str:
        """`drop index rec_id_idx`."""
        return f"drop index {self.name}"


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


def indexable(kind: str, of: pa.DataType) -> bool:
    """Whether Lance builds an index of this kind on a column of this type."""
    values = getattr(of, "value_type", of)
    if kind.startswith("IVF"):
        # Several vectors a row are a list of them.
        return bool(pa.types.is_fixed_size_list(of) or pa.types.is_fixed_size_list(values))
    if kind == "LABEL_LIST":
        return bool(pa.types.is_list(of) or pa.types.is_large_list(of))
    if kind in ("INVERTED", "NGRAM"):
        return bool(pa.types.is_string(values) or pa.types.is_large_string(values))
    return not pa.types.is_nested(of)


def described_table(columns: pa.Schema, key: tuple[str, ...], rows: Any) -> str:
    """The columns, key and rows of a table to be made, for `describe`."""
    parts = [counted(len(columns), "column")]
    if key:
        parts.append(f"key {', '.join(key)}")
    if rows is not None:
        known = known_rows(rows)
        parts.append(f"rows from {spell_source(rows)}" if known is None else counted(known, "row"))
    return ", " + ", ".join(parts)


def _appended(table: str, fields: list[pa.Field], new: pa.Field) -> list[pa.Field]:
    if any(field.name == new.name for field in fields):
        raise PlanError(f"table {table!r} already has a column {new.name!r}")
    return [*fields, new]
