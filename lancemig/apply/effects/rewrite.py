"""Tables written as a whole: created, derived, transformed, or stored in another layout."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import singledispatch
from pathlib import Path

import numpy as np
import pyarrow as pa

from lancemig.catalog.operations import BuildTable, CreateTable, Operation, RewriteTable, TransformTable
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import conform, read_source
from lancemig.errors import PlanError
from lancemig.store.lance import ROW_ADDRESS, Layout, Table
from lancemig.store.objects import Objects

IN_MEMORY = 256 << 20
"""The most bytes, as stored, that are sorted at once."""

_PLACE = "__lancemig_place"


def sorted_batches(table: Table, order_by: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """All rows, ascending by these columns, as Lance orders them; nulls last."""
    stored = table.live().bytes
    if stored <= IN_MEMORY:
        yield from table.batches(order_by=order_by)
        return
    with tempfile.TemporaryDirectory(prefix="lancemig-sort-") as folder:
        yield from _in_stretches(table, order_by, Path(folder), -(-stored // IN_MEMORY))


def _in_stretches(
    table: Table, order_by: Sequence[str], folder: Path, stretches: int
) -> Iterator[pa.RecordBatch]:
    addresses, places = _order(table, order_by)
    size = max(-(-len(addresses) // stretches), 1)
    writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
    for batch in table.batches(addresses=True):
        place = places[np.searchsorted(addresses, batch.column(ROW_ADDRESS).to_numpy())]
        rows = batch.drop_columns([ROW_ADDRESS]).append_column(_PLACE, pa.array(place))
        for stretch in np.unique(place // size):
            part = rows.filter(pa.array(place // size == stretch))
            if stretch not in writers:
                writers[stretch] = pa.ipc.new_file(folder / f"{stretch}.arrow", part.schema)
            writers[stretch].write_batch(part)
    for writer in writers.values():
        writer.close()
    for stretch in sorted(writers):
        path = folder / f"{stretch}.arrow"
        with pa.memory_map(str(path)) as file:
            rows = pa.ipc.open_file(file).read_all().sort_by(_PLACE).drop_columns([_PLACE])
            yield from rows.to_batches(max_chunksize=8192)
        path.unlink()


def _order(table: Table, order_by: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The addresses of all rows, ascending, and the place of each in the order."""
    keys = table.batches(list(order_by), addresses=True, order_by=order_by)
    found = [batch.column(ROW_ADDRESS).to_numpy() for batch in keys]
    in_order = np.concatenate(found) if found else np.empty(0, dtype=np.uint64)
    places = np.argsort(in_order, kind="stable")
    return in_order[places], places


TableWrite = CreateTable | BuildTable | TransformTable | RewriteTable


Chunk = tuple[int, Iterable[pa.RecordBatch]]
"""So many rows of the source, and what became of them."""


@dataclass(frozen=True)
class RewriteSource:
    """What a table is to hold, from a row of its source on; a stream that can be asked for once.

    Only where `source` names a pinned table can it begin at another row than the first: a function that
    yields rows, and a sorted order, begin anew.
    """

    chunks: Callable[[int], Iterator[Chunk]]
    layout: Layout
    source: str | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All of it."""
        return (batch for _, made in self.chunks(0) for batch in made)


@singledispatch
def rewrite_source(operation: Operation, source: Table | None, after: TableSchema) -> RewriteSource:
    """The rows of the table that `operation` writes, read from `source` where it transforms one."""
    raise TypeError(f"{operation.op} does not write a table")


@rewrite_source.register
def _(operation: CreateTable, source: Table | None, after: TableSchema) -> RewriteSource:
    rows = read_source(operation.rows if operation.rows is not None else [], after.columns)
    return RewriteSource(_from_source(rows), Layout())


@rewrite_source.register
def _(operation: BuildTable, source: Table | None, after: TableSchema) -> RewriteSource:
    return RewriteSource(_from_source(read_source(operation.rows, after.columns)), layout_of(source))


@rewrite_source.register
def _(operation: TransformTable, source: Table | None, after: TableSchema) -> RewriteSource:
    table, columns = _needed(operation, source), after.columns

    def pieces(start: int) -> Iterator[Chunk]:
        for batch in table.batches_from(start, operation.reads):
            yield batch.num_rows, apply_transform(operation, batch, columns)

    return RewriteSource(pieces, layout_of(table), _pinned(table))


@rewrite_source.register
def _(operation: RewriteTable, source: Table | None, after: TableSchema) -> RewriteSource:
    table = _needed(operation, source)
    layout = changed_layout(layout_of(table), operation)
    if operation.order_by:
        return RewriteSource(_from_source(sorted_batches(table, operation.order_by)), layout)

    def pieces(start: int) -> Iterator[Chunk]:
        for batch in table.batches_from(start):
            yield batch.num_rows, [batch]

    return RewriteSource(pieces, layout, _pinned(table))


def _from_source(batches: Iterable[pa.RecordBatch]) -> Callable[[int], Iterator[Chunk]]:
    return lambda _: ((batch.num_rows, [batch]) for batch in batches)


def _pinned(table: Table) -> str:
    return f"{table.root}{table.name}@{table.version}"


def changed_layout(old: Layout, operation: RewriteTable) -> Layout:
    """The layout that the operation asks for."""
    return Layout(
        data_storage_version=operation.data_storage_version or old.data_storage_version,
        stable_row_ids=old.stable_row_ids if operation.stable_row_ids is None else operation.stable_row_ids,
    )


def layout_of(table: Table | None) -> Layout:
    """The layout that `table` has; Lance's default for none."""
    if table is None:
        return Layout()
    return Layout(str(table.dataset.data_storage_version), table.stable_row_ids)


def apply_transform(
    operation: TransformTable, batch: pa.RecordBatch, columns: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """What the operation's function makes of one batch; PlanError says what is wrong with it."""
    name = operation.using.__name__
    try:
        given = operation.using(batch)
        given = [given] if isinstance(given, pa.RecordBatch | pa.Table) else list(given)
    except Exception as error:
        raise PlanError(f"{name}() raised {type(error).__name__}: {error}") from error
    for one in given:
        if not isinstance(one, pa.RecordBatch | pa.Table):
            raise PlanError(f"{name}() yielded {type(one).__name__}; expected record batches")
        for part in one.to_batches() if isinstance(one, pa.Table) else [one]:
            yield conform(part, columns)


def _needed(operation: Operation, source: Table | None) -> Table:
    if source is None:
        raise PlanError(f"table {operation.table!r} does not exist")
    return source


MOST_ROWS = 1 << 20
"""So many of the source's rows are a portion; Lance puts as many into a file."""

LONGEST = timedelta(seconds=60)
"""How long is written at one portion: what a death may cost."""


@dataclass(frozen=True)
class WriteCheckpoint:
    """What was made of the source's rows up to `upto`, after the portion before it: fragments, and rows."""

    upto: int
    rows: int
    fragments: tuple[str, ...]


@dataclass
class WriteCheckpoints:
    """The portions that are kept below `folder`; those of another state of the `source` do not count."""

    objects: Objects
    folder: str
    source: str
    renew_lease: Callable[[], None]
    kept: list[WriteCheckpoint] = field(default_factory=list)

    def load(self) -> "WriteCheckpoints":
        """With what an earlier process has kept."""
        for item in sorted(self.objects.list(self.folder), key=lambda item: item.key):
            found = self.objects.read(item.key)
            document = json.loads(found.body) if found else {}
            if document.pop("source", None) == self.source:
                self.kept.append(WriteCheckpoint(**{**document, "fragments": tuple(document["fragments"])}))
        return self

    def put(self, checkpoint: WriteCheckpoint) -> None:
        """Keep a portion; it is finished."""
        document = {
            "source": self.source,
            "upto": checkpoint.upto,
            "rows": checkpoint.rows,
            "fragments": list(checkpoint.fragments),
        }
        self.renew_lease()
        key = f"{self.folder}{len(self.kept):08d}.json"
        # One of another state of the source may lie there.
        there = self.objects.read(key)
        self.objects.write_if(key, json.dumps(document).encode(), there.version_token if there else None)
        self.kept.append(checkpoint)

    @property
    def upto(self) -> int:
        """The number of the source's rows that need not be read again."""
        return self.kept[-1].upto if self.kept else 0


@dataclass
class ChunkWindow:
    """Pieces on their way into a portion, until there are enough of them; `over` when there are no more."""

    pieces: Iterator[Chunk]
    now: Callable[[], datetime]
    upto: int
    over: bool = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What was made of the rows of one portion; asked again, of the next."""
        began, start = self.now(), self.upto
        for rows, made in self.pieces:
            yield from made
            self.upto += rows
            if self.upto - start >= MOST_ROWS or self.now() - began >= LONGEST:
                return
        self.over = True


def write_in_chunks(
    checkpoints: WriteCheckpoints,
    cut: ChunkWindow,
    write: Callable[[Iterator[pa.RecordBatch]], tuple[Sequence[str], int]],
) -> list[WriteCheckpoint]:
    """All portions, of which those that are kept are not written again."""
    while not cut.over:
        fragments, rows = write(cut.batches())
        checkpoints.put(WriteCheckpoint(cut.upto, rows, tuple(fragments)))
    return checkpoints.kept
