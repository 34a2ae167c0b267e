"""The tail: what a live table gained since a pinned version, brought into the table staged from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.changes import identical
from lancemig.apply.commits import Committer
from lancemig.apply.diff import Difference, diff, value_columns
from lancemig.apply.transform import Passage, through
from lancemig.apply.upserts import existing
from lancemig.catalog.keys import Places, matches
from lancemig.catalog.schema import TableSchema
from lancemig.errors import OutcomeUnknown, VerifyFailed
from lancemig.store.tables import ROW_ADDRESS, Commit, LanceFragment, Staged, Stamp, Table
from lancemig.store.tables.staging import appended_rows, deleted_at, upserted_rows

APPENDS = {"Append"}
ROWS_STAY = {"CreateIndex", "UpdateConfig"}
ROWS_MOVE = {"Rewrite", "ReserveFragments"}
"""A compaction: the rows are the same, in other fragments."""

_ROWS_AT_ONCE = 65_536

New = tuple[Table, list[LanceFragment]]
"""A version of a table, and those of its fragments that are new in it."""


@dataclass(frozen=True)
class Tail:
    """One table's way from the root `origin` at version `since` to the root `target`.

    `start` is the live table's schema; `base`, the version from which the target's log tells what was
    brought over before.
    """

    passage: Passage
    origin: str
    target: str
    start: TableSchema
    since: int
    base: int

    @property
    def source(self) -> str:
        """The table's name in the root it comes from."""
        return self.passage.source or ""

    @property
    def name(self) -> str:
        """Its name in the root it goes to."""
        return self.passage.target or ""

    @property
    def mark(self) -> str:
        """What the stamps of this table's tail begin with."""
        return f"tail/{self.source}/"


@dataclass(frozen=True)
class Brought:
    """What one round brought: rows, and the version of the source up to which all is there now."""

    source: str
    rows: int
    upto: int
    left: tuple[str, ...] = ()


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
    marks = [c.stamp.step for c in log if c.stamp and c.stamp.step.startswith(tail.mark)]
    return max([tail.since, *(int(mark.rpartition("-")[2]) for mark in marks)])


def bring(committer: Committer, tail: Tail, revision: str, *, insert_only: bool) -> Brought:
    """Bring what the source gained since it was last asked; nothing, when nothing did.

    Appended fragments are taken as they are. After anything else the two versions are compared by key;
    without a key, appended rows are read from the versions that brought them, and VerifyFailed names a commit
    that did more. With `insert_only` (the target is live) updated and deleted rows are not brought but told.
    """
    since = caught_up(committer, tail)
    source = committer.tables.open(tail.origin, tail.source)
    log = committer.tables.log(tail.origin, tail.source, since)
    if all(commit.operation in ROWS_STAY | ROWS_MOVE for commit in log):
        return Brought(tail.source, 0, source.version)
    before = committer.tables.open(tail.origin, tail.source, since)
    stamp = Stamp(committer.run, revision, f"{tail.mark}{since}-{source.version}")
    if all(commit.operation in ROWS_STAY | APPENDS for commit in log):
        new = [f for f in source.fragments if f.fragment_id not in before.fragment_ids]
        brought = _append(committer, tail, [(source, new)], stamp, source.version)
    elif tail.start.key:
        brought = _merge(committer, tail, (before, source), stamp, insert_only=insert_only)
    else:
        left = _not_followed(tail, log, insert_only=insert_only)
        brought = _append(committer, tail, _appended(committer, tail, log), stamp, source.version, left)
    # The version compared with next time must not be cleaned away meanwhile.
    committer.guard(source)
    return brought


def _not_followed(tail: Tail, log: list[Commit], *, insert_only: bool) -> tuple[str, ...]:
    """The commits that changed rows no key identifies; VerifyFailed, unless it is enough to tell them."""
    others = [c for c in log if c.operation not in ROWS_STAY | ROWS_MOVE | APPENDS]
    if others and not insert_only:
        raise VerifyFailed(
            f"table {tail.source} was changed by {others[0].operation} (version {others[0].version}) while "
            "it was being rebuilt, and it has no key by which the change could be followed",
            next_step="lancemig recover --undo; then a revision with SetKey, or upgrade in a quiet moment",
        )
    return tuple(
        f"{c.operation} (version {c.version}) of {tail.source} in {tail.origin} was not carried over: "
        "the table has no key by which it could be followed"
        for c in others
    )


def _appended(committer: Committer, tail: Tail, log: list[Commit]) -> list[New]:
    """What each append brought, from the version it made: later ones may have moved the rows."""
    found = []
    for version in (commit.version for commit in log if commit.operation in APPENDS):
        after = committer.tables.open(tail.origin, tail.source, version)
        before = committer.tables.open(tail.origin, tail.source, version - 1)
        found.append((after, [f for f in after.fragments if f.fragment_id not in before.fragment_ids]))
    return found


def _append(
    committer: Committer, tail: Tail, new: Sequence[New], stamp: Stamp, upto: int, left: tuple[str, ...] = ()
) -> Brought:
    key = tail.passage.key_after(tail.start)

    def batches(target: Table) -> Iterator[pa.RecordBatch]:
        for rows in _together(new, tail.start):
            gained = through(tail.passage, tail.start, rows)
            yield from _fitting(_unknown(target, gained, key, tail), target)

    commit = committer.committed(
        tail.target,
        tail.name,
        stamp,
        lambda target: appended_rows(target, batches(target), committer.tables.options()),
    )
    return Brought(tail.source, commit.changed if commit else 0, upto, left)


def _together(new: Sequence[New], start: TableSchema) -> Iterator[pa.Table]:
    """The rows of the new fragments, many small ones at once: each pass costs, whatever its size."""
    waiting: list[pa.Table] = []
    for source, fragments in new:
        while fragments:
            count = _as_many(fragments)
            waiting.append(_values(source.read(fragments=fragments[:count]), start))
            fragments = fragments[count:]
            if sum(rows.num_rows for rows in waiting) >= _ROWS_AT_ONCE:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _as_many(fragments: list[LanceFragment]) -> int:
    sizes = accumulate(fragment.physical_rows for fragment in fragments)
    return next((count for count, rows in enumerate(sizes, 1) if rows >= _ROWS_AT_ONCE), len(fragments))


def _fitting(rows: pa.Table, target: Table) -> list[pa.RecordBatch]:
    """The rows as the target has them; a column that it got since is null in them."""
    for field in target.columns:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    batches: list[pa.RecordBatch] = rows.select(target.columns.names).to_batches()
    return batches


def _unknown(target: Table, rows: pa.Table, key: tuple[str, ...], tail: Tail) -> pa.Table:
    """The rows whose key the target does not have; VerifyFailed where it has it with other values."""
    if not key or not rows.num_rows:
        return rows
    there = existing(target, rows, key)
    matched = matches(rows, there, key)
    _refuse_conflicts(rows, there, matched, key, tail)
    return rows.filter(pa.array(matched < 0))


def _refuse_conflicts(
    rows: pa.Table, there: pa.Table, matched: Places, key: tuple[str, ...], tail: Tail
) -> None:
    names = [name for name in value_columns(there) if name in rows.column_names]
    ours = rows.filter(pa.array(matched >= 0))
    theirs = there.take(pa.array(matched[matched >= 0]))
    other = ours.filter(pc.invert(identical(ours, theirs, names)))
    if other.num_rows:
        name = ", ".join(f"{n}={other.column(n)[0].as_py()!r}" for n in key)
        raise VerifyFailed(
            f"{other.num_rows} rows of {tail.source} that reached {tail.origin} are in {tail.target} "
            f"already, with other values, such as {name}",
            next_step="compare the rows; change or delete them on one side, then the same command again",
        )


def _merge(
    committer: Committer,
    tail: Tail,
    versions: tuple[Table, Table],
    stamp: Stamp,
    *,
    insert_only: bool,
) -> Brought:
    before, source = versions
    found = diff(before, source, tail.start.key)
    if insert_only:
        return _inserted(committer, tail, found, source, stamp)
    rows = pa.concat_tables([found.new, found.inserted])
    _delete(committer, tail, found.deleted, stamp)
    gained = through(tail.passage, tail.start, _values(rows, tail.start))
    key = tail.passage.key_after(tail.start)

    def staging(table: Table) -> Staged | None:
        return upserted_rows(table, gained.select(table.columns.names), key, overwrite=True)

    committer.committed(tail.target, tail.name, stamp, staging)
    return Brought(tail.source, rows.num_rows + found.deleted.num_rows, source.version)


def _inserted(committer: Committer, tail: Tail, found: Difference, source: Table, stamp: Stamp) -> Brought:
    key = tail.passage.key_after(tail.start)
    gained = through(tail.passage, tail.start, _values(found.inserted, tail.start))

    def staging(target: Table) -> Staged | None:
        fresh = _fitting(_unknown(target, gained, key, tail), target)
        return appended_rows(target, fresh, committer.tables.options())

    commit = committer.committed(tail.target, tail.name, stamp, staging)
    left = [
        f"{count} {what} rows of {tail.source} in {tail.origin} were not carried over"
        for count, what in ((found.new.num_rows, "updated"), (found.deleted.num_rows, "deleted"))
        if count
    ]
    return Brought(tail.source, commit.changed if commit else 0, source.version, tuple(left))


def _delete(committer: Committer, tail: Tail, deleted: pa.Table, stamp: Stamp) -> None:
    if not deleted.num_rows:
        return
    gone = through(tail.passage, tail.start, _values(deleted, tail.start))
    key = tail.passage.key_after(tail.start)

    def staging(table: Table) -> Staged | None:
        return deleted_at(table, existing(table, gone, key, key).column(ROW_ADDRESS).to_pylist())

    own = Stamp(stamp.run, stamp.revision, f"deleted/{stamp.step}")
    committer.committed(tail.target, tail.name, own, staging)


def _values(rows: pa.Table, start: TableSchema) -> pa.Table:
    return rows.select(start.columns.names)
