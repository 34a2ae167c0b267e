"""The input of a verification, and one table in both roots with the lineage of its columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from lancemig.apply.effects.replay import ColumnLineage, TablePath, column_lineage
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.store import SAMPLE
from lancemig.catalog.checks import Tolerance
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.store.lance import Table, Tables
from lancemig.store.lance.table import is_blob

SCAN_THREADS = 2


@dataclass(frozen=True)
class VerificationInput:
    """Two roots, and the operations that make one of the other."""

    tables: Tables

    origin: str
    """The prefix of the live root."""

    staged: str
    """The prefix of the staged root."""

    start: CatalogSchema
    """The schema of the live tables at `versions`."""

    paths: list[TablePath]

    versions: Mapping[str, int]
    """The versions of the live tables."""

    seed: str
    """Decides which rows are sampled: the same ones every time."""

    sample: int = SAMPLE
    """How many rows of a table are sampled."""

    after: Mapping[str, int] = field(default_factory=dict)
    """The versions of the staged tables; empty for the newest ones."""

    tolerances: tuple[Tolerance, ...] = ()
    on_progress: OnProgress = no_progress


@dataclass(frozen=True)
class TablePair:
    """A live table, at the version up to which it was replicated, and the staged table; both pinned."""

    inputs: VerificationInput
    path: TablePath
    start: TableSchema
    live: Table
    staged: Table

    @property
    def name(self) -> str:
        """The name of the staged table."""
        return self.staged.name

    @cached_property
    def lineage(self) -> ColumnLineage:
        """The live column that each staged column continues."""
        return column_lineage(self.path, self.start)

    @property
    def key(self) -> tuple[str, ...]:
        """The key of the staged table."""
        return self.path.key_after(self.start)

    @cached_property
    def old_key(self) -> dict[str, str] | None:
        """The key as `{staged name: live name}`; None where a column of the key has other values."""
        return (
            {name: self.lineage.value_preserving[name] for name in self.key}
            if set(self.key) <= set(self.lineage.value_preserving)
            else None
        )

    @property
    def looked_up(self) -> dict[str, str] | None:
        """The key to find the live row of a staged row by; in a transformed table it may find none."""
        if self.old_key or not self.key:
            return self.old_key or None
        known = {f.name: f.type for f in self.start.columns}
        same = all(known.get(name) == self.staged.columns.field(name).type for name in self.key)
        return {name: name for name in self.key} if same and self.path.transforms_rows else None

    @property
    def blobs(self) -> frozenset[str]:
        """The staged columns that Lance stores as blobs."""
        return frozenset(field.name for field in self.staged.columns if is_blob(field))

    def tolerances(self, column: str) -> list[Tolerance]:
        """The tolerances of the migration for a column."""
        return [one for one in self.inputs.tolerances if one.holds_for(self.name, column)]

    def cast(self, batch: pa.RecordBatch, names: dict[str, str]) -> pa.RecordBatch:
        """Columns of the live table under their staged names; cast columns have their staged types."""
        arrays, fields = [], []
        for name, old in names.items():
            array = batch.column(old)
            if name in self.lineage.cast:
                array = array.cast(self.staged.columns.field(name).type)
            arrays.append(array)
            fields.append(pa.field(name, array.type))
        return pa.record_batch(arrays, schema=pa.schema(fields))
