"""Rows that come while a table with upserted rows is staged: each is met by its whole key, and comes once."""

from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.commands import pointing

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
    pointing.flip(lab.catalog(), None)
    found = sorted((row["at"], row["y"]) for row in lab.rows("t"))
    assert found == [(1, 5.0), (2, 5.0), (3, 5.0), (9, 9.0)]
