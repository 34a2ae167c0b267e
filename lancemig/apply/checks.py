"""Making checks: each query is asked, and what it gives compared with what is expected."""

import math
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
"""How many of the rows that should not be there are told."""

_LONGEST = 60
_NINE_DIGITS, _SIX_DIGITS = 1e-9, 1e-6


def run_checks(
    tables: Mapping[str, Table],
    checks: Iterable[Check],
    *,
    when: When | None = None,
    absent: Mapping[str, str] | None = None,
) -> list[CheckResult]:
    """The outcome of each check over the pinned `tables`; of those due `when`, if that is given.

    A check that cannot be made, for a column that is not there for one, has failed, and its detail says why;
    `absent` has reasons for tables that are not there. Raises StoreError where a table cannot be read: that
    says nothing about what is in it.
    """
    due = [check for check in checks if when is None or check.due(when)]
    results = [_made(tables, check, absent) for check in due]
    return [result.model_copy(update={"when": when}) for result in results] if when else results


def _made(tables: Mapping[str, Table], check: Check, absent: Mapping[str, str] | None) -> CheckResult:
    try:
        answer = run_query(tables, check.sql, limit=SHOWN, absent=absent)
    except PlanError as error:
        return CheckResult(check=check.title, ok=False, detail=error.message)
    ok, detail = _no_row(answer) if check.expect == () else _one_value(answer, check.expect)
    return CheckResult(check=check.title, ok=ok, detail=detail)


def _no_row(answer: QueryResult) -> tuple[bool, str]:
    if not answer.count:
        return True, "no row"
    more = "; …" if answer.count > answer.rows.num_rows else ""
    hint = (
        "; declare the expected value with expect=…, or with => … in lancemig.ini"
        if _is_one_cell(answer)
        else ""
    )
    came = f"expected no row, got {count_text(answer.count, 'row')}: {_told(answer.rows)}{more}{hint}"
    return False, came


def _one_value(answer: QueryResult, expected: Expected) -> tuple[bool, str]:
    if not _is_one_cell(answer):
        shape = f"{count_text(answer.count, 'row')} of {count_text(answer.rows.num_columns, 'column')}"
        return False, f"expected one value ({_spelt(expected)}), got {shape}"
    cell = answer.rows.column(0)[0]
    if agrees(cell, expected):
        return True, _spelt(json_cell(cell))
    return False, f"expected {_spelt(expected)}, got {_spelt(json_cell(cell))}"


def _is_one_cell(answer: QueryResult) -> bool:
    return answer.count == 1 and answer.rows.num_columns == 1


def agrees(cell: pa.Scalar, expected: Expected) -> bool:
    """Whether a cell holds what is expected.

    True is not 1. Whole numbers and decimals agree exactly, floats to nine digits (in single precision to
    six), NaN with NaN. What has no plain type in Python agrees with its text, dates and times in any ISO 8601
    spelling.
    """
    if expected is None or not cell.is_valid:
        return expected is None and not cell.is_valid
    found = json_cell(cell)
    if isinstance(expected, bool) or isinstance(found, bool):
        return found is expected
    if isinstance(expected, str):
        return found == expected or _same_text(cell, str(found), expected)
    return _same_number(cell, expected)


def _same_text(cell: pa.Scalar, found: str, expected: str) -> bool:
    if pa.types.is_temporal(cell.type):
        return _moment(found) == _moment(expected)
    if pa.types.is_decimal(cell.type):
        return _decimal(found) == _decimal(expected)
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
        found = cell.as_py()
        # Sums of floats differ in their last digits from run to run, as threads take turns.
        digits = _SIX_DIGITS if pa.types.is_float32(of) else _NINE_DIGITS
        return (math.isnan(found) and math.isnan(expected)) or math.isclose(found, expected, rel_tol=digits)
    if pa.types.is_integer(of) or pa.types.is_decimal(of):
        return _decimal(cell.as_py()) == _decimal(expected)
    return False


def _told(rows: pa.Table) -> str:
    """`rec_id=a, fs=-1; rec_id=b, fs=0`."""
    return "; ".join(
        ", ".join(
            f"{name}={_spelt(json_cell(column[number]))}"
            for name, column in zip(rows.column_names, rows.columns, strict=True)
        )
        for number in range(rows.num_rows)
    )


def _spelt(value: Any) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def evaluate(context: RunContext, migration: PlannedMigration, root: str, when: When) -> list[CheckResult]:
    """The outcome of the checks of `migration` that are due, over the tables under `root`; all are made."""
    checks = [check for check in context.checks(migration) if check.due(when)]
    if not checks:
        return []
    context.on_progress(Progress("check", text=f"{when} revision {migration.revision}"))
    return run_checks(context.store.tables.newest(root), checks, when=when)


def require(context: RunContext, migration: PlannedMigration, when: When) -> list[CheckResult]:
    """Make the checks on the live root; CheckFailed names those that do not hold, and what came instead."""
    results = evaluate(context, migration, context.root, when)
    failed = [f"{result.check}: {result.detail}" for result in results if not result.ok]
    if failed:
        raise CheckFailed(
            f"revision {migration.revision}: checks failed {when} it:\n  " + "\n  ".join(failed),
            next_step="show the rows with lancemig query SQL; fix the rows or the migration, then "
            "run the same "
            "command again",
        )
    return results
