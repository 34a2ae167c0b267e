"""The difference of two versions of a table: rows inserted, deleted and updated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.values import distinct
from lancemig.catalog.arrow_arrays import empty_table
from lancemig.catalog.keys import Positions, matches
from lancemig.errors import VerifyFailed
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, LanceFragment, Table


@dataclass(frozen=True)
class Difference:
    """The rows that differ. All tables have `_rowid` and `_rowaddr` of the version they were read from."""

    old: pa.Table
    """The updated rows before the update."""

    new: pa.Table
    """The updated rows after the update, in the order of `old`."""

    inserted: pa.Table
    deleted: pa.Table

    @property
    def empty(self) -> bool:
        """Whether no row differs."""
        return not (self.old.num_rows or self.inserted.num_rows or self.deleted.num_rows)


def diff(
    before: Table, after: Table, key: Sequence[str], *, columns: Sequence[str] | None = None
) -> Difference:
    """How `after` differs from `before`, two versions of one table with the same columns.

    Only fragments whose files differ are read; where no row was inserted, deleted or moved, only the columns
    whose files differ, and the key. Of fragments with the same files only deleted rows are read. Rows that
    keep their address are compared by it; others are paired by key, or by stable row id. Without either, a
    row that was moved counts as deleted and inserted.

    Args:
        before: The earlier version.
        after: The later version.
        key: The key columns; may be empty.
        columns: The columns to compare; None for those whose files differ. If given, all of them are read,
            and a row with another key is another row, whatever its address.

    Raises:
        VerifyFailed: The columns were changed between the versions.
    """
    names = before.columns.names if columns is None else list(columns)
    if (columns is None and after.columns.names != names) or not _same_fields(before, after, names):
        raise VerifyFailed(
            f"the columns of {after.name} were changed by another writer between versions "
            f"{before.version} and {after.version}",
            next_step="before the flip: lancemig recover --undo, then upgrade again, which includes the "
            "change; after the flip: restore the columns by hand",
        )
    earlier, later = signatures(before, names), signatures(after, names)
    removed = [f for f in before.fragments if later.get(f.fragment_id) != earlier[f.fragment_id]]
    added = [f for f in after.fragments if earlier.get(f.fragment_id) != later[f.fragment_id]]
    if columns is None:
        names = _differing_columns((before, removed), (after, added), key)
    old, new = _rows(before, removed, names, after), _rows(after, added, names, before)
    _, at_old, at_new = np.intersect1d(_addresses(old), _addresses(new), return_indices=True)
    if columns is not None and key:
        same = identical(old.take(at_old), new.take(at_new), key).to_numpy(zero_copy_only=False)
        at_old, at_new = at_old[same], at_new[same]
    rest_old, rest_new = _without(old, at_old), _without(new, at_new)
    identity = list(key) or ([ROW_ID] if after.stable_row_ids else [])
    paired_old, paired_new = _paired(rest_old, rest_new, identity)
    same_address = _differing(old.take(at_old), new.take(at_new))
    moved = _differing(rest_old.take(pa.array(paired_old)), rest_new.take(pa.array(paired_new)))
    return Difference(
        old=pa.concat_tables([same_address[0], moved[0]]),
        new=pa.concat_tables([same_address[1], moved[1]]),
        inserted=_without(rest_new, paired_new),
        deleted=_without(rest_old, paired_old),
    )


def value_columns(rows: pa.Table) -> list[str]:
    """The columns of a difference's table, without row id and address."""
    return [name for name in rows.column_names if name not in (ROW_ID, ROW_ADDRESS)]


def _same_fields(before: Table, after: Table, names: Sequence[str]) -> bool:
    old, new = ({field.name: field for field in table.columns} for table in (before, after))
    return all(name in old and name in new and old[name] == new[name] for name in names)


def signatures(table: Table, names: Sequence[str]) -> dict[int, tuple[Any, ...]]:
    """The files of the named columns and the deletions of each fragment, by its id."""
    return {f.fragment_id: (table.state_of(f, names), f.deletion_file()) for f in table.fragments}


def _differing_columns(
    old: tuple[Table, list[LanceFragment]], new: tuple[Table, list[LanceFragment]], key: Sequence[str]
) -> list[str]:
    """The columns to read of the fragments that differ: all, unless every row has kept its address."""
    (before, removed), (after, added) = old, new
    names: list[str] = before.columns.names
    pairs = list(zip(removed, added, strict=False))
    same_rows = len(removed) == len(added) and all(
        f.fragment_id == g.fragment_id and f.deletion_file() == g.deletion_file() for f, g in pairs
    )
    if not same_rows:
        return names
    differing = set(key)
    for f, g in pairs:
        ours, theirs = before.files_by_column(f), after.files_by_column(g)
        same_rows = f.physical_rows == g.physical_rows
        differing |= {name for name in names if not same_rows or ours[name] != theirs.get(name)}
    return [name for name in names if name in differing]


def _rows(table: Table, fragments: list[LanceFragment], names: list[str], other: Table) -> pa.Table:
    """The rows of `fragments` that `other` may lack or have changed, ordered by address."""
    if not fragments:
        extra = [pa.field(ROW_ID, pa.uint64()), pa.field(ROW_ADDRESS, pa.uint64())]
        return empty_table(pa.schema([*(table.columns.field(name) for name in names), *extra]))
    in_other = {fragment.fragment_id: fragment for fragment in other.fragments}
    same_files = {
        fragment.fragment_id
        for fragment in fragments
        if fragment.fragment_id in in_other
        and table.state_of(fragment, names) == other.state_of(in_other[fragment.fragment_id], names)
    }
    differing = [fragment for fragment in fragments if fragment.fragment_id not in same_files]
    rows = table.read(names, fragments=differing, row_ids=True, addresses=True)
    if not same_files:
        return rows
    here = table.read(
        [], fragments=[f for f in fragments if f.fragment_id in same_files], row_ids=True, addresses=True
    )
    there = other.read(
        [], fragments=[in_other[id_] for id_ in sorted(same_files)], row_ids=True, addresses=True
    )
    missing = pc.invert(pc.is_in(here.column(ROW_ADDRESS), value_set=there.column(ROW_ADDRESS)))
    ids = here.filter(missing).column(ROW_ID)
    deleted = table.rows_of(ids, names, addresses=True).select(rows.column_names)
    return pa.concat_tables([rows, deleted]).sort_by(ROW_ADDRESS)


def _addresses(rows: pa.Table) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    addresses: np.ndarray[Any, np.dtype[np.uint64]] = rows.column(ROW_ADDRESS).to_numpy()
    return addresses


def _without(rows: pa.Table, positions: Positions) -> pa.Table:
    """The rows but those at these positions."""
    keep = np.ones(rows.num_rows, dtype=bool)
    keep[np.asarray(positions, dtype=np.int64)] = False
    return rows.filter(pa.array(keep))


def _paired(old: pa.Table, new: pa.Table, identity: list[str]) -> tuple[Positions, Positions]:
    """The positions of rows with the same identity, in both tables."""
    if not identity or not old.num_rows or not new.num_rows:
        nothing: Positions = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    at = matches(new, old, identity)
    paired = np.flatnonzero(at >= 0)
    return at[paired], paired


def _differing(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows, paired by position, of which a value differs."""
    changed = np.zeros(old.num_rows, dtype=bool)
    for name in value_columns(old):
        differs = distinct(old.column(name).combine_chunks(), new.column(name).combine_chunks())
        changed |= differs.to_numpy(zero_copy_only=False)
    mask = pa.array(changed)
    return old.filter(mask), new.filter(mask)
