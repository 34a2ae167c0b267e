"""Rows that come while a table with upserted rows is staged: each is met by its whole key, and comes once."""

from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.commands import flip

START = """
    CreateTable(table="t", {key} schema=["robot: int32", "at: int32", "x: float64"],
                rows=[{{"robot": 1, "at": 1, "x": 1.0}}]),
"""
UPSERT = """
    UpsertRows(table="t", on=("robot", "at"), when_exists="extend", extend={"x": "max"}, max_rows=3,
               rows=[{"robot": 1, "at": 1, "x": 5.0}, {"robot": 1, "at": 2, "x": 5.0},
                     {"robot": 1, "at": 3, "x": 5.0}, {"robot": 1, "at": 4, "x": 1.0, "__unknown__": True}]),
    RenameColumn(table="t", column="x", to="y"),
"""


@pytest.mark.parametrize("key", ["", 'key=("robot", "at"),'], ids=["no key", "key"])
def test_late_rows_of_the_same_robot_bring_no_other_rows_along(
    tmp_path: Path, local_place: Place, key: str
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START.format(key=key))
    lab.upgrade()
    lab.revision(UPSERT)
    lab.upgrade(no_flip=True)
    lab.append("t", [{"robot": 1, "at": 9, "x": 9.0}])
    flip.flip(lab.catalog(), None)
    found = sorted((row["at"], row["y"]) for row in lab.rows("t"))
    assert found == [(1, 5.0), (2, 5.0), (3, 5.0), (9, 9.0)]


LATE = {2: (9.0, 9.0), 3: (2.0, 5.0)}
"""A late row's x, and what it and the row that the upsert had put there come to."""


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside an update"])
def test_a_late_row_meets_the_row_that_the_upsert_had_put_there(
    tmp_path: Path, local_place: Place, beside: bool
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START.format(key='key=("robot", "at"),'))
    lab.upgrade()
    lab.revision(UPSERT)
    lab.upgrade(no_flip=True)
    lab.append("t", [{"robot": 1, "at": at, "x": x} for at, (x, _) in LATE.items()])
    if beside:
        lab.dataset("t").update({"x": "4.0"}, where="at = 1")
    flip.flip(lab.catalog(), None)
    found = sorted((row["at"], row["y"]) for row in lab.rows("t"))
    assert found == [(1, 5.0), *((at, y) for at, (_, y) in LATE.items())]


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside an update"])
def test_a_late_row_is_not_undone_by_one_that_a_downgrade_puts_back(
    tmp_path: Path, local_place: Place, beside: bool
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START.format(key='key=("robot", "at"),'))
    lab.revision('DeleteRows(table="t", where="at = 1")')
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    lab.upgrade()
    lab.append("t", [{"robot": 1, "at": 3, "y": 3.0}])
    lab.downgrade("0001", no_flip=True)
    lab.append("t", [{"robot": 1, "at": 1, "y": 7.0}])
    if beside:
        lab.dataset("t").update({"y": "4.0"}, where="at = 3")
    flip.flip(lab.catalog(), None)
    found = sorted((row["at"], row["x"]) for row in lab.rows("t"))
    assert found == [(1, 7.0), (3, 4.0 if beside else 3.0)]
