"""CreateTable: a new table with a schema, a key and rows from a source."""

import pytest
from there_and_back import Case, Refusal

from lancemig.errors import PlanError, ScriptError

OTHER = 'CreateTable(table="other", schema="id: int64", rows=[{"id": 1}])'
ROWS = [{"id": 1, "x": 0.5}, {"id": 2, "x": None}]
COLUMNS = ["id: int64", "x: float64"]


def create(rows: str, more: str = "") -> str:
    return f'CreateTable(table="t", schema=["id: int64", "x: float64"], rows={rows}{more})'


CASES = [
    Case("empty", start=OTHER, do=create("None"), then={"t": []}, columns={"t": COLUMNS}),
    Case("in an empty catalog", do=create("[]"), then={"t": []}, columns={"t": COLUMNS}),
    Case(
        "rows as mappings, with a key",
        start=OTHER,
        do=create('[{"id": 1, "x": 0.5}, {"id": 2}]', ', key=("id",)'),
        then={"t": ROWS, "other": [{"id": 1}]},
        changed=2,
        everywhere=True,
    ),
    Case(
        "an Arrow table, its columns in another order and narrower",
        do=create('pa.table({"x": pa.array([0.5, None], pa.float32()), "id": pa.array([1, 2], pa.int8())})'),
        then={"t": ROWS},
    ),
    Case("a record batch", do=create('pa.record_batch({"id": [1, 2], "x": [0.5, None]})'), then={"t": ROWS}),
    Case(
        "a reader",
        do=create('pa.table({"id": [1, 2], "x": [0.5, None]}).to_reader()'),
        then={"t": ROWS},
    ),
    Case(
        "a dataset",
        above="""
        import pyarrow.dataset

        SOURCE = pyarrow.dataset.dataset(pa.table({"id": [1, 2], "x": [0.5, None]}))
        """,
        do=create("SOURCE"),
        then={"t": ROWS},
    ),
    Case(
        "a generator",
        above="""
        def rows():
            for number in range(1, 3):
                yield pa.record_batch({"id": [number], "x": [0.5 if number == 1 else None]})
        """,
        do=create("rows"),
        then={"t": ROWS},
    ),
    Case(
        "a function that returns rows at once",
        above='def rows():\n    return [{"id": 1, "x": 0.5}, {"id": 2}]\n',
        do=create("rows"),
        then={"t": ROWS},
    ),
    Case(
        "a LanceModel",
        above="from lance_models import Embedded",
        do='CreateTable(table="t", schema=Embedded, rows=[{"id": 1, "v": [1, 2]}])',
        then={"t": [{"id": 1, "v": [1.0, 2.0], "name": None}]},
        columns={"t": ["id: int64 not null", "v: fixed_size_list<item: float32>[2]", "name: string"]},
    ),
    Case(
        "metadata of the table and of its columns",
        do='CreateTable(table="t", schema=pa.schema([pa.field("id", pa.int64(), metadata={"unit": "s"}), '
        'pa.field("p", pa.struct([pa.field("x", pa.int8(), metadata={"unit": "m"})]))], '
        'metadata={"a": "b"}))',
        then={"t": []},
    ),
    Case(
        "a table name with a period and a hyphen",
        do='CreateTable(table="ursa.rec-2", schema="id: int64", rows=[{"id": 1}])',
        then={"ursa.rec-2": [{"id": 1}]},
    ),
]

REFUSALS = [
    Refusal("it exists", start=OTHER, do=OTHER, error=PlanError, says=["table 'other' already exists"]),
    Refusal(
        "a key that is no column",
        do=create("[]", ', key=("nope",)'),
        error=PlanError,
        says=["'nope' does not exist in table 't'"],
    ),
    Refusal(
        "a column name with a period",
        do='CreateTable(table="t", schema={"a.b": "int8"})',
        error=PlanError,
        says=["'a.b'"],
    ),
    Refusal(
        "no columns", do='CreateTable(table="t", schema="")', error=PlanError, says=["at least one column"]
    ),
    Refusal(
        "a type that is none",
        do='CreateTable(table="t", schema="id: int65")',
        error=ScriptError,
        says=["int65"],
    ),
    Refusal(
        "a column that the schema lacks",
        do=create('[{"id": 1, "y": 2}]'),
        error=PlanError,
        says=["columns that the table does not have: y"],
        plan=False,
    ),
    Refusal(
        "null where none may be",
        do='CreateTable(table="t", schema="id: int64 not null", rows=[{"id": None}])',
        error=PlanError,
        says=["id"],
        plan=False,
    ),
    Refusal(
        "a value that would lose its fraction",
        do=create('pa.table({"id": [1.5]})'),
        error=PlanError,
        says=["column 'id' does not fit"],
        plan=False,
    ),
    Refusal(
        "a name with a slash",
        do='CreateTable(table="a/b", schema="id: int64")',
        error=ScriptError,
        says=["CreateTable.table"],
    ),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_create_table(run, case):
    run(case)
