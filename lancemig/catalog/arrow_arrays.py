"""Arrow arrays and tables of any type of a user's column.

pyarrow cannot make an array of every extension type from Python values, not even an empty one: a
`fixed_shape_tensor` with a permutation raises NotImplementedError, and so do `Schema.empty_table` and
`from_pylist`. These functions make the array of the storage type and wrap it. No other module makes arrays of
a user's type.
"""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table with these columns and without rows."""
    return pa.Table.from_batches([empty_batch(schema)], schema)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """A record batch with these columns and without rows."""
    return pa.record_batch([nulls(0, field.type) for field in schema], schema=schema)


def nulls(count: int, of: pa.DataType) -> pa.Array:
    """An array of `count` nulls."""
    if isinstance(of, pa.BaseExtensionType):
        return _wrapped(of, nulls(count, of.storage_type))
    return pa.nulls(count, of)


def array_of(values: Iterable[Any], of: pa.DataType) -> pa.Array:
    """An array of Python values.

    Args:
        values: The values. A tensor is the flat list of its numbers.
        of: The type; where pyarrow makes no array of an extension type, values of its storage type are taken.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: A value does not fit the type.
    """
    values = list(values)
    if not isinstance(of, pa.BaseExtensionType):
        return pa.array(values, of)
    try:
        return pa.array(values, of)
    except (NotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return _wrapped(of, array_of(values, of.storage_type))


def _wrapped(of: pa.BaseExtensionType, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(of, storage)
