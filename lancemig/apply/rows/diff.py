"""What differs between two versions of a table: rows inserted, deleted, and updated; by key or by place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.values import distinct
from lancemig.catalog.keys import Positions, matches
from lancemig.errors import VerifyFailed
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, LanceFragment, Table


@dataclass(frozen=True)
class Difference:
    """Rows by what became of them; `old` and `new` are the updated ones, row by row.

    All tables carry `_rowid` and `_rowaddr` of the version they were read from.
    """

    old: pa.Table
    new: pa.Table
    inserted: pa.Table
    deleted: pa.Table

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.old.num_rows or self.inserted.num_rows or self.deleted.num_rows)


def diff(
    before: Table, after: Table, key: Sequence[str], *, columns: Sequence[str] | None = None
) -> Difference:
    """How `after` differs from `before`, two versions of one table with the same columns.

    Only fragments whose files differ are read; where no row came, went or moved, only the columns whose files
    differ, and the key. Of fragments with the same files only rows that were deleted are read. Rows that keep
    their place are compared there; the others are paired by `key`, or by stable row id; with neither, a row
    that was moved counts as deleted and inserted. With `columns`, only these count, all of them are read, and
    a row with another key is another row wherever it lies.
    """
    names = before.columns.names if columns is None else list(columns)
    if (columns is None and after.columns.names != names) or not _alike(before, after, names):
        raise VerifyFailed(
            f"the columns of {after.name} were changed by another writer between versions "
            f"{before.version} and {after.version}",
            next_step="before the flip: lancemig recover --undo, then upgrade again, which includes the "
            "change; after the flip: restore the columns by hand",
        )
    known, now = signatures(before, names), signatures(after, names)
    gone = [f for f in before.fragments if now.get(f.fragment_id) != known[f.fragment_id]]
    came = [f for f in after.fragments if known.get(f.fragment_id) != now[f.fragment_id]]
    if columns is None:
        names = _differing_columns((before, gone), (after, came), key)
    old, new = _rows(before, gone, names, after), _rows(after, came, names, before)
    _, at_old, at_new = np.intersect1d(_addresses(old), _addresses(new), return_indices=True)
    if columns is not None and key:
        same = identical(old.take(at_old), new.take(at_new), key).to_numpy(zero_copy_only=False)
        at_old, at_new = at_old[same], at_new[same]
    left, right = _others(old, at_old), _others(new, at_new)
    identity = list(key) or ([ROW_ID] if after.stable_row_ids else [])
    paired = _paired(left, right, identity)
    same_place = _differing(old.take(at_old), new.take(at_new))
    moved = _differing(_taken(left, paired[0]), _taken(right, paired[1]))
    return Difference(
        old=pa.concat_tables([same_place[0], moved[0]]),
        new=pa.concat_tables([same_place[1], moved[1]]),
        inserted=_others(right, paired[1]),
        deleted=_others(left, paired[0]),
    )


def value_columns(rows: pa.Table) -> list[str]:
    """The columns of a difference's table, without the two that say where a row lies."""
    return [name for name in rows.column_names if name not in (ROW_ID, ROW_ADDRESS)]


def _alike(before: Table, after: Table, names: Sequence[str]) -> bool:
    there = all(name in table.columns.names for table in (before, after) for name in names)
    return there and all(before.columns.field(n) == after.columns.field(n) for n in names)


def signatures(table: Table, names: Sequence[str]) -> dict[int, tuple[Any, ...]]:
    """What tells fragments apart, by their ids: the files of the named columns, and deletions."""
    return {f.fragment_id: (table.state_of(f, names), f.deletion_file()) for f in table.fragments}


def _differing_columns(
    old: tuple[Table, list[LanceFragment]], new: tuple[Table, list[LanceFragment]], key: Sequence[str]
) -> list[str]:
    """The columns to be read of the fragments that differ."""
    (before, gone), (after, came) = old, new
    names: list[str] = before.columns.names
    pairs = list(zip(gone, came, strict=False))
    stay = len(gone) == len(came) and all(
        one.fragment_id == other.fragment_id and one.deletion_file() == other.deletion_file()
        for one, other in pairs
    )
    if not stay:
        return names
    return [
        name
        for name in names
        if name in key
        or any(before.state_of(one, [name]) != after.state_of(other, [name]) for one, other in pairs)
    ]


def _rows(table: Table, fragments: list[LanceFragment], names: list[str], other: Table) -> pa.Table:
    """The rows of `fragments` that `other` may lack, in the order of their addresses."""
    if not fragments:
        extra = [pa.field(ROW_ID, pa.uint64()), pa.field(ROW_ADDRESS, pa.uint64())]
        return pa.schema([*(table.columns.field(name) for name in names), *extra]).empty_table()
    there = {fragment.fragment_id: fragment for fragment in other.fragments}
    alike = {
        fragment.fragment_id
        for fragment in fragments
        if fragment.fragment_id in there
        and table.state_of(fragment, names) == other.state_of(there[fragment.fragment_id], names)
    }
    others = [fragment for fragment in fragments if fragment.fragment_id not in alike]
    read = table.read(names, fragments=others, row_ids=True, addresses=True)
    if not alike:
        return read
    mine = table.read([], fragments=[f for f in fragments if f.fragment_id in alike], **_PLACES)
    theirs = other.read([], fragments=[there[id_] for id_ in sorted(alike)], **_PLACES)
    missing = pc.invert(pc.is_in(mine.column(ROW_ADDRESS), value_set=theirs.column(ROW_ADDRESS)))
    ids = mine.filter(missing).column(ROW_ID)
    deleted = table.rows_of(ids, names, addresses=True).select(read.column_names)
    return pa.concat_tables([read, deleted]).sort_by(ROW_ADDRESS)


_PLACES: dict[str, bool] = {"row_ids": True, "addresses": True}


def _addresses(rows: pa.Table) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    found: np.ndarray[Any, np.dtype[np.uint64]] = rows.column(ROW_ADDRESS).to_numpy()
    return found


def _others(rows: pa.Table, taken: Sequence[int] | Any) -> pa.Table:
    keep = np.ones(rows.num_rows, dtype=bool)
    keep[np.asarray(taken, dtype=np.int64)] = False
    return rows.filter(pa.array(keep))


def _taken(rows: pa.Table, places: Positions) -> pa.Table:
    return rows.take(pa.array(places, pa.int64()))


def _paired(left: pa.Table, right: pa.Table, identity: list[str]) -> tuple[Positions, Positions]:
    if not identity or not left.num_rows or not right.num_rows:
        nothing: Positions = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    places = matches(right, left, identity)
    found = np.flatnonzero(places >= 0)
    return places[found], found


def _differing(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    changed = np.zeros(old.num_rows, dtype=bool)
    for name in value_columns(old):
        differs = distinct(old.column(name).combine_chunks(), new.column(name).combine_chunks())
        changed |= differs.to_numpy(zero_copy_only=False)
    mask = pa.array(changed)
    return old.filter(mask), new.filter(mask)
