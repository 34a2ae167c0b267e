"""Asking for rows by a list of values: which SQL takes, and where an Arrow expression fails."""

from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc
import pytest

ASKED: dict[pa.DataType, list[Any]] = {
    pa.int8(): [1, -2, 127],
    pa.int16(): [1, -2, 2**15 - 1],
    pa.int32(): [1, -2, -(2**31)],
    pa.int64(): [-(2**63) + 1, 2**53 + 1, 2**53, 2**63 - 1],
    pa.string(): ["a", "b'c", "", "A", "\\", "%", "_", "ä", "🐦", "two\nlines", "a ", "`", '"', "\x00", "--"],
    pa.large_string(): ["a", "b'c", "", "A", "\\", "ä"],
}


@pytest.mark.parametrize(("of", "values"), ASKED.items(), ids=str)
@pytest.mark.parametrize("index", [False, True])
def test_sql_finds_exactly_what_a_list_names(tmp_path: Path, of: pa.DataType, values: Any, index: bool):
    ds = lance.write_dataset(pa.table({"k": pa.array(values, of)}), tmp_path / "t.lance")
    if index:
        ds.create_scalar_index("k", "BTREE")
    for value in values:
        text = str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
        assert ds.to_table(filter=f"`k` in ({text})")["k"].to_pylist() == [value]


def test_sql_does_not_take_the_smallest_integer(tmp_path: Path):
    ds = lance.write_dataset(pa.table({"k": [-(2**63)]}), tmp_path / "t.lance")
    with pytest.raises(ValueError, match="could not convert to literal"):
        ds.to_table(filter=f"k in ({-(2**63)})")


def test_an_arrow_expression_fails_where_any_column_has_a_type_that_substrait_lacks(tmp_path: Path):
    rows = pa.table({"k": [1, 2], "other": pa.array([None, []], pa.large_list(pa.struct({"a": pa.int8()})))})
    ds = lance.write_dataset(rows, tmp_path / "t.lance")
    with pytest.raises(pa.ArrowNotImplementedError, match=r"substrait::Type from large_list"):
        ds.to_table(filter=pc.field("k").isin(pa.array([1])))
    assert ds.to_table(filter="`k` in (1)").num_rows == 1


@pytest.mark.parametrize(
    "of", [pa.uint64(), pa.large_string(), pa.timestamp("ns"), pa.duration("ms")], ids=str
)
def test_an_arrow_expression_fails_for_values_that_substrait_lacks(tmp_path: Path, of: pa.DataType):
    array = pa.array(["a", "b"] if pa.types.is_large_string(of) else [1000000001, 2], of)
    ds = lance.write_dataset(pa.table({"k": array}), tmp_path / "t.lance")
    with pytest.raises((ValueError, pa.ArrowNotImplementedError)):
        ds.to_table(filter=pc.field("k").isin(array))
