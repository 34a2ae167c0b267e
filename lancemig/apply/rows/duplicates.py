"""Keys that an upsert and another writer inserted at the same time: ours are taken back.

Lance lets both commits land, and the table has the key twice (tests/apply/test_duplicates.py). So after an
upsert has landed it is looked at what landed between the version it was staged from and itself. What it
inserted although somebody else had inserted it first is withdrawn, and the upsert of these rows is staged
again: then theirs are rows that exist, and its policy decides.

What lands after the upsert is not looked at. It is a later write of a key that is there, as at any time.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.changes import identical
from lancemig.apply.rows.upserts import existing
from lancemig.catalog.keys import matches
from lancemig.catalog.operations import UpsertRows
from lancemig.store.tables import ROW_ADDRESS, ROW_ID, Staged, Table
from lancemig.store.tables.staging import deleted_at


def repeated_insertions(read: Table | None, before: Table, landed: Table, on: Sequence[str]) -> pa.Table:
    """The rows that a commit inserted although another one had inserted their key since it was staged.

    `landed` is the version it made, `before` the one just before that, and `read` the one it was staged from,
    or any older one; of what is new since `read`, keys are read. Where that version is gone (None), all keys
    are. A row it overwrote is not among them, whoever repeats its key. The rows say where they lie.
    """
    mine = [f for f in landed.fragments if f.fragment_id not in before.fragment_ids]
    since = read.fragment_ids if read else frozenset()
    theirs = [f for f in landed.fragments if f.fragment_id in before.fragment_ids - since]
    rows = landed.read(fragments=mine, row_ids=True, addresses=True) if mine and theirs else _none(landed)
    rows = _among(rows, existing(landed, rows, on, on, theirs), on) if rows.num_rows else rows
    if not rows.num_rows:
        return rows
    # Of a key that was overwritten, a row that was there before is gone.
    stayed = [f for f in landed.fragments if f.fragment_id in before.fragment_ids]
    there, left = existing(before, rows, on, on), existing(landed, rows, on, on, stayed)
    counts = [np.bincount(matches(side, rows, on), minlength=rows.num_rows) for side in (there, left)]
    return rows.filter(pa.array(counts[0] == counts[1]))


def withdrawn(repeated: pa.Table, on: Sequence[str], table: Table) -> Staged | None:
    """Stage the removal of `repeated` rows from the table as it is now; None where there is nothing to do."""
    return deleted_at(table, doomed(repeated, on, table))


def doomed(repeated: pa.Table, on: Sequence[str], table: Table) -> list[int]:
    """Where those of the `repeated` rows lie that are to go from the table as it is now.

    Of each key one row goes, and only while the key has another one. It is the one that was inserted, or,
    once that was moved, one with the same values. A row that somebody changed since stays.
    """
    there = existing(table, repeated, on)
    at = matches(there, repeated, on)
    wrote = repeated.take(pa.array(at))
    again = np.bincount(at, minlength=repeated.num_rows)[at] > 1
    names = [name for name in table.columns.names if name in repeated.column_names]
    same = identical(wrote, there, names).to_numpy(zero_copy_only=False)
    by = ROW_ID if table.stable_row_ids else ROW_ADDRESS
    own = pc.equal(wrote.column(by), there.column(by)).to_numpy()
    going = np.flatnonzero(again & same)
    # Our own row first: its key's first place is the one that goes.
    going = going[np.argsort(~own[going], kind="stable")]
    going = going[np.unique(at[going], return_index=True)[1]]
    addresses: list[int] = there.column(ROW_ADDRESS).take(pa.array(going)).to_pylist()
    return addresses


def once_more(operation: UpsertRows, repeated: pa.Table) -> UpsertRows:
    """The upsert, of the withdrawn rows alone: of the others somebody may have made something since.

    Its brakes have been looked at.
    """
    rows = repeated.drop_columns([ROW_ID, ROW_ADDRESS])
    return operation.model_copy(update={"rows": rows, "max_rows": None, "max_indeterminate": None})


def _among(rows: pa.Table, others: pa.Table, on: Sequence[str]) -> pa.Table:
    return rows.filter(pa.array(matches(rows, others, on) >= 0))


def _none(table: Table) -> pa.Table:
    return table.read(fragments=[], row_ids=True, addresses=True)
