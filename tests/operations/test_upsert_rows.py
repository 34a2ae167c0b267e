"""UpsertRows: new keys are inserted, known ones refused, overwritten or kept."""

import pytest
from there_and_back import Case, Refusal

from lancemig.errors import BrakeTripped, FunctionFailed, PlanError, ScriptError

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
LISTS = """
CreateTable(table="t", key=("id",), schema=["id: string", "seen: timestamp[ns]", "first: int64",
        "tags: list<string>", "note: string", "owner: string"],
    rows=[{"id": "a", "seen": 5, "first": 5, "tags": ["x", "y", "x"], "note": None, "owner": "us"},
          {"id": "b", "seen": None, "first": None, "tags": None, "note": "kept", "owner": None},
          {"id": "c", "seen": 9, "first": 1, "tags": ["x"], "note": "kept", "owner": "us"}])
"""
EXTEND = ', when_exists="extend", extend={"seen": "max", "first": "min", "tags": "union", "note": "coalesce"}'
GIVEN = """[
    {"id": "a", "seen": 7, "first": 7, "tags": ["y", "z", "z"], "note": "new", "owner": "them"},
    {"id": "b", "seen": 2, "first": 2, "tags": ["q"], "note": "new", "owner": "them"},
    {"id": "c", "seen": None, "first": 1, "tags": ["x"], "note": "new", "owner": "them"},
    {"id": "d", "seen": 1, "first": 1, "tags": ["x", "x"], "note": None, "owner": "them"},
]"""
EXTENDED = [
    {"id": "a", "seen": 7, "first": 5, "tags": ["x", "y", "x", "z"], "note": "new", "owner": "us"},
    {"id": "b", "seen": 2, "first": 2, "tags": ["q"], "note": "kept", "owner": None},
    {"id": "c", "seen": 9, "first": 1, "tags": ["x"], "note": "kept", "owner": "us"},
    {"id": "d", "seen": 1, "first": 1, "tags": ["x", "x"], "note": None, "owner": "them"},
]
ANSWERS = """
def rows():
    yield pa.table({"id": ["a", "d"], "x": [7.0, 8.0], "tags": pa.nulls(2, pa.list_(pa.float64()))})
    yield pa.table({"id": ["b", "e"], "__unknown__": [True, None], "__reason__": ["no manifest", None]})
"""
CASES += [
    Case(
        "extend, each column by its rule",
        start=LISTS,
        do=upsert(GIVEN, EXTEND),
        then={"t": EXTENDED},
        changed=3,
        everywhere=True,
    ),
    Case(
        "extend in a table without a key, with stable row ids, indexed",
        start=(
            LISTS.replace('key=("id",), ', ""),
            'RewriteTable(table="t", stable_row_ids=True), '
            'CreateIndex(table="t", column="id", type="BTREE"), '
            'CreateIndex(table="t", column="first", type="BTREE")',
        ),
        do=upsert(GIVEN, EXTEND),
        then={"t": EXTENDED},
        changed=3,
        look=lambda lab: (found_by_index(lab), found_by_first(lab)),
    ),
    Case(
        "extend with what is already there",
        start=LISTS,
        do=upsert('[{"id": "a", "seen": 5, "tags": ["y"]}, {"id": "c"}]', EXTEND),
        then={
            "t": [
                {**EXTENDED[0], "seen": 5, "tags": ["x", "y", "x"], "note": None},
                {**EXTENDED[1], "seen": None, "first": None, "tags": None},
                EXTENDED[2],
            ]
        },
        changed=0,
    ),
    Case(
        "a source that does not know",
        start=START,
        above=ANSWERS,
        do=upsert("rows", OVERWRITE + ", max_indeterminate=1, max_rows=3"),
        then={
            "t": [
                {"id": "a", "x": 7.0, "tags": None},
                B,
                C,
                {**D, "x": 8.0, "tags": None},
                {"id": "e", "x": None, "tags": None},
            ]
        },
        changed=3,
    ),
    Case(
        "a small change is left alone",
        start=START,
        do=upsert(
            '[{"id": "a", "x": 1.4, "tags": [1.0, float("nan")]}, {"id": "c", "x": 1.4}]',
            OVERWRITE + ", min_delta=0.5",
        ),
        then={"t": [A, B, {**C, "x": 1.4}]},
        changed=1,
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


def found_by_first(lab) -> None:
    assert lab.dataset("t").count_rows("first = 7") == 0
    assert lab.dataset("t").to_table(filter="first = 2")["id"].to_pylist() == ["b"]


def rule(name: str, how: str) -> str:
    return f', when_exists="extend", extend={{"{name}": "{how}"}}'


REFUSALS = [
    Refusal(
        "a key that the table has twice",
        start=KEYLESS.replace('{"id": "c"}', '{"id": "a"}'),
        do=upsert('[{"id": "a"}, {"id": "d"}]', KEEP),
        error=PlanError,
        says=["table t: 1 key occurs more than once, for example id='a'"],
        plan=False,
    ),
    Refusal(
        "more rows than a brake allows",
        start=START,
        do=upsert('[{"id": "d"}, {"id": "e"}]', ", max_rows=1"),
        error=BrakeTripped,
        says=["t: 2 rows would change, but max_rows is 1"],
        plan=False,
    ),
    Refusal(
        "more undecided rows than a brake allows",
        start=START,
        above=ANSWERS,
        do=upsert("rows", OVERWRITE + ", max_indeterminate=0"),
        error=BrakeTripped,
        says=["t: 1 row could not be decided, but max_indeterminate is 0"],
        plan=False,
    ),
    Refusal(
        "the greater of two lists",
        start=START,
        do=upsert("[]", rule("tags", "max")),
        error=PlanError,
        says=["t.tags is list<item: float64>: its values have no order, so the rule 'max' cannot be used"],
    ),
    Refusal(
        "the union of two numbers",
        start=START,
        do=upsert("[]", rule("x", "union")),
        error=PlanError,
        says=['t.x is float64: "union" requires a list of plain values, or of structs of plain values'],
    ),
    Refusal(
        "a rule for an unknown column",
        start=START,
        do=upsert("[]", rule("nope", "coalesce")),
        error=PlanError,
        says=["nope"],
    ),
    Refusal(
        "a key of lists",
        start=START,
        do=upsert("[]", on='"tags"'),
        error=PlanError,
        says=["t.tags is list<item: float64>: values of this type cannot be a key"],
    ),
    Refusal(
        "rules without extend",
        start=START,
        do=upsert("[]", ', extend={"x": "max"}'),
        error=ScriptError,
        says=['when_exists="extend" requires extend={column: rule}, and the reverse'],
    ),
    Refusal(
        "extend without rules",
        start=START,
        do=upsert("[]", ', when_exists="extend"'),
        error=ScriptError,
        says=['when_exists="extend" requires extend={column: rule}, and the reverse'],
    ),
    Refusal(
        "a rule for the key",
        start=START,
        do=upsert("[]", rule("id", "max")),
        error=ScriptError,
        says=["'id' is part of the key, which a rule cannot change"],
    ),
    Refusal(
        "a rule for a field",
        start=START,
        do=upsert("[]", rule("device.serial", "max")),
        error=ScriptError,
        says=["'device.serial' is a struct field; extend accepts only whole columns"],
    ),
    Refusal(
        "another value, by default",
        start=START,
        do=upsert('[{"id": "b", "x": 2}, {"id": "d"}]'),
        error=PlanError,
        says=["1 row already in t with different values: id='b' (x: nan in the table, 2.0 in the source)"],
        plan=False,
    ),
    Refusal(
        "a repeated key",
        start=START,
        do=upsert('[{"id": "d"}, {"id": "d", "x": 1}]'),
        error=PlanError,
        says=["1 key occurs more than once, for example id='d'"],
    ),
    Refusal(
        "a repeated composite key",
        start=PAIRS,
        do=upsert('[{"robot": 1, "at": 1000000009}] * 2', on='"robot", "at"'),
        error=PlanError,
        says=["robot=1, at=", "more than once"],
    ),
    Refusal(
        "a null key",
        start=START,
        do=upsert('[{"x": 1}]'),
        error=PlanError,
        says=["1 null keys in 'id'"],
    ),
    Refusal(
        "a column that the table lacks",
        start=START,
        do=upsert('[{"id": "d", "y": 1}]'),
        error=PlanError,
        says=["columns that the table does not have: y"],
    ),
    Refusal(
        "a value that does not fit",
        start=START,
        do=upsert('[{"id": "d", "x": "fast"}]'),
        error=PlanError,
        says=["a row does not fit"],
    ),
    Refusal(
        "an unknown key column",
        start=START,
        do=upsert("[]", on='"nope"'),
        error=PlanError,
        says=["'nope' does not exist in table 't'"],
    ),
    Refusal(
        "a source that raises",
        start=START,
        above='def rows():\n    raise RuntimeError("no network")\n',
        do=upsert("rows"),
        error=FunctionFailed,
        says=["rows() raised RuntimeError: no network"],
        plan=False,
    ),
]


@pytest.mark.parametrize("case", [*CASES, *COMPOSITE, *REFUSALS], ids=str)
def test_upsert_rows(run, case):
    run(case)
