"""Types, fields and schemas as text, and back."""

import pyarrow as pa
import pytest
from arrow_types import FIELDS, SCHEMAS, TYPES
from hypothesis import given

from lancemig.catalog.arrow_types import (
    as_field,
    as_schema,
    as_type,
    format_field,
    format_schema,
    format_type,
    parse_field,
    parse_type,
)


@given(TYPES)
def test_a_type_reads_back_from_its_text(of):
    assert parse_type(format_type(of)) == of


@given(FIELDS)
def test_a_field_reads_back_from_its_text(field):
    assert parse_field(format_field(field)) == field


@given(SCHEMAS)
def test_a_schema_reads_back_from_its_lines(schema):
    assert as_schema(format_schema(schema)) == schema


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("int64", pa.int64()),
        ("double", pa.float64()),
        ("float", pa.float32()),
        ("list<int32>", pa.list_(pa.int32())),
        ("list<item: int32 not null>", pa.list_(pa.field("item", pa.int32(), nullable=False))),
        ("fixed_size_list<float32>[3]", pa.list_(pa.float32(), 3)),
        (
            "  struct< a : int8 , b:string not null >",
            pa.struct([("a", pa.int8()), pa.field("b", "string", False)]),
        ),
        ("timestamp[us,tz=UTC]", pa.timestamp("us", "UTC")),
        ("timestamp[us, tz=+02:00]", pa.timestamp("us", "+02:00")),
        ("decimal128(9,2)", pa.decimal128(9, 2)),
        ("dictionary<int32, string>", pa.dictionary(pa.int32(), pa.string())),
        ("dictionary<int8,large_string, ordered=1>", pa.dictionary(pa.int8(), pa.large_string(), True)),
        ("dictionary<values=string, indices=int32>", pa.dictionary(pa.int32(), pa.string())),
        ("list<dictionary<int8, string>>", pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        ("map<string, list<int8>>", pa.map_(pa.string(), pa.list_(pa.int8()))),
    ],
)
def test_people_may_write(text, of):
    assert parse_type(text) == of


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int65",
        "list<",
        "list<int8",
        "struct<a>",
        "struct<a: int8,",
        "int8 int8",
        "fixed_size_list<int8>[x]",
    ],
)
def test_what_is_no_type_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"type"):
        parse_type(text)


@pytest.mark.parametrize("text", ["int64", "x", "x: nope"])
def test_what_is_no_field_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"expected|unknown type"):
        parse_field(text)


def test_a_schema_comes_in_many_shapes():
    wanted = pa.schema([pa.field("a", pa.int8()), pa.field("b", pa.string(), nullable=False)])
    for given_ in (
        wanted,
        "a: int8\n\n  b: string not null\n",
        {"a": pa.int8(), "b": "string not null"},
        [pa.field("a", pa.int8()), "b: string not null"],
    ):
        assert as_schema(given_) == wanted


@pytest.mark.parametrize(("read", "given_"), [(as_type, 7), (as_field, 7), (as_schema, 7), (as_schema, [7])])
def test_other_things_are_refused(read, given_):
    with pytest.raises(ValueError, match="expected a"):
        read(given_)
