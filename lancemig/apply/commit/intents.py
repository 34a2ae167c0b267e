"""Commits are announced in the sidecar before they are made, and what came of them is told from the log.

A table's log says which of our commits have landed, until somebody cleans it up beside a dead run. Then only
the one commit that was announced last may have landed in a version that is gone: any other was found and
guarded, or written down as gone, before the next was announced.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from lancemig.apply.sidecar import CommitIntent, Run
from lancemig.errors import OutcomeUnknown, Refused
from lancemig.store.lance import Commit, Log, Stamp, Table, Tables

StepFilter = Callable[[str], bool]
"""Whether a step is sought, by what its stamp calls it."""


class OutcomeRuling(StrEnum):
    """What a person saw of a commit of which the log does not tell any more."""

    LANDED = "landed"
    LOST = "lost"


class RunRecord(Protocol):
    """What is known of a run, and a way to write it down."""

    @property
    def run(self) -> Run:
        """What was written last."""
        ...

    def save(self, **fields: Any) -> None:
        """Write these fields of the run into its sidecar."""
        ...


@dataclass(frozen=True)
class CommitIntents:
    """What a run says in its sidecar of its commits to the tables under `root`, among other writers."""

    root: str
    run_record: RunRecord

    def record(self, table: Table, stamp: Stamp) -> None:
        """Say that a commit staged from the pinned `table`, or a later version, is about to be made."""
        self._save(table.root, CommitIntent(stamp=stamp.step, table=table.name, version=table.version))

    def record_creation(self, root: str, name: str, stamp: Stamp) -> None:
        """Say that a table is about to be created."""
        self._save(root, CommitIntent(stamp=stamp.step, table=name, version=0))

    def _save(self, root: str, attempt: CommitIntent) -> None:
        if root == self.root:
            self.run_record.save(attempt=attempt)

    def record_cleaned_up(self, root: str, commit: Commit) -> None:
        """Say that a commit has landed, as a version that was cleaned away before it could be guarded."""
        if root == self.root and commit.stamp is not None:
            self.run_record.save(
                attempt=None, gone={**self.run_record.run.gone, commit.stamp.step: commit.version}
            )

    def find_or_raise(self, log: Log, wanted: StepFilter) -> list[Commit]:
        """The commits that are sought, oldest first; OutcomeUnknown where one may be gone."""
        run = self.run_record.run
        found = log.of(run.run, wanted)
        there = {commit.stamp.step for commit in found if commit.stamp}
        found += [
            Commit(version, "", Stamp(run.run, "", step), version - 1)
            for step, version in run.gone.items()
            if wanted(step) and step not in there
        ]
        attempt, hole = run.attempt, _uncertain_version(log, run)
        if attempt is not None and hole is not None and wanted(attempt.stamp):
            raise OutcomeUnknown(
                f"run {run.run} was killed while it committed step {attempt.stamp} to {log.name} "
                f"after version {attempt.version}; version {hole}, which may be that commit, was "
                "removed by cleanup",
                next_step=f"check whether {log.name} has the changes of the step, then: lancemig recover "
                "--assume landed, or lancemig recover --assume lost",
            )
        return sorted(found, key=lambda commit: commit.version)


def _uncertain_version(log: Log, run: Run) -> int | None:
    """The first version that is gone, and that the attempt may have landed as; None where the log tells."""
    attempt = run.attempt
    if attempt is None or log.of(run.run, lambda step: step == attempt.stamp):
        return None
    return next((version for version in log.missing if version > attempt.version), None)


def rule_outcome(flown: RunRecord, tables: Tables, root: str, assumption: OutcomeRuling) -> None:
    """Write down what a person saw of the commit that was announced last; Refused where its log tells.

    The lineage will tell in its note.
    """
    run, attempt = flown.run, flown.run.attempt
    table = None if attempt is None else tables.find(root, attempt.table)
    if attempt is not None and table is not None:
        hole = _uncertain_version(tables.search(table, attempt.version), run)
        if hole is not None:
            landed = {attempt.stamp: hole} if assumption is OutcomeRuling.LANDED else {}
            said = f"step {attempt.stamp} on {attempt.table} was assumed {assumption}"
            note = f"{run.note}; {said}" if run.note else said
            flown.save(attempt=None, gone={**run.gone, **landed}, note=note)
            return
    raise Refused(
        f"no commit of run {run.run} has an unknown outcome: --assume is not needed",
        next_step="lancemig recover, or lancemig recover --undo",
    )
