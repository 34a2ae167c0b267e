"""Taking over what a table borrows from others, while writers go on: after it, it stands on its own."""

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer, ContentionError
from lancemig.catalog.stamps import materialization_stamp
from lancemig.store.lance import Stamp, Table
from lancemig.store.lance.clones import rebase_fragments, rebase_indices


def materialize(committer: Committer, root: str, name: str, revision: str) -> int:
    """Copy all that the table borrows into its folder, and let it name the copies; how many files.

    Only what is borrowed still is touched, so others may write meanwhile, and it may be asked for again.
    StoreError where files lie in another store.
    """
    copied = 0
    for _ in range(MAX_ATTEMPTS):
        table = committer.tables.open(root, name)
        if not table.bases:
            return copied
        committer.lease.renew()
        copied += committer.tables.copy_borrowed_files(table)
        _named(committer, table, revision)
        # On a disk a copy is a link as old as its source, which a cleanup that ran until the commit takes for
        # a leftover.
        committer.lease.renew()
        committer.tables.copy_borrowed_files(table)
    raise ContentionError(
        f"other writers added borrowed files to {name} in all {MAX_ATTEMPTS} attempts",
        next_step="lancemig detach",
    )


def _named(committer: Committer, table: Table, revision: str) -> None:
    for part, staging in (("files", rebase_fragments), ("indices", rebase_indices)):
        stamped = Stamp(committer.run, revision, materialization_stamp(table.name, table.version, part))
        commit = committer.commit_with_retry(table.root, table.name, stamped, staging)
        if commit is not None and committer.intents is not None:
            committer.guard_commit(table.root, table.name, commit, before=False)
