"""One table on both sides of a proof, and what its way did to each column."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from lancemig.apply.effects.replay import Flow, Passage, flow_of
from lancemig.apply.environment import OnProgress, silent
from lancemig.apply.store import SAMPLE
from lancemig.catalog.checks import Tolerance
from lancemig.catalog.operations import (
    TransformTable,
    UndoRows,
)
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.store.lance import Table, Tables
from lancemig.store.lance.table import is_blob

SCAN_THREADS = 2


@dataclass(frozen=True)
class Ground:
    """Two roots: `staged` is to be what `passages` make of `origin`.

    `versions` are those of the tables of `origin`, `start` is their schema; `after`, those of the staged
    tables, the newest where none is named. `seed` decides which rows are drawn: the same ones every time.
    """

    tables: Tables
    origin: str
    staged: str
    start: CatalogSchema
    passages: list[Passage]
    versions: Mapping[str, int]
    seed: str
    sample: int = SAMPLE
    after: Mapping[str, int] = field(default_factory=dict)
    tolerances: tuple[Tolerance, ...] = ()
    on_progress: OnProgress = silent


@dataclass(frozen=True)
class Pair:
    """A live table at the version it was caught up with, and the staged one; both pinned."""

    ground: Ground
    passage: Passage
    start: TableSchema
    live: Table
    staged: Table

    @property
    def name(self) -> str:
        """What the table is called in the end."""
        return self.staged.name

    @cached_property
    def flow(self) -> Flow:
        """Where its columns come from."""
        return flow_of(self.passage, self.start)

    @property
    def key(self) -> tuple[str, ...]:
        """The key in the end."""
        return self.passage.key_after(self.start)

    @cached_property
    def old_key(self) -> dict[str, str] | None:
        """The names that the key's columns had, by those in the end; None where their values are others."""
        return (
            {name: self.flow.came[name] for name in self.key}
            if set(self.key) <= set(self.flow.came)
            else None
        )

    @property
    def looked_up(self) -> dict[str, str] | None:
        """The key by which a staged row's live one may be found; of a table written anew, a try."""
        if self.old_key or not self.key:
            return self.old_key or None
        known = {f.name: f.type for f in self.start.columns}
        same = all(known.get(name) == self.staged.columns.field(name).type for name in self.key)
        return {name: name for name in self.key} if same and self.rewritten else None

    @property
    def rewritten(self) -> bool:
        """Whether a function wrote all rows anew."""
        return any(isinstance(step.operation, TransformTable) for step in self.passage.steps)

    @property
    def undone(self) -> bool:
        """Whether a step puts back what another did: that cannot be computed again."""
        return any(isinstance(step.operation, UndoRows) for step in self.passage.steps)

    @property
    def blobs(self) -> frozenset[str]:
        """The columns, in the end, that Lance keeps apart as blobs."""
        return frozenset(field.name for field in self.staged.columns if is_blob(field))

    def tolerances(self, column: str) -> list[Tolerance]:
        """What the migration allows for a column."""
        return [one for one in self.ground.tolerances if one.holds_for(self.name, column)]

    def cast(self, batch: pa.RecordBatch, names: dict[str, str]) -> pa.RecordBatch:
        """Columns of the live table, under their names in the end and, of the key, in its types."""
        arrays, fields = [], []
        for name, old in names.items():
            array = batch.column(old)
            if name in self.flow.cast:
                array = array.cast(self.staged.columns.field(name).type)
            arrays.append(array)
            fields.append(pa.field(name, array.type))
        return pa.record_batch(arrays, schema=pa.schema(fields))
