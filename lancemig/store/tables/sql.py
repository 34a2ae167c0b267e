"""Asking Lance what an SQL expression means, without reading a table."""

import re
from collections.abc import Mapping

import lance
import pyarrow as pa

from lancemig.store.tables.failures import translated
from lancemig.store.tables.table import quoted

_VOLATILE = re.compile(r"rand|uuid|now|current|today", re.IGNORECASE)


def volatile(sql: str) -> bool:
    """Whether an expression may give another value when it is asked again."""
    return _VOLATILE.search(sql) is not None


def checked_sql(columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
    """The types of `expressions` over a table with `columns`; also checks that `where` is a condition.

    Raises PlanError with Lance's own words for an unknown column, a syntax error, or what it cannot do.
    """
    said = ", ".join([*expressions.values(), *([where] if where else [])])
    empty = lance.write_dataset(columns.empty_table(), "memory://empty")
    # Lance refuses a scan of nothing but literals, so a column goes with them.
    asked = {"": quoted(columns.names[0]), **expressions}
    with translated(f"SQL {said!r}"):
        return empty.scanner(columns=asked, filter=where).projected_schema
