"""What Lance makes of each Arrow type when it writes it: catalog/arrow_types.py says so beforehand."""

from pathlib import Path
from tempfile import TemporaryDirectory

import lance
import pyarrow as pa
import pytest
from arrow_types import SCHEMAS, something
from hypothesis import given, settings

from lancemig.catalog.arrow_types import is_blob, lance_field, lance_schema, lance_type, unsupported_type

f = pa.field

UNITS = ("s", "ms", "us", "ns")
ZONES = (None, "UTC", "+02:00", "Asia/Tokyo")
INDICES = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
]  # fmt: skip
PLAIN = [
    *INDICES, pa.null(), pa.bool_(), pa.float16(), pa.float32(), pa.float64(),
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.binary(16), pa.date32(), pa.date64(),
    pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"),
    *(pa.duration(unit) for unit in UNITS),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in ZONES),
    pa.decimal128(38, 10), pa.decimal128(38, -3), pa.decimal256(60, 0),
    pa.uuid(), pa.bool8(), pa.json_(), pa.json_(pa.large_string()), pa.json_(pa.string_view()),
    pa.fixed_shape_tensor(pa.float32(), (2, 2)), pa.opaque(pa.string(), "t", "v"),
]  # fmt: skip
VALUES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.int64(),
    pa.float32(), pa.bool_(),
]  # fmt: skip
DICTIONARIES = [
    *(pa.dictionary(index, pa.string()) for index in INDICES),
    *(pa.dictionary(pa.int32(), value) for value in VALUES),
    pa.dictionary(pa.int32(), pa.string(), ordered=True),
]
NESTED = [
    pa.list_(pa.int32()),
    pa.list_(f("element", pa.int32())),
    pa.list_(f("item", pa.int32(), nullable=False)),
    pa.list_(f("x", pa.int32(), metadata={"a": "b"})),
    pa.list_(pa.string_view()),
    pa.list_(pa.dictionary(pa.int8(), pa.string(), ordered=True)),
    pa.large_list(pa.int32()),
    pa.large_list(f("q", pa.int32(), nullable=False)),
    pa.list_(pa.float32(), 4),
    pa.list_(f("q", pa.float32(), nullable=False), 4),
    pa.list_(f("item", pa.float32(), metadata={"a": "b"}), 4),
    pa.list_(pa.float16(), 4),
    pa.list_(pa.bool_(), 8),
    pa.list_(pa.decimal128(9, 2), 4),
    pa.list_(pa.binary(3), 4),
    pa.list_(pa.timestamp("us", "UTC"), 4),
    pa.list_(f("q", pa.list_(f("r", pa.float32(), False, {"a": "b"}), 2), False, {"a": "b"}), 4),
    pa.list_(f("q", pa.struct([f("a", pa.int8(), metadata={"a": "b"})]), metadata={"c": "d"})),
    pa.list_(pa.list_(pa.float32(), 2)),
    pa.list_(f("z", pa.list_(f("q", pa.float32(), nullable=False), 2))),
    pa.struct([f("a", pa.int8(), nullable=False), f("b", pa.string(), metadata={"u": "v"})]),
    pa.struct([f("a", pa.struct([f("b", pa.list_(f("z", pa.string_view(), nullable=False)))]))]),
    pa.map_(pa.string(), pa.int32()),
    pa.map_(pa.string(), f("value", pa.int32(), nullable=False)),
    pa.map_(f("k", pa.string(), nullable=False), f("v", pa.string_view())),
    pa.map_(f("k", pa.string(), False, {"a": "b"}), f("v", pa.string_view(), metadata={"c": "d"})),
    pa.map_(pa.string(), f("v", pa.struct([f("a", pa.int8(), metadata={"a": "b"})]), False, {"c": "d"})),
    pa.map_(pa.int32(), pa.list_(pa.float32(), 2)),
    pa.list_(pa.map_(pa.string(), pa.int8())),
]
REFUSED = [
    pa.decimal32(5, 2), pa.decimal64(12, -3), pa.month_day_nano_interval(), pa.list_view(pa.int32()),
    pa.large_list_view(pa.int32()), pa.run_end_encoded(pa.int32(), pa.string()), pa.list_(pa.float32(), 0),
    pa.map_(pa.string(), pa.int32(), keys_sorted=True),
    pa.dictionary(pa.int32(), pa.timestamp("us", "UTC")),
    pa.dictionary(pa.int32(), pa.date32()), pa.dictionary(pa.int32(), pa.binary(4)),
    pa.list_(pa.list_(pa.int8()), 2), pa.list_(pa.map_(pa.string(), pa.int8()), 2),
    pa.list_(pa.list_(pa.struct([f("a", pa.int8())]), 2), 2),
    pa.list_(pa.json_()), pa.struct([("u", pa.uuid())]), pa.list_(pa.list_view(pa.int8())),
    pa.dense_union([f("a", pa.int8())]),
]  # fmt: skip

UNREADABLE = [
    pa.struct([]), pa.list_(pa.struct([])), pa.list_(pa.string(), 4), pa.list_(pa.binary(), 4),
    pa.list_(pa.struct([f("a", pa.int8())]), 4), pa.list_(pa.dictionary(pa.int8(), pa.string()), 4),
]  # fmt: skip

LOST = "compute_stat should|differing lengths|no field encoding|Empty structs|assert "


def written(folder: Path | str, schema: pa.Schema, storage: str | None = None) -> pa.Schema:
    path = Path(folder) / "t.lance"
    lance.write_dataset(schema.empty_table(), path, data_storage_version=storage)
    return lance.dataset(path).schema


def described(field: pa.Field) -> tuple[object, ...]:
    """All that a field says, its children and their metadata included."""
    of = field.type
    children = () if isinstance(of, pa.BaseExtensionType) else (of.field(i) for i in range(of.num_fields))
    return (
        field.name,
        str(of),
        field.nullable,
        dict(field.metadata or {}),
        tuple(described(child) for child in children),
    )


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("of", [*PLAIN, *DICTIONARIES, *NESTED], ids=str)
def test_a_type_is_stored_as_foretold(tmp_path: Path, of: pa.DataType, nullable: bool) -> None:
    given = f("c", of, nullable or pa.types.is_null(of), metadata={"unit": "m"})
    assert unsupported_type(of) is None
    found = written(tmp_path, pa.schema([f("id", pa.int64()), given])).field("c")
    assert described(found) == described(lance_field(given))
    assert found.equals(lance_field(given), check_metadata=True)


@pytest.mark.parametrize("of", [*PLAIN, *DICTIONARIES, *NESTED], ids=str)
def test_what_is_stored_is_stored_as_it_is(of: pa.DataType) -> None:
    once = lance_field(f("c", of, metadata={"unit": "m"}))
    assert described(lance_field(once)) == described(once)


def filled(of: pa.DataType, *, values: bool) -> pa.Table:
    """Two rows, beside a column of another type; where there are `values`, lists have items."""
    some = something(of)
    if not isinstance(of, pa.BaseExtensionType) and some == []:
        some = (
            [(something(of.key_type), something(of.item_type))]
            if pa.types.is_map(of)
            else [something(of.value_type)] * 3
        )
    rows = [some, some] if values else [some, None]
    storage = of.storage_type if isinstance(of, pa.BaseExtensionType) else of
    column = pa.array(rows, storage)
    if isinstance(of, pa.BaseExtensionType):
        column = pa.ExtensionArray.from_storage(of, column)
    return pa.Table.from_arrays([pa.array([1, 2]), column], ["id", "c"])


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("of", [*PLAIN, *DICTIONARIES, *NESTED], ids=str)
def test_values_of_a_type_are_read_as_they_were_written(
    tmp_path: Path, of: pa.DataType, values: bool
) -> None:
    table = filled(lance_type(of), values=values)
    lance.write_dataset(table, tmp_path / "t.lance")
    found = lance.dataset(tmp_path / "t.lance").to_table()
    assert found.to_pylist() == table.to_pylist()


@pytest.mark.parametrize("of", REFUSED, ids=str)
def test_a_type_that_lance_does_not_store_is_named(tmp_path: Path, of: pa.DataType) -> None:
    assert unsupported_type(of) is not None
    with pytest.raises((OSError, pa.ArrowNotImplementedError)):
        written(tmp_path, pa.schema([f("c", of)]))


@pytest.mark.parametrize("of", UNREADABLE, ids=str)
def test_a_type_that_lance_takes_and_loses_is_named(tmp_path: Path, of: pa.DataType) -> None:
    assert unsupported_type(of) is not None
    written(tmp_path, pa.schema([f("c", of)]))
    table = filled(of, values=False)
    # A panic in Lance is no Exception.
    with pytest.raises(BaseException, match=LOST):
        lance.write_dataset(table, tmp_path / "full.lance")
        assert lance.dataset(tmp_path / "full.lance").to_table().to_pylist() == table.to_pylist()


@given(SCHEMAS)
@settings(max_examples=60, deadline=None)
def test_any_schema_that_is_not_refused_is_stored_as_foretold(schema: pa.Schema) -> None:
    with TemporaryDirectory() as folder:
        if not any(unsupported_type(field.type) for field in schema):
            found = written(folder, schema)
            assert [described(f) for f in found] == [described(f) for f in lance_schema(schema)]


@pytest.mark.parametrize("storage", ["2.0", "2.1", "2.2"])
def test_a_blob_is_one_in_every_storage_version(tmp_path: Path, storage: str) -> None:
    old = f("b", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    given = [old, lance.blob_field("b")] if storage == "2.2" else [old]
    for number, field in enumerate(given):
        found = written(tmp_path / str(number), pa.schema([f("id", pa.int64()), field]), storage).field("b")
        assert is_blob(found)
        assert is_blob(field)
        assert described(lance_field(found)) == described(lance_field(old))


def test_empty_metadata_is_none(tmp_path: Path) -> None:
    found = written(tmp_path, pa.schema([f("c", pa.string(), metadata={})]))
    assert found.field("c").metadata is None
