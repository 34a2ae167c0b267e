"""Arrow types as hypothesis makes them."""

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

LEAVES = st.sampled_from(
    [
        pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
        pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(),
        pa.string_view(),
        pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(16), pa.date32(), pa.date64(),
        pa.time32("s"),
        pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.duration("s"), pa.duration("ns"),
        pa.decimal32(5, 2), pa.decimal64(12, -3), pa.decimal128(38, 10), pa.decimal256(60, 0), pa.uuid(),
        pa.json_(), pa.bool8(), pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0]),
        pa.fixed_shape_tensor(pa.timestamp("us", "UTC"), [2, 2], ["x", "y z"], [1, 0]),
    ]
)  # fmt: skip
UNITS = st.sampled_from(["s", "ms", "us", "ns"])
ZONES = st.sampled_from([None, "UTC", "+02:00", "Europe/Berlin"])
TIMESTAMPS = st.builds(pa.timestamp, UNITS, ZONES)
DICTIONARIES = st.builds(
    pa.dictionary,
    st.sampled_from([pa.int8(), pa.int32(), pa.uint16()]),
    st.sampled_from([pa.string(), pa.int64(), pa.timestamp("us", "UTC")]),
    st.booleans(),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters=".\x00"), min_size=1, max_size=8)


def fields(of: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.Field]:
    """Fields of such types."""
    return st.builds(pa.field, NAMES, of, st.booleans())


def nested(of: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    """Types made of such types."""
    items = st.one_of(of, st.builds(pa.field, st.just("item"), of, st.booleans()), fields(of))
    return st.one_of(
        st.builds(pa.list_, items),
        st.builds(pa.large_list, items),
        st.builds(pa.list_, items, st.integers(1, 2048)),
        st.builds(pa.struct, st.lists(fields(of), max_size=4, unique_by=lambda field: field.name)),
        st.builds(pa.map_, of, of | st.builds(pa.field, st.just("value"), of, st.booleans())),
    )


TYPES = st.recursive(st.one_of(LEAVES, TIMESTAMPS, DICTIONARIES), nested, max_leaves=6)
FIELDS = fields(TYPES)
SCHEMAS = st.builds(pa.schema, st.lists(FIELDS, min_size=1, max_size=5, unique_by=lambda field: field.name))


def something(of: pa.DataType) -> Any:
    """A value of any type that is not null; as it is when cast to another type and back, for most."""
    if isinstance(of, pa.BaseExtensionType):
        return something(of.storage_type)
    if pa.types.is_struct(of):
        return {of.field(at).name: something(of.field(at).type) for at in range(of.num_fields)}
    if pa.types.is_fixed_size_list(of):
        return [something(of.value_type)] * of.list_size
    if pa.types.is_dictionary(of):
        return something(of.value_type)
    return [] if pa.types.is_nested(of) else _plain(of)


def _plain(of: pa.DataType) -> Any:
    if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of):
        return "1"
    if pa.types.is_fixed_size_binary(of):
        return b"1" * of.byte_width
    if pa.types.is_binary(of) or pa.types.is_large_binary(of) or pa.types.is_binary_view(of):
        return b"1"
    if getattr(of, "unit", "") == "ns" or getattr(of, "scale", 0) < 0:
        # Python's times know no smaller unit than microseconds.
        return 1000
    return None if pa.types.is_null(of) else (pa.types.is_boolean(of) or 1)
