"""Commits of a step: the table they go to, the stamp they carry, and what each of them has in common."""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer
from lancemig.apply.effects.stage import stage
from lancemig.apply.environment import OnProgress, Progress, Watch, no_progress
from lancemig.apply.rows.context import RowCounts, StagingContext
from lancemig.apply.rows.results_cache import FunctionResultCache, ResultStore
from lancemig.apply.rows.skipped import OnSkipped, ignore, skipped_rows
from lancemig.catalog.operations import AddColumn, BackfillColumns, Operation, RewriteTable, ValueChange
from lancemig.catalog.schema import TableSchema
from lancemig.plan.index_upkeep import affected_indices
from lancemig.plan.plan import Step
from lancemig.store.lance import Commit, Staged, Stamp, Table

StepCommits = Sequence[Commit | RowCounts]
"""The commits of a part, oldest first, and row counts that no commit carries."""

OperationT_co = TypeVar("OperationT_co", bound=Operation, covariant=True)


@dataclass(frozen=True)
class TargetTable:
    """The table that a step changes."""

    root: str
    name: str

    base: int
    """The version after which the step may have landed: the table's log is searched from there."""

    private: bool
    """Whether no other writer knows the root. Only there a table may be overwritten."""

    before: TableSchema | None
    after: TableSchema | None

    source: Table | None = None
    """The live table from which a staged one is written, while that does not exist."""

    layouts: tuple[RewriteTable, ...] = ()
    """All layout changes of the staged table. Some can only be made when the table is created."""


@dataclass(frozen=True)
class StepCommit(Generic[OperationT_co]):
    """One commit that a step makes, before it is made."""

    step: Step

    part: OperationT_co
    """What the commit does: the step's operation, or one of its parts."""

    target: TargetTable

    stamp: Stamp
    """What identifies the commit in the table's log."""

    def other(self, part: Operation, stamp: Stamp) -> "StepCommit[Any]":
        """Another commit of the same step to the same table."""
        return StepCommit(self.step, part, self.target, stamp)


@dataclass(frozen=True)
class StepCommitter(Committer):
    """Makes the commits of steps for one run."""

    results_folder: str
    """The folder that stores the results of row functions and write checkpoints during the run."""

    on_progress: OnProgress = no_progress

    on_skipped: OnSkipped = ignore
    """Called with the rows that a step leaves unchanged."""

    guarding: bool = True
    """Whether to guard the versions that an undo needs."""

    refresh_indices: bool = True
    """Whether a value change in place builds indices again that cover too little afterwards."""

    fresh: bool = False
    """Whether the run started in this process, so that no step needs to be searched for in a log."""

    def find_landed_part(self, target: TargetTable, stamp: Stamp) -> Commit | None:
        """The commit with this stamp, if the table's log has one."""
        return None if self.fresh else self.find_landed(target.root, target.name, target.base, stamp)

    def commit(
        self, step_commit: StepCommit[Operation], context: StagingContext, attempts: int = MAX_ATTEMPTS
    ) -> Commit | None:
        """Make the commit unless it has landed, and guard it.

        Args:
            step_commit: The commit.
            context: The rows to look at; afterwards it has the counts and the skipped rows.
            attempts: How often to retry after a conflict.

        Returns:
            The commit, or None when there is nothing to change.
        """
        part, target, stamp = step_commit.part, step_commit.target, step_commit.stamp
        context.results = self.function_results(step_commit.step, part, target)
        if target.after is not None and not target.private:
            context.key = target.after.key
            if context.fragments is None:
                context.indices = tuple(affected_indices(part, target.after))

        def stage_part(table: Table) -> Staged | None:
            try:
                return stage(part, table, context)
            finally:
                if context.skipped_rows:
                    self.on_skipped(step_commit.step.id, skipped_rows(table, context.skipped_rows))

        with closing(context):
            commit = self.find_landed_part(target, stamp) or self.commit_with_retry(
                target.root, target.name, stamp, stage_part, context.forget, attempts
            )
        if commit is not None:
            self.guard_part(part, target, commit)
        return commit

    def commit_once(self, step_commit: StepCommit[Operation], watch: Watch) -> StepCommits:
        """Make the one commit of a part; its counts where there is nothing to change."""
        context = StagingContext(watch=watch)
        return [self.commit(step_commit, context) or context.counts]

    def function_results(self, step: Step, part: Operation, target: TargetTable) -> FunctionResultCache:
        """The results of the step's function so far in this run."""
        if not isinstance(part, BackfillColumns | AddColumn) or part.using is None:
            return FunctionResultCache(self.environment.now)
        folder = f"{self.results_folder}{step.id.replace('/', '.')}/"
        results = ResultStore(self.tables.objects, folder, self.lease.renew)
        return FunctionResultCache(
            self.environment.now,
            results,
            partial(self.tables.find, target.root, target.name),
            self.environment.sleep,
        )

    def guard_part(self, part: Operation, target: TargetTable, commit: Commit) -> None:
        """Guard the versions that an undo compares, and, among other writers, the one with the stamp."""
        changes_values = isinstance(part, ValueChange)
        if self.guarding and (changes_values or not target.private):
            self.guard_commit(target.root, target.name, commit, before=changes_values)


@dataclass
class ProgressCounter:
    """Adds up the rows and bytes of the batches of one step, and reports the totals."""

    on_progress: OnProgress
    step: Step
    rows: int = 0
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, rows: int, size: int) -> None:
        """Add a batch of `rows` rows and `size` bytes."""
        step = self.step
        with self._lock:
            self.rows += rows
            self.bytes += size
            self.on_progress(
                Progress(
                    "step",
                    step.table,
                    step.id,
                    step.describe,
                    rows=self.rows,
                    of=step.rows,
                    bytes=self.bytes,
                )
            )


def commits_only(step_commits: StepCommits) -> list[Commit]:
    """The commits among these, oldest first."""
    return [commit for commit in step_commits if isinstance(commit, Commit)]
