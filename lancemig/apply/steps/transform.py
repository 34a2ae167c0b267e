"""Rows that came later, through the same operations that the staged tables went through."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lancemig.apply.rows.scope import Scope
from lancemig.apply.steps.effects import stage
from lancemig.apply.steps.parts import parts
from lancemig.apply.steps.written import transformed
from lancemig.catalog.keys import matches
from lancemig.catalog.operations import (
    BuildTable,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropIndex,
    DropTable,
    Operation,
    RenameTable,
    RewriteTable,
    SetKey,
    SetMetadata,
    TransformTable,
    UndoRows,
    UpsertRows,
)
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.sources import read_answers
from lancemig.plan.tracking import Tracking
from lancemig.plan.work import Work
from lancemig.store.objects import open_objects
from lancemig.store.tables import Layout, Stamp, Table, Tables
from lancemig.store.tables.writing import written_table

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
class Applied:
    """An operation, and its table before and after it."""

    operation: Operation
    before: TableSchema | None
    after: TableSchema | None


@dataclass(frozen=True)
class Passage:
    """The way of one table, from `source` (None: it is new) to `target` (None: it is left behind)."""

    source: str | None
    target: str | None
    steps: tuple[Applied, ...]

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


def passages(start: CatalogSchema, work: Sequence[Work]) -> list[Passage]:
    """The way of every table of `start`, and of every new one, through `work`."""
    tracking = Tracking(start.tables)
    steps: dict[int, list[Applied]] = {}
    state = start
    for one in work:
        for operation in one.operations:
            before = state.tables.get(operation.table)
            state = operation.after(state)
            after = state.tables.get(operation.to if isinstance(operation, RenameTable) else operation.table)
            steps.setdefault(tracking.follow(operation), []).append(Applied(operation, before, after))
    return [
        Passage(source, tracking.finally_called(id_), tuple(steps.get(id_, ())))
        for id_, source in tracking.source.items()
    ]


def through(passage: Passage, start: TableSchema, rows: pa.Table) -> pa.Table:
    """What `rows` of the live table are once they went `passage`.

    They are written to a scratch table on the local disk, and the very functions that changed the staged
    table change it.
    """
    if not passage.steps:
        return rows
    last = passage.steps[-1].after
    if not rows.num_rows and last is not None:
        return last.columns.empty_table()
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        scratch = _scratch(folder, start, rows)
        for number, step in enumerate(passage.steps):
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


def _apply(scratch: Tables, step: Applied, number: int) -> None:
    if isinstance(step.operation, _SKIPPED) or step.before is None or step.after is None:
        return
    table = scratch.open("", _SCRATCH)
    if isinstance(step.operation, TransformTable):
        call, columns = step.operation, step.after.columns
        batches = [new for old in table.batches(call.reads) for new in transformed(call, old, columns)]
        _write(scratch, step.after, batches, version=table.version)
        return
    operation = step.operation
    if isinstance(operation, UpsertRows):
        operation = _among(operation, table.read())
    for at, part in enumerate(parts(operation, (step.before, step.after))):
        if isinstance(part, CreateIndex | DropIndex):
            continue
        table = scratch.open("", _SCRATCH)
        staged = stage(part, table, Scope(braked=False))
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
