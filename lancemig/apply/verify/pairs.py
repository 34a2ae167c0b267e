"""One table on both sides of a proof, and what its way did to each column."""

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
    """Two roots: `staged` is to be what `passages` make of `origin`.

    `versions` are those of the tables of `origin`, `start` is their schema; `after`, those of the staged
    tables, the newest where none is named. `seed` decides which rows are drawn: the same ones every time.
    """

    tables: Tables
    origin: str
    staged: str
    start: CatalogSchema
    paths: list[TablePath]
    versions: Mapping[str, int]
    seed: str
    sample: int = SAMPLE
    after: Mapping[str, int] = field(default_factory=dict)
    tolerances: tuple[Tolerance, ...] = ()
    on_progress: OnProgress = no_progress


@dataclass(frozen=True)
class TablePair:
    """A live table at the version it was caught up with, and the staged one; both pinned."""

    inputs: VerificationInput
    path: TablePath
    start: TableSchema
    live: Table
    staged: Table

    @property
    def name(self) -> str:
        """What the table is called in the end."""
        return self.staged.name

    @cached_property
    def lineage(self) -> ColumnLineage:
        """Where its columns come from."""
        return column_lineage(self.path, self.start)

    @property
    def key(self) -> tuple[str, ...]:
        """The key in the end."""
        return self.path.key_after(self.start)

    @cached_property
    def old_key(self) -> dict[str, str] | None:
        """The names that the key's columns had, by those in the end; None where their values are others."""
        return (
            {name: self.lineage.value_preserving[name] for name in self.key}
            if set(self.key) <= set(self.lineage.value_preserving)
            else None
        )

    @property
    def looked_up(self) -> dict[str, str] | None:
        """The key by which a staged row's live one may be found; of a table written anew, a try."""
        if self.old_key or not self.key:
            return self.old_key or None
        known = {f.name: f.type for f in self.start.columns}
        same = all(known.get(name) == self.staged.columns.field(name).type for name in self.key)
        return {name: name for name in self.key} if same and self.path.transforms_rows else None

    @property
    def blobs(self) -> frozenset[str]:
        """The columns, in the end, that Lance keeps apart as blobs."""
        return frozenset(field.name for field in self.staged.columns if is_blob(field))

    def tolerances(self, column: str) -> list[Tolerance]:
        """What the migration allows for a column."""
        return [one for one in self.inputs.tolerances if one.holds_for(self.name, column)]

    def cast(self, batch: pa.RecordBatch, names: dict[str, str]) -> pa.RecordBatch:
        """Columns of the live table, under their names in the end and, of the key, in its types."""
        arrays, fields = [], []
        for name, old in names.items():
            array = batch.column(old)
            if name in self.lineage.cast:
                array = array.cast(self.staged.columns.field(name).type)
            arrays.append(array)
            fields.append(pa.field(name, array.type))
        return pa.record_batch(arrays, schema=pa.schema(fields))
