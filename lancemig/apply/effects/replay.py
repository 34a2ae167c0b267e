"""Rows that came later, through the same operations that the staged tables went through."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lancemig.apply.effects.rewrite import apply_transform
from lancemig.apply.effects.stage import parts, stage
from lancemig.apply.rows.context import StagingContext
from lancemig.catalog.keys import matches
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropColumn,
    DropIndex,
    DropTable,
    Operation,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    SetKey,
    SetMetadata,
    TransformTable,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.sources import read_answers
from lancemig.plan.plan import DirectedMigration
from lancemig.plan.tracking import Tracking
from lancemig.store.lance import Layout, Stamp, Table, Tables
from lancemig.store.lance.writing import written_table
from lancemig.store.objects import open_objects

_SKIPPED = (
    CreateTable,
    BuildTable,
    RenameTable,
    DropTable,
    CreateIndex,
    DropIndex,
    RewriteTable,
    SetKey,
    SetMetadata,
    UndoRows,
)
_ROWS_MAY_GO = (DeleteRows, TransformTable, UpsertRows, UndoRows, BuildTable)


@dataclass(frozen=True)
class AppliedOperation:
    """An operation, and its table before and after it."""

    operation: Operation
    before: TableSchema | None
    after: TableSchema | None


@dataclass(frozen=True)
class TablePath:
    """The way of one table, from `source` (None: it is new) to `target` (None: it is left behind)."""

    source: str | None
    target: str | None
    steps: tuple[AppliedOperation, ...]

    @property
    def derived(self) -> bool:
        """Whether the rows come from a source, not from the live table."""
        return any(isinstance(step.operation, BuildTable | CreateTable) for step in self.steps)

    @property
    def keeps_rows(self) -> bool:
        """Whether each live row is one staged row."""
        return not any(isinstance(step.operation, _ROWS_MAY_GO) for step in self.steps)

    @property
    def adds_rows(self) -> bool:
        """Whether an operation puts rows there that live ones may come to have the key of."""
        return any(isinstance(step.operation, UpsertRows | UndoRows) for step in self.steps)

    def key_after(self, start: TableSchema) -> tuple[str, ...]:
        """The key of the table at the end of its way."""
        last = self.steps[-1].after if self.steps else start
        return last.key if last else ()


def table_paths(start: CatalogSchema, work: Sequence[DirectedMigration]) -> list[TablePath]:
    """The way of every table of `start`, and of every new one, through `work`."""
    tracking = Tracking(start.tables)
    steps: dict[int, list[AppliedOperation]] = {}
    state = start
    for one in work:
        for operation in one.operations:
            before = state.tables.get(operation.table)
            state = operation.after(state)
            after = state.tables.get(operation.to if isinstance(operation, RenameTable) else operation.table)
            steps.setdefault(tracking.follow(operation), []).append(
                AppliedOperation(operation, before, after)
            )
    return [
        TablePath(source, tracking.finally_called(id_), tuple(steps.get(id_, ())))
        for id_, source in tracking.source.items()
    ]


def replay_rows(table_path: TablePath, start: TableSchema, rows: pa.Table) -> pa.Table:
    """What `rows` of the live table are once they went `passage`.

    They are written to a scratch table on the local disk, and the very functions that changed the staged
    table change it.
    """
    if not table_path.steps:
        return rows
    last = table_path.steps[-1].after
    if not rows.num_rows and last is not None:
        return last.columns.empty_table()
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        scratch = _scratch(folder, start, rows)
        for number, step in enumerate(table_path.steps):
            _apply(scratch, step, number)
        return scratch.open("", _SCRATCH).read()


def scratch_table(folder: str, schema: TableSchema, rows: pa.Table) -> Table:
    """A table of its own in `folder`, with these rows."""
    return _scratch(folder, schema, rows).open("", _SCRATCH)


def _scratch(folder: str, schema: TableSchema, rows: pa.Table) -> Tables:
    scratch = Tables(open_objects(folder, {}), "")
    _write(scratch, schema, rows.to_batches(), version=0)
    return scratch


_SCRATCH = "rows"


def _apply(scratch: Tables, step: AppliedOperation, number: int) -> None:
    if isinstance(step.operation, _SKIPPED) or step.before is None or step.after is None:
        return
    table = scratch.open("", _SCRATCH)
    if isinstance(step.operation, TransformTable):
        call, columns = step.operation, step.after.columns
        batches = [new for old in table.batches(call.reads) for new in apply_transform(call, old, columns)]
        _write(scratch, step.after, batches, version=table.version)
        return
    operation = step.operation
    if isinstance(operation, UpsertRows):
        operation = _among(operation, table.read())
    for at, part in enumerate(parts(operation, (step.before, step.after))):
        if isinstance(part, CreateIndex | DropIndex):
            continue
        table = scratch.open("", _SCRATCH)
        staged = stage(part, table, StagingContext(check_limits=False))
        if staged is not None:
            scratch.commit(table, staged, Stamp("scratch", "", f"{number}.{at}"))


def _write(scratch: Tables, schema: TableSchema, batches: Iterable[pa.RecordBatch], version: int) -> None:
    staged = written_table(scratch.uri("", _SCRATCH), schema, batches, Layout(), {}, read_version=version)
    stamp = Stamp("scratch", "", "rows")
    if version:
        scratch.commit(scratch.open("", _SCRATCH), staged, stamp)
    else:
        scratch.create("", _SCRATCH, staged, Layout(), stamp)


def _among(operation: UpsertRows, rows: pa.Table) -> UpsertRows:
    """The upsert, of rows that are there only: what it inserts is in the staged table already."""
    given, _ = read_answers(operation.rows, rows.schema)
    there = pa.array(matches(given, rows, operation.on) >= 0)
    return operation.model_copy(update={"rows": given.filter(there)})


@dataclass
class ColumnLineage:
    """Where the columns of a staged table come from: `kept` have the name they had; `changed`, the reason.

    `cast` are those that were only cast, losing nothing, with the name they had. `asked` are columns that a
    function was asked for.
    """

    kept: dict[str, str]
    changed: dict[str, str] = field(default_factory=dict)
    cast: dict[str, str] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    @property
    def value_preserving(self) -> dict[str, str]:
        """The columns whose values tell one row from another as they did before, with the name they had."""
        return {**self.kept, **self.cast}

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


def column_lineage(table_path: TablePath, start: TableSchema) -> ColumnLineage:
    """What the declared operations do to each column, whatever the values are.

    An operation that has no entry in the registry is left out; `unfollowed` names it.
    """
    flow = ColumnLineage({name: name for name in start.columns.names})
    for step in table_path.steps:
        follow = _FOLLOWED.get(type(step.operation))
        if follow is not None:
            follow(flow, step.operation, step.after or start)
    return flow


def unfollowed(table_path: TablePath) -> tuple[str, ...]:
    """The operations of which this module does not know what they do to columns, as `op: description`.

    No column counts as left alone because of them: the coverage gate asks for a comparison of each.
    """
    unknown = [step.operation for step in table_path.steps if type(step.operation) not in _FOLLOWED]
    return tuple(dict.fromkeys(f"{operation.op}: {operation.describe()}" for operation in unknown))


def _untouched(_flow: ColumnLineage, _operation: Operation, _after: TableSchema) -> None:
    """The operation changes rows, indices, metadata or names of tables; no value of a row that stays."""


def _computed(flow: ColumnLineage, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, UpdateRows | BackfillColumns):
        asked = isinstance(operation, BackfillColumns)
        for path in (*operation.targets, *([operation.flag] if operation.flag else [])):
            flow.change(path, operation.describe(), asked=asked)


def _added(flow: ColumnLineage, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, AddColumn):
        flow.change(operation.column.name, operation.describe(), asked=operation.using is not None)


def _upserted(flow: ColumnLineage, operation: Operation, after: TableSchema) -> None:
    if not isinstance(operation, UpsertRows) or operation.when_exists in ("keep", "error"):
        return
    names = operation.extend or [name for name in after.columns.names if name not in operation.on]
    for name in names:
        flow.change(name, operation.describe())


def _all(flow: ColumnLineage, operation: Operation, after: TableSchema) -> None:
    flow.kept, flow.cast = {}, {}
    flow.changed = {name: operation.describe() for name in after.columns.names}


def _renamed(flow: ColumnLineage, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, RenameColumn):
        flow.rename(operation.column, operation.to)


def _dropped(flow: ColumnLineage, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, DropColumn):
        flow.drop(operation.column)


def _retyped(flow: ColumnLineage, operation: Operation, _after: TableSchema) -> None:
    if isinstance(operation, RetypeColumn):
        flow.retype(operation)


_FOLLOWED: dict[type[Operation], Callable[[ColumnLineage, Operation, TableSchema], None]] = {
    UpdateRows: _computed,
    BackfillColumns: _computed,
    AddColumn: _added,
    UpsertRows: _upserted,
    DeleteRows: _untouched,
    UndoRows: _all,
    SetKey: _untouched,
    SetMetadata: _untouched,
    CreateTable: _all,
    CreateIndex: _untouched,
    DropIndex: _untouched,
    TransformTable: _all,
    BuildTable: _all,
    RewriteTable: _untouched,
    RenameTable: _untouched,
    DropTable: _untouched,
    RenameColumn: _renamed,
    DropColumn: _dropped,
    RetypeColumn: _retyped,
    RequireColumn: _untouched,
    RelaxColumn: _untouched,
}
"""What each operation does to columns. One that is missing here is unknown, not harmless."""
