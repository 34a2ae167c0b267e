"""The rows, keys and columns gates: what the migration leaves alone is equal in both roots.

Files that both tables share are not read, because Lance never changes a file. All others are read on both
sides, and their checksums are compared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import pyarrow as pa

from lancemig.apply.verify.pairs import SCAN_THREADS, TablePair
from lancemig.apply.verify.repeats import removes_only_repeats
from lancemig.catalog.hashes import Checksum, Hashes, checksum, hash_pairs, hash_rows, hash_values
from lancemig.catalog.keys import format_key
from lancemig.catalog.lineage import Comparison, GateOutcome
from lancemig.catalog.sources import count_text
from lancemig.store.lance import LanceFragment, Table
from lancemig.store.lance.shared_files import shared_fragments

KEY = "\0"
"""The entry for the checksum of the keys; in a table without a key, of whole rows. No column is called so."""

_AT_A_TIME = 8_000_000
"""How many rows' hashes are in memory at a time while differing rows are searched."""


@dataclass(frozen=True)
class ScanTask:
    """A fragment to be read, of one side."""

    live: bool
    """Whether the fragment belongs to the live table; else to the staged one."""

    fragment: LanceFragment

    columns: frozenset[str]
    """The columns to compare, by their staged names."""

    compares_keys: bool
    """Whether the keys are compared as well; else they only identify rows."""


@dataclass
class ColumnSums:
    """The checksums of one side, by column; `KEY` has that of the keys."""

    rows: dict[str, int] = field(default_factory=dict)
    checksums: dict[str, Checksum] = field(default_factory=dict)

    def add(self, name: str, hashes: Hashes) -> None:
        """Add cells of a column."""
        self.rows[name] = self.rows.get(name, 0) + len(hashes)
        self.checksums[name] = self.checksums.get(name, Checksum()) + checksum(hashes)

    def join(self, other: "ColumnSums") -> None:
        """Add the sums of another part of the same side."""
        for name, rows in other.rows.items():
            self.rows[name] = self.rows.get(name, 0) + rows
            self.checksums[name] = self.checksums.get(name, Checksum()) + other.checksums[name]


@dataclass(frozen=True)
class HashedBatch:
    """Some rows of one side, with hashes."""

    rows: pa.RecordBatch

    row_ids: Hashes
    """A hash for each row: of its key, or of the whole row in a table without a key."""

    cells: dict[str, Hashes]
    """A hash for each cell, by column."""


def batches(pair: TablePair, task: ScanTask) -> Iterator[HashedBatch]:
    """The rows of one fragment, hashed."""
    names = _live_names(pair, task)
    key = pair.key if pair.old_key is not None else ()
    table = pair.live if task.live else pair.staged
    blobs = bool(pair.blobs & set(names))
    for batch in table.batches(
        _in_table_order(table, names.values()), fragments=[task.fragment], blobs=blobs
    ):
        rows = pair.cast(batch, names) if task.live else batch
        cells = {name: hash_values(rows.column(name)) for name in names}
        row_ids = hash_rows([cells[name] for name in key or sorted(names)], rows.num_rows)
        yield HashedBatch(rows, row_ids, {name: cells[name] for name in task.columns})


def _live_names(pair: TablePair, task: ScanTask) -> dict[str, str]:
    """The columns to be read, as `{staged name: name on this side}`."""
    old = {**pair.lineage.kept, **(pair.old_key or {})}
    wanted = sorted({*task.columns, *(pair.key if pair.old_key is not None else ())})
    return {name: old[name] if task.live else name for name in wanted}


def _in_table_order(table: Table, names: Iterable[str]) -> list[str]:
    wanted = set(names)
    return [name for name in table.columns.names if name in wanted]


def column_sums(pair: TablePair, tasks: list[ScanTask]) -> tuple[ColumnSums, ColumnSums]:
    """The sums of the live side and of the staged side."""

    def sums_of(task: ScanTask) -> ColumnSums:
        sums = ColumnSums()
        for batch in batches(pair, task):
            if task.compares_keys:
                sums.add(KEY, batch.row_ids)
            for name, cells in batch.cells.items():
                sums.add(name, hash_pairs(batch.row_ids, cells) if pair.key else cells)
        return sums

    sides = ColumnSums(), ColumnSums()
    with ThreadPoolExecutor(SCAN_THREADS) as threads:
        for task, sums in zip(tasks, threads.map(sums_of, tasks), strict=True):
            sides[not task.live].join(sums)
    return sides


@dataclass
class RowDifferences:
    """How many rows differ between the two sides."""

    missing: int = 0
    """Rows of the live side only."""

    lost: int = 0
    """Those of `missing` of which the staged side has no row with the same key or content."""

    extra: int = 0
    """Rows of the staged side only."""

    other: int = 0
    """Rows of both sides with another value."""

    common: int = 0
    """Rows of both sides."""

    examples: dict[str, int] = field(default_factory=dict)
    """The row id of one row for each kind of difference, by the name of the field above."""


RowHashes = tuple[Hashes, Hashes]


def row_differences(pair: TablePair, tasks: list[ScanTask], column: str | None = None) -> RowDifferences:
    """Compare the sides row by row: their keys, and a column of the rows that both have.

    The fragments are read several times if needed, so that only some million hashes are in memory at once.
    """
    rows = [sum(r.fragment.count_rows() for r in tasks if r.live is live) for live in (True, False)]
    parts = max(-(-max(rows) // _AT_A_TIME), 1)
    differences = RowDifferences()
    for part in range(parts):
        live, staged = (_row_hashes(pair, tasks, column, (side, part, parts)) for side in (True, False))
        _compare(differences, live, staged)
    return differences


def _row_hashes(
    pair: TablePair, tasks: list[ScanTask], column: str | None, which: tuple[bool, int, int]
) -> RowHashes:
    live, part, parts = which
    kept: list[RowHashes] = [(np.zeros(0, np.uint64), np.zeros(0, np.uint64))]
    for task in (task for task in tasks if task.live is live):
        for batch in batches(pair, task):
            cells = batch.row_ids if column is None else batch.cells[column]
            mine = batch.row_ids % np.uint64(parts) == part
            kept.append((batch.row_ids[mine], cells[mine]))
    return np.concatenate([row_ids for row_ids, _ in kept]), np.concatenate([cells for _, cells in kept])


def _compare(differences: RowDifferences, live: RowHashes, staged: RowHashes) -> None:
    ours, our_counts = np.unique(live[0], return_counts=True)
    theirs, their_counts = np.unique(staged[0], return_counts=True)
    common, at, there = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    more = our_counts[at].astype(np.int64) - their_counts[there]
    for name, alone, repeated in (
        ("missing", _only_left(ours, theirs), common[more > 0]),
        ("extra", _only_left(theirs, ours), common[more < 0]),
    ):
        _record(differences, name, len(alone) + len(repeated), [*alone[:1], *repeated[:1]])
    differences.lost += len(_only_left(ours, theirs))
    differences.common += len(common)
    pairs = [hash_pairs(row_ids, cells) for row_ids, cells in (live, staged)]
    odd = staged[0][~np.isin(pairs[1], pairs[0]) & np.isin(staged[0], common)]
    _record(differences, "other", len(np.unique(odd)), odd[:1])


def _only_left(left: Hashes, right: Hashes) -> Hashes:
    return np.setdiff1d(left, right, assume_unique=True)


def _record(differences: RowDifferences, name: str, count: int, example: Iterable[np.uint64]) -> None:
    setattr(differences, name, getattr(differences, name) + count)
    for row_id in list(example)[:1]:
        differences.examples.setdefault(name, int(row_id))


def example_formatter(
    pair: TablePair, tasks: list[ScanTask], examples: Mapping[str, int]
) -> Callable[[str], str]:
    """A function that gives the example of a difference as text: its key, or all columns that were read."""
    wanted, texts = set(examples.values()), dict[int, str]()
    for task in tasks:
        if wanted <= set(texts):
            break
        for batch in batches(pair, task):
            for row_id in wanted & {int(h) for h in batch.row_ids[np.isin(batch.row_ids, list(wanted))]}:
                at = int(np.flatnonzero(batch.row_ids == np.uint64(row_id))[0])
                names = list(pair.key if pair.old_key is not None else ()) or batch.rows.schema.names
                texts.setdefault(row_id, format_key(pa.Table.from_batches([batch.rows]), names, at))
    return lambda name: texts.get(examples.get(name, -1), "?")


def rows_gate(pair: TablePair) -> Iterator[GateOutcome]:
    """Both sides have the same number of rows, if the migration removes and adds none."""
    rows, staged = pair.live.count(), pair.staged.count()
    sides = {"live": str(rows), "staged": str(staged), "rows": staged}
    if pair.path.keeps_rows:
        detail = count_text(staged, "row") if rows == staged else f"{staged:,} rows, expected {rows:,}"
        yield GateOutcome(gate="rows", table=pair.name, ok=rows == staged, detail=detail, **sides)
        return
    detail = f"{rows:,} rows became {staged:,}, as the migration determines"
    yield GateOutcome(gate="rows", table=pair.name, ok=True, way="not compared", detail=detail, **sides)


def columns_gate(pair: TablePair) -> Iterator[GateOutcome]:
    """The keys and each column are equal, or are not compared for a reason that is given."""
    yield from _changed_columns(pair)
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
    tasks = _scan_tasks(pair, kept)
    if pair.path.keeps_rows:
        yield from _compare_checksums(pair, kept, tasks)
    else:
        yield from _compare_rows(pair, kept, tasks)


def _changed_columns(pair: TablePair) -> Iterator[GateOutcome]:
    for name, why in pair.lineage.changed.items():
        if name in pair.staged.columns.names:
            yield _not_compared(pair, name, f"the migration changes it: {why}")


def _not_compared(pair: TablePair, name: str, why: str) -> GateOutcome:
    return GateOutcome(gate="columns", table=pair.name, column=name, ok=True, way="not compared", detail=why)


def _declared(pair: TablePair, name: str, why: str) -> GateOutcome:
    return _not_compared(pair, name, why).model_copy(update={"declared": True})


def _scan_tasks(pair: TablePair, kept: list[str]) -> list[ScanTask]:
    """The fragments that have to be read, because the two sides do not share their files."""
    names = {**{name: pair.lineage.kept[name] for name in kept}, **(pair.old_key or {})}
    tables = pair.inputs.tables
    folders = (
        tables.folder(pair.live.root, pair.live.name),
        tables.folder(pair.staged.root, pair.staged.name),
    )
    relatives = shared_fragments(tables.objects, pair.live, pair.staged, folders, names)
    whole, tasks = frozenset(kept), []
    alike: dict[bool, set[int]] = {True: set(), False: set()}
    for kin in relatives:
        keys = set(pair.key) <= kin.same if pair.key else whole <= kin.same
        columns = whole - kin.same if keys else whole
        alike[True].add(kin.left.fragment_id)
        alike[False].add(kin.right.fragment_id)
        if columns or not keys:
            tasks += [
                ScanTask(live, fragment, columns, compares_keys=not keys)
                for live, fragment in ((True, kin.left), (False, kin.right))
            ]
    for live, table in ((True, pair.live), (False, pair.staged)):
        others = (f for f in table.fragments if f.fragment_id not in alike[live])
        tasks += [ScanTask(live, fragment, whole, compares_keys=True) for fragment in others]
    return tasks


def _compare_checksums(pair: TablePair, kept: list[str], tasks: list[ScanTask]) -> Iterator[GateOutcome]:
    start = perf_counter()
    live, staged = column_sums(pair, tasks)
    seconds = round(perf_counter() - start, 3)
    gates = {KEY: "keys" if pair.key else "whole rows"} | dict.fromkeys(kept, "")
    for name, gate in gates.items():
        same = live.checksums.get(name, Checksum()) == staged.checksums.get(name, Checksum())
        same = same and live.rows.get(name, 0) == staged.rows.get(name, 0)
        yield GateOutcome(
            gate=gate or "columns",
            table=pair.name,
            column=None if name == KEY else name,
            ok=same,
            way=_comparison(pair, tasks, name, staged),
            live=str(live.checksums.get(name, "")) or None,
            staged=str(staged.checksums.get(name, "")) or None,
            rows=staged.rows.get(name, 0),
            detail=_equal_text(pair, name) if same else _difference_text(pair, tasks, name),
            seconds=seconds,
        )


def _comparison(pair: TablePair, tasks: list[ScanTask], name: str, sums: ColumnSums) -> Comparison:
    read = sums.rows.get(name, 0)
    of = [r for r in tasks if not r.live and (r.compares_keys if name == KEY else name in r.columns)]
    if not of and not read:
        return "same files"
    return "checksum" if len(of) == len(pair.staged.fragments) else "same files and checksum"


def _equal_text(pair: TablePair, name: str) -> str:
    rows = pair.staged.count()
    if name != KEY:
        return f"equal in {count_text(rows, 'row')}"
    return count_text(rows, "key") if pair.key else f"equal: {count_text(rows, 'row')}"


def _difference_text(pair: TablePair, tasks: list[ScanTask], name: str) -> str:
    """Which rows differ, in words, with an example."""
    if name != KEY and not pair.key:
        return "the values on both sides differ"
    wanted = [r for r in tasks if (r.compares_keys if name == KEY else name in r.columns)]
    differences = row_differences(pair, wanted, None if name == KEY else name)
    return _key_difference_text(pair, wanted, differences, name) or "the checksums differ"


def _key_difference_text(
    pair: TablePair, tasks: list[ScanTask], differences: RowDifferences, name: str
) -> str:
    example = example_formatter(pair, tasks, differences.examples)
    what = "key" if pair.key else "row"
    parts = (
        [f"{_other_values_text(differences)}, for example {example('other')}"] if differences.other else []
    )
    if name == KEY or not parts:
        for attribute, adjective in (("missing", "missing"), ("extra", "unexpected")):
            if count := getattr(differences, attribute):
                are = f"{count_text(count, what)} {'is' if count == 1 else 'are'} {adjective}"
                parts.append(f"{are}, for example {example(attribute)}")
    return "; ".join(parts)


def _other_values_text(differences: RowDifferences) -> str:
    verb = "has" if differences.other == 1 else "have"
    return f"{count_text(differences.other, 'row')} {verb} a different value"


def _compare_rows(pair: TablePair, kept: list[str], tasks: list[ScanTask]) -> Iterator[GateOutcome]:
    """Compare the values of the rows that both sides have, where the migration removes or adds rows."""
    yield _keys_outcome(pair, tasks)
    for name in (name for name in kept if name not in pair.key):
        start = perf_counter()
        wanted = [task for task in tasks if name in task.columns]
        differences = row_differences(pair, wanted, name)
        detail = f"equal in the {differences.common:,} rows that are on both sides in different files"
        if differences.other:
            detail = f"{_other_values_text(differences)}, for example "
            detail += example_formatter(pair, wanted, differences.examples)("other")
        yield GateOutcome(
            gate="columns",
            table=pair.name,
            column=name,
            ok=not differences.other,
            way="row by row",
            rows=differences.common,
            detail=detail,
            seconds=round(perf_counter() - start, 3),
        )


def _lost(pair: TablePair) -> RowDifferences:
    """The keys that no staged row has, if the migration removes only rows that repeat another row's key."""
    if not removes_only_repeats(pair):
        return RowDifferences()
    # A key may be in a file that both sides share, and in one that they do not share.
    tasks = [
        ScanTask(live, fragment, frozenset(), compares_keys=True)
        for live, table in ((True, pair.live), (False, pair.staged))
        for fragment in table.fragments
    ]
    return row_differences(pair, tasks)


def _keys_outcome(pair: TablePair, tasks: list[ScanTask]) -> GateOutcome:
    """No key is new where the migration only removes rows; none is missing where it only adds rows."""
    differences = row_differences(pair, [task for task in tasks if task.compares_keys])
    lost = _lost(pair) if pair.path.removes_rows else RowDifferences()
    wrong = {
        "missing": lost.lost if pair.path.removes_rows else differences.missing,
        "extra": 0 if pair.path.adds_rows else differences.extra,
    }
    examples = {**differences.examples, **({"missing": lost.examples["missing"]} if lost.lost else {})}
    example = {name: row_id for name, row_id in examples.items() if wrong.get(name)}
    kept = RowDifferences(missing=wrong["missing"], extra=wrong["extra"], examples=example)
    alike = f"{differences.missing:,} keys removed, {differences.extra:,} added, as the migration determines"
    return GateOutcome(
        gate="keys",
        table=pair.name,
        ok=not any(wrong.values()),
        way="row by row",
        rows=differences.common,
        detail=_key_difference_text(pair, tasks, kept, KEY) or alike,
    )
