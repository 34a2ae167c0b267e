"""SetKey: what identifies a row, for a table that was made without a key."""

from pathlib import Path

import lance
import pytest
from lab import Lab
from servers import Place
from there_and_back import Case, Refusal, refused, there_and_back

from lancemig.commands import flip
from lancemig.errors import PlanError

START = """CreateTable(table="t", schema={"id": "int64", "host": "string", "x": "float64"}, rows=[
    {"id": 1, "host": "a", "x": 1.0}, {"id": 2, "host": "a", "x": None}, {"id": 2, "host": "b", "x": 1.0}])"""
ROWS = {
    "t": [
        {"id": 1, "host": "a", "x": 1.0},
        {"id": 2, "host": "a", "x": None},
        {"id": 2, "host": "b", "x": 1.0},
    ]
}


def keyed(*names: str):
    def look(lab: Lab) -> None:
        assert lab.catalog().store.tables.open(lab.root, "t").schema().key == names

    return look


CASES = [
    Case(
        "a key of two columns",
        start=START,
        do='SetKey(table="t", key=("id", "host"))',
        then=ROWS,
        look=keyed("id", "host"),
        everywhere=True,
    ),
    Case(
        "a key forgotten",
        start=(START, 'SetKey(table="t", key=("id", "host"))'),
        do='SetKey(table="t", key=())',
        then=ROWS,
        look=keyed(),
    ),
]

REFUSALS = [
    Refusal(
        "keys that repeat",
        start=START,
        do='SetKey(table="t", key=("id",))',
        error=PlanError,
        says=["table 't' cannot have the key id: 1 key occurs more than once, for example id=2 (2 rows)"],
        plan=False,
    ),
    Refusal(
        "keys that are null",
        start=START,
        do='SetKey(table="t", key=("x",))',
        error=PlanError,
        says=["x is null in 1 row"],
        plan=False,
    ),
    Refusal(
        "an unknown column",
        start=START,
        do='SetKey(table="t", key=("nope",))',
        error=PlanError,
        says=["'nope' does not exist"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_key_is_set_and_taken_back(tmp_path: Path, local_place: Place, case: Case) -> None:
    there_and_back(tmp_path, local_place, case)


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_a_key_that_identifies_nothing_is_refused(
    tmp_path: Path, local_place: Place, refusal: Refusal
) -> None:
    refused(tmp_path, local_place, refusal)


def test_a_table_of_lancedb_is_followed_by_key_from_then_on(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.revision('SetKey(table="t", key=("id", "host"))')
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    lab.upgrade("0002")
    lab.upgrade(no_flip=True)
    dataset: lance.LanceDataset = lab.dataset("t")
    dataset.update({"x": "7.0"}, where="id = 1")
    catalog = lab.catalog()

    flip.flip(catalog, None)
    assert lab.rows("t")[0] == {"id": 1, "host": "a", "y": 7.0}
