"""Finding rows of a table without a key after commits of lancemig moved them.

An upsert rewrites the rows that it replaces, so that they get another address. A deleted row that is restored
gets another stable row id as well. Such a commit carries `Moves`; which row went where follows from the
versions around it, which are guarded, and so it can be computed after any death. Where a version was removed
by cleanup nevertheless, the row counts as not found.
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
"""Rows before they were moved, and the same rows afterwards, in the same order."""


def identifier(table: Table) -> str:
    """The column that identifies rows where there is no key: row id if stable, else address."""
    return ROW_ID if table.stable_row_ids else ROW_ADDRESS


def ids_of(rows: pa.Table, by: str) -> Ids:
    """The row ids, or addresses, of these rows."""
    ids: Ids = rows.column(by).to_numpy()
    return ids


def positions(wanted: Ids, ids: Ids) -> Positions:
    """The position in `ids` of each of `wanted`; -1 where it is missing."""
    if not len(ids):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(ids)
    at = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    result: Positions = np.where(ids[at] == wanted, at, -1)
    return result


def current_ids(tables: Tables, ids: Ids, after: Table, table: Table, base: int) -> Ids:
    """The current ids of rows, as far as commits of lancemig moved them. Deleted rows keep their last id.

    A row that was restored twice has the id from the last time.

    Args:
        tables: Opens other versions.
        ids: Row ids or addresses in the version `after`.
        after: The version for which the ids hold.
        table: The current version, in the same root or one that the table was carried to.
        base: Commits after this version of `table` are considered even if they are not guarded yet.
    """
    by = identifier(after)
    now, known, owners = ids.copy(), ids, np.arange(len(ids))
    for old, new in _moves_between(tables, after, table, base):
        at = positions(ids_of(old, by), known)
        rows, moved = owners[at[at >= 0]], ids_of(new, by)[at >= 0]
        now[rows] = moved
        known, owners = np.concatenate([known, moved]), np.concatenate([owners, rows])
    return now


def _moves_between(tables: Tables, after: Table, table: Table, base: int) -> Iterator[Pairs]:
    """The rows that each commit of lancemig between the two versions moved, oldest first."""
    since = after.version
    if after.root != table.root:
        since, carried = 0, _carried_from(tables, after, table)
        if carried is not None:
            yield from _moves_since(tables, carried, after.version, carried.version)
    yield from _moves_since(tables, table, since, base)


def _carried_from(tables: Tables, after: Table, table: Table) -> Table | None:
    """The version in the old root from which the table was carried; None where that is unknown."""
    first = tables.find(table.root, table.name, table.oldest())
    old = first and tables.find(after.root, after.name, first.version)
    if first is None or old is None or not _same_rows(first, old):
        return None
    return old


def _same_rows(first: Table, second: Table) -> bool:
    names = first.columns.names
    return second.columns.names == names and signatures(first, names) == signatures(second, names)


def _moves_since(tables: Tables, table: Table, since: int, base: int) -> Iterator[Pairs]:
    guarded = (guarded_version(branch) for branch in tables.guards(table.root, table.name))
    versions = {*guarded, *range(base + 1, table.version + 1)}
    wanted = sorted(version for version in versions if version and since < version <= table.version)
    for commit in tables.among(table, wanted).commits:
        pairs = _moves_of(tables, table, commit, commit.moves) if commit.moves else None
        if pairs is not None:
            yield pairs


def _moves_of(tables: Tables, table: Table, commit: Commit, moves: Moves) -> Pairs | None:
    """The rows that one commit moved; None where a version that tells was removed."""
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
    restored = after.read(fragments=new, row_ids=True, addresses=True)
    return _pair_restored(diff(*origin, moves.on).deleted, restored, moves.on)


def _around(tables: Tables, root: str, name: str, version: int) -> tuple[Table, Table] | None:
    before, after = tables.find(root, name, version - 1), tables.find(root, name, version)
    return None if before is None or after is None else (before, after)


def _pair_restored(deleted: pa.Table, restored: pa.Table, on: tuple[str, ...]) -> Pairs | None:
    """The deleted rows with the restored ones, which have the same order.

    Where some were not restored, because their key existed again, the others are paired by key.
    """
    if deleted.num_rows != restored.num_rows:
        if not on or has_duplicates(deleted, on) or has_duplicates(restored, on):
            return None
        at = matches(restored, deleted, on)
        deleted, restored = deleted.take(pa.array(at[at >= 0])), restored.filter(pa.array(at >= 0))
    names = [
        name
        for name in value_columns(deleted)
        if name in restored.column_names
        and restored.schema.field(name).type == deleted.schema.field(name).type
    ]
    # A row is restored with the values it had: any other pairing would be a guess.
    same = identical(deleted, restored, names)
    return deleted.filter(same), restored.filter(same)


def has_duplicates(rows: pa.Table, on: tuple[str, ...]) -> bool:
    """Whether two of the rows have the same values in the columns `on`."""
    return bool(rows.num_rows) and len(np.unique(row_numbers([rows.column(n) for n in on]))) < rows.num_rows
