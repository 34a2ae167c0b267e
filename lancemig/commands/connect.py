"""For programs that use a catalog: open it where the pointer says, or as a revision left it."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

from lancemig.apply.retention.readers import Reading, checked, take
from lancemig.catalog.lineage import standing
from lancemig.commands.context import Catalog, open_catalog
from lancemig.commands.query import PastState, past_state
from lancemig.config import MAIN, read_settings
from lancemig.errors import PlanError, Refused

if TYPE_CHECKING:
    import lancedb
    from lancedb.table import LanceTable

_ATTEMPTS = 5


@dataclass(frozen=True)
class PastCatalog:
    """The tables as a revision left them, to be read with LanceDB's words.

    Tables that were not there then are not there. What is opened here stays at its version, and refuses all
    of LanceDB's words that would change rows.
    """

    _catalog: Catalog
    _past: PastState

    @property
    def revision(self) -> str:
        """The revision."""
        return self._past.revision

    def table_names(self) -> list[str]:
        """The tables that were there."""
        return sorted(self._past.versions)

    def open_table(self, name: str) -> "LanceTable":
        """A table at the version that the revision left.

        Raises LancemigError where there was no such table, or where the version has been cleaned away.
        """
        return self._catalog.store.tables.checked_out(self._past.find(self._catalog, name))


@dataclass
class LeasedCatalog:
    """A catalog that is read under a lease: until that ends, `gc` leaves its root and its guards alone.

    To be closed, or used with `with`; a lease that is forgotten ends by itself.
    """

    connection: "lancedb.DBConnection | PastCatalog"
    _catalog: Catalog
    _reading: Reading
    _length: timedelta

    @property
    def root(self) -> str:
        """The root that is read."""
        return self._reading.lease.root

    @property
    def expires_at(self) -> datetime:
        """When the lease ends, unless it is renewed."""
        return self._reading.lease.expires_at

    def table_names(self) -> list[str]:
        """The tables."""
        return sorted(self.connection.table_names())

    def open_table(self, name: str) -> Any:
        """A LanceDB table: of the live root, or as the revision left it."""
        return self.connection.open_table(name)

    def renew(self, lease: float | timedelta | None = None) -> None:
        """Let the lease end so much later than now, by default as long as at first; 24 hours at most.

        Raises LancemigError for one that has ended already: the root may have been deleted.
        """
        length = self._length if lease is None else _length(lease)
        self._reading.renew(self._catalog.environment.now(), length)

    def close(self) -> None:
        """Give the lease back."""
        self._reading.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


@overload
def connect(
    config: str | Path = "lancemig.ini", name: str = MAIN, *, at: None = None, lease: None = None
) -> "lancedb.DBConnection": ...


@overload
def connect(
    config: str | Path = "lancemig.ini", name: str = MAIN, *, at: str, lease: None = None
) -> PastCatalog: ...


@overload
def connect(
    config: str | Path = "lancemig.ini",
    name: str = MAIN,
    *,
    at: str | None = None,
    lease: float | timedelta,
    reader: str | None = None,
) -> LeasedCatalog: ...


def connect(
    config: str | Path = "lancemig.ini",
    name: str = MAIN,
    *,
    at: str | None = None,
    lease: float | timedelta | None = None,
    reader: str | None = None,
) -> "lancedb.DBConnection | PastCatalog | LeasedCatalog":
    """A LanceDB connection to the root that is live now, as section `name` of the file `config` tells.

    A program that runs for long asks again from time to time: a flip does not move connections that are open.
    `at` names a revision: then it is the catalog as that left it when it was last applied, to be read only.
    With `lease`, in seconds and 24 hours at most, `gc` leaves the root alone; `reader` is who reads there.
    Raises LancemigError for a configuration, a pointer or a store that cannot be read, and for a revision
    that was never live, or whose tables' versions the lineage does not tell.
    """
    catalog = open_catalog(read_settings(Path(config), name, environ=os.environ))
    if lease is not None:
        return _leased(catalog, at, checked(_length(lease)), reader or catalog.environment.actor)
    return _connection(catalog, at)[0]


def _connection(catalog: Catalog, at: str | None) -> "tuple[lancedb.DBConnection | PastCatalog, str]":
    """A way to the tables, and the root they lie in."""
    if at is not None:
        past = past_state(catalog, at)
        return PastCatalog(catalog, past), past.prefix
    root = catalog.active(catalog.seen()).prefix
    return catalog.store.tables.connect(root), root


def _leased(catalog: Catalog, at: str | None, length: timedelta, reader: str) -> LeasedCatalog:
    """Put the lease down, then see that the root is still what it was: `gc` looks in the other order."""
    for _ in range(_ATTEMPTS):
        connection, root = _connection(catalog, at)
        store = catalog.store
        reading = take(store.objects, store.pointers.folder, catalog.environment, root, length, reader, at)
        leased = LeasedCatalog(connection, catalog, reading, length)
        seen = catalog.seen()
        if catalog.active(seen).prefix == root:
            return leased
        deleted = standing(store.pointers.chain(seen.pointer), seen.pointer).deleted.get(root)
        if at is not None and deleted is None:
            return leased
        leased.close()
        if deleted is not None and at is not None:
            raise PlanError(
                f"revision {at} was in {root}, which gc deleted on {deleted}",
                next_step="lancemig history --lineage -v",
            )
    raise Refused("the live root changed during every attempt to open it", next_step="lancemig status")


def _length(lease: float | timedelta) -> timedelta:
    return lease if isinstance(lease, timedelta) else timedelta(seconds=lease)
