"""Moves the few rows that a value change concerns to a new fragment, so that indices keep all others.

The other way is to write the changed columns of whole fragments, which then leave the indices of these
columns (`updates.py`). `plan/index_upkeep.py` compares the two.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lancemig.apply.rows.context import StagingContext
from lancemig.catalog.keys import matches, row_numbers
from lancemig.catalog.schema import Index
from lancemig.plan.index_upkeep import LEAST_COVERAGE, WriteCosts, column_bytes, most_movable
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Moves, Staged, Table
from lancemig.store.lance.staging import replaced_rows


def most_moved(table: Table, names: Sequence[str], indices: Sequence[Index], key: Sequence[str]) -> int:
    """The most rows that may move; 0 where none may.

    An undo has to find moved rows, by a key that stays or by stable row ids.

    Args:
        table: The pinned table.
        names: The top-level columns that change.
        indices: The declared indices on them.
        key: The declared key.
    """
    found = bool(key) and not set(key) & set(names) if key else table.stable_row_ids
    rows, size = table.count(), table.bytes
    if not (indices and found and rows and size) or table.has_blobs:
        return 0
    heads = [*names, *(index.column.partition(".")[0] for index in indices)]
    other = sum(_column_bytes(table, name, rows) for name in heads if name in table.columns.names)
    return most_movable(rows, size, other)


def staged_moves(table: Table, context: StagingContext, names: Sequence[str]) -> Staged | None:
    """Stage the move of the changed rows that are not written yet; None where to write columns costs less.

    Args:
        table: The pinned table.
        context: Has the changed rows, with `_rowid` and the new values of whole columns.
        names: The top-level columns that change.
    """
    changed = pa.concat_tables([result.rows for result in context.done.values() if result.rows is not None])
    touched = {state.partition(":")[0] for state, result in context.done.items() if result.rows is not None}
    if not _costs(table, context.indices, names, changed.num_rows, touched).moves:
        return None
    others = [name for name in table.columns.names if name not in changed.column_names]
    current = table.rows_of(changed.column(ROW_ID), others, addresses=True).sort_by(ROW_ADDRESS)
    if not current.num_rows or not _identified(current, changed, context.key):
        return None
    given = changed.take(pa.array(matches(current, changed, [ROW_ID])))
    columns = [
        (given if name in given.column_names else current).column(name) for name in table.columns.names
    ]
    staged = replaced_rows(
        table, pa.table(columns, schema=table.columns), current.select([ROW_ID, ROW_ADDRESS])
    )
    if staged is None or table.stable_row_ids:
        return staged
    return staged.moving(Moves(on=tuple(context.key)))


def _identified(current: pa.Table, changed: pa.Table, key: Sequence[str]) -> bool:
    """Whether each of the rows has its own key, without nulls, where they are found by it."""
    if not key:
        return True
    columns = [(current if name in current.column_names else changed).column(name) for name in key]
    numbers = row_numbers(columns)
    return not any(column.null_count for column in columns) and len(np.unique(numbers)) == len(numbers)


def _costs(
    table: Table, indices: Sequence[Index], names: Sequence[str], changed: int, touched: set[str]
) -> WriteCosts:
    fragments = [one.metadata for one in table.fragments if str(one.fragment_id) in touched]
    physical, live = (sum(getattr(one, of) for one in fragments) for of in ("physical_rows", "num_rows"))
    rows, left_out = table.count(), table.uncovered()
    again = [
        index
        for index in indices
        if rows - left_out.get(index.name, 0) - live < LEAST_COVERAGE * rows
        and index.column.partition(".")[0] in table.columns.names
    ]
    return WriteCosts(
        changed=changed,
        of=rows,
        rows=changed * table.bytes // max(rows, 1),
        columns=sum(_column_bytes(table, name, physical) for name in names),
        indices=sum(_column_bytes(table, index.column.partition(".")[0], rows) for index in again),
    )


def _column_bytes(table: Table, name: str, rows: int) -> int:
    share = table.bytes * rows // max(table.count() * len(table.columns), 1)
    return column_bytes(table.columns.field(name), rows, share)
