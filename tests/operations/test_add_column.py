"""AddColumn: null, by SQL or by a function; or a struct's field."""

import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import PlanError, ScriptError

START = """
CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64", "info: struct<serial: string>"],
    rows=[{"id": 1, "x": 1.5, "info": {"serial": "A"}}, {"id": 2, "x": None, "info": None}])
"""
ONE, TWO = {"id": 1, "x": 1.5, "info": {"serial": "A"}}, {"id": 2, "x": None, "info": None}


def more_rows(lab: Lab) -> None:
    lab.append("t", [{"id": 3, "x": 3.0}])
    lab.dataset("t").delete("id = 2")


def of(column: str, how: str = "", start: str = START) -> dict[str, str]:
    return {"do": f'AddColumn(table="t", column={column}{how})', "start": start}


def metadata_is_kept(lab: Lab) -> None:
    assert lab.dataset("t").schema.field("y").metadata == {b"unit": b"m"}


CASES = [
    Case(
        "null",
        **of('"y: string"'),
        then={"t": [{**ONE, "y": None}, {**TWO, "y": None}]},
        columns={"t": ["id: int64", "x: float64", "info: struct<serial: string>", "y: string"]},
        everywhere=True,
    ),
    Case(
        "null, with metadata",
        **of('pa.field("y", pa.list_(pa.float32(), 3), metadata={"unit": "m"})'),
        then={"t": [{**ONE, "y": None}, {**TWO, "y": None}]},
        look=metadata_is_kept,
    ),
    Case(
        "SQL",
        **of('"y: float64"', ', sql="coalesce(x, 0.0) * 2"'),
        then={"t": [{**ONE, "y": 3.0}, {**TWO, "y": 0.0}]},
        changed=2,
    ),
    Case(
        "SQL of a narrower type, a constant, a struct's field",
        do='AddColumn(table="t", column="y: int8", sql="id + 1"), '
        'AddColumn(table="t", column="z: string", sql="\'c\'"), '
        'AddColumn(table="t", column="w: string", sql="info.serial")',
        start=START,
        then={"t": [{**ONE, "y": 2, "z": "c", "w": "A"}, {**TWO, "y": 3, "z": "c", "w": None}]},
    ),
    Case(
        "a constant, of fragments with deletions",
        **of('"y: string"', ", sql=\"'c'\""),
        before=more_rows,
        then={"t": [{**ONE, "y": "c"}, {"id": 3, "x": 3.0, "info": None, "y": "c"}]},
        changed=2,
    ),
    Case(
        "a constant that is null",
        **of('"y: int16"', ', sql="null"'),
        then={"t": [{**ONE, "y": None}, {**TWO, "y": None}]},
    ),
    Case(
        "a function",
        **of('"y: int32"', ', using=f, reads=("id", "info.serial")'),
        above="""
        def f(batch):
            return pc.add(batch.column("id"), pc.utf8_length(batch.column("info.serial")))
        """,
        then={"t": [{**ONE, "y": 2}, {**TWO, "y": None}]},
        changed=1,
    ),
    Case(
        "a function that does not know leaves null",
        **of('"y: int32"', ', using=f, reads=("id",)'),
        above='def f(batch):\n    return pa.record_batch({"y": batch.column("id"), '
        '"__unknown__": pc.equal(batch.column("id"), 1)})\n',
        then={"t": [{**ONE, "y": None}, {**TWO, "y": 2}]},
    ),
    Case(
        "a struct's field",
        **of('"info.port: int32"'),
        then={"t": [{**ONE, "info": {"serial": "A", "port": None}}, TWO]},
        columns={"t": ["id: int64", "x: float64", "info: struct<serial: string, port: int32>"]},
    ),
    Case(
        "a struct's field, filled",
        start=START,
        do='AddColumn(table="t", column="info.port: int32"), UpdateRows(table="t", set={"info.port": "id"})',
        then={"t": [{**ONE, "info": {"serial": "A", "port": 1}}, TWO]},
    ),
    Case(
        "several fragments with deletions",
        **of('"y: int64"', ', sql="id * 10"'),
        before=more_rows,
        then={"t": [{**ONE, "y": 10}, {"id": 3, "x": 3.0, "info": None, "y": 30}]},
    ),
    Case(
        "an empty table",
        **of('"y: int64"', ', sql="id * 10"', 'CreateTable(table="t", schema="id: int64")'),
        then={"t": []},
    ),
    Case(
        "with stable row ids",
        **{
            **of('"y: int64"', ', sql="id * 10"'),
            "start": (START, 'RewriteTable(table="t", stable_row_ids=True)'),
        },
        then={"t": [{**ONE, "y": 10}, {**TWO, "y": 20}]},
    ),
    Case(
        "the name of a column that was dropped",
        start=START,
        do='DropColumn(table="t", column="x"), AddColumn(table="t", column="x: string", sql="\'new\'")',
        then={"t": [{"id": 1, "info": {"serial": "A"}, "x": "new"}, {"id": 2, "info": None, "x": "new"}]},
        irreversible="drop column x",
    ),
]

REFUSALS = [
    Refusal("it exists", **of('"x: int8"'), error=PlanError, says=["already has a column 'x'"]),
    Refusal(
        "not nullable", **of('"y: int8 not null"'), error=ScriptError, says=["must be nullable, and y is not"]
    ),
    Refusal(
        "two ways to compute it",
        **of('"y: int8"', ', sql="1", using=f, reads=("id",)'),
        above="def f(batch):\n    return None\n",
        error=ScriptError,
        says=["sql and using cannot be combined"],
    ),
    Refusal(
        "SQL with an unknown column",
        **of('"y: int8"', ', sql="z"'),
        error=PlanError,
        says=["No field named z"],
    ),
    Refusal(
        "SQL of a type that never fits",
        **of('"y: fixed_size_list<float32>[2]"', ', sql="id"'),
        error=PlanError,
        says=["t.y is fixed_size_list", "int64"],
    ),
    Refusal(
        "a field of what is no struct",
        **of('"x.y: int8"'),
        error=PlanError,
        says=["t.x is not a struct"],
    ),
    Refusal(
        "a struct's field in storage version 2.1",
        do='AddColumn(table="t", column="info.port: int32")',
        start=(START, 'RewriteTable(table="t", data_storage_version="2.1")'),
        error=PlanError,
        says=["storage version 2.1"],
    ),
    Refusal(
        "a function that raises",
        **of('"y: int32"', ', using=f, reads=("id",)'),
        above='def f(batch):\n    raise ValueError("boom")\n',
        error=PlanError,
        says=["f() raised ValueError: boom"],
        plan=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_add_column(run, case):
    run(case)


@pytest.mark.parametrize("refusal", [r for r in REFUSALS if r.plan], ids=str)
def test_add_column_is_refused(run, refusal):
    run(refusal)


def test_a_column_whose_function_raises_is_not_added(tmp_path, local_place):
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(
        'AddColumn(table="t", column="y: int32", using=f, reads=("id",))',
        above='def f(batch):\n    raise ValueError("boom")\n',
    )
    with pytest.raises(PlanError, match=r"f\(\) raised ValueError: boom"):
        lab.upgrade()
    catalog = lab.catalog()
    assert catalog.active(catalog.seen()).revision == "0001"
    assert catalog.in_flight() is None
    assert lab.dataset("t").schema.names == lab.dataset("t").checkout_version(1).schema.names
