"""A LanceDB table at an old version, read-only."""

from collections.abc import Callable
from typing import Any, NoReturn

from lancedb import DBConnection
from lancedb.table import LanceTable

from lancemig.errors import Refused

# LanceDB refuses most writes to a table that is checked out, but not these: some write to the newest version,
# others check it out (tests/surface/test_lancedb.py).
_LEAKS = (
    "checkout",
    "checkout_latest",
    "cleanup_old_versions",
    "compact_files",
    "merge",
    "merge_insert",
    "restore",
)


class ReadOnlyTable(LanceTable):
    """A table that stays checked out at one version, and refuses all writes."""


def _refusing(word: str) -> Callable[..., NoReturn]:
    def refuse(table: ReadOnlyTable, *_: Any, **__: Any) -> NoReturn:
        raise Refused(
            f"{word}: table {table.name} is open at version {table.version}, read-only",
            next_step="open the live tables: lancemig.connect() without `at`",
        )

    return refuse


for _word in _LEAKS:
    setattr(ReadOnlyTable, _word, _refusing(_word))


def checked_out(connection: DBConnection, name: str, version: int) -> ReadOnlyTable:
    """The table called `name` at `version`."""
    table: ReadOnlyTable = ReadOnlyTable.open(connection, name)
    LanceTable.checkout(table, version)
    return table
