"""Hashes of values: equal for equal values, however they lie in memory, and for no others."""

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lancemig.catalog.hashes import Checksum, checksum, hash_pairs, hash_rows, hash_values

TEXT = st.text("ab\0é", max_size=20)
PLAIN: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.bool_(), st.booleans()),
    (pa.string(), TEXT),
    (pa.large_string(), TEXT),
    (pa.string_view(), TEXT),
    (pa.binary(), st.binary(max_size=20)),
    (pa.binary(5), st.binary(min_size=5, max_size=5)),
    (pa.binary(16), st.binary(min_size=16, max_size=16)),
    (pa.decimal128(9, 2), st.decimals(-999, 999, places=2)),
    (pa.timestamp("ns"), st.integers(-(2**60), 2**60)),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["", "a", "b"])),
    (pa.null(), st.none()),
]


def wider(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def made(one: tuple[pa.DataType, Any], other: tuple[pa.DataType, Any]) -> st.SearchStrategy[Any]:
        (a, values), (b, others) = one, other
        nullable = st.none() | values
        kinds = [
            (pa.list_(a), st.lists(nullable, max_size=4)),
            (pa.large_list(a), st.lists(nullable, max_size=4)),
            (pa.list_(a, 3), st.lists(nullable, min_size=3, max_size=3)),
            (
                pa.struct({"x": a, "y": b}),
                st.fixed_dictionaries({"x": nullable, "y": st.none() | others}),
            ),
        ]
        return st.sampled_from(kinds)

    return st.tuples(of, of).flatmap(lambda two: made(*two))


KINDS = st.recursive(st.sampled_from(PLAIN), wider, max_leaves=4)
COLUMNS = KINDS.flatmap(
    lambda kind: st.tuples(st.just(kind[0]), st.lists(st.none() | kind[1], min_size=1, max_size=12))
)


def spelt(value: Any, of: pa.DataType) -> Any:
    """A value so that equal means equal in every bit."""
    if value is None:
        return None
    if pa.types.is_floating(of):
        return struct.pack("<f" if pa.types.is_float32(of) else "<d", value)
    if pa.types.is_struct(of):
        return tuple(spelt(value[field.name], field.type) for field in of)
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return tuple(spelt(one, of.value_type) for one in value)
    return value


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(COLUMNS)
def test_equal_values_and_only_these_have_equal_hashes(column: tuple[pa.DataType, list[Any]]) -> None:
    of, values = column
    hashes = hash_values(pa.array(values, of)).tolist()
    told = [spelt(value, of) for value in values]
    for at, one in enumerate(told):
        for there, other in enumerate(told):
            assert (one == other) == (hashes[at] == hashes[there])


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(COLUMNS, st.data())
def test_how_an_array_is_cut_makes_no_difference(column: tuple[pa.DataType, list[Any]], data: Any) -> None:
    of, values = column
    array = pa.array(values, of)
    start = data.draw(st.integers(0, len(values)))
    parts = [hash_values(array.slice(0, start)), hash_values(array.slice(start))]
    alone = [hash_values(pa.array([value], of)) for value in values]
    assert np.concatenate(parts).tolist() == hash_values(array).tolist() == np.concatenate(alone).tolist()


@pytest.mark.parametrize(
    ("of", "one", "other"),
    [
        (pa.float64(), 0.0, -0.0),
        (pa.float64(), None, float("nan")),
        (pa.int64(), None, 0),
        (pa.string(), None, ""),
        (pa.string(), "a", "a\0"),
        (pa.list_(pa.int64()), [], None),
        (pa.list_(pa.int64()), [None], [0]),
        (pa.list_(pa.int64()), [None], []),
        (pa.list_(pa.int64()), [0, None], [None, 0]),
        (pa.list_(pa.string()), ["ab", ""], ["a", "b"]),
        (pa.list_(pa.float32(), 2), [0.0, None], [None, 0.0]),
        (pa.struct({"a": pa.int64()}), {"a": None}, None),
        (pa.struct({"a": pa.int64(), "b": pa.int64()}), {"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (pa.map_(pa.string(), pa.int64()), [("a", 1)], [("a", None)]),
    ],
)
def test_what_is_easily_taken_for_each_other_is_not(of: pa.DataType, one: Any, other: Any) -> None:
    first, second = hash_values(pa.array([one, other], of))
    assert first != second


def test_signs_that_are_changed_in_pairs_are_noticed() -> None:
    vectors = np.random.default_rng(3).standard_normal((500, 16), dtype=np.float32)
    other = vectors.copy()
    other[:, [1, 3]] *= -1
    both = [pa.FixedSizeListArray.from_arrays(pa.array(v.reshape(-1)), 16) for v in (vectors, other)]
    assert not np.isin(hash_values(both[0]), hash_values(both[1])).any()


def test_a_dictionary_is_what_it_stands_for() -> None:
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), ["a", "b"])
    other = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1]), ["b", None, "a"])
    assert (
        hash_values(one).tolist()
        == hash_values(other).tolist()
        == hash_values(pa.array(["a", "b", None])).tolist()
    )


def test_a_checksum_knows_pairs_and_repeats_but_no_order() -> None:
    keys, values = hash_values(pa.array([1, 2, 3])), hash_values(pa.array(["a", "b", "c"]))
    whole = checksum(hash_pairs(keys, values))
    assert checksum(hash_pairs(keys[::-1].copy(), values[::-1].copy())) == whole
    assert checksum(hash_pairs(keys[:1], values[:1])) + checksum(hash_pairs(keys[1:], values[1:])) == whole
    assert checksum(hash_pairs(keys, values[[1, 0, 2]])) != whole
    assert checksum(np.repeat(keys, 2)) != checksum(keys)
    assert hash_rows([keys, values], 3).tolist() != hash_rows([values, keys], 3).tolist()
    assert str(Checksum(1, 2)) == "00000000000000020000000000000001"
