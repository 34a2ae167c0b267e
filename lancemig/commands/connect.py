"""Opening a catalog from a program: the live root, a past revision, or either under a lease."""

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
from lancemig.commands.running import settings_at_work
from lancemig.config import MAIN, Settings, read_settings
from lancemig.errors import PlanError, Refused

if TYPE_CHECKING:
    import lancedb
    from lancedb.table import LanceTable

_ATTEMPTS = 5


@dataclass(frozen=True)
class PastCatalog:
    """The tables as a revision left them, read-only, with LanceDB's methods.

    Tables that did not exist then are missing. A table opened here stays at its version, and its methods that
    would change rows raise an error.
    """

    _catalog: Catalog
    _past: PastState

    @property
    def revision(self) -> str:
        """The id of the revision."""
        return self._past.revision

    def table_names(self) -> list[str]:
        """The names of the tables, sorted."""
        return sorted(self._past.versions)

    def open_table(self, name: str) -> "LanceTable":
        """Open a table at the version that the revision left.

        Raises:
            LancemigError: The table did not exist then, or the version was removed by a cleanup.
        """
        return self._catalog.store.tables.checked_out(self._past.find(self._catalog, name))


@dataclass
class LeasedCatalog:
    """A catalog that is read under a lease: until it ends, `gc` keeps the root and its guarded versions.

    Close it, or use it in a `with` statement. A lease that is never closed expires.
    """

    connection: "lancedb.DBConnection | PastCatalog"
    _catalog: Catalog
    _reading: Reading
    _length: timedelta

    @property
    def root(self) -> str:
        """The prefix of the root that is read."""
        return self._reading.lease.root

    @property
    def expires_at(self) -> datetime:
        """When the lease expires unless it is renewed."""
        return self._reading.lease.expires_at

    def table_names(self) -> list[str]:
        """The names of the tables, sorted."""
        return sorted(self.connection.table_names())

    def open_table(self, name: str) -> Any:
        """Open a LanceDB table: of the live root, or as the revision left it."""
        return self.connection.open_table(name)

    def renew(self, lease: float | timedelta | None = None) -> None:
        """Extend the lease, counted from now.

        Args:
            lease: Seconds or a timedelta, 24 hours at most; default: the length of the first lease.

        Raises:
            LancemigError: The lease has expired, so the root may have been deleted.
        """
        length = self._length if lease is None else _length(lease)
        self._reading.renew(self._catalog.environment.now(), length)

    def close(self) -> None:
        """End the lease."""
        self._reading.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


@overload
def connect(
    config: str | Path | None = None, name: str | None = None, *, at: None = None, lease: None = None
) -> "lancedb.DBConnection": ...


@overload
def connect(
    config: str | Path | None = None, name: str | None = None, *, at: str, lease: None = None
) -> PastCatalog: ...


@overload
def connect(
    config: str | Path | None = None,
    name: str | None = None,
    *,
    at: str | None = None,
    lease: float | timedelta,
    reader: str | None = None,
) -> LeasedCatalog: ...


def connect(
    config: str | Path | None = None,
    name: str | None = None,
    *,
    at: str | None = None,
    lease: float | timedelta | None = None,
    reader: str | None = None,
) -> "lancedb.DBConnection | PastCatalog | LeasedCatalog":
    """Open the live root of a catalog as a LanceDB connection.

    An open connection stays in its root after a flip, so a long-lived program should connect again from time
    to time, and after an error.

    Args:
        config: The path of the ini file; default: `lancemig.ini`.
        name: The section of the file, that is, the catalog; default: `lancemig`. In a function of a migration
            the defaults are those of the command that calls it.
        at: A revision: open the catalog read-only, as this revision left it when it was last applied.
        lease: Seconds or a timedelta, 24 hours at most, for which `gc` keeps the root.
        reader: The owner of the lease; default: the name of the user.

    Returns:
        LanceDB's connection; with `at` a `PastCatalog`; with `lease` a `LeasedCatalog`.

    Raises:
        LancemigError: The configuration, the pointer or the store cannot be read; or the revision was never
            live, or the lineage does not have the versions of its tables.
    """
    catalog = open_catalog(_settings(config, name))
    if lease is not None:
        return _leased(catalog, at, checked(_length(lease)), reader or catalog.environment.actor)
    return _connection(catalog, at)[0]


def _settings(config: str | Path | None, name: str | None) -> Settings:
    """The settings of the catalog that is meant; in a function of a migration, of the one that is changed."""
    at_work = settings_at_work()
    same_file = at_work is not None and (config is None or Path(config).resolve() == at_work.path.resolve())
    if at_work is not None and name is None and same_file:
        return at_work
    return read_settings(Path(config or "lancemig.ini"), name or MAIN, environ=os.environ)


def _connection(catalog: Catalog, at: str | None) -> "tuple[lancedb.DBConnection | PastCatalog, str]":
    """Open the tables; returns the prefix of their root as well."""
    if at is not None:
        past = past_state(catalog, at)
        return PastCatalog(catalog, past), past.prefix
    root = catalog.active(catalog.seen()).prefix
    return catalog.store.tables.connect(root), root


def _leased(catalog: Catalog, at: str | None, length: timedelta, reader: str) -> LeasedCatalog:
    """Write the lease, then check that the root is still live.

    `gc` reads the leases and the pointer in the other order, so one of the two notices the other.
    """
    for _ in range(_ATTEMPTS):
        connection, root = _connection(catalog, at)
        store = catalog.store
        reading = take(store.objects, store.pointers.folder, catalog.environment, root, length, reader, at)
        leased = LeasedCatalog(connection, catalog, reading, length)
        pointer_read = catalog.seen()
        if catalog.active(pointer_read).prefix == root:
            return leased
        deleted = standing(store.pointers.chain(pointer_read.pointer), pointer_read.pointer).deleted.get(root)
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
