"""The tail: what a table gained since a pinned version, brought into the one made from it in another root."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lancemig.apply.landing.commits import ATTEMPTS, Committer, Outrun
from lancemig.apply.landing.upserting import taken_back
from lancemig.apply.rows.diff import diff
from lancemig.apply.rows.upserts import existing
from lancemig.apply.steps.transform import Passage, through
from lancemig.apply.tail.appended import APPENDS, New, by_commit, carried_over, new_fragments
from lancemig.apply.tail.by_row_id import ByRowId, keeps_row_ids
from lancemig.apply.tail.following import Change, Followed, WhenExists, follow
from lancemig.catalog.keys import checked_keys, matches
from lancemig.catalog.schema import TableSchema
from lancemig.errors import OutcomeUnknown, PlanError, VerifyFailed
from lancemig.store.tables import Commit, Staged, Stamp, Table
from lancemig.store.tables.writing import appended_rows

ROWS_STAY = {"CreateIndex", "UpdateConfig"}
ROWS_MOVE = {"Rewrite", "ReserveFragments"}
"""A compaction: the rows are the same, in other fragments."""

TAIL = "tail/"
"""How the stamps of what was brought begin."""

_MEND = "mend the rows in the live table, then the same command"


@dataclass(frozen=True)
class Tail:
    """One table's way from the root `origin` at version `since` to the root `target`.

    `start` is the table's schema in `origin`; `base`, the version from which the target's log tells what was
    brought over before. Nobody else writes to a `private` target, so what is there is never a conflict;
    elsewhere `when_exists` says what is done about one. The source may have got `more_columns` since; what
    they hold is not brought.
    """

    passage: Passage
    origin: str
    target: str
    start: TableSchema
    since: int
    base: int
    private: bool = False
    when_exists: WhenExists = "error"
    more_columns: bool = False

    @property
    def source(self) -> str:
        """The table's name in the root it comes from."""
        return self.passage.source or ""

    @property
    def name(self) -> str:
        """Its name in the root it goes to."""
        return self.passage.target or ""

    @property
    def key(self) -> tuple[str, ...]:
        """What identifies its rows in the target."""
        return self.passage.key_after(self.start)

    @property
    def policy(self) -> WhenExists:
        """What is done about a row that is there as the source does not know it.

        In a private target an operation put it there (an upsert, an undo) and has met the new values on their
        way; where none did, the source has a key twice.
        """
        if not self.private:
            return self.when_exists
        return "error" if self.passage.keeps_rows else "overwrite"

    @property
    def mark(self) -> str:
        """What the stamps of this table's tail begin with."""
        return f"{TAIL}{self.origin}{self.source}/"


@dataclass(frozen=True)
class Brought:
    """What one round brought: rows, and the version of the source up to which all is there now.

    `left` names what was not brought, `kept` counts what was left to the target on purpose.
    """

    source: str
    rows: int
    upto: int
    left: tuple[str, ...] = ()
    kept: int = 0


def caught_up(committer: Committer, tail: Tail) -> int:
    """The version of the source up to which the target has everything, as its own log tells.

    What was brought may have been changed in the target since, so it is not asked for again. With a key the
    log may be gone: then rows that are there already are recognised, as long as nobody changed them.
    """
    try:
        log = committer.tables.log(tail.target, tail.name, tail.base)
    except OutcomeUnknown:
        if not tail.start.key:
            raise
        return tail.since
    marks = [
        c.stamp.step.removeprefix(tail.mark) for c in log if c.stamp and c.stamp.step.startswith(tail.mark)
    ]
    return max([tail.since, *(int(mark.partition(".")[0].rpartition("-")[2]) for mark in marks)])


def bring(committer: Committer, tail: Tail, revision: str) -> Brought:
    """Bring what the source gained since it was last asked; nothing, when nothing did.

    Appends alone are streamed. After anything else the two versions are compared by key, and inserted,
    updated and deleted rows are brought in one commit, or none where a conflict is an error. Without a
    key, but with stable row ids, they are compared by these while the target is private. With neither,
    appended rows are read from the versions that brought them; of a commit that did more, VerifyFailed while
    the target is private, and `left` says so elsewhere.
    """
    since = caught_up(committer, tail)
    source = committer.tables.open(tail.origin, tail.source)
    log = committer.tables.search(source, since)
    done = {commit.operation for commit in log.commits}
    if not log.missing and done <= ROWS_STAY | ROWS_MOVE:
        # A run that died may have brought it, and not have guarded the version yet.
        if source.version != tail.since:
            committer.guard(source)
        return Brought(tail.source, 0, source.version)
    before = committer.tables.open(tail.origin, tail.source, since)
    stamp = Stamp(committer.run, revision, f"{tail.mark}{since}-{source.version}")
    plain = tail.private and not log.missing and done <= ROWS_STAY | APPENDS
    if plain or not ((tail.start.key and tail.key) or _known_by_id(committer, tail, source)):
        brought = _stream(committer, tail, (before, source), log.whole(), stamp)
    elif tail.start.key:
        brought = _follow(committer, tail, (before, source), stamp)
    else:
        brought = _follow_by_id(committer, tail, source, stamp)
    # The version compared with next time must not be cleaned away meanwhile.
    committer.guard(source)
    return brought


def _stream(
    committer: Committer, tail: Tail, versions: tuple[Table, Table], log: list[Commit], stamp: Stamp
) -> Brought:
    before, source = versions
    left = _not_followed(tail, log)
    plain = all(commit.operation in ROWS_STAY | APPENDS for commit in log)
    new: Sequence[New] = new_fragments(before, source) if plain else by_commit(committer.tables, source, log)

    def staging(target: Table) -> Staged | None:
        batches = carried_over(new, tail.passage, tail.start, target)
        return appended_rows(target, batches, committer.tables.options())

    commit = committer.committed(tail.target, tail.name, stamp, staging)
    if commit is not None and not tail.private:
        committer.guard_commit(tail.target, tail.name, commit, before=False)
    return Brought(tail.source, commit.changed if commit else 0, source.version, left)


def _not_followed(tail: Tail, log: list[Commit]) -> tuple[str, ...]:
    """The commits that changed rows no key identifies; VerifyFailed, unless it is enough to tell them."""
    others = [c for c in log if c.operation not in ROWS_STAY | ROWS_MOVE | APPENDS]
    if others and tail.private:
        raise VerifyFailed(
            f"table {tail.source} was changed by {others[0].operation} (version {others[0].version}) while "
            "it was being rebuilt, and it has no key by which the change could be followed",
            next_step="lancemig recover --undo; then a revision with SetKey, or upgrade in a quiet moment",
        )
    if tail.when_exists == "keep":
        return ()
    return tuple(
        f"{c.operation} (version {c.version}) of {tail.source} in {tail.origin} was not carried over: "
        "the table has no key by which it could be followed"
        for c in others
    )


def _known_by_id(committer: Committer, tail: Tail, source: Table) -> bool:
    """Whether the target's rows have the row ids of the source's, as a carried table's have."""
    if tail.start.key or not tail.private or not tail.base or not source.stable_row_ids:
        return False
    target = committer.tables.open(tail.target, tail.name)
    return target.stable_row_ids and keeps_row_ids(tail.passage)


def _follow_by_id(committer: Committer, tail: Tail, source: Table, stamp: Stamp) -> Brought:
    pinned = committer.tables.open(tail.origin, tail.source, tail.since)
    change, followed = ByRowId(tail.passage, tail.start, pinned, source), Followed()

    def staging(target: Table) -> Staged | None:
        nonlocal followed
        staged, followed = change.staged(target)
        return staged

    committer.committed(tail.target, tail.name, stamp, staging)
    return Brought(tail.source, followed.rows, source.version)


def _follow(committer: Committer, tail: Tail, versions: tuple[Table, Table], stamp: Stamp) -> Brought:
    before, source = versions
    change = _change(tail, before, source)
    followed = Followed()

    def staging(target: Table) -> Staged | None:
        nonlocal followed
        staged, followed = follow(change, target, tail.policy)
        return staged

    rows = kept = 0
    for _ in range(ATTEMPTS):
        commit = committer.committed(tail.target, tail.name, stamp, staging)
        kept += followed.kept
        if followed.conflicts and tail.private:
            raise _not_one(tail, followed)
        if followed.conflicts:
            left = tuple(f"{tail.name}: {said}" for said in followed.conflicts)
            return Brought(tail.source, rows, before.version, left, kept)
        if commit is None:
            return Brought(tail.source, rows, source.version, (), kept)
        rows += followed.rows
        if tail.private:
            return Brought(tail.source, rows, source.version)
        committer.guard_commit(tail.target, tail.name, commit, before=True)
        place = (tail.target, tail.name)
        repeated = taken_back(committer, place, commit.read_version, commit, tail.key)
        rows -= repeated.num_rows
        if not repeated.num_rows:
            return Brought(tail.source, rows, source.version, (), kept)
        stamp = Stamp(stamp.run, stamp.revision, f"{stamp.step}.again")
        change = Change(
            _among(change.was, repeated, tail.key), _among(change.now, repeated, tail.key), tail.key
        )
    raise Outrun(f"other writers inserted the same keys into {tail.name} {ATTEMPTS} times", next_step=_MEND)


def _not_one(tail: Tail, followed: Followed) -> VerifyFailed:
    return VerifyFailed(
        f"{tail.source} has a key more than once since it is being rebuilt: {'; '.join(followed.conflicts)}",
        next_step=_MEND,
    )


def _change(tail: Tail, before: Table, source: Table) -> Change:
    """What became of the source's rows between two versions, as the target has them."""
    start = tail.start
    names = start.columns.names
    found = diff(before, source, start.key, columns=names if tail.more_columns else source.columns.names)
    was = pa.concat_tables([found.old, found.deleted]).select(names)
    now = pa.concat_tables([found.new, found.inserted]).select(names)
    if tail.private and tail.policy == "overwrite":
        _there_once(tail, source, now)
    try:
        return Change(through(tail.passage, start, was), through(tail.passage, start, now), tail.key)
    except PlanError as error:
        raise VerifyFailed(
            f"rows that came to {tail.source} cannot go the way of the migration: {error.message}",
            next_step=_MEND,
        ) from error


def _there_once(tail: Tail, source: Table, now: pa.Table) -> None:
    """Refuse rows whose key the source has again: of the two, the one overwritten would be lost.

    Where the way keeps rows, that is a conflict of the one that came with the one that was there.
    """
    key = tail.start.key
    there = existing(source, now, key, key)
    try:
        checked_keys(there, key, tail.source)
    except PlanError as error:
        raise VerifyFailed(f"since it is being rebuilt, {error.message}", next_step=_MEND) from error


def _among(rows: pa.Table, wanted: pa.Table, key: tuple[str, ...]) -> pa.Table:
    return rows.filter(pa.array(matches(rows, wanted, key) >= 0))
