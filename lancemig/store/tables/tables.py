"""The tables of a catalog as a door to the outside: every effect on them."""

from collections.abc import Iterable
from copy import copy
from typing import Self

import pyarrow as pa
from lance import LanceDataset

from lancemig.catalog.schema import TableSchema
from lancemig.errors import PlanError, StoreError
from lancemig.store.objects import Confined, out_of_bounds
from lancemig.store.tables.borrowing import borrowed, missing, within
from lancemig.store.tables.failures import Conflict, FilesGone, Missing, translated
from lancemig.store.tables.files import files_of, staged_files
from lancemig.store.tables.log import Stamp
from lancemig.store.tables.lookup import Lookup
from lancemig.store.tables.misplaced import tidied
from lancemig.store.tables.staged import Staged
from lancemig.store.tables.table import Table
from lancemig.store.tables.writing import Layout, assembled, written_part, written_table


class Tables(Lookup):
    """The tables under `<root><catalog_dir>`; every change of one passes through here.

    `commit`, `create`, `carry`, `clone`, `take`, `guard` and `unguard` are the effects; all others only read.
    """

    def confined(self, prefixes: tuple[str, ...]) -> Self:
        """A door that changes tables below these prefixes only; any table may be read, and guarded."""
        own = copy(self)
        own.objects, own._prefixes, own._lately = Confined(self.objects, prefixes), prefixes, {}
        return own

    def _to_be_written(self, root: str, name: str) -> None:
        if not self._writable(root, name):
            raise out_of_bounds(self.folder(root, name))

    def commit(self, table: Table, staged: Staged, stamp: Stamp) -> int:
        """Commit what was staged, stamped; the version it landed as.

        Raises Conflict when another commit makes the staged one wrong, FilesGone when a cleanup took files
        that no version named yet: nothing landed then.
        """
        self._to_be_written(table.root, table.name)
        self._see_files(table, staged)
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
            # Nobody came in between, so to stage it again would meet the same refusal.
            raise StoreError(
                f"Lance refused step {stamp.step} on {table.name}: {conflict}", next_step="lancemig status"
            ) from conflict
        return self._remembered(self._table(table.root, table.name, done), options).version

    def _see_files(self, table: Table, staged: Staged) -> None:
        for part, names in staged_files(table, staged.operation).items():
            if not names:
                continue
            folder = f"{self.folder(table.root, table.name)}{part}/"
            there = {item.key.removeprefix(folder) for item in self.objects.list(folder)}
            gone = [name for name in names if name not in there]
            if gone:
                raise FilesGone(
                    f"{len(gone)} files staged for {table.name} were removed by cleanup: {gone[0]}"
                )

    def create(self, root: str, name: str, staged: Staged, layout: Layout, stamp: Stamp) -> int:
        """Commit the first version of a table; PlanError when one has appeared there meanwhile."""
        self._to_be_written(root, name)
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
        except (Conflict, Missing, StoreError) as error:
            if self.find(root, name) is None:
                raise
            raise PlanError(
                f"table {name!r} was created in {root} after the plan was made",
                next_step="lancemig upgrade --plan",
            ) from error
        return self._remembered(self._table(root, name, done), options).version

    def carry(self, table: Table, root: str, name: str) -> None:
        """Put the pinned version of `table` under `root` as `name`, without moving bytes through here.

        Files first, the manifest last: what can be opened is whole. A table that borrows files from outside
        the store is copied by Lance; what another borrows goes on being borrowed, until it is taken over.
        """
        self._to_be_written(root, name)
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
        """Put a table under `root` with the rows of the pinned version of `table`; it borrows its files."""
        self._to_be_written(root, name)
        with translated(f"cloning table {table.name}"):
            table.dataset.shallow_clone(self.uri(root, name), table.version, storage_options=self.options())

    def take(self, table: Table) -> int:
        """Copy what the pinned version borrows into the table's folder, as far as it is not there; how many.

        Then `own_fragments` and `own_indices` can be committed. StoreError where it lies in another store.
        """
        folder = self.folder(table.root, table.name)
        pairs = missing(borrowed(table, self.objects, folder), self.objects, folder)
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
        """Stage a whole table, streaming; committed, it is the table's only content."""
        self._to_be_written(root, name)
        return written_table(self.uri(root, name), schema, batches, layout, self.options(), read_version)

    def written_part(
        self,
        root: str,
        name: str,
        schema: TableSchema,
        batches: Iterable[pa.RecordBatch],
        layout: Layout,
        read_version: int = 0,
    ) -> tuple[list[str], int]:
        """Write a part of a table that `assembled` stages: its fragments, as text, and their rows."""
        self._to_be_written(root, name)
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
        """Stage a whole table of what was written in parts."""
        self._to_be_written(root, name)
        return assembled(self.uri(root, name), schema, fragments, layout, self.options(), read_version)

    def guard(self, table: Table, name: str) -> None:
        """Keep the pinned version from other people's cleanup, by a branch called `name`.

        A branch whose making died half-way blocks its name; then `name.1`, `name.2`, … is taken.
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
                    if not _half_made(error) or attempt == 19:
                        raise
                else:
                    return

    def unguard(self, root: str, name: str, guard: str) -> None:
        """Let a version that the branch called `guard` keeps be cleaned up; none of that name is no error."""
        table = self.find(root, name)
        if table is None or guard not in self.guards(root, name):
            return
        with translated(f"removing the guard {guard} of {name}"):
            table.dataset.branches.delete(guard)


def _properties(staged: Staged, stamp: Stamp) -> dict[str, str]:
    own = stamp.properties(staged.read_version, staged.changed, staged.skipped, staged.indeterminate)
    return own | (staged.moves.properties if staged.moves else {})


def _half_made(error: OSError) -> bool:
    text = str(error)
    return "Clone operation should not enter" in text or "was not found" in text
