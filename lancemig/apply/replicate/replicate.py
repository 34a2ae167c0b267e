"""The tail: what a table gained since a pinned version, brought into the one made from it in another root."""

from collections.abc import Sequence

from lancemig.apply.commit.committer import Committer
from lancemig.apply.replicate.appends import APPENDS, New, by_commit, carried_over, new_fragments
from lancemig.apply.replicate.by_key import ByKey, ByRowId, keeps_row_ids
from lancemig.apply.replicate.merge import MergeResult
from lancemig.apply.replicate.types import ROWS_MOVE, ROWS_STAY, ReplicationResult, ReplicationTask
from lancemig.catalog.stamps import is_withdrawal, replicated_window, replication_stamp
from lancemig.errors import OutcomeUnknown, VerifyFailed
from lancemig.store.lance import Commit, Staged, Stamp, Table
from lancemig.store.lance.writing import appended_rows


def _marked(committer: Committer, tail: ReplicationTask) -> list[Commit]:
    """What rounds before this one committed to the target, as its own log tells.

    With a key the log may be gone: then rows that are there already are recognised, as long as nobody
    changed them.
    """
    try:
        log = committer.tables.log(tail.target, tail.name, tail.base)
    except OutcomeUnknown:
        if not tail.keyed:
            raise
        return []
    return [c for c in log if c.stamp and replicated_window(c.stamp.step, tail.origin, tail.source)]


def _upto(tail: ReplicationTask, stamp: Stamp | None) -> int:
    """The version of the source up to which a round brought all."""
    window = replicated_window(stamp.step, tail.origin, tail.source) if stamp else None
    return window[1] if window else 0


def _settled(
    committer: Committer, tail: ReplicationTask, source: Table, rounds: list[Commit], revision: str
) -> ReplicationResult:
    """What a round that the lineage does not tell of has left to do, beside other writers."""
    own = [c for c in rounds if c.stamp and not is_withdrawal(c.stamp.step)]
    if tail.private or not tail.keyed or not own or _upto(tail, own[-1].stamp) <= tail.since:
        return ReplicationResult(tail.source, 0, tail.since)
    before = committer.tables.open(tail.origin, tail.source, tail.since)
    return ByKey(committer, tail, before, source).settle(own[-1], revision)


def replicate(committer: Committer, tail: ReplicationTask, revision: str) -> ReplicationResult:
    """Bring what the source gained since it was last asked; nothing, when nothing did.

    Appends alone are streamed, unless an operation may have put a row with their key there. Else the two
    versions are compared by key, and inserted, updated and deleted rows are brought in one commit, or none
    where a conflict is an error. Without a key, but with stable row ids, they are compared by these while the
    target is private. With neither, appended rows are read from the versions that brought them; of a commit
    that did more, VerifyFailed while the target is private, and `left` says so elsewhere.
    """
    rounds = _marked(committer, tail)
    # What was brought may have been changed in the target since, so it is not asked for again.
    since = max([tail.since, *(_upto(tail, commit.stamp) for commit in rounds)])
    source = committer.tables.open(tail.origin, tail.source)
    settled = _settled(committer, tail, source, rounds, revision)
    if settled.conflicts:
        return settled
    log = committer.tables.search(source, since)
    done = {commit.operation for commit in log.commits}
    if not log.missing and done <= ROWS_STAY | ROWS_MOVE:
        # A run that died may have brought it, and not have guarded the version yet.
        if source.version != tail.since:
            committer.guard(source)
        return ReplicationResult(tail.source, 0, source.version)
    stamp = Stamp(committer.run, revision, replication_stamp(tail.origin, tail.source, since, source.version))
    met = tail.keyed and tail.path.adds_rows
    plain = tail.private and not log.missing and done <= ROWS_STAY | APPENDS and not met
    if plain or not (tail.keyed or _known_by_id(committer, tail, source)):
        before = committer.tables.open(tail.origin, tail.source, since)
        brought = _stream(committer, tail, (before, source), log.whole(), stamp)
    elif tail.keyed:
        brought = ByKey(committer, tail, _before(committer, tail, since), source).replicate(stamp)
    else:
        brought = _follow_by_id(committer, tail, source, stamp)
    # The version compared with next time must not be cleaned away meanwhile.
    committer.guard(source)
    return brought


def _before(committer: Committer, tail: ReplicationTask, since: int) -> Table:
    """The version compared with; one older where a run died before it could be guarded, and it is gone."""
    there = committer.tables.find(tail.origin, tail.source, since)
    return there or committer.tables.open(tail.origin, tail.source, tail.since)


def _stream(
    committer: Committer,
    tail: ReplicationTask,
    versions: tuple[Table, Table],
    log: list[Commit],
    stamp: Stamp,
) -> ReplicationResult:
    before, source = versions
    left = _not_followed(tail, log)
    plain = all(commit.operation in ROWS_STAY | APPENDS for commit in log)
    new: Sequence[New] = new_fragments(before, source) if plain else by_commit(committer.tables, source, log)

    def staging(target: Table) -> Staged | None:
        batches = carried_over(new, tail.path, tail.start, target)
        return appended_rows(target, batches, committer.tables.options())

    commit = committer.commit_with_retry(tail.target, tail.name, stamp, staging)
    if commit is not None and not tail.private:
        committer.guard_commit(tail.target, tail.name, commit, before=False)
    return ReplicationResult(tail.source, commit.changed if commit else 0, source.version, left)


def _not_followed(tail: ReplicationTask, log: list[Commit]) -> tuple[str, ...]:
    """The commits that changed rows no key identifies; VerifyFailed, unless it is enough to tell them."""
    others = [c for c in log if c.operation not in ROWS_STAY | ROWS_MOVE | APPENDS]
    if others and tail.private:
        raise VerifyFailed(
            f"table {tail.source} was changed by {others[0].operation} (version {others[0].version}) "
            "during the rebuild, and without a key the change cannot be replicated",
            next_step="lancemig recover --undo; then add a revision with SetKey, or upgrade while no "
            "writer is "
            "active",
        )
    if tail.when_exists == "keep":
        return ()
    return tuple(
        f"{c.operation} (version {c.version}) of {tail.source} in {tail.origin} was not replicated: "
        "the table has no key"
        for c in others
    )


def _known_by_id(committer: Committer, tail: ReplicationTask, source: Table) -> bool:
    """Whether the target's rows have the row ids of the source's, as a carried table's have."""
    if tail.keyed or not tail.private or not tail.base or not source.stable_row_ids:
        return False
    target = committer.tables.open(tail.target, tail.name)
    return target.stable_row_ids and keeps_row_ids(tail.path)


def _follow_by_id(
    committer: Committer, tail: ReplicationTask, source: Table, stamp: Stamp
) -> ReplicationResult:
    pinned = committer.tables.open(tail.origin, tail.source, tail.since)
    change, followed = ByRowId(tail.path, tail.start, pinned, source), MergeResult()

    def staging(target: Table) -> Staged | None:
        nonlocal followed
        staged, followed = change.staged(target)
        return staged

    committer.commit_with_retry(tail.target, tail.name, stamp, staging)
    return ReplicationResult(tail.source, followed.rows, source.version)
