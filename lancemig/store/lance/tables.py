"""The tables of a catalog: opening and reading them, and every effect on them."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Self, TypeVar

import lance
import pyarrow as pa
from lance import LanceDataset

from lancemig.catalog.schema import LiveCatalog, TableSchema, TableStats
from lancemig.catalog.stamps import guarded_version
from lancemig.errors import PlanError, StoreError
from lancemig.events import log_event
from lancemig.store.lance.branches import is_half_created, tidied
from lancemig.store.lance.clones import borrowed, files_of, missing, root_of, staged_files, within
from lancemig.store.lance.errors import (
    Conflict,
    Damaged,
    FilesGone,
    LanceRefused,
    Missing,
    damaged,
    is_of_null_vectors,
    translated,
)
from lancemig.store.lance.inventory import SUFFIX, KnownKeys, RootInventory, take_inventory
from lancemig.store.lance.log import Commit, Log, Stamp, log_among, log_since
from lancemig.store.lance.parallel import parallel_map
from lancemig.store.lance.references import (
    Reference,
    ReferenceCarrier,
    ReferenceName,
    ReferencesCarried,
    is_complete,
    reference_at,
    reference_names,
    references,
)
from lancemig.store.lance.staged import Staged
from lancemig.store.lance.table import Table
from lancemig.store.lance.writing import Layout, assembled, written_part, written_rows, written_table
from lancemig.store.objects import Confined, Objects, out_of_bounds
from lancemig.store.objects.location import lance_address

if TYPE_CHECKING:
    import lancedb
    from lancedb.table import LanceTable


_log = logging.getLogger(__name__)
_SCRATCH_RUN = "scratch"
"""The run in the stamps of scratch tables in a temporary folder, whose commits are not logged."""

_REMEMBERED = 8

T = TypeVar("T")


class TableReader:
    """Reads the tables under `<root><catalog_dir>`."""

    def __init__(self, objects: Objects, catalog_dir: str) -> None:
        self.objects = objects
        self.catalog_dir = catalog_dir
        self._recent: dict[tuple[str, str, int], tuple[Table, Mapping[str, str]]] = {}
        self._prefixes: tuple[str, ...] | None = None

    def _writable(self, root: str, name: str) -> bool:
        folder = self.folder(root, name)
        return self._prefixes is None or any(folder.startswith(prefix) for prefix in self._prefixes)

    def folder(self, root: str, name: str) -> str:
        """The key of a table's folder, ending in a slash."""
        return f"{root}{self.catalog_dir}{name}{SUFFIX}/"

    def uri(self, root: str, name: str) -> str:
        """The address of a table, as Lance opens it."""
        return lance_address(self.objects.uri, self.folder(root, name))

    def names(self, root: str) -> list[str]:
        """The tables under `root`: the folders ending in `.lance` that have a manifest."""
        return [name for name in self.folders(root) if self.find(root, name) is not None]

    def folders(self, root: str) -> list[str]:
        """The names of all folders ending in `.lance` under `root`; some may have no manifest."""
        folders = self.objects.folders(f"{root}{self.catalog_dir}")
        return [folder.removesuffix(SUFFIX) for folder in folders if folder.endswith(SUFFIX)]

    def inventory(self, root: str, known: KnownKeys) -> RootInventory:
        """Everything under `root`, but for what is `known` to be something else."""
        return take_inventory(self.objects, root, self.catalog_dir, known)

    def find(self, root: str, name: str, version: int | None = None) -> Table | None:
        """The table, pinned at its latest version or at `version`; None if it does not exist."""
        options = self.options()
        try:
            with translated(f"opening table {name}"):
                dataset = lance.dataset(self.uri(root, name), version=version, storage_options=options)
                if not dataset.version:
                    # As Lance reads a manifest of zeros (tests/surface/test_lance_files.py).
                    raise damaged(f"opening table {name}", "a manifest contains only zeros")
        except Missing:
            return None if version is None else self._guarded(root, name, version)
        return self._remember(self._table(root, name, dataset), options)

    def _table(self, root: str, name: str, dataset: LanceDataset) -> Table:
        return Table(name=name, root=root, dataset=dataset, writable=self._writable(root, name))

    def _remember(self, table: Table, options: Mapping[str, str]) -> Table:
        self._recent[table.root, table.name, table.version] = table, options
        for key in list(self._recent)[:-_REMEMBERED]:
            self._recent.pop(key, None)
        return table

    def pinned(self, root: str, name: str, version: int) -> Table | None:
        """Like `find`, but may return a handle that was opened before, whose version may be gone since.

        For callers that only name the version, since Lance then checks that it exists. A handle that was
        opened with other credentials than those valid now is not reused.
        """
        table, options = self._recent.get((root, name, version), (None, None))
        return table if options == self.options() else self.find(root, name, version)

    def _guarded(self, root: str, name: str, version: int) -> Table | None:
        """A version that cleanup removed although it is guarded, read from the branch: it had no rows.

        Lance keeps the files that a branch names, and a version without rows names none
        (tests/surface/test_lance_guards.py).
        """
        guards = self.guards(root, name)
        branch = next((guard for guard in guards if guarded_version(guard) == version), None)
        if branch is None:
            return None
        with suppress(Missing), translated(f"opening table {name} at version {version}"):
            dataset = lance.dataset(self.uri(root, name), storage_options=self.options())
            return self._table(root, name, dataset.checkout_version((branch, None)))
        return None

    def open(self, root: str, name: str, version: int | None = None) -> Table:
        """Like `find`, but StoreError if the table or version does not exist."""
        found = self.find(root, name, version)
        if found is None:
            which = "" if version is None else f" at version {version}"
            raise StoreError(
                f"table {name!r} under {root}{which} no longer exists", next_step="lancemig status"
            )
        return found

    def newest(self, root: str) -> dict[str, Table]:
        """All tables under `root`, by name, each pinned at its latest version."""
        return {table.name: table for table in self._each(root, self.find) if table}

    def look(self, root: str, see: Callable[[Table], T], broken: Callable[[str, Damaged], T]) -> dict[str, T]:
        """Apply `see` to the latest version of every table under `root`, several at a time; results by name.

        `broken` is applied to tables whose files are damaged.
        """

        def seen(root: str, name: str) -> tuple[str, T] | None:
            try:
                table = self.find(root, name)
                return None if table is None else (name, see(table))
            except Damaged as error:
                return name, broken(name, error)

        return dict(filter(None, self._each(root, seen)))

    def live(self, root: str) -> LiveCatalog:
        """The schemas and statistics of all tables under `root`."""
        opened = self._each(root, self._facts)
        return LiveCatalog(prefix=root, tables={table.name: table for table in opened if table})

    def _each(self, root: str, see: Callable[[str, str], T]) -> list[T]:
        return parallel_map(lambda name: see(root, name), self.folders(root))

    def _facts(self, root: str, name: str) -> TableStats | None:
        table = self.find(root, name)
        return None if table is None else table.live()

    def log(self, root: str, name: str, since: int) -> list[Commit]:
        """The commits after version `since`; OutcomeUnknown if cleanup removed one."""
        return self.commits(self.open(root, name), since)

    def commits(self, table: Table, since: int) -> list[Commit]:
        """The commits after version `since` up to the pinned one; OutcomeUnknown if cleanup removed one."""
        return self.search(table, since).whole()

    def search(self, table: Table, since: int) -> Log:
        """The log after version `since` up to the pinned one, with the versions that cleanup removed."""
        return log_since(table.dataset, since, table.name)

    def among(self, table: Table, versions: Sequence[int]) -> Log:
        """The commits that made these versions, none of them later than the pinned one."""
        return log_among(table.dataset, min(versions, default=1) - 1, versions, table.name)

    def connect(self, root: str) -> "lancedb.DBConnection":
        """A LanceDB connection to the tables under `root`."""
        # Only programs that use the catalog need lancedb, and it is slow to load.
        import lancedb

        uri = lance_address(self.objects.uri, f"{root}{self.catalog_dir}")
        return lancedb.connect(uri, storage_options=self.options())

    def checked_out(self, table: Table) -> "LanceTable":
        """The pinned version as a LanceDB table that cannot be written to."""
        from lancemig.store.lance.read_only_table import checked_out

        with translated(f"opening table {table.name} at version {table.version}"):
            return checked_out(self.connect(table.root), table.name, table.version)

    def options(self) -> dict[str, str]:
        """Storage options for Lance, credentials included; fresh at every call."""
        return self.objects.lance_options()

    def files(self, table: Table) -> list[str]:
        """The keys of all files of the pinned version, the manifest last."""
        folder = self.folder(table.root, table.name)
        files, manifest = files_of(table, self.objects, folder)
        return [folder + path for path in (*files, manifest)]

    def reads(self, root: str) -> tuple[str, ...]:
        """The roots, or other locations, from which tables under `root` borrow files."""
        places = {place for table in self.newest(root).values() for place in table.borrows}
        return tuple(sorted({root_of(place, self.objects, self.catalog_dir) for place in places} - {root}))

    def there(self, root: str, name: str, fragments: Iterable[str]) -> bool:
        """Whether all files of these fragments (Lance's JSON) exist in the table's folder."""
        folder = f"{self.folder(root, name)}data/"
        known = {item.key.removeprefix(folder) for item in self.objects.list(folder)}
        return all(file["path"] in known for text in fragments for file in json.loads(text)["files"])

    def guards(self, root: str, name: str) -> list[str]:
        """The names of a table's branches, from one listing; Lance would open each branch."""
        listed = self.objects.list(f"{self.folder(root, name)}_refs/branches/")
        found = (reference_at(item.key) for item in listed)
        return [reference.name for reference in found if reference is not None]

    def reference_names(self, root: str, name: str) -> list[ReferenceName]:
        """The tags and branches of a table that lancemig did not make, by one listing."""
        return reference_names(self.objects, self.folder(root, name))

    def references(self, root: str, name: str) -> list[Reference]:
        """The tags and branches of a table that lancemig did not make, and what they name."""
        return references(self.objects, self.folder(root, name))

    def has_reference(self, one: Reference, source: tuple[str, str], other: tuple[str, str]) -> bool:
        """Whether the table `other` (root, name) has a tag or branch of `source`, with its versions."""
        folder, there = self.folder(*source), self.folder(*other)
        known = any(each.identity == one.identity for each in references(self.objects, there))
        return known and is_complete(self.objects, one, folder, there)

    def at_reference(self, root: str, name: str, one: Reference) -> Table | None:
        """The version that a tag names, or the newest one of a branch; None if it cannot be opened."""
        with suppress(Missing), translated(f"opening {one.name} of {name}"):
            dataset = lance.dataset(self.uri(root, name), storage_options=self.options())
            wanted: Any = one.name.name if one.name.kind == "tag" else (one.name.name, None)
            return self._table(root, name, dataset.checkout_version(wanted))
        return None


class Tables(TableReader):
    """The tables under `<root><catalog_dir>`; every change of a table goes through this class.

    `commit`, `create`, `carry`, `carry_references`, `clone`, `compact`, `copy_borrowed_files`, `guard`,
    `optimize_indices` and `unguard` are effects. `written`, `written_part` and `assembled` write files that
    no version names yet. All others only read.
    """

    def confined(self, prefixes: tuple[str, ...]) -> Self:
        """A view that can change tables below these prefixes only; it can read and guard all tables."""
        own = copy(self)
        own.objects, own._prefixes, own._recent = Confined(self.objects, prefixes), prefixes, {}
        return own

    def _require_writable(self, root: str, name: str) -> None:
        if not self._writable(root, name):
            raise out_of_bounds(self.folder(root, name))

    def commit(self, table: Table, staged: Staged, stamp: Stamp) -> int:
        """Commit a staged transaction with its stamp; returns the version that it made.

        Raises:
            Conflict: A commit of another writer conflicts with the staged one; nothing landed.
            FilesGone: Cleanup removed staged files, which no version names yet; nothing landed.
        """
        self._require_writable(table.root, table.name)
        self._require_files(table, staged)
        options = self.options()
        try:
            with translated(f"committing step {stamp.step} to {table.name}"):
                done = LanceDataset.commit(
                    table.uri,
                    staged.transaction(_properties(staged, stamp)),
                    storage_options=options,
                    max_retries=20,
                )
        except Conflict as conflict:
            if self.open(table.root, table.name).version > table.version:
                raise
            # No other commit came in between, so staging it again would be refused again.
            refused = f"Lance refused step {stamp.step} on {table.name}: {conflict.message}"
            raise LanceRefused(refused) from conflict
        _log_commit(table.root, table.name, int(done.version), staged, stamp)
        return self._remember(self._table(table.root, table.name, done), options).version

    def _require_files(self, table: Table, staged: Staged) -> None:
        for part, names in staged_files(table, staged.operation).items():
            if not names:
                continue
            folder = f"{self.folder(table.root, table.name)}{part}/"
            existing = {item.key.removeprefix(folder) for item in self.objects.list(folder)}
            removed = [name for name in names if name not in existing]
            if removed:
                raise FilesGone(
                    f"{len(removed)} files staged for {table.name} were removed by cleanup: {removed[0]}"
                )

    def create(self, root: str, name: str, staged: Staged, layout: Layout, stamp: Stamp) -> int:
        """Commit the first version of a table; PlanError if the table exists meanwhile."""
        self._require_writable(root, name)
        options = self.options()
        try:
            with translated(f"creating table {name}"):
                done = LanceDataset.commit(
                    self.uri(root, name),
                    staged.transaction(_properties(staged, stamp)),
                    storage_options=options,
                    enable_stable_row_ids=layout.stable_row_ids,
                    # With retries a second creator would overwrite the first
                    # (tests/surface/test_lance_commits.py).
                    max_retries=0,
                )
        except (Conflict, Missing, StoreError, LanceRefused) as error:
            if self.find(root, name) is None:
                raise
            raise PlanError(
                f"table {name!r} was created in {root} after the plan was made",
                next_step="lancemig upgrade --plan",
            ) from error
        _log_commit(root, name, int(done.version), staged, stamp)
        return self._remember(self._table(root, name, done), options).version

    def carry(self, table: Table, root: str, name: str) -> None:
        """Copy the pinned version of `table` to `root` as `name`, without moving bytes through the client.

        The manifest is copied last, so that a table that can be opened is complete. A table that borrows
        files from outside the store is copied by Lance. Files that are borrowed within it stay borrowed.
        """
        self._require_writable(root, name)
        if table.borrows and within(table.borrows, self.objects):
            self.clone(table, root, name)
            return
        if table.borrows:
            with translated(f"cloning table {table.name}"):
                table.dataset.deep_clone(self.uri(root, name), table.version, storage_options=self.options())
            return
        source, target = self.folder(table.root, table.name), self.folder(root, name)
        files, manifest = files_of(table, self.objects, source)
        self.objects.copy([(source + path, target + path) for path in files])
        self.objects.copy([(source + manifest, target + manifest)])

    def clone(self, table: Table, root: str, name: str) -> None:
        """Create a shallow clone of the pinned version of `table` under `root`: it borrows all files."""
        self._require_writable(root, name)
        with translated(f"cloning table {table.name}"):
            table.dataset.shallow_clone(self.uri(root, name), table.version, storage_options=self.options())

    def carry_references(
        self, table: Table, root: str, name: str, hold: Callable[[], None], *, add_only: bool = False
    ) -> ReferencesCarried:
        """Carry the tags and branches of others into a copy or clone of the pinned version; idempotent.

        With `add_only`, what the copy has is left as it is. `hold` is called before each effect.
        """
        self._require_writable(root, name)
        source, target = self.folder(table.root, table.name), self.folder(root, name)
        carrier = ReferenceCarrier(
            self.objects, table, source, target, self.uri(root, name), self.options(), hold
        )
        return carrier.carry(add_only=add_only)

    def compact(self, root: str, name: str, options: Mapping[str, Any]) -> int:
        """Merge small fragments of the newest version; returns how many fragments were replaced.

        Lance makes the commit, without a stamp. Repeated, it replaces none.

        Raises:
            Conflict: A commit of another writer conflicts; nothing landed.
        """
        self._require_writable(root, name)
        with translated(f"compacting {name}"):
            return int(self.open(root, name).dataset.optimize.compact_files(**options).fragments_removed)

    def optimize_indices(self, root: str, name: str, indices: Sequence[str]) -> tuple[str, ...]:
        """Add the rows that these indices do not cover to them.

        Lance makes the commit, without a stamp. Repeated, it does nothing.

        Returns:
            The vector indices whose rows are left out, since all of their vectors are null.

        Raises:
            Conflict: A commit of another writer conflicts; nothing landed.
        """
        self._require_writable(root, name)
        with translated(f"optimizing the indices of {name}"):
            if self._optimized(root, name, indices):
                return ()
            return tuple(index for index in indices if not self._optimized(root, name, [index]))

    def _optimized(self, root: str, name: str, indices: Sequence[str]) -> bool:
        """Optimize the indices in one commit; False if Lance cannot, since all new vectors are null."""
        try:
            self.open(root, name).dataset.optimize.optimize_indices(index_names=list(indices))
        except OSError as error:
            if not is_of_null_vectors(error):
                raise
            return False
        return True

    def copy_borrowed_files(self, table: Table, *, indices_only: bool = False) -> int:
        """Copy borrowed files of the pinned version into the table's folder; returns how many were missing.

        `rebase_fragments` and `rebase_indices` can then be committed. StoreError if a file is in another
        store.
        """
        folder = self.folder(table.root, table.name)
        wanted = borrowed(table, self.objects, folder)
        if indices_only:
            wanted = [pair for pair in wanted if pair[1].startswith(f"{folder}_indices/")]
        pairs = missing(wanted, self.objects, folder)
        if pairs:
            self.objects.copy(pairs)
        return len(pairs)

    def written(
        self,
        root: str,
        name: str,
        schema: TableSchema,
        batches: Iterable[pa.RecordBatch],
        layout: Layout,
        read_version: int = 0,
    ) -> Staged:
        """Stage the whole content of a table, streaming."""
        self._require_writable(root, name)
        return written_table(self.uri(root, name), schema, batches, layout, self.options(), read_version)

    def written_rows(
        self, root: str, name: str, staged: Staged, columns: Sequence[str]
    ) -> Iterator[pa.RecordBatch]:
        """The rows that `written` staged, read from their files."""
        return written_rows(self.uri(root, name), staged, columns, self.options())

    def written_part(
        self,
        root: str,
        name: str,
        schema: TableSchema,
        batches: Iterable[pa.RecordBatch],
        layout: Layout,
        read_version: int = 0,
    ) -> tuple[list[str], int]:
        """Write a part of a table for `assembled`; returns its fragments as JSON texts, and their rows."""
        self._require_writable(root, name)
        return written_part(self.uri(root, name), schema, batches, layout, self.options(), read_version)

    def assembled(
        self,
        root: str,
        name: str,
        schema: TableSchema,
        fragments: Iterable[str],
        layout: Layout,
        read_version: int = 0,
    ) -> Staged:
        """Stage the whole content of a table from parts that `written_part` wrote."""
        self._require_writable(root, name)
        return assembled(self.uri(root, name), schema, fragments, layout, self.options(), read_version)

    def guard(self, table: Table, name: str) -> None:
        """Protect the pinned version from cleanup, by a branch called `name`.

        A crash while Lance creates a branch blocks its name; then `name.1`, `name.2`, … is used.
        """
        with translated(f"guarding version {table.version} of {table.name}"):
            known = self.guards(table.root, table.name)
            if any(other == name or other.startswith(f"{name}.") for other in known):
                return
            for attempt in range(20):
                try:
                    with tidied(table.uri):
                        table.dataset.create_branch(
                            name if not attempt else f"{name}.{attempt}", table.version
                        )
                except OSError as error:
                    if not is_half_created(error) or attempt == 19:
                        raise
                else:
                    return

    def unguard(self, root: str, name: str, guard: str) -> None:
        """Delete the branch `guard`, so that cleanup may remove its version; no error if there is none."""
        table = self.find(root, name)
        if table is None or guard not in self.guards(root, name):
            return
        with translated(f"removing the guard {guard} of {name}"):
            table.dataset.branches.delete(guard)
        log_event(_log, "guard_removed", "%s: guard %s removed", name, guard, table=name, root=root,
                  guard=guard)  # fmt: skip


def _log_commit(root: str, name: str, version: int, staged: Staged, stamp: Stamp) -> None:
    if stamp.run == _SCRATCH_RUN:
        return
    operation = type(staged.operation).__name__
    log_event(_log, "committed", "%s: version %d is %s of step %s, %d rows", name, version, operation,
              stamp.step, staged.changed, table=name, root=root, version=version, operation=operation,
              step=stamp.step, rows=staged.changed)  # fmt: skip


def _properties(staged: Staged, stamp: Stamp) -> dict[str, str]:
    own = stamp.properties(staged.read_version, staged.changed, staged.skipped, staged.indeterminate)
    return own | (staged.moves.properties if staged.moves else {})
