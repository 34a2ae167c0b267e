"""Materializing a shallow clone beside other writers: its borrowed files are copied into its own folder."""

from collections.abc import Callable

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer, ContentionError
from lancemig.catalog.stamps import materialization_stamp
from lancemig.store.lance import Staged, Stamp, Table
from lancemig.store.lance.clones import rebase_fragments, rebase_indices


def materialize(committer: Committer, root: str, name: str, revision: str) -> int:
    """Copy the borrowed files of a table into its folder, and commit fragments and indices that name them.

    Files that are not borrowed are left alone, so others may write meanwhile, and the call can be repeated.

    Args:
        committer: Makes the commits.
        root: The root of the table.
        name: The table.
        revision: The revision for the stamps.

    Returns:
        How many files were copied.

    Raises:
        StoreError: Borrowed files are in another store.
        ContentionError: Other writers added borrowed files in every attempt.
    """
    copied = 0
    for _ in range(MAX_ATTEMPTS):
        table = committer.tables.open(root, name)
        if not table.bases:
            return copied
        committer.lease.renew()
        copied += committer.tables.copy_borrowed_files(table)
        _rebase(committer, table, revision)
        # On a disk a copy is a link as old as its source: to a cleanup that ran until the commit it is a
        # leftover.
        committer.lease.renew()
        committer.tables.copy_borrowed_files(table)
    raise ContentionError(
        f"other writers added borrowed files to {name} in all {MAX_ATTEMPTS} attempts",
        next_step="lancemig detach",
    )


def own_indices(committer: Committer, root: str, name: str, revision: str) -> None:
    """Copy the indices that a clone borrows into its folder, and commit indices that name the copies.

    Lance remaps a borrowed index into the clone's folder when the clone is compacted, and then looks for it
    in the folder of the source (tests/surface/test_lance_borrowing.py). Repeated, it does nothing.
    """
    table = committer.tables.open(root, name)
    if table.borrowed_indices:
        committer.lease.renew()
        committer.tables.copy_borrowed_files(table, indices_only=True)
        _rebase(committer, table, revision, (("indices", rebase_indices),))


_Parts = tuple[tuple[str, Callable[[Table], Staged | None]], ...]
_PARTS: _Parts = (("files", rebase_fragments), ("indices", rebase_indices))


def _rebase(committer: Committer, table: Table, revision: str, parts: _Parts = _PARTS) -> None:
    for part, stage in parts:
        stamped = Stamp(committer.run, revision, materialization_stamp(table.name, table.version, part))
        commit = committer.commit_with_retry(table.root, table.name, stamped, stage)
        if commit is not None and committer.intents is not None:
            committer.guard_commit(table.root, table.name, commit, before=False)
