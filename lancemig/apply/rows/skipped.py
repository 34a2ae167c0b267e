"""Rows that a step leaves unchanged: those without an answer, or changed by another writer since."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from lancemig.catalog.keys import matches
from lancemig.catalog.sources import REASON
from lancemig.store.lance import ROW_ID, Table, any_of_these

SkippedRow = dict[str, Any]
"""One unchanged row: `table`, `key`, `old` values by column, `reason`."""

OnSkipped = Callable[[str, list[SkippedRow]], None]
"""Called with a step id and its skipped rows before the step commits; a later call replaces the list."""

_CHUNK = 1000


def ignore(step: str, rows: list[SkippedRow]) -> None:
    """Report nothing."""


def skipped_rows(table: Table, skipped: Sequence[pa.Table]) -> list[SkippedRow]:
    """The skipped rows with their keys.

    Args:
        table: The pinned table.
        skipped: Rows of the table (row ids and current values), or of a source (key columns); both may have
            a reason.
    """
    return [row for rows in skipped for row in _with_keys(table, rows)]


def _with_keys(table: Table, skipped: pa.Table) -> Iterator[SkippedRow]:
    names = list(table.schema().key)
    for start in range(0, skipped.num_rows, _CHUNK):
        rows = skipped.slice(start, _CHUNK)
        others = rows.drop_columns([name for name in (ROW_ID, REASON) if name in rows.column_names])
        in_table = ROW_ID in rows.column_names
        keys = keys_at(table, rows, names) if in_table else others.to_pylist()
        values = others.to_pylist() if in_table else [{}] * rows.num_rows
        reasons = rows.column(REASON).to_pylist() if REASON in rows.column_names else [None] * rows.num_rows
        for key, old, reason in zip(keys, values, reasons, strict=True):
            yield {"table": table.name, "key": key, "old": old, "reason": reason}


def keys_at(table: Table, rows: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """The key of each of `rows`, given by row id; the row id itself where the table has no key."""
    ids = rows.column(ROW_ID).to_pylist()
    if not names or not ids:
        return [{ROW_ID: id_} for id_ in ids]
    existing = table.read(list(names), any_of_these(ROW_ID, ids), row_ids=True)
    in_order = existing.take(pa.array(matches(rows, existing, [ROW_ID])))
    keys: list[dict[str, Any]] = in_order.select(list(names)).to_pylist()
    return keys
