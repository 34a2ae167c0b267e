"""Committing parts of a step to its table: what the ways of landing an operation have in common."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer
from lancemig.apply.effects.stage import stage
from lancemig.apply.environment import OnProgress, Progress, no_progress
from lancemig.apply.rows.context import RowCounts, StagingContext
from lancemig.apply.rows.results_cache import FunctionResultCache, ResultStore
from lancemig.apply.rows.skipped import OnSkipped, ignore, skipped_rows
from lancemig.catalog.operations import AddColumn, BackfillColumns, Operation, RewriteTable, ValueChange
from lancemig.catalog.schema import TableSchema
from lancemig.plan.plan import Step
from lancemig.store.lance import Commit, Staged, Stamp, Table

StepCommits = Sequence[Commit | RowCounts]
"""What a part came to: commits, and counts where there was nothing to commit."""


@dataclass(frozen=True)
class TargetTable:
    """Where a step takes effect: the table `name` under `root`.

    `base` is the version its log is searched from. Only a `private` root may have a table overwritten.
    `source` is the live table a staged one is written from, while that does not exist yet; `layouts` are what
    later steps ask of its layout, which it can only be given when it is made.
    """

    root: str
    name: str
    base: int
    private: bool
    before: TableSchema | None
    after: TableSchema | None
    source: Table | None = None
    layouts: tuple[RewriteTable, ...] = ()


@dataclass(frozen=True)
class StepCommitter(Committer):
    """Commits parts of steps for one run.

    `on_left` is told of rows for which a step has no answer; `shelf` is the folder where answers are kept
    while the run is under way. While `guarding`, the versions around a value change are kept for its undo.
    Where the run is `fresh`, of this very process, none of its steps can have landed before it says so.
    """

    results_folder: str
    on_progress: OnProgress = no_progress
    on_skipped: OnSkipped = ignore
    guarding: bool = True
    fresh: bool = False

    def find_landed_part(self, target: TargetTable, stamp: Stamp) -> Commit | None:
        """The commit with this stamp, if it has landed at the site."""
        return None if self.fresh else self.find_landed(target.root, target.name, target.base, stamp)

    def commit(
        self,
        step: Step,
        part: Operation,
        target: TargetTable,
        stamp: Stamp,
        context: StagingContext,
        attempts: int = MAX_ATTEMPTS,
    ) -> Commit | None:
        """Land `part` under `stamp`, unless it has landed, and guard it; None when there is nothing to do.

        The scope has the counts then, and the rows that are left.
        """
        context.results = self.function_results(step, part, target)

        def staging(table: Table) -> Staged | None:
            try:
                return stage(part, table, context)
            finally:
                if context.skipped_rows:
                    self.on_skipped(step.id, skipped_rows(table, context.skipped_rows))

        commit = self.find_landed_part(target, stamp) or self.commit_with_retry(
            target.root, target.name, stamp, staging, context.forget, attempts
        )
        if commit is not None:
            self.guard_part(part, target, commit)
        return commit

    def function_results(self, step: Step, part: Operation, target: TargetTable) -> FunctionResultCache:
        """What the function of this step has answered so far, in this run."""
        if not isinstance(part, BackfillColumns | AddColumn) or part.using is None:
            return FunctionResultCache(self.environment.now)
        folder = f"{self.results_folder}{step.id.replace('/', '.')}/"
        results = ResultStore(self.tables.objects, folder, self.lease.renew)
        return FunctionResultCache(
            self.environment.now, results, partial(self.tables.find, target.root, target.name)
        )

    def guard_part(self, part: Operation, target: TargetTable, commit: Commit) -> None:
        """Keep what an undo compares, and, among other writers, the stamp that says that it has landed."""
        if isinstance(part, ValueChange) and self.guarding:
            self.guard_commit(target.root, target.name, commit, before=True)
        elif not target.private and self.guarding:
            self.guard_commit(target.root, target.name, commit, before=False)


@dataclass
class ProgressCounter:
    """Adds up what goes by in one step, and tells it."""

    on_progress: OnProgress
    step: Step
    rows: int = 0
    bytes: int = 0
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, rows: int, size: int) -> None:
        """So many rows, so many bytes."""
        step = self.step
        with self._alone:
            self.rows += rows
            self.bytes += size
            done, size = self.rows, self.bytes
            self.on_progress(
                Progress("step", step.table, step.id, step.describe, rows=done, of=step.rows, bytes=size)
            )


def commits_only(landing: StepCommits) -> list[Commit]:
    """The commits of a landing, oldest first."""
    return [one for one in landing if isinstance(one, Commit)]
