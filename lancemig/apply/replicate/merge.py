"""Three-way merge of rows by key: what changed in the source is written to the target, cell by cell.

Three states of a row are compared: before and after the change in the source, both replayed through the
operations between the roots, and as it is in the target. Only cells that changed in the source are written. A
cell that the target's own writers changed too is a conflict.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.upserts import existing
from lancemig.apply.rows.values import chosen, distinct, whole, with_columns
from lancemig.catalog.arrow_arrays import empty_table
from lancemig.catalog.keys import Positions, checked_keys, format_key, matches
from lancemig.events import SAMPLE, enabled
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Staged, Table
from lancemig.store.lance.staging import replaced_rows

WhenExists = Literal["error", "overwrite", "keep"]
"""The policy for a cell that both sides changed, and a row that both inserted or one of them deleted."""

Outcome = Literal["unchanged", "kept", "conflict", "blocked"]
"""Why a row is not written: the target has its values already, the target's own values are kept, both sides
changed it, or other rows of the table are in conflict."""

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_SHOWN = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowChange:
    """Rows `before` and `after` a change in the source, in the target's columns; paired by `key`."""

    before: pa.Table
    after: pa.Table
    key: tuple[str, ...]

    unclear: str = ""
    """Rows that the change leaves out, because it is not clear which target row they are, in words."""


@dataclass(frozen=True)
class RowsNotWritten:
    """Rows of a change that are not written to the target, for one reason; `keys` are those of the first."""

    outcome: Outcome
    reason: str
    rows: int
    keys: tuple[str, ...] = ()


@dataclass
class MergeResult:
    """How many rows a merge writes, by kind; conflicts as messages; and the rows that it does not write."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    conflicts: list[str] = field(default_factory=list)
    not_written: list[RowsNotWritten] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of rows that are written or deleted."""
        return self.inserted + self.updated + self.deleted

    @property
    def kept(self) -> int:
        """The number of rows for which the target's values are kept on purpose."""
        return self.rows_of("kept")

    def rows_of(self, outcome: Outcome) -> int:
        """The number of rows that are not written with this outcome."""
        return sum(group.rows for group in self.not_written if group.outcome == outcome)

    def leave(self, outcome: Outcome, reason: str, rows: pa.Table, key: tuple[str, ...], mask: Mask) -> None:
        """Note that the rows under the mask are not written; their keys only if the log shows them."""
        count = int(mask.sum())
        if count:
            sample = np.flatnonzero(mask)[:SAMPLE] if key and enabled(_log, "row_keys") else ()
            keys = tuple(format_key(rows, key, int(position)) for position in sample)
            self.not_written.append(RowsNotWritten(outcome, reason, count, keys))

    def block(self, written: Iterable[pa.Table], key: tuple[str, ...]) -> None:
        """Note that none of the rows in `written`, and no deletion, lands because of the conflicts."""
        reason = "other rows of the table are in conflict"
        for rows in written:
            self.leave("blocked", reason, rows, key, np.ones(rows.num_rows, dtype=bool))
        if self.deleted:
            self.not_written.append(RowsNotWritten("blocked", f"{reason}: deletions", self.deleted))
        self.inserted = self.updated = self.deleted = 0


def three_way_merge(
    change: RowChange, target: Table, when_exists: WhenExists
) -> tuple[Staged | None, MergeResult]:
    """Stage the change as one commit; nothing is staged if there are conflicts and these are an error.

    Raises:
        PlanError: keys are null or repeated on either side, so a row cannot be identified.
    """
    keys = pa.concat_tables([side.select(list(change.key)) for side in (change.before, change.after)])
    target_rows = existing(target, keys, change.key)
    for side in (change.before, change.after):
        checked_keys(side, change.key, f"the new rows of {target.name}")
    checked_keys(target_rows, change.key, f"table {target.name}")
    nothing = empty_table(target.columns)
    return merge_rows(target, change, target_rows, when_exists, nothing, nothing)


def merge_rows(
    target: Table,
    change: RowChange,
    target_rows: pa.Table,
    when_exists: WhenExists,
    insert: pa.Table,
    delete: pa.Table,
) -> tuple[Staged | None, MergeResult]:
    """Stage the change of `target_rows`, which the caller has read.

    The rows of `insert` are inserted as well, and those of `delete`, which have addresses, deleted.
    """
    merge = MergeResult(inserted=insert.num_rows)
    sides = _ThreeWay(change, target_rows, when_exists, merge)
    new = pa.concat_tables([sides.insertions(target.columns), insert])
    changed = sides.updates()
    deleted = sides.deletions()
    if merge.conflicts:
        merge.block((new, changed), change.key)
        return None, merge
    if delete.num_rows:
        deleted = np.concatenate([deleted, delete.column(ROW_ADDRESS).to_numpy()])
    rows = pa.concat_tables([changed.select(target.columns.names), new]) if changed.num_rows else new
    staged = replaced_rows(target, rows, changed.select([ROW_ID, ROW_ADDRESS]), deleted)
    return staged, merge


@dataclass(frozen=True)
class _ThreeWay:
    change: RowChange
    target_rows: pa.Table
    when_exists: WhenExists
    merge: MergeResult

    def insertions(self, columns: pa.Schema) -> pa.Table:
        """The rows that the target lacks; columns that only the target has are null in them."""
        change = self.change
        absent = matches(change.after, self.target_rows, change.key) < 0
        known = matches(change.after, change.before, change.key) >= 0
        # It was in the source before, so it was in the target, where another writer deleted it.
        overwritten = self._conflicts(
            change.after, absent & known, "was changed in the source root, but deleted in the target root"
        )
        rows = change.after.filter(pa.array(absent & ~(known & ~overwritten)))
        self.merge.inserted += rows.num_rows
        return with_columns(rows, columns).cast(columns)

    def updates(self) -> pa.Table:
        """The rows of the target that change, with their new values and their addresses."""
        change, target_rows = self.change, self.target_rows
        at = matches(change.after, target_rows, change.key)
        matched = np.flatnonzero(at >= 0)
        after = change.after.take(pa.array(matched))
        current = target_rows.take(pa.array(at[matched]))
        source = matches(after, change.before, change.key)
        columns = {name: current.column(name) for name in current.column_names}
        differs, refused = np.zeros(len(matched), dtype=bool), np.zeros(len(matched), dtype=bool)
        before = _padded(change.before, source)
        for name in self._shared(after):
            new, has, old = (whole(rows.column(name)) for rows in (after, current, before))
            # A row that is new in the source differs from the target's row with its key in every other cell.
            ours = _mask(distinct(old, new)) | (source < 0)
            wanted = ours & _mask(distinct(has, new))
            theirs = wanted & (_mask(distinct(old, has)) | (source < 0))
            written = wanted if self.when_exists == "overwrite" else wanted & ~theirs
            refused |= theirs & ~written
            columns[name] = chosen(pa.array(written), new, has)
            differs |= written
        self._conflicts(after, refused, "was changed in both roots")
        self.merge.leave(
            "unchanged", "the target has the same values", after, change.key, ~differs & ~refused
        )
        self.merge.updated += int(differs.sum())
        fields = [target_rows.schema.field(name) for name in target_rows.column_names]
        return pa.table([columns[f.name] for f in fields], schema=pa.schema(fields)).filter(pa.array(differs))

    def deletions(self) -> Positions:
        """The addresses of the target's rows that the source has deleted."""
        change, target_rows = self.change, self.target_rows
        gone = change.before.filter(pa.array(matches(change.before, change.after, change.key) < 0))
        at = matches(gone, target_rows, change.key)
        self.merge.leave("unchanged", "the target has no such row to delete", gone, change.key, at < 0)
        gone, current = gone.filter(pa.array(at >= 0)), target_rows.take(pa.array(at[at >= 0]))
        same = _mask(identical(gone, current, self._shared(gone)))
        deleted = same | self._conflicts(
            gone, ~same, "was deleted in the source root, but changed in the target root"
        )
        self.merge.deleted += int(deleted.sum())
        addresses: Positions = current.column(ROW_ADDRESS).to_numpy()[deleted]
        return addresses

    def _conflicts(self, rows: pa.Table, mask: Mask, reason: str) -> Mask:
        """The masked rows that are written nevertheless; the others are counted as kept or in conflict."""
        if self.when_exists == "overwrite":
            return mask
        key = self.change.key
        if self.when_exists == "keep":
            self.merge.leave("kept", reason, rows, key, mask)
        else:
            self.merge.leave("conflict", reason, rows, key, mask)
            positions = np.flatnonzero(mask)
            messages = [f"{format_key(rows, key, int(at))} {reason}" for at in positions[:_SHOWN]]
            more = len(positions) - _SHOWN
            self.merge.conflicts += [*messages, *([f"{more:,} other rows: {reason}"] if more > 0 else [])]
        return np.zeros(len(mask), dtype=bool)

    def _columns(self) -> list[str]:
        return [name for name in self.target_rows.column_names if name not in (ROW_ID, ROW_ADDRESS)]

    def _shared(self, rows: pa.Table) -> list[str]:
        return [n for n in self._columns() if n in rows.column_names and n not in self.change.key]


def _padded(rows: pa.Table, positions: Positions) -> pa.Table:
    """The rows at these positions; all null for -1."""
    return rows.take(pa.array(positions, mask=positions < 0))


def _mask(array: pa.BooleanArray) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask
