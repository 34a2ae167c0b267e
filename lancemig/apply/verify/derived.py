"""Compares a table that was derived again from its source with the live table of that name.

Keys are kept, new or gone, and rows that are kept may have other values. `BuildTable` limits how many rows
may be gone (`max_gone`) or changed (`max_changed`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import numpy as np
import pyarrow as pa

from lancemig.apply.rows.keys import HASHES_AT_A_TIME, hashed_keys
from lancemig.catalog.hashes import Hashes, hash_values
from lancemig.catalog.keys import format_key
from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.operations import Operation
from lancemig.catalog.sources import count_text
from lancemig.store.lance import Table
from lancemig.store.lance.table import MANY, is_blob

GATE = "derived"
RAISE_LIMIT = (
    "look at the rows that are gone or changed; abandon the run: lancemig recover --undo; then fix the "
    "source, or raise max_gone or max_changed of the BuildTable in the migration file; and lancemig upgrade"
)
"""What to do when a flip is refused because of a limit of `BuildTable`."""


@dataclass
class DerivedRows:
    """How the rows of a derived table differ from those of the live one."""

    kept: int = 0
    live_keys: int = 0
    """The number of distinct keys of the live table that have no null."""

    new: int = 0
    gone: int = 0
    changed: int = 0
    """Kept rows with another value in some column that both tables have."""

    cells: dict[str, int] = field(default_factory=dict)
    """The number of other values, by column."""

    repeated: int = 0
    """Rows of the live table that repeat the key of another one; all but one of each key are gone."""

    nulls: int = 0
    """Rows of the live table with a null in the key, which have no place in the derived table."""

    not_compared: dict[str, str] = field(default_factory=dict)
    """Why values were not compared, by column of the live table."""

    gone_example: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    changed_example: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def text(self) -> str:
        """`39 keys kept, 0 new, 1 gone; 2 rows changed (v: 2 cells)`."""
        text = f"{count_text(self.kept, 'key')} kept, {self.new:,} new, {self.gone:,} gone; "
        text += f"{count_text(self.changed, 'row')} changed"
        cells = ", ".join(
            f"{name}: {count_text(count, 'cell')}" for name, count in self.cells.items() if count
        )
        text = f"{text} ({cells})" if cells else text
        if self.repeated:
            text += f"; gone are {count_text(self.repeated, 'live row')} with a repeated key"
        if self.nulls:
            text += f"; gone are {count_text(self.nulls, 'live row')} with a null key"
        if self.not_compared:
            columns = ", ".join(f"{name} ({why})" for name, why in self.not_compared.items())
            text += f"; not compared: {columns}"
        return text

    @property
    def most_changed(self) -> int:
        """The number of rows that may have changed: all that are kept, where a column was not compared."""
        return self.kept if self.not_compared else self.changed


def derived_gate(live: Table, staged: Table, key: tuple[str, ...], operation: Operation) -> GateOutcome:
    """No more rows than the operation allows are gone, or have other values.

    Without a common key only the numbers of rows are compared.

    Args:
        live: The live table as it is now.
        staged: The table that was derived.
        key: The declared key of the derived table.
        operation: What derived it, with the limits.
    """
    start, rows = perf_counter(), staged.count()
    if not key or any(not _alike(live, staged, name) for name in key):
        least = max(live.count() - rows, 0)
        why = "the live table has no such key" if key else "the table has no key"
        detail = f"{live.count():,} rows became {rows:,}; only counted, because {why}"
        return _outcome(staged, operation, DerivedRows(gone=least), (start, detail, lambda *_: ""))
    found = compare_by_key(live, staged, key)
    return _outcome(staged, operation, found, (start, found.text, partial(_example_text, live, staged, key)))


def _example_text(live: Table, staged: Table, key: tuple[str, ...], found: DerivedRows, what: str) -> str:
    """`, for example id=5 is gone`; empty where no key is one."""
    table, wanted = (live, found.gone_example) if what == "gone" else (staged, found.changed_example)
    return f", for example {_example(table, key, wanted)} is {what}" if len(wanted) else ""


def _outcome(
    staged: Table,
    operation: Operation,
    found: DerivedRows,
    about: tuple[float, str, Callable[[DerivedRows, str], str]],
) -> GateOutcome:
    start, detail, example = about
    limits = operation.row_effect
    past = [
        (name, what, rows, limit)
        for name, what, rows, limit in (
            ("max_gone", "gone", found.gone, limits.max_gone),
            ("max_changed", "changed", found.most_changed, limits.max_changed),
        )
        if limit is not None and rows > limit
    ]
    if past:
        texts = [f"more rows are {what} than {name} = {limit:,} allows" for name, what, _, limit in past]
        raised = " and ".join(f"{name}={rows}" for name, _, rows, _ in past)
        detail += f"{example(found, past[0][1])}: {' and '.join(texts)}"
        detail += f"; fix the source, or write {raised} in {type(operation).__name__}"
    return GateOutcome(
        gate=GATE,
        table=staged.name,
        ok=not past,
        way="row by row" if found.kept or found.new else "not compared",
        rows=staged.count(),
        detail=detail,
        seconds=round(perf_counter() - start, 3),
    )


def compare_by_key(live: Table, staged: Table, key: tuple[str, ...]) -> DerivedRows:
    """Compare two tables by key, some million hashes at a time.

    Live rows with a null or repeated key count as gone.
    """
    names = [name for name in staged.columns.names if name not in key and _alike(live, staged, name)]
    found = DerivedRows(cells=dict.fromkeys(names, 0))
    at_a_time = HASHES_AT_A_TIME // (1 + len(names)) + 1
    parts = max(-(-max(live.count(), staged.count()) // at_a_time), 1)
    for part in range(parts):
        sides = [_hashed(table, staged, key, names, (part, parts)) for table in (live, staged)]
        _add(found, names, *sides)
    found.nulls = live.count() - found.repeated - found.live_keys
    found.gone += found.repeated + found.nulls
    found.not_compared = {
        name: _why_not_compared(live, staged, name)
        for name in live.columns.names
        if name not in names and name not in key
    }
    return found


def _why_not_compared(live: Table, staged: Table, name: str) -> str:
    if name not in staged.columns.names:
        return "dropped"
    ours, theirs = live.columns.field(name), staged.columns.field(name)
    return "blob" if is_blob(ours) or is_blob(theirs) else f"{ours.type} became {theirs.type}"


def _add(found: DerivedRows, names: list[str], live: list[Hashes], staged: list[Hashes]) -> None:
    ours, at_ours = np.unique(live[0], return_index=True)
    theirs, at_theirs = np.unique(staged[0], return_index=True)
    common, left, right = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    found.kept += len(common)
    found.live_keys += len(ours)
    found.repeated += len(live[0]) - len(ours)
    found.new += len(theirs) - len(common)
    found.gone += len(ours) - len(common)
    if not len(found.gone_example):
        found.gone_example = np.setdiff1d(ours, common, assume_unique=True)[:1]
    changed = np.zeros(len(common), np.bool_)
    for name, our_cells, their_cells in zip(names, live[1:], staged[1:], strict=True):
        differs = our_cells[at_ours[left]] != their_cells[at_theirs[right]]
        found.cells[name] += int(differs.sum())
        changed |= differs
    found.changed += int(changed.sum())
    if not len(found.changed_example):
        found.changed_example = common[changed][:1]


def _hashed(
    table: Table, like: Table, key: tuple[str, ...], names: list[str], which: tuple[int, int]
) -> list[Hashes]:
    """The hashes of the keys of one part of the rows, and of the values of each column."""
    part, parts = which
    columns: list[list[Hashes]] = [[np.zeros(0, np.uint64)] for _ in range(1 + len(names))]
    for batch in table.batches([*key, *names], batch_size=MANY // 4):
        rows = _cast(batch, like)
        positions, keys = hashed_keys(rows, key)
        mine = keys % np.uint64(parts) == part
        columns[0].append(keys[mine])
        at = positions[mine]
        for number, name in enumerate(names, 1):
            columns[number].append(hash_values(rows.column(name))[at])
    return [np.concatenate(each) for each in columns]


def _cast(batch: pa.RecordBatch, like: Table) -> pa.RecordBatch:
    """The batch with the column types of the derived table."""
    names = batch.schema.names
    types = [like.columns.field(name).type for name in names]
    arrays = [
        array if array.type == of else array.cast(of) for array, of in zip(batch.columns, types, strict=True)
    ]
    return pa.record_batch(arrays, names=names)


def _alike(live: Table, staged: Table, name: str) -> bool:
    """Whether both tables have the column, in types that are compared after a cast."""
    if name not in live.columns.names:
        return False
    ours, theirs = live.columns.field(name), staged.columns.field(name)
    if is_blob(ours) or is_blob(theirs):
        return False
    if ours.type == theirs.type:
        return True
    kinds = (pa.types.is_integer, _is_text, pa.types.is_floating, pa.types.is_timestamp)
    return any(kind(ours.type) and kind(theirs.type) for kind in kinds) and _widens(ours.type, theirs.type)


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of))


def _widens(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether every value of one type has a value of the other."""
    if pa.types.is_integer(old):
        return bool(pa.types.is_signed_integer(old) == pa.types.is_signed_integer(new)) and (
            old.bit_width <= new.bit_width
        )
    return _is_text(old) or bool(pa.types.is_floating(old) and old.bit_width <= new.bit_width)


def _example(table: Table, key: tuple[str, ...], wanted: Hashes) -> str:
    for batch in table.batches(list(key), batch_size=MANY):
        positions, keys = hashed_keys(batch, key)
        at = positions[np.isin(keys, wanted)]
        if len(at):
            return format_key(pa.Table.from_batches([batch]), key, int(at[0]))
    return "?"
