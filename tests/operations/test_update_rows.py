"""UpdateRows: SQL sets columns of the rows that match; nothing else is touched."""

from typing import Any

import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import BrakeTripped, PlanError

START = """
CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64", "n: int32", "s: string",
    "info: struct<serial: string, port: int32>"],
    rows=[{"id": 1, "x": 1.5, "n": 10, "s": "a", "info": {"serial": "A1", "port": 1}},
          {"id": 2, "x": None, "n": None, "s": None, "info": None},
          {"id": 3, "x": float("nan"), "n": 30, "s": "c", "info": {"serial": None, "port": 3}}])
"""
KEYLESS = START.replace('key=("id",), ', "")
STABLE = (KEYLESS, 'RewriteTable(table="t", stable_row_ids=True)')

NAN = float("nan")
ONE = {"id": 1, "x": 1.5, "n": 10, "s": "a", "info": {"serial": "A1", "port": 1}}
TWO = {"id": 2, "x": None, "n": None, "s": None, "info": None}
THREE = {"id": 3, "x": NAN, "n": 30, "s": "c", "info": {"serial": None, "port": 3}}


def scattered(lab: Lab) -> None:
    """Rows in three fragments, one of them with a deletion."""
    lab.append("t", [{"id": 4, "n": 40}, {"id": 5, "n": 50}])
    lab.append("t", [{"id": 6, "n": 60}])
    lab.dataset("t").delete("id = 4")


FOUR_FRAGMENTS = [ONE, TWO, THREE] + [{**TWO, "id": i, "n": n} for i, n in ((5, 50), (6, 60))]


def no_new_version(lab: Lab) -> None:
    assert lab.dataset("t").version == 1


def nothing_but_x_is_written(lab: Lab) -> None:
    added = {file for f in lab.dataset("t").get_fragments() for file in f.metadata.files[-1].fields}
    assert added == {lab.dataset("t").lance_schema.field("x").id()}


def renamed(row: dict[str, Any]) -> dict[str, Any]:
    return {"m" if name == "n" else name: value for name, value in row.items()}


def row_ids_are_stable(lab: Lab) -> None:
    assert lab.dataset("t").has_stable_row_ids


CASES = [
    Case(
        "one column in the rows that match",
        start=START,
        do='UpdateRows(table="t", set={"x": "x * 2"}, where="id = 1")',
        then={"t": [{**ONE, "x": 3.0}, TWO, THREE]},
        changed=1,
        look=nothing_but_x_is_written,
        everywhere=True,
    ),
    Case(
        "several columns from each other's old values",
        start=START,
        do='UpdateRows(table="t", set={"x": "n", "n": "id", "s": "concat(s, \'!\')"})',
        then={
            "t": [
                {**ONE, "x": 10.0, "n": 1, "s": "a!"},
                {**TWO, "n": 2, "s": "!"},
                {**THREE, "x": 30.0, "n": 3, "s": "c!"},
            ]
        },
        changed=3,
    ),
    Case(
        "a struct's field",
        start=START,
        do='UpdateRows(table="t", set={"info.serial": "\'S\'"})',
        then={
            "t": [
                {**ONE, "info": {"serial": "S", "port": 1}},
                TWO,
                {**THREE, "info": {"serial": "S", "port": 3}},
            ]
        },
        changed=2,
    ),
    Case(
        "a struct's field, twice over",
        start=START,
        do='UpdateRows(table="t", set={"info.serial": "upper(s)", "info.port": "info.port + 1"}, '
        'where="info.port > 1")',
        then={"t": [ONE, TWO, {**THREE, "info": {"serial": "C", "port": 4}}]},
        changed=1,
    ),
    Case(
        "null as a value",
        start=START,
        do='UpdateRows(table="t", set={"x": "null", "s": "nullif(s, \'a\')", "info": "null"})',
        then={"t": [{**ONE, "x": None, "s": None, "info": None}, TWO, {**THREE, "x": None, "info": None}]},
        changed=2,
    ),
    Case(
        "a value of another type that fits",
        start=START,
        do='UpdateRows(table="t", set={"n": "2.0 * cast(id as double)", "x": "n"})',
        then={"t": [{**ONE, "n": 2, "x": 10.0}, {**TWO, "n": 4}, {**THREE, "n": 6, "x": 30.0}]},
    ),
    Case(
        "rows that have the value already are not written",
        start=START,
        do='UpdateRows(table="t", set={"x": "x", "s": "s", "info": "info", "info.port": "info.port"})',
        then={"t": [ONE, TWO, THREE]},
        changed=0,
        look=no_new_version,
    ),
    Case(
        "no row matches",
        start=START,
        do='UpdateRows(table="t", set={"x": "1"}, where="id > 99")',
        then={"t": [ONE, TWO, THREE]},
        changed=0,
        look=no_new_version,
    ),
    Case(
        "changes below min_delta are left, those from and to null or NaN are made",
        start=START,
        do='UpdateRows(table="t", set={"x": "coalesce(x, 0.0) + 0.25"}, min_delta=0.5), '
        'UpdateRows(table="t", set={"x": "7"}, where="id = 3", min_delta=0.5)',
        then={"t": [ONE, {**TWO, "x": 0.25}, {**THREE, "x": 7.0}]},
    ),
    Case(
        "a table without a key",
        start=KEYLESS,
        do='UpdateRows(table="t", set={"x": "id", "n": "n + 1"}, where="id <> 2")',
        then={"t": [{**ONE, "x": 1.0, "n": 11}, TWO, {**THREE, "x": 3.0, "n": 31}]},
    ),
    Case(
        "a table with stable row ids",
        start=STABLE,
        do='UpdateRows(table="t", set={"x": "id", "n": "n + 1"}, where="id <> 2")',
        then={"t": [{**ONE, "x": 1.0, "n": 11}, TWO, {**THREE, "x": 3.0, "n": 31}]},
        look=row_ids_are_stable,
    ),
    Case(
        "several fragments with deletions",
        start=START,
        before=scattered,
        do='UpdateRows(table="t", set={"n": "id"}, where="id >= 3")',
        then={"t": [ONE, TWO, {**THREE, "n": 3}, *({**TWO, "id": i, "n": i} for i in (5, 6))]},
        changed=3,
    ),
    Case(
        "several fragments with deletions and no key",
        start=KEYLESS,
        before=scattered,
        do='UpdateRows(table="t", set={"n": "id"}, where="id >= 3")',
        then={"t": [ONE, TWO, {**THREE, "n": 3}, *({**TWO, "id": i, "n": i} for i in (5, 6))]},
        changed=3,
    ),
    Case(
        "an empty table",
        start='CreateTable(table="t", schema="id: int64\\nx: float64")',
        do='UpdateRows(table="t", set={"x": "1"})',
        then={"t": []},
        changed=0,
    ),
    Case(
        "columns whose names need quoting",
        start='CreateTable(table="t", schema={"my id": "int64", "Order": "string", "a-b": "int8"}, '
        'rows=[{"my id": 1, "Order": "x", "a-b": 3}], key=("my id",))',
        do='UpdateRows(table="t", set={"Order": "\'y\'", "a-b": "`a-b` + 1"}, where="`my id` = 1")',
        then={"t": [{"my id": 1, "Order": "y", "a-b": 4}]},
    ),
    Case(
        "two operations on one cell",
        start=START,
        do='UpdateRows(table="t", set={"n": "n + 1"}), UpdateRows(table="t", set={"n": "n * 2"})',
        then={"t": [{**ONE, "n": 22}, TWO, {**THREE, "n": 62}]},
        changed=4,
    ),
    Case(
        "a column that the same revision renamed",
        start=START,
        do='RenameColumn(table="t", column="n", to="m"), '
        'UpdateRows(table="t", set={"m": "1"}, where="m = 10")',
        then={"t": [renamed({**ONE, "n": 1}), renamed(TWO), renamed(THREE)]},
    ),
    Case(
        "a column that the same revision added",
        start='CreateTable(table="t", schema="id: int64", rows=[{"id": 1}, {"id": 2}])',
        do='AddColumn(table="t", column="y: int8"), '
        'UpdateRows(table="t", set={"y": "id"}, where="y is null")',
        then={"t": [{"id": 1, "y": 1}, {"id": 2, "y": 2}]},
    ),
    Case(
        "in a staged root, beside a rebuild",
        start=START,
        do='RenameColumn(table="t", column="n", to="m"), UpdateRows(table="t", set={"m": "m + 1"})',
        then={"t": [renamed({**ONE, "n": 11}), renamed(TWO), renamed({**THREE, "n": 31})]},
    ),
]


REFUSALS = [
    Refusal(
        "more rows than max_rows",
        start=START,
        do='UpdateRows(table="t", set={"n": "id"}, max_rows=2)',
        error=BrakeTripped,
        says=["3 rows would change", "max_rows is 2"],
        plan=False,
    ),
    Refusal(
        "an unknown column",
        start=START,
        do='UpdateRows(table="t", set={"y": "1"})',
        error=PlanError,
        says=["no column 'y'", "id, x, n, s, info", "0002, operation 1"],
    ),
    Refusal(
        "an unknown field of a struct",
        start=START,
        do='UpdateRows(table="t", set={"info.name": "1"})',
        error=PlanError,
        says=["no column 'info.name'", "serial, port"],
    ),
    Refusal(
        "an unknown table",
        start=START,
        do='UpdateRows(table="u", set={"x": "1"})',
        error=PlanError,
        says=["table 'u' does not exist; tables: t"],
    ),
    Refusal(
        "SQL that names no column",
        start=START,
        do='UpdateRows(table="t", set={"x": "speed"})',
        error=PlanError,
        says=["No field named speed"],
    ),
    Refusal(
        "SQL that is none",
        start=START,
        do='UpdateRows(table="t", set={"x": "x +"})',
        error=PlanError,
        says=["x +"],
    ),
    Refusal(
        "a where that is no condition",
        start=START,
        do='UpdateRows(table="t", set={"x": "1"}, where="id + 1")',
        error=PlanError,
        says=["id + 1"],
    ),
    Refusal(
        "a type that can never fit",
        start=START,
        do='UpdateRows(table="t", set={"info": "id"})',
        error=PlanError,
        says=["t.info is struct", "int64"],
    ),
    Refusal(
        "a value that does not fit",
        start=START,
        do='UpdateRows(table="t", set={"n": "cast(id as double) + 0.5"})',
        error=PlanError,
        says=["t.n does not fit int32"],
        plan=False,
    ),
    Refusal(
        "null in a required column",
        start=START + ', RequireColumn(table="t", column="id")',
        do='UpdateRows(table="t", set={"id": "nullif(id, 1)"})',
        error=PlanError,
        says=["t.id is not nullable"],
        plan=False,
    ),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_update_rows(run, case):
    run(case)
