"""Committing parts of a step to its table: what the ways of landing an operation have in common."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from lancemig.apply.commit.committer import ATTEMPTS, Committer
from lancemig.apply.effects.stage import stage
from lancemig.apply.environment import OnProgress, Progress, silent
from lancemig.apply.rows.context import Scope, Tally
from lancemig.apply.rows.results_cache import Answers, Shelf
from lancemig.apply.rows.skipped import OnLeft, lines, unheard
from lancemig.catalog.operations import AddColumn, BackfillColumns, Operation, RewriteTable, ValueChange
from lancemig.catalog.schema import TableSchema
from lancemig.plan.plan import Step
from lancemig.store.lance import Commit, Staged, Stamp, Table

Landing = Sequence[Commit | Tally]
"""What a part came to: commits, and counts where there was nothing to commit."""


@dataclass(frozen=True)
class Site:
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
class Hands(Committer):
    """Commits parts of steps for one run.

    `on_left` is told of rows for which a step has no answer; `shelf` is the folder where answers are kept
    while the run is under way. While `guarding`, the versions around a value change are kept for its undo.
    Where the run is `fresh`, of this very process, none of its steps can have landed before it says so.
    """

    shelf: str
    on_progress: OnProgress = silent
    on_left: OnLeft = unheard
    guarding: bool = True
    fresh: bool = False

    def found(self, site: Site, stamp: Stamp) -> Commit | None:
        """The commit with this stamp, if it has landed at the site."""
        return None if self.fresh else self.landed(site.root, site.name, site.base, stamp)

    def commit(
        self, step: Step, part: Operation, site: Site, stamp: Stamp, scope: Scope, attempts: int = ATTEMPTS
    ) -> Commit | None:
        """Land `part` under `stamp`, unless it has landed, and guard it; None when there is nothing to do.

        The scope has the counts then, and the rows that are left.
        """
        scope.answers = self.answers(step, part, site)

        def staging(table: Table) -> Staged | None:
            try:
                return stage(part, table, scope)
            finally:
                if scope.left:
                    self.on_left(step.id, lines(table, scope.left))

        commit = self.found(site, stamp) or self.committed(
            site.root, site.name, stamp, staging, scope.forget, attempts
        )
        if commit is not None:
            self.guard_landed(part, site, commit)
        return commit

    def answers(self, step: Step, part: Operation, site: Site) -> Answers:
        """What the function of this step has answered so far, in this run."""
        if not isinstance(part, BackfillColumns | AddColumn) or part.using is None:
            return Answers(self.caller.now)
        folder = f"{self.shelf}{step.id.replace('/', '.')}/"
        shelf = Shelf(self.tables.objects, folder, self.lease.hold)
        return Answers(self.caller.now, shelf, partial(self.tables.find, site.root, site.name))

    def guard_landed(self, part: Operation, site: Site, commit: Commit) -> None:
        """Keep what an undo compares, and, among other writers, the stamp that says that it has landed."""
        if isinstance(part, ValueChange) and self.guarding:
            self.guard_commit(site.root, site.name, commit, before=True)
        elif not site.private and self.guarding:
            self.guard_commit(site.root, site.name, commit, before=False)


@dataclass
class Watching:
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


def commits(landing: Landing) -> list[Commit]:
    """The commits of a landing, oldest first."""
    return [one for one in landing if isinstance(one, Commit)]
