"""What a step says it did is what a count would say; a run encodes its plan once."""

from pathlib import Path
from typing import Any

import lance
import pytest
from lab import Lab
from servers import Place

from lancemig.commands import upgrade
from lancemig.plan.plan import Plan

START = """
CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64", "name: string"],
    rows=[{"id": n, "x": float(n) if n % 4 else None, "name": f"row {n}"} for n in range(20)])
"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    lab.append("t", [{"id": n, "x": float(n), "name": None} for n in range(20, 30)])
    lance.dataset(lab.dataset("t").uri).delete("id in (5, 25)")
    return lab


WHERE = [
    ('UpdateRows(table="t", set={"x": "0.0"}, where="id % 3 = 0")', 10, 10),
    ('UpdateRows(table="t", set={"x": "0.0"}, where="x > 10")', 16, 0),
    ('UpdateRows(table="t", set={"x": "0.0"}, where="X > 10")', 16, 0),
    ('UpdateRows(table="t", set={"x": "1.0"}, where="x is null")', 5, 0),
    ('UpdateRows(table="t", set={"x": "0.0", "id": "id"}, where="name is null and id > 100")', 0, 0),
    ('BackfillColumns(table="t", columns=("x",), reads=("id",), using=tenfold, where="id < 8")', 7, 7),
    ('DeleteRows(table="t", where="id >= 20 or x is null")', 14, 0),
    ('DeleteRows(table="t", where="id < 0")', 0, 0),
]
TENFOLD = (
    "def tenfold(batch: pa.RecordBatch) -> pa.Array:\n    return pc.multiply(batch.column('id'), 10.0)\n"
)


@pytest.mark.parametrize(("operation", "before", "after"), WHERE)
def test_matched_rows_are_told(lab: Lab, operation: str, before: int, after: int) -> None:
    lab.revision(operation, above=TENFOLD)
    [done] = lab.upgrade().steps
    assert (done.matched_before, done.matched_after) == (before, after)


def test_rows_that_somebody_added_meanwhile_are_counted(lab: Lab) -> None:
    lab.revision('DeleteRows(table="t", where="id >= 20")')
    catalog = lab.catalog()
    commit = catalog.store.tables.commit

    def late(*arguments: Any) -> int:
        lab.append("t", [{"id": 99}])
        return commit(*arguments)

    catalog.store.tables.commit = late  # type: ignore[method-assign]
    prepared = upgrade.prepare(catalog, "head", "up")
    [done] = upgrade.apply_prepared(catalog, prepared).steps
    assert (done.matched_before, done.matched_after) == (9, 1)


SQL = [
    ("y: float64", "x / 2.0", 23, lambda row: None if row["x"] is None else row["x"] / 2),
    ("y: float64", "x / 2.0 -- half of it", 23, lambda row: None if row["x"] is None else row["x"] / 2),
    ("y: bool", "x > 10", 23, lambda row: None if row["x"] is None else row["x"] > 10),
    ("y: int64", "id / (id - 5)", 28, lambda row: int(row["id"] / (row["id"] - 5))),
    ("y: int32", "id * 2", 28, lambda row: row["id"] * 2),
    ("y: float64", "cast(null as double)", 0, lambda _: None),
    ("y: string", "concat(name, '!')", 28, lambda row: f"{row['name'] or ''}!"),
]


@pytest.mark.parametrize(("column", "sql", "changed", "value"), SQL)
def test_a_column_by_sql_is_counted(lab: Lab, column: str, sql: str, changed: int, value: Any) -> None:
    lab.revision(f'AddColumn(table="t", column="{column}", sql="{sql}")')
    [done] = lab.upgrade().steps
    assert [row["y"] for row in lab.rows("t")] == [value(row) for row in lab.rows("t")]
    assert (done.changed, done.skipped) == (changed, 28 - changed)


def test_the_plan_of_a_run_is_encoded_once_however_many_steps_it_has(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision('CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}])')
    for number in range(12):
        lab.revision(f'SetMetadata(table="t", metadata={{"note": "n{number}"}})')
    catalog = lab.catalog()
    prepared = upgrade.prepare(catalog, "head", "up")
    encoded: list[Plan] = []
    document = Plan.document
    monkeypatch.setattr(Plan, "document", lambda plan: (encoded.append(plan), document(plan))[1])
    upgrade.apply_prepared(catalog, prepared)
    assert len(encoded) == 1
