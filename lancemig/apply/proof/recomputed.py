"""The gate of columns that the migration changes: rows of the live table go the same way once more.

A sample of them, the same for the same run, and all whose value became null. Rows are found again by their
key; of a table without one, they must be among the staged rows.
"""

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from lancemig.apply.proof.again import Found, compared, drawn, narrow, origins, row_hashes
from lancemig.apply.proof.nulls import declared_null, nulls_again
from lancemig.apply.proof.pairs import Pair
from lancemig.apply.steps.transform import through
from lancemig.catalog.hashes import Hashes
from lancemig.catalog.keys import spelled_key
from lancemig.catalog.proof import Outcome
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import counted
from lancemig.store.tables import quoted

Counts = np.ndarray[Any, np.dtype[np.int64]]


def recomputed_gate(pair: Pair) -> Iterator[Outcome]:
    """Each changed column, computed again; or why it was not."""
    names = [name for name in pair.staged.columns.names if name in pair.flow.changed]
    if not names and pair.passage.keeps_rows:
        return
    why = _impossible(pair)
    if why is not None:
        yield from [_declared(pair, name, why) for name in names] or [
            Outcome(gate="recomputed", table=pair.name, ok=True, way="not compared", detail=why)
        ]
        return
    allowed = {name for name in names if all(one.recompute for one in pair.tolerances(name))}
    for name in (name for name in names if name not in allowed):
        why = "the migration excludes it from recomputation"
        yield _declared(pair, name, why).model_copy(update={"tolerance": "recompute=False"})
    names = [name for name in names if name in allowed]
    if names or not pair.passage.keeps_rows:
        yield from (_by_key if pair.key else _by_content)(pair, names)


def _impossible(pair: Pair) -> str | None:
    if pair.undone:
        return "a step restores earlier values, which cannot be recomputed"
    if pair.blobs:
        return "the table has Lance blobs, which cannot be recomputed"
    return None


def _declared(pair: Pair, name: str, why: str) -> Outcome:
    return Outcome(
        gate="recomputed",
        table=pair.name,
        column=name,
        ok=True,
        way="not compared",
        declared=True,
        detail=why,
    )


def _none_drawn(pair: Pair, name: str, drawn_rows: int, nulls: int) -> Outcome | None:
    """Why no value of the column was computed again, but for `nulls`; None where there is no other value.

    It is declared where lancemig.ini lets no row be drawn, or the migration decides which rows there are.
    Where each live row is a staged one, it is neither.
    """
    if not pair.staged.count(f"{quoted(name)} is not null" if nulls or declared_null(pair, name) else None):
        return None
    also = f"; {counted(nulls, 'null')}, computed again: all equal" if nulls else ""
    if pair.ground.sample == 0:
        return _declared(pair, name, f"no row is drawn: verify_sample is 0 in lancemig.ini{also}")
    why = f"of {counted(drawn_rows, 'row')} drawn none is there in the end: the migration decides which are"
    return _declared(pair, name, why + also).model_copy(update={"declared": not pair.passage.keeps_rows})


def _sample(pair: Pair, start: TableSchema) -> pa.Table:
    places = drawn(pair, pair.live)
    return pair.live.take(places, start.columns.names).cast(start.columns)


def _by_key(pair: Pair, names: Sequence[str]) -> Iterator[Outcome]:
    begun = perf_counter()
    start = narrow(pair)
    rows = _sample(pair, start)
    found = {name: Found() for name in names}
    sent = compared(pair, start, rows, found)
    if sent is not None and sent.lost:
        yield Outcome(gate="recomputed", table=pair.name, ok=False, way="sample", detail=sent.lost)
    elif not names:
        detail = f"{counted(rows.num_rows, 'row')} recomputed: all present or deleted as expected"
        yield Outcome(
            gate="recomputed", table=pair.name, ok=True, way="sample", rows=rows.num_rows, detail=detail
        )
    nulls_again(pair, start, found, pair.key)
    _from_the_end(pair, start, {name: one for name, one in found.items() if one.untried})
    yield from _told(pair, found, rows.num_rows, round(perf_counter() - begun, 3))


def _from_the_end(pair: Pair, start: TableSchema, found: dict[str, Found]) -> None:
    """Compare columns of which no drawn row was left: rows of the staged table, and what they come from."""
    if not found or not pair.ground.sample or pair.looked_up is None:
        return
    order = [name for name in pair.staged.columns.names if name in pair.key]
    rows = origins(pair, start, pair.staged.take(drawn(pair, pair.staged), order))
    if rows is not None:
        compared(pair, start, rows, found)


def _told(pair: Pair, found: dict[str, Found], sample: int, seconds: float) -> Iterator[Outcome]:
    for name, one in found.items():
        # With a sample of none, what was compared are nulls that were looked up.
        untried = one.untried or (not pair.ground.sample and not one.wrong)
        unknown = _none_drawn(pair, name, sample, one.nulls) if untried else None
        if unknown is not None:
            yield unknown
            continue
        nulls = f" and {one.nulls:,} null" if one.nulls else ""
        detail = f"{counted(sample, 'row')} sampled{nulls}, recomputed: "
        if one.wrong:
            detail += f"{counted(one.wrong, 'row')} {'differs' if one.wrong == 1 else 'differ'}, for example "
        detail += one.example if one.wrong else "all equal"
        yield Outcome(
            gate="recomputed", table=pair.name, column=name, ok=not one.wrong, way="sample", rows=one.rows,
            tolerance=one.tolerance, detail=detail, seconds=seconds,
        )  # fmt: skip
    for name in (name for name in found if declared_null(pair, name)):
        filled = pair.staged.count(f"{quoted(name)} is not null")
        if filled:
            detail = f"{counted(filled, 'row')} not null, although the migration gives no value"
            yield Outcome(gate="recomputed", table=pair.name, column=name, ok=False, detail=detail)


def _by_content(pair: Pair, names: Sequence[str]) -> Iterator[Outcome]:
    """Rows without a key, computed again, must be among the staged ones, as often as they are computed."""
    begun = perf_counter()
    start = narrow(pair)
    rows = _sample(pair, start)
    loose = [name for name in names if any(t.relative or t.absolute for t in pair.tolerances(name))]
    for name in loose:
        why = "a tolerance requires a key to compare values by, and the table has none"
        given = next(t.describe() for t in pair.tolerances(name) if t.relative or t.absolute)
        yield _declared(pair, name, why).model_copy(update={"tolerance": given})
    wanted = through(pair.passage, start, rows) if rows.num_rows else rows
    left_out = {*loose, *(set(pair.flow.changed) - set(names))}
    columns = [name for name in sorted(_sent(pair, start)) if name not in left_out]
    found = {name: Found() for name in names if name not in loose}
    lost = _lost(pair, wanted, columns) if rows.num_rows else None
    yield Outcome(
        gate="recomputed", table=pair.name, ok=not lost, way="sample", rows=rows.num_rows,
        detail=lost or f"{counted(rows.num_rows, 'row')} sampled, recomputed: all present",
        seconds=round(perf_counter() - begun, 3),
    )  # fmt: skip
    nulls_again(pair, start, found, columns)
    for name, one in found.items():
        untried = None if wanted.num_rows or one.wrong else _none_drawn(pair, name, rows.num_rows, one.nulls)
        if untried is not None:
            yield untried
        elif one.nulls or one.wrong:
            detail = one.example or f"{counted(one.nulls, 'null')}, recomputed: all equal"
            yield Outcome(
                gate="recomputed", table=pair.name, column=name, ok=not one.wrong, rows=one.nulls,
                way="checksum", detail=detail, seconds=round(perf_counter() - begun, 3),
            )  # fmt: skip
        elif not lost:
            drawn_rows = counted(wanted.num_rows, "row")
            yield Outcome(
                gate="recomputed", table=pair.name, column=name, ok=True, rows=wanted.num_rows, way="sample",
                detail=f"{drawn_rows} computed again, as part of the whole rows: all equal",
            )  # fmt: skip


def _sent(pair: Pair, start: TableSchema) -> list[str]:
    """The columns, in the end, of what is sent the way again."""
    old = set(start.columns.names)
    names = {name for name, before in pair.flow.kept.items() if before in old} | {*pair.flow.changed}
    return [name for name in pair.staged.columns.names if name in names]


def _lost(pair: Pair, wanted: pa.Table, columns: Sequence[str]) -> str | None:
    """The rows that are not there as often as they should be."""
    hashes = row_hashes(wanted, columns)
    told, needed = np.unique(hashes, return_counts=True)
    missing = needed - _seen(pair, columns, told) if len(told) else needed
    if not (missing > 0).any():
        return None
    first = int(np.flatnonzero(hashes == told[np.flatnonzero(missing > 0)[0]])[0])
    return (
        f"{counted(int(np.maximum(missing, 0).sum()), 'recomputed row')} missing, for example "
        f"{spelled_key(wanted, columns, first)}"
    )


def _seen(pair: Pair, columns: Sequence[str], told: Hashes) -> Counts:
    """How often each of these rows is there."""
    seen = np.zeros(len(told), dtype=np.int64)
    order = [name for name in pair.staged.columns.names if name in columns]
    for batch in pair.staged.batches(order):
        mine = row_hashes(pa.Table.from_batches([batch]), columns)
        at = np.minimum(np.searchsorted(told, mine), len(told) - 1)
        seen += np.bincount(at[told[at] == mine], minlength=len(told))
    return seen
