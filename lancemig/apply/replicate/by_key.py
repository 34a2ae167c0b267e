"""Replication of a keyed table: two versions are compared, and the difference is written in one commit.

Among other writers one more look is needed: Lance accepts two commits that insert the same key. Rows that
another writer had inserted first are withdrawn and replicated again: then the other writer's row exists, and
is a conflict like any other.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.commit.committer import MAX_ATTEMPTS, Committer, ContentionError
from lancemig.apply.commit.contended import withdraw_duplicates
from lancemig.apply.effects.replay import TablePath, replay_rows
from lancemig.apply.replicate.merge import MergeResult, RowChange, merge_rows, three_way_merge
from lancemig.apply.replicate.types import CommitWindow, ReplicationResult, ReplicationTask, log_merge
from lancemig.apply.rows.diff import diff, value_columns
from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.upserts import existing
from lancemig.apply.rows.values import with_columns
from lancemig.catalog.keys import checked_keys, format_key, matches, row_numbers
from lancemig.catalog.operations import RewriteTable
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.stamps import again_stamp
from lancemig.errors import PlanError, VerifyFailed
from lancemig.events import SAMPLE, enabled, log_event
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Commit, Origin, Staged, Stamp, Table

_log = logging.getLogger(__name__)

_DEDUPLICATE_FIRST = (
    "lancemig recover --undo; then put DeduplicateRows into a data-only revision of its own before the "
    "rebuild, which is applied in place, and upgrade again"
)
_FIX_ROWS = "fix the rows in the live table, then run the same command again"


@dataclass
class ByKey:
    """Replicates the difference between two versions of a table, `before` and `source`."""

    committer: Committer
    task: ReplicationTask
    before: Table
    source: Table
    rows: int = 0
    kept: int = 0

    @property
    def window(self) -> CommitWindow:
        """The commits whose rows are replicated."""
        return CommitWindow(self.before.version, self.source.version)

    def replicate(self, stamp: Stamp) -> ReplicationResult:
        """Replicate the whole difference; none of it if there is a conflict and conflicts are an error."""
        change = _change(self.task, self.before, self.source)
        if change.unclear and self.task.private:
            raise VerifyFailed(f"during the rebuild: {change.unclear}", next_step=_DEDUPLICATE_FIRST)
        if change.unclear and self.task.conflict_policy != "keep":
            return self._result(self.before, (f"{self.task.target_table}: {change.unclear}",))
        return self._commit_until_unique(change, stamp)

    def finish(self, last: Commit, revision: str) -> ReplicationResult:
        """Finish an earlier round that ended with the commit `last`: replicate withdrawn duplicates again."""
        duplicates = self._withdraw_duplicates(last)
        if not duplicates.num_rows or last.stamp is None:
            return self._result(self.source)
        change = _restricted(_change(self.task, self.before, self.source), duplicates)
        stamp = Stamp(self.committer.run, revision, again_stamp(last.stamp.step))
        return self._commit_until_unique(change, stamp)

    def _commit_until_unique(self, change: RowChange, stamp: Stamp) -> ReplicationResult:
        for _ in range(MAX_ATTEMPTS):
            commit, conflicts = self._commit(change, stamp)
            if conflicts:
                messages = (f"{self.task.target_table}: {message}" for message in conflicts)
                return self._result(self.before, tuple(messages))
            if commit is None or self.task.private:
                return self._result(self.source)
            duplicates = self._withdraw_duplicates(commit)
            if not duplicates.num_rows:
                return self._result(self.source)
            self.rows -= duplicates.num_rows
            stamp, change = replace(stamp, step=again_stamp(stamp.step)), _restricted(change, duplicates)
        raise ContentionError(
            f"other writers inserted the same keys into {self.task.target_table} in all {MAX_ATTEMPTS} "
            "attempts",
            next_step=_FIX_ROWS,
        )

    def _result(self, upto: Table, conflicts: tuple[str, ...] = ()) -> ReplicationResult:
        return ReplicationResult(self.task.source_table, self.rows, upto.version, conflicts, self.kept)

    def _commit(self, change: RowChange, stamp: Stamp) -> tuple[Commit | None, list[str]]:
        """The commit, None if there was nothing to write; and the conflicts."""
        merge = MergeResult()

        def staging(target: Table) -> Staged | None:
            nonlocal merge
            staged, merge = three_way_merge(change, target, self.task.conflict_policy)
            return staged

        task = self.task
        commit = self.committer.commit_with_retry(task.target_root, task.target_table, stamp, staging)
        log_merge(task, self.window, "key", merge)
        self.kept += merge.kept
        if merge.conflicts and task.private:
            raise VerifyFailed(
                f"keys of {task.source_table} were duplicated during the rebuild: "
                f"{'; '.join(merge.conflicts)}",
                next_step=_FIX_ROWS,
            )
        self.rows += merge.rows if commit else 0
        return commit, merge.conflicts

    def _withdraw_duplicates(self, commit: Commit) -> pa.Table:
        task = self.task
        target, key = (task.target_root, task.target_table), task.keys[1]
        self.committer.guard_commit(*target, commit, before=True)
        duplicates = withdraw_duplicates(self.committer, Origin(*target, commit.read_version), commit, key)
        if duplicates.num_rows:
            count, text = duplicates.num_rows, "%s: %d rows withdrawn: another writer inserted their keys"
            about = {"table": task.target_table, "root": task.target_root, "version": commit.version}
            log_event(_log, "duplicates_withdrawn", text, task.target_table, count, **about, rows=count)
            if enabled(_log, "row_keys"):
                keys = [format_key(duplicates, key, at) for at in range(min(SAMPLE, count))]
                log_event(_log, "row_keys", text + ": %s", task.target_table, count, ", ".join(keys),
                          **about, outcome="withdrawn", keys=keys)  # fmt: skip
        return duplicates


def _restricted(change: RowChange, keys: pa.Table) -> RowChange:
    """The change of the rows with these keys alone."""
    before, after = (
        side.filter(pa.array(matches(side, keys, change.key) >= 0)) for side in (change.before, change.after)
    )
    return RowChange(before, after, change.key)


def _change(task: ReplicationTask, before: Table, source: Table) -> RowChange:
    """The difference between two versions of the source, in the target's columns."""
    source_key, target_key = task.keys
    names = task.schema.columns.names
    columns = names if task.extra_columns else source.columns.names
    rows = diff(before, source, source_key, columns=columns)
    old = pa.concat_tables([rows.old, rows.deleted]).select(names)
    new = pa.concat_tables([rows.new, rows.inserted]).select(names)
    unclear = ""
    if task.path.compares_rows:
        repeated = _repeated_keys((before, old), (source, new), source_key)
        unclear = _unclear_text(task, repeated, source_key) if repeated.num_rows else ""
        old, new = (rows.filter(pa.array(matches(rows, repeated, source_key) < 0)) for rows in (old, new))
    if task.private and task.conflict_policy == "overwrite":
        _require_unique(task, source, new)
    try:
        return RowChange(
            replay_rows(task.path, task.schema, old),
            replay_rows(task.path, task.schema, new),
            target_key,
            unclear,
        )
    except PlanError as error:
        raise VerifyFailed(
            f"the migration cannot be applied to new rows of {task.source_table}: {error.message}",
            next_step=_FIX_ROWS,
        ) from error


def _repeated_keys(
    before: tuple[Table, pa.Table], after: tuple[Table, pa.Table], key: tuple[str, ...]
) -> pa.Table:
    """The keys of changed rows that several rows have, in the version before the change or after it.

    The target has one row with such a key, and the change may be of another one: when a row is deleted in
    the source, another one with the same key may still be there.
    """
    found = []
    for table, rows in (before, after):
        keys = existing(table, rows, key, key).select(list(key))
        numbers = row_numbers([keys.column(name) for name in key])
        found.append(keys.filter(pa.array(np.bincount(numbers)[numbers] > 1)) if len(numbers) else keys)
    return pa.concat_tables(found)


def _unclear_text(task: ReplicationTask, repeated: pa.Table, key: tuple[str, ...]) -> str:
    return (
        f"rows of {task.source_table} with a repeated key were changed, and the migration deletes repeated "
        f"rows, for example {format_key(repeated, key, 0)}"
    )


def _require_unique(task: ReplicationTask, source: Table, rows: pa.Table) -> None:
    """Refuse rows whose key the source has twice: the merge would overwrite one of the two.

    If the operations keep rows, the merge itself finds the two in conflict.
    """
    key, _ = task.keys
    current = existing(source, rows, key, key)
    try:
        checked_keys(current, key, task.source_table)
    except PlanError as error:
        raise VerifyFailed(f"during the rebuild: {error.message}", next_step=_FIX_ROWS) from error


_ID = "row id"


def keeps_row_ids(table_path: TablePath) -> bool:
    """Whether the rows of a carried table keep their row ids through the operations of the path."""
    return table_path.keeps_rows and not any(
        isinstance(step.operation, RewriteTable) for step in table_path.steps
    )


class ByRowId:
    """The difference between two versions of a table, written to the table carried from the first of them."""

    def __init__(self, table_path: TablePath, schema: TableSchema, before: Table, source: Table) -> None:
        rows = diff(before, source, (), columns=source.columns.names)
        names = schema.columns.names
        self.change = RowChange(
            before=self._with_ids(table_path, schema, pa.concat_tables([rows.old, rows.deleted])),
            after=self._with_ids(table_path, schema, rows.new),
            key=(_ID,),
        )
        self.inserted = replay_rows(table_path, schema, rows.inserted.select(names))
        self.ids_before = before.read([], row_ids=True).column(ROW_ID)

    @staticmethod
    def _with_ids(table_path: TablePath, schema: TableSchema, rows: pa.Table) -> pa.Table:
        replayed = replay_rows(table_path, schema, rows.select(schema.columns.names))
        return replayed.append_column(_ID, rows.column(ROW_ID))

    def staged(self, target: Table) -> tuple[Staged | None, MergeResult]:
        """Stage the difference as one commit. What an earlier round wrote is overwritten, not a conflict."""
        ids = pa.concat_tables([side.select([_ID]) for side in (self.change.before, self.change.after)])
        rows = target.rows_of(ids.column(_ID), target.columns.names, addresses=True)
        rows = rows.append_column(_ID, rows.column(ROW_ID))
        insert, delete = self._insertions(target)
        return merge_rows(target, self.change, rows, "overwrite", insert, delete)

    def _insertions(self, target: Table) -> tuple[pa.Table, pa.Table]:
        """The rows to insert, and those that an earlier round inserted and that are to be deleted."""
        wanted = with_columns(self.inserted, target.columns)
        known = target.read([], row_ids=True, addresses=True)
        known = known.filter(pc.invert(pc.is_in(known.column(ROW_ID), value_set=self.ids_before)))
        earlier = target.rows_of(known.column(ROW_ID), target.columns.names, addresses=True)
        earlier = earlier.sort_by(ROW_ADDRESS)
        same_count = earlier.num_rows == wanted.num_rows
        if same_count and pc.all(identical(earlier, wanted, value_columns(wanted)), min_count=0).as_py():
            return wanted.slice(0, 0), earlier.slice(0, 0)
        return wanted, earlier
