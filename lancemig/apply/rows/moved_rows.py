"""Rows of a table without a key that our own commits moved, found again where they lie now.

An upsert writes the rows that it replaces anew, and a row that was deleted comes back as another row: both
times it has another address, and the latter with another stable row id. Such a commit says so
(`Moves`), and which row went where is told by the versions around it, which are guarded. So it can
be told again after any death; where a version was cleaned away nevertheless, the row counts as not found.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from lancemig.apply.rows.diff import diff, signatures, value_columns
from lancemig.apply.rows.updates import identical
from lancemig.catalog.keys import Positions, matches, row_numbers
from lancemig.catalog.stamps import guarded_version
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Commit, Moves, Table, Tables

Ids = np.ndarray[Any, np.dtype[np.uint64]]
"""Row ids where those are stable, else addresses."""

Pairs = tuple[pa.Table, pa.Table]
"""Rows as they were, and the same rows as they came to lie elsewhere, one for one."""


def identifier(table: Table) -> str:
    """The name of what tells rows apart where no key does."""
    return ROW_ID if table.stable_row_ids else ROW_ADDRESS


def ids_of(rows: pa.Table, by: str) -> Ids:
    """The row ids, or addresses, of these rows."""
    ids: Ids = rows.column(by).to_numpy()
    return ids


def positions(wanted: Ids, there: Ids) -> Positions:
    """For each of `wanted`, its place in `there`; -1 where it is not."""
    if not len(there):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(there)
    at = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
    found: Positions = np.where(there[at] == wanted, at, -1)
    return found


def followed(tables: Tables, ids: Ids, after: Table, table: Table, base: int) -> Ids:
    """What rows with these `ids` in version `after` have in `table` for them, as far as we moved them.

    A row that came back twice is the one that came last. Commits since version `base` of `table` are
    looked at although they may not be guarded yet. That a row is there still is not said.
    """
    by = identifier(after)
    now, known, owners = ids.copy(), ids, np.arange(len(ids))
    for old, new in _pairs(tables, after, table, base):
        at = positions(ids_of(old, by), known)
        rows, moved = owners[at[at >= 0]], ids_of(new, by)[at >= 0]
        now[rows] = moved
        known, owners = np.concatenate([known, moved]), np.concatenate([owners, rows])
    return now


def _pairs(tables: Tables, after: Table, table: Table, base: int) -> Iterator[Pairs]:
    """The rows that each commit of ours moved on the way from `after` to `table`, oldest first."""
    since = after.version
    if after.root != table.root:
        since, carried = 0, _carried(tables, after, table)
        if carried is not None:
            yield from _moved(tables, carried, after.version, carried.version)
    yield from _moved(tables, table, since, base)


def _carried(tables: Tables, after: Table, table: Table) -> Table | None:
    """The version of the table in its old root from which it was carried; None where that cannot be told."""
    first = tables.find(table.root, table.name, table.oldest())
    old = first and tables.find(after.root, after.name, first.version)
    if first is None or old is None or not _same_rows(first, old):
        return None
    return old


def _same_rows(one: Table, other: Table) -> bool:
    names = one.columns.names
    same = other.columns.names == names
    return same and signatures(one, names) == signatures(other, names)


def _moved(tables: Tables, table: Table, since: int, base: int) -> Iterator[Pairs]:
    guarded = (guarded_version(branch) for branch in tables.guards(table.root, table.name))
    versions = {*guarded, *range(base + 1, table.version + 1)}
    wanted = sorted(version for version in versions if version and since < version <= table.version)
    for commit in tables.among(table, wanted).commits:
        pairs = _moved_by(tables, table, commit, commit.moves) if commit.moves else None
        if pairs is not None:
            yield pairs


def _moved_by(tables: Tables, table: Table, commit: Commit, moves: Moves) -> Pairs | None:
    """What one commit moved; None where that cannot be told any more."""
    versions = _around(tables, table.root, table.name, commit.version)
    if versions is None:
        return None
    if moves.restores is None:
        replaced = diff(*versions, moves.on)
        return replaced.old, replaced.new
    origin = _around(tables, moves.restores.root, moves.restores.name, moves.restores.version)
    if origin is None:
        return None
    before, after = versions
    new = [fragment for fragment in after.fragments if fragment.fragment_id not in before.fragment_ids]
    came = after.read(fragments=new, row_ids=True, addresses=True)
    return _returned(diff(*origin, moves.on).deleted, came, moves.on)


def _around(tables: Tables, root: str, name: str, version: int) -> tuple[Table, Table] | None:
    before, after = tables.find(root, name, version - 1), tables.find(root, name, version)
    return None if before is None or after is None else (before, after)


def _returned(gone: pa.Table, came: pa.Table, on: tuple[str, ...]) -> Pairs | None:
    """The rows that were deleted, and those of `came`, in the same order, that they are.

    Where some did not come back, for their key was there again, the others are told by it.
    """
    if gone.num_rows != came.num_rows:
        if not on or _repeated(gone, on) or _repeated(came, on):
            return None
        at = matches(came, gone, on)
        gone, came = gone.take(pa.array(at[at >= 0])), came.filter(pa.array(at >= 0))
    names = [
        name
        for name in value_columns(gone)
        if name in came.column_names and came.schema.field(name).type == gone.schema.field(name).type
    ]
    # They came back as they went: anything else would be a guess.
    same = identical(gone, came, names)
    return gone.filter(same), came.filter(same)


def _repeated(rows: pa.Table, on: tuple[str, ...]) -> bool:
    return bool(rows.num_rows) and len(np.unique(row_numbers([rows.column(n) for n in on]))) < rows.num_rows
