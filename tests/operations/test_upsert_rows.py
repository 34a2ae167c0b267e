"""UpsertRows: new keys are inserted, known ones refused, overwritten or kept."""

import pytest
from there_and_back import Case, Refusal

from lancemig.errors import PlanError

START = """
CreateTable(table="t", key=("id",), schema=["id: string", "x: float64", "tags: list<float64>"],
    rows=[{"id": "a", "x": 1.0, "tags": [1.0, float("nan")]}, {"id": "b", "x": float("nan")}, {"id": "c"}])
"""
KEYLESS = START.replace('key=("id",), ', "")
PAIRS = """
CreateTable(table="t", key=("robot", "at"), schema=["robot: int32", "at: timestamp[ns, tz=UTC]", "x: int8"],
    rows=pa.table({"robot": pa.array([1, 1, 2], pa.int32()), "x": pa.array([1, 2, 3], pa.int8()),
                   "at": pa.array([1000000001, 1000000002, 1000000001], pa.timestamp("ns", "UTC"))}))
"""
NAN = float("nan")
A = {"id": "a", "x": 1.0, "tags": [1.0, NAN]}
B = {"id": "b", "x": NAN, "tags": None}
C = {"id": "c", "x": None, "tags": None}
SAME = '{"id": "a", "x": 1.0, "tags": [1.0, float("nan")]}, {"id": "b", "x": float("nan")}'
NEW = '{"id": "d", "x": float("nan"), "tags": [float("nan")]}'
D = {"id": "d", "x": NAN, "tags": [NAN]}


def upsert(rows: str, more: str = "", on: str = '"id"') -> str:
    return f'UpsertRows(table="t", on=({on},), rows={rows}{more})'


OVERWRITE = ', when_exists="overwrite"'
KEEP = ', when_exists="keep"'

CASES = [
    Case(
        "new rows",
        start=START,
        do=upsert(f"[{NEW}]"),
        then={"t": [A, B, C, D]},
        changed=1,
        everywhere=True,
    ),
    Case(
        "identical rows are no conflict, NaN included",
        start=START,
        do=upsert(f"[{SAME}, {NEW}]"),
        then={"t": [A, B, C, D]},
        changed=1,
    ),
    Case("nothing new at all", start=START, do=upsert(f"[{SAME}]"), then={"t": [A, B, C]}, changed=0),
    Case("no rows", start=START, do=upsert("[]"), then={"t": [A, B, C]}, changed=0),
    Case(
        "overwrite takes the source's row whole",
        start=START,
        do=upsert('[{"id": "a", "x": 7}, {"id": "d", "x": 8}]', OVERWRITE),
        then={"t": [{"id": "a", "x": 7.0, "tags": None}, B, C, {**D, "x": 8.0, "tags": None}]},
        changed=2,
    ),
    Case(
        "keep leaves known rows alone",
        start=START,
        do=upsert('[{"id": "a", "x": 7}, {"id": "d", "x": 8}]', KEEP),
        then={"t": [A, B, C, {**D, "x": 8.0, "tags": None}]},
        changed=1,
    ),
    Case(
        "a table without a key",
        start=KEYLESS,
        do=upsert(f'[{{"id": "a", "x": 7}}, {NEW}]', OVERWRITE),
        then={"t": [{"id": "a", "x": 7.0, "tags": None}, B, C, D]},
    ),
    Case(
        "stable row ids and no key",
        start=(KEYLESS, 'RewriteTable(table="t", stable_row_ids=True)'),
        do=upsert(f'[{{"id": "a", "x": 7}}, {NEW}]', OVERWRITE),
        then={"t": [{"id": "a", "x": 7.0, "tags": None}, B, C, D]},
    ),
    Case(
        "an empty table",
        start='CreateTable(table="t", key=("id",), schema=["id: string", "x: float64"])',
        do=upsert('[{"id": "a", "x": 7}]'),
        then={"t": [{"id": "a", "x": 7.0}]},
    ),
    Case(
        "rows from a generator, in batches",
        start=START,
        above="""
        def rows():
            yield pa.record_batch({"id": ["d"], "x": [1]})
            yield pa.table({"id": ["e"]})
            yield [{"id": "f"}]
        """,
        do=upsert("rows"),
        then={
            "t": [
                A,
                B,
                C,
                *({"id": i, "x": x, "tags": None} for i, x in (("d", 1.0), ("e", None), ("f", None))),
            ]
        },
    ),
    Case(
        "rows of a wide table into an indexed one",
        start=START + ', CreateIndex(table="t", column="id", type="BTREE")',
        do=upsert(f"[{NEW}]"),
        then={"t": [A, B, C, D]},
        look=lambda lab: found_by_index(lab),
    ),
]
COMPOSITE = [
    Case(
        "a composite key of nanoseconds",
        start=PAIRS,
        do=upsert(
            'pa.table({"robot": pa.array([1, 2], pa.int32()), "x": pa.array([9, 8], pa.int8()), '
            '"at": pa.array([1000000002, 1000000002], pa.timestamp("ns", "UTC"))})',
            OVERWRITE,
            '"robot", "at"',
        ),
        then={
            "t": [
                {"robot": 1, "at": 1000000001, "x": 1},
                {"robot": 1, "at": 1000000002, "x": 9},
                {"robot": 2, "at": 1000000001, "x": 3},
                {"robot": 2, "at": 1000000002, "x": 8},
            ]
        },
        changed=2,
    ),
]


def found_by_index(lab) -> None:
    assert lab.dataset("t").count_rows("id = 'd'") == 1


REFUSALS = [
    Refusal(
        "another value, by default",
        start=START,
        do=upsert('[{"id": "b", "x": 2}, {"id": "d"}]'),
        error=PlanError,
        says=["1 row of t is there with other values: id='b' (x: nan there, 2.0 in the source)"],
        plan=False,
    ),
    Refusal(
        "a repeated key",
        start=START,
        do=upsert('[{"id": "d"}, {"id": "d", "x": 1}]'),
        error=PlanError,
        says=["the key id='d' more than once"],
        plan=False,
    ),
    Refusal(
        "a repeated composite key",
        start=PAIRS,
        do=upsert('[{"robot": 1, "at": 1000000009}] * 2', on='"robot", "at"'),
        error=PlanError,
        says=["robot=1, at=", "more than once"],
        plan=False,
    ),
    Refusal(
        "a null key",
        start=START,
        do=upsert('[{"x": 1}]'),
        error=PlanError,
        says=["1 null keys in 'id'"],
        plan=False,
    ),
    Refusal(
        "a column that the table lacks",
        start=START,
        do=upsert('[{"id": "d", "y": 1}]'),
        error=PlanError,
        says=["columns the table lacks: y"],
        plan=False,
    ),
    Refusal(
        "a value that does not fit",
        start=START,
        do=upsert('[{"id": "d", "x": "fast"}]'),
        error=PlanError,
        says=["a row does not fit"],
        plan=False,
    ),
    Refusal(
        "an unknown key column",
        start=START,
        do=upsert("[]", on='"nope"'),
        error=PlanError,
        says=["'nope' is no column of table 't'"],
    ),
    Refusal(
        "a source that raises",
        start=START,
        above='def rows():\n    raise RuntimeError("no network")\n',
        do=upsert("rows"),
        error=PlanError,
        says=["rows() raised RuntimeError: no network"],
        plan=False,
    ),
]


@pytest.mark.parametrize("case", [*CASES, *COMPOSITE, *REFUSALS], ids=str)
def test_upsert_rows(run, case):
    run(case)
