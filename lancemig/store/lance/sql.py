"""SQL expressions: quoted names, and the form of an expression that Lance accepts.

Lance coerces less than a database: beside an `int64` column it refuses `2.0`, beside a timestamp it refuses
`'2025-01-10'`, and it does not parse `interval` and `extract`. `accepted` inserts casts and functions that
give the answer of a database. An expression that Lance takes stays as it is, so its indices are used.
"""

import re
from collections.abc import Callable, Mapping

import lance
import pyarrow as pa

from lancemig.catalog.arrow_arrays import empty_table
from lancemig.catalog.arrow_types import format_type
from lancemig.errors import PlanError
from lancemig.store.lance.errors import translated

_MAY_NEED_CASTS = re.compile(r"""['"\d]|\binterval\b|\bextract\b""", re.IGNORECASE)
_VOLATILE = re.compile(r"rand|uuid|now|current|today", re.IGNORECASE)
_CASE = re.compile(r"\bcase\b", re.IGNORECASE)


def quoted(path: str) -> str:
    """A column's path quoted for Lance's SQL."""
    return ".".join(f"`{name}`" for name in path.split("."))


def volatile(sql: str) -> bool:
    """Whether an SQL expression may return another value when it is evaluated again."""
    return _VOLATILE.search(sql) is not None


def typed_by(dataset: lance.LanceDataset) -> Callable[[str], pa.DataType | None]:
    """A function that gives the type of an expression over a table, or None if Lance refuses it."""
    # Lance refuses a scan of nothing but literals, so a column goes with them.
    a_column = quoted(dataset.schema.names[0])

    def type_of(sql: str) -> pa.DataType | None:
        try:
            scanner = dataset.scanner(columns={"": a_column, "new": sql})
            return scanner.projected_schema.field("new").type
        except (OSError, ValueError, RuntimeError):
            return None

    return type_of


def accepted(sql: str, dataset: lance.LanceDataset) -> str:
    """The expression in a form that Lance accepts over a table.

    Args:
        sql: An expression or condition.
        dataset: The table; no rows are read.

    Returns:
        `sql` itself if Lance accepts it, or if no cast helps; else the expression with casts.
    """
    if not _MAY_NEED_CASTS.search(sql):
        return sql
    type_of = typed_by(dataset)
    if type_of(sql) is not None:
        return sql
    # The parser is loaded for such expressions only.
    from lancemig.store.lance.sql_casts import with_casts

    rewritten = with_casts(sql, type_of)
    return rewritten if type_of(rewritten) is not None else sql


def rewritten_sql(columns: pa.Schema, sql: str) -> tuple[str, pa.DataType] | None:
    """The form in which an expression is evaluated, with its type; None if that is as it is written."""
    empty = lance.write_dataset(empty_table(columns), "memory://empty")
    found = accepted(sql, empty)
    of = None if found == sql else typed_by(empty)(found)
    return None if of is None else (found, of)


def checked_sql(columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
    """The types of `expressions` over a table with `columns`; also checks that `where` is a condition.

    Raises:
        PlanError: An unknown column, a syntax error or an unsupported expression, in Lance's own words, with
            the types of the columns that the expression names.
    """
    said = ", ".join([*expressions.values(), *([where] if where else [])])
    empty = lance.write_dataset(empty_table(columns), "memory://empty")
    asked = {name: accepted(sql, empty) for name, sql in expressions.items()}
    condition = None if where is None else accepted(where, empty)
    # Lance refuses a scan of nothing but literals, so a column goes with them.
    try:
        with translated(f"SQL {said!r}"):
            scanner = empty.scanner(columns={"": quoted(columns.names[0]), **asked}, filter=condition)
            return scanner.projected_schema
    except PlanError as error:
        raise PlanError(f"{error.message}{_types_in(said, columns)}", next_step=_next_step(said)) from error


def _types_in(sql: str, columns: pa.Schema) -> str:
    words = set(re.findall(r"\w+", sql.lower()))
    named = [f"{field.name} {format_type(field.type)}" for field in columns if field.name.lower() in words]
    return f" (columns: {', '.join(named)})" if named else ""


def _next_step(sql: str) -> str:
    if _CASE.search(sql):
        return "Lance has no CASE: use one operation with `where` for each branch, or a function with `using`"
    return "change the expression (docs/sql.md), then run the same command again"
