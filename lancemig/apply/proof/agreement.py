"""Whether values that were computed again agree: exactly, but for what the migration tolerates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.values import distinct
from lancemig.catalog.tolerances import Tolerance

Agreeing = np.ndarray[Any, np.dtype[np.bool_]]


def agreeing(
    wanted: pa.Array, found: pa.Array, tolerances: Sequence[Tolerance]
) -> tuple[Agreeing, str | None]:
    """Where two arrays agree, and the tolerance that was needed, if one was."""
    # A cast to the same type fails for a null struct with a field that may not be null.
    there = found if found.type == wanted.type else found.cast(wanted.type)
    agree = ~distinct(wanted, there).to_numpy(zero_copy_only=False)
    for tolerance in tolerances:
        if agree.all() or (tolerance.relative is None and tolerance.absolute is None):
            continue
        near = _near(wanted, found, tolerance)
        if near is not None and (near & ~agree).any():
            return agree | near, tolerance.describe()
    return agree, None


def _near(wanted: pa.Array, found: pa.Array, tolerance: Tolerance) -> Agreeing | None:
    """Where numbers differ by no more than is tolerated; of vectors, all of their items."""
    of = wanted.type
    if pa.types.is_fixed_size_list(of) and _number(of.value_type):
        both = pc.and_(wanted.is_valid(), found.is_valid()).to_numpy(zero_copy_only=False)
        size = of.list_size
        items = [_items(side, size) for side in (wanted, found)]
        near: Agreeing = _close(items[0], items[1], tolerance).all(axis=1) & both
        return near
    if not _number(of):
        return None
    left, right = (
        array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for array in (wanted, found)
    )
    both = pc.and_(wanted.is_valid(), found.is_valid()).to_numpy(zero_copy_only=False)
    close: Agreeing = _close(left, right, tolerance) & both
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
