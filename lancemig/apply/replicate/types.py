"""What a replication is given and what it returns: the task, the window of commits, the result."""

import logging
from dataclasses import dataclass, replace
from functools import cached_property

from lancemig.apply.effects.replay import TablePath, column_lineage
from lancemig.apply.replicate.merge import MergeResult, WhenExists
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import count_text
from lancemig.events import log_event

ROWS_STAY = {"CreateIndex", "UpdateConfig"}
"""Commits that change no row."""

ROWS_MOVE = {"Rewrite", "ReserveFragments"}
"""A compaction: the rows are the same, in other fragments."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CommitWindow:
    """The commits of a table after version `after`, up to and including version `upto`."""

    after: int
    upto: int

    def __str__(self) -> str:
        return f"{self.after}-{self.upto}"


@dataclass(frozen=True)
class ReplicationTask:
    """One table whose late commits are replicated from one root into another."""

    path: TablePath
    """The operations between the two roots; its ends name the table in each root."""
    source_root: str
    target_root: str
    schema: TableSchema
    """The table's schema in the source root when both roots had the same rows."""
    after: int
    """The source version up to which everything has been replicated."""
    target_base: int
    """The target version after which the target's log holds earlier rounds of this replication."""
    private: bool = False
    """No other writer knows the target, so a row that exists there is never a conflict."""
    when_exists: WhenExists = "error"
    extra_columns: bool = False
    """The source may have columns that `schema` lacks; their values are not replicated."""

    @property
    def source_table(self) -> str:
        """The table's name in the source root."""
        return self.path.source or ""

    @property
    def target_table(self) -> str:
        """The table's name in the target root."""
        return self.path.target or ""

    @cached_property
    def keys(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The columns that identify a row in the source and in the target; empty if there are none.

        A key that only one side has serves for both if the operations keep its values.
        """
        source_key, target_key = self.schema.key, self.path.key_after(self.schema)
        source_names = column_lineage(self.path, self.schema).value_preserving
        target_names = {source: target for target, source in source_names.items()}
        if target_key and not source_key and set(target_key) <= set(source_names):
            source_key = tuple(source_names[name] for name in target_key)
        elif source_key and not target_key and set(source_key) <= set(target_names):
            target_key = tuple(target_names[name] for name in source_key)
        return source_key, target_key

    @property
    def keyed(self) -> bool:
        """Whether a row is identified by its key in both roots."""
        return all(self.keys)

    @property
    def conflict_policy(self) -> WhenExists:
        """What happens to a target row that differs from what the source held before.

        In a private target an operation (an upsert, an undo) wrote such a row, and replay applied the same
        operation to the new values. If no operation adds rows, the source has a key twice: an error.
        """
        if not self.private:
            return self.when_exists
        return "error" if self.path.keeps_rows else "overwrite"


@dataclass(frozen=True)
class ReplicationResult:
    """The result for one table: how many rows were replicated, up to which version of the source."""

    source: str
    """The table's name in the source root."""
    rows: int
    upto: int
    conflicts: tuple[str, ...] = ()
    """What was not replicated, as messages."""
    kept: int = 0
    """Rows for which the target's values were kept on purpose."""

    def plus(self, later: "ReplicationResult") -> "ReplicationResult":
        """This result and that of a later round, as one."""
        conflicts = tuple(dict.fromkeys((*self.conflicts, *later.conflicts)))
        return replace(later, rows=self.rows + later.rows, kept=self.kept + later.kept, conflicts=conflicts)


def log_merge(task: ReplicationTask, window: CommitWindow, way: str, merge: MergeResult) -> None:
    """Log how many rows of `window` were written, how many were not, and why.

    `way` is how rows were identified: `appends`, `key` or `row id`.
    """
    where = {"table": task.source_table, "source_root": task.source_root, "target_root": task.target_root}
    versions = {"after": window.after, "upto": window.upto}
    log_event(
        _log,
        "replicated",
        "%s: versions %s by %s: %d inserted, %d updated, %d deleted; %d unchanged, %d kept, %d in conflict, "
        "%d blocked",
        task.source_table,
        window,
        way,
        merge.inserted,
        merge.updated,
        merge.deleted,
        merge.rows_of("unchanged"),
        merge.kept,
        merge.rows_of("conflict"),
        merge.rows_of("blocked"),
        **where,
        **versions,
        way=way,
        inserted=merge.inserted,
        updated=merge.updated,
        deleted=merge.deleted,
        unchanged=merge.rows_of("unchanged"),
        kept=merge.kept,
        conflicts=merge.rows_of("conflict"),
        blocked=merge.rows_of("blocked"),
    )
    for group in merge.not_written:
        about = {**where, **versions, "outcome": group.outcome, "reason": group.reason}
        text = "%s: %s not replicated (%s): %s"
        arguments = (task.source_table, count_text(group.rows, "row"), group.outcome, group.reason)
        log_event(_log, "rows_not_replicated", text, *arguments, **about, rows=group.rows)
        if group.keys:
            listed = ", ".join(group.keys)
            log_event(_log, "row_keys", text + ": %s", *arguments, listed, **about, keys=group.keys)
