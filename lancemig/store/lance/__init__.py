"""Lance tables. No other package imports lance, lancedb or duckdb."""

from lance.fragment import LanceFragment

from lancemig.store.lance.duckdb import QueryResult, rows_with_equal_keys, run_query
from lancemig.store.lance.errors import (
    Conflict,
    Damaged,
    FilesGone,
    LanceRefused,
    Missing,
    is_panic,
    panics_translated,
)
from lancemig.store.lance.indices import checked_index
from lancemig.store.lance.log import Commit, Log, Moves, Origin, Stamp
from lancemig.store.lance.manifests import manifest_version
from lancemig.store.lance.parallel import parallel_map
from lancemig.store.lance.readable import require_column, require_column_of, require_readable
from lancemig.store.lance.references import Reference, ReferenceName, ReferencesCarried
from lancemig.store.lance.sql import LanceSql, any_of_these, checked_sql, quoted, rewritten_sql, volatile
from lancemig.store.lance.staged import Staged
from lancemig.store.lance.table import AT_ONCE, MANY, ROW_ADDRESS, ROW_ID, Table
from lancemig.store.lance.tables import Tables
from lancemig.store.lance.writing import Layout

__all__ = [
    "AT_ONCE",
    "MANY",
    "ROW_ADDRESS",
    "ROW_ID",
    "Commit",
    "Conflict",
    "Damaged",
    "FilesGone",
    "LanceFragment",
    "LanceRefused",
    "LanceSql",
    "Layout",
    "Log",
    "Missing",
    "Moves",
    "Origin",
    "QueryResult",
    "Reference",
    "ReferenceName",
    "ReferencesCarried",
    "Staged",
    "Stamp",
    "Table",
    "Tables",
    "any_of_these",
    "checked_index",
    "checked_sql",
    "is_panic",
    "manifest_version",
    "panics_translated",
    "parallel_map",
    "quoted",
    "require_column",
    "require_column_of",
    "require_readable",
    "rewritten_sql",
    "rows_with_equal_keys",
    "run_query",
    "volatile",
]
