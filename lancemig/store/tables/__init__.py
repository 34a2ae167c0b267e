"""Lance: the only place that knows it."""

from lance.fragment import LanceFragment

from lancemig.store.tables.failures import Conflict, Damaged, FilesGone, Missing
from lancemig.store.tables.files import manifest_version
from lancemig.store.tables.indices import checked_index
from lancemig.store.tables.log import Commit, Log, Moves, Origin, Stamp
from lancemig.store.tables.query import Answer, ask
from lancemig.store.tables.several import several
from lancemig.store.tables.sql import checked_sql, volatile
from lancemig.store.tables.staged import Staged
from lancemig.store.tables.table import AT_ONCE, MANY, ROW_ADDRESS, ROW_ID, Table, quoted
from lancemig.store.tables.tables import Tables
from lancemig.store.tables.writing import Layout

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
