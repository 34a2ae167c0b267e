"""What a value change does to indices: what the plan says of it, and which of two ways of writing costs less.

The values of a fragment are replaced in new files of the changed columns: rows stay where they are, and the
fragment leaves the indices of these columns. Or the changed rows move to a new fragment, with all of their
columns: every other row stays indexed. Which one is cheaper depends on how many rows change.
"""

from dataclasses import dataclass

import pyarrow as pa

from lancemig.catalog.operations import BackfillColumns, Operation, UpdateRows, ValueChange
from lancemig.catalog.schema import Index, TableSchema, TableStats
from lancemig.catalog.sources import count_text
from lancemig.catalog.value import size_text

LEAST_COVERAGE = 0.9
"""The share of the rows of a live table that an index covers after a value change; else it is built again."""

WORTH_MOVING = 1 << 20
"""Bytes from which it pays to move rows: below, columns and indices are written in a moment."""

MOST_MOVED_SHARE = 0.01
"""The largest share of the rows that moves: moved rows leave all indices of the table."""

MOST_MOVED = 100_000
"""The most rows that move: they are in memory, and each is looked up by its address."""

MOST_MOVED_BYTES = 64 << 20


@dataclass(frozen=True)
class WriteCosts:
    """The bytes that a value change of a live table writes, for each of two ways; estimates."""

    changed: int
    """The rows that change."""

    of: int
    """The rows of the table."""

    rows: int
    """All columns of the changed rows, in a new fragment."""

    columns: int
    """The changed columns of all rows of the fragments with changed rows."""

    indices: int
    """The indices that cover too little if these fragments leave them, and are built again."""

    @property
    def moves(self) -> bool:
        """Whether the changed rows are moved to a new fragment."""
        other = self.columns + self.indices
        small = self.changed <= min(MOST_MOVED, MOST_MOVED_SHARE * self.of) and self.rows <= MOST_MOVED_BYTES
        return small and self.rows < other and other >= WORTH_MOVING


def most_movable(rows: int, size: int, other: int) -> int:
    """The most rows of a table that may move, if to write columns and indices takes `other` bytes.

    Args:
        rows: The rows of the table.
        size: The bytes of the table.
        other: The bytes of the columns and indices, over all rows.
    """
    return (
        min(MOST_MOVED, MOST_MOVED_BYTES * rows // size, other * rows // size) if other >= WORTH_MOVING else 0
    )


def affected_indices(operation: Operation, before: TableSchema | None) -> list[Index]:
    """The indices of a table that leave out rows after a value change."""
    if not isinstance(operation, ValueChange) or before is None:
        return []
    effects = operation.column_effects(before)
    changed = {path.partition(".")[0] for path in effects.computed}
    every = effects.replaced is not None or operation.row_effect.inserts
    return [index for index in before.indices if every or index.column.partition(".")[0] in changed]


def movable(operation: Operation, table: TableSchema, *, stable_row_ids: bool, blobs: bool) -> bool:
    """Whether changed rows may move: an undo finds them by key or row id, and an index gains by it."""
    if not isinstance(operation, UpdateRows | BackfillColumns) or blobs:
        return False
    writes_key = not operation.column_effects(table).written.isdisjoint(table.key)
    return bool(affected_indices(operation, table)) and not writes_key and (bool(table.key) or stable_row_ids)


def column_bytes(field: pa.Field, rows: int, share: int) -> int:
    """The bytes of a column in so many rows: exact for fixed widths, else the even `share` of the table."""
    try:
        return int(max(field.type.bit_width, 8) * rows // 8)
    except ValueError:
        return share


def live_column_bytes(field: pa.Field, live: TableStats) -> int:
    """The bytes of a column over all rows of a live table."""
    return column_bytes(field, live.rows, live.bytes // max(len(live.table.columns), 1))


def index_notes(
    operation: Operation,
    before: TableSchema | None,
    live: TableStats | None,
    costs: WriteCosts | None,
    *,
    in_place: bool,
    refresh: bool,
) -> tuple[str, ...]:
    """A note for each index that a value change may leave with fewer rows than its table has.

    Args:
        operation: The operation.
        before: The table before it.
        live: The size of its table; None where it is not known.
        costs: What the operation writes; None where rows cannot move, or it is not known.
        in_place: Whether it changes a live table.
        refresh: Whether indices of live tables are built again.
    """
    indices = affected_indices(operation, before)
    if costs is not None and costs.moves and live is not None:
        names = " and ".join(index.name for index in indices)
        written = f"{count_text(costs.changed, 'row')} ({size_text(costs.rows)})"
        other = size_text(costs.columns + costs.indices)
        return (
            f"at most {written} move to a new fragment, and {names} keep all others of "
            f"{count_text(live.rows, 'row')}: columns and indices are not written anew ({other})",
        )
    return tuple(
        f"index {index.name}: {_refreshed(index, before, live, in_place=in_place, refresh=refresh)}"
        for index in indices
    )


def _refreshed(
    index: Index, before: TableSchema | None, live: TableStats | None, *, in_place: bool, refresh: bool
) -> str:
    of_rows = " of the rows" if live is None else f" of {count_text(live.rows, 'row')}"
    if in_place and not refresh:
        return "may cover fewer rows afterwards (indices = leave)"
    size = "" if live is None or before is None else f" ({size_text(_bytes_below(index, before, live))})"
    if in_place:
        return f"built again if it covers less than {LEAST_COVERAGE:.0%}{of_rows} afterwards{size}"
    return f"built again if it leaves out any{of_rows} afterwards{size}"


def _bytes_below(index: Index, table: TableSchema, live: TableStats) -> int:
    """The bytes of the values that an index is built from."""
    return live_column_bytes(table.columns.field(index.column.partition(".")[0]), live)


def planned_costs(
    operation: Operation, before: TableSchema | None, live: TableStats | None, changed: int | None
) -> WriteCosts | None:
    """What the operation writes, if the rows that change are spread evenly over the fragments.

    Args:
        operation: The operation.
        before: The table before it.
        live: The size of the live table; None where it is not known.
        changed: The most rows that change; None where it is not known.

    Returns:
        The bytes; None where rows cannot move, or nothing is known.
    """
    if before is None or live is None or changed is None:
        return None
    if not movable(operation, before, stable_row_ids=live.stable_row_ids, blobs=live.blobs):
        return None
    touched = min(changed / max(live.fragments, 1), 1.0)
    written = operation.column_effects(before).written
    columns = sum(live_column_bytes(field, live) for field in before.columns if field.name in written)
    lost = touched > 1 - LEAST_COVERAGE
    again = affected_indices(operation, before) if lost else []
    return WriteCosts(
        changed=changed,
        of=live.rows,
        rows=changed * live.bytes // max(live.rows, 1),
        columns=int(columns * touched),
        indices=sum(_bytes_below(index, before, live) for index in again),
    )
