"""Operations that create and drop indices."""

from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from lancemig.catalog.arrow_types import format_type
from lancemig.catalog.index_parameters import IndexType, with_lances_names
from lancemig.catalog.operations.base import Additive, Operation, Strategy
from lancemig.catalog.operations.effects import NO_ROWS_CONCERNED, ColumnEffects, RowEffect, heads
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column
from lancemig.errors import PlanError


class CreateIndex(Additive):
    """Create an index on a column.

    Args:
        table: The name of the table.
        column: The path of the column.
        type: Lance's index type, for example `BTREE`, `INVERTED` or `IVF_PQ`. LanceDB's names (`FTS`,
            `IvfPq`) are accepted.
        name: The name of the index; default: `<column>_idx`, as LanceDB names it.
        params: Lance's parameters of the index type, for example `num_partitions`. LanceDB's names
            (`distance_type`) are accepted; other names are refused.
    """

    op: Literal["create_index"] = "create_index"
    column: str
    type: IndexType
    name: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    strategy: ClassVar[Strategy] = Strategy.METADATA
    why: ClassVar[str] = "adds an index; query results don't change"

    @model_validator(mode="before")
    @classmethod
    def _by_lances_names(cls, fields: Any) -> Any:
        return with_lances_names(fields)

    @property
    def index(self) -> Index:
        """The index this makes; Lance's own default name where none is given."""
        name = self.name or f"{self.column}_idx"
        return Index(name=name, column=self.column, type=self.type, params=self.params)

    def _after(self, table: TableSchema) -> TableSchema:
        self.require_indexable(column(self.table, table.columns, self.column).type)
        if any(index.name == self.index.name for index in table.indices):
            raise PlanError(f"table {self.table!r} already has an index {self.index.name!r}")
        return table.model_copy(update={"indices": (*table.indices, self.index)})

    def require_indexable(self, of: pa.DataType) -> None:
        """Refuse a column of a type on which Lance cannot build the index, with PlanError."""
        if not indexable(self.type, of):
            raise PlanError(
                f"index type {self.type} does not support {self.table}.{self.column}: {format_type(of)}"
            )
        if self.params.get("metric") == "hamming" and not _of_bits(of):
            raise PlanError(
                f"{self.table}.{self.column} is {format_type(of)}; "
                "the metric hamming compares vectors of uint8",
                next_step="declare another metric: l2, cosine or dot",
            )

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the index."""
        return (DropIndex(table=self.table, name=self.index.name),)

    def describe(self) -> str:
        """`create index rec_id_idx on rec_id (BTREE)`."""
        params = "".join(f", {name}={value}" for name, value in self.params.items())
        return f"create index {self.index.name} on {self.column} ({self.type}{params})"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Read the indexed column; change none."""
        return ColumnEffects(reads=heads([self.column]))

    @property
    def row_effect(self) -> RowEffect:
        """None."""
        return NO_ROWS_CONCERNED


class DropIndex(Additive):
    """Drop an index. Queries return the same results, but may take longer.

    Args:
        table: The name of the table.
        name: The name of the index.
    """

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

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """None."""
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        """None."""
        return NO_ROWS_CONCERNED


def _of_bits(of: pa.DataType) -> bool:
    values = of.value_type
    return bool(pa.types.is_uint8(getattr(values, "value_type", values)))


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
