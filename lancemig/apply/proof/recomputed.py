"""The gate of columns that the migration changes: rows of the live table go the same way once more.

A sample of them, the same for the same run, and all whose value became null. Rows are found again by their
key; of a table without one, they must be among the staged rows.
"""

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from lancemig.apply.proof.again import Found, compared, drawn, narrow, row_hashes
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
        outcome = Outcome(gate="recomputed", table=pair.name, ok=True, way="not compared", detail=why)
        yield from [outcome.model_copy(update={"column": name}) for name in names] or [outcome]
        return
    allowed = {name for name in names if all(one.recompute for one in pair.tolerances(name))}
    for name in (name for name in names if name not in allowed):
        yield Outcome(
            gate="recomputed", table=pair.name, column=name, ok=True, way="not compared",
            tolerance="recompute=False", detail="the migration excludes it from recomputation",
        )  # fmt: skip
    names = [name for name in names if name in allowed]
    if names or not pair.passage.keeps_rows:
        yield from (_by_key if pair.key else _by_content)(pair, names)


def _impossible(pair: Pair) -> str | None:
    if pair.undone:
        return "a step restores earlier values, which cannot be recomputed"
    if pair.blobs:
        return "the table has Lance blobs, which cannot be recomputed"
    return None


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
    yield from _told(pair, found, rows.num_rows, round(perf_counter() - begun, 3))


def _told(pair: Pair, found: dict[str, Found], sample: int, seconds: float) -> Iterator[Outcome]:
    for name, one in found.items():
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
        yield Outcome(
            gate="recomputed", table=pair.name, column=name, ok=True, way="not compared", detail=why
        )
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
        if one.nulls or one.wrong:
            detail = one.example or f"{counted(one.nulls, 'null')}, recomputed: all equal"
            yield Outcome(
                gate="recomputed", table=pair.name, column=name, ok=not one.wrong, rows=one.nulls,
                way="checksum", detail=detail, seconds=round(perf_counter() - begun, 3),
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
