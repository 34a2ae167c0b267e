"""Rows that a step left as they were: for whom there was no answer, or whom others had changed since."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from lancemig.catalog.keys import matches
from lancemig.catalog.sources import REASON
from lancemig.store.lance import ROW_ID, Table

SkippedRow = dict[str, Any]
"""One row left alone: `table`, `key`, `old` values by column, `reason`."""

OnSkipped = Callable[[str, list[SkippedRow]], None]
"""Told the rows that a step (by its id) leaves, before the step lands; told again, the newest list counts."""

_CHUNK = 1000


def ignore(step: str, lines: list[SkippedRow]) -> None:
    """Tell nobody."""


def skipped_rows(table: Table, left: Sequence[pa.Table]) -> list[SkippedRow]:
    """The rows in `left`: row ids of the pinned table, old values and a reason; or the keys of others."""
    return [line for rows in left for line in _lines(table, rows)]


def _lines(table: Table, left: pa.Table) -> Iterator[SkippedRow]:
    names = list(table.schema().key)
    for start in range(0, left.num_rows, _CHUNK):
        rows = left.slice(start, _CHUNK)
        others = rows.drop_columns([name for name in (ROW_ID, REASON) if name in rows.column_names])
        there = ROW_ID in rows.column_names
        keys = keys_at(table, rows, names) if there else others.to_pylist()
        values = others.to_pylist() if there else [{}] * rows.num_rows
        reasons = rows.column(REASON).to_pylist() if REASON in rows.column_names else [None] * rows.num_rows
        for key, old, reason in zip(keys, values, reasons, strict=True):
            yield {"table": table.name, "key": key, "old": old, "reason": reason}


def keys_at(table: Table, rows: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """The key of each of `rows`, given by row id; the row id itself where the table has no key."""
    ids = rows.column(ROW_ID).to_pylist()
    if not names or not ids:
        return [{ROW_ID: id_} for id_ in ids]
    there = table.read(list(names), f"{ROW_ID} in ({', '.join(map(str, ids))})", row_ids=True)
    found = there.take(pa.array(matches(rows, there, [ROW_ID])))
    keys: list[dict[str, Any]] = found.select(list(names)).to_pylist()
    return keys
