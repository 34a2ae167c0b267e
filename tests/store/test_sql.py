"""SQL as people write it: the answers are those of DuckDB; the exceptions are listed."""

import datetime as dt
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

from lancemig.commands import upgrade
from lancemig.errors import PlanError
from lancemig.store.lance.sql import accepted

DAYS = [dt.datetime(2025, 1, day) for day in (9, 10, 11)]
ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3, None], pa.int64()),
        "small": pa.array([1, 2, 3, None], pa.int32()),
        "tiny": pa.array([1, 2, 3, None], pa.uint8()),
        "x": pa.array([0.5, 1.5, 2.5, None], pa.float64()),
        "f": pa.array([0.5, 1.5, 2.5, None], pa.float32()),
        "price": pa.array([1, 2, 3, None], pa.decimal128(10, 2)),
        "s": pa.array(["a", "b", "it's", None]),
        "flag": pa.array([True, False, True, None]),
        "ts": pa.array([*DAYS, None], pa.timestamp("us")),
        "utc": pa.array(
            [dt.datetime(2025, 1, day) for day in (9, 10, 11)] + [None], pa.timestamp("us", "UTC")
        ),
        "day": pa.array([*(moment.date() for moment in DAYS), None]),
    }
)
AS_WRITTEN = ["id + x", "small * f", "s || 'x'", "id > 1 and x < 2", "not flag", "id % 2",
              "f > 0.1", "coalesce(x, 0.0)", "s = 'it''s'", "ts is null", "id in (1, 2)",
    "flag is true"]  # fmt: skip
EXPRESSIONS = [
    "id / 2.0", "id * 1.5", "1.5 + id", "id - 0.5", "small * 1.5", "small / 60000.0", "tiny * 1.5",
    "id + 1e3",
    "price * 1.5", "price > 1.5", "id % 2 = 1.0", "id > 1.5", "id = 2.0", "id <> 2.0",
    "id between 1.5 and 2.5",
    "id in (1.0, 2.0)", "id >= -1.5", "tiny = 300", "small > 3000000000", "id = '2'", "id in ('1', '3')",
    "x > '1.0'", "flag = 'true'", "flag = 1", "ts > '2025-01-10'", "ts >= '2025-01-09 12:00:00'",
    "ts between '2025-01-01' and '2025-01-10'", "ts in ('2025-01-09', '2025-01-11')", "'2025-01-10' < ts",
    "utc > '2025-01-10'", "utc > '2025-01-10T00:00:00Z'", "utc <= '2025-01-10T02:00:00+02:00'",
    "day > '2025-01-10'", "day = '2025-01-10'", "ts + interval '1 day'", "ts - interval '36 hours'",
    "ts + interval 1 day > '2025-01-10'", "extract(year from ts)", "extract(day from day) * 1.5",
    "id > 1 and ts < '2025-01-11' or s = 'it''s'", "not (id * 1.5 > 4 and flag)", "id * 1.5 is null",
    "s = 'it''s' and id > 0.5", "(id + 0.5) * 2 > 4", "`id` * 1.5", "id * 1.5 + small * 0.5",
]  # fmt: skip
DIFFERENT = {
    "id / 2": ([0, 1, 1, None], [0.5, 1.0, 1.5, None]),
    "small + 2147483647": ([-2147483648, -2147483647, -2147483646, None], "error"),
    "id / 0": ("error", [inf, inf, inf, None]),
    'x = "x"': ("error", [True, True, True, None]),
}
"""The answers of Lance and of DuckDB; docs/sql.md explains them."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> lance.LanceDataset:
    return lance.write_dataset(ROWS, tmp_path_factory.mktemp("sql") / "t.lance")


def by_duckdb(sql: str) -> list[Any]:
    with duckdb.connect() as session:
        session.execute("set timezone = 'UTC'")
        session.register("rows", ROWS)
        sql = sql.replace("`", '"')
        return [plain(row[0]) for row in session.execute(f"select {sql} from rows").fetchall()]


def by_lance(dataset: lance.LanceDataset, sql: str) -> list[Any]:
    found = dataset.to_table(columns={"found": sql, "": "id"}, scan_in_order=True)["found"].to_pylist()
    return [plain(value) for value in found]


def plain(value: Any) -> Any:
    value = float(value) if isinstance(value, Decimal) else value
    return value.replace(tzinfo=None) if isinstance(value, dt.datetime) else value


@pytest.mark.parametrize("sql", AS_WRITTEN)
def test_what_lance_takes_stays_as_it_is(dataset: lance.LanceDataset, sql: str) -> None:
    assert accepted(sql, dataset) == sql
    assert by_lance(dataset, sql) == pytest.approx(by_duckdb(sql), nan_ok=True)


@pytest.mark.parametrize("sql", EXPRESSIONS)
def test_the_answers_are_those_of_duckdb(dataset: lance.LanceDataset, sql: str) -> None:
    assert by_lance(dataset, accepted(sql, dataset)) == by_duckdb(sql)


@pytest.mark.parametrize(
    ("sql", "rewritten"),
    [
        ("id / 2.0", "id / CAST(2.0 AS DOUBLE)"),
        ("ts > '2025-01-10'", "ts > CAST('2025-01-10' AS TIMESTAMP)"),
        ("`day` = '2025-01-10'", "`day` = CAST('2025-01-10' AS DATE)"),
        ("ts + interval '1 day'", "ts + ARROW_CAST('1 day', 'Interval(MonthDayNano)')"),
        ("extract(year from ts)", "DATE_PART('year', ts)"),
    ],
)
def test_the_form_that_lance_gets(dataset: lance.LanceDataset, sql: str, rewritten: str) -> None:
    with pytest.raises((OSError, ValueError)):
        by_lance(dataset, sql)
    assert accepted(sql, dataset) == rewritten


@pytest.mark.parametrize("sql", DIFFERENT)
def test_differences_from_duckdb(dataset: lance.LanceDataset, sql: str) -> None:
    for expected, answer in zip(
        DIFFERENT[sql],
        (lambda: by_lance(dataset, accepted(sql, dataset)), lambda: by_duckdb(sql)),
        strict=True,
    ):
        if expected == "error":
            with pytest.raises((OSError, ValueError, duckdb.Error)):
                answer()
        else:
            assert answer() == expected


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("case when id > 1 then 1.5 else 0 end", ["columns: id int64", "Lance has no CASE"]),
        ("id + s", ["columns: id int64, s string", "docs/sql.md"]),
        ("nope * 1.5", ["nope"]),
        ("ts > 'yesterday'", ["ts timestamp[us]"]),
    ],
)
def test_what_cannot_be_taken_is_refused_with_the_types(
    tmp_path: Path, local_place: Place, sql: str, says: list[str]
) -> None:
    lab = started(tmp_path, local_place)
    lab.revision(f'UpdateRows(table="t", set={{"x": {sql!r}}})')
    with pytest.raises(PlanError) as refused:
        upgrade.prepare(lab.catalog(), "head", "up")
    text = f"{refused.value.message} {refused.value.next_step}"
    assert all(part in text for part in says)


def started(folder: Path, place: Place) -> Lab:
    lab = Lab(folder / "lab", place)
    lab.revision('CreateTable(table="t", schema="n: int64")')
    lab.upgrade()
    lance.write_dataset(ROWS, lab.dataset("t").uri, mode="overwrite")
    return lab


OPERATIONS = {
    "set": ('UpdateRows(table="t", set={"x": "id / 4.0"})', "select id / 4.0 from rows"),
    "where": (
        """UpdateRows(table="t", set={"x": "0.25"}, where="ts > '2025-01-10'")""",
        "select case when ts > '2025-01-10' then 0.25 else x end from rows",
    ),
    "unknown": (
        """UpdateRows(table="t", set={"x": "id * 0.5"}, unknown="day = '2025-01-10'")""",
        "select case when day = '2025-01-10' then x else id * 0.5 end from rows",
    ),
    "delete": (
        """DeleteRows(table="t", where="id > 2.5")""",
        "select x from rows where not coalesce(id > 2.5, false)",
    ),
    "add": (
        """AddColumn(table="t", column="y: float64", sql="small / 3.0"),
           UpdateRows(table="t", set={"x": "y"})""",
        "select small / 3.0 from rows",
    ),
    "using": (
        """RetypeColumn(table="t", column="small", to="float64", using="small / 3.0")""",
        "select small / 3.0 from rows",
    ),
}


@pytest.mark.parametrize("staged", [False, True], ids=["in place", "staged"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_take_it(tmp_path: Path, local_place: Place, name: str, staged: bool) -> None:
    operation, expected = OPERATIONS[name]
    lab = started(tmp_path, local_place)
    lab.revision(operation + (', RenameColumn(table="t", column="flag", to="marked")' if staged else ""))
    steps = [step for m in upgrade.prepare(lab.catalog(), "head", "up").plan.migrations for step in m.steps]
    assert any("evaluated as" in note and " which is " in note for step in steps for note in step.notes)
    lab.upgrade()
    with duckdb.connect() as session:
        session.register("rows", ROWS)
        wanted = [plain(row[0]) for row in session.execute(expected).fetchall()]
    column = "small" if name == "using" else "x"
    assert lab.dataset("t").to_table(scan_in_order=True)[column].to_pylist() == pytest.approx(
        wanted, nan_ok=True
    )
