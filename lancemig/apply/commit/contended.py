"""Landing a column with values among other writers, who append rows without it all the while."""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer, ContentionError
from lancemig.apply.commit.target import StepCommits, StepCommitter, TargetTable, commits_only
from lancemig.apply.effects.stage import late_row_fill
from lancemig.apply.effects.undo import UNDO_STEPS, Reversal
from lancemig.apply.environment import Watch
from lancemig.apply.rows.context import RowCounts, StagingContext
from lancemig.apply.rows.upserts import repeated_insertions, retry_for, withdrawn
from lancemig.catalog.operations import AddColumn, UndoRows, UpsertRows
from lancemig.catalog.schema import has_column
from lancemig.errors import Irreversible
from lancemig.plan.plan import CommitRef, Step
from lancemig.store.lance import Commit, Stamp, Table, Tables, quoted

AT_ONCE = 6
"""How often a column with values is tried to be added in one commit."""

LATE_ROUNDS = 5


def add_column(
    committer: StepCommitter, step: Step, part: AddColumn, target: TargetTable, stamp: Stamp, watch: Watch
) -> StepCommits:
    """Add a column with its values in one commit; where writers append all the time, null, then filled.

    An append makes the one commit impossible, and a column without values takes but a moment to add.
    """
    null = Stamp(stamp.run, stamp.revision, f"{stamp.step}.null")
    if committer.find_landed_part(target, null) is None:
        try:
            whole = committer.commit(step, part, target, stamp, StagingContext(watch=watch), AT_ONCE)
        except ContentionError:
            pass
        else:
            return [whole] if whole else []
    context = StagingContext(watch=watch)
    fill = Stamp(stamp.run, stamp.revision, f"{stamp.step}.fill")
    first = committer.commit(
        step, AddColumn(table=part.table, column=part.column), target, null, StagingContext()
    )
    second = committer.commit(step, late_row_fill(part), target, fill, context)
    return [*([first] if first else []), second or context.counts]


def fill_late_rows(
    committer: StepCommitter,
    step: Step,
    operation: AddColumn,
    target: TargetTable,
    landing: StepCommits,
    watch: Watch,
) -> tuple[StepCommits, int]:
    """Fill the rows that writers added without the column since it was filled; how many were not.

    A few rounds, for a function slower than the writers would never catch up; what comes later is null, as
    all is that they write without the column from now on.
    """
    landed = commits_only(landing)
    if not landed or _gone_on(committer, step, target):
        return [], 0
    empty = f"{quoted(operation.column.name)} is null"
    done: list[Commit] = []
    covered = committer.tables.open(target.root, target.name, landed[-1].read_version).fragment_ids
    for number in range(LATE_ROUNDS + 1):
        table = committer.tables.open(target.root, target.name)
        new = table.fragment_ids - covered
        if not new or not has_column(table.columns, operation.column.name):
            break
        if number == LATE_ROUNDS:
            return done, table.count(empty, [f for f in table.fragments if f.fragment_id in new])
        stamp = Stamp(committer.run, step.revision, f"{step.id}.late.{number}.{table.version}")
        context = StagingContext(fragments=new, where=empty, watch=watch)
        commit = committer.commit(step, late_row_fill(operation), target, stamp, context)
        covered |= new
        if commit is not None:
            done.append(commit)
    return done, 0


def _gone_on(committer: StepCommitter, step: Step, target: TargetTable) -> bool:
    """Whether a later step of this run has landed: rows it wrote without the column keep their null."""
    log = committer.tables.search(committer.tables.open(target.root, target.name), target.base)
    ours = [commit.stamp.step for commit in log.commits if commit.stamp and commit.stamp.run == committer.run]
    return bool(ours) and not ours[-1].startswith(f"{step.id}.")


WITHDRAWN = ".withdrawn"
"""How the stamp of a commit ends that takes back what another one inserted, under that one's stamp."""


def upsert(
    committer: StepCommitter, step: Step, part: UpsertRows, target: TargetTable, stamp: Stamp, watch: Watch
) -> StepCommits:
    """Land the upsert; keys that others inserted meanwhile are withdrawn, and upserted again."""
    done: list[Commit | RowCounts] = []
    context = StagingContext(watch=watch)
    commit = committer.commit(step, part, target, stamp, context)
    for _ in range(MAX_ATTEMPTS):
        done.append(context.counts if commit is None else commit)
        if commit is None or target.private:
            return done
        repeated = withdraw_duplicates(committer, (target.root, target.name), target.base, commit, part.on)
        if not repeated.num_rows:
            return done
        done.append(RowCounts(-repeated.num_rows))
        stamp = Stamp(stamp.run, stamp.revision, f"{stamp.step}.again")
        part, context = retry_for(part, repeated), StagingContext()
        commit = committer.commit(step, part, target, stamp, context)
    raise ContentionError(
        f"other writers inserted the same keys in all {MAX_ATTEMPTS} attempts; step {step.id} on "
        f"{target.name} is incomplete",
        next_step="run the same command again when fewer writers are active; it continues from here",
    )


def withdraw_duplicates(
    committer: Committer, place: tuple[str, str], base: int, commit: Commit, on: Sequence[str]
) -> pa.Table:
    """Withdraw the rows that `commit` inserted although somebody else did, too; the rows.

    `place` is root and table. Asked again after a death it finds the same rows, for it looks at versions
    that do not change, and withdraws them once.
    """
    root, name = place
    tables = committer.tables
    read = tables.find(root, name, base) if base else None
    before, after = (tables.find(root, name, version) for version in (commit.version - 1, commit.version))
    if before is None or after is None:
        # Cleaned away before it could be guarded, so nobody can tell what it inserted.
        return pa.table({})
    repeated = repeated_insertions(read, before, after, on)
    if repeated.num_rows and commit.stamp is not None:
        own = Stamp(committer.run, commit.stamp.revision, f"{commit.stamp.step}{WITHDRAWN}")
        landed = committer.find_landed(root, name, commit.version, own) or committer.commit_with_retry(
            root, name, own, partial(withdrawn, repeated, on)
        )
        if landed is not None:
            committer.guard_commit(root, name, landed, before=False)
    return repeated


UNDOING = "undo/"
"""How the id of a step begins that puts back one of its own run."""


def undo(
    committer: StepCommitter, step: Step, part: UndoRows, target: TargetTable, stamp: Stamp
) -> StepCommits:
    """Put back each commit that the step undoes, the newest first."""
    done: list[Commit | RowCounts] = []
    unfinished = step.id.startswith(UNDOING)
    for number, landed in reversed(list(enumerate(step.undoes))):
        if unfinished:
            # It may have died before it did, and rows that it moved are followed as long as it is there.
            committer.guard_versions(landed.prefix, landed.table, versions_of(landed))
        before, after = (_as_it_was(committer.tables, landed, version) for version in versions_of(landed))
        reversal = Reversal(before, after, committer.tables, target.base, part.on, part.overwrite, unfinished)
        for what, putting_back in UNDO_STEPS.items():
            own = Stamp(stamp.run, stamp.revision, f"{stamp.step}.{number}.{what}")
            reversal.counts = RowCounts()
            commit = committer.find_landed_part(target, own) or committer.commit_with_retry(
                target.root, target.name, own, partial(putting_back, reversal)
            )
            done.append(commit or reversal.counts)
            committer.on_skipped(f"{step.id}.{number}.{what}", reversal.skipped_rows)
            if commit is not None and (commit.moves or not target.private):
                committer.guard_commit(target.root, target.name, commit, before=True)
            if commit is not None and not target.private:
                done += _there_once(committer, target, commit, reversal) if what == "deleted" else ()
    return done


def versions_of(landed: CommitRef) -> tuple[int, int]:
    """The version before a commit, and the one it made."""
    return landed.version - 1, landed.version


def _as_it_was(tables: Tables, landed: CommitRef, version: int) -> Table:
    found = tables.find(landed.prefix, landed.table, version)
    if found is None:
        raise Irreversible(
            f"version {version} of {landed.table} was removed by cleanup, so the changes of version "
            f"{landed.version} are unknown",
            next_step="list the versions with lancemig history --lineage -v, then compare them and "
            "repair the "
            "table by hand",
        )
    return found


def _there_once(
    committer: StepCommitter, target: TargetTable, commit: Commit, reversal: Reversal
) -> StepCommits:
    """Withdraw rows that came back while somebody inserted their key again."""
    identity = reversal.identity(committer.tables.open(target.root, target.name))
    if not identity:
        return []
    repeated = withdraw_duplicates(committer, (target.root, target.name), target.base, commit, identity)
    return [RowCounts(-repeated.num_rows, repeated.num_rows)]
