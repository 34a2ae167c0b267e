"""The gate of vector indices: what they find of the nearest neighbours, against all vectors looked at.

The vectors are read once for all queries. A neighbour counts as found when it is no farther than the farthest
of the exact ones, so that equal distances do no harm. Training is random: the staged index may find a little
less than the live one, and its chance is estimated from the queries.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from lancemig.apply.proof.again import drawn
from lancemig.apply.proof.pairs import Pair
from lancemig.catalog.proof import Outcome
from lancemig.catalog.schema import Index, column
from lancemig.store.tables import Table

QUERIES, NEAREST = 50, 10
GOOD, SLACK, FLOOR = 0.9, 0.05, 0.1
"""What is enough in any case; what may be lost to chance; what an index must find that has no forerunner."""

_NEARLY = 1e-4
Vectors = np.ndarray[Any, np.dtype[np.float64]]


def recall_gate(pair: Pair | None, staged: Table) -> Iterator[Outcome]:
    """Each vector index of the staged table; of one that was carried, its files are the same."""
    live = {index.name: index for index in pair.live.schema().indices} if pair else {}
    covers = (pair.live.covers() if pair else {}, staged.covers())
    for index in staged.schema().indices:
        if not index.type.startswith("IVF") or "." in index.column:
            continue
        parts = [side[index.name].parts if index.name in side else frozenset() for side in covers]
        if parts[0] and parts[0] == parts[1]:
            yield _outcome(
                staged, index, ok=True, way="same files", detail=f"{index.name}: copied without changes"
            )
            continue
        if not _floats(column(staged.name, staged.columns, index.column).type):
            why = f"{index.name}: its vectors are not floats"
            yield _outcome(staged, index, ok=True, way="not compared", detail=why)
            continue
        yield _measured(pair, staged, index, live.get(index.name))


def _outcome(table: Table, index: Index, **said: Any) -> Outcome:
    return Outcome(gate="recall", table=table.name, column=index.column, **said)


def _floats(of: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(of) and pa.types.is_floating(of.value_type))


def _measured(pair: Pair | None, staged: Table, index: Index, old: Index | None) -> Outcome:
    begun = perf_counter()
    metric = str(index.params.get("metric", "l2"))
    places = _queries(pair, staged)
    rows = staged.take(places, [index.column]).column(0).combine_chunks().drop_null()
    queries = _Queries(rows, metric)
    if not len(rows):
        return _outcome(staged, index, ok=True, way="not compared", detail=f"{index.name}: no vectors")
    reach = queries.reach(staged, index.column)
    new = queries.recall(staged, index.column, reach)
    least, why = _least(pair, index, queries, old, new)
    found = float(new.mean())
    asked = f"recall@{NEAREST} {found:.3f} in {len(rows)} queries"
    ok = found >= least - 1e-9
    return _outcome(
        staged, index, ok=ok, way="sample", rows=len(rows), staged=f"{found:.3f}", live=why.live,
        tolerance=why.tolerance, seconds=round(perf_counter() - begun, 3),
        detail=f"{index.name}: {asked}; {why.text}" + ("" if ok else f", at least {least:.3f} required"),
    )  # fmt: skip


@dataclass(frozen=True)
class _Why:
    """Where the measure comes from."""

    text: str
    live: str | None = None
    tolerance: str | None = None


def _least(
    pair: Pair | None, index: Index, queries: "_Queries", old: Index | None, new: Vectors
) -> tuple[float, _Why]:
    """What the index must find at least."""
    for tolerance in pair.tolerances(index.column) if pair else ():
        if tolerance.recall is not None:
            return tolerance.recall, _Why("limit set by the migration", tolerance=tolerance.describe())
    if pair is None or old is None or pair.flow.kept.get(index.column) != old.column:
        return FLOOR, _Why("no previous index to compare with; to set the limit: Tolerance(recall=…)")
    reach = queries.reach(pair.live, old.column)
    before = queries.recall(pair.live, old.column, reach)
    chance = 3 * float((new - before).std()) / len(new) ** 0.5
    live = float(before.mean())
    return min(GOOD, live - SLACK - chance), _Why(f"live index {live:.3f}", live=f"{live:.3f}")


def _queries(pair: Pair | None, staged: Table) -> list[int]:
    if pair is not None:
        places = drawn(pair, staged)
        return places[:: max(len(places) // QUERIES, 1)][:QUERIES]
    count = staged.count()
    return list(range(0, count, max(count // QUERIES, 1)))[:QUERIES]


class _Queries:
    """Some vectors to look for, and how far others are from them."""

    def __init__(self, rows: pa.Array, metric: str) -> None:
        self.rows = rows
        self.metric = metric
        self.vectors = self._ready(rows)

    def _ready(self, array: pa.Array) -> Vectors:
        size = array.type.list_size
        items = array.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        vectors: Vectors = items.reshape(-1, size)
        if self.metric == "cosine":
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        return vectors

    def distances(self, array: pa.Array, queries: Vectors) -> Vectors:
        """A row for each query."""
        others = self._ready(array.drop_null())
        if self.metric in ("dot", "cosine"):
            found: Vectors = 1.0 - queries @ others.T
            return found
        squares = (queries**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :]
        nearly: Vectors = np.maximum(squares - 2 * queries @ others.T, 0.0)
        return nearly

    def reach(self, table: Table, name: str) -> Vectors:
        """How far the last of the nearest is from each query, by looking at all vectors."""
        best: Vectors = np.full((len(self.vectors), NEAREST), np.inf)
        for batch in table.batches([name]):
            both = np.concatenate([best, self.distances(batch.column(0), self.vectors)], axis=1)
            best = np.partition(both, NEAREST - 1, axis=1)[:, :NEAREST]
        return best

    def recall(self, table: Table, name: str, best: Vectors) -> Vectors:
        """For each query, the share of its nearest neighbours that the index finds."""
        found = []
        for place, near in enumerate(best):
            exact = near[np.isfinite(near)]
            query = self.vectors[place : place + 1]
            given = self.distances(table.nearest(name, self.rows[place], NEAREST), query)
            limit = exact.max() + _NEARLY * max(abs(float(exact.max())), 1e-6)
            found.append(min(int((given <= limit).sum()), len(exact)) / max(len(exact), 1))
        return np.array(found)
