"""Checks: SQL queries whose result is compared with the expected one."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from lancemig.apply.environment import Progress
from lancemig.apply.run import RunContext
from lancemig.catalog.checks import Check, Expected, When
from lancemig.catalog.keys import json_cell
from lancemig.catalog.lineage import CheckResult
from lancemig.catalog.sources import count_text
from lancemig.errors import CheckFailed, PlanError
from lancemig.plan.plan import PlannedMigration
from lancemig.store.lance import QueryResult, Table, run_query

SHOWN = 5
"""How many of the rows that a failed check found are shown."""

_LONGEST = 60
"""The most characters that are shown of a value."""

_NINE_DIGITS, _SIX_DIGITS = 1e-9, 1e-6


def run_checks(
    tables: Mapping[str, Table],
    checks: Iterable[Check],
    *,
    when: When | None = None,
    absent: Mapping[str, str] | None = None,
) -> list[CheckResult]:
    """Run checks over pinned tables.

    A check whose query is impossible, say for a missing column, has failed; its detail says why.

    Args:
        tables: The tables by name.
        checks: The checks.
        when: Run only the checks that are due before, or after, a revision; None for all.
        absent: Reasons for tables that do not exist, by name.

    Raises:
        StoreError: A table cannot be read, which tells nothing about its rows.
    """
    due = [check for check in checks if when is None or check.due(when)]
    results = [_run_check(tables, check, absent) for check in due]
    return [result.model_copy(update={"when": when}) for result in results] if when else results


def _run_check(tables: Mapping[str, Table], check: Check, absent: Mapping[str, str] | None) -> CheckResult:
    try:
        result = run_query(tables, check.sql, limit=SHOWN, absent=absent)
    except PlanError as error:
        return CheckResult(check=check.title, ok=False, detail=error.message)
    ok, detail = _expect_no_row(result) if check.expect == () else _expect_value(result, check.expect)
    return CheckResult(check=check.title, ok=ok, detail=detail)


def _expect_no_row(result: QueryResult) -> tuple[bool, str]:
    if not result.count:
        return True, "no row"
    more = "; …" if result.count > result.rows.num_rows else ""
    hint = (
        "; declare the expected value with expect=…, or with => … in lancemig.ini"
        if _is_one_cell(result)
        else ""
    )
    return False, f"expected no row, got {count_text(result.count, 'row')}: {_rows(result.rows)}{more}{hint}"


def _expect_value(result: QueryResult, expected: Expected) -> tuple[bool, str]:
    if not _is_one_cell(result):
        shape = f"{count_text(result.count, 'row')} of {count_text(result.rows.num_columns, 'column')}"
        return False, f"expected one value ({_text(expected)}), got {shape}"
    cell = result.rows.column(0)[0]
    if agrees(cell, expected):
        return True, _text(json_cell(cell))
    return False, f"expected {_text(expected)}, got {_text(json_cell(cell))}"


def _is_one_cell(result: QueryResult) -> bool:
    return result.count == 1 and result.rows.num_columns == 1


def agrees(cell: pa.Scalar, expected: Expected) -> bool:
    """Whether a cell has the expected value.

    True is not 1. Integers and decimals are compared exactly, floats to nine digits (in single precision to
    six), and NaN equals NaN. Values without a plain Python type are compared as text, dates and times in any
    ISO 8601 form.
    """
    if expected is None or not cell.is_valid:
        return expected is None and not cell.is_valid
    value = json_cell(cell)
    if isinstance(expected, bool) or isinstance(value, bool):
        return value is expected
    if isinstance(expected, str):
        return value == expected or _same_text(cell, str(value), expected)
    return _same_number(cell, expected)


def _same_text(cell: pa.Scalar, text: str, expected: str) -> bool:
    if pa.types.is_temporal(cell.type):
        return _moment(text) == _moment(expected)
    if pa.types.is_decimal(cell.type):
        return _decimal(text) == _decimal(expected)
    return False


def _moment(text: str) -> datetime | str:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _decimal(text: Any) -> Decimal | str:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return str(text)


def _same_number(cell: pa.Scalar, expected: Any) -> bool:
    of = cell.type
    if pa.types.is_floating(of):
        value = cell.as_py()
        # The last digits of a sum of floats depend on the order in which threads add.
        digits = _SIX_DIGITS if pa.types.is_float32(of) else _NINE_DIGITS
        return (math.isnan(value) and math.isnan(expected)) or math.isclose(value, expected, rel_tol=digits)
    if pa.types.is_integer(of) or pa.types.is_decimal(of):
        return _decimal(cell.as_py()) == _decimal(expected)
    return False


def _rows(rows: pa.Table) -> str:
    """`rec_id=a, fs=-1; rec_id=b, fs=0`."""
    return "; ".join(
        ", ".join(
            f"{name}={_text(json_cell(column[number]))}"
            for name, column in zip(rows.column_names, rows.columns, strict=True)
        )
        for number in range(rows.num_rows)
    )


def _text(value: Any) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def evaluate(context: RunContext, migration: PlannedMigration, root: str, when: When) -> list[CheckResult]:
    """Run the checks of `migration` that are due over the tables under `root`, also after one has failed."""
    checks = [check for check in context.checks(migration) if check.due(when)]
    if not checks:
        return []
    context.on_progress(Progress("check", text=f"{when} revision {migration.revision}"))
    return run_checks(_named_tables(context, checks, root), checks, when=when)


_LIVE = re.compile(r"\blive\b", re.IGNORECASE)


def _named_tables(context: RunContext, checks: Iterable[Check], root: str) -> dict[str, Table]:
    """The tables under `root`, and those of the live root as `live.NAME` if a check may name one."""
    tables = context.store.tables
    named = tables.newest(root)
    if any(_LIVE.search(check.sql) for check in checks):
        live = named if root == context.root else tables.newest(context.root)
        named = {**{f"live.{name}": table for name, table in live.items()}, **named}
    return named


def require(context: RunContext, migration: PlannedMigration, when: When) -> list[CheckResult]:
    """Run the checks that are due on the live root; CheckFailed names all that failed, and their results."""
    results = evaluate(context, migration, context.root, when)
    failed = [f"{result.check}: {result.detail}" for result in results if not result.ok]
    if failed:
        raise CheckFailed(
            f"revision {migration.revision}: checks failed {when} it:\n  " + "\n  ".join(failed),
            next_step="show the rows with lancemig query SQL; fix the rows or the migration, then "
            "run the same command again",
        )
    return results
