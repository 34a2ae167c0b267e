"""The gate of indices: name, column, type and parameters are as declared, and as many rows are covered.

An index may leave out as many rows as the live one does, and those that the tail brought after it was built.
"""

from collections.abc import Iterator

from lancemig.apply.proof.pairs import Pair
from lancemig.apply.steps.transform import Passage
from lancemig.catalog.indices import index_differences
from lancemig.catalog.operations import BackfillColumns, UndoRows, UpdateRows, UpsertRows
from lancemig.catalog.proof import Outcome
from lancemig.catalog.schema import Index, TableSchema
from lancemig.catalog.sources import counted
from lancemig.store.tables import Log, Table, Tables

_TAIL = "tail/"


def indices_gate(
    tables: Tables, passage: Passage, wanted: TableSchema, staged: Table, pair: Pair | None
) -> Iterator[Outcome]:
    """Each declared index, and any that nobody declared."""
    found = {index.name: index for index in staged.schema().indices}
    covers = staged.covers()
    for index in wanted.indices:
        there = found.pop(index.name, None)
        if there is None:
            yield _outcome(staged, index, ok=False, detail=f"no index {index.name!r}")
            continue
        said = [f"{what} is {have}, expected {want}" for what, have, want in index_differences(index, there)]
        if said:
            yield _outcome(staged, index, ok=False, detail=f"{index.name}: {'; '.join(said)}")
            continue
        cover = covers[index.name]
        allowed, why = _allowed(tables, passage, index, staged, pair)
        ok = allowed is None or cover.unindexed <= allowed
        detail = f"{index.name} ({there.type})"
        if cover.unindexed:
            detail += f": {counted(cover.unindexed, 'row')} not indexed{why if ok else ''}"
        if not ok:
            detail += f", more than the {allowed:,} allowed; rebuild the index: DropIndex and CreateIndex"
        yield _outcome(staged, index, ok=ok, detail=detail)
    for index in found.values():
        # Somebody built it after the plan was made, and it was carried along; it takes nothing away.
        yield _outcome(staged, index, ok=True, detail=f"{index.name}: not declared by any migration")


def _outcome(staged: Table, index: Index, *, ok: bool, detail: str) -> Outcome:
    return Outcome(gate="indices", table=staged.name, column=index.column, ok=ok, detail=detail)


def _allowed(
    tables: Tables, passage: Passage, index: Index, staged: Table, pair: Pair | None
) -> tuple[int | None, str]:
    """How many rows the index may leave out, None where that cannot be told; and why."""
    for tolerance in pair.tolerances(index.column) if pair else ():
        if tolerance.unindexed is not None:
            return tolerance.unindexed, " (tolerated)"
    changed = [s.operation for s in passage.steps if isinstance(s.operation, _IN_PLACE)]
    if changed:
        return None, f": {changed[-1].describe()} ran after the index was built"
    if pair is None:
        return 0, ""
    log = tables.search(staged, 0)
    brought = None if log.missing and not _carried(log) else _brought(log)
    if brought is None:
        return None, ": the rows added after the index was built are no longer known"
    live = pair.live.covers().get(index.name)
    before = live.unindexed if live else 0
    why = ": they arrived during the rebuild" if brought else ", as in the live table"
    return brought + before, why


_IN_PLACE = (UpdateRows, BackfillColumns, UpsertRows, UndoRows)


def _brought(log: Log) -> int:
    """The rows that the tail brought, as the staged table's own log tells."""
    return sum(c.changed for c in log.commits if c.stamp and c.stamp.step.startswith(_TAIL))


def _carried(log: Log) -> bool:
    """Whether what is missing is what came before the table was carried: its log begins with one version."""
    return log.missing == tuple(range(1, len(log.missing) + 1))
