"""Values that became null, computed again, all of them: few are looked up by key, for many all rows go by."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from lancemig.apply.proof.again import Found, compared, origins, row_hashes, whole
from lancemig.apply.proof.pairs import Pair
from lancemig.apply.steps.transform import through
from lancemig.catalog.hashes import Checksum, checksum
from lancemig.catalog.keys import matches
from lancemig.catalog.operations import AddColumn, UpsertRows
from lancemig.catalog.schema import TableSchema
from lancemig.store.tables import MANY, quoted

LOOKED_UP = 4 * MANY
"""How many are looked up at once; more are compared by their sum, where no row comes from elsewhere."""


def nulls_again(pair: Pair, start: TableSchema, found: dict[str, Found], told_by: Sequence[str]) -> None:
    """Compute the nulls of the columns of `found` again; rows are told by the columns `told_by`.

    Columns that a Python function gave are left out, for asking may take as long as it took, and those that
    are null by declaration.
    """
    names = [n for n in found if n not in pair.flow.asked and not declared_null(pair, n)]
    counts = {name: pair.staged.count(f"{quoted(name)} is null") for name in names}
    followed = not any(isinstance(step.operation, UpsertRows) for step in pair.passage.steps)
    many = [name for name, count in counts.items() if count and _by_sum(pair, count, followed)]
    for name in (name for name, count in counts.items() if count and name not in many):
        if pair.looked_up is not None:
            for keys in _null_keys(pair, name):
                _looked_up(pair, start, keys, {name: found[name]})
    if many and followed:
        _summed(pair, start, {name: found[name] for name in many}, told_by)


def declared_null(pair: Pair, name: str) -> bool:
    """Whether the column is null by declaration, and was not touched after."""
    added = [s.operation for s in pair.passage.steps if isinstance(s.operation, AddColumn)]
    why = pair.flow.changed[name]
    return any(op.describe() == why and not op.computed and "." not in op.column.name for op in added)


def _by_sum(pair: Pair, count: int, followed: bool) -> bool:
    return followed and (count > LOOKED_UP or pair.looked_up is None)


def _null_keys(pair: Pair, name: str) -> Iterator[pa.Table]:
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


def _looked_up(pair: Pair, start: TableSchema, keys: pa.Table, found: dict[str, Found]) -> None:
    rows = origins(pair, start, keys)
    wanted = None if rows is None else compared(pair, start, rows, found)
    for one in found.values():
        if wanted is not None:
            one.nulls += int((matches(keys, wanted.rows, list(pair.key)) >= 0).sum())


def _summed(pair: Pair, start: TableSchema, found: dict[str, Found], told_by: Sequence[str]) -> None:
    """Let all live rows go the way again: the rows that are null then are those that are null."""
    wanted = dict.fromkeys(found, Checksum())
    for rows in _live(pair, start):
        again = through(pair.passage, start, rows)
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


def _live(pair: Pair, start: TableSchema) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in pair.live.batches(start.columns.names):
        waiting.append(batch)
        if sum(one.num_rows for one in waiting) >= MANY:
            yield pa.Table.from_batches(waiting).cast(start.columns)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting).cast(start.columns)
