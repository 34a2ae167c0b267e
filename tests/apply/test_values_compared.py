"""Comparing, choosing and fitting values of every type."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lancemig.apply.rows.values import (
    at_least_delta,
    call_function,
    chosen,
    distinct,
    fitted,
    lossless,
    with_child,
)
from lancemig.errors import PlanError

NAN = float("nan")
THREE: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [1, 2, None]),
    (pa.uint64(), [2**64 - 1, 2, None]),
    (pa.float16(), [1.0, NAN, None]),
    (pa.float32(), [1.0, NAN, None]),
    (pa.float64(), [1.0, NAN, None]),
    (pa.bool_(), [True, False, None]),
    (pa.string(), ["a", "b", None]),
    (pa.large_string(), ["a", "", None]),
    (pa.binary(), [b"a", b"\x00", None]),
    (pa.binary(2), [b"aa", b"bb", None]),
    (pa.timestamp("ns", "UTC"), [1, 2, None]),
    (pa.date32(), [date(2026, 1, 1), date(2026, 1, 2), None]),
    (pa.time64("us"), [1, 2, None]),
    (pa.duration("s"), [1, 2, None]),
    (pa.decimal128(10, 2), [Decimal("1.10"), Decimal("1.20"), None]),
    (pa.list_(pa.float64()), [[1, NAN], [], None]),
    (pa.large_list(pa.string()), [["a", None], ["a"], None]),
    (pa.list_(pa.float32(), 2), [[1, NAN], [1, None], None]),
    (pa.list_(pa.struct({"a": pa.float64()})), [[{"a": NAN}], [None], None]),
    (pa.list_(pa.list_(pa.int8(), 2)), [[[1, 2]], [[1, None]], None]),
    (
        pa.struct({"a": pa.float64(), "b": pa.list_(pa.int8())}),
        [{"a": NAN, "b": [1]}, {"a": 1, "b": None}, None],
    ),
    (pa.dictionary(pa.int32(), pa.string()), ["a", "b", None]),
    (pa.map_(pa.string(), pa.float64()), [[("a", NAN)], [], None]),
    (pa.uuid(), [b"a" * 16, b"b" * 16, None]),
]
TYPES = pytest.mark.parametrize(
    ("of", "values"), THREE, ids=lambda of: str(of) if isinstance(of, pa.DataType) else ""
)


@TYPES
def test_a_value_is_not_distinct_from_itself(of, values):
    array = pa.array(values, of)
    again = pa.concat_arrays([array, array])
    assert distinct(array, array).to_pylist() == [False] * 3
    assert distinct(again.slice(1, 4), again.slice(4, 2).take(pa.array([0, 1, 0, 1]))).to_pylist()[:2] == [
        False,
        False,
    ]


@TYPES
def test_other_values_and_nulls_are_distinct(of, values):
    array = pa.array(values, of)
    for places in ([1, 2, 0], [2, 0, 1]):
        assert distinct(array, array.take(pa.array(places))).to_pylist() == [True] * 3


@TYPES
def test_values_are_chosen_by_a_mask(of, values):
    array = pa.array(values, of)
    other = array.take(pa.array([1, 2, 0]))
    found = chosen(pa.array([True, False, True]), array, other)
    assert found.type == of
    assert distinct(found, array.take(pa.array([0, 2, 2]))).to_pylist() == [False] * 3


def test_columns_without_values_are_never_distinct():
    assert distinct(pa.nulls(2), pa.nulls(2)).to_pylist() == [False, False]


@given(
    st.lists(st.tuples(*[st.none() | st.lists(st.none() | st.floats(width=32), max_size=3)] * 2), max_size=6)
)
def test_lists_are_distinct_as_python_says(pairs):
    left, right = (pa.array([pair[side] for pair in pairs], pa.list_(pa.float32())) for side in (0, 1))
    wanted = [repr(a).replace("-0.0", "0.0") != repr(b).replace("-0.0", "0.0") for a, b in pairs]
    assert distinct(left, right).to_pylist() == wanted


@pytest.mark.parametrize(
    ("values", "to"),
    [
        ([1.5], pa.int32()),
        ([1e300], pa.float32()),
        ([0.1], pa.float32()),
        ([2**53 + 1], pa.float64()),
        ([300], pa.int8()),
        (["x"], pa.int64()),
        (["1.50"], pa.float64()),
        ([datetime(2026, 1, 1, 12, tzinfo=UTC)], pa.date32()),
        ([{"a": 1, "b": 2}], pa.struct({"a": pa.int64()})),
        ([2], pa.bool_()),
    ],
    ids=str,
)
def test_a_cast_that_loses_is_refused(values, to):
    with pytest.raises(PlanError, match="would lose data") as refused:
        lossless(pa.array(values), to, "t.c")
    assert "t.c" in refused.value.message
    assert "using" in str(refused.value.next_step)


@pytest.mark.parametrize(
    ("array", "to"),
    [
        (pa.array([1, None], pa.int32()), pa.int64()),
        (pa.array([1, None], pa.int32()), pa.float64()),
        (pa.array([0.1, NAN, None]), pa.string()),
        (pa.array(["a", None]), pa.large_string()),
        (pa.array(["a", "a"]).dictionary_encode(), pa.string()),
        (pa.array([[1], None], pa.list_(pa.int8())), pa.list_(pa.int64())),
    ],
    ids=str,
)
def test_a_cast_that_loses_nothing_is_made(array, to):
    assert lossless(array, to, "t.c").type == to


@pytest.mark.parametrize(("old", "new"), [(None, 1.0), (1.0, None), (NAN, 1.0), (1.0, NAN), (1.0, 2.0)])
def test_such_changes_are_big_enough(old, new):
    of = pa.float64()
    assert at_least_delta(pa.array([old], of), pa.array([new], of), 0.5).to_pylist() == [True]


def test_a_small_change_is_not_big_enough():
    assert at_least_delta(pa.array([1, 5]), pa.array([2, 9]), 3).to_pylist() == [False, True]
    assert at_least_delta(pa.array(["a"]), pa.array(["b"]), 3).to_pylist() == [True]


def test_null_does_not_fit_where_none_may_be():
    with pytest.raises(PlanError, match=r"t\.c is not nullable, but 1 new values are null"):
        fitted(pa.array([1, None]), pa.field("c", pa.int64(), nullable=False), "t.c")


def test_a_field_is_replaced_at_any_depth_and_null_structs_stay_null():
    of = pa.struct({"a": pa.struct({"b": pa.int8(), "c": pa.int8()})})
    array = pa.array([{"a": {"b": 1, "c": 2}}, None, {"a": None}], of)
    new = with_child(array, ["a", "b"], pa.array(["x", "y", "z"]))
    assert new.to_pylist() == [{"a": {"b": "x", "c": 2}}, None, {"a": None}]
    assert with_child(array, ["a", "b"], None).to_pylist() == [{"a": {"c": 2}}, None, {"a": None}]


def counted(batch):
    return pa.record_batch({"n": [1, 2], "__unknown__": [None, True]})


def test_unknown_rows_are_those_said_to_be():
    answer = call_function(counted, pa.record_batch({"id": [1, 2]}), ["n"])
    assert answer.unknown.to_pylist() == [False, True]
    assert pc.sum(answer.columns["n"]).as_py() == 3
