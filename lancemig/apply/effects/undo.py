"""Reverts a value change cell by cell, and keeps what other programs have changed since."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import RowCounts
from lancemig.apply.rows.diff import Difference, diff, value_columns
from lancemig.apply.rows.moved_rows import Ids, current_ids, has_duplicates, identifier, ids_of, positions
from lancemig.apply.rows.skipped import SkippedRow, keys_at
from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.upserts import existing, rows_to_delete
from lancemig.apply.rows.values import chosen, distinct, with_columns
from lancemig.catalog.keys import Positions, matches
from lancemig.errors import Irreversible
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, LanceFragment, Moves, Origin, Staged, Table, Tables
from lancemig.store.lance.patches import updated_rows
from lancemig.store.lance.staging import deleted_at
from lancemig.store.lance.writing import appended_rows

_FRAGMENT_BITS = 32
_CHANGED_SINCE = "changed by another writer since"
_GONE_SINCE = "not found: deleted since, or moved in a table without a key"


@dataclass
class Reversal:
    """A commit that is reverted, and the result of the function of `UNDO_STEPS` that ran last."""

    before: Table
    """The table before the commit."""

    after: Table
    """The table after the commit."""

    tables: Tables

    base: int
    """Rows that lancemig moved are followed through commits since this version, guarded or not."""

    on: tuple[str, ...] = ()
    """The columns that identify rows in a table without a key."""

    overwrite: bool = False
    """Whether a cell gets its old value even if another program changed it since; else it is skipped."""

    unfinished: bool = False
    """Whether the step did not finish: a key that others had inserted by then may exist twice."""

    repeats: bool = False
    """Whether the commit deleted repeated rows: they are inserted although rows with their keys exist."""

    counts: RowCounts = field(default_factory=RowCounts)
    """The cells or rows that were reverted, and those that were skipped."""

    skipped_rows: list[SkippedRow] = field(default_factory=list)
    """The rows of the skipped cells, with the reason."""

    def __post_init__(self) -> None:
        self.found = lru_cache(maxsize=1)(self._found)

    def _found(self, identity: tuple[str, ...]) -> Difference:
        return diff(self.before, self.after, identity)

    def identity(self, table: Table) -> tuple[str, ...]:
        """The columns that identify rows: the key that the table has now, or else the commit's own."""
        return () if self.repeats else table.schema().key or self.on or self._moved_by

    @cached_property
    def _moved_by(self) -> tuple[str, ...]:
        """The columns that identify the rows which the commit moved; none if it moved no row."""
        commits = self.tables.among(self.after, [self.after.version]).commits
        return next((commit.moves.on for commit in commits if commit.moves), ())

    def difference(self, table: Table) -> Difference:
        """What the commit changed, with rows matched by the key that the table has now."""
        self.counts, self.skipped_rows = RowCounts(), []
        return self.found(self.identity(table))

    def skip(self, table: Table, rows: pa.Table, old: list[dict[str, Any]], reason: str) -> None:
        """Report that these rows, which have row ids of the pinned `table`, keep their `old` values."""
        keys = keys_at(table, rows, self.identity(table))
        self.skipped_rows += [
            {"table": table.name, "key": key, "old": values, "reason": reason}
            for key, values in zip(keys, old, strict=True)
        ]


def restore_cells(reversal: Reversal, table: Table) -> Staged | None:
    """Stage the old values of the cells that the commit changed and no other program changed since."""
    changes = reversal.difference(table)
    if not changes.old.num_rows:
        return None
    identity = reversal.identity(table)
    names = _changed_columns(changes)
    candidates, places = _current_rows(reversal, table, changes.new, names)
    exists = pa.array(places >= 0)
    old, new = changes.old.filter(exists), changes.new.filter(exists)
    current = candidates.take(pa.array(places[places >= 0]))
    columns: dict[str, pa.Array] = {}
    touched = pa.array([False] * current.num_rows, pa.bool_())
    kept = 0
    for name in names:
        values = (rows.column(name).combine_chunks() for rows in (old, new, current))
        old_value, new_value, current_value = values
        ours = distinct(old_value, new_value)
        theirs = pc.and_(ours, distinct(new_value, current_value))
        if pc.any(theirs).as_py() and not reversal.overwrite:
            kept += pc.sum(theirs).as_py()
            cells = _cells(name, current_value.filter(theirs))
            reversal.skip(table, current.filter(theirs), cells, _CHANGED_SINCE)
            ours = pc.and_(ours, pc.invert(theirs))
        columns[name] = chosen(ours, old_value, current_value)
        touched = pc.or_(touched, pc.and_(ours, distinct(old_value, current_value)))
    gone = len(places) - current.num_rows
    reversal.skipped_rows += [
        {"table": table.name, "key": key, "old": {}, "reason": _GONE_SINCE}
        for key in _keys_of(changes.new.filter(pa.array(places < 0)), identity)
    ]
    reversal.counts = RowCounts(pc.sum(touched).as_py() or 0, kept + gone)
    rows = pa.table({**columns, ROW_ID: current.column(ROW_ID), ROW_ADDRESS: current.column(ROW_ADDRESS)})
    return _counted(updated_rows(table, _by_fragment(table, rows.filter(touched))), reversal)


def delete_inserted(reversal: Reversal, table: Table) -> Staged | None:
    """Stage the removal of the rows the commit inserted, unless another program changed them since."""
    changes = reversal.difference(table)
    if not changes.inserted.num_rows:
        return None
    identity = reversal.identity(table)
    inserted, repeated = _new_and_repeated(changes.inserted, reversal.before, identity)
    candidates, places = _current_rows(reversal, table, inserted, value_columns(inserted))
    ours, theirs = inserted.filter(pa.array(places >= 0)), candidates.take(pa.array(places[places >= 0]))
    same = identical(ours, theirs, value_columns(ours))
    changed = theirs.filter(pc.invert(same))
    reversal.skip(table, changed, changed.select(value_columns(changed)).to_pylist(), _CHANGED_SINCE)
    addresses = theirs.column(ROW_ADDRESS).filter(same).to_pylist()
    if repeated.num_rows and reversal.unfinished:
        # A run that died before it withdrew them has left the key twice.
        addresses += rows_to_delete(repeated, identity, table)
    reversal.counts = RowCounts(len(addresses), changed.num_rows)
    return _counted(deleted_at(table, addresses), reversal)


def restore_deleted(reversal: Reversal, table: Table) -> Staged | None:
    """Stage the rows the commit deleted, unless their key exists again."""
    changes, identity = reversal.difference(table), reversal.identity(table)
    if not changes.deleted.num_rows:
        return None
    rows = changes.deleted.select(value_columns(changes.deleted))
    if identity:
        again = pa.array(matches(rows, existing(table, rows, identity, identity), identity) >= 0)
        reversal.skipped_rows = [
            {"table": table.name, "key": key, "old": {}, "reason": "its key exists again"}
            for key in rows.filter(again).select(list(identity)).to_pylist()
        ]
        rows = rows.filter(pc.invert(again))
    reversal.counts = RowCounts(rows.num_rows, changes.deleted.num_rows - rows.num_rows)
    rows = with_columns(rows, table.columns)
    staged = appended_rows(table, rows.to_batches(), reversal.tables.options())
    after = reversal.after
    moves = Moves(identity, Origin(after.root, after.name, after.version))
    return _counted(staged and staged.moving(moves), reversal)


UNDO_STEPS: dict[str, Callable[[Reversal, Table], Staged | None]] = {
    "cells": restore_cells,
    "inserted": delete_inserted,
    "deleted": restore_deleted,
}


def _counted(staged: Staged | None, reversal: Reversal) -> Staged | None:
    counts = reversal.counts
    return None if staged is None else staged.counted(counts.changed, counts.skipped)


def _keys_of(rows: pa.Table, identity: tuple[str, ...]) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = rows.select(list(identity) or [ROW_ID]).to_pylist()
    return keys


def _cells(name: str, values: pa.Array) -> list[dict[str, Any]]:
    return [{name: value} for value in values.to_pylist()]


def _new_and_repeated(
    inserted: pa.Table, before: Table, identity: tuple[str, ...]
) -> tuple[pa.Table, pa.Table]:
    """The rows with a new key, and those with a key that another program had inserted by then."""
    if not identity:
        return inserted, inserted.slice(0, 0)
    theirs = existing(before, inserted, identity, identity)
    new = pa.array(matches(inserted, theirs, identity) < 0)
    return inserted.filter(new), inserted.filter(pc.invert(new))


def _changed_columns(found: Difference) -> list[str]:
    return [
        name
        for name in value_columns(found.old)
        if pc.any(
            distinct(found.old.column(name).combine_chunks(), found.new.column(name).combine_chunks())
        ).as_py()
    ]


def _current_rows(
    reversal: Reversal, table: Table, rows: pa.Table, names: list[str]
) -> tuple[pa.Table, Positions]:
    """Find the current rows of `rows`, which are rows of the version that the commit made.

    Rows are found by key if it is unique, or else by stable row id or address; those that lancemig has moved
    are followed.

    Returns:
        Candidates with at least the columns `names`, and for each of `rows` the position of its candidate, or
        -1 for a row that was not found.
    """
    identity, after = reversal.identity(table), reversal.after
    if identity and not has_duplicates(rows, identity):
        now = existing(table, rows, identity, names)
        if not has_duplicates(now, identity):
            return now, matches(rows, now, identity)
    # Without a key, or with one that several rows have: one of them would get the values of another.
    if not _descends(table, after):
        raise _not_found(table, "rewritten since")
    ids = ids_of(rows, identifier(table))
    now, places = _rows_with_ids(table, ids, names)
    if (places < 0).any():
        ids = current_ids(reversal.tables, ids, after, table, reversal.base)
        now, places = _rows_with_ids(table, ids, names)
    fragments = {address >> _FRAGMENT_BITS for address in ids[places < 0].tolist()}
    if not table.stable_row_ids and fragments - table.fragment_ids:
        raise _not_found(table, "moved since (compaction)")
    return now, places


def _rows_with_ids(table: Table, ids: Ids, names: list[str]) -> tuple[pa.Table, Positions]:
    """Candidates for rows with these ids, and for each id the position of its row, or -1."""
    chosen = None
    if not table.stable_row_ids:
        fragments = set(np.unique(ids >> np.uint64(_FRAGMENT_BITS)).tolist())
        chosen = [f for f in table.fragments if f.fragment_id in fragments]
    now = table.read(names, fragments=chosen, row_ids=True, addresses=True)
    return now, positions(ids, ids_of(now, identifier(table)))


def _not_found(table: Table, why: str) -> Irreversible:
    return Irreversible(
        f"the rows of {table.name} were {why}, and the table has no key to find them by",
        next_step="list the versions with lancemig history --lineage -v, then compare them and repair the "
        "table by hand",
    )


def _descends(table: Table, after: Table) -> bool:
    """Whether row ids and addresses mean the same in both: one table, or a copy that shares its files."""
    if table.root == after.root:
        return True
    files_after, files_now = (
        {file.path for fragment in version.fragments for file in fragment.metadata.files}
        for version in (after, table)
    )
    return bool(files_after & files_now)


def _by_fragment(table: Table, values: pa.Table) -> Iterator[tuple[LanceFragment, Any]]:
    owners = pc.shift_right(values.column(ROW_ADDRESS), pa.scalar(_FRAGMENT_BITS, pa.uint64()))
    for fragment in table.fragments:
        mine = values.filter(pc.equal(owners, pa.scalar(fragment.fragment_id, pa.uint64())))
        if mine.num_rows:
            yield fragment, mine.drop_columns([ROW_ADDRESS])
