"""Verification reports and query results as text and as JSON."""

import json
from typing import Any

import pyarrow as pa

from lancemig.catalog.keys import json_cell
from lancemig.catalog.lineage import VerificationReport
from lancemig.report.words import JSON_FORMAT, number
from lancemig.store.lance import QueryResult


def verify_text(report: VerificationReport) -> str:
    """One line an outcome, as in the stored report."""
    return report.text()


def verify_json(report: VerificationReport) -> dict[str, Any]:
    """The report, its digest, and whether all gates passed, as JSON."""
    return {
        "format": JSON_FORMAT,
        "ok": report.ok,
        "failed": report.failed,
        "digest": report.digest,
        "report": report.document(),
    }


MAX_ROWS = 100
"""How many rows the table for people has at most; the query's own LIMIT, or JSON, has more."""

MAX_CELL = 60


def query_text(result: QueryResult) -> str:
    """A table of the rows, numbers right-aligned, long cells cut, with the number of rows below."""
    columns = [
        _column(name, values)
        for name, values in zip(result.rows.column_names, result.rows.columns, strict=True)
    ]
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    omitted = result.count - result.rows.num_rows
    last = f"({number(result.count, 'row')}{f', first {result.rows.num_rows} shown' if omitted else ''})"
    return "\n".join([*lines, last])


def _column(name: str, column: pa.ChunkedArray) -> list[str]:
    cells = [_cut(name), *(_cell_text(json_cell(cell)) for cell in column)]
    width = max(map(len, cells))
    right = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    right = right or pa.types.is_decimal(column.type)
    padded = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    return [padded[0], "-" * width, *padded[1:]]


def _cell_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return _cut(value)
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    """`text` on one line, cut to `MAX_CELL` characters; control characters are escaped."""
    head = text[: MAX_CELL + 1]
    line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in head)
    return line if len(line) <= MAX_CELL else f"{line[: MAX_CELL - 1]}…"


def query_json(result: QueryResult) -> dict[str, Any]:
    """The names of the columns, and each row as a list of values."""
    cells = [[json_cell(cell) for cell in column] for column in result.rows.columns]
    return {
        "format": JSON_FORMAT,
        "columns": result.rows.column_names,
        "rows": [list(row) for row in zip(*cells, strict=True)],
    }
