"""Live rows with a repeated key, of which `DeduplicateRows` keeps one.

Some of these rows alone do not tell which one stays, so that they cannot be recomputed.
"""

import numpy as np
import pyarrow as pa

from lancemig.apply.effects.replay import TablePath, column_lineage
from lancemig.apply.rows.upserts import existing
from lancemig.apply.verify.pairs import TablePair
from lancemig.catalog.keys import matches, row_numbers
from lancemig.catalog.operations import DeduplicateRows


def repeat_keys(pair: TablePair) -> list[tuple[str, ...]] | None:
    """The live columns by which the migration deletes repeated rows; None if it computes one of them."""
    lineage, found = column_lineage(TablePath(None, None, ()), pair.start), []
    for step in pair.path.steps:
        if isinstance(step.operation, DeduplicateRows):
            live_names = lineage.value_preserving
            if not set(step.operation.key) <= set(live_names):
                return None
            found.append(tuple(live_names[name] for name in step.operation.key))
        lineage.apply(step.column_effects)
    return found


def without_repeats(pair: TablePair, rows: pa.Table) -> pa.Table:
    """Live rows without those that the migration may delete because another live row has the same key."""
    for key in repeat_keys(pair) or ():
        if not rows.num_rows:
            break
        keys = existing(pair.live, rows, key, key).select(list(key))
        numbers = row_numbers([keys.column(name) for name in key])
        repeated = keys.filter(pa.array(np.bincount(numbers)[numbers] > 1))
        rows = rows.filter(pa.array(matches(rows, repeated, key) < 0))
    return rows


def removes_only_repeats(pair: TablePair) -> bool:
    """Whether the migration removes rows, and only such that repeat the key of the staged table."""
    key = set(pair.key)
    for step in reversed(pair.path.steps):
        operation = step.operation
        repeats = isinstance(operation, DeduplicateRows) and set(operation.key) == key
        if operation.row_effect.removes and not repeats:
            return False
        old_names = {new: old for old, new in step.column_effects.renamed.items()}
        key = {old_names.get(name, name) for name in key}
    return pair.path.compares_rows
