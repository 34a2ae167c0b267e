"""Operations that keep tables and indices fast; rows, values and schema stay the same."""

from typing import ClassVar, Literal

from pydantic import Field

from lancemig.catalog.operations.base import Operation, Strategy, TableChange
from lancemig.catalog.operations.effects import NO_ROWS_CONCERNED, ColumnEffects, RowEffect
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.value import Kind
from lancemig.errors import PlanError


class Maintenance(TableChange):
    """Changes how a table is stored. Repeated, it does nothing; the inverse does nothing either."""

    kind: ClassVar[Kind] = Kind.DATA_ONLY

    def _after(self, table: TableSchema) -> TableSchema:
        return table

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Nothing: programs notice no difference, so it stays."""
        return ()

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """None."""
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        """The same rows."""
        return NO_ROWS_CONCERNED


class OptimizeIndices(Maintenance):
    """Add the rows that indices do not cover to them, as `optimize_indices` of Lance does.

    Args:
        table: The name of the table.
        indices: The names of the indices; default: all.
    """

    op: Literal["optimize_indices"] = "optimize_indices"
    indices: tuple[str, ...] = ()
    strategy: ClassVar[Strategy] = Strategy.METADATA
    why: ClassVar[str] = "indices cover all rows afterwards; query results don't change"

    def _after(self, table: TableSchema) -> TableSchema:
        known = [index.name for index in table.indices]
        for name in self.indices:
            if name not in known:
                raise PlanError(
                    f"table {self.table!r} has no index {name!r}; its indices: {', '.join(known) or 'none'}"
                )
        return table

    def describe(self) -> str:
        """`optimize indices`, `optimize indices rec_id_idx`."""
        return " ".join(["optimize indices", ", ".join(self.indices)]).strip()


class Compact(Maintenance):
    """Merge small fragments, and remove deleted rows from the files, as `compact_files` of Lance does.

    Args:
        table: The name of the table.
        target_rows_per_fragment: The number of rows of a fragment that needs no merging; default: 1,048,576.
        materialize_deletions: Whether fragments with many deleted rows are written again.
        materialize_deletions_threshold: The share of deleted rows from which that is done.
        max_bytes_per_file: The largest size of a file in bytes; default: 90 GB.
    """

    op: Literal["compact"] = "compact"
    target_rows_per_fragment: int | None = Field(default=None, gt=0)
    materialize_deletions: bool = True
    materialize_deletions_threshold: float = Field(default=0.1, ge=0, le=1)
    max_bytes_per_file: int | None = Field(default=None, gt=0)
    strategy: ClassVar[Strategy] = Strategy.ROWS
    why: ClassVar[str] = "fewer, larger files; rows and query results stay the same"

    @property
    def options(self) -> dict[str, int | float | bool]:
        """The options of Lance's `compact_files` that are set."""
        given = {
            "target_rows_per_fragment": self.target_rows_per_fragment,
            "materialize_deletions": self.materialize_deletions,
            "materialize_deletions_threshold": self.materialize_deletions_threshold,
            "max_bytes_per_file": self.max_bytes_per_file,
        }
        return {name: value for name, value in given.items() if value is not None}

    def describe(self) -> str:
        """`compact`, `compact to 100,000 rows per fragment`."""
        rows = self.target_rows_per_fragment
        return "compact" if rows is None else f"compact to {rows:,} rows per fragment"
