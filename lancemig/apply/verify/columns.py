"""The gates of rows, keys and columns that the migration leaves alone: equal on both sides, all of them.

Files that both sides have in common are not read: Lance writes none of them again. What is in other files is
read on both sides, and what it adds up to is compared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import pyarrow as pa

from lancemig.apply.verify.pairs import SCAN_THREADS, TablePair
from lancemig.catalog.hashes import Checksum, Hashes, checksum, hash_pairs, hash_rows, hash_values
from lancemig.catalog.keys import format_key
from lancemig.catalog.lineage import Comparison, GateOutcome
from lancemig.catalog.sources import count_text
from lancemig.store.lance import LanceFragment, Table
from lancemig.store.lance.shared_files import shared_fragments

KEY = ""
"""The name under which the checksum of the keys is kept; of a table without one, that of whole rows."""

_AT_A_TIME = 8_000_000
"""How many rows' hashes are held at a time while rows are told apart."""


@dataclass(frozen=True)
class ScanTask:
    """A fragment of one side, and the columns that are read of it, by their names in the end."""

    live: bool
    fragment: LanceFragment
    columns: frozenset[str]
    keys: bool
    """Whether the keys are compared as well, and not only stand for their rows."""


@dataclass
class ColumnSums:
    """What one side adds up to: for each column, and for the keys."""

    rows: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, Checksum] = field(default_factory=dict)

    def add(self, name: str, hashes: Hashes) -> None:
        """So many more cells of a column."""
        self.rows[name] = self.rows.get(name, 0) + len(hashes)
        self.checksums[name] = self.checksums.get(name, Checksum()) + checksum(hashes)

    def join(self, other: "ColumnSums") -> None:
        """What another part of the side adds up to."""
        for name, rows in other.rows.items():
            self.rows[name] = self.rows.get(name, 0) + rows
            self.checksums[name] = self.checksums.get(name, Checksum()) + other.checksums[name]


@dataclass(frozen=True)
class HashedBatch:
    """Some rows of one side: what tells each of them, and a hash of each cell of each column."""

    rows: pa.RecordBatch
    row_ids: Hashes
    cells: dict[str, Hashes]


def batches(pair: TablePair, reading: ScanTask) -> Iterator[HashedBatch]:
    """The rows of one fragment."""
    names = _names(pair, reading)
    key = pair.key if pair.old_key is not None else ()
    table = pair.live if reading.live else pair.staged
    blobs = bool(pair.blobs & set(names))
    for batch in table.batches(_in_order(table, names.values()), fragments=[reading.fragment], blobs=blobs):
        rows = pair.cast(batch, names) if reading.live else batch
        cells = {name: hash_values(rows.column(name)) for name in names}
        told = hash_rows([cells[name] for name in key or sorted(names)], rows.num_rows)
        yield HashedBatch(rows, told, {name: cells[name] for name in reading.columns})


def _names(pair: TablePair, reading: ScanTask) -> dict[str, str]:
    """The columns to be read, by their names in the end, and what this side calls them."""
    old = {**pair.lineage.kept, **(pair.old_key or {})}
    wanted = sorted({*reading.columns, *(pair.key if pair.old_key is not None else ())})
    return {name: old[name] if reading.live else name for name in wanted}


def _in_order(table: Table, names: Iterable[str]) -> list[str]:
    wanted = set(names)
    return [name for name in table.columns.names if name in wanted]


def summed(pair: TablePair, readings: list[ScanTask]) -> tuple[ColumnSums, ColumnSums]:
    """What the live and the staged side add up to."""

    def one(reading: ScanTask) -> ColumnSums:
        sums = ColumnSums()
        for batch in batches(pair, reading):
            if reading.keys:
                sums.add(KEY, batch.row_ids)
            for name, cells in batch.cells.items():
                sums.add(name, hash_pairs(batch.row_ids, cells) if pair.key else cells)
        return sums

    sides = ColumnSums(), ColumnSums()
    with ThreadPoolExecutor(SCAN_THREADS) as threads:
        for reading, sums in zip(readings, threads.map(one, readings), strict=True):
            sides[not reading.live].join(sums)
    return sides


@dataclass
class RowDifferences:
    """Rows that are not alike: keys that only one side has, rows that have another value; an example each."""

    missing: int = 0
    extra: int = 0
    other: int = 0
    common: int = 0
    examples: dict[str, int] = field(default_factory=dict)


Told = tuple[Hashes, Hashes]


def differing(pair: TablePair, readings: list[ScanTask], column: str | None = None) -> RowDifferences:
    """The rows in which both sides differ, in their keys or, of those that both have, in a column.

    Reads as often as it takes to hold no more than some million hashes.
    """
    rows = [sum(r.fragment.count_rows() for r in readings if r.live is live) for live in (True, False)]
    parts = max(-(-max(rows) // _AT_A_TIME), 1)
    found = RowDifferences()
    for part in range(parts):
        live, staged = (_told(pair, readings, column, (side, part, parts)) for side in (True, False))
        _compare(found, live, staged)
    return found


def _told(
    pair: TablePair, readings: list[ScanTask], column: str | None, which: tuple[bool, int, int]
) -> Told:
    live, part, parts = which
    kept: list[Told] = [(np.zeros(0, np.uint64), np.zeros(0, np.uint64))]
    for reading in (reading for reading in readings if reading.live is live):
        for batch in batches(pair, reading):
            cells = batch.row_ids if column is None else batch.cells[column]
            mine = batch.row_ids % np.uint64(parts) == part
            kept.append((batch.row_ids[mine], cells[mine]))
    return np.concatenate([told for told, _ in kept]), np.concatenate([cells for _, cells in kept])


def _compare(found: RowDifferences, live: Told, staged: Told) -> None:
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
    pairs = [hash_pairs(told, cells) for told, cells in (live, staged)]
    odd = staged[0][~np.isin(pairs[1], pairs[0]) & np.isin(staged[0], common)]
    _note(found, "other", len(np.unique(odd)), odd[:1])


def _without(left: Hashes, right: Hashes) -> Hashes:
    return np.setdiff1d(left, right, assume_unique=True)


def _note(found: RowDifferences, name: str, count: int, example: Iterable[np.uint64]) -> None:
    setattr(found, name, getattr(found, name) + count)
    for told in list(example)[:1]:
        found.examples.setdefault(name, int(told))


def spelt(pair: TablePair, readings: list[ScanTask], examples: Mapping[str, int]) -> Callable[[str], str]:
    """Says which row an example is: its key, or all of it that was read."""
    wanted, said = set(examples.values()), dict[int, str]()
    for reading in readings:
        if wanted <= set(said):
            break
        for batch in batches(pair, reading):
            for told in wanted & {int(one) for one in batch.row_ids[np.isin(batch.row_ids, list(wanted))]}:
                at = int(np.flatnonzero(batch.row_ids == np.uint64(told))[0])
                names = list(pair.key if pair.old_key is not None else ()) or batch.rows.schema.names
                said.setdefault(told, format_key(pa.Table.from_batches([batch.rows]), names, at))
    return lambda name: said.get(examples.get(name, -1), "?")


def rows_gate(pair: TablePair) -> Iterator[GateOutcome]:
    """As many rows on both sides, where the migration takes and brings none."""
    rows, staged = pair.live.count(), pair.staged.count()
    sides = {"live": str(rows), "staged": str(staged), "rows": staged}
    if pair.path.keeps_rows:
        detail = count_text(staged, "row") if rows == staged else f"{staged:,} rows, expected {rows:,}"
        yield GateOutcome(gate="rows", table=pair.name, ok=rows == staged, detail=detail, **sides)
        return
    detail = f"{rows:,} rows became {staged:,}, as the migration determines"
    yield GateOutcome(gate="rows", table=pair.name, ok=True, way="not compared", detail=detail, **sides)


def columns_gate(pair: TablePair) -> Iterator[GateOutcome]:
    """Keys, and each column: equal, or a reason why it is not compared."""
    yield from _unfit(pair)
    kept = [name for name in pair.staged.columns.names if name in pair.lineage.kept]
    if not pair.path.keeps_rows and pair.old_key in (None, {}):
        why = "the migration adds or removes rows, and the table has no unchanged key to match them by"
        yield from (_declared(pair, name, why) for name in kept)
        return
    if pair.key and pair.old_key is None:
        why = f"the key {', '.join(pair.key)} is computed by the migration"
        yield GateOutcome(gate="keys", table=pair.name, ok=True, way="not compared", detail=why)
        yield from (_declared(pair, name, why) for name in kept)
        return
    if not kept and not pair.key:
        return
    readings = _readings(pair, kept)
    if pair.path.keeps_rows:
        yield from _by_checksum(pair, kept, readings)
    else:
        yield from _by_row(pair, kept, readings)


def _unfit(pair: TablePair) -> Iterator[GateOutcome]:
    for name, why in pair.lineage.changed.items():
        if name in pair.staged.columns.names:
            yield _not_compared(pair, name, f"the migration changes it: {why}")


def _not_compared(pair: TablePair, name: str, why: str) -> GateOutcome:
    return GateOutcome(gate="columns", table=pair.name, column=name, ok=True, way="not compared", detail=why)


def _declared(pair: TablePair, name: str, why: str) -> GateOutcome:
    return _not_compared(pair, name, why).model_copy(update={"declared": True})


def _readings(pair: TablePair, kept: list[str]) -> list[ScanTask]:
    """What is not the same by its files: fragments, and the columns that are read of them."""
    names = {**{name: pair.lineage.kept[name] for name in kept}, **(pair.old_key or {})}
    tables = pair.inputs.tables
    folders = (
        tables.folder(pair.live.root, pair.live.name),
        tables.folder(pair.staged.root, pair.staged.name),
    )
    relatives = shared_fragments(tables.objects, pair.live, pair.staged, folders, names)
    whole, readings = frozenset(kept), []
    alike: dict[bool, set[int]] = {True: set(), False: set()}
    for kin in relatives:
        keys = set(pair.key) <= kin.same if pair.key else whole <= kin.same
        columns = whole - kin.same if keys else whole
        alike[True].add(kin.left.fragment_id)
        alike[False].add(kin.right.fragment_id)
        if columns or not keys:
            readings += [
                ScanTask(live, fragment, columns, keys=not keys)
                for live, fragment in ((True, kin.left), (False, kin.right))
            ]
    for live, table in ((True, pair.live), (False, pair.staged)):
        others = (f for f in table.fragments if f.fragment_id not in alike[live])
        readings += [ScanTask(live, fragment, whole, keys=True) for fragment in others]
    return readings


def _by_checksum(pair: TablePair, kept: list[str], readings: list[ScanTask]) -> Iterator[GateOutcome]:
    start = perf_counter()
    live, staged = summed(pair, readings)
    seconds = round(perf_counter() - start, 3)
    told = {KEY: "keys" if pair.key else "whole rows"} | dict.fromkeys(kept, "")
    for name, gate in told.items():
        same = live.checksums.get(name, Checksum()) == staged.checksums.get(name, Checksum())
        same = same and live.rows.get(name, 0) == staged.rows.get(name, 0)
        yield GateOutcome(
            gate=gate or "columns",
            table=pair.name,
            column=name or None,
            ok=same,
            way=_way(pair, readings, name, staged),
            live=str(live.checksums.get(name, "")) or None,
            staged=str(staged.checksums.get(name, "")) or None,
            rows=staged.rows.get(name, 0),
            detail=_alike(pair, name) if same else _unlike(pair, readings, name),
            seconds=seconds,
        )


def _way(pair: TablePair, readings: list[ScanTask], name: str, sums: ColumnSums) -> Comparison:
    read = sums.rows.get(name, 0)
    of = [r for r in readings if not r.live and (r.keys if name == KEY else name in r.columns)]
    if not of and not read:
        return "same files"
    return "checksum" if len(of) == len(pair.staged.fragments) else "same files and checksum"


def _alike(pair: TablePair, name: str) -> str:
    rows = pair.staged.count()
    if name:
        return f"equal in {count_text(rows, 'row')}"
    return count_text(rows, "key") if pair.key else f"equal: {count_text(rows, 'row')}"


def _unlike(pair: TablePair, readings: list[ScanTask], name: str) -> str:
    """Which rows differ, with an example."""
    if name and not pair.key:
        return "the values on both sides differ"
    wanted = [r for r in readings if (r.keys if name == KEY else name in r.columns)]
    found = differing(pair, wanted, name or None)
    return _said(pair, wanted, found, name) or "the checksums differ"


def _said(pair: TablePair, readings: list[ScanTask], found: RowDifferences, name: str) -> str:
    example = spelt(pair, readings, found.examples)
    what = "key" if pair.key else "row"
    parts = [f"{_other(found)}, for example {example('other')}"] if found.other else []
    if name == KEY or not parts:
        for attribute, said in (("missing", "missing"), ("extra", "unexpected")):
            if count := getattr(found, attribute):
                are = f"{count_text(count, what)} {'is' if count == 1 else 'are'} {said}"
                parts.append(f"{are}, for example {example(attribute)}")
    return "; ".join(parts)


def _other(found: RowDifferences) -> str:
    return f"{count_text(found.other, 'row')} {'has' if found.other == 1 else 'have'} a different value"


def _by_row(pair: TablePair, kept: list[str], readings: list[ScanTask]) -> Iterator[GateOutcome]:
    """Of rows that come and go, those that both sides have: their values are compared one by one."""
    yield _keys_that_stay(pair, readings)
    for name in (name for name in kept if name not in pair.key):
        start = perf_counter()
        wanted = [reading for reading in readings if name in reading.columns]
        found = differing(pair, wanted, name)
        detail = f"equal in the {found.common:,} rows that are on both sides in different files"
        if found.other:
            detail = f"{_other(found)}, for example "
            detail += spelt(pair, wanted, found.examples)("other")
        yield GateOutcome(
            gate="columns",
            table=pair.name,
            column=name,
            ok=not found.other,
            way="row by row",
            rows=found.common,
            detail=detail,
            seconds=round(perf_counter() - start, 3),
        )


def _keys_that_stay(pair: TablePair, readings: list[ScanTask]) -> GateOutcome:
    """Where rows only go, no key is new; where they only come, none is missing."""
    found = differing(pair, [reading for reading in readings if reading.keys])
    wrong = {
        "missing": 0 if pair.path.removes_rows else found.missing,
        "extra": 0 if pair.path.adds_rows else found.extra,
    }
    example = {name: told for name, told in found.examples.items() if wrong.get(name)}
    kept = RowDifferences(missing=wrong["missing"], extra=wrong["extra"], examples=example)
    alike = f"{found.missing:,} keys removed, {found.extra:,} added, as the migration determines"
    return GateOutcome(
        gate="keys",
        table=pair.name,
        ok=not any(wrong.values()),
        way="row by row",
        rows=found.common,
        detail=_said(pair, readings, kept, KEY) or alike,
    )
