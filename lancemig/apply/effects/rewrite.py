"""The effect of operations that write a whole table: create, build, transform, or change the layout.

`rewrite_source` is dispatched on the operation's type and gives the rows. Those that are read from a pinned
table are written in chunks with a checkpoint each, so that a resumed run continues after the last one.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import singledispatch, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lancemig.apply.rows.calls import CallSize, called
from lancemig.catalog.operations import BuildTable, CreateTable, Operation, RewriteTable, TransformTable
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import conform, read_source
from lancemig.errors import FunctionFailed, PlanError
from lancemig.store.lance import ROW_ADDRESS, Layout, Table
from lancemig.store.objects import Objects

IN_MEMORY = 256 << 20
"""The most bytes, as stored, that are sorted at once."""

_POSITION = "__lancemig_place"


def sorted_batches(table: Table, order_by: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """All rows in ascending order of these columns, nulls last; larger tables are sorted on disk."""
    stored = table.live().bytes
    if stored <= IN_MEMORY:
        yield from table.batches(order_by=order_by)
        return
    with tempfile.TemporaryDirectory(prefix="lancemig-sort-") as folder:
        yield from _sorted_in_runs(table, order_by, Path(folder), -(-stored // IN_MEMORY))


def _sorted_in_runs(
    table: Table, order_by: Sequence[str], folder: Path, stretches: int
) -> Iterator[pa.RecordBatch]:
    addresses, places = _order(table, order_by)
    size = max(-(-len(addresses) // stretches), 1)
    writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
    for batch in table.batches(addresses=True):
        place = places[np.searchsorted(addresses, batch.column(ROW_ADDRESS).to_numpy())]
        rows = batch.drop_columns([ROW_ADDRESS]).append_column(_POSITION, pa.array(place))
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
            rows = pa.ipc.open_file(file).read_all().sort_by(_POSITION).drop_columns([_POSITION])
            yield from rows.to_batches(max_chunksize=8192)
        path.unlink()


def _order(table: Table, order_by: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The addresses of all rows in ascending order, and the position of each in the sorted table."""
    keys = table.batches(list(order_by), addresses=True, order_by=order_by)
    found = [batch.column(ROW_ADDRESS).to_numpy() for batch in keys]
    in_order = np.concatenate(found) if found else np.empty(0, dtype=np.uint64)
    places = np.argsort(in_order, kind="stable")
    return in_order[places], places


TableWrite = CreateTable | BuildTable | TransformTable | RewriteTable


Chunk = tuple[int, Iterable[pa.RecordBatch]]
"""A number of rows of the source, and the batches that are made of them."""


@dataclass(frozen=True)
class RewriteSource:
    """The rows of a table that is to be written; they can be read once."""

    chunks: Callable[[int], Iterator[Chunk]]
    """Gives the chunks from a row of the source on; from the first one where `source` is None."""

    layout: Layout

    source: str | None = None
    """The pinned table that is read. None for rows of a function and for sorted rows, which start anew."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows."""
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
    table, columns = _required(operation, source), after.columns

    def pieces(start: int) -> Iterator[Chunk]:
        size = CallSize(lambda: timedelta(seconds=time.monotonic()), MAX_CHUNK_ROWS)
        for batch in table.batches_from(start, operation.reads):
            at = 0
            while at < batch.num_rows:
                part = batch.slice(at, size.rows)
                at += part.num_rows
                yield part.num_rows, apply_transform(operation, part, columns, size)

    return RewriteSource(pieces, layout_of(table), _pinned(table))


@rewrite_source.register
def _(operation: RewriteTable, source: Table | None, after: TableSchema) -> RewriteSource:
    table = _required(operation, source)
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
    operation: TransformTable, batch: pa.RecordBatch, columns: pa.Schema, size: CallSize
) -> Iterator[pa.RecordBatch]:
    """Call the operation's function with one batch.

    Raises:
        FunctionFailed: The function raised an exception, before a row of this batch was given.
        PlanError: The result does not fit `columns`.
    """
    name = operation.using.__name__

    @wraps(operation.using)
    def whole(batch: pa.RecordBatch) -> list[Any]:
        given = operation.using(batch)
        return [given] if isinstance(given, pa.RecordBatch | pa.Table) else list(given)

    given, _ = size.timed(lambda: called(whole, batch, operation))
    for one in given:
        if not isinstance(one, pa.RecordBatch | pa.Table):
            raise PlanError(f"{name}() yielded {type(one).__name__}; expected record batches")
        for part in one.to_batches() if isinstance(one, pa.Table) else [one]:
            yield conform(part, columns)


def _required(operation: Operation, source: Table | None) -> Table:
    if source is None:
        raise PlanError(f"table {operation.table!r} does not exist")
    return source


MAX_CHUNK_ROWS = 1 << 20
"""The number of rows of the source after which a chunk ends; Lance puts as many into a file."""

MAX_CHUNK_TIME = timedelta(seconds=60)
"""The time after which a chunk ends: an interrupted run loses at most this."""


@dataclass(frozen=True)
class WriteCheckpoint:
    """A chunk that was written."""

    upto: int
    """The number of rows of the source that this chunk and those before it cover."""

    rows: int
    """The number of rows written in this chunk."""

    fragments: tuple[str, ...]
    """The fragments of this chunk, as JSON."""


@dataclass
class WriteCheckpoints:
    """The checkpoints of one table below `folder`; those of another version of `source` are ignored."""

    objects: Objects
    folder: str
    source: str
    renew_lease: Callable[[], None]
    kept: list[WriteCheckpoint] = field(default_factory=list)

    def load(self) -> "WriteCheckpoints":
        """Read the checkpoints of an earlier process."""
        for item in sorted(self.objects.list(self.folder), key=lambda item: item.key):
            found = self.objects.read(item.key)
            document = json.loads(found.body) if found else {}
            if document.pop("source", None) == self.source:
                self.kept.append(WriteCheckpoint(**{**document, "fragments": tuple(document["fragments"])}))
        return self

    def put(self, checkpoint: WriteCheckpoint) -> None:
        """Store the checkpoint of a finished chunk."""
        document = {
            "source": self.source,
            "upto": checkpoint.upto,
            "rows": checkpoint.rows,
            "fragments": list(checkpoint.fragments),
        }
        self.renew_lease()
        key = f"{self.folder}{len(self.kept):08d}.json"
        # A checkpoint of another version of the source may have the same key.
        stale = self.objects.read(key)
        self.objects.write_if(key, json.dumps(document).encode(), stale.version_token if stale else None)
        self.kept.append(checkpoint)

    @property
    def upto(self) -> int:
        """The number of rows of the source that need not be read again."""
        return self.kept[-1].upto if self.kept else 0


@dataclass
class ChunkWindow:
    """Cuts a stream of rows into chunks, by number of rows and by time."""

    pieces: Iterator[Chunk]

    now: Callable[[], datetime]

    upto: int
    """The number of rows of the source that were read."""

    over: bool = False
    """Whether the stream has ended."""

    failure: FunctionFailed | None = None
    """The exception of a function that ended the stream: the rows before it are kept."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches of the next chunk."""
        began, start = self.now(), self.upto
        for rows, made in self.pieces:
            try:
                yield from made
            except FunctionFailed as error:
                if self.upto == start:
                    raise
                self.failure = error
                return
            self.upto += rows
            if self.upto - start >= MAX_CHUNK_ROWS or self.now() - began >= MAX_CHUNK_TIME:
                return
        self.over = True


def write_in_chunks(
    checkpoints: WriteCheckpoints,
    window: ChunkWindow,
    write: Callable[[Iterator[pa.RecordBatch]], tuple[Sequence[str], int]],
) -> list[WriteCheckpoint]:
    """Write the chunks that have no checkpoint yet, and return all checkpoints.

    Raises FunctionFailed, after the chunk before it was written, where a function raised an exception.
    """
    while not window.over:
        fragments, rows = write(window.batches())
        checkpoints.put(WriteCheckpoint(window.upto, rows, tuple(fragments)))
        if window.failure is not None:
            raise window.failure
    return checkpoints.kept
