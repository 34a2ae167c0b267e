"""Commits to tables with other writers: staged, stamped, retried after conflicts, and made once."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lancemig.apply.commit.intents import CommitIntents, StepFilter
from lancemig.apply.environment import Environment
from lancemig.apply.lock import Lease
from lancemig.catalog.stamps import guard_name, guarded_version
from lancemig.errors import Refused, StoreError
from lancemig.events import log_event
from lancemig.store.lance import (
    Commit,
    Conflict,
    FilesGone,
    Missing,
    Staged,
    Stamp,
    Table,
    Tables,
    parallel_map,
    require_readable,
)

StageFunction = Callable[[Table], Staged | None]
"""Stages a transaction from a pinned table; None when there is nothing to change."""

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 100
_LONGEST_PAUSE = 1.0
"""Seconds between two attempts."""


class ContentionError(Refused):
    """Other writers committed first in every attempt; nothing was committed."""


@dataclass(frozen=True)
class Committer:
    """Makes commits for one run; the lease is renewed before every effect."""

    tables: Tables

    run: str
    """The id of the run, for the stamps."""

    lease: Lease
    environment: Environment

    retry_seconds: float
    """How long a commit is retried after its first conflict."""

    intents: CommitIntents | None = field(default=None, kw_only=True)
    """Records commits to the live root before they are made; None outside of a run."""

    on_commit: Callable[[Table], None] = field(default=lambda _: None, kw_only=True)
    """Called with the table after each commit."""

    def find_landed(self, root: str, name: str, base: int, stamp: Stamp) -> Commit | None:
        """The commit with this stamp, if the table's log has one after version `base`."""
        table = self.tables.find(root, name)
        landed = None if table is None else self._find_stamped(table, base, stamp)
        if landed is not None:
            log_event(_log, "already_landed", "%s: step %s landed before, as version %d", name, stamp.step,
                      landed.version, table=name, root=root, step=stamp.step,
                      version=landed.version)  # fmt: skip
        return landed

    def _find_stamped(self, table: Table, since: int, stamp: Stamp) -> Commit | None:
        return next(iter(self.find_commits(table, since, lambda step: step == stamp.step)), None)

    def find_commits(self, table: Table, since: int, wanted: StepFilter) -> list[Commit]:
        """The wanted commits of this run after version `since`, oldest first.

        Raises OutcomeUnknown where one may be in a version that cleanup removed.
        """
        log = self.tables.search(table, since)
        if self.intents is not None and table.root == self.intents.root:
            return self.intents.find_or_raise(log, wanted)
        commits = log.of(self.run, wanted)
        if not commits:
            log.whole()
        return commits

    def commit_with_retry(
        self,
        root: str,
        name: str,
        stamp: Stamp,
        stage: StageFunction,
        on_files_gone: Callable[[], None] = lambda: None,
        attempts: int = MAX_ATTEMPTS,
    ) -> Commit | None:
        """Stage from the newest version and commit; repeat both after each conflict.

        Args:
            root: The root of the table.
            name: The table.
            stamp: What identifies the commit in the table's log.
            stage: Stages the transaction. It may keep results, to be faster in the next attempt.
            on_files_gone: Called before the next attempt when staged files were removed meanwhile.
            attempts: The most attempts.

        Returns:
            The commit, or None when there is nothing to change.

        Raises:
            ContentionError: Other writers committed first too often, or for too long.
            Missing: Files of the newest version are gone.
        """
        began: datetime | None = None
        stages = _StagedAgain(self, stage, stamp)
        why = ""
        for attempt in range(attempts):
            outcome = stages.attempt(self.tables.open(root, name), attempt)
            if outcome is None or isinstance(outcome, Commit):
                return outcome
            why = outcome.message
            if isinstance(outcome, FilesGone):
                on_files_gone()
            now = self.environment.now()
            began = began or now
            if now - began >= timedelta(seconds=self.retry_seconds):
                break
            self.environment.sleep(min(0.05 * 2**attempt, _LONGEST_PAUSE))
        raise ContentionError(
            f"step {stamp.step} on {name} was not committed: other writers committed first in "
            f"{attempt + 1} attempts: {why}",
            next_step="run the same command again when fewer writers are active; it continues from here",
        )

    def change_with_retry(self, name: str, stamp: Stamp, change: Callable[[], None]) -> None:
        """Make a change whose commit Lance makes, and which does nothing when it is repeated.

        Raises:
            ContentionError: Other writers committed first too often, or for too long.
        """
        began = self.environment.now()
        for attempt in range(MAX_ATTEMPTS):
            self.lease.renew()
            try:
                return change()
            except (Conflict, Missing) as failure:
                why = failure.message
            if self.environment.now() - began >= timedelta(seconds=self.retry_seconds):
                break
            self.environment.sleep(min(0.05 * 2**attempt, _LONGEST_PAUSE))
        raise ContentionError(
            f"step {stamp.step} on {name} was not completed: other writers committed first in "
            f"{attempt + 1} attempts: {why}",
            next_step="run the same command again when fewer writers are active; it continues from here",
        )

    def try_commit(
        self, table: Table, staged: Staged, stamp: Stamp, attempt: int
    ) -> Commit | Conflict | Missing:
        """Commit once; the commit, also if only its answer was lost, or why nothing landed."""
        self.lease.renew()
        try:
            version = self.tables.commit(table, staged, stamp)
            self.on_commit(table)
        except (Conflict, Missing) as failure:
            # A commit whose response was lost, and that is retried, conflicts with itself.
            newest = self.tables.open(table.root, table.name)
            landed = self._find_stamped(newest, table.version, stamp)
            about = {"table": table.name, "root": table.root, "step": stamp.step}
            if landed is not None:
                log_event(_log, "already_landed", "%s: step %s landed as version %d; its answer was lost",
                          table.name, stamp.step, landed.version, version=landed.version,
                          **about)  # fmt: skip
                return landed
            removed = isinstance(failure, FilesGone | Missing)
            cause = "cleanup removed files" if removed else "other commits"
            log_event(_log, "commit_conflict", "%s: attempt %d of step %s: %s after version %d, up to %d",
                      table.name, attempt + 1, stamp.step, cause, table.version, newest.version,
                      attempt=attempt + 1, cause=cause, after=table.version, upto=newest.version,
                      **about)  # fmt: skip
            # For the next attempt; directly before its commit it would give others more time.
            self.record_intent(newest, stamp)
            return failure
        return Commit(
            version,
            type(staged.operation).__name__,
            stamp,
            table.version,
            staged.changed,
            staged.skipped,
            staged.indeterminate,
            staged.moves,
        )

    def is_newest(self, table: Table) -> bool:
        """Whether no later version exists, so that staging again would read the same files."""
        return self.tables.open(table.root, table.name).version == table.version

    def record_intent(self, table: Table, stamp: Stamp) -> None:
        """Announce a commit to the live root before it is made."""
        if self.intents is not None:
            self.intents.record(table, stamp)

    def guard(self, table: Table) -> None:
        """Guard the pinned version against cleanup, for as long as the history of this run may be needed.

        Raises StoreError when cleanup has removed it since it was opened.
        """
        try:
            self._guard_version(table)
        except Missing as error:
            raise StoreError(
                f"version {table.version} of {table.name} was removed by cleanup before it was guarded",
                next_step="run the same command again",
            ) from error

    def _guard_version(self, table: Table) -> None:
        self.lease.renew()
        self.tables.guard(table, guard_name(self.run, table.version))
        log_event(_log, "guard_added", "%s: version %d guarded", table.name, table.version,
                  table=table.name, root=table.root, version=table.version)  # fmt: skip

    def guard_catalog(self, root: str, versions: Mapping[str, int]) -> None:
        """Guard a version of each table unless a run has guarded it; StoreError when it was removed."""
        parallel_map(lambda item: self._guard_newly(root, *item), versions.items())

    def _guard_newly(self, root: str, name: str, version: int) -> None:
        if not any(guarded_version(guard) == version for guard in self.tables.guards(root, name)):
            self.guard(self.tables.pinned(root, name, version) or self.tables.open(root, name, version))

    def guard_commit(self, root: str, name: str, commit: Commit, *, before: bool) -> None:
        """Guard the version of a commit, and the one `before` it, as far as they exist.

        A version that was removed is recorded, so that a later undo reports it.
        """
        if before:
            self._guard_if_exists(root, name, commit.version - 1)
        if not self._guard_if_exists(root, name, commit.version) and self.intents is not None:
            self.intents.record_cleaned_up(root, commit)

    def guard_versions(self, root: str, name: str, versions: Iterable[int]) -> None:
        """Guard these versions of a table, as far as they exist."""
        for version in versions:
            self._guard_if_exists(root, name, version)

    def _guard_if_exists(self, root: str, name: str, version: int) -> bool:
        table = self.tables.pinned(root, name, version)
        if table is None:
            return False
        try:
            self._guard_version(table)
        except Missing:
            return False
        return True


@dataclass
class _StagedAgain:
    """A commit that is staged from one version after another, until it lands."""

    committer: Committer
    stage: StageFunction
    stamp: Stamp
    announced: bool = False

    def attempt(self, table: Table, number: int) -> Commit | Conflict | Missing | None:
        """Stage from `table` and commit: the commit, why nothing landed, or None if nothing is to change.

        Raises:
            Missing: files of the newest version are gone.
            PlanError: Lance could not read the table afterwards.
        """
        try:
            staged = self.stage(table)
            if staged is not None:
                require_readable(table, staged, self.committer.tables.options())
        except Missing as gone:
            log_event(_log, "version_gone", "%s: attempt %d of step %s: version %d was cleaned up: %s",
                      table.name, number + 1, self.stamp.step, table.version, gone.message,
                      table=table.name, root=table.root, step=self.stamp.step, attempt=number + 1,
                      version=table.version)  # fmt: skip
            if self.committer.is_newest(table):
                raise
            return gone
        if staged is None:
            return None
        if not self.announced:
            # Not before: staging may take hours, and after a death during it the outcome is certain.
            self.committer.record_intent(table, self.stamp)
            self.announced = True
        return self.committer.try_commit(table, staged, self.stamp, number)
