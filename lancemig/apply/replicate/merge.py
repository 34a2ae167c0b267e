"""What became of rows in one root, done to the same rows in another: cell by cell, by key.

A row is looked at three times: as it was and as it is in the source, both carried through the operations
between the roots, and as it is in the target. Only cells that changed in the source are brought. One that the
target's own writers changed too is a conflict.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.upserts import existing
from lancemig.apply.rows.values import chosen, distinct, whole, with_columns
from lancemig.catalog.keys import Positions, checked_keys, format_key, matches
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Staged, Table
from lancemig.store.lance.staging import replaced_rows

WhenExists = Literal["error", "overwrite", "keep"]
"""What is done about a cell that both sides changed, and a row that both inserted or one of them deleted."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_SHOWN = 3


@dataclass(frozen=True)
class RowChange:
    """Rows as they `was` and as they `now` are, both as the target has rows; paired by `key`."""

    was: pa.Table
    now: pa.Table
    key: tuple[str, ...]


@dataclass
class MergeResult:
    """What a change comes to in the target: rows by what is done to them, and conflicts, named."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    kept: int = 0
    conflicts: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The rows that are written or deleted."""
        return self.inserted + self.updated + self.deleted


def three_way_merge(
    change: RowChange, target: Table, when_exists: WhenExists
) -> tuple[Staged | None, MergeResult]:
    """Stage the change, as one commit; nothing is staged while there are conflicts and they are an error.

    PlanError for null or repeated keys on either side: then nobody can tell which row is meant.
    """
    keys = pa.concat_tables([side.select(list(change.key)) for side in (change.was, change.now)])
    there = existing(target, keys, change.key)
    for side in (change.was, change.now):
        checked_keys(side, change.key, f"the new rows of {target.name}")
    checked_keys(there, change.key, f"table {target.name}")
    nothing = target.columns.empty_table()
    return merge_rows(target, change, there, when_exists, nothing, nothing)


def merge_rows(
    target: Table,
    change: RowChange,
    there: pa.Table,
    when_exists: WhenExists,
    more: pa.Table,
    fewer: pa.Table,
) -> tuple[Staged | None, MergeResult]:
    """Like `follow`, where the rows concerned are known; `more` are inserted as well, and `fewer` deleted."""
    followed = MergeResult(inserted=more.num_rows)
    sides = _ThreeWay(change, there, when_exists, followed)
    new = pa.concat_tables([sides.insertions(target.columns), more])
    changed = sides.updates()
    gone = sides.deletions()
    if followed.conflicts:
        return None, followed
    if fewer.num_rows:
        gone = np.concatenate([gone, fewer.column(ROW_ADDRESS).to_numpy()])
    rows = pa.concat_tables([changed.select(target.columns.names), new]) if changed.num_rows else new
    staged = replaced_rows(target, rows, changed.select([ROW_ID, ROW_ADDRESS]), gone)
    return staged, followed


@dataclass(frozen=True)
class _ThreeWay:
    change: RowChange
    there: pa.Table
    when_exists: WhenExists
    followed: MergeResult

    def insertions(self, columns: pa.Schema) -> pa.Table:
        """The rows that the target lacks; columns that only the target has are null in them."""
        change = self.change
        absent = matches(change.now, self.there, change.key) < 0
        before = matches(change.now, change.was, change.key) >= 0
        # It was in the source before, so it was in the target: somebody deleted it there.
        taken = self._conflicts(
            change.now, absent & before, "was changed in the source root, but deleted in the target root"
        )
        rows = change.now.filter(pa.array(absent & ~(before & ~taken)))
        self.followed.inserted += rows.num_rows
        return with_columns(rows, columns).cast(columns)

    def updates(self) -> pa.Table:
        """The rows of the target that change, as they become, with their places."""
        change, there = self.change, self.there
        at = matches(change.now, there, change.key)
        met = np.flatnonzero(at >= 0)
        now, found = change.now.take(pa.array(met)), there.take(pa.array(at[met]))
        source = matches(now, change.was, change.key)
        columns = {name: found.column(name) for name in found.column_names}
        differs, refused = np.zeros(len(met), dtype=bool), np.zeros(len(met), dtype=bool)
        was = _padded(change.was, source)
        for name in self._shared(now):
            is_, has, old = (whole(rows.column(name)) for rows in (now, found, was))
            # A row that is new in the source is, wherever it differs, another one than the target's.
            ours = _true(distinct(old, is_)) | (source < 0)
            wanted = ours & _true(distinct(has, is_))
            theirs = wanted & (_true(distinct(old, has)) | (source < 0))
            taken = wanted if self.when_exists == "overwrite" else wanted & ~theirs
            refused |= theirs & ~taken
            columns[name] = chosen(pa.array(taken), is_, has)
            differs |= taken
        self._conflicts(now, refused, "was changed in both roots")
        self.followed.updated += int(differs.sum())
        fields = [there.schema.field(name) for name in there.column_names]
        return pa.table([columns[f.name] for f in fields], schema=pa.schema(fields)).filter(pa.array(differs))

    def deletions(self) -> Positions:
        """Where the target's rows lie that the source has no more."""
        change, there = self.change, self.there
        gone = change.was.filter(pa.array(matches(change.was, change.now, change.key) < 0))
        at = matches(gone, there, change.key)
        gone, found = gone.filter(pa.array(at >= 0)), there.take(pa.array(at[at >= 0]))
        same = _true(identical(gone, found, self._shared(gone)))
        taken = same | self._conflicts(
            gone, ~same, "was deleted in the source root, but changed in the target root"
        )
        self.followed.deleted += int(taken.sum())
        places: Positions = found.column(ROW_ADDRESS).to_numpy()[taken]
        return places

    def _conflicts(self, rows: pa.Table, mask: Mask, what: str) -> Mask:
        """Which of the masked rows are brought all the same; the others are told."""
        if self.when_exists == "overwrite":
            return mask
        at = np.flatnonzero(mask)
        if self.when_exists == "keep":
            self.followed.kept += len(at)
        else:
            said = [f"{format_key(rows, self.change.key, int(one))} {what}" for one in at[:_SHOWN]]
            more = [f"{len(at) - _SHOWN:,} other rows: {what}"] if len(at) > _SHOWN else []
            self.followed.conflicts += [*said, *more]
        return np.zeros(len(mask), dtype=bool)

    def _columns(self) -> list[str]:
        return [name for name in self.there.column_names if name not in (ROW_ID, ROW_ADDRESS)]

    def _shared(self, rows: pa.Table) -> list[str]:
        return [n for n in self._columns() if n in rows.column_names and n not in self.change.key]


def _padded(rows: pa.Table, places: Positions) -> pa.Table:
    """The rows at these places; all null for -1."""
    return rows.take(pa.array(places, mask=places < 0))


def _true(array: pa.BooleanArray) -> Mask:
    found: Mask = array.to_numpy(zero_copy_only=False)
    return found
