"""What a step will cost, from what the manifests tell; an estimate, except for counts of rows."""

import pyarrow as pa

from lancemig.catalog.live import LiveTable
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    Operation,
    RetypeColumn,
    Strategy,
    UpdateRows,
)
from lancemig.catalog.schema import has_column
from lancemig.catalog.sources import known_rows


def bytes_of(operation: Operation, live: LiveTable | None) -> int | None:
    """How many bytes the step writes, as far as can be told; None for a source or an unknown table."""
    if operation.strategy is Strategy.METADATA:
        return 0
    if live is None or operation.strategy is Strategy.SOURCE:
        return None
    if operation.strategy is Strategy.COLUMN:
        return sum(column_bytes(field, live) for field in _written(operation, live))
    return live.bytes if operation.strategy is Strategy.TABLE else None


def rows_of(operation: Operation, live: LiveTable | None) -> int | None:
    """How many rows the step reads or writes before any condition is looked at."""
    if operation.strategy is Strategy.METADATA:
        return None
    if operation.strategy is Strategy.SOURCE or hasattr(operation, "rows"):
        return known_rows(getattr(operation, "rows", None))
    return None if live is None else live.rows


def column_bytes(field: pa.Field, live: LiveTable) -> int:
    """The bytes of a column over all rows: exact for fixed widths, an even share of the table otherwise."""
    try:
        return int(max(field.type.bit_width, 8) * live.rows // 8)
    except ValueError:
        return live.bytes // max(len(live.table.columns), 1)


def _written(operation: Operation, live: LiveTable) -> list[pa.Field]:
    if isinstance(operation, AddColumn):
        return [operation.column]
    if isinstance(operation, RetypeColumn):
        return [pa.field(operation.column, operation.to)]
    names: tuple[str, ...] = ()
    if isinstance(operation, UpdateRows):
        names = tuple(operation.set)
    elif isinstance(operation, BackfillColumns):
        names = operation.columns
    heads = {name.partition(".")[0] for name in names}
    return [live.table.columns.field(head) for head in sorted(heads) if has_column(live.table.columns, head)]
