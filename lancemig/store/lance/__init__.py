"""Lance: the only place that knows it."""

from lance.fragment import LanceFragment

from lancemig.store.lance.clones import manifest_version
from lancemig.store.lance.duckdb import Answer, ask
from lancemig.store.lance.errors import Conflict, Damaged, FilesGone, Missing
from lancemig.store.lance.indices import checked_index
from lancemig.store.lance.log import Commit, Log, Moves, Origin, Stamp
from lancemig.store.lance.parallel import several
from lancemig.store.lance.staged import Staged
from lancemig.store.lance.table import (
    AT_ONCE,
    MANY,
    ROW_ADDRESS,
    ROW_ID,
    Table,
    checked_sql,
    quoted,
    volatile,
)
from lancemig.store.lance.tables import Tables
from lancemig.store.lance.writing import Layout

__all__ = [
    "AT_ONCE",
    "MANY",
    "ROW_ADDRESS",
    "ROW_ID",
    "Answer",
    "Commit",
    "Conflict",
    "Damaged",
    "FilesGone",
    "LanceFragment",
    "Layout",
    "Log",
    "Missing",
    "Moves",
    "Origin",
    "Staged",
    "Stamp",
    "Table",
    "Tables",
    "ask",
    "checked_index",
    "checked_sql",
    "manifest_version",
    "quoted",
    "several",
    "volatile",
]
