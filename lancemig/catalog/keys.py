"""Keys and values of rows in Arrow: matching rows by key, and values as text or JSON.

`matches` finds the row with the same key in another table, `checked_keys` refuses null and repeated keys,
`row_numbers` numbers equal rows. `format_key` and `format_value` give text for messages, `json_cell` JSON.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.errors import PlanError

Positions = np.ndarray[Any, np.dtype[np.int64]]
"""A position for each row, for example that of its match in another table; -1 for none."""

_MAX_LENGTH = 60
_NANOSECONDS = 10**9


def matches(rows: pa.Table, other: pa.Table, on: Sequence[str]) -> Positions:
    """For each of `rows`, the position of a row of `other` with the same key; -1 where there is none."""
    both = [pa.chunked_array([*rows.column(name).chunks, *other.column(name).chunks]) for name in on]
    if not rows.num_rows or not other.num_rows:
        return np.full(rows.num_rows, -1, dtype=np.int64)
    numbers = row_numbers(both)
    row_keys, other_keys = numbers[: rows.num_rows], numbers[rows.num_rows :]
    position_of = np.full(numbers.max() + 1, -1, dtype=np.int64)
    position_of[other_keys] = np.arange(len(other_keys))
    positions: Positions = position_of[row_keys]
    return positions


def checked_keys(rows: pa.Table, on: tuple[str, ...], whose: str) -> None:
    """Refuse null and repeated keys with PlanError.

    Args:
        rows: The rows.
        on: The key columns.
        whose: The rows as named in the message.
    """
    for name in on:
        if rows.column(name).null_count:
            raise PlanError(f"{whose}: {rows.column(name).null_count:,} null keys in {name!r}")
    if not rows.num_rows or not on:
        return
    numbers = row_numbers([rows.column(name) for name in on])
    counts = np.bincount(numbers)
    repeated = np.flatnonzero(counts > 1)
    if len(repeated):
        first = int(np.flatnonzero(counts[numbers] > 1)[0])
        keys = "1 key occurs" if len(repeated) == 1 else f"{len(repeated):,} keys occur"
        raise PlanError(f"{whose}: {keys} more than once, for example {format_key(rows, on, first)}")


def row_numbers(columns: Sequence[pa.ChunkedArray]) -> Positions:
    """A number for each row, equal for rows with equal values in all `columns`.

    Null equals null, and NaN equals NaN. All types but lists and maps are supported.
    """
    numbers, *others = (_value_numbers(column.combine_chunks()) for column in columns)
    for other in others:
        numbers = _dense_numbers(pa.array(numbers * (int(other.max(initial=0)) + 1) + other))
    return numbers


def comparable(array: pa.Array) -> pa.Array:
    """The values in a type that Arrow can sort and encode; structs keep their type."""
    of = array.type
    if isinstance(of, pa.BaseExtensionType):
        return comparable(array.storage)
    if pa.types.is_dictionary(of):
        return comparable(array.cast(of.value_type))
    if pa.types.is_floating(of):
        # -0.0 + 0.0 is 0.0: the two are equal, but would get two numbers.
        return pc.add(array.cast(pa.float32()) if pa.types.is_float16(of) else array, 0.0)
    return array


def _value_numbers(array: pa.Array) -> Positions:
    array = comparable(array)
    if not pa.types.is_struct(array.type):
        return _dense_numbers(array)
    fields = [pa.chunked_array([field]) for field in (array.is_valid(), *array.flatten())]
    return row_numbers(fields)


def _dense_numbers(array: pa.Array) -> Positions:
    if pa.types.is_null(array.type):
        return np.zeros(len(array), dtype=np.int64)
    encoded = array.dictionary_encode()
    numbers: Positions = pc.fill_null(encoded.indices.cast(pa.int64()), len(encoded.dictionary)).to_numpy()
    return numbers


def format_key(rows: pa.Table, on: Sequence[str], at: int) -> str:
    """The key of the row at a position, as `robot=1, at='…'`."""
    return ", ".join(f"{name}={format_value(rows.column(name)[at])}" for name in on)


def format_value(value: pa.Scalar) -> str:
    """A value as text of at most 60 characters."""
    if value.is_valid and getattr(value.type, "unit", "") == "ns":
        # Python's types of time have no nanoseconds.
        text = str(value.cast(pa.string() if pa.types.is_timestamp(value.type) else pa.int64()))
    else:
        text = repr(value.as_py())
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"


def json_cell(cell: pa.Scalar) -> Any:
    """The cell as a JSON value, without loss of anything but its type.

    Dates and times are ISO 8601 text, instants in UTC; bytes are hexadecimal text. A decimal is text, or an
    integer where its type has no fraction digits. NaN and the infinities are text. A map is a list of pairs.
    """
    if not cell.is_valid:
        return None
    of = cell.type
    if pa.types.is_dictionary(of) or pa.types.is_union(of):
        return json_cell(cell.value)
    if pa.types.is_map(of):
        return [[json_cell(pair[0]), json_cell(pair[1])] for pair in cell.values]
    if pa.types.is_struct(of):
        return {of.field(index).name: json_cell(cell[index]) for index in range(of.num_fields)}
    if pa.types.is_nested(of):
        return [json_cell(item) for item in cell.values]
    return _json_scalar(cell)


def _json_scalar(cell: pa.Scalar) -> Any:
    of = cell.type
    if pa.types.is_floating(of):
        return _json_float(cell.as_py())
    if pa.types.is_decimal(of):
        return f"{cell.as_py():f}" if of.scale else int(cell.as_py())
    if pa.types.is_interval(of):
        return _iso_interval(*cell.as_py())
    if pa.types.is_temporal(of):
        # Python's types of time have no nanoseconds and no infinity.
        return _iso_8601(cell.cast(pa.string()).as_py())
    if pa.types.is_binary(of) or pa.types.is_large_binary(of):
        return cell.as_py().hex()
    value = cell.as_py()
    return value if isinstance(value, bool | int | str) else str(value)


def _json_float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else f"{'-' if value < 0 else ''}Infinity"


def _iso_8601(text: str) -> str:
    zone = "Z" if text.endswith("Z") else ""
    whole, _, fraction = text.removesuffix("Z").replace(" ", "T", 1).partition(".")
    return whole + (f".{fraction}" if fraction.strip("0") else "") + zone


def _iso_interval(months: int, days: int, nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"P{months}M{days}DT{seconds}{fraction}S"
