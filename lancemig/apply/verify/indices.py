"""The indices and recall gates: staged indices are as declared, and vector searches find their neighbours.

An index may leave out as many rows as the live one, and the rows that were replicated after it was built.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa

from lancemig.apply.verify.pairs import TablePair
from lancemig.apply.verify.recompute import sample_positions
from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.schema import Index, TableSchema, column, index_differences
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import is_replication
from lancemig.store.lance import Log, Table, Tables


def indices_gate(
    tables: Tables, wanted: TableSchema, staged: Table, pair: TablePair | None
) -> Iterator[GateOutcome]:
    """Each declared index is there with its column, type and parameters; others are only reported."""
    found = {index.name: index for index in staged.schema().indices}
    covers = staged.covers()
    for index in wanted.indices:
        existing_index = found.pop(index.name, None)
        if existing_index is None:
            yield _outcome(staged, index, ok=False, detail=f"no index {index.name!r}")
            continue
        differences = [
            f"{what} is {have}, expected {want}"
            for what, have, want in index_differences(index, existing_index)
        ]
        if differences:
            yield _outcome(staged, index, ok=False, detail=f"{index.name}: {'; '.join(differences)}")
            continue
        cover = covers[index.name]
        allowed, why = _allowed_unindexed(tables, index, staged, pair)
        ok = allowed is None or cover.unindexed <= allowed
        detail = f"{index.name} ({existing_index.type})"
        if cover.unindexed:
            detail += f": {count_text(cover.unindexed, 'row')} not indexed{why if ok else ''}"
        if not ok:
            detail += f", more than the {allowed:,} allowed; rebuild the index: DropIndex and CreateIndex"
        yield _outcome(staged, index, ok=ok, detail=detail)
    for index in found.values():
        # Another program built it after the plan was made, and it was copied; it does no harm.
        yield _outcome(staged, index, ok=True, detail=f"{index.name}: not declared by any migration")


def _outcome(staged: Table, index: Index, *, ok: bool, detail: str) -> GateOutcome:
    return GateOutcome(gate="indices", table=staged.name, column=index.column, ok=ok, detail=detail)


def _allowed_unindexed(
    tables: Tables, index: Index, staged: Table, pair: TablePair | None
) -> tuple[int | None, str]:
    """How many rows the index may leave out, and why; None where the number is not known."""
    for tolerance in pair.tolerances(index.column) if pair else ():
        if tolerance.unindexed is not None:
            return tolerance.unindexed, " (tolerated)"
    if pair is None:
        return 0, ""
    log = tables.search(staged, 0)
    brought = None if log.missing and not _is_history_complete(log) else _replicated_rows(log)
    if brought is None:
        return None, ": the rows added after the index was built are no longer known"
    live = pair.live.covers().get(index.name)
    before = live.unindexed if live else 0
    why = ": they arrived during the rebuild" if brought else ", as in the live table"
    return brought + before, why


def _replicated_rows(log: Log) -> int:
    """The number of rows that replication added, from the log of the staged table."""
    return sum(c.changed for c in log.commits if c.stamp and is_replication(c.stamp.step))


def _is_history_complete(log: Log) -> bool:
    """Whether the log lacks only the versions from before the table was copied."""
    return log.missing == tuple(range(1, len(log.missing) + 1))


QUERIES, NEAREST = 50, 10
GOOD, SLACK, FLOOR = 0.9, 0.05, 0.1
"""Recall that is always enough; what may be lost to chance; the minimum of an index without a predecessor."""

_NEARLY = 1e-4
Vectors = np.ndarray[Any, np.dtype[np.float64]]


def recall_gate(pair: TablePair | None, staged: Table) -> Iterator[GateOutcome]:
    """Each vector index finds enough true neighbours; a copied one has the same files and is not searched."""
    live = {index.name: index for index in pair.live.schema().indices} if pair else {}
    covers = (pair.live.covers() if pair else {}, staged.covers())
    for index in staged.schema().indices:
        if not index.type.startswith("IVF") or "." in index.column:
            continue
        parts = [side[index.name].parts if index.name in side else frozenset() for side in covers]
        if parts[0] and parts[0] == parts[1]:
            yield _recall_outcome(
                staged, index, ok=True, way="same files", detail=f"{index.name}: copied without changes"
            )
            continue
        if not _floats(column(staged.name, staged.columns, index.column).type):
            why = f"{index.name}: its vectors are not floats"
            yield _recall_outcome(staged, index, ok=True, way="not compared", detail=why)
            continue
        yield _recall_measured(pair, staged, index, live.get(index.name))


def _recall_outcome(table: Table, index: Index, **differences: Any) -> GateOutcome:
    return GateOutcome(gate="recall", table=table.name, column=index.column, **differences)


def _floats(of: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(of) and pa.types.is_floating(of.value_type))


def _recall_measured(pair: TablePair | None, staged: Table, index: Index, old: Index | None) -> GateOutcome:
    started = perf_counter()
    metric = str(index.params.get("metric", "l2"))
    places = _query_positions(pair, staged)
    rows = staged.take(places, [index.column]).column(0).combine_chunks().drop_null()
    queries = _Queries(rows, metric)
    if not len(rows):
        return _recall_outcome(staged, index, ok=True, way="not compared", detail=f"{index.name}: no vectors")
    reach = queries.exact_distances(staged, index.column)
    new = queries.recall(staged, index.column, reach)
    least, why = _minimal_recall(pair, index, queries, old, new)
    found = float(new.mean())
    asked = f"recall@{NEAREST} {found:.3f} in {len(rows)} queries"
    ok = found >= least - 1e-9
    return _recall_outcome(
        staged, index, ok=ok, way="sample", rows=len(rows), staged=f"{found:.3f}", live=why.live,
        tolerance=why.tolerance, seconds=round(perf_counter() - started, 3),
        detail=f"{index.name}: {asked}; {why.text}" + ("" if ok else f", at least {least:.3f} required"),
    )  # fmt: skip


@dataclass(frozen=True)
class _Limit:
    """Where the minimal recall comes from, for the report."""

    text: str
    live: str | None = None
    tolerance: str | None = None


def _minimal_recall(
    pair: TablePair | None, index: Index, queries: "_Queries", old: Index | None, new: Vectors
) -> tuple[float, _Limit]:
    """The recall that the index must have, and where that comes from."""
    for tolerance in pair.tolerances(index.column) if pair else ():
        if tolerance.recall is not None:
            return tolerance.recall, _Limit("limit set by the migration", tolerance=tolerance.describe())
    if pair is None or old is None or pair.lineage.kept.get(index.column) != old.column:
        return FLOOR, _Limit("no previous index to compare with; to set the limit: Tolerance(recall=…)")
    reach = queries.exact_distances(pair.live, old.column)
    before = queries.recall(pair.live, old.column, reach)
    chance = 3 * float((new - before).std()) / len(new) ** 0.5
    live = float(before.mean())
    return min(GOOD, live - SLACK - chance), _Limit(f"live index {live:.3f}", live=f"{live:.3f}")


def _query_positions(pair: TablePair | None, staged: Table) -> list[int]:
    if pair is not None:
        places = sample_positions(pair, staged)
        return places[:: max(len(places) // QUERIES, 1)][:QUERIES]
    count = staged.count()
    return list(range(0, count, max(count // QUERIES, 1)))[:QUERIES]


class _Queries:
    """Query vectors, and distances of other vectors from them."""

    def __init__(self, rows: pa.Array, metric: str) -> None:
        self.rows = rows
        self.metric = metric
        self.vectors = self._normalised(rows)

    def _normalised(self, array: pa.Array) -> Vectors:
        size = array.type.list_size
        items = array.flatten().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        vectors: Vectors = items.reshape(-1, size)
        if self.metric == "cosine":
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        return vectors

    def distances(self, array: pa.Array, queries: Vectors) -> Vectors:
        """The distances of all vectors in `array`, one row for each query."""
        others = self._normalised(array.drop_null())
        if self.metric in ("dot", "cosine"):
            found: Vectors = 1.0 - queries @ others.T
            return found
        squares = (queries**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :]
        nearly: Vectors = np.maximum(squares - 2 * queries @ others.T, 0.0)
        return nearly

    def exact_distances(self, table: Table, name: str) -> Vectors:
        """The distances of the nearest vectors of each query, found by a full scan."""
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
