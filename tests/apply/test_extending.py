"""One value out of two, by rule, for every type that a rule fits."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lancemig.apply.rows.values import combined_by_rule
from lancemig.catalog.operations import UpsertRows
from lancemig.catalog.operations.rows import checked_rule
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.errors import PlanError

NAN = float("nan")
# A type, and two of its values, the smaller one first.
ORDERED: list[tuple[pa.DataType, Any, Any]] = [
    (pa.int8(), -1, 1),
    (pa.uint64(), 2**53, 2**53 + 1),
    (pa.float16(), -0.5, 0.5),
    (pa.float32(), -0.5, 0.5),
    (pa.float64(), float("-inf"), 0.5),
    (pa.bool_(), False, True),
    (pa.string(), "A", "a"),
    (pa.large_string(), "", "a"),
    (pa.binary(), b"\x00", b"\xff"),
    (pa.date32(), date(1, 1, 1), date(2026, 1, 1)),
    (pa.timestamp("us", "UTC"), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
    (pa.timestamp("ns"), 1000000001, 1000000002),
    (pa.time64("ns"), 1, 2),
    (pa.duration("s"), -1, 1),
    (pa.decimal128(10, 2), Decimal("1.10"), Decimal("1.11")),
    (pa.decimal256(50, 2), Decimal("1.10"), Decimal("1.11")),
    (pa.dictionary(pa.int32(), pa.string()), "a", "b"),
    (pa.uuid(), b"a" * 16, b"b" * 16),
]
UNORDERED = [
    pa.list_(pa.int8()),
    pa.struct({"a": pa.int8()}),
    pa.map_(pa.string(), pa.int8()),
    pa.list_(pa.float32(), 2),
    pa.null(),
]
ITEMS = [(of, low, high) for of, low, high in ORDERED if not isinstance(of, pa.BaseExtensionType)]


def plain(array: pa.Array) -> list[Any]:
    """Python values; Python has no nanoseconds."""
    of = getattr(array.type, "value_type", array.type)
    if getattr(of, "unit", "") == "ns":
        lists = {pa.types.is_list: pa.list_, pa.types.is_large_list: pa.large_list}
        to = next((make(pa.int64()) for is_one, make in lists.items() if is_one(array.type)), pa.int64())
        array = array.cast(to)
    values: list[Any] = array.to_pylist()
    return values


def named(value: Any) -> str:
    return str(value) if isinstance(value, pa.DataType) else ""


@pytest.mark.parametrize(("of", "low", "high"), ORDERED, ids=named)
def test_the_greater_the_smaller_and_the_first_value(of: pa.DataType, low: Any, high: Any) -> None:
    old = pa.array([low, high, low, None, low, None], of)
    given = pa.array([high, low, low, high, None, None], of)
    for rule, wanted in (
        ("max", [high, high, low, high, low, None]),
        ("min", [low, low, low, high, low, None]),
        ("coalesce", [low, high, low, high, low, None]),
    ):
        checked_rule("t.c", of, rule)  # type: ignore[arg-type]
        found = combined_by_rule(rule, old, given)  # type: ignore[arg-type]
        assert found.type == of
        assert plain(found) == plain(pa.array(wanted, of))


@pytest.mark.parametrize("of", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("rule", ["max", "min"])
def test_nan_never_wins(of: pa.DataType, rule: Any) -> None:
    found = combined_by_rule(rule, pa.array([NAN, 1.0, None, NAN], of), pa.array([1.0, NAN, NAN, None], of))
    assert [repr(value) for value in found.to_pylist()] == ["1.0", "1.0", "nan", "nan"]


@pytest.mark.parametrize(("of", "low", "high"), ITEMS, ids=named)
@pytest.mark.parametrize("lists", [pa.list_, pa.large_list])
def test_a_union_keeps_what_is_there_and_adds_what_is_not(of: Any, low: Any, high: Any, lists: Any) -> None:
    old = pa.array([[high, high], [], None, [low], None, [None]], lists(of))
    given = pa.array([[low, high, low], [high, None, None], [high, high], None, None, [None, low]], lists(of))
    checked_rule("t.c", lists(of), "union")
    found = combined_by_rule("union", old, given)
    wanted = [[high, high, low], [high, None], [high], [low], None, [None, low]]
    assert found.type == lists(of)
    assert plain(found) == plain(pa.array(wanted, lists(of)))
    found.validate(full=True)
    # Slices have offsets that do not begin at nought.
    part = combined_by_rule("union", old.slice(1, 3), given.slice(1, 3))
    assert plain(part) == plain(found.slice(1, 3))


def test_a_union_of_structs_compares_them_whole() -> None:
    of = pa.list_(pa.struct({"a": pa.float32(), "b": pa.struct({"c": pa.string()})}))
    one, other = {"a": 0.0, "b": {"c": "x"}}, {"a": 0.0, "b": {"c": None}}
    old = pa.array([[one, None], [other]], of)
    given = pa.array([[{**one, "a": -0.0}, other, None], [{**other, "b": None}]], of)
    found = combined_by_rule("union", old, given)
    assert found.to_pylist() == [[one, None, other], [other, {**other, "b": None}]]


@pytest.mark.parametrize("of", [pa.list_(pa.int8()), pa.large_list(pa.string())], ids=str)
def test_nothing_is_extended_by_nothing(of: pa.DataType) -> None:
    assert combined_by_rule("union", pa.array([], of), pa.array([], of)).to_pylist() == []
    assert combined_by_rule("union", pa.array([[], None], of), pa.array([None, []], of)).to_pylist() == [
        [],
        [],
    ]


@pytest.mark.parametrize("of", UNORDERED, ids=str)
@pytest.mark.parametrize("rule", ["max", "min"])
def test_what_has_no_order_has_no_greatest(of: pa.DataType, rule: Any) -> None:
    with pytest.raises(PlanError, match="its values have no order"):
        checked_rule("t.c", of, rule)
    checked_rule("t.c", of, "coalesce")


@pytest.mark.parametrize("of", [pa.list_(pa.list_(pa.int8())), *UNORDERED[1:], pa.string()], ids=str)
def test_a_union_is_of_lists_whose_items_can_be_compared(of: pa.DataType) -> None:
    with pytest.raises(PlanError, match=r't\.c is .*: "union" requires a list'):
        checked_rule("t.c", of, "union")


def test_a_rule_that_does_not_fit_is_named_when_the_operation_is_replayed() -> None:
    columns = pa.schema([("k", pa.int64()), ("tags", pa.list_(pa.string()))])
    catalog = CatalogSchema(tables={"t": TableSchema(columns=columns)})
    operation = UpsertRows(table="t", rows=[], on=("k",), when_exists="extend", extend={"tags": "min"})
    with pytest.raises(PlanError, match=r"t\.tags is list<item: string>: .* the rule 'min' cannot be used"):
        operation.after(catalog)
    kept = operation.model_copy(update={"extend": {"tags": "union"}})
    assert kept.after(catalog) == catalog
    assert kept.describe() == "upsert 0 rows on k (extend tags by union)"
