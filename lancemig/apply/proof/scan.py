"""Reading both sides of a table: checksums of their columns, and which rows differ; a few batches at a time.

Rows are told by their key; of a table without one, a whole row stands for itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lancemig.apply.proof.pairs import Pair
from lancemig.apply.proof.terms import SCAN_THREADS
from lancemig.catalog.hashes import Checksum, Hashes, checksum, hashed, paired, together
from lancemig.catalog.keys import spelled_key
from lancemig.store.tables import LanceFragment, Table

KEY = ""
"""The name under which the checksum of the keys is kept; of a table without one, that of whole rows."""

_AT_A_TIME = 8_000_000
"""How many rows' hashes are held at a time while rows are told apart."""


@dataclass(frozen=True)
class Reading:
    """A fragment of one side, and the columns that are read of it, by their names in the end."""

    live: bool
    fragment: LanceFragment
    columns: frozenset[str]
    keys: bool
    """Whether the keys are compared as well, and not only stand for their rows."""


@dataclass
class Sums:
    """What one side adds up to: for each column, and for the keys."""

    rows: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, Checksum] = field(default_factory=dict)

    def add(self, name: str, hashes: Hashes) -> None:
        """So many more cells of a column."""
        self.rows[name] = self.rows.get(name, 0) + len(hashes)
        self.checksums[name] = self.checksums.get(name, Checksum()) + checksum(hashes)

    def join(self, other: "Sums") -> None:
        """What another part of the side adds up to."""
        for name, rows in other.rows.items():
            self.rows[name] = self.rows.get(name, 0) + rows
            self.checksums[name] = self.checksums.get(name, Checksum()) + other.checksums[name]


@dataclass(frozen=True)
class Batch:
    """Some rows of one side: what tells each of them, and a hash of each cell of each column."""

    rows: pa.RecordBatch
    told: Hashes
    cells: dict[str, Hashes]


def batches(pair: Pair, reading: Reading) -> Iterator[Batch]:
    """The rows of one fragment."""
    names = _names(pair, reading)
    key = pair.key if pair.old_key is not None else ()
    table = pair.live if reading.live else pair.staged
    blobs = bool(pair.blobs & set(names))
    for batch in table.batches(_in_order(table, names.values()), fragments=[reading.fragment], blobs=blobs):
        rows = pair.cast(batch, names) if reading.live else batch
        cells = {name: hashed(rows.column(name)) for name in names}
        told = together([cells[name] for name in key or sorted(names)], rows.num_rows)
        yield Batch(rows, told, {name: cells[name] for name in reading.columns})


def _names(pair: Pair, reading: Reading) -> dict[str, str]:
    """The columns to be read, by their names in the end, and what this side calls them."""
    old = {**pair.flow.kept, **(pair.old_key or {})}
    wanted = sorted({*reading.columns, *(pair.key if pair.old_key is not None else ())})
    return {name: old[name] if reading.live else name for name in wanted}


def _in_order(table: Table, names: Iterable[str]) -> list[str]:
    wanted = set(names)
    return [name for name in table.columns.names if name in wanted]


def summed(pair: Pair, readings: list[Reading]) -> tuple[Sums, Sums]:
    """What the live and the staged side add up to."""

    def one(reading: Reading) -> Sums:
        sums = Sums()
        for batch in batches(pair, reading):
            if reading.keys:
                sums.add(KEY, batch.told)
            for name, cells in batch.cells.items():
                sums.add(name, paired(batch.told, cells) if pair.key else cells)
        return sums

    sides = Sums(), Sums()
    with ThreadPoolExecutor(SCAN_THREADS) as threads:
        for reading, sums in zip(readings, threads.map(one, readings), strict=True):
            sides[not reading.live].join(sums)
    return sides


@dataclass
class Differing:
    """Rows that are not alike: keys that only one side has, rows that have another value; an example each."""

    missing: int = 0
    extra: int = 0
    other: int = 0
    common: int = 0
    examples: dict[str, int] = field(default_factory=dict)


Told = tuple[Hashes, Hashes]


def differing(pair: Pair, readings: list[Reading], column: str | None = None) -> Differing:
    """The rows in which both sides differ, in their keys or, of those that both have, in a column.

    Reads as often as it takes to hold no more than some million hashes.
    """
    rows = [sum(r.fragment.count_rows() for r in readings if r.live is live) for live in (True, False)]
    parts = max(-(-max(rows) // _AT_A_TIME), 1)
    found = Differing()
    for part in range(parts):
        live, staged = (_told(pair, readings, column, (side, part, parts)) for side in (True, False))
        _compare(found, live, staged)
    return found


def _told(pair: Pair, readings: list[Reading], column: str | None, which: tuple[bool, int, int]) -> Told:
    live, part, parts = which
    kept: list[Told] = [(np.zeros(0, np.uint64), np.zeros(0, np.uint64))]
    for reading in (reading for reading in readings if reading.live is live):
        for batch in batches(pair, reading):
            cells = batch.told if column is None else batch.cells[column]
            mine = batch.told % np.uint64(parts) == part
            kept.append((batch.told[mine], cells[mine]))
    return np.concatenate([told for told, _ in kept]), np.concatenate([cells for _, cells in kept])


def _compare(found: Differing, live: Told, staged: Told) -> None:
    ours, our_counts = np.unique(live[0], return_counts=True)
    theirs, their_counts = np.unique(staged[0], return_counts=True)
    common, at, there = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    more = our_counts[at].astype(np.int64) - their_counts[there]
    for name, alone, repeated in (
        ("missing", _without(ours, theirs), common[more > 0]),
        ("extra", _without(theirs, ours), common[more < 0]),
    ):
        _note(found, name, len(alone) + len(repeated), [*alone[:1], *repeated[:1]])
    found.common += len(common)
    pairs = [paired(told, cells) for told, cells in (live, staged)]
    odd = staged[0][~np.isin(pairs[1], pairs[0]) & np.isin(staged[0], common)]
    _note(found, "other", len(np.unique(odd)), odd[:1])


def _without(left: Hashes, right: Hashes) -> Hashes:
    return np.setdiff1d(left, right, assume_unique=True)


def _note(found: Differing, name: str, count: int, example: Iterable[np.uint64]) -> None:
    setattr(found, name, getattr(found, name) + count)
    for told in list(example)[:1]:
        found.examples.setdefault(name, int(told))


def spelt(pair: Pair, readings: list[Reading], examples: Mapping[str, int]) -> Callable[[str], str]:
    """Says which row an example is: its key, or all of it that was read."""
    wanted, said = set(examples.values()), dict[int, str]()
    for reading in readings:
        if wanted <= set(said):
            break
        for batch in batches(pair, reading):
            for told in wanted & {int(one) for one in batch.told[np.isin(batch.told, list(wanted))]}:
                at = int(np.flatnonzero(batch.told == np.uint64(told))[0])
                names = list(pair.key if pair.old_key is not None else ()) or batch.rows.schema.names
                said.setdefault(told, spelled_key(pa.Table.from_batches([batch.rows]), names, at))
    return lambda name: said.get(examples.get(name, -1), "?")
