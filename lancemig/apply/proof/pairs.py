"""One table on both sides of a proof, and what its way did to each column."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from lancemig.apply.proof.terms import Ground
from lancemig.apply.steps.transform import Passage
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    DropColumn,
    Operation,
    RenameColumn,
    RetypeColumn,
    TransformTable,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.tolerances import Tolerance
from lancemig.store.tables import Table
from lancemig.store.tables.widths import is_blob


@dataclass
class Flow:
    """Where the columns of a staged table come from: `kept` have the name they had; `changed`, the reason.

    `cast` are those that were only cast, losing nothing, with the name they had. `asked` are columns that a
    function was asked for.
    """

    kept: dict[str, str]
    changed: dict[str, str] = field(default_factory=dict)
    cast: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def change(self, path: str, why: str, *, asked: bool = False) -> None:
        """The column at `path`, or a field of it, is not what it was."""
        head = path.partition(".")[0]
        self.kept.pop(head, None)
        self.cast.pop(head, None)
        self.changed[head] = why
        if asked:
            self.asked.add(head)

    def rename(self, old: str, new: str) -> None:
        """A whole column has another name; one of a struct's fields changes no value."""
        if "." in old:
            return
        for known in (self.kept, self.changed, self.cast):
            if old in known:
                known[new] = known.pop(old)
        if old in self.asked:
            self.asked.add(new)

    def drop(self, path: str) -> None:
        """A column is gone; without a field, a struct is another."""
        if "." in path:
            self.change(path, "lost a field")
            return
        for known in (self.kept, self.changed, self.cast):
            known.pop(path, None)

    def retype(self, operation: RetypeColumn) -> None:
        """A whole column that is only cast can still be told where it is the key."""
        name = operation.column
        old = self.kept.get(name) or self.cast.get(name)
        self.change(name, operation.describe())
        if old is not None and operation.using is None and "." not in name:
            self.cast[name] = old


def flow_of(passage: Passage, start: TableSchema) -> Flow:
    """What the declared operations do to each column, whatever the values are."""
    flow = Flow({name: name for name in start.columns.names})
    for step in passage.steps:
        operation, after = step.operation, step.after
        for type_, follow in _FOLLOWED.items():
            if isinstance(operation, type_):
                follow(flow, operation, after or start)
    return flow


def _computed(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, UpdateRows | BackfillColumns):
        asked = isinstance(operation, BackfillColumns)
        for path in (*operation.targets, *([operation.flag] if operation.flag else [])):
            flow.change(path, operation.describe(), asked=asked)


def _added(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, AddColumn):
        flow.change(operation.column.name, operation.describe(), asked=operation.using is not None)


def _upserted(flow: Flow, operation: Operation, after: TableSchema) -> None:
    if not isinstance(operation, UpsertRows) or operation.when_exists in ("keep", "error"):
        return
    names = operation.extend or [name for name in after.columns.names if name not in operation.on]
    for name in names:
        flow.change(name, operation.describe())


def _all(flow: Flow, operation: Operation, after: TableSchema) -> None:
    flow.kept, flow.cast = {}, {}
    flow.changed = {name: operation.describe() for name in after.columns.names}


def _renamed(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, RenameColumn):
        flow.rename(operation.column, operation.to)


def _dropped(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, DropColumn):
        flow.drop(operation.column)


def _retyped(flow: Flow, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, RetypeColumn):
        flow.retype(operation)


_FOLLOWED: dict[type[Operation], Callable[[Flow, Operation, TableSchema], None]] = {
    UpdateRows: _computed,
    BackfillColumns: _computed,
    AddColumn: _added,
    UpsertRows: _upserted,
    UndoRows: _all,
    TransformTable: _all,
    RenameColumn: _renamed,
    DropColumn: _dropped,
    RetypeColumn: _retyped,
}


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
        known = {**self.flow.kept, **self.flow.cast}
        return {name: known[name] for name in self.key} if set(self.key) <= set(known) else None

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
