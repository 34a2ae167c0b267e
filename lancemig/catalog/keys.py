"""Keys of rows, in Arrow: which are null or repeated, and which are the same on two sides."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.errors import PlanError

Positions = np.ndarray[Any, np.dtype[np.int64]]
"""For each row of one side, a place on the other; -1 where there is none."""


def comparable(array: pa.Array) -> pa.Array:
    """The same values in a type that Arrow orders and counts; structs keep theirs."""
    of = array.type
    if isinstance(of, pa.BaseExtensionType):
        return comparable(array.storage)
    if pa.types.is_dictionary(of):
        return comparable(array.cast(of.value_type))
    if pa.types.is_floating(of):
        # -0.0 + 0.0 is 0.0: the two are equal, and would get two numbers.
        return pc.add(array.cast(pa.float32()) if pa.types.is_float16(of) else array, 0.0)
    return array


def row_numbers(columns: Sequence[pa.ChunkedArray]) -> Positions:
    """A number for each row, the same for rows whose values in all `columns` are equal.

    Null equals null and NaN equals NaN. Values may be of any type but lists and maps.
    """
    numbers, *others = (_value_numbers(column.combine_chunks()) for column in columns)
    for other in others:
        numbers = _dense_numbers(pa.array(numbers * (int(other.max(initial=0)) + 1) + other))
    return numbers


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


def matches(rows: pa.Table, there: pa.Table, on: Sequence[str]) -> Positions:
    """For each of `rows`, the place of a row with its key in `there`; -1 where there is none."""
    both = [pa.chunked_array([*rows.column(n).chunks, *there.column(n).chunks]) for n in on]
    if not rows.num_rows or not there.num_rows:
        return np.full(rows.num_rows, -1, dtype=np.int64)
    numbers = row_numbers(both)
    ours, theirs = numbers[: rows.num_rows], numbers[rows.num_rows :]
    places = np.full(numbers.max() + 1, -1, dtype=np.int64)
    places[theirs] = np.arange(len(theirs))
    found: Positions = places[ours]
    return found


def checked_keys(rows: pa.Table, on: tuple[str, ...], whose: str) -> None:
    """Refuse null and repeated keys with PlanError, naming one."""
    for name in on:
        if rows.column(name).null_count:
            raise PlanError(f"{whose}: {rows.column(name).null_count:,} null keys in {name!r}")
    if not rows.num_rows:
        return
    numbers = row_numbers([rows.column(name) for name in on])
    counts = np.bincount(numbers)
    repeated = np.flatnonzero(counts > 1)
    if len(repeated):
        first = int(np.flatnonzero(counts[numbers] > 1)[0])
        keys = "1 key occurs" if len(repeated) == 1 else f"{len(repeated):,} keys occur"
        raise PlanError(f"{whose}: {keys} more than once, for example {format_key(rows, on, first)}")


def format_key(rows: pa.Table, on: Sequence[str], at: int) -> str:
    """The key of one row, as `robot=1, at='…'`."""
    return ", ".join(f"{name}={format_value(rows.column(name)[at])}" for name in on)


def format_value(value: pa.Scalar) -> str:
    """A value as text; a long one is cut."""
    if value.is_valid and getattr(value.type, "unit", "") == "ns":
        # Python's own times hold no nanoseconds.
        text = str(value.cast(pa.string() if pa.types.is_timestamp(value.type) else pa.int64()))
    else:
        text = repr(value.as_py())
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 1]}…"


_MAX_LENGTH = 60


_NANOSECONDS = 10**9


def json_cell(cell: pa.Scalar) -> Any:
    """The cell as a value of JSON; nothing of it is lost but its type.

    Dates and times are ISO 8601 text, instants in UTC; bytes are hex; a decimal is text, but an integer where
    its type has no digits after the point; NaN and the infinities are text. A map is a list of pairs.
    """
    if not cell.is_valid:
        return None
    of = cell.type
    if pa.types.is_dictionary(of) or pa.types.is_union(of):
        return json_cell(cell.value)
    if pa.types.is_map(of):
        return [[json_cell(pair[0]), json_cell(pair[1])] for pair in cell.values]
    if pa.types.is_struct(of):
        return {of.field(place).name: json_cell(cell[place]) for place in range(of.num_fields)}
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
        # Not by way of Python's own types: theirs have no nanoseconds and no infinity.
        return _iso_8601(cell.cast(pa.string()).as_py())
    if pa.types.is_binary(of) or pa.types.is_large_binary(of):
        return cell.as_py().hex()
    found = cell.as_py()
    return found if isinstance(found, bool | int | str) else str(found)


def _json_float(found: float) -> float | str:
    if math.isnan(found):
        return "NaN"
    return found if math.isfinite(found) else f"{'-' if found < 0 else ''}Infinity"


def _iso_8601(text: str) -> str:
    zone = "Z" if text.endswith("Z") else ""
    whole, _, fraction = text.removesuffix("Z").replace(" ", "T", 1).partition(".")
    return whole + (f".{fraction}" if fraction.strip("0") else "") + zone


def _iso_interval(months: int, days: int, nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"P{months}M{days}DT{seconds}{fraction}S"
