"""The tail of a table with a key: two versions are compared, and what differs is brought in one commit.

Beside other writers one more look is needed: Lance lets two commits land that insert the same key. What was
inserted although somebody else had inserted it first is withdrawn, and brought again: then theirs is a row
that exists, and conflicts with it like any other.
"""

from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer, ContentionError
from lancemig.apply.commit.contended import withdraw_duplicates
from lancemig.apply.effects.replay import TablePath, replay_rows
from lancemig.apply.replicate.merge import MergeResult, RowChange, merge_rows, three_way_merge
from lancemig.apply.replicate.types import ReplicationResult, ReplicationTask
from lancemig.apply.rows.diff import diff, value_columns
from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.upserts import existing
from lancemig.apply.rows.values import with_columns
from lancemig.catalog.keys import checked_keys, matches
from lancemig.catalog.operations import RewriteTable
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.stamps import again_stamp
from lancemig.errors import PlanError, VerifyFailed
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Commit, Origin, Staged, Stamp, Table

_MEND = "fix the rows in the live table, then run the same command again"


@dataclass
class ByKey:
    """What became of the rows of a table between two versions of it, on its way to another root."""

    committer: Committer
    tail: ReplicationTask
    before: Table
    source: Table
    rows: int = 0
    kept: int = 0

    def replicate(self, stamp: Stamp) -> ReplicationResult:
        """All that differs; nothing of it while there is a conflict, and that is an error."""
        return self._brought(_change(self.tail, self.before, self.source), stamp)

    def settle(self, last: Commit, revision: str) -> ReplicationResult:
        """What is still to be done about the commit `last`, of a run that died or ended with a conflict.

        That is to look for keys that came twice. Where none did, nothing is brought.
        """
        repeated = self._taken_back(last)
        if not repeated.num_rows or last.stamp is None:
            return self._upto(self.source)
        change = _change(self.tail, self.before, self.source)
        return self._brought(
            _of(change, repeated), Stamp(self.committer.run, revision, again_stamp(last.stamp.step))
        )

    def _brought(self, change: RowChange, stamp: Stamp) -> ReplicationResult:
        for _ in range(MAX_ATTEMPTS):
            commit, conflicts = self._committed(change, stamp)
            if conflicts:
                return self._upto(self.before, tuple(f"{self.tail.name}: {said}" for said in conflicts))
            if commit is None or self.tail.private:
                return self._upto(self.source)
            repeated = self._taken_back(commit)
            if not repeated.num_rows:
                return self._upto(self.source)
            self.rows -= repeated.num_rows
            stamp, change = replace(stamp, step=again_stamp(stamp.step)), _of(change, repeated)
        raise ContentionError(
            f"other writers inserted the same keys into {self.tail.name} in all {MAX_ATTEMPTS} attempts",
            next_step=_MEND,
        )

    def _upto(self, version: Table, left: tuple[str, ...] = ()) -> ReplicationResult:
        return ReplicationResult(self.tail.source, self.rows, version.version, left, self.kept)

    def _committed(self, change: RowChange, stamp: Stamp) -> tuple[Commit | None, list[str]]:
        """The commit, if there was something to do, or the conflicts."""
        followed = MergeResult()

        def staging(target: Table) -> Staged | None:
            nonlocal followed
            staged, followed = three_way_merge(change, target, self.tail.policy)
            return staged

        commit = self.committer.commit_with_retry(self.tail.target, self.tail.name, stamp, staging)
        self.kept += followed.kept
        if followed.conflicts and self.tail.private:
            raise VerifyFailed(
                f"keys of {self.tail.source} were duplicated during the rebuild: "
                f"{'; '.join(followed.conflicts)}",
                next_step=_MEND,
            )
        self.rows += followed.rows if commit else 0
        return commit, followed.conflicts

    def _taken_back(self, commit: Commit) -> pa.Table:
        place = (self.tail.target, self.tail.name)
        self.committer.guard_commit(*place, commit, before=True)
        return withdraw_duplicates(
            self.committer, Origin(*place, commit.read_version), commit, self.tail.keys[1]
        )


def _of(change: RowChange, wanted: pa.Table) -> RowChange:
    """The change of these rows alone."""
    was, now = (
        side.filter(pa.array(matches(side, wanted, change.key) >= 0)) for side in (change.was, change.now)
    )
    return RowChange(was, now, change.key)


def _change(tail: ReplicationTask, before: Table, source: Table) -> RowChange:
    """What became of the source's rows between two versions, as the target has them."""
    start, (old_key, new_key) = tail.start, tail.keys
    names = start.columns.names
    found = diff(before, source, old_key, columns=names if tail.more_columns else source.columns.names)
    was = pa.concat_tables([found.old, found.deleted]).select(names)
    now = pa.concat_tables([found.new, found.inserted]).select(names)
    if tail.private and tail.policy == "overwrite":
        _there_once(tail, source, now)
    try:
        return RowChange(replay_rows(tail.path, start, was), replay_rows(tail.path, start, now), new_key)
    except PlanError as error:
        raise VerifyFailed(
            f"the migration cannot be applied to new rows of {tail.source}: {error.message}",
            next_step=_MEND,
        ) from error


def _there_once(tail: ReplicationTask, source: Table, now: pa.Table) -> None:
    """Refuse rows whose key the source has again: of the two, the one overwritten would be lost.

    Where the way keeps rows, that is a conflict of the one that came with the one that was there.
    """
    key, _ = tail.keys
    there = existing(source, now, key, key)
    try:
        checked_keys(there, key, tail.source)
    except PlanError as error:
        raise VerifyFailed(f"during the rebuild: {error.message}", next_step=_MEND) from error


_ID = "row id"


def keeps_row_ids(table_path: TablePath) -> bool:
    """Whether a carried table's rows have the ids of the rows they come from, at the end of the way."""
    return table_path.keeps_rows and not any(
        isinstance(step.operation, RewriteTable) for step in table_path.steps
    )


class ByRowId:
    """What became of a table's rows between two versions, to be done to the table carried from the first."""

    def __init__(self, table_path: TablePath, start: TableSchema, before: Table, source: Table) -> None:
        found = diff(before, source, (), columns=source.columns.names)
        names = start.columns.names
        self.change = RowChange(
            was=self._known(table_path, start, pa.concat_tables([found.old, found.deleted])),
            now=self._known(table_path, start, found.new),
            key=(_ID,),
        )
        self.inserted = replay_rows(table_path, start, found.inserted.select(names))
        self.before = before.read([], row_ids=True).column(ROW_ID)

    @staticmethod
    def _known(table_path: TablePath, start: TableSchema, rows: pa.Table) -> pa.Table:
        gone = replay_rows(table_path, start, rows.select(start.columns.names))
        return gone.append_column(_ID, rows.column(ROW_ID))

    def staged(self, target: Table) -> tuple[Staged | None, MergeResult]:
        """Stage it, as one commit. What an earlier round has done to the rows since is no conflict."""
        ids = pa.concat_tables([side.select([_ID]) for side in (self.change.was, self.change.now)])
        there = target.rows_of(ids.column(_ID), target.columns.names, addresses=True)
        there = there.append_column(_ID, there.column(ROW_ID))
        new, again = self._insertions(target)
        return merge_rows(target, self.change, there, "overwrite", new, again)

    def _insertions(self, target: Table) -> tuple[pa.Table, pa.Table]:
        """The rows to be inserted, and those that were inserted before and are to go."""
        wanted = with_columns(self.inserted, target.columns)
        known = target.read([], row_ids=True, addresses=True)
        known = known.filter(pc.invert(pc.is_in(known.column(ROW_ID), value_set=self.before)))
        found = target.rows_of(known.column(ROW_ID), target.columns.names, addresses=True)
        found = found.sort_by(ROW_ADDRESS)
        alike = found.num_rows == wanted.num_rows
        if alike and pc.all(identical(found, wanted, value_columns(wanted)), min_count=0).as_py():
            return wanted.slice(0, 0), found.slice(0, 0)
        return wanted, found
