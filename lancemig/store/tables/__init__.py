"""Lance: the only place that knows it."""

from lance.fragment import LanceFragment

from lancemig.store.tables.failures import Conflict, FilesGone, Missing
from lancemig.store.tables.files import manifest_version
from lancemig.store.tables.log import Commit, Log, Stamp
from lancemig.store.tables.query import Answer, ask
from lancemig.store.tables.sql import checked_sql
from lancemig.store.tables.staging import Layout, Staged
from lancemig.store.tables.table import MANY, ROW_ADDRESS, ROW_ID, Table, quoted
from lancemig.store.tables.tables import Tables

__all__ = [
    "MANY",
    "ROW_ADDRESS",
    "ROW_ID",
    "Answer",
    "Commit",
    "Conflict",
    "FilesGone",
    "LanceFragment",
    "Layout",
    "Log",
    "Missing",
    "Staged",
    "Stamp",
    "Table",
    "Tables",
    "ask",
    "checked_sql",
    "manifest_version",
    "quoted",
]
