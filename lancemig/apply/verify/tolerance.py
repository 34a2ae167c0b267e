"""Differences that a tolerance accepts, and the text that proposes one for a function that needs it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.values import distinct
from lancemig.apply.verify.pairs import TablePair
from lancemig.catalog.checks import Tolerance

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def within_tolerance(
    wanted: pa.Array, found: pa.Array, tolerances: Sequence[Tolerance]
) -> tuple[Mask, str | None]:
    """Compare two arrays.

    Returns:
        A mask of the values that agree, and the tolerance that was needed for it, if one was.
    """
    # A cast to the same type fails for a null struct with a field that may not be null.
    there = found if found.type == wanted.type else found.cast(wanted.type)
    agree = ~distinct(wanted, there).to_numpy(zero_copy_only=False)
    for tolerance in tolerances:
        if agree.all() or (tolerance.relative is None and tolerance.absolute is None):
            continue
        near = _within(wanted, found, tolerance)
        if near is not None and (near & ~agree).any():
            return agree | near, tolerance.describe()
    return agree, None


def _within(wanted: pa.Array, found: pa.Array, tolerance: Tolerance) -> Mask | None:
    """A mask of the numbers, or number vectors, that agree within the tolerance; None for other types."""
    of = wanted.type
    if pa.types.is_fixed_size_list(of) and _number(of.value_type):
        both = pc.and_(wanted.is_valid(), found.is_valid()).to_numpy(zero_copy_only=False)
        size = of.list_size
        items = [_items(side, size) for side in (wanted, found)]
        near: Mask = _close(items[0], items[1], tolerance).all(axis=1) & both
        return near
    if not _number(of):
        return None
    left, right = (
        array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for array in (wanted, found)
    )
    both = pc.and_(wanted.is_valid(), found.is_valid()).to_numpy(zero_copy_only=False)
    close: Mask = _close(left, right, tolerance) & both
    return close


def _items(array: pa.Array, size: int) -> Any:
    values = array.values.slice(array.offset * size, len(array) * size)
    return values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, size)


def _number(of: pa.DataType) -> bool:
    return bool(pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of))


def _close(left: Any, right: Any, tolerance: Tolerance) -> Any:
    return np.isclose(
        right, left, rtol=tolerance.relative or 0.0, atol=tolerance.absolute or 0.0, equal_nan=True
    )


def given_by_function(pair: TablePair, name: str) -> bool:
    """Whether a Python function of the migration gives the values of a staged column."""
    return name in pair.lineage.by_function or pair.path.transforms_rows


def nondeterminism_text(table: str, column: str) -> str:
    """That a function is not deterministic, and what to declare for its column."""
    return (
        "the function is not deterministic: a third run differs as well. Declare in the migration how far "
        f'values may differ: tolerances = [Tolerance(table="{table}", column="{column}", absolute=1e-3)], or '
        "recompute=False to accept any values"
    )
