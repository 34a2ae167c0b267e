"""Upserts against a plain model, with keys of every type, into tables of both kinds."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lance
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lancemig.apply.rows.context import StagingContext
from lancemig.apply.rows.upserts import decide_upsert, existing, staged_upsert
from lancemig.catalog.keys import format_value, matches
from lancemig.catalog.operations import UpsertRows
from lancemig.catalog.sources import REASON, UNKNOWN
from lancemig.errors import BrakeTripped, PlanError
from lancemig.store.lance import Stamp, Table, Tables
from lancemig.store.objects import open_objects

NAN = float("nan")
STABLE = pytest.mark.parametrize("stable", [False, True], ids=["addresses", "stable row ids"])
KEYS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [1, -2, 3, 4]),
    (pa.int64(), [0, -(2**63), 2**53 + 1, 2**53]),
    (pa.int64(), [-(2**63), 2**53 + 1, 2**53, 0]),
    (pa.uint64(), [2**64 - 1, 2**53 + 1, 2**53, 0]),
    (pa.float32(), [1.5, NAN, 0.0, -1.0]),
    (pa.float64(), [1.5, NAN, -0.0, math.inf]),
    (pa.string(), ["a", "", "b'", "A"]),
    (pa.large_string(), ["a", "", "b'", "A"]),
    (pa.binary(), [b"a", b"", b"\x00", b"\x00\x00"]),
    (pa.large_binary(), [b"a", b"", b"\x00", b"\x00\x00"]),
    (pa.binary(2), [b"aa", b"ab", b"\x00\x00", b"\xff\xff"]),
    (pa.date32(), [date(2026, 1, 1), date(1, 1, 1), date(2026, 1, 2), date(9999, 1, 1)]),
    (pa.timestamp("us", "UTC"), [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]),
    (pa.timestamp("ns"), [1000000001, 1000000002, 1000000003, -1]),
    (pa.timestamp("ns", "Europe/Berlin"), [1000000001, 1000000002, 1000000003, -1]),
    (pa.time64("ns"), [1, 2, 1000, 2000]),
    (pa.duration("ns"), [1, 2, 1000, 2000]),
    (pa.decimal128(20, 2), [Decimal("1.10"), Decimal("1.11"), Decimal("99999999999999.99"), Decimal(0)]),
    (pa.decimal256(50, 2), [Decimal("1.10"), Decimal("1.11"), Decimal("99999999999999.99"), Decimal(0)]),
    (pa.dictionary(pa.int32(), pa.string()), ["a", "b", "", "A"]),
]


class Place:
    """Tables in a folder, and upserts of the one called `t`."""

    def __init__(self, folder: str | Path, rows: pa.Table, *, stable: bool = False, file: int = 100) -> None:
        self.tables = Tables(open_objects(str(folder), {}), "")
        uri = self.tables.uri("", "t")
        lance.write_dataset(rows, uri, enable_stable_row_ids=stable, max_rows_per_file=file)

    @property
    def table(self) -> Table:
        return self.tables.open("", "t")

    def upsert(self, rows: Any, on: tuple[str, ...], **more: Any) -> tuple[int, int, int]:
        """Changed, skipped, indeterminate; as one commit, or none."""
        table = self.table
        staged = staged_upsert(UpsertRows(table="t", rows=rows, on=on, **more), table, StagingContext())
        if staged is None:
            return (0, 0, 0)
        assert self.tables.commit(table, staged, Stamp("run", "", "step")) == table.version + 1
        return staged.changed, staged.skipped, staged.indeterminate


@STABLE
@pytest.mark.parametrize("more", [0, 1], ids=["one row", "several"])
@pytest.mark.parametrize(
    ("of", "values"), KEYS, ids=lambda of: str(of) if isinstance(of, pa.DataType) else ""
)
def test_a_key_of_every_type_is_met(tmp_path: Path, of: pa.DataType, values: Any, more: int, stable: bool):
    key = pa.array(values, of)
    nothing = pa.concat_arrays([key.slice(0, 3), pa.nulls(1, of)])
    place = Place(tmp_path, pa.table({"k": nothing, "x": [0, 1, 2, 3]}), stable=stable, file=2)
    source = pa.table({"k": key.slice(1, 1 + 2 * more), "x": [10, 20, 30][: 1 + 2 * more]})
    assert place.upsert(source, ("k",), when_exists="overwrite") == (1 + 2 * more, 0, 0)
    found = place.table.read()
    assert sorted(found["x"].to_pylist()) == ([0, 3, 10, 20, 30] if more else [0, 2, 3, 10])
    again = found.take(pa.array(matches(source, found, ["k"])))
    assert again["x"].to_pylist() == source["x"].to_pylist()
    assert place.upsert(source, ("k",), when_exists="error") == (0, 0, 0)
    if not of.equals(pa.dictionary(pa.int32(), pa.string())):
        with pytest.raises(PlanError, match=f"x: {10} in the table, 7 in the source"):
            place.upsert(source.set_column(1, "x", pa.array([7] * len(source))), ("k",))


@STABLE
def test_a_composite_key_meets_only_whole_keys(tmp_path: Path, stable: bool) -> None:
    pairs = [(robot, at) for robot in range(4) for at in range(1_000_000_000, 1_000_000_010)]
    rows = pa.table(
        {
            "x": pa.array(range(40), pa.int8()),
            "at": pa.array([at for _, at in pairs], pa.timestamp("ns", "UTC")),
            "robot": [f"r{robot}" for robot, _ in pairs],
        }
    )
    place = Place(tmp_path, rows, stable=stable, file=7)
    source = rows.take(pa.array([3, 17])).set_column(0, "x", pa.array([99, 98], pa.int8()))
    # The first's robot with the second's time is another key, and stays.
    assert place.upsert(source, ("robot", "at"), when_exists="overwrite") == (2, 0, 0)
    wanted = [99 if n == 3 else 98 if n == 17 else n for n in range(40)]
    assert sorted(place.table.read()["x"].to_pylist()) == sorted(wanted)
    found = existing(place.table, source, ("robot", "at"), ())
    assert sorted(found["robot"].to_pylist()) == ["r0", "r1"]


@STABLE
def test_rows_that_do_not_change_are_not_written(tmp_path: Path, stable: bool) -> None:
    rows = pa.table({"k": range(1000), "x": [0.0] * 1000})
    place = Place(tmp_path, rows, stable=stable, file=100)
    source = pa.table({"k": range(1000), "x": [1.0 if n == 555 else 0.0 for n in range(1000)]})
    assert place.upsert(source, ("k",), when_exists="overwrite") == (1, 999, 0)
    fragments = place.table.fragments
    assert [f.metadata.num_deletions for f in fragments] == [0] * 5 + [1] + [0] * 5
    assert fragments[-1].count_rows() == 1


def test_a_fragment_all_of_whose_rows_are_replaced_is_removed(tmp_path: Path) -> None:
    place = Place(tmp_path, pa.table({"k": range(20), "x": [0] * 20}), file=10)
    assert place.upsert(pa.table({"k": range(10, 20), "x": [1] * 10}), ("k",), when_exists="overwrite")
    assert place.table.fragment_ids == {0, 2}
    assert sum(place.table.read()["x"].to_pylist()) == 10


def test_deleted_rows_are_not_met(tmp_path: Path) -> None:
    place = Place(tmp_path, pa.table({"k": range(20), "x": [0] * 20}), file=10)
    place.table.dataset.delete("k in (3, 4, 15)")
    source = pa.table({"k": [3, 5], "x": [1, 1]})
    assert place.upsert(source, ("k",), when_exists="overwrite") == (2, 0, 0)
    assert place.table.count("x = 1") == 2
    assert place.table.count() == 18


def test_a_key_that_the_table_repeats_is_refused_under_each_policy(tmp_path: Path) -> None:
    place = Place(tmp_path, pa.table({"k": [1, 2, 2, 3, 3, 9], "x": [0] * 6}))
    for how in ("error", "overwrite", "keep"):
        with pytest.raises(PlanError, match=r"table t: 2 keys occur more than once, for example k=2"):
            place.upsert([{"k": 2}, {"k": 3}, {"k": 4}], ("k",), when_exists=how)
    with pytest.raises(PlanError, match="1 key occurs more than once, for example k=2"):
        place.upsert([{"k": 2, "x": 1}], ("k",), when_exists="extend", extend={"x": "max"})
    assert place.table.version == 1
    assert place.upsert([{"k": 1, "x": 5}], ("k",), when_exists="overwrite") == (1, 0, 0)


def test_an_error_names_the_first_rows_and_both_values(tmp_path: Path) -> None:
    long = "x" * 100
    rows = pa.table({"k": range(5), "a": [0.0] * 5, "t": ["t"] * 5, "same": [1] * 5})
    place = Place(tmp_path, rows)
    source = [{"k": k, "a": 1.0 if k else 0.0, "t": None if k == 1 else long, "same": 1} for k in range(5)]
    with pytest.raises(PlanError) as refused:
        place.upsert(source, ("k",))
    assert refused.value.message == (
        "5 rows already in t with different values: "
        f"k=0 (t: 't' in the table, '{'x' * 58}… in the source), "
        "k=1 (a: 0.0 in the table, 1.0 in the source; t: 't' in the table, None in the source), "
        f"k=2 (a: 0.0 in the table, 1.0 in the source; t: 't' in the table, '{'x' * 58}… in the "
        "source), and 2 more"
    )
    assert refused.value.next_step == 'set when_exists="overwrite", "keep" or "extend" in UpsertRows'
    assert place.table.version == 1


def test_rows_without_an_answer_are_listed_and_not_written(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("k", pa.int64(), nullable=False), pa.field("x", pa.int64(), nullable=False)])
    place = Place(tmp_path, pa.table({"k": [1, 2], "x": [0, 0]}, schema=schema))
    source = [
        {"k": 1, "x": 5, UNKNOWN: False},
        {"k": 2, "x": None, UNKNOWN: True, REASON: "no manifest"},
        {"k": 3, UNKNOWN: True},
        {"k": 4, "x": 6},
    ]
    scope, table = StagingContext(), place.table
    operation = UpsertRows(table="t", rows=source, on=("k",), when_exists="overwrite", max_indeterminate=2)
    staged = staged_upsert(operation, table, scope)
    assert staged is not None
    assert (staged.changed, staged.skipped, staged.indeterminate) == (2, 0, 2)
    assert scope.skipped_rows[0].to_pylist() == [{"k": 2, REASON: "no manifest"}, {"k": 3, REASON: None}]
    place.tables.commit(table, staged, Stamp("run", "", "step"))
    assert sorted((r["k"], r["x"]) for r in place.table.read().to_pylist()) == [(1, 5), (2, 0), (4, 6)]
    scope.forget()
    with pytest.raises(BrakeTripped, match="t: 2 rows could not be decided, but max_indeterminate is 1"):
        staged_upsert(operation.model_copy(update={"max_indeterminate": 1}), place.table, scope)
    # They are listed all the more when a brake trips.
    assert scope.skipped_rows[0].num_rows == 2


def test_max_rows_counts_rows_that_are_new_or_change(tmp_path: Path) -> None:
    place = Place(tmp_path, pa.table({"k": [1, 2, 3], "x": [0, 0, 0]}))
    source = [{"k": 1, "x": 0}, {"k": 2, "x": 1}, {"k": 4, "x": 0}]
    with pytest.raises(BrakeTripped, match="t: 2 rows would change, but max_rows is 1") as tripped:
        place.upsert(source, ("k",), when_exists="overwrite", max_rows=1)
    assert "raise max_rows in the migration" in str(tripped.value.next_step)
    assert place.table.version == 1
    assert place.upsert(source, ("k",), when_exists="overwrite", max_rows=2) == (2, 1, 0)


def test_a_change_below_min_delta_leaves_the_cell_alone(tmp_path: Path) -> None:
    rows = pa.table({"k": [1, 2, 3, 4], "x": [1.0, 1.0, None, NAN], "n": [10, 10, 10, 10], "s": ["a"] * 4})
    place = Place(tmp_path, rows)
    source = pa.table(
        {"k": [1, 2, 3, 4], "x": [1.4, 1.4, 1.4, 1.4], "n": [10, 11, 10, 10], "s": ["a", "b", "a", "a"]}
    )
    close = source.slice(0, 1)
    assert place.upsert(close, ("k",), when_exists="error", min_delta=0.5) == (0, 0, 0)
    with pytest.raises(
        PlanError,
        match=r"1 row already in t with different values: k=2 \(n: 10 in the table, 11 in the source; s:",
    ):
        place.upsert(source.slice(0, 2), ("k",), when_exists="error", min_delta=0.5)
    assert place.upsert(source, ("k",), when_exists="overwrite", min_delta=0.5) == (3, 1, 0)
    found = place.table.read().sort_by("k").to_pydict()
    assert found == {
        "k": [1, 2, 3, 4],
        "x": [1.0, 1.0, 1.4, 1.4],
        "n": [10, 11, 10, 10],
        "s": ["a", "b", "a", "a"],
    }


def test_a_column_called_as_an_answer_is_one_of_the_table(tmp_path: Path) -> None:
    place = Place(tmp_path, pa.table({"k": [1], UNKNOWN: [False]}))
    assert place.upsert([{"k": 2, UNKNOWN: True}], ("k",)) == (1, 0, 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pa.scalar(1_000_000_001, pa.timestamp("ns", "UTC")), "1970-01-01 00:00:01.000000001Z"),
        (pa.scalar(7, pa.duration("ns")), "7"),
        (pa.scalar(None, pa.timestamp("ns")), "None"),
        (pa.scalar("it's"), '"it\'s"'),
    ],
)
def test_values_are_spelled(value: pa.Scalar, text: str) -> None:
    assert format_value(value) == text


# A plain model: a table is a list of rows, and a policy a function of two cells.

RULES: dict[str, str] = {"n": "max", "low": "min", "tags": "union", "note": "coalesce", "more": "union"}
COLUMNS = pa.schema(
    [
        ("k", pa.int64()),
        ("n", pa.float64()),
        ("low", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("note", pa.struct({"a": pa.int8()})),
        ("more", pa.large_list(pa.struct({"a": pa.float32()}))),
        ("plain", pa.int16()),
    ]
)
ITEMS = st.none() | st.fixed_dictionaries({"a": st.sampled_from([None, 0.0, 1.0, NAN])})
CELLS = {
    "n": st.none() | st.sampled_from([0.0, 1.0, 1.25, NAN, math.inf, -1.0]),
    "low": st.none() | st.sampled_from(["", "a", "b", "B"]),
    "tags": st.none() | st.lists(st.none() | st.sampled_from(["a", "b", "c"]), max_size=4),
    "note": st.none() | st.fixed_dictionaries({"a": st.none() | st.integers(0, 2)}),
    "more": st.none() | st.lists(ITEMS, max_size=3),
    "plain": st.none() | st.integers(0, 3),
}
ROW = st.fixed_dictionaries({"k": st.integers(0, 8), **CELLS}).map(
    lambda row: {n: row[n] for n in COLUMNS.names}
)
UNIQUE = st.lists(ROW, max_size=8, unique_by=lambda row: row["k"])


def extend(rule: str | None, old: Any, new: Any) -> Any:
    """What a rule makes of a cell, said in Python."""
    if rule is None or new is None:
        return old
    if old is None:
        return unioned([], new) if rule == "union" else new
    if rule == "coalesce":
        return old
    if rule == "union":
        return unioned(old, new)
    known = [value for value in (old, new) if value == value]
    return old if not known else max(known) if rule == "max" else min(known)


def unioned(old: list[Any], new: list[Any]) -> list[Any]:
    found = list(old)
    for item in new:
        if repr(item) not in map(repr, found):
            found.append(item)
    return found


def modelled(
    table: list[dict], source: list[dict], how: str, rules: dict[str, str]
) -> tuple[list[dict], int]:
    given, changed, found = {row["k"]: row for row in source}, 0, []
    for row in table:
        new = given.pop(row["k"], row)
        if how == "keep":
            new = row
        elif how == "extend":
            new = {name: extend(rules.get(name), row[name], new[name]) for name in row}
        changed += repr(new) != repr(row)
        found.append(new)
    return found + list(given.values()), changed + len(given)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    table=UNIQUE,
    source=UNIQUE,
    how=st.sampled_from(["overwrite", "keep", "extend", "extend"]),
    rules=st.sets(st.sampled_from(sorted(RULES)), min_size=1),
    stable=st.booleans(),
    nulls=st.integers(0, 2),
)
def test_an_upsert_does_what_a_model_does(table, source, how, rules, stable, nulls):
    chosen = {name: RULES[name] for name in rules}
    unmatched = [dict.fromkeys(COLUMNS.names)] * nulls
    wanted, changed = modelled(table, source, how, chosen)
    with TemporaryDirectory() as folder:
        rows = pa.Table.from_pylist(table + unmatched, schema=COLUMNS)
        place = Place(folder, rows, stable=stable, file=3)
        given = pa.Table.from_pylist(source, schema=COLUMNS)
        extending = chosen if how == "extend" else None
        counts = place.upsert(given, ("k",), when_exists=how, extend=extending)
        assert counts == ((changed, len(source) - changed, 0) if changed else (0, 0, 0))
        found = place.table.read()
        assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, wanted + unmatched))
        found.validate(full=True)
        # Once more is nothing.
        again = decide_upsert(
            UpsertRows(table="t", rows=given, on=("k",), when_exists=how, extend=extending), place.table
        )
        assert again.rows.num_rows == 0
