"""The gate of columns that the migration changes: rows of the live table go the same way once more.

A sample of them, the same for the same run, and all whose value became null. Rows are found again by their
key; of a table without one, they must be among the staged rows.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pyarrow as pa

from lancemig.apply.proof.agreement import agreeing
from lancemig.apply.proof.pairs import Pair
from lancemig.apply.transform import Passage, through
from lancemig.apply.upserts import existing
from lancemig.catalog.hashes import Hashes, hashed, together
from lancemig.catalog.keys import Places, matches, spelled, spelled_key
from lancemig.catalog.operations import AddColumn, TransformTable, UpsertRows
from lancemig.catalog.proof import Outcome
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import counted
from lancemig.store.tables import Table, quoted

_AT_ONCE = 8192


def recomputed_gate(pair: Pair) -> Iterator[Outcome]:
    """Each changed column, computed again; or why it was not."""
    names = [name for name in pair.staged.columns.names if name in pair.flow.changed]
    if not names and pair.passage.keeps_rows:
        return
    why = _impossible(pair)
    if why is not None:
        outcome = Outcome(gate="recomputed", table=pair.name, ok=True, way="not compared", detail=why)
        yield from [outcome.model_copy(update={"column": name}) for name in names] or [outcome]
        return
    allowed = {name for name in names if all(one.recompute for one in pair.tolerances(name))}
    for name in (name for name in names if name not in allowed):
        yield Outcome(
            gate="recomputed", table=pair.name, column=name, ok=True, way="not compared",
            tolerance="recompute=False", detail="the migration says that it is not to be computed again",
        )  # fmt: skip
    names = [name for name in names if name in allowed]
    if names or not pair.passage.keeps_rows:
        yield from (_by_key if pair.key else _by_content)(pair, names)


def _impossible(pair: Pair) -> str | None:
    if pair.undone:
        return "a step puts back what was there before; that cannot be computed again"
    if pair.blobs:
        return "the table has Lance blobs, which cannot be computed again"
    return None


@dataclass
class _Found:
    """What came of computing one column again."""

    rows: int = 0
    nulls: int = 0
    wrong: int = 0
    example: str = ""
    tolerance: str | None = None


def drawn(pair: Pair, table: Table) -> list[int]:
    """The places of the rows that are drawn from a table: for one run, always the same."""
    text = f"{pair.ground.seed}/{table.name}"
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
    count = table.count()
    picked = random.choice(count, size=min(pair.ground.sample, count), replace=False, shuffle=False)
    return sorted(int(place) for place in picked)


def _narrow(pair: Pair) -> tuple[Passage, TableSchema]:
    """The way without columns that no step mentions: vectors need not go along to compute a duration."""
    operations = [step.operation for step in pair.passage.steps]
    if any(isinstance(op, UpsertRows) or (isinstance(op, TransformTable) and op.reads is None)
           for op in operations):  # fmt: skip
        return pair.passage, pair.start
    said = " ".join(operation.model_dump_json() for operation in operations)
    used = set((pair.old_key or {}).values()) | {*pair.start.key, *pair.key}
    fields = [field for field in pair.start.columns if field.name in used or field.name in said]
    start = pair.start.with_columns(fields or list(pair.start.columns)[:1])
    return pair.passage, start.model_copy(update={"indices": ()})


def _sample(pair: Pair, start: TableSchema) -> pa.Table:
    places = drawn(pair, pair.live)
    return pair.live.take(places, start.columns.names).cast(start.columns)


def _by_key(pair: Pair, names: Sequence[str]) -> Iterator[Outcome]:
    begun = perf_counter()
    passage, start = _narrow(pair)
    rows = _sample(pair, start)
    found = {name: _Found() for name in names}
    lost = _compared(pair, passage, start, rows, found)
    if lost:
        yield Outcome(gate="recomputed", table=pair.name, ok=False, way="sample", detail=lost)
    if not names:
        detail = f"{counted(rows.num_rows, 'row')} computed again are there, or went as they should"
        yield Outcome(
            gate="recomputed", table=pair.name, ok=True, way="sample", rows=rows.num_rows, detail=detail
        )
    nulls = _nulls(pair, names)
    for name in nulls:
        for keys in _null_keys(pair, name):
            old = existing(
                pair.live,
                _in_old_words(pair, keys),
                list((pair.old_key or {}).values()),
                start.columns.names,
            )
            found[name].nulls += keys.num_rows
            _compared(pair, passage, start, old.select(start.columns.names), {name: found[name]})
    yield from _told(pair, found, rows.num_rows, round(perf_counter() - begun, 3))


def _compared(
    pair: Pair, passage: Passage, start: TableSchema, rows: pa.Table, found: dict[str, _Found]
) -> str | None:
    """Compare rows, computed again, with the staged ones; says which of them are not there."""
    if not rows.num_rows:
        return None
    wanted = through(passage, start, rows)
    key = list(pair.key)
    there = existing(pair.staged, wanted, key, [*key, *found])
    at = matches(wanted, there, key)
    pairs = wanted.filter(pa.array(at >= 0)), there.take(pa.array(at[at >= 0]))
    for name, one in found.items():
        if name not in wanted.column_names:
            continue
        old, new = (_whole(rows.column(name)) for rows in pairs)
        agree, one.tolerance = agreeing(old, new, pair.tolerances(name))
        wrong = np.flatnonzero(~agree)
        one.rows += len(agree)
        one.wrong += len(wrong)
        if len(wrong) and not one.example:
            place = int(wrong[0])
            one.example = (
                f"{spelled_key(pairs[0], key, place)}: {spelled(new[place])} where it should be "
                f"{spelled(old[place])}"
            )
    return _lost(pair, rows, wanted, at)


def _lost(pair: Pair, rows: pa.Table, wanted: pa.Table, at: Places) -> str | None:
    """Rows that should be there and are not, and rows that should have gone and have not."""
    missing = wanted.filter(pa.array(at < 0))
    if missing.num_rows:
        example = spelled_key(missing, list(pair.key), 0)
        return f"{counted(missing.num_rows, 'row')}, computed again, are not there, such as {example}"
    if pair.old_key is None or pair.passage.keeps_rows or wanted.num_rows >= rows.num_rows:
        return None
    names = list(pair.old_key.items())
    keys = pa.table({new: rows.column(old).cast(wanted.schema.field(new).type) for new, old in names})
    gone = keys.filter(pa.array(matches(keys, wanted, list(pair.key)) < 0))
    stayed = existing(pair.staged, gone, list(pair.key), list(pair.key))
    if not stayed.num_rows:
        return None
    return (
        f"{counted(stayed.num_rows, 'row')} that the migration takes away are there, such as "
        f"{spelled_key(stayed, list(pair.key), 0)}"
    )


def _nulls(pair: Pair, names: Sequence[str]) -> list[str]:
    """The columns of which all nulls are computed again: where keys stay, and no function is slow to ask."""
    if pair.old_key is None:
        return []
    return [name for name in names if name not in pair.flow.asked and not _declared_null(pair, name)]


def _declared_null(pair: Pair, name: str) -> bool:
    """Whether the column is null by declaration, and was not touched after."""
    added = [s.operation for s in pair.passage.steps if isinstance(s.operation, AddColumn)]
    return any(op.describe() == pair.flow.changed[name] and not op.computed for op in added)


def _null_keys(pair: Pair, name: str) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    order = [column for column in pair.staged.columns.names if column in pair.key]
    for batch in pair.staged.batches(order, f"{quoted(name)} is null", batch_size=_AT_ONCE):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= _AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _in_old_words(pair: Pair, keys: pa.Table) -> pa.Table:
    """Keys as the live table has them."""
    names = (pair.old_key or {}).items()
    return pa.table({old: keys.column(new).cast(pair.live.columns.field(old).type) for new, old in names})


def _told(pair: Pair, found: dict[str, _Found], sample: int, seconds: float) -> Iterator[Outcome]:
    for name, one in found.items():
        nulls = f" and {one.nulls:,} that are null" if one.nulls else ""
        detail = f"{counted(sample, 'row')} drawn{nulls}, computed again: "
        if one.wrong:
            detail += (
                f"{counted(one.wrong, 'row')} {'has' if one.wrong == 1 else 'have'} another value, such as "
            )
        detail += one.example if one.wrong else "all equal"
        yield Outcome(
            gate="recomputed", table=pair.name, column=name, ok=not one.wrong, way="sample", rows=one.rows,
            tolerance=one.tolerance, detail=detail, seconds=seconds,
        )  # fmt: skip
    for name in (name for name in found if _declared_null(pair, name)):
        filled = pair.staged.count(f"{quoted(name)} is not null")
        if filled:
            detail = f"{filled:,} rows have a value where the migration gives none"
            yield Outcome(gate="recomputed", table=pair.name, column=name, ok=False, detail=detail)


def _by_content(pair: Pair, names: Sequence[str]) -> Iterator[Outcome]:
    """Rows without a key, computed again, must be among the staged ones, as often as they are computed."""
    begun = perf_counter()
    passage, start = _narrow(pair)
    rows = _sample(pair, start)
    loose = [name for name in names if pair.tolerances(name)]
    wanted = through(passage, start, rows) if rows.num_rows else rows
    columns = [name for name in sorted(wanted.column_names) if name not in loose]
    hashes = _row_hashes(wanted, columns) if rows.num_rows else np.zeros(0, np.uint64)
    told, needed = np.unique(hashes, return_counts=True)
    seen = np.zeros(len(told), dtype=np.int64)
    order = [name for name in pair.staged.columns.names if name in columns]
    for batch in pair.staged.batches(order) if len(told) else ():
        mine = _row_hashes(pa.Table.from_batches([batch]), columns)
        at = np.minimum(np.searchsorted(told, mine), len(told) - 1)
        seen += np.bincount(at[told[at] == mine], minlength=len(told))
    lost = int(np.maximum(needed - seen, 0).sum())
    detail = f"{counted(len(hashes), 'row')} computed again are among the rows, by all columns computed"
    if lost:
        first = int(np.flatnonzero(hashes == told[np.flatnonzero(needed > seen)[0]])[0])
        detail = (
            f"{counted(lost, 'row')}, computed again, are not among the rows, such as "
            f"{spelled_key(wanted, columns, first)}"
        )
    seconds = round(perf_counter() - begun, 3)
    for name in names:
        if name in loose:
            why = "the table has no key by which a value could be compared with a tolerance"
            yield Outcome(
                gate="recomputed", table=pair.name, column=name, ok=True, way="not compared", detail=why
            )
    yield Outcome(
        gate="recomputed", table=pair.name, ok=not lost, way="sample", rows=len(hashes), detail=detail,
        seconds=seconds,
    )  # fmt: skip


def _row_hashes(rows: pa.Table, columns: Sequence[str]) -> Hashes:
    return together([hashed(_whole(rows.column(name))) for name in columns], rows.num_rows)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
