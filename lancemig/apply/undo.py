"""Putting back what a value change did, cell by cell, and keeping everything that came since."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.changes import identical
from lancemig.apply.diff import Difference, diff, keys_of, positions, value_columns
from lancemig.apply.values import chosen, distinct
from lancemig.errors import Irreversible
from lancemig.store.tables import ROW_ADDRESS, ROW_ID, LanceFragment, Staged, Table
from lancemig.store.tables.staging import appended_rows, deleted_at, updated_rows

_FRAGMENT_BITS = 32


def cells_put_back(change: tuple[Table, Table], table: Table) -> Staged | None:
    """Stage the old values of the cells that a commit changed, where they still are as it left them.

    `change` is the table before and after that commit. A cell that somebody changed since stays and is
    counted as skipped.
    """
    found = diff(*change, _identity(table))
    if not found.old.num_rows:
        return None
    now = _now(table, found.new, change[1])
    places, changed, kept = _positions(now, found.new, table), 0, 0
    at = [place for place in places if place is not None]
    old = found.old.filter(pa.array([place is not None for place in places]))
    new = found.new.filter(pa.array([place is not None for place in places]))
    current = now.take(pa.array(at, pa.int64()))
    columns: dict[str, pa.Array] = {}
    touched = pa.array([False] * current.num_rows, pa.bool_())
    for name in _changed_columns(found):
        was, left, is_ = (rows.column(name).combine_chunks() for rows in (old, new, current))
        ours = distinct(was, left)
        still = pc.and_(ours, pc.invert(distinct(left, is_)))
        kept += (pc.sum(ours).as_py() or 0) - (pc.sum(still).as_py() or 0)
        columns[name] = chosen(still, was, is_)
        touched = pc.or_(touched, still)
    changed = pc.sum(touched).as_py() or 0
    values = pa.table({**columns, ROW_ID: current.column(ROW_ID), ROW_ADDRESS: current.column(ROW_ADDRESS)})
    staged = updated_rows(table, _by_fragment(table, values.filter(touched)))
    lost = len(places) - len(at)
    return None if staged is None else staged.counted(changed, kept + lost)


def insertions_removed(change: tuple[Table, Table], table: Table) -> Staged | None:
    """Stage the removal of the rows a commit inserted, unless somebody changed them since."""
    found = diff(*change, _identity(table))
    if not found.inserted.num_rows:
        return None
    now = _now(table, found.inserted, change[1])
    places = _positions(now, found.inserted, table)
    ours = found.inserted.filter(pa.array([place is not None for place in places]))
    theirs = now.take(pa.array([place for place in places if place is not None], pa.int64()))
    doomed = theirs.column(ROW_ADDRESS).filter(identical(ours, theirs, value_columns(ours))).to_pylist()
    staged = deleted_at(table, doomed)
    return None if staged is None else staged.counted(len(doomed), len(places) - len(doomed))


def deletions_restored(
    change: tuple[Table, Table], options: Mapping[str, str], table: Table
) -> Staged | None:
    """Stage the rows a commit deleted, unless their key exists again."""
    identity = _identity(table)
    found = diff(*change, identity)
    if not found.deleted.num_rows:
        return None
    rows = found.deleted.select(value_columns(found.deleted))
    if identity:
        there = set(keys_of(table.read(list(identity)), identity))
        rows = rows.filter(pa.array([key not in there for key in keys_of(rows, identity)]))
    rows = rows.select(table.columns.names)
    staged = appended_rows(table, rows.to_batches(), options)
    lost = found.deleted.num_rows - rows.num_rows
    return None if staged is None else staged.counted(rows.num_rows, lost)


def _identity(table: Table) -> tuple[str, ...]:
    return table.schema().key


def _changed_columns(found: Difference) -> list[str]:
    return [
        name
        for name in value_columns(found.old)
        if pc.any(
            distinct(found.old.column(name).combine_chunks(), found.new.column(name).combine_chunks())
        ).as_py()
    ]


def _now(table: Table, rows: pa.Table, after: Table) -> pa.Table:
    """The current rows that may be those in `rows` of version `after`: by key, stable row id, or fragment."""
    key = _identity(table)
    if key:
        wanted = pc.unique(rows.column(key[0]).combine_chunks())
        return table.read(where=pc.field(key[0]).isin(wanted), row_ids=True, addresses=True)
    if not _descends(table, after):
        raise Irreversible(
            f"the rows of {table.name} were written anew since, and it has no key to find them by",
            next_step="lancemig history --lineage -v tells the versions; compare them and repair by hand",
        )
    if table.stable_row_ids:
        return table.read(row_ids=True, addresses=True)
    fragments = {address >> _FRAGMENT_BITS for address in rows.column(ROW_ADDRESS).to_pylist()}
    missing = fragments - table.fragment_ids
    if missing:
        raise Irreversible(
            f"the rows of {table.name} were moved since (compaction), and it has no key to find them by",
            next_step="lancemig history --lineage -v tells the versions; compare them and repair by hand",
        )
    chosen = [f for f in table.fragments if f.fragment_id in fragments]
    return table.read(fragments=chosen, row_ids=True, addresses=True)


def _descends(table: Table, after: Table) -> bool:
    """Whether row ids and addresses mean the same in both: one table, or a copy that shares its files."""
    if table.root == after.root:
        return True
    known, now = (
        {file.path for fragment in one.fragments for file in fragment.metadata.files}
        for one in (after, table)
    )
    return bool(known & now)


def _positions(now: pa.Table, rows: pa.Table, table: Table) -> list[int | None]:
    names = list(_identity(table)) or [ROW_ID if table.stable_row_ids else ROW_ADDRESS]
    return positions(rows, now, names)


def _by_fragment(table: Table, values: pa.Table) -> Iterator[tuple[LanceFragment, Any]]:
    owners = pc.shift_right(values.column(ROW_ADDRESS), pa.scalar(_FRAGMENT_BITS, pa.uint64()))
    for fragment in table.fragments:
        mine = values.filter(pc.equal(owners, pa.scalar(fragment.fragment_id, pa.uint64())))
        if mine.num_rows:
            yield fragment, mine.drop_columns([ROW_ADDRESS])
