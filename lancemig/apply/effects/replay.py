"""The operations that each table goes through, and their replay on rows that are written later.

`table_paths` gives the operations of each table. `replay_rows` applies them to rows of the live table, with
the functions that changed the staged table. `column_lineage` says which live column a staged one continues.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import singledispatch

import pyarrow as pa

from lancemig.apply.effects.rewrite import rewrite_source
from lancemig.apply.effects.stage import parts, stage
from lancemig.apply.rows.context import StagingContext
from lancemig.catalog.arrow_arrays import empty_table
from lancemig.catalog.keys import matches
from lancemig.catalog.operations import Operation, UpsertRows
from lancemig.catalog.operations.effects import ColumnEffects
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.sources import read_answers
from lancemig.plan.plan import DirectedMigration
from lancemig.plan.tracking import Tracking
from lancemig.store.lance import Layout, Stamp, Table, Tables
from lancemig.store.lance.writing import written_table
from lancemig.store.objects import open_objects

_SCRATCH = "rows"


@dataclass(frozen=True)
class AppliedOperation:
    """An operation of a table's path."""

    operation: Operation
    before: TableSchema | None
    """The table before the operation; None where it does not exist then."""

    after: TableSchema | None
    """The table after the operation; None where it does not exist any more."""

    @property
    def column_effects(self) -> ColumnEffects:
        """What the operation does to the columns of the table."""
        return self.operation.column_effects(self.before)


@dataclass(frozen=True)
class TablePath:
    """The operations of one table, from the live root to the staged one."""

    source: str | None
    """The live table; None for a new one."""

    target: str | None
    """The table's name in the staged root; None for a table that is left behind."""

    steps: tuple[AppliedOperation, ...]

    @property
    def derived(self) -> bool:
        """Whether the rows come from a source, not from the live table."""
        return any(step.operation.row_effect.from_source for step in self.steps)

    @property
    def keeps_rows(self) -> bool:
        """Whether each live row is one staged row."""
        return not (self.derived or self.removes_rows or self.adds_rows)

    @property
    def removes_rows(self) -> bool:
        """Whether an operation may remove a live row, or make several of it."""
        return any(step.operation.row_effect.removes for step in self.steps)

    @property
    def compares_rows(self) -> bool:
        """Whether it depends on all rows of the table which live rows are removed."""
        return any(step.operation.row_effect.compares_rows for step in self.steps)

    @property
    def adds_rows(self) -> bool:
        """Whether an operation inserts rows, the keys of which live rows may get later."""
        return any(step.operation.row_effect.inserts for step in self.steps)

    @property
    def transforms_rows(self) -> bool:
        """Whether a function of the migration makes all staged rows from live ones."""
        effects = [step.operation.row_effect for step in self.steps]
        return any(effect.writes_table and effect.replayed for effect in effects)

    @property
    def restores_rows(self) -> bool:
        """Whether an operation brings back earlier values, which cannot be computed again."""
        return any(step.operation.row_effect.restores for step in self.steps)

    def key_after(self, start: TableSchema) -> tuple[str, ...]:
        """The key of the table after all operations."""
        last = self.steps[-1].after if self.steps else start
        return last.key if last else ()


def derived_again(paths: Sequence[TablePath]) -> dict[str, str]:
    """The live tables that the plan derives again from a source, each with its name in the staged root.

    A table that is dropped, and then built under the same name, is one of them.
    """
    dropped = {path.source for path in paths if path.target is None}
    found = {}
    for path in paths:
        if path.target is not None and path.derived:
            live = path.source or (path.target if path.target in dropped else None)
            if live is not None:
                found[live] = path.target
    return found


def table_paths(start: CatalogSchema, work: Sequence[DirectedMigration]) -> list[TablePath]:
    """The path through `work` of every table of `start`, and of every new one."""
    tracking = Tracking(start.tables)
    steps: dict[int, list[AppliedOperation]] = {}
    schema = start
    for migration in work:
        for operation in migration.operations:
            before = schema.tables.get(operation.table)
            schema = operation.after(schema)
            after = schema.tables.get(operation.table_after or operation.table)
            steps.setdefault(tracking.follow(operation), []).append(
                AppliedOperation(operation, before, after)
            )
    return [
        TablePath(source, tracking.finally_called(id_), tuple(steps.get(id_, ())))
        for id_, source in tracking.source.items()
    ]


def replay_rows(table_path: TablePath, start: TableSchema, rows: pa.Table) -> pa.Table:
    """Apply the operations of a path to `rows` of the live table.

    The rows are written to a scratch table on the local disk, and the functions that changed the staged table
    change it.

    Args:
        table_path: the operations.
        start: the schema of `rows`: the live table, or some of its columns.
        rows: rows of the live table.

    Returns:
        The rows as the staged table has them.
    """
    if not table_path.steps:
        return rows
    last = table_path.steps[-1].after
    if not rows.num_rows and last is not None:
        return empty_table(last.columns)
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        scratch = _scratch(folder, start, rows)
        for number, step in enumerate(table_path.steps):
            _apply(scratch, step, number)
        return scratch.open("", _SCRATCH).read()


def scratch_table(folder: str, schema: TableSchema, rows: pa.Table) -> Table:
    """A new table in `folder` with these rows."""
    return _scratch(folder, schema, rows).open("", _SCRATCH)


def _scratch(folder: str, schema: TableSchema, rows: pa.Table) -> Tables:
    scratch = Tables(open_objects(folder, {}), "")
    _write(scratch, schema, rows.to_batches(), version=0)
    return scratch


def _apply(scratch: Tables, step: AppliedOperation, number: int) -> None:
    effect = step.operation.row_effect
    if not effect.replayed or step.before is None or step.after is None:
        return
    table = scratch.open("", _SCRATCH)
    if effect.writes_table:
        batches = list(rewrite_source(step.operation, table, step.after).batches())
        _write(scratch, step.after, batches, version=table.version)
        return
    operation = without_inserts(step.operation, table)
    for at, part in enumerate(parts(operation, (step.before, step.after))):
        if not part.row_effect.replayed:
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


@singledispatch
def without_inserts(operation: Operation, table: Table) -> Operation:
    """The operation without the rows that it would insert into `table`: the staged table has them already."""
    if operation.row_effect.inserts:
        raise TypeError(f"{operation.op} inserts rows into {table.name}; its replay is not defined")
    return operation


@without_inserts.register
def _(operation: UpsertRows, table: Table) -> Operation:
    rows = table.read()
    given, _ = read_answers(operation.rows, rows.schema)
    existing = pa.array(matches(given, rows, operation.on) >= 0)
    return operation.model_copy(update={"rows": given.filter(existing)})


@dataclass
class ColumnLineage:
    """Which live column each top-level column of a staged table continues."""

    kept: dict[str, str]
    """Columns with the values of a live column, as `{staged name: live name}`."""

    changed: dict[str, str] = field(default_factory=dict)
    """Columns with other values, with the reason."""

    cast: dict[str, str] = field(default_factory=dict)
    """Those of `changed` that are only cast without loss, as `{staged name: live name}`."""

    by_function: set[str] = field(default_factory=set)
    """Those of `changed` that a Python function of the migration gave values."""

    null: set[str] = field(default_factory=set)
    """Those of `changed` that an operation added with null in every row, and none changed after."""

    @property
    def value_preserving(self) -> dict[str, str]:
        """Columns copied or losslessly cast, as `{staged name: live name}`.

        Their values distinguish rows as before, so that they can join the two roots.
        """
        return {**self.kept, **self.cast}

    def apply(self, effects: ColumnEffects) -> None:
        """Take the effects of one operation into account."""
        if effects.replaced is not None:
            self.kept, self.cast, self.null = {}, {}, set()
            self.changed = dict.fromkeys(effects.replaced.names, effects.reason)
        for path in effects.dropped:
            self._drop(path)
        for old, new in effects.renamed.items():
            self._rename(old, new)
        for path in effects.cast:
            self._cast(path, effects.reason)
        for path in (*effects.computed, *(path for path in effects.added if path not in effects.computed)):
            self._change(path, effects.reason)
        if effects.by_function:
            self.by_function |= {path.partition(".")[0] for path in effects.computed}
        self.null |= {path for path in effects.added if path not in effects.computed and "." not in path}

    def _change(self, path: str, reason: str) -> None:
        head = path.partition(".")[0]
        self.kept.pop(head, None)
        self.cast.pop(head, None)
        self.null.discard(head)
        self.changed[head] = reason

    def _rename(self, old: str, new: str) -> None:
        """Rename a whole column; another name of a struct's field changes no value."""
        if "." in old:
            return
        for columns in (self.kept, self.changed, self.cast):
            if old in columns:
                columns[new] = columns.pop(old)
        for names in (self.by_function, self.null):
            if old in names:
                names.remove(old)
                names.add(new)

    def _drop(self, path: str) -> None:
        """Drop a whole column; a struct without one of its fields is another value."""
        if "." in path:
            self._change(path, "lost a field")
            return
        for columns in (self.kept, self.changed, self.cast):
            columns.pop(path, None)
        self.by_function.discard(path)
        self.null.discard(path)

    def _cast(self, name: str, reason: str) -> None:
        old = self.kept.get(name) or self.cast.get(name)
        self._change(name, reason)
        if old is not None:
            self.cast[name] = old


def column_lineage(table_path: TablePath, start: TableSchema) -> ColumnLineage:
    """What the operations of a path do to each column, whatever its values are.

    The lineage is what the operations state. A staged column that they forget is in neither `kept` nor
    `changed`, so that no gate compares it, and the coverage gate refuses it.
    """
    lineage = ColumnLineage({name: name for name in start.columns.names})
    for step in table_path.steps:
        lineage.apply(step.column_effects)
    return lineage


def columns_needed(table_path: TablePath, start: TableSchema) -> frozenset[str]:
    """The columns of the live table without which `replay_rows` cannot run; the others may be left out."""
    live_name = {name: name for name in start.columns.names}
    needed: set[str] = set()
    for step in table_path.steps:
        if not step.operation.row_effect.replayed:
            continue
        effects = step.column_effects
        names = effects.needs(step.before.columns if step.before else start.columns)
        needed |= {old for name, old in live_name.items() if name in names}
        if effects.replaced is not None:
            live_name = {}
        for path in effects.dropped:
            live_name.pop(path, None)
        for old, new in effects.renamed.items():
            if old in live_name:
                live_name[new] = live_name.pop(old)
    if needed and live_name and needed.isdisjoint(live_name.values()):
        # A table cannot lose its last column, not even before it gets another one.
        needed.add(next(iter(live_name.values())))
    return frozenset(needed)
