"""A table's rows in an order, with memory for the sort keys and one stretch of rows, whatever its size.

Lance sorts in memory. So a large table is sorted in two passes: the order comes from the keys alone; then
each row goes to a file on the local disk, one for each stretch of the order, and these are sorted one by one.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lancemig.store.tables import ROW_ADDRESS, Table

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
