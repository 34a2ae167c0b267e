"""Steps that take several commits among other writers: new columns, upserts and undos.

Each of the functions that take a `StepCommit` is a commit strategy (`executor.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer, ContentionError
from lancemig.apply.commit.target import StepCommit, StepCommits, StepCommitter, TargetTable, commits_only
from lancemig.apply.effects.stage import late_row_fill
from lancemig.apply.effects.undo import UNDO_STEPS, Reversal
from lancemig.apply.environment import Watch
from lancemig.apply.rows.context import RowCounts, StagingContext
from lancemig.apply.rows.upserts import repeated_insertions, retry_for, stage_removal
from lancemig.catalog.operations import AddColumn, UndoRows, UpsertRows
from lancemig.catalog.schema import has_column
from lancemig.catalog.stamps import (
    again_stamp,
    fill_stamp,
    is_of_step,
    is_undo,
    late_fill_stamp,
    null_stamp,
    reversal_stamp,
    withdrawal_stamp,
)
from lancemig.errors import Irreversible
from lancemig.plan.plan import CommitRef, Step
from lancemig.store.lance import Commit, Origin, Stamp, Table, Tables, quoted

AT_ONCE = 6
"""How many attempts are made to add a column and its values in one commit."""

LATE_ROUNDS = 5
"""How many rounds fill rows that were written without the new column."""


def add_column(committer: StepCommitter, step_commit: StepCommit[AddColumn], watch: Watch) -> StepCommits:
    """Add a column, with its values if it has any, and fill the rows that were written without it."""
    if not step_commit.part.computed:
        return committer.commit_once(step_commit, watch)
    commits = _add_with_values(committer, step_commit, watch)
    return [*commits, *_fill_late_rows(committer, step_commit, commits_only(commits), watch)]


def _add_with_values(
    committer: StepCommitter, step_commit: StepCommit[AddColumn], watch: Watch
) -> StepCommits:
    """Add column and values in one commit; where writers keep appending, add nulls, then fill them.

    An append makes the one commit impossible, while a column of nulls takes only a moment to add.
    """
    part, stamp = step_commit.part, step_commit.stamp
    add_null = replace(stamp, step=null_stamp(stamp.step))
    if committer.find_landed_part(step_commit.target, add_null) is None:
        try:
            commit = committer.commit(step_commit, StagingContext(watch=watch), AT_ONCE)
        except ContentionError:
            pass
        else:
            return [commit] if commit else []
    null_column = AddColumn(table=part.table, column=part.column)
    first = committer.commit(step_commit.other(null_column, add_null), StagingContext())
    fill = step_commit.other(late_row_fill(part), replace(stamp, step=fill_stamp(stamp.step)))
    return [*([first] if first else []), *committer.commit_once(fill, watch)]


def _fill_late_rows(
    committer: StepCommitter, step_commit: StepCommit[AddColumn], landed: Sequence[Commit], watch: Watch
) -> StepCommits:
    """Fill the rows that were written without the column after its values were read.

    There are a few rounds only: a function slower than the writers would never catch up. Later rows stay
    null, like all that is written without the column from then on; they are counted as `unfilled`.
    """
    step, target, tables = step_commit.step, step_commit.target, committer.tables
    if not landed or _superseded(committer, step, target):
        return []
    name = step_commit.part.column.name
    is_null = f"{quoted(name)} is null"
    commits: list[Commit | RowCounts] = []
    filled = tables.open(target.root, target.name, landed[-1].read_version).fragment_ids
    for number in range(LATE_ROUNDS + 1):
        table = tables.open(target.root, target.name)
        late = table.fragment_ids - filled
        if not late or not has_column(table.columns, name):
            break
        if number == LATE_ROUNDS:
            unfilled = table.count(is_null, [f for f in table.fragments if f.fragment_id in late])
            return [*commits, RowCounts(unfilled=unfilled)]
        stamp = replace(step_commit.stamp, step=late_fill_stamp(step.id, number, table.version))
        fill = step_commit.other(late_row_fill(step_commit.part), stamp)
        commit = committer.commit(fill, StagingContext(fragments=late, where=is_null, watch=watch))
        filled |= late
        if commit is not None:
            commits.append(commit)
    return commits


def _superseded(committer: StepCommitter, step: Step, target: TargetTable) -> bool:
    """Whether a later step of this run has landed: rows that it wrote without the column keep their null."""
    log = committer.tables.search(committer.tables.open(target.root, target.name), target.base)
    ours = [commit.stamp.step for commit in log.commits if commit.stamp and commit.stamp.run == committer.run]
    return bool(ours) and not is_of_step(ours[-1], step.id)


def upsert(committer: StepCommitter, step_commit: StepCommit[UpsertRows], watch: Watch) -> StepCommits:
    """Commit the upsert; rows whose keys others inserted meanwhile are withdrawn, and upserted again."""
    commits: list[Commit | RowCounts] = []
    target, context = step_commit.target, StagingContext(watch=watch)
    commit = committer.commit(step_commit, context)
    for _ in range(MAX_ATTEMPTS):
        commits.append(commit or context.counts)
        if commit is None or target.private:
            return commits
        read_from = Origin(target.root, target.name, target.base)
        duplicates = withdraw_duplicates(committer, read_from, commit, step_commit.part.on)
        if not duplicates.num_rows:
            return commits
        commits.append(RowCounts(-duplicates.num_rows))
        stamp = replace(step_commit.stamp, step=again_stamp(step_commit.stamp.step))
        step_commit = step_commit.other(retry_for(step_commit.part, duplicates), stamp)
        context = StagingContext()
        commit = committer.commit(step_commit, context)
    raise ContentionError(
        f"other writers inserted the same keys in all {MAX_ATTEMPTS} attempts; step {step_commit.step.id} on "
        f"{target.name} is incomplete",
        next_step="run the same command again when fewer writers are active; it continues from here",
    )


def withdraw_duplicates(
    committer: Committer, read_from: Origin, commit: Commit, on: Sequence[str]
) -> pa.Table:
    """Remove the rows that `commit` inserted although another writer inserted their keys, too.

    After a death it finds the same rows, for it reads versions that do not change, and removes them once.

    Args:
        committer: Commits the removal.
        read_from: The table, in the version from which the commit was staged or an older one.
        commit: The commit.
        on: The key columns.

    Returns:
        The removed rows.
    """
    root, name, tables = read_from.root, read_from.name, committer.tables
    read = tables.find(root, name, read_from.version) if read_from.version else None
    before, after = (tables.find(root, name, version) for version in (commit.version - 1, commit.version))
    if before is None or after is None:
        # Removed by cleanup before it could be guarded: what the commit inserted is unknown.
        return pa.table({})
    duplicates = repeated_insertions(read, before, after, on)
    if duplicates.num_rows and commit.stamp is not None:
        stamp = Stamp(committer.run, commit.stamp.revision, withdrawal_stamp(commit.stamp.step))
        removal = committer.find_landed(root, name, commit.version, stamp) or committer.commit_with_retry(
            root, name, stamp, partial(stage_removal, duplicates, on)
        )
        if removal is not None:
            committer.guard_commit(root, name, removal, before=False)
    return duplicates


def undo(committer: StepCommitter, step_commit: StepCommit[UndoRows], _: Watch) -> StepCommits:
    """Undo each commit that the step names, the newest first."""
    step, part, target = step_commit.step, step_commit.part, step_commit.target
    commits: list[Commit | RowCounts] = []
    unfinished = is_undo(step.id)
    for number, undone in reversed(list(enumerate(step.undoes))):
        versions = undone.version - 1, undone.version
        if unfinished:
            # The run may have died before it guarded them; moved rows can be found as long as they exist.
            committer.guard_versions(undone.prefix, undone.table, versions)
        before, after = (_version_of(committer.tables, undone, version) for version in versions)
        reversal = Reversal(
            before,
            after,
            committer.tables,
            target.base,
            part.on,
            part.overwrite,
            unfinished,
            part.repeats,
        )
        for what, undo_step in UNDO_STEPS.items():
            stamp = replace(step_commit.stamp, step=reversal_stamp(step_commit.stamp.step, number, what))
            reversal.counts = RowCounts()
            commit = committer.find_landed_part(target, stamp) or committer.commit_with_retry(
                target.root, target.name, stamp, partial(undo_step, reversal)
            )
            commits.append(commit or reversal.counts)
            committer.on_skipped(f"{step.id}.{number}.{what}", reversal.skipped_rows)
            if commit is not None and (commit.moves or not target.private):
                committer.guard_commit(target.root, target.name, commit, before=True)
            if commit is not None and not target.private and what == "deleted":
                commits += _withdraw_restored(committer, target, commit, reversal)
    return commits


def _version_of(tables: Tables, undone: CommitRef, version: int) -> Table:
    table = tables.find(undone.prefix, undone.table, version)
    if table is None:
        raise Irreversible(
            f"version {version} of {undone.table} was removed by cleanup, so the changes of version "
            f"{undone.version} are unknown",
            next_step="list the versions with lancemig history --lineage -v, then compare them and "
            "repair the table by hand",
        )
    return table


def _withdraw_restored(
    committer: StepCommitter, target: TargetTable, commit: Commit, reversal: Reversal
) -> StepCommits:
    """Remove restored rows whose keys another writer inserted again meanwhile."""
    identity = reversal.identity(committer.tables.open(target.root, target.name))
    if not identity:
        return []
    read_from = Origin(target.root, target.name, target.base)
    duplicates = withdraw_duplicates(committer, read_from, commit, identity)
    return [RowCounts(-duplicates.num_rows, duplicates.num_rows)]
