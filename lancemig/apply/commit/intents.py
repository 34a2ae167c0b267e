"""Write-ahead intents: a commit is recorded in the sidecar before it is made, and resolved from the log.

A table's log says which commits of a run have landed, until a cleanup removes versions beside a dead run.
Then only the commit that was recorded last is uncertain: every earlier one was found and guarded, or recorded
as removed, before the next intent was recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lancemig.apply.record import RunRecord
from lancemig.apply.sidecar import CommitIntent, Run
from lancemig.errors import OutcomeUnknown, Refused
from lancemig.store.lance import Commit, Log, Stamp, Table, Tables

StepFilter = Callable[[str], bool]
"""Whether a commit is wanted, by the step in its stamp."""


class OutcomeRuling(StrEnum):
    """The operator's ruling on a commit whose outcome the log does not tell any more."""

    LANDED = "landed"
    LOST = "lost"


@dataclass(frozen=True)
class CommitIntents:
    """The intents of a run for its commits to the live root. Commits to other roots are not recorded."""

    root: str
    """The live root, where other writers commit, too."""

    run_record: RunRecord

    def record(self, table: Table, stamp: Stamp) -> None:
        """Record that a commit is about to be made, staged from the pinned `table` or a later version."""
        self._save(table.root, CommitIntent(stamp=stamp.step, table=table.name, version=table.version))

    def record_creation(self, root: str, name: str, stamp: Stamp) -> None:
        """Record that a table is about to be created."""
        self._save(root, CommitIntent(stamp=stamp.step, table=name, version=0))

    def _save(self, root: str, intent: CommitIntent) -> None:
        if root == self.root:
            self.run_record.save(attempt=intent)

    def record_cleaned_up(self, root: str, commit: Commit) -> None:
        """Record that a commit landed in a version that cleanup removed before it could be guarded."""
        if root == self.root and commit.stamp is not None:
            gone = {**self.run_record.run.gone, commit.stamp.step: commit.version}
            self.run_record.save(attempt=None, gone=gone)

    def find_or_raise(self, log: Log, wanted: StepFilter) -> list[Commit]:
        """The wanted commits of the run, oldest first.

        Raises OutcomeUnknown where the intended commit is wanted, and may be in a version that was removed.
        """
        run = self.run_record.run
        commits = log.of(run.run, wanted)
        in_log = {commit.stamp.step for commit in commits if commit.stamp}
        commits += [
            Commit(version, "", Stamp(run.run, "", step), version - 1)
            for step, version in run.gone.items()
            if wanted(step) and step not in in_log
        ]
        intent, removed = run.attempt, _uncertain_version(log, run)
        if intent is not None and removed is not None and wanted(intent.stamp):
            raise OutcomeUnknown(
                f"run {run.run} was killed while it committed step {intent.stamp} to {log.name} "
                f"after version {intent.version}; version {removed}, which may be that commit, was "
                "removed by cleanup",
                next_step=f"check whether {log.name} has the changes of the step, then: lancemig recover "
                "--assume landed, or lancemig recover --assume lost",
            )
        return sorted(commits, key=lambda commit: commit.version)


def _uncertain_version(log: Log, run: Run) -> int | None:
    """The first removed version that may be the intended commit; None where the log tells the outcome."""
    intent = run.attempt
    if intent is None or log.of(run.run, lambda step: step == intent.stamp):
        return None
    return next((version for version in log.missing if version > intent.version), None)


def rule_outcome(record: RunRecord, tables: Tables, root: str, ruling: OutcomeRuling) -> None:
    """Record the operator's ruling on the intended commit, and mention it in the note for the lineage.

    Raises Refused where the table's log tells the outcome.
    """
    run, intent = record.run, record.run.attempt
    table = None if intent is None else tables.find(root, intent.table)
    if intent is not None and table is not None:
        removed = _uncertain_version(tables.search(table, intent.version), run)
        if removed is not None:
            landed = {intent.stamp: removed} if ruling is OutcomeRuling.LANDED else {}
            text = f"step {intent.stamp} on {intent.table} was assumed {ruling}"
            note = f"{run.note}; {text}" if run.note else text
            record.save(attempt=None, gone={**run.gone, **landed}, note=note)
            return
    raise Refused(
        f"no commit of run {run.run} has an unknown outcome: --assume is not needed",
        next_step="lancemig recover, or lancemig recover --undo",
    )
