"""Putting back what a value change did, cell by cell, and keeping everything that came since."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import RowCounts
from lancemig.apply.rows.diff import Difference, diff, value_columns
from lancemig.apply.rows.moved_rows import Ids, current_ids, identifier, ids_of, positions
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
    """A commit that is put back: the table `before` and `after` it.

    A cell that somebody changed since is a conflict: it stays, unless `overwrite`. An `unfinished` step may
    have left keys twice, which others had inserted by then. Rows that we moved are followed, through
    commits of the table since version `base` also where those are not guarded yet. What was found by the last
    of the functions below is in `tally` (skipped: cells or rows that stay) and `left`.
    """

    before: Table
    after: Table
    tables: Tables
    base: int
    on: tuple[str, ...] = ()
    overwrite: bool = False
    unfinished: bool = False
    counts: RowCounts = field(default_factory=RowCounts)
    skipped_rows: list[SkippedRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.found = lru_cache(maxsize=1)(self._found)

    def _found(self, identity: tuple[str, ...]) -> Difference:
        return diff(self.before, self.after, identity)

    def identity(self, table: Table) -> tuple[str, ...]:
        """The columns by which rows are found again: the key that the table has now, or the commit's own."""
        return table.schema().key or self.on

    def of(self, table: Table) -> Difference:
        """What the commit did, its rows paired by the key that the table has now."""
        self.tally, self.skipped_rows = RowCounts(), []
        return self.found(self.identity(table))

    def keep(self, table: Table, rows: pa.Table, old: list[dict[str, Any]], reason: str) -> None:
        """Tell these rows, which have row ids of the pinned `table`, with the values they keep."""
        keys = keys_at(table, rows, self.identity(table))
        self.skipped_rows += [
            {"table": table.name, "key": key, "old": values, "reason": reason}
            for key, values in zip(keys, old, strict=True)
        ]


def restore_cells(reversal: Reversal, table: Table) -> Staged | None:
    """Stage the old values of the cells that the commit changed, where they still are as it left them."""
    found = reversal.of(table)
    if not found.old.num_rows:
        return None
    identity = reversal.identity(table)
    names = _changed_columns(found)
    now, places = _now(reversal, table, found.new, names)
    there = pa.array(places >= 0)
    old, new = found.old.filter(there), found.new.filter(there)
    current = now.take(pa.array(places[places >= 0]))
    columns: dict[str, pa.Array] = {}
    touched = pa.array([False] * current.num_rows, pa.bool_())
    kept = 0
    for name in names:
        was, left, is_ = (rows.column(name).combine_chunks() for rows in (old, new, current))
        ours = distinct(was, left)
        theirs = pc.and_(ours, distinct(left, is_))
        if pc.any(theirs).as_py() and not reversal.overwrite:
            kept += pc.sum(theirs).as_py()
            reversal.keep(table, current.filter(theirs), _cells(name, is_.filter(theirs)), _CHANGED_SINCE)
            ours = pc.and_(ours, pc.invert(theirs))
        columns[name] = chosen(ours, was, is_)
        touched = pc.or_(touched, pc.and_(ours, distinct(was, is_)))
    gone = len(places) - current.num_rows
    reversal.skipped_rows += [
        {"table": table.name, "key": key, "old": {}, "reason": _GONE_SINCE}
        for key in _spelt(found.new.filter(pa.array(places < 0)), identity)
    ]
    reversal.tally = RowCounts(pc.sum(touched).as_py() or 0, kept + gone)
    values = pa.table({**columns, ROW_ID: current.column(ROW_ID), ROW_ADDRESS: current.column(ROW_ADDRESS)})
    return _counted(updated_rows(table, _by_fragment(table, values.filter(touched))), reversal)


def delete_inserted(reversal: Reversal, table: Table) -> Staged | None:
    """Stage the removal of the rows the commit inserted, unless somebody changed them since."""
    found = reversal.of(table)
    if not found.inserted.num_rows:
        return None
    identity = reversal.identity(table)
    inserted, repeated = _by_repetition(found.inserted, reversal.before, identity)
    now, places = _now(reversal, table, inserted, value_columns(inserted))
    ours, theirs = inserted.filter(pa.array(places >= 0)), now.take(pa.array(places[places >= 0]))
    same = identical(ours, theirs, value_columns(ours))
    changed = theirs.filter(pc.invert(same))
    reversal.keep(table, changed, changed.select(value_columns(changed)).to_pylist(), _CHANGED_SINCE)
    going = theirs.column(ROW_ADDRESS).filter(same).to_pylist()
    if repeated.num_rows and reversal.unfinished:
        # A run that died before it withdrew them has left the key twice.
        going += rows_to_delete(repeated, identity, table)
    reversal.tally = RowCounts(len(going), changed.num_rows)
    return _counted(deleted_at(table, going), reversal)


def restore_deleted(reversal: Reversal, table: Table) -> Staged | None:
    """Stage the rows the commit deleted, unless their key exists again."""
    found, identity = reversal.of(table), reversal.identity(table)
    if not found.deleted.num_rows:
        return None
    rows = found.deleted.select(value_columns(found.deleted))
    if identity:
        again = pa.array(matches(rows, existing(table, rows, identity, identity), identity) >= 0)
        reversal.skipped_rows = [
            {"table": table.name, "key": key, "old": {}, "reason": "its key exists again"}
            for key in rows.filter(again).select(list(identity)).to_pylist()
        ]
        rows = rows.filter(pc.invert(again))
    reversal.tally = RowCounts(rows.num_rows, found.deleted.num_rows - rows.num_rows)
    rows = with_columns(rows, table.columns)
    staged = appended_rows(table, rows.to_batches(), reversal.tables.options())
    after = reversal.after
    moves = Moves(identity, Origin(after.root, after.name, after.version))
    return _counted(staged and staged.moving(moves), reversal)


PUTTING_BACK: dict[str, Callable[[Reversal, Table], Staged | None]] = {
    "cells": restore_cells,
    "inserted": delete_inserted,
    "deleted": restore_deleted,
}


def _counted(staged: Staged | None, reversal: Reversal) -> Staged | None:
    counts = reversal.tally
    return None if staged is None else staged.counted(counts.changed, counts.skipped)


def _spelt(rows: pa.Table, identity: tuple[str, ...]) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = rows.select(list(identity) or [ROW_ID]).to_pylist()
    return keys


def _cells(name: str, values: pa.Array) -> list[dict[str, Any]]:
    return [{name: value} for value in values.to_pylist()]


def _by_repetition(inserted: pa.Table, before: Table, identity: tuple[str, ...]) -> tuple[pa.Table, pa.Table]:
    """The rows whose key was new, and those whose key somebody else had inserted by then."""
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


def _now(reversal: Reversal, table: Table, rows: pa.Table, names: list[str]) -> tuple[pa.Table, Positions]:
    """The current rows that may be those in `rows`, with the columns `names` at least; and which are.

    Rows are those of the version that the commit made. They are found by key, or by stable row id or address,
    and those that we moved since where we put them.
    """
    identity, after = reversal.identity(table), reversal.after
    if identity:
        now = existing(table, rows, identity, names)
        return now, matches(rows, now, identity)
    if not _descends(table, after):
        raise _not_found(table, "rewritten since")
    ids = ids_of(rows, identifier(table))
    now, places = _there(table, ids, names)
    if (places < 0).any():
        ids = current_ids(reversal.tables, ids, after, table, reversal.base)
        now, places = _there(table, ids, names)
    fragments = {address >> _FRAGMENT_BITS for address in ids[places < 0].tolist()}
    if not table.stable_row_ids and fragments - table.fragment_ids:
        raise _not_found(table, "moved since (compaction)")
    return now, places


def _there(table: Table, ids: Ids, names: list[str]) -> tuple[pa.Table, Positions]:
    """The rows that may have these ids, and which have."""
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
    known, now = (
        {file.path for fragment in one.fragments for file in fragment.metadata.files}
        for one in (after, table)
    )
    return bool(known & now)


def _by_fragment(table: Table, values: pa.Table) -> Iterator[tuple[LanceFragment, Any]]:
    owners = pc.shift_right(values.column(ROW_ADDRESS), pa.scalar(_FRAGMENT_BITS, pa.uint64()))
    for fragment in table.fragments:
        mine = values.filter(pc.equal(owners, pa.scalar(fragment.fragment_id, pa.uint64())))
        if mine.num_rows:
            yield fragment, mine.drop_columns([ROW_ADDRESS])
