"""BackfillColumns: a function over record batches says the new values, or that it does not know."""

import pytest
from there_and_back import Case, Refusal

from lancemig.errors import BrakeTripped, FunctionFailed, PlanError

START = """
CreateTable(table="t", key=("id",), schema=["id: int64", "n: int32", "s: string",
    "info: struct<serial: string, port: int32>", "v: fixed_size_list<float32>[2]"],
    rows=[{"id": 1, "n": 10, "s": "a", "info": {"serial": "A1", "port": 1}, "v": [1, 2]},
          {"id": 2, "n": None, "s": None, "info": None, "v": None},
          {"id": 3, "n": 30, "s": "c", "info": {"serial": None, "port": 3}, "v": [3, 4]}])
"""
ONE = {"id": 1, "n": 10, "s": "a", "info": {"serial": "A1", "port": 1}, "v": [1.0, 2.0]}
TWO = {"id": 2, "n": None, "s": None, "info": None, "v": None}
THREE = {"id": 3, "n": 30, "s": "c", "info": {"serial": None, "port": 3}, "v": [3.0, 4.0]}


def fill(body: str, columns: str, reads: str, more: str = "") -> tuple[str, str]:
    """The operation, and the function `f` that it uses."""
    do = f'BackfillColumns(table="t", columns=({columns},), reads=({reads},), using=f{more})'
    return do, f"def f(batch):\n    {body}\n"


def case(name: str, of: tuple[str, str], then: list[dict], **more: object) -> Case:
    return Case(name, start=START, do=of[0], above=of[1], then={"t": then}, **more)


def refusal(name: str, of: tuple[str, str], *says: str, **more: object) -> Refusal:
    given = {"error": PlanError, "plan": False, **more}
    return Refusal(name, start=START, do=of[0], above=of[1], says=says, **given)


CASES = [
    case(
        "one column, an array",
        fill('return pc.multiply(batch.column("id"), 2)', '"n"', '"id"'),
        [{**ONE, "n": 2}, {**TWO, "n": 4}, {**THREE, "n": 6}],
        changed=3,
        everywhere=True,
    ),
    case(
        "a chunked array",
        fill('return pa.chunked_array([batch.column("id")])', '"n"', '"id"'),
        [{**ONE, "n": 1}, {**TWO, "n": 2}, {**THREE, "n": 3}],
    ),
    case(
        "several columns, a record batch in any order",
        fill(
            'return pa.record_batch({"s": pc.utf8_upper(batch.column("s")), "n": batch.column("id")})',
            '"n", "s"',
            '"id", "s"',
        ),
        [{**ONE, "n": 1, "s": "A"}, {**TWO, "n": 2}, {**THREE, "n": 3, "s": "C"}],
    ),
    case(
        "several columns, a table",
        fill('return pa.table({"s": batch.column("s"), "n": batch.column("id")})', '"n", "s"', '"id", "s"'),
        [{**ONE, "n": 1}, {**TWO, "n": 2}, {**THREE, "n": 3}],
    ),
    case(
        "rows that it does not know stay as they are, whatever it gave for them",
        fill(
            'return pa.record_batch({"n": ["?", "5", "?"], "__unknown__": [True, False, True]})',
            '"n"',
            '"id"',
            ", max_indeterminate=2",
        ),
        [ONE, {**TWO, "n": 5}, THREE],
        changed=1,
    ),
    case(
        "null is an answer, and unknown may be null for no",
        fill('return pa.record_batch({"n": pa.nulls(3), "__unknown__": [None, True, False]})', '"n"', '"id"'),
        [{**ONE, "n": None}, TWO, {**THREE, "n": None}],
        changed=2,
    ),
    case(
        "reads and writes a struct's field",
        fill(
            'known = pc.is_valid(batch.column("info.port"))\n'
            '    return pc.if_else(known, pc.utf8_upper(batch.column("s")), None)',
            '"info.serial"',
            '"info.port", "s"',
        ),
        [
            {**ONE, "info": {"serial": "A", "port": 1}},
            TWO,
            {**THREE, "info": {"serial": "C", "port": 3}},
        ],
        changed=2,
    ),
    case(
        "only rows that match",
        fill('assert batch.num_rows == 1; return batch.column("id")', '"n"', '"id"', ", where=\"s = 'c'\""),
        [ONE, TWO, {**THREE, "n": 3}],
        changed=1,
    ),
    case(
        "a whole struct and a vector",
        fill(
            'return pa.table({"info": [{"serial": "x", "port": i} for i in batch.column("id").to_pylist()], '
            '"v": [[0, 1], None, [3, 4]]})',
            '"info", "v"',
            '"id"',
        ),
        [
            {**ONE, "info": {"serial": "x", "port": 1}, "v": [0.0, 1.0]},
            {**TWO, "info": {"serial": "x", "port": 2}},
            {**THREE, "info": {"serial": "x", "port": 3}},
        ],
    ),
    case(
        "the values that are there already",
        fill("return batch", '"n", "s"', '"n", "s"'),
        [ONE, TWO, THREE],
        changed=0,
    ),
]

REFUSALS = [
    refusal("too few rows", fill("return pa.array([1])", '"n"', '"id"'), "f() must return as many rows", "3"),
    refusal("a list", fill("return [1, 2, 3]", '"n"', '"id"'), "f() returned list"),
    refusal(
        "an array for two columns",
        fill("return pa.array([1, 2, 3])", '"n", "s"', '"id"'),
        "f() returned Int64Array",
    ),
    refusal("nothing", fill("return None", '"n"', '"id"'), "f() returned NoneType"),
    refusal(
        "it raises",
        fill('raise KeyError("boom")', '"n"', '"id"'),
        "f() raised KeyError",
        "boom",
        error=FunctionFailed,
    ),
    refusal(
        "columns of other names",
        fill('return pa.record_batch({"m": [1, 2, 3]})', '"n"', '"id"'),
        "f() returned the columns ['m'], expected ['n']",
    ),
    refusal(
        "values of a wrong type",
        fill('return pa.array(["x", "y", "z"])', '"n"', '"id"'),
        "t.n does not fit int32",
    ),
    refusal(
        "unknown that is no boolean",
        fill('return pa.record_batch({"n": [1, 2, 3], "__unknown__": [1, 0, 0]})', '"n"', '"id"'),
        "f() returned __unknown__ as int64",
    ),
    refusal(
        "a column that it does not read",
        fill('return batch.column("s")', '"n"', '"id"'),
        "f() raised KeyError",
        error=FunctionFailed,
    ),
    refusal(
        "too many rows that it does not know",
        fill(
            'return pa.record_batch({"n": [1, 2, 3], "__unknown__": [True, True, False]})',
            '"n"',
            '"id"',
            ", max_indeterminate=1",
        ),
        "2 rows could not be decided",
        error=BrakeTripped,
    ),
    refusal(
        "more rows than max_rows",
        fill('return batch.column("id")', '"n"', '"id"', ", max_rows=2"),
        "3 rows would change",
        error=BrakeTripped,
    ),
    refusal("it reads an unknown column", fill("return 1", '"n"', '"nope"'), "no column 'nope'", plan=True),
    refusal("it fills an unknown column", fill("return 1", '"nope"', '"id"'), "no column 'nope'", plan=True),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_backfill_columns(run, case):
    run(case)
