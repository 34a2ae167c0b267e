"""Finding the tables under a root, their versions and their logs; nothing is written."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

import lance
from lance import LanceDataset

from lancemig.catalog.live import LiveCatalog, LiveTable
from lancemig.errors import StoreError
from lancemig.store.objects import Objects
from lancemig.store.tables.borrowing import root_of
from lancemig.store.tables.failures import Damaged, Missing, damaged, translated
from lancemig.store.tables.files import files_of
from lancemig.store.tables.log import Commit, Log, log_among, log_since
from lancemig.store.tables.several import several
from lancemig.store.tables.table import Table

if TYPE_CHECKING:
    import lancedb
    from lancedb.table import LanceTable

_SUFFIX = ".lance"
_REMEMBERED = 8

T = TypeVar("T")


class Lookup:
    """The tables under `<root><catalog_dir>`, as they are."""

    def __init__(self, objects: Objects, catalog_dir: str) -> None:
        self.objects = objects
        self.catalog_dir = catalog_dir
        self._lately: dict[tuple[str, str, int], tuple[Table, Mapping[str, str]]] = {}
        self._prefixes: tuple[str, ...] | None = None

    def _writable(self, root: str, name: str) -> bool:
        folder = self.folder(root, name)
        return self._prefixes is None or any(folder.startswith(prefix) for prefix in self._prefixes)

    def folder(self, root: str, name: str) -> str:
        """The key of a table's folder, with a slash at its end."""
        return f"{root}{self.catalog_dir}{name}{_SUFFIX}/"

    def uri(self, root: str, name: str) -> str:
        """What Lance opens."""
        return f"{self.objects.uri}/{self.folder(root, name).rstrip('/')}"

    def names(self, root: str) -> list[str]:
        """The tables under `root`: the folders ending in `.lance` that hold a manifest."""
        return [name for name in self.folders(root) if self.find(root, name) is not None]

    def folders(self, root: str) -> list[str]:
        """The names that tables under `root` may have; some may be without a manifest."""
        folders = self.objects.folders(f"{root}{self.catalog_dir}")
        return [folder.removesuffix(_SUFFIX) for folder in folders if folder.endswith(_SUFFIX)]

    def find(self, root: str, name: str, version: int | None = None) -> Table | None:
        """A pinned handle on the latest (or given) version; None where there is no such table."""
        options = self.options()
        try:
            with translated(f"opening table {name}"):
                dataset = lance.dataset(self.uri(root, name), version=version, storage_options=options)
                if not dataset.version:
                    # As Lance reads a manifest of zeros (tests/surface/test_lance_files.py).
                    raise damaged(f"opening table {name}", "a manifest contains only zeros")
        except Missing:
            return None if version is None else self._guarded(root, name, version)
        return self._remembered(self._table(root, name, dataset), options)

    def _table(self, root: str, name: str, dataset: LanceDataset) -> Table:
        return Table(name=name, root=root, dataset=dataset, writable=self._writable(root, name))

    def _remembered(self, table: Table, options: Mapping[str, str]) -> Table:
        self._lately[table.root, table.name, table.version] = table, options
        for key in list(self._lately)[:-_REMEMBERED]:
            self._lately.pop(key, None)
        return table

    def pinned(self, root: str, name: str, version: int) -> Table | None:
        """Like `find`, but a handle that was opened before serves, and then the version may be gone since.

        For who only names the version: whether it is there, Lance tells then. One that was opened with other
        credentials than are valid now does not serve.
        """
        table, options = self._lately.get((root, name, version), (None, None))
        return table if options == self.options() else self.find(root, name, version)

    def _guarded(self, root: str, name: str, version: int) -> Table | None:
        """A version that is gone although it is guarded, as its branch has it: it had no rows.

        Lance keeps what a branch names, and such a version names no file
        (tests/surface/test_lance_guards.py).
        """
        own = re.compile(rf".*/v{version}(\.\d+)?")
        branch = next((guard for guard in self.guards(root, name) if own.fullmatch(guard)), None)
        if branch is None:
            return None
        with suppress(Missing), translated(f"opening table {name} at version {version}"):
            dataset = lance.dataset(self.uri(root, name), storage_options=self.options())
            return self._table(root, name, dataset.checkout_version((branch, None)))
        return None

    def open(self, root: str, name: str, version: int | None = None) -> Table:
        """Like `find`, but a missing table or version is StoreError."""
        found = self.find(root, name, version)
        if found is None:
            which = "" if version is None else f" at version {version}"
            raise StoreError(
                f"table {name!r} under {root}{which} no longer exists", next_step="lancemig status"
            )
        return found

    def newest(self, root: str) -> dict[str, Table]:
        """Pinned handles on the latest version of every table under `root`."""
        return {table.name: table for table in self._each(root, self.find) if table}

    def look(self, root: str, see: Callable[[Table], T], broken: Callable[[str, Damaged], T]) -> dict[str, T]:
        """What `see` tells of the latest version of every table under `root`, several at once.

        Of one whose files are damaged, what `broken` tells.
        """

        def seen(root: str, name: str) -> tuple[str, T] | None:
            try:
                table = self.find(root, name)
                return None if table is None else (name, see(table))
            except Damaged as error:
                return name, broken(name, error)

        return dict(filter(None, self._each(root, seen)))

    def live(self, root: str) -> LiveCatalog:
        """What lies under `root` now."""
        opened = self._each(root, self._facts)
        return LiveCatalog(prefix=root, tables={table.name: table for table in opened if table})

    def _each(self, root: str, see: Callable[[str, str], T]) -> list[T]:
        return several(lambda name: see(root, name), self.folders(root))

    def _facts(self, root: str, name: str) -> LiveTable | None:
        table = self.find(root, name)
        return None if table is None else table.live()

    def log(self, root: str, name: str, since: int) -> list[Commit]:
        """The commits after version `since`; OutcomeUnknown where they were cleaned away."""
        return self.commits(self.open(root, name), since)

    def commits(self, table: Table, since: int) -> list[Commit]:
        """The commits after version `since` up to the pinned one; OutcomeUnknown where some are gone."""
        return self.search(table, since).whole()

    def search(self, table: Table, since: int) -> Log:
        """The log after version `since` up to the pinned one, as far as it is there."""
        return log_since(table.dataset, since, table.name)

    def among(self, table: Table, versions: Sequence[int]) -> Log:
        """The commits that made these versions, none later than the pinned one, as far as they are there."""
        return log_among(table.dataset, min(versions, default=1) - 1, versions, table.name)

    def connect(self, root: str) -> "lancedb.DBConnection":
        """A LanceDB connection to the tables under `root`."""
        # Only programs that use the catalog need lancedb, and it is slow to load.
        import lancedb

        uri = f"{self.objects.uri}/{root}{self.catalog_dir}".rstrip("/")
        return lancedb.connect(uri, storage_options=self.options())

    def checked_out(self, table: Table) -> "LanceTable":
        """The pinned version as a LanceDB table that cannot be written to."""
        from lancemig.store.tables.old import checked_out

        with translated(f"opening table {table.name} at version {table.version}"):
            return checked_out(self.connect(table.root), table.name, table.version)

    def options(self) -> dict[str, str]:
        """Storage options for Lance, credentials included; fresh at every call."""
        return self.objects.lance_options()

    def files(self, table: Table) -> list[str]:
        """The keys of all files that the pinned version consists of, its manifest last."""
        folder = self.folder(table.root, table.name)
        files, manifest = files_of(table, self.objects, folder)
        return [folder + path for path in (*files, manifest)]

    def reads(self, root: str) -> tuple[str, ...]:
        """The roots, or other places, from which tables under `root` borrow files."""
        places = {place for table in self.newest(root).values() for place in table.borrows}
        return tuple(sorted({root_of(place, self.objects, self.catalog_dir) for place in places} - {root}))

    def there(self, root: str, name: str, fragments: Iterable[str]) -> bool:
        """Whether all files of these fragments are in the table's folder."""
        folder = f"{self.folder(root, name)}data/"
        known = {item.key.removeprefix(folder) for item in self.objects.list(folder)}
        return all(file["path"] in known for text in fragments for file in json.loads(text)["files"])

    def guards(self, root: str, name: str) -> list[str]:
        """The names of a table's branches; one listing, where Lance would open each of them."""
        prefix = f"{self.folder(root, name)}_refs/branches/"
        found = (item.key.removeprefix(prefix) for item in self.objects.list(prefix))
        return [unquote(name.removesuffix(".json")) for name in found]
