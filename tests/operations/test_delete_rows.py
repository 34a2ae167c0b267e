"""DeleteRows: the rows that match go, and come back."""

import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import PlanError

START = """
CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64", "v: fixed_size_list<float32>[2]"],
    rows=[{"id": 1, "x": 1.5, "v": [1, 2]}, {"id": 2}, {"id": 3, "x": float("nan"), "v": [3, None]}])
"""
KEYLESS = START.replace('key=("id",), ', "")
ONE = {"id": 1, "x": 1.5, "v": [1.0, 2.0]}
TWO = {"id": 2, "x": None, "v": None}
THREE = {"id": 3, "x": float("nan"), "v": [3.0, None]}


def delete(where: str) -> str:
    return f'DeleteRows(table="t", where="{where}")'


def two_fragments(lab: Lab) -> None:
    lab.append("t", [{"id": 4, "x": 4.0}, {"id": 5, "x": 5.0}])


def one_fragment(lab: Lab) -> None:
    assert len(lab.dataset("t").get_fragments()) == 1


FOUR, FIVE = ({"id": i, "x": float(i), "v": None} for i in (4, 5))

CASES = [
    Case("some", start=START, do=delete("id > 1"), then={"t": [ONE]}, changed=2, everywhere=True),
    Case("all", start=START, do=delete("true"), then={"t": []}, changed=3),
    Case("none", start=START, do=delete("id > 9"), then={"t": [ONE, TWO, THREE]}, changed=0),
    Case("where null", start=START, do=delete("x is null"), then={"t": [ONE, THREE]}, changed=1),
    Case("without a key", start=KEYLESS, do=delete("id = 1"), then={"t": [TWO, THREE]}),
    Case(
        "with stable row ids",
        start=(KEYLESS, 'RewriteTable(table="t", stable_row_ids=True)'),
        do=delete("id = 1"),
        then={"t": [TWO, THREE]},
    ),
    Case(
        "a whole fragment",
        start=START,
        before=two_fragments,
        do=delete("id > 3"),
        then={"t": [ONE, TWO, THREE]},
        look=one_fragment,
    ),
    Case(
        "parts of two fragments, twice",
        start=START,
        before=two_fragments,
        do=delete("id in (1, 4)") + ", " + delete("id = 2"),
        then={"t": [THREE, FIVE]},
        changed=3,
    ),
    Case(
        "an empty table",
        start='CreateTable(table="t", schema="id: int64")',
        do=delete("id = 1"),
        then={"t": []},
    ),
    Case(
        "in a staged root",
        start=START,
        do='RenameColumn(table="t", column="x", to="y"), ' + delete("y = 1.5"),
        then={"t": [{"id": 2, "y": None, "v": None}, {"id": 3, "y": float("nan"), "v": [3.0, None]}]},
    ),
]

REFUSALS = [
    Refusal("SQL that is none", start=START, do=delete("id ="), error=PlanError, says=["id ="]),
    Refusal("an unknown column", start=START, do=delete("z = 1"), error=PlanError, says=["No field named z"]),
    Refusal("no condition", start=START, do=delete("id + 1"), error=PlanError, says=["id + 1"]),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_delete_rows(run, case):
    run(case)
