"""The recomputed gate: columns that the migration changes are computed again and compared.

A sample of the live rows, the same for the same run, and all rows in which the column is null go through the
operations a second time. Staged rows are found by their key; without a key, by their whole content.
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
from lancemig.apply.verify.repeats import repeat_keys, without_repeats
from lancemig.apply.verify.tolerance import given_by_function, nondeterminism_text, within_tolerance
from lancemig.catalog.hashes import Checksum, Hashes, checksum, hash_rows, hash_values
from lancemig.catalog.keys import Positions, format_key, format_value, matches
from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import count_text
from lancemig.store.lance import MANY, Table, quoted


@dataclass
class ColumnRecompute:
    """The result of computing one column again."""

    rows: int = 0
    """Rows that were compared."""

    nulls: int = 0
    """Null values that were computed again."""

    wrong: int = 0
    """Rows that differ."""

    example: str = ""
    """One of the rows that differ, as text."""

    tolerance: str | None = None
    """The tolerance without which a row would differ."""

    cause: str = ""
    """Why rows differ, in words, if that is known."""

    @property
    def untried(self) -> bool:
        """Whether no row was compared, apart from nulls by checksum."""
        return not (self.rows or self.wrong)


def sample_positions(pair: TablePair, table: Table) -> list[int]:
    """The positions of the sampled rows of a table; for one run always the same."""
    text = f"{pair.inputs.seed}/{table.name}"
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    count = table.count()
    picked = random.choice(count, size=min(pair.inputs.sample, count), replace=False, shuffle=False)
    return sorted(int(place) for place in picked)


def narrow(pair: TablePair) -> TableSchema:
    """The live table's schema with its key and the columns that the operations need.

    Wide columns that no operation needs, such as vectors, are not read.
    """
    used = {*(pair.old_key or {}).values(), *pair.start.key, *pair.key}
    used |= columns_needed(pair.path, pair.start)
    used |= {name for key in repeat_keys(pair) or () for name in key}
    fields = [field for field in pair.start.columns if field.name in used]
    start = pair.start.with_columns(fields or list(pair.start.columns)[:1])
    return start.model_copy(update={"indices": ()})


@dataclass(frozen=True)
class ReplayedRows:
    """Rows that went through the operations a second time."""

    rows: pa.Table

    difference: str | None
    """Which rows are missing in the staged table, or not deleted from it, in words; None if none."""


def compare_replayed(
    pair: TablePair, start: TableSchema, rows: pa.Table, results: dict[str, ColumnRecompute]
) -> ReplayedRows | None:
    """Replay live rows, and compare the columns of `results` with the staged rows of the same key.

    Adds the results to `results`. None where there are no rows.
    """
    if not rows.num_rows:
        return None
    wanted = replay_rows(pair.path, start, rows)
    key = list(pair.key)
    there = existing(pair.staged, wanted, key, [*key, *results])
    at = matches(wanted, there, key)
    pairs = wanted.filter(pa.array(at >= 0)), there.take(pa.array(at[at >= 0]))
    for name, result in results.items():
        old, new = (as_array(rows.column(name)) for rows in pairs)
        agree, tolerance = within_tolerance(old, new, pair.tolerances(name))
        wrong = np.flatnonzero(~agree)
        result.tolerance = result.tolerance or tolerance
        result.rows += len(agree)
        result.wrong += len(wrong)
        if len(wrong) and not result.example:
            place = int(wrong[0])
            result.example = (
                f"{format_key(pairs[0], key, place)}: first run {format_value(new[place])}, second run "
                f"{format_value(old[place])}"
            )
    return ReplayedRows(wanted, _rows_text(pair, rows, wanted, at))


def live_rows_of(pair: TablePair, start: TableSchema, keys: pa.Table) -> pa.Table | None:
    """The live rows that staged rows with these keys come from; None where keys do not identify them."""
    names = pair.looked_up
    if names is None:
        return None
    old = pa.table(
        {old: keys.column(new).cast(pair.live.columns.field(old).type) for new, old in names.items()}
    )
    rows = existing(pair.live, old, list(names.values()), start.columns.names).select(start.columns.names)
    return without_repeats(pair, rows)


def _rows_text(pair: TablePair, rows: pa.Table, wanted: pa.Table, at: Positions) -> str | None:
    """The rows that are missing, or that should be deleted and are not, in words; None if none."""
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
    """A hash of each row over these columns."""
    return hash_rows([hash_values(as_array(rows.column(name))) for name in columns], rows.num_rows)


def sums_of(rows: pa.Table, column: str) -> Checksum:
    """The checksum of a column's values, in any order."""
    return checksum(row_hashes(rows, [column]))


def as_array(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


KEYS_AT_ONCE = 4 * MANY
"""How many keys are looked up at once. More nulls are compared by checksum, if no operation inserts rows."""


def recompute_nulls(
    pair: TablePair, start: TableSchema, results: dict[str, ColumnRecompute], identity: Sequence[str]
) -> None:
    """Compute all nulls of the columns in `results` again, and add the results.

    Left out are columns with values from a Python function, because calling it for all rows may take as long
    as the migration, and columns that are added with null.

    Args:
        pair: the two tables.
        start: the live columns that are read.
        results: the results by column.
        identity: the staged columns that identify a row.
    """
    names = [n for n in results if n not in pair.lineage.by_function and n not in pair.lineage.null]
    counts = {name: pair.staged.count(f"{quoted(name)} is null") for name in names}
    followed = not (pair.path.adds_rows or pair.path.compares_rows)
    many = [name for name, count in counts.items() if count and _is_compared_by_sum(pair, count, followed)]
    for name in (name for name, count in counts.items() if count and name not in many):
        if pair.looked_up is not None:
            for keys in _null_keys(pair, name):
                _compare_null_keys(pair, start, keys, {name: results[name]})
    if many and followed:
        _compare_null_sums(pair, start, {name: results[name] for name in many}, identity)


def _is_compared_by_sum(pair: TablePair, count: int, followed: bool) -> bool:
    return followed and (count > KEYS_AT_ONCE or pair.looked_up is None)


def _null_keys(pair: TablePair, name: str) -> Iterator[pa.Table]:
    """The keys of the staged rows in which the column is null, in large tables of rows."""
    waiting: list[pa.RecordBatch] = []
    order = [column for column in pair.staged.columns.names if column in pair.key]
    for batch in pair.staged.batches(order, f"{quoted(name)} is null"):
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) >= KEYS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _compare_null_keys(
    pair: TablePair, start: TableSchema, keys: pa.Table, results: dict[str, ColumnRecompute]
) -> None:
    rows = live_rows_of(pair, start, keys)
    wanted = None if rows is None else compare_replayed(pair, start, rows, results)
    for result in results.values():
        if wanted is not None:
            result.nulls += int((matches(keys, wanted.rows, list(pair.key)) >= 0).sum())


def _compare_null_sums(
    pair: TablePair, start: TableSchema, results: dict[str, ColumnRecompute], identity: Sequence[str]
) -> None:
    """Replay all live rows: the same rows are null afterwards as in the staged table, by checksum."""
    wanted = dict.fromkeys(results, Checksum())
    for rows in _live_rows(pair, start):
        again = replay_rows(pair.path, start, rows)
        for name in results:
            null = again.filter(as_array(again.column(name)).is_null())
            wanted[name] += checksum(row_hashes(null, identity))
    for name, result in results.items():
        there = Checksum()
        order = [column for column in pair.staged.columns.names if column in identity]
        for batch in pair.staged.batches(order, f"{quoted(name)} is null"):
            result.nulls += batch.num_rows
            there += checksum(row_hashes(pa.Table.from_batches([batch]), identity))
        if there != wanted[name]:
            result.wrong += 1
            result.example = result.example or "other rows are null than expected"


def _live_rows(pair: TablePair, start: TableSchema) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in pair.live.batches(start.columns.names):
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) >= MANY:
            yield pa.Table.from_batches(waiting).cast(start.columns)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).cast(start.columns)


Counts = np.ndarray[Any, np.dtype[np.int64]]


def recomputed_gate(pair: TablePair) -> Iterator[GateOutcome]:
    """Each changed column equals what is computed again, or is not compared for a reason that is given."""
    names = [name for name in pair.staged.columns.names if name in pair.lineage.changed]
    if not names and pair.path.keeps_rows:
        return
    why = _not_recomputable(pair)
    if why is not None:
        yield from [_declared(pair, name, why) for name in names] or [
            GateOutcome(gate="recomputed", table=pair.name, ok=True, way="not compared", detail=why)
        ]
        return
    allowed = {name for name in names if all(tolerance.recompute for tolerance in pair.tolerances(name))}
    for name in (name for name in names if name not in allowed):
        why = "the migration excludes it from recomputation"
        yield _declared(pair, name, why).model_copy(update={"tolerance": "recompute=False"})
    names = [name for name in names if name in allowed]
    if names or not pair.path.keeps_rows:
        yield from (_by_key if pair.key else _by_content)(pair, names)


def _not_recomputable(pair: TablePair) -> str | None:
    if pair.path.restores_rows:
        return "a step restores earlier values, which cannot be recomputed"
    if pair.path.compares_rows and repeat_keys(pair) is None:
        return "the migration deletes rows with a repeated key, and computes this key"
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


def _untried_outcome(pair: TablePair, name: str, sampled: int, nulls: int) -> GateOutcome | None:
    """The outcome of a column of which only nulls were computed again; None where it has no other values.

    The reason counts as declared if `verify_sample` is 0, or if the migration decides which rows stay. If
    each live row is a staged row, there is no excuse.
    """
    if not pair.staged.count(f"{quoted(name)} is not null" if nulls or name in pair.lineage.null else None):
        return None
    also = f"; {count_text(nulls, 'null')}, computed again: all equal" if nulls else ""
    if pair.inputs.sample == 0:
        return _declared(pair, name, f"no row is drawn: verify_sample is 0 in lancemig.ini{also}")
    why = f"of {count_text(sampled, 'row')} drawn none is there in the end: the migration decides which are"
    return _declared(pair, name, why + also).model_copy(update={"declared": not pair.path.keeps_rows})


def _sample(pair: TablePair, start: TableSchema) -> pa.Table:
    places = sample_positions(pair, pair.live)
    return without_repeats(pair, pair.live.take(places, start.columns.names).cast(start.columns))


def _by_key(pair: TablePair, names: Sequence[str]) -> Iterator[GateOutcome]:
    started = perf_counter()
    start = narrow(pair)
    rows = _sample(pair, start)
    results = {name: ColumnRecompute() for name in names}
    sent = compare_replayed(pair, start, rows, results)
    if sent is not None and sent.difference:
        yield GateOutcome(gate="recomputed", table=pair.name, ok=False, way="sample", detail=sent.difference)
    elif not names:
        detail = f"{count_text(rows.num_rows, 'row')} recomputed: all present or deleted as expected"
        yield GateOutcome(
            gate="recomputed", table=pair.name, ok=True, way="sample", rows=rows.num_rows, detail=detail
        )
    if sent is not None and any(
        given_by_function(pair, name) and each.wrong for name, each in results.items()
    ):
        _name_nondeterminism(pair, start, rows, sent.rows, results)
    recompute_nulls(pair, start, results, pair.key)
    _compare_origins(pair, start, {name: result for name, result in results.items() if result.untried})
    yield from _outcomes(pair, results, rows.num_rows, round(perf_counter() - started, 3))


def _name_nondeterminism(
    pair: TablePair, start: TableSchema, rows: pa.Table, second: pa.Table, results: dict[str, ColumnRecompute]
) -> None:
    """Say of columns that differ whether a third run of the function differs from the second one as well."""
    third = replay_rows(pair.path, start, rows)
    at = matches(second, third, list(pair.key))
    here, there = second.filter(pa.array(at >= 0)), third.take(pa.array(at[at >= 0]))
    for name, result in results.items():
        if not result.wrong or not given_by_function(pair, name):
            continue
        differs = distinct(as_array(here.column(name)), as_array(there.column(name)))
        result.cause = nondeterminism_text(pair.name, name) if pc.any(differs).as_py() else ""


def _compare_origins(pair: TablePair, start: TableSchema, results: dict[str, ColumnRecompute]) -> None:
    """Compare columns that no sampled live row reached: sample staged rows, and replay their live rows."""
    if not results or not pair.inputs.sample or pair.looked_up is None:
        return
    order = [name for name in pair.staged.columns.names if name in pair.key]
    rows = live_rows_of(pair, start, pair.staged.take(sample_positions(pair, pair.staged), order))
    if rows is not None:
        compare_replayed(pair, start, rows, results)


def _outcomes(
    pair: TablePair, results: dict[str, ColumnRecompute], sample: int, seconds: float
) -> Iterator[GateOutcome]:
    for name, result in results.items():
        # With a sample of none, what was compared are nulls that were looked up.
        untried = result.untried or (not pair.inputs.sample and not result.wrong)
        unknown = _untried_outcome(pair, name, sample, result.nulls) if untried else None
        if unknown is not None:
            yield unknown
            continue
        nulls = f" and {result.nulls:,} null" if result.nulls else ""
        detail = f"{count_text(sample, 'row')} sampled{nulls}, recomputed: "
        if result.wrong:
            verb = "differs" if result.wrong == 1 else "differ"
            detail += f"{count_text(result.wrong, 'row')} {verb}, for example "
        detail += result.example if result.wrong else "all equal"
        detail += f"; {result.cause}" if result.wrong and result.cause else ""
        yield GateOutcome(
            gate="recomputed", table=pair.name, column=name, ok=not result.wrong, way="sample",
            rows=result.rows, tolerance=result.tolerance, detail=detail, seconds=seconds,
        )  # fmt: skip
    for name in (name for name in results if name in pair.lineage.null):
        filled = pair.staged.count(f"{quoted(name)} is not null")
        if filled:
            detail = f"{count_text(filled, 'row')} not null, although the migration gives no value"
            yield GateOutcome(gate="recomputed", table=pair.name, column=name, ok=False, detail=detail)


def _by_content(pair: TablePair, names: Sequence[str]) -> Iterator[GateOutcome]:
    """Replay rows of a table without a key: each is among the staged rows, as often as it is computed."""
    started = perf_counter()
    start = narrow(pair)
    rows = _sample(pair, start)
    loose = [name for name in names if any(t.relative or t.absolute for t in pair.tolerances(name))]
    for name in loose:
        why = "a tolerance requires a key to compare values by, and the table has none"
        given = next(t.describe() for t in pair.tolerances(name) if t.relative or t.absolute)
        yield _declared(pair, name, why).model_copy(update={"tolerance": given})
    wanted = replay_rows(pair.path, start, rows) if rows.num_rows else rows
    left_out = {*loose, *(set(pair.lineage.changed) - set(names))}
    columns = [name for name in sorted(_replayed_columns(pair, start)) if name not in left_out]
    results = {name: ColumnRecompute() for name in names if name not in loose}
    lost = _missing_rows(pair, wanted, columns) if rows.num_rows else None
    if lost and any(given_by_function(pair, name) for name in results):
        again = replay_rows(pair.path, start, rows)
        unlike = [name for name in results if sums_of(wanted, name) != sums_of(again, name)]
        lost += f"; {nondeterminism_text(pair.name, unlike[0])}" if unlike else ""
    yield GateOutcome(
        gate="recomputed", table=pair.name, ok=not lost, way="sample", rows=rows.num_rows,
        detail=lost or f"{count_text(rows.num_rows, 'row')} sampled, recomputed: all present",
        seconds=round(perf_counter() - started, 3),
    )  # fmt: skip
    recompute_nulls(pair, start, results, columns)
    for name, result in results.items():
        untried = (
            None
            if wanted.num_rows or result.wrong
            else _untried_outcome(pair, name, rows.num_rows, result.nulls)
        )
        if untried is not None:
            yield untried
        elif result.nulls or result.wrong:
            detail = result.example or f"{count_text(result.nulls, 'null')}, recomputed: all equal"
            yield GateOutcome(
                gate="recomputed", table=pair.name, column=name, ok=not result.wrong, rows=result.nulls,
                way="checksum", detail=detail, seconds=round(perf_counter() - started, 3),
            )  # fmt: skip
        elif not lost:
            sampled = count_text(wanted.num_rows, "row")
            yield GateOutcome(
                gate="recomputed", table=pair.name, column=name, ok=True, rows=wanted.num_rows, way="sample",
                detail=f"{sampled} computed again, as part of the whole rows: all equal",
            )  # fmt: skip


def _replayed_columns(pair: TablePair, start: TableSchema) -> list[str]:
    """The staged columns that replayed rows have."""
    old = set(start.columns.names)
    names = {name for name, before in pair.lineage.kept.items() if before in old} | {*pair.lineage.changed}
    return [name for name in pair.staged.columns.names if name in names]


def _missing_rows(pair: TablePair, wanted: pa.Table, columns: Sequence[str]) -> str | None:
    """The rows that the staged table does not have as often as computed, in words; None if none."""
    hashes = row_hashes(wanted, columns)
    distinct_hashes, needed = np.unique(hashes, return_counts=True)
    missing = needed - _row_counts(pair, columns, distinct_hashes) if len(distinct_hashes) else needed
    if not (missing > 0).any():
        return None
    first = int(np.flatnonzero(hashes == distinct_hashes[np.flatnonzero(missing > 0)[0]])[0])
    return (
        f"{count_text(int(np.maximum(missing, 0).sum()), 'recomputed row')} missing, for example "
        f"{format_key(wanted, columns, first)}"
    )


def _row_counts(pair: TablePair, columns: Sequence[str], distinct_hashes: Hashes) -> Counts:
    """How often the staged table has each of the rows with these hashes."""
    seen = np.zeros(len(distinct_hashes), dtype=np.int64)
    order = [name for name in pair.staged.columns.names if name in columns]
    for batch in pair.staged.batches(order):
        mine = row_hashes(pa.Table.from_batches([batch]), columns)
        at = np.minimum(np.searchsorted(distinct_hashes, mine), len(distinct_hashes) - 1)
        seen += np.bincount(at[distinct_hashes[at] == mine], minlength=len(distinct_hashes))
    return seen
