"""Replication of one table: the commits since a version, written to its counterpart in another root."""

import logging
from collections import Counter
from collections.abc import Sequence

from lancemig.apply.commit.committer import Committer
from lancemig.apply.replicate.appends import (
    APPENDS,
    NewFragments,
    appended_batches,
    fragments_by_commit,
    new_fragments,
)
from lancemig.apply.replicate.by_key import ByKey, ByRowId, keeps_row_ids
from lancemig.apply.replicate.merge import MergeResult
from lancemig.apply.replicate.types import (
    ROWS_MOVE,
    ROWS_STAY,
    CommitWindow,
    ReplicationResult,
    ReplicationTask,
    log_merge,
)
from lancemig.catalog.stamps import is_withdrawal, replicated_window, replication_stamp
from lancemig.errors import OutcomeUnknown, VerifyFailed
from lancemig.events import enabled, log_event
from lancemig.store.lance import Commit, Log, Staged, Stamp, Table
from lancemig.store.lance.writing import appended_rows

_log = logging.getLogger(__name__)


def replicate(committer: Committer, task: ReplicationTask, revision: str) -> ReplicationResult:
    """Replicate the commits to the source since the last round; repeated, it writes nothing twice.

    The first way that is safe is taken:

    1. Appends alone are streamed, unless an operation may have inserted a row with one of their keys.
    2. Two versions are compared by key; inserts, updates and deletes land in one commit.
    3. Without a key, two versions are compared by stable row id, if the target is private and has these ids.
    4. Otherwise appended rows are read from the versions that appended them. Other commits cannot be
       replicated, and are conflicts of the result.

    Raises:
        VerifyFailed: the target is private, and a commit cannot be replicated or a key is there twice.
    """
    rounds = _earlier_rounds(committer, task)
    # Replicated rows may have been changed in the target since, so their commits are not read again.
    after = max([task.after, *(_window_of(task, commit).upto for commit in rounds)])
    source = committer.tables.open(task.source_root, task.source_table)
    window = CommitWindow(after, source.version)
    finished = _finish_earlier_round(committer, task, source, rounds, revision)
    if finished.conflicts:
        return finished
    log = committer.tables.search(source, window.after)
    _log_commits(task, window, log)
    operations = {commit.operation for commit in log.commits}
    if not log.missing and operations <= ROWS_STAY | ROWS_MOVE:
        # A run that died may have replicated the rows, and not have guarded the version yet.
        if source.version != task.after:
            committer.guard(source)
        return ReplicationResult(task.source_table, 0, window.upto)
    stamp = Stamp(
        committer.run,
        revision,
        replication_stamp(task.source_root, task.source_table, window.after, window.upto),
    )
    may_collide = task.keyed and task.path.adds_rows
    only_appends = not log.missing and operations <= ROWS_STAY | APPENDS
    if (task.private and only_appends and not may_collide) or not (
        task.keyed or _has_source_ids(committer, task, source)
    ):
        before = committer.tables.open(task.source_root, task.source_table, window.after)
        result = _stream(committer, task, (before, source), log.whole(), stamp)
    elif task.keyed:
        result = ByKey(committer, task, _before(committer, task, window), source).replicate(stamp)
    else:
        result = _by_row_id(committer, task, source, stamp)
    # The next round compares with this version, so it must not be cleaned up before.
    committer.guard(source)
    return result


def _earlier_rounds(committer: Committer, task: ReplicationTask) -> list[Commit]:
    """The commits of earlier rounds of this replication, from the target's own log.

    With a key the log may be gone: then rows that exist in the target are recognised, unless another writer
    changed them.
    """
    try:
        log = committer.tables.log(task.target_root, task.target_table, task.target_base)
    except OutcomeUnknown:
        if not task.keyed:
            raise
        return []
    return [
        c for c in log if c.stamp and replicated_window(c.stamp.step, task.source_root, task.source_table)
    ]


def _window_of(task: ReplicationTask, commit: Commit) -> CommitWindow:
    """The window that a commit of an earlier round replicated."""
    step = commit.stamp.step if commit.stamp else ""
    window = replicated_window(step, task.source_root, task.source_table)
    return CommitWindow(*(window or (0, 0)))


def _finish_earlier_round(
    committer: Committer, task: ReplicationTask, source: Table, rounds: list[Commit], revision: str
) -> ReplicationResult:
    """Finish the last earlier round if the lineage does not record it; it may have duplicated keys."""
    own = [c for c in rounds if c.stamp and not is_withdrawal(c.stamp.step)]
    upto = _window_of(task, own[-1]).upto if own else task.after
    if upto > task.after:
        text = "%s: an earlier round replicated the commits up to version %d"
        log_event(_log, "already_replicated", text, task.source_table, upto, table=task.source_table,
                  source_root=task.source_root, target_root=task.target_root, upto=upto)  # fmt: skip
    if task.private or not task.keyed or upto <= task.after:
        return ReplicationResult(task.source_table, 0, task.after)
    before = committer.tables.open(task.source_root, task.source_table, task.after)
    return ByKey(committer, task, before, source).finish(own[-1], revision)


def _before(committer: Committer, task: ReplicationTask, window: CommitWindow) -> Table:
    """The version to compare with; an older one if a run died before it guarded that version."""
    guarded = committer.tables.find(task.source_root, task.source_table, window.after)
    return guarded or committer.tables.open(task.source_root, task.source_table, task.after)


def _stream(
    committer: Committer,
    task: ReplicationTask,
    versions: tuple[Table, Table],
    log: list[Commit],
    stamp: Stamp,
) -> ReplicationResult:
    before, source = versions
    conflicts = _not_replicated(task, log)
    plain = all(commit.operation in ROWS_STAY | APPENDS for commit in log)
    new: Sequence[NewFragments] = (
        new_fragments(before, source) if plain else fragments_by_commit(committer.tables, source, log)
    )
    merge = MergeResult()

    def staging(target: Table) -> Staged | None:
        nonlocal merge
        merge = MergeResult()
        batches = appended_batches(new, task, target, merge)
        return appended_rows(target, batches, committer.tables.options())

    window = CommitWindow(before.version, source.version)
    try:
        commit = committer.commit_with_retry(task.target_root, task.target_table, stamp, staging)
    except VerifyFailed:
        log_merge(task, window, "appends", merge)
        raise
    if commit is not None and not task.private:
        committer.guard_commit(task.target_root, task.target_table, commit, before=False)
    merge.inserted = commit.changed if commit else 0
    log_merge(task, window, "appends", merge)
    return ReplicationResult(task.source_table, merge.inserted, source.version, conflicts)


def _not_replicated(task: ReplicationTask, log: list[Commit]) -> tuple[str, ...]:
    """Messages about commits that changed rows which no key identifies; none if target rows are kept.

    Raises:
        VerifyFailed: there is such a commit, and the target is private.
    """
    others = [c for c in log if c.operation not in ROWS_STAY | ROWS_MOVE | APPENDS]
    for commit in others:
        text = "%s: %s (version %d) not replicated: the table has no key"
        about = {"table": task.source_table, "root": task.source_root, "reason": "the table has no key"}
        log_event(_log, "commit_not_replicated", text, task.source_table, commit.operation, commit.version,
                  **about, operation=commit.operation, version=commit.version)  # fmt: skip
    if others and task.private:
        raise VerifyFailed(
            f"table {task.source_table} was changed by {others[0].operation} (version {others[0].version}) "
            "during the rebuild, and without a key the change cannot be replicated",
            next_step="lancemig recover --undo; then add a revision with SetKey, or upgrade while no "
            "writer is "
            "active",
        )
    if task.when_exists == "keep":
        return ()
    return tuple(
        f"{c.operation} (version {c.version}) of {task.source_table} in {task.source_root} was not "
        "replicated: the table has no key"
        for c in others
    )


def _has_source_ids(committer: Committer, task: ReplicationTask, source: Table) -> bool:
    """Whether the target's rows have the row ids of the source's, as those of a carried table have."""
    if task.keyed or not task.private or not task.target_base or not source.stable_row_ids:
        return False
    target = committer.tables.open(task.target_root, task.target_table)
    return target.stable_row_ids and keeps_row_ids(task.path)


def _by_row_id(committer: Committer, task: ReplicationTask, source: Table, stamp: Stamp) -> ReplicationResult:
    pinned = committer.tables.open(task.source_root, task.source_table, task.after)
    difference, merge = ByRowId(task.path, task.schema, pinned, source), MergeResult()

    def staging(target: Table) -> Staged | None:
        nonlocal merge
        staged, merge = difference.staged(target)
        return staged

    committer.commit_with_retry(task.target_root, task.target_table, stamp, staging)
    log_merge(task, CommitWindow(pinned.version, source.version), "row id", merge)
    return ReplicationResult(task.source_table, merge.rows, source.version)


def _log_commits(task: ReplicationTask, window: CommitWindow, log: Log) -> None:
    """Log the commits of the window, by others and by lancemig itself."""
    if not log.commits and not log.missing:
        return
    where = {"table": task.source_table, "root": task.source_root}
    operations = Counter(commit.operation for commit in log.commits)
    counts = ", ".join(f"{count} {operation}" for operation, count in operations.items())
    log_event(
        _log,
        "commits_seen",
        "%s: commits of versions %s: %s; %d removed by cleanup",
        task.source_table,
        window,
        counts,
        len(log.missing),
        **where,
        after=window.after,
        upto=window.upto,
        operations=dict(operations),
        cleaned_up=len(log.missing),
    )
    if enabled(_log, "commit_seen"):
        for commit in log.commits:
            step = commit.stamp.step if commit.stamp else None
            text = "%s: version %d is %s"
            log_event(_log, "commit_seen", text, task.source_table, commit.version, commit.operation,
                      **where, version=commit.version, operation=commit.operation, step=step)  # fmt: skip
