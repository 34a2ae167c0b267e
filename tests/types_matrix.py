"""One column of values for each Arrow type that Lance stores, as programs write them."""

from decimal import Decimal
from typing import Any

import lance
import numpy as np
import pyarrow as pa
from lance._arrow.bf16 import BFloat16Type

STRUCT = pa.struct({"a": pa.int32(), "b": pa.struct({"c": pa.string()})})
BLOB = pa.field("v", pa.large_binary(), metadata={"lance-encoding:blob": "true"})


def extension(of: pa.DataType, values: list[Any]) -> pa.Array:
    """An array of an extension type from values of its storage type."""
    return pa.ExtensionArray.from_storage(of, pa.array(values, of.storage_type))


def tensors(shape: tuple[int, ...], order: tuple[int, ...]) -> pa.Array:
    """Three tensors from numpy, whose memory is in this order."""
    numbers = np.arange(3 * int(np.prod(shape)), dtype=np.float32).reshape(3, *shape)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(numbers.transpose(0, *(1 + at for at in order)))


VALUES: dict[str, pa.Array] = {
    "bool": pa.array([True, None, False]),
    "int8": pa.array([1, None, -3], pa.int8()),
    "uint64": pa.array([1, None, 2**63], pa.uint64()),
    "float16": pa.array(np.array([1, 2, 3], np.float16)),
    "float64": pa.array([1.5, None, float("nan")]),
    "null": pa.nulls(3),
    "string": pa.array(["a", None, ""]),
    "large_string": pa.array(["a", None, ""], pa.large_string()),
    "string_view": pa.array(["a", None, ""], pa.string_view()),
    "binary": pa.array([b"a", None, b""]),
    "fixed binary": pa.array([b"abc", None, b"xyz"], pa.binary(3)),
    "decimal128": pa.array([Decimal("1.10"), None, Decimal("-3.25")], pa.decimal128(9, 2)),
    "decimal256": pa.array([Decimal(1), None, Decimal(-3)], pa.decimal256(60, 0)),
    "date32": pa.array([1, None, 3], pa.date32()),
    "time64": pa.array([1, None, 3], pa.time64("ns")),
    "timestamp": pa.array([1, None, 3], pa.timestamp("us", "Europe/Berlin")),
    "duration": pa.array([1, None, 3], pa.duration("ns")),
    "vector": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
    "half vector": pa.array(list(np.ones((3, 2), np.float16)), pa.list_(pa.float16(), 2)),
    "list": pa.array([["a"], None, []], pa.list_(pa.string())),
    "list of lists": pa.array([[[1], None], None, []], pa.list_(pa.list_(pa.int8()))),
    "large list": pa.array([[1], None, []], pa.large_list(pa.int64())),
    "struct": pa.array([{"a": 1, "b": {"c": "x"}}, None, {"a": None, "b": None}], STRUCT),
    "list of structs": pa.array([[{"a": 1, "b": None}], None, []], pa.list_(STRUCT)),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "map of structs": pa.array([[("k", {"a": 1})], None, []], pa.map_(pa.string(), STRUCT)),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "small dictionary": pa.array(["a", None, "b"], pa.dictionary(pa.int8(), pa.large_string())),
    "dictionary in a list": pa.array([["a"], None, []], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "uuid": extension(pa.uuid(), [b"1" * 16, None, b"3" * 16]),
    "json": extension(pa.json_(), ['{"a":1}', None, "[1]"]),
    "bool8": extension(pa.bool8(), [1, None, 0]),
    "opaque": extension(pa.opaque(pa.string(), "point", "vendor"), ["a", None, "b"]),
    "bfloat16": extension(BFloat16Type(), [b"12", b"34", b"56"]),
    "tensor": tensors((4,), (0,)),
    "matrix tensor": tensors((2, 3), (0, 1)),
    "permuted tensor": tensors((2, 3), (1, 0)),
    "named tensor": extension(pa.fixed_shape_tensor(pa.int8(), [2], ["x"]), [[1, 2], [3, 4], [5, 6]]),
    "blob": pa.array([b"a", None, b"b" * 100], pa.large_binary()),
}
NANOSECONDS = ("time64", "duration")
"""Python has no values for them."""

USUAL = ("permuted tensor", "bfloat16", "map", "json", "blob", "dictionary", "list of structs")


def table(name: str) -> pa.Table:
    """Rows with an id and a number, beside a column `v` of this type."""
    array = VALUES[name]
    field = BLOB if name == "blob" else pa.field("v", array.type)
    plain = pa.table({"id": [1, 2, 3], "n": [10, 20, 30], "s": ["a", "b", "c"]})
    return plain.append_column(field, array)


def stored(uri: str, name: str) -> list[Any]:
    """The values of `v` of every row that a program reads, by the id of the row."""
    rows = lance.dataset(uri)
    if name == "blob":
        found = rows.scanner(with_row_address=True).to_table().sort_by("id")
        places = found.column("_rowaddr").to_pylist()
        got = {at: rows.take_blobs("v", addresses=[at]) for at in places}
        return [got[at][0].readall() if got[at] and got[at][0] else None for at in places]
    found = rows.to_table().sort_by("id").column("v").combine_chunks()
    if name in NANOSECONDS:
        found = found.cast(pa.int64())
    return (found.storage if isinstance(found.type, pa.BaseExtensionType) else found).to_pylist()
