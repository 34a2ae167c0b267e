"""Dropping: rebuild operations, and the inverses of what is added."""

from typing import ClassVar, Literal

import pyarrow as pa

from lancemig.catalog.kind import Kind
from lancemig.catalog.operations.base import Operation, Strategy
from lancemig.catalog.schema import CatalogSchema, TableSchema, column, edited, has_column
from lancemig.errors import PlanError


class Rebuild(Operation):
    """Changes what an old program relies on; built beside the live catalog, then flipped to."""

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.METADATA


class DropColumn(Rebuild):
    """Drop a column (or a struct's field), and with it the indices on it."""

    op: Literal["drop_column"] = "drop_column"
    column: str
    why: ClassVar[str] = "programs that read the column break"

    @property
    def strategy(self) -> Strategy:  # type: ignore[override]
        """A struct is written again without its field; a whole column only leaves the schema."""
        return Strategy.COLUMN if "." in self.column else Strategy.METADATA

    def _after(self, table: TableSchema) -> TableSchema:
        column(self.table, table.columns, self.column)
        if self.column in table.key:
            raise PlanError(f"{self.table}.{self.column} is part of the key; it cannot be dropped")
        left = edited(table.columns, self.column, [])
        parent = self.column.rpartition(".")[0]
        if not left or (parent and not list(column(self.table, pa.schema(left), parent).type)):
            raise PlanError(f"{self.table}.{self.column} is the last column; it cannot be dropped")
        indices = tuple(i for i in table.indices if has_column(pa.schema(left), i.column))
        return table.with_columns(left).model_copy(update={"indices": indices})

    def describe(self) -> str:
        """`drop column c`."""
        return f"drop column {self.column}"


class DropTable(Rebuild):
    """Leave the table behind in the old root."""

    op: Literal["drop_table"] = "drop_table"
    why: ClassVar[str] = "programs that open the table break"

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog without the table."""
        return catalog.without(self.table)

    def describe(self) -> str:
        """`drop table`."""
        return "drop table"
