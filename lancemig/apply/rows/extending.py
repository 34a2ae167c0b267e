"""One value out of two, by rule: what `UpsertRows(when_exists="extend")` makes of a row that is there."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.values import chosen
from lancemig.catalog.keys import comparable, numbered
from lancemig.catalog.operations.rules import Rule


def extended(rule: Rule, old: pa.Array, given: pa.Array) -> pa.Array:
    """The table's values `old`, extended by those of the source; two arrays of one type and length.

    `max` and `min` give the greater or the smaller value, and null and NaN never win; `coalesce` gives the
    source's value where the table has null; `union` appends the items of the source's list that the
    table's list has not, each once.
    """
    if rule == "union":
        return _union(old, given)
    if rule == "coalesce":
        return chosen(old.is_null(), given, old)
    return chosen(_wins(rule, comparable(old), comparable(given)), given, old)


def _wins(rule: Rule, old: pa.Array, given: pa.Array) -> pa.BooleanArray:
    """Where the source's value takes the place of the table's."""
    further = (pc.greater if rule == "max" else pc.less)(given, old)
    wins = pc.or_(pc.fill_null(further, False), pc.and_(old.is_null(), given.is_valid()))
    if pa.types.is_floating(old.type):
        wins = pc.or_(wins, pc.and_(_is_nan(old), pc.and_(given.is_valid(), pc.invert(_is_nan(given)))))
    return wins


def _is_nan(array: pa.Array) -> pa.BooleanArray:
    return pc.fill_null(pc.is_nan(array), False)


def _union(old: pa.Array, given: pa.Array) -> pa.Array:
    count = len(old)
    owners = np.concatenate([pc.list_parent_indices(side).to_numpy() for side in (old, given)])
    items = pa.concat_arrays([pc.list_flatten(old), pc.list_flatten(given)])
    ours = len(items) - len(pc.list_flatten(given))
    numbers = numbered([pa.chunked_array([items])])
    cells = owners.astype(np.int64) * (int(numbers.max(initial=0)) + 1) + numbers
    keep = np.zeros(len(items), dtype=bool)
    keep[np.unique(cells, return_index=True)[1]] = True
    # The table's own items stay, also those it has twice.
    keep[:ours] = True
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(owners[kept], kind="stable")]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners[kept], minlength=count))])
    of = old.type
    of_offsets = pa.int64() if pa.types.is_large_list(of) else pa.int32()
    lists = pa.LargeListArray if pa.types.is_large_list(of) else pa.ListArray
    null = pc.and_(old.is_null(), given.is_null())
    return lists.from_arrays(
        pa.array(offsets, of_offsets), items.take(pa.array(kept)), type=of, mask=null if count else None
    )
