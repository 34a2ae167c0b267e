"""The gate of columns that the migration changes: rows of the live table go the same way once more.

A sample of them, the same for the same run, and all whose value became null. Rows are found again by their
key; of a table without one, they must be among the staged rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.effects.replay import columns_needed, replay_rows
from lancemig.apply.rows.upserts import existing
from lancemig.apply.rows.values import distinct
from lancemig.apply.verify.pairs import TablePair
from lancemig.catalog.checks import Tolerance
from lancemig.catalog.hashes import Checksum, Hashes, checksum, hash_rows, hash_values
from lancemig.catalog.keys import Positions, format_key, format_value, matches
from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import count_text
from lancemig.store.lance import MANY, Table, quoted

Agreeing = np.ndarray[Any, np.dtype[np.bool_]]


def within_tolerance(
    wanted: pa.Array, found: pa.Array, tolerances: Sequence[Tolerance]
) -> tuple[Agreeing, str | None]:
    """Where two arrays agree, and the tolerance that was needed, if one was."""
    # A cast to the same type fails for a null struct with a field that may not be null.
    there = found if found.type == wanted.type else found.cast(wanted.type)
    agree = ~distinct(wanted, there).to_numpy(zero_copy_only=False)
    for tolerance in tolerances:
        if agree.all() or (tolerance.relative is None and tolerance.absolute is None):
            continue
        near = _near(wanted, found, tolerance)
        if near is not None and (near & ~agree).any():
            return agree | near, tolerance.describe()
    return agree, None


def _near(wanted: pa.Array, found: pa.Array, tolerance: Tolerance) -> Agreeing | None:
    """Where numbers differ by no more than is tolerated; of vectors, all of their items."""
    of = wanted.type
    if pa.types.is_fixed_size_list(of) and _number(of.value_type):
        both = pc.and_(wanted.is_valid(), found.is_valid()).to_numpy(zero_copy_only=False)
        size = of.list_size
        items = [_items(side, size) for side in (wanted, found)]
        near: Agreeing = _close(items[0], items[1], tolerance).all(axis=1) & both
        return near
    if not _number(of):
        return None
    left, right = (
        array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for array in (wanted, found)
    )
    both = pc.and_(wanted.is_valid(), found.is_valid()).to_numpy(zero_copy_only=False)
    close: Agreeing = _close(left, right, tolerance) & both
    return close


def _items(array: pa.Array, size: int) -> Any:
    values = array.values.slice(array.offset * size, len(array) * size)
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, size)


def _number(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of))


def _close(left: Any, right: Any, tolerance: Tolerance) -> Any:
    return np.isclose(
        right, left, rtol=tolerance.relative or 0.0, atol=tolerance.absolute or 0.0, equal_nan=True
    )


@dataclass
class ColumnRecompute:
    """What came of computing one column again."""

    rows: int = 0
    nulls: int = 0
    wrong: int = 0
    example: str = ""
    tolerance: str | None = None

    @property
    def untried(self) -> bool:
        """Whether no row was compared, but for nulls that were added up."""
        return not (self.rows or self.wrong)


def sample_positions(pair: TablePair, table: Table) -> list[int]:
    """The places of the rows that are drawn from a table: for one run, always the same."""
    text = f"{pair.inputs.seed}/{table.name}"
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    count = table.count()
    picked = random.choice(count, size=min(pair.inputs.sample, count), replace=False, shuffle=False)
    return sorted(int(place) for place in picked)


def narrow(pair: TablePair) -> TableSchema:
    """The live table with its key and the columns that the operations need; wide columns may be left out."""
    used = {*(pair.old_key or {}).values(), *pair.start.key, *pair.key}
    used |= columns_needed(pair.path, pair.start)
    fields = [field for field in pair.start.columns if field.name in used]
    start = pair.start.with_columns(fields or list(pair.start.columns)[:1])
    return start.model_copy(update={"indices": ()})


@dataclass(frozen=True)
class ReplayedRows:
    """Rows that went the way again; `lost` says which are not there, or are though they should have gone."""

    rows: pa.Table
    lost: str | None


def compare_replayed(
    pair: TablePair, start: TableSchema, rows: pa.Table, found: dict[str, ColumnRecompute]
) -> ReplayedRows | None:
    """Send rows the way again, and compare their columns in `found` with the staged ones."""
    if not rows.num_rows:
        return None
    wanted = replay_rows(pair.path, start, rows)
    key = list(pair.key)
    there = existing(pair.staged, wanted, key, [*key, *found])
    at = matches(wanted, there, key)
    pairs = wanted.filter(pa.array(at >= 0)), there.take(pa.array(at[at >= 0]))
    for name, one in found.items():
        old, new = (whole(rows.column(name)) for rows in pairs)
        agree, tolerance = within_tolerance(old, new, pair.tolerances(name))
        wrong = np.flatnonzero(~agree)
        one.tolerance = one.tolerance or tolerance
        one.rows += len(agree)
        one.wrong += len(wrong)
        if len(wrong) and not one.example:
            place = int(wrong[0])
            one.example = (
                f"{format_key(pairs[0], key, place)}: first run {format_value(new[place])}, second run "
                f"{format_value(old[place])}"
            )
    return ReplayedRows(wanted, _lost(pair, rows, wanted, at))


def origins(pair: TablePair, start: TableSchema, keys: pa.Table) -> pa.Table | None:
    """The live rows that staged rows with these keys come from; None where no key leads there."""
    names = pair.looked_up
    if names is None:
        return None
    old = pa.table(
        {old: keys.column(new).cast(pair.live.columns.field(old).type) for new, old in names.items()}
    )
    return existing(pair.live, old, list(names.values()), start.columns.names).select(start.columns.names)


def _lost(pair: TablePair, rows: pa.Table, wanted: pa.Table, at: Positions) -> str | None:
    """Rows that should be there and are not, and rows that should have gone and have not."""
    missing = wanted.filter(pa.array(at < 0))
    if missing.num_rows:
        example = format_key(missing, list(pair.key), 0)
        return f"{count_text(missing.num_rows, 'recomputed row')} missing, for example {example}"
    if pair.old_key is None or pair.path.keeps_rows or wanted.num_rows >= rows.num_rows:
        return None
    names = list(pair.old_key.items())
    keys = pa.table({new: rows.column(old).cast(wanted.schema.field(new).type) for new, old in names})
    gone = keys.filter(pa.array(matches(keys, wanted, list(pair.key)) < 0))
    stayed = existing(pair.staged, gone, list(pair.key), list(pair.key))
    if not stayed.num_rows:
        return None
    return (
        f"{count_text(stayed.num_rows, 'row')} not deleted by the migration as expected, for example "
        f"{format_key(stayed, list(pair.key), 0)}"
    )


def row_hashes(rows: pa.Table, columns: Sequence[str]) -> Hashes:
    """A hash of each row, by these columns."""
    return hash_rows([hash_values(whole(rows.column(name))) for name in columns], rows.num_rows)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


LOOKED_UP = 4 * MANY
"""How many are looked up at once; more are compared by their sum, where no row comes from elsewhere."""


def nulls_again(
    pair: TablePair, start: TableSchema, found: dict[str, ColumnRecompute], told_by: Sequence[str]
) -> None:
    """Compute the nulls of the columns of `found` again; rows are told by the columns `told_by`.

    Columns that a Python function gave are left out, for asking may take as long as it took, and those that
    are null by declaration.
    """
    names = [n for n in found if n not in pair.lineage.by_function and n not in pair.lineage.null]
    counts = {name: pair.staged.count(f"{quoted(name)} is null") for name in names}
    followed = not pair.path.adds_rows
    many = [name for name, count in counts.items() if count and _by_sum(pair, count, followed)]
    for name in (name for name, count in counts.items() if count and name not in many):
        if pair.looked_up is not None:
            for keys in _null_keys(pair, name):
                _looked_up(pair, start, keys, {name: found[name]})
    if many and followed:
        _summed(pair, start, {name: found[name] for name in many}, told_by)


def _by_sum(pair: TablePair, count: int, followed: bool) -> bool:
    return followed and (count > LOOKED_UP or pair.looked_up is None)


def _null_keys(pair: TablePair, name: str) -> Iterator[pa.Table]:
    """The keys of the staged rows in which the column is null, many at once."""
    waiting: list[pa.RecordBatch] = []
    order = [column for column in pair.staged.columns.names if column in pair.key]
    for batch in pair.staged.batches(order, f"{quoted(name)} is null"):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= LOOKED_UP:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _looked_up(
    pair: TablePair, start: TableSchema, keys: pa.Table, found: dict[str, ColumnRecompute]
) -> None:
    rows = origins(pair, start, keys)
    wanted = None if rows is None else compare_replayed(pair, start, rows, found)
    for one in found.values():
        if wanted is not None:
            one.nulls += int((matches(keys, wanted.rows, list(pair.key)) >= 0).sum())


def _summed(
    pair: TablePair, start: TableSchema, found: dict[str, ColumnRecompute], told_by: Sequence[str]
) -> None:
    """Let all live rows go the way again: the rows that are null then are those that are null."""
    wanted = dict.fromkeys(found, Checksum())
    for rows in _live(pair, start):
        again = replay_rows(pair.path, start, rows)
        for name in found:
            null = again.filter(whole(again.column(name)).is_null())
            wanted[name] += checksum(row_hashes(null, told_by))
    for name, one in found.items():
        there = Checksum()
        order = [column for column in pair.staged.columns.names if column in told_by]
        for batch in pair.staged.batches(order, f"{quoted(name)} is null"):
            one.nulls += batch.num_rows
            there += checksum(row_hashes(pa.Table.from_batches([batch]), told_by))
        if there != wanted[name]:
            one.wrong += 1
            one.example = one.example or "other rows are null than expected"


def _live(pair: TablePair, start: TableSchema) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in pair.live.batches(start.columns.names):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= MANY:
            yield pa.Table.from_batches(waiting).cast(start.columns)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).cast(start.columns)


Counts = np.ndarray[Any, np.dtype[np.int64]]


def recomputed_gate(pair: TablePair) -> Iterator[GateOutcome]:
    """Each changed column, computed again; or why it was not."""
    names = [name for name in pair.staged.columns.names if name in pair.lineage.changed]
    if not names and pair.path.keeps_rows:
        return
    why = _impossible(pair)
    if why is not None:
        yield from [_declared(pair, name, why) for name in names] or [
            GateOutcome(gate="recomputed", table=pair.name, ok=True, way="not compared", detail=why)
        ]
        return
    allowed = {name for name in names if all(one.recompute for one in pair.tolerances(name))}
    for name in (name for name in names if name not in allowed):
        why = "the migration excludes it from recomputation"
        yield _declared(pair, name, why).model_copy(update={"tolerance": "recompute=False"})
    names = [name for name in names if name in allowed]
    if names or not pair.path.keeps_rows:
        yield from (_by_key if pair.key else _by_content)(pair, names)


def _impossible(pair: TablePair) -> str | None:
    if pair.path.restores_rows:
        return "a step restores earlier values, which cannot be recomputed"
    if pair.blobs:
        return "the table has Lance blobs, which cannot be recomputed"
    return None


def _declared(pair: TablePair, name: str, why: str) -> GateOutcome:
    return GateOutcome(
        gate="recomputed",
        table=pair.name,
        column=name,
        ok=True,
        way="not compared",
        declared=True,
        detail=why,
    )


def _none_drawn(pair: TablePair, name: str, drawn_rows: int, nulls: int) -> GateOutcome | None:
    """Why no value of the column was computed again, but for `nulls`; None where there is no other value.

    It is declared where lancemig.ini lets no row be drawn, or the migration decides which rows there are.
    Where each live row is a staged one, it is neither.
    """
    if not pair.staged.count(f"{quoted(name)} is not null" if nulls or name in pair.lineage.null else None):
        return None
    also = f"; {count_text(nulls, 'null')}, computed again: all equal" if nulls else ""
    if pair.inputs.sample == 0:
        return _declared(pair, name, f"no row is drawn: verify_sample is 0 in lancemig.ini{also}")
    why = (
        f"of {count_text(drawn_rows, 'row')} drawn none is there in the end: the migration decides which are"
    )
    return _declared(pair, name, why + also).model_copy(update={"declared": not pair.path.keeps_rows})


def _sample(pair: TablePair, start: TableSchema) -> pa.Table:
    places = sample_positions(pair, pair.live)
    return pair.live.take(places, start.columns.names).cast(start.columns)


def _by_key(pair: TablePair, names: Sequence[str]) -> Iterator[GateOutcome]:
    begun = perf_counter()
    start = narrow(pair)
    rows = _sample(pair, start)
    found = {name: ColumnRecompute() for name in names}
    sent = compare_replayed(pair, start, rows, found)
    if sent is not None and sent.lost:
        yield GateOutcome(gate="recomputed", table=pair.name, ok=False, way="sample", detail=sent.lost)
    elif not names:
        detail = f"{count_text(rows.num_rows, 'row')} recomputed: all present or deleted as expected"
        yield GateOutcome(
            gate="recomputed", table=pair.name, ok=True, way="sample", rows=rows.num_rows, detail=detail
        )
    nulls_again(pair, start, found, pair.key)
    _from_the_end(pair, start, {name: one for name, one in found.items() if one.untried})
    yield from _told(pair, found, rows.num_rows, round(perf_counter() - begun, 3))


def _from_the_end(pair: TablePair, start: TableSchema, found: dict[str, ColumnRecompute]) -> None:
    """Compare columns of which no drawn row was left: rows of the staged table, and what they come from."""
    if not found or not pair.inputs.sample or pair.looked_up is None:
        return
    order = [name for name in pair.staged.columns.names if name in pair.key]
    rows = origins(pair, start, pair.staged.take(sample_positions(pair, pair.staged), order))
    if rows is not None:
        compare_replayed(pair, start, rows, found)


def _told(
    pair: TablePair, found: dict[str, ColumnRecompute], sample: int, seconds: float
) -> Iterator[GateOutcome]:
    for name, one in found.items():
        # With a sample of none, what was compared are nulls that were looked up.
        untried = one.untried or (not pair.inputs.sample and not one.wrong)
        unknown = _none_drawn(pair, name, sample, one.nulls) if untried else None
        if unknown is not None:
            yield unknown
            continue
        nulls = f" and {one.nulls:,} null" if one.nulls else ""
        detail = f"{count_text(sample, 'row')} sampled{nulls}, recomputed: "
        if one.wrong:
            detail += (
                f"{count_text(one.wrong, 'row')} {'differs' if one.wrong == 1 else 'differ'}, for example "
            )
        detail += one.example if one.wrong else "all equal"
        yield GateOutcome(
            gate="recomputed", table=pair.name, column=name, ok=not one.wrong, way="sample", rows=one.rows,
            tolerance=one.tolerance, detail=detail, seconds=seconds,
        )  # fmt: skip
    for name in (name for name in found if name in pair.lineage.null):
        filled = pair.staged.count(f"{quoted(name)} is not null")
        if filled:
            detail = f"{count_text(filled, 'row')} not null, although the migration gives no value"
            yield GateOutcome(gate="recomputed", table=pair.name, column=name, ok=False, detail=detail)


def _by_content(pair: TablePair, names: Sequence[str]) -> Iterator[GateOutcome]:
    """Rows without a key, computed again, must be among the staged ones, as often as they are computed."""
    begun = perf_counter()
    start = narrow(pair)
    rows = _sample(pair, start)
    loose = [name for name in names if any(t.relative or t.absolute for t in pair.tolerances(name))]
    for name in loose:
        why = "a tolerance requires a key to compare values by, and the table has none"
        given = next(t.describe() for t in pair.tolerances(name) if t.relative or t.absolute)
        yield _declared(pair, name, why).model_copy(update={"tolerance": given})
    wanted = replay_rows(pair.path, start, rows) if rows.num_rows else rows
    left_out = {*loose, *(set(pair.lineage.changed) - set(names))}
    columns = [name for name in sorted(_sent(pair, start)) if name not in left_out]
    found = {name: ColumnRecompute() for name in names if name not in loose}
    lost = _missing_rows(pair, wanted, columns) if rows.num_rows else None
    yield GateOutcome(
        gate="recomputed", table=pair.name, ok=not lost, way="sample", rows=rows.num_rows,
        detail=lost or f"{count_text(rows.num_rows, 'row')} sampled, recomputed: all present",
        seconds=round(perf_counter() - begun, 3),
    )  # fmt: skip
    nulls_again(pair, start, found, columns)
    for name, one in found.items():
        untried = None if wanted.num_rows or one.wrong else _none_drawn(pair, name, rows.num_rows, one.nulls)
        if untried is not None:
            yield untried
        elif one.nulls or one.wrong:
            detail = one.example or f"{count_text(one.nulls, 'null')}, recomputed: all equal"
            yield GateOutcome(
                gate="recomputed", table=pair.name, column=name, ok=not one.wrong, rows=one.nulls,
                way="checksum", detail=detail, seconds=round(perf_counter() - begun, 3),
            )  # fmt: skip
        elif not lost:
            drawn_rows = count_text(wanted.num_rows, "row")
            yield GateOutcome(
                gate="recomputed", table=pair.name, column=name, ok=True, rows=wanted.num_rows, way="sample",
                detail=f"{drawn_rows} computed again, as part of the whole rows: all equal",
            )  # fmt: skip


def _sent(pair: TablePair, start: TableSchema) -> list[str]:
    """The columns, in the end, of what is sent the way again."""
    old = set(start.columns.names)
    names = {name for name, before in pair.lineage.kept.items() if before in old} | {*pair.lineage.changed}
    return [name for name in pair.staged.columns.names if name in names]


def _missing_rows(pair: TablePair, wanted: pa.Table, columns: Sequence[str]) -> str | None:
    """The rows that are not there as often as they should be."""
    hashes = row_hashes(wanted, columns)
    told, needed = np.unique(hashes, return_counts=True)
    missing = needed - _seen(pair, columns, told) if len(told) else needed
    if not (missing > 0).any():
        return None
    first = int(np.flatnonzero(hashes == told[np.flatnonzero(missing > 0)[0]])[0])
    return (
        f"{count_text(int(np.maximum(missing, 0).sum()), 'recomputed row')} missing, for example "
        f"{format_key(wanted, columns, first)}"
    )


def _seen(pair: TablePair, columns: Sequence[str], told: Hashes) -> Counts:
    """How often each of these rows is there."""
    seen = np.zeros(len(told), dtype=np.int64)
    order = [name for name in pair.staged.columns.names if name in columns]
    for batch in pair.staged.batches(order):
        mine = row_hashes(pa.Table.from_batches([batch]), columns)
        at = np.minimum(np.searchsorted(told, mine), len(told) - 1)
        seen += np.bincount(at[told[at] == mine], minlength=len(told))
    return seen
