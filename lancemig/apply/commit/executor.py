"""Executing one step on one table: how the commits of each part are made, and what the step did."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from lancemig.apply.commit.contended import add_column, undo, upsert
from lancemig.apply.commit.table_write import write_table
from lancemig.apply.commit.target import (
    ProgressCounter,
    StepCommit,
    StepCommits,
    StepCommitter,
    TargetTable,
    commits_only,
)
from lancemig.apply.effects.stage import parts
from lancemig.apply.environment import Progress, Watch
from lancemig.apply.rows.context import RowCounts
from lancemig.catalog.lineage import StepDone
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    Compact,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropTable,
    Operation,
    OptimizeIndices,
    RenameTable,
    RewriteTable,
    TransformTable,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.schema import Index, has_column, index_differences
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import index_stamp, part_stamp
from lancemig.errors import PlanError, StoreError
from lancemig.plan.index_upkeep import LEAST_COVERAGE, affected_indices
from lancemig.plan.plan import Step
from lancemig.store.lance import Commit, Stamp, Table, Tables, volatile
from lancemig.store.lance.staging import covering_nulls, no_index

CommitStrategy = Callable[[StepCommitter, StepCommit[Any], Watch], StepCommits]
"""Makes the commits of one part, unless they have landed, and guards them."""


def build_index(committer: StepCommitter, step_commit: StepCommit[CreateIndex], watch: Watch) -> StepCommits:
    """Build the index; drop it where its column was dropped meanwhile: it would make every query fail."""
    commits = committer.commit_once(step_commit, watch)
    part, target = step_commit.part, step_commit.target
    if not commits_only(commits):
        return commits
    table = committer.tables.open(target.root, target.name)
    if has_column(table.columns, part.column):
        _require_as_planned(table, part.index)
        return commits
    staged = no_index(table, [part.index.name])
    if staged is not None:
        committer.tables.commit(table, staged, step_commit.stamp)
    raise StoreError(
        f"{target.name}.{part.column} was dropped by another writer while its index was built",
        next_step="lancemig upgrade --plan",
    )


def _require_as_planned(table: Table, planned: Index) -> None:
    """Compare an index that was committed with the operation: Lance accepts what it does not carry out."""
    made = next((index for index in table.schema().indices if index.name == planned.name), None)
    if made is None:
        # Another writer dropped it, or an empty table has no files of it yet.
        return
    differences = [f"{what} is {have}, not {want}" for what, have, want in index_differences(planned, made)]
    if differences:
        raise PlanError(
            f"Lance built index {planned.name} otherwise than planned: {'; '.join(differences)}",
            next_step="change the type or `params` of CreateIndex; and take the index back: "
            "lancemig recover --undo",
        )


def maintain(
    committer: StepCommitter, step_commit: StepCommit[Compact | OptimizeIndices], _watch: Watch
) -> StepCommits:
    """Let Lance compact the table or optimize its indices; no commit of the run, since neither changes a row.

    A run that died has nothing to search for: repeated, Lance does nothing. Lance cannot add rows to a vector
    index whose vectors are all null; a commit of lancemig lets the index cover them, which changes no row
    either.
    """
    part, target, tables = step_commit.part, step_commit.target, committer.tables

    def change() -> None:
        if isinstance(part, Compact):
            replaced = tables.compact(target.root, target.name, part.options)
            text = f"{count_text(replaced, 'fragment')} merged or written again"
            committer.on_progress(Progress("step", target.name, step_commit.step.id, text))
        else:
            of_all = [index.name for index in tables.open(target.root, target.name).schema().indices]
            if names := part.indices or of_all:
                left_out.extend(tables.optimize_indices(target.root, target.name, names))

    left_out: list[str] = []
    committer.change_with_retry(target.name, step_commit.stamp, change)
    for name in left_out:
        stamp = replace(step_commit.stamp, step=index_stamp(step_commit.step.id, name))
        commit = committer.commit_with_retry(
            target.root, target.name, stamp, partial(covering_nulls, name=name)
        )
        if commit is not None:
            committer.guard_part(part, target, commit)
    return []


def no_commit(_committer: StepCommitter, _step_commit: StepCommit[Operation], _watch: Watch) -> StepCommits:
    """Do nothing: the staged root has the table under its new name, or not at all, from the start."""
    return []


_STRATEGIES: dict[type[Operation], CommitStrategy] = {
    CreateTable: write_table,
    BuildTable: write_table,
    TransformTable: write_table,
    RewriteTable: write_table,
    RenameTable: no_commit,
    DropTable: no_commit,
    AddColumn: add_column,
    UpsertRows: upsert,
    UndoRows: undo,
    CreateIndex: build_index,
    Compact: maintain,
    OptimizeIndices: maintain,
}
"""How the commits of a part are made. Every other part is one commit of what `stage` makes of it."""


def commit_strategy(part: Operation) -> CommitStrategy:
    """The strategy for the type of `part`."""
    found = (_STRATEGIES[base] for base in type(part).__mro__ if base in _STRATEGIES)
    return next(found, StepCommitter.commit_once)


@dataclass(frozen=True)
class StepExecutor(StepCommitter):
    """Executes steps for one run."""

    def perform(self, step: Step, operation: Operation, target: TargetTable) -> StepDone:
        """Make the commits of a step that the table's log does not have."""
        self.on_progress(Progress("step", step.table, step.id, step.describe, of=step.rows))
        watch = ProgressCounter(self.on_progress, step)
        commits: list[Commit | RowCounts] = []
        with naming_step(step):
            for number, part in enumerate(parts(operation, (target.before, target.after))):
                stamp = Stamp(self.run, step.revision, part_stamp(step.id, number))
                commits += commit_strategy(part)(self, StepCommit(step, part, target, stamp), watch)
            if commits_only(commits):
                self._refresh_indices(step, affected_indices(operation, target.after), target, watch)
        before, after = _count_matches(self.tables, operation, target, commits)
        return StepDone(
            step=step.id,
            table=target.name,
            versions=tuple(commit.version for commit in commits_only(commits)),
            changed=sum(commit.changed for commit in commits),
            skipped=sum(commit.skipped for commit in commits),
            indeterminate=sum(commit.indeterminate for commit in commits),
            matched_before=before,
            matched_after=after,
            unfilled=sum(counts.unfilled for counts in commits if isinstance(counts, RowCounts)),
        )

    def _refresh_indices(
        self, step: Step, indices: Sequence[Index], target: TargetTable, watch: Watch
    ) -> None:
        """Build those of the declared `indices` again that leave out rows, after a value change.

        Lance takes a fragment out of an index when it replaces the values of the column, however few they
        are. In a staged root every row is indexed again; in a live one, the index is built again when it
        covers less than `LEAST_COVERAGE` of the rows. The commit has no part in what an undo reverts.
        """
        # A rehearsal, which guards nothing, only counts rows.
        if not self.guarding or not (target.private or self.refresh_indices):
            return
        table = self.tables.find(target.root, target.name) if indices else None
        if table is None:
            return
        left_out, rows = table.uncovered(), table.count()
        for index in indices:
            unindexed = left_out.get(index.name, 0)
            enough = rows if target.private else LEAST_COVERAGE * rows
            if rows - unindexed >= enough or not has_column(table.columns, index.column):
                continue
            self.on_progress(Progress("step", step.table, step.id, f"indexing {index.name} again", of=rows))
            part = CreateIndex(table=target.name, **index.model_dump())
            stamp = Stamp(self.run, step.revision, index_stamp(step.id, index.name))
            build_index(self, StepCommit(step, part, target, stamp), watch)


def _count_matches(
    tables: Tables, operation: Operation, target: TargetTable, commits: StepCommits
) -> tuple[int | None, int | None]:
    """How many rows matched `where` before the operation, and match after it; None if it has no `where`."""
    where = getattr(operation, "where", None)
    if where is None:
        return None, None
    before, landed = sum(commit.changed + commit.skipped for commit in commits), commits_only(commits)
    if len(landed) == 1 and landed[0].version == landed[0].read_version + 1 and not volatile(where):
        # No other commit came in between, so the rows that were looked at are all there were.
        after = _matches_after(operation, before)
        if after is not None:
            return before, after
    table = tables.find(target.root, target.name, landed[-1].version if landed else None)
    return before, None if table is None else table.count(where)


def _matches_after(operation: Operation, before: int) -> int | None:
    """How many rows match after the operation looked at `before` rows; None if they must be counted."""
    if isinstance(operation, DeleteRows):
        return 0
    if not isinstance(operation, UpdateRows | BackfillColumns):
        return None
    heads = {path.partition(".")[0] for path in operation.targets} | {operation.flag or "_row", "_row"}
    where = (operation.where or "").lower()
    # A name that needs escapes inside quotes would not be recognized.
    plain = all(head.isidentifier() for head in heads)
    return before if plain and not any(head.lower() in where for head in heads) else None


@contextmanager
def naming_step(step: Step) -> Iterator[None]:
    """Name the step in a PlanError that its execution raises."""
    try:
        yield
    except PlanError as error:
        raise type(error)(
            f"step {step.id} ({step.describe} on {step.table}): {error.message}",
            next_step=error.next_step or "fix the migration, then run the same command again",
        ) from error
