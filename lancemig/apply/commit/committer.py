"""Committing to tables that others write to: staged, stamped, and once, whatever came in between."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lancemig.apply.commit.intents import CommitIntents, StepFilter
from lancemig.apply.environment import Environment
from lancemig.apply.lock import Lease
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
)

StageFunction = Callable[[Table], Staged | None]

_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 100
_LONGEST_PAUSE = 1.0


class ContentionError(Refused):
    """Other writers came in between until patience was at its end; nothing of ours landed."""


@dataclass(frozen=True)
class Committer:
    """Commits for one run; every effect first makes sure that the lease is still held.

    `patience` bounds the seconds that are spent on trying again after the first conflict. With `attempts`,
    commits to the live root are announced.
    """

    tables: Tables
    run: str
    lease: Lease
    environment: Environment
    retry_seconds: float
    intents: CommitIntents | None = field(default=None, kw_only=True)

    def find_landed(self, root: str, name: str, base: int, stamp: Stamp) -> Commit | None:
        """The commit with this stamp, if the table's log since version `base` has one."""
        table = self.tables.find(root, name)
        landed = None if table is None else self._stamped(table, base, stamp)
        if landed is not None:
            log_event(_log, "already_landed", "%s: step %s landed before, as version %d", name, stamp.step,
                      landed.version, table=name, root=root, step=stamp.step,
                      version=landed.version)  # fmt: skip
        return landed

    def _stamped(self, table: Table, since: int, stamp: Stamp) -> Commit | None:
        found = self.find_commits(table, since, lambda step: step == stamp.step)
        return found[0] if found else None

    def find_commits(self, table: Table, since: int, wanted: StepFilter) -> list[Commit]:
        """The commits of this run after version `since` that are wanted, oldest first.

        OutcomeUnknown where one may have landed as a version that was cleaned away.
        """
        log = self.tables.search(table, since)
        if self.intents is not None and table.root == self.intents.root:
            return self.intents.find_or_raise(log, wanted)
        found = log.of(self.run, wanted)
        if not found:
            log.whole()
        return found

    def commit_with_retry(
        self,
        root: str,
        name: str,
        stamp: Stamp,
        staging: StageFunction,
        afresh: Callable[[], None] = lambda: None,
        attempts: int = MAX_ATTEMPTS,
    ) -> Commit | None:
        """Stage from the newest version and commit; again after each conflict, so nothing stale lands.

        None when there is nothing to do. Refused when other writers came in between too often, or for too
        long; what the staging keeps makes the next attempt shorter, unless its files are gone: then `afresh`
        is called before.
        """
        first: datetime | None = None
        last: Conflict | None = None
        for attempt in range(attempts):
            table = self.tables.open(root, name)
            staged = staging(table)
            if staged is None:
                return None
            if last is None:
                # Not before: staging may take hours, and a death in it leaves no doubt.
                self._record_intent(table, stamp)
            self.lease.renew()
            try:
                version = self.tables.commit(table, staged, stamp)
            except Conflict as conflict:
                # A commit whose answer was lost and that is tried again conflicts with itself.
                newest = self.tables.open(root, name)
                landed = self._stamped(newest, table.version, stamp)
                if landed is not None:
                    log_event(_log, "already_landed", "%s: step %s landed as version %d; its answer was lost",
                              name, stamp.step, landed.version,
                              table=name, root=root, step=stamp.step, version=landed.version)  # fmt: skip
                    return landed
                cause = "cleanup removed staged files" if isinstance(conflict, FilesGone) else "other commits"
                log_event(_log, "commit_conflict", "%s: attempt %d of step %s: %s after version %d, up to %d",
                          name, attempt + 1, stamp.step, cause, table.version, newest.version, table=name,
                          root=root, step=stamp.step, attempt=attempt + 1, cause=cause, after=table.version,
                          upto=newest.version)  # fmt: skip
                # The next one's announcement; just before its commit it would give others more time.
                self._record_intent(newest, stamp)
                if isinstance(conflict, FilesGone):
                    afresh()
                last, now = conflict, self.environment.now()
                first = first or now
                if now - first >= timedelta(seconds=self.retry_seconds):
                    break
                self.environment.sleep(min(0.05 * 2**attempt, _LONGEST_PAUSE))
                continue
            return _made(version, table, staged, stamp)
        raise self._contention_error(name, stamp, attempt + 1, last)

    def _record_intent(self, table: Table, stamp: Stamp) -> None:
        if self.intents is not None:
            self.intents.record(table, stamp)

    def _contention_error(
        self, name: str, stamp: Stamp, attempts: int, last: Conflict | None
    ) -> ContentionError:
        return ContentionError(
            f"step {stamp.step} on {name} was not committed: other writers committed first in "
            f"{attempts} attempts: {last}",
            next_step="run the same command again when fewer writers are active; it continues from here",
        )

    def guard(self, table: Table) -> None:
        """Keep this version from being cleaned up, for as long as this run's history may be asked for.

        StoreError when it has gone since it was opened.
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
        self.tables.guard(table, f"lancemig/{self.run}/v{table.version}")
        log_event(_log, "guard_added", "%s: version %d guarded", table.name, table.version,
                  table=table.name, root=table.root, version=table.version)  # fmt: skip

    def guard_catalog(self, root: str, versions: Mapping[str, int]) -> None:
        """Guard a version of each table, unless a run has guarded it already; StoreError when it is gone."""
        parallel_map(lambda item: self._guard_newly(root, *item), versions.items())

    def _guard_newly(self, root: str, name: str, version: int) -> None:
        ours = re.compile(rf"lancemig/[^/]+/v{version}(\.\d+)?")
        if not any(ours.fullmatch(guard) for guard in self.tables.guards(root, name)):
            self.guard(self.tables.pinned(root, name, version) or self.tables.open(root, name, version))

    def guard_commit(self, root: str, name: str, commit: Commit, *, before: bool) -> None:
        """Guard the version that a commit made, and the one `before` it, as far as they are still there.

        Gone already: undo will say so, should it ever be asked for.
        """
        if before:
            self._guarded(root, name, commit.version - 1)
        if not self._guarded(root, name, commit.version) and self.intents is not None:
            self.intents.record_cleaned_up(root, commit)

    def guard_versions(self, root: str, name: str, versions: Iterable[int]) -> None:
        """Guard these versions of a table, as far as they are still there."""
        for version in versions:
            self._guarded(root, name, version)

    def _guarded(self, root: str, name: str, version: int) -> bool:
        table = self.tables.pinned(root, name, version)
        if table is None:
            return False
        try:
            self._guard_version(table)
        except Missing:
            return False
        return True


def _made(version: int, table: Table, staged: Staged, stamp: Stamp) -> Commit:
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
