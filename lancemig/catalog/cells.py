"""The cells of a query's result, as JSON has them."""

import math
from typing import Any

import pyarrow as pa

_NANOSECONDS = 10**9


def plain(cell: pa.Scalar) -> Any:
    """The cell as a value of JSON; nothing of it is lost but its type.

    Dates and times are ISO 8601 text, instants in UTC; bytes are hex; a decimal is text, but an integer where
    its type has no digits after the point; NaN and the infinities are text. A map is a list of pairs.
    """
    if not cell.is_valid:
        return None
    of = cell.type
    if pa.types.is_dictionary(of) or pa.types.is_union(of):
        return plain(cell.value)
    if pa.types.is_map(of):
        return [[plain(pair[0]), plain(pair[1])] for pair in cell.values]
    if pa.types.is_struct(of):
        return {of.field(place).name: plain(cell[place]) for place in range(of.num_fields)}
    if pa.types.is_nested(of):
        return [plain(item) for item in cell.values]
    return _leaf(cell)


def _leaf(cell: pa.Scalar) -> Any:
    of = cell.type
    if pa.types.is_floating(of):
        return _float(cell.as_py())
    if pa.types.is_decimal(of):
        return f"{cell.as_py():f}" if of.scale else int(cell.as_py())
    if pa.types.is_interval(of):
        return _interval(*cell.as_py())
    if pa.types.is_temporal(of):
        # Not by way of Python's own types: theirs have no nanoseconds and no infinity.
        return _iso(cell.cast(pa.string()).as_py())
    if pa.types.is_binary(of) or pa.types.is_large_binary(of):
        return cell.as_py().hex()
    found = cell.as_py()
    return found if isinstance(found, bool | int | str) else str(found)


def _float(found: float) -> float | str:
    if math.isnan(found):
        return "NaN"
    return found if math.isfinite(found) else f"{'-' if found < 0 else ''}Infinity"


def _iso(text: str) -> str:
    zone = "Z" if text.endswith("Z") else ""
    whole, _, fraction = text.removesuffix("Z").replace(" ", "T", 1).partition(".")
    return whole + (f".{fraction}" if fraction.strip("0") else "") + zone


def _interval(months: int, days: int, nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"P{months}M{days}DT{seconds}{fraction}S"
