"""RenameTable, DropTable, TransformTable, BuildTable and RewriteTable."""

from collections.abc import Callable

import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import FunctionFailed, PlanError, ScriptError

START = """
CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64", "s: string"],
    rows=[{"id": 3, "x": 0.5, "s": "c"}, {"id": 1, "x": 1.5, "s": "a"}, {"id": 2}])
"""
INDEXED = (
    START
    + ', CreateIndex(table="t", column="id", type="BTREE"), CreateIndex(table="t", column="s", type="BTREE")'
)
TWO_TABLES = START + ', CreateTable(table="u", schema="n: int8", rows=[{"n": 7}])'
ROWS = [{"id": 1, "x": 1.5, "s": "a"}, {"id": 2, "x": None, "s": None}, {"id": 3, "x": 0.5, "s": "c"}]


def transform(more: str = "", columns: str = '["id: int64", "x: float64", "s: string"]') -> str:
    return f'TransformTable(table="t", using=f, schema={columns}{more})'


def more_rows(lab: Lab) -> None:
    lab.append("t", [{"id": 4, "x": 4.0}, {"id": 5}])
    lab.dataset("t").delete("id = 4")


def no_table(name: str) -> Callable[[Lab], None]:
    def look(lab: Lab) -> None:
        assert name not in lab.tables()

    return look


def found_by_index(lab: Lab) -> None:
    assert lab.dataset("t").count_rows("id = 2") == 1
    assert "Index" in lab.dataset("t").scanner(filter="id = 2").explain_plan()


def laid_out(
    version: str = "2.2", *, stable: bool = False, order: list[int] | None = None, table: str = "t"
) -> Callable[[Lab], None]:
    def look(lab: Lab) -> None:
        dataset = lab.dataset(table)
        assert dataset.data_storage_version == version
        assert dataset.has_stable_row_ids == stable
        if order:
            assert dataset.to_table().column("id").to_pylist() == order

    return look


HALVES = """
def f(batch):
    half = batch.num_rows // 2
    yield batch.slice(0, half)
    yield pa.table(batch.slice(half).to_pydict())
"""

CASES = [
    Case(
        "rename a table",
        start=TWO_TABLES,
        do='RenameTable(table="t", to="sessions")',
        then={"sessions": ROWS, "u": [{"n": 7}]},
        look=no_table("t"),
        everywhere=True,
    ),
    Case(
        "exchange two tables' names",
        start=TWO_TABLES,
        do='RenameTable(table="t", to="tmp"), RenameTable(table="u", to="t"), '
        'RenameTable(table="tmp", to="u"), '
        'RequireColumn(table="t", column="n")',
        then={"u": ROWS, "t": [{"n": 7}]},
    ),
    Case(
        "rename an indexed table and change it",
        start=INDEXED,
        do='RenameTable(table="t", to="v"), RenameColumn(table="v", column="x", to="y"), '
        'UpdateRows(table="v", set={"y": "1"}, where="id = 2")',
        then={"v": [{"id": r["id"], "y": r["x"] if r["id"] != 2 else 1.0, "s": r["s"]} for r in ROWS]},
    ),
    Case(
        "a new table under a renamed one's name",
        start=START,
        do='RenameTable(table="t", to="old"), CreateTable(table="t", schema="n: int8", rows=[{"n": 1}])',
        then={"old": ROWS, "t": [{"n": 1}]},
    ),
    Case(
        "drop a table",
        start=TWO_TABLES,
        do='DropTable(table="u")',
        then={"t": ROWS},
        look=no_table("u"),
        irreversible="no inverse can be derived for: drop table",
        everywhere=True,
    ),
    Case(
        "drop a table and make another of its name",
        start=TWO_TABLES,
        do='DropTable(table="u"), CreateTable(table="u", schema="m: string", rows=[{"m": "x"}])',
        then={"t": ROWS, "u": [{"m": "x"}]},
        irreversible="drop table",
    ),
    Case(
        "transform batch by batch",
        start=INDEXED,
        above='def f(batch):\n    return batch.set_column(1, "x", pc.fill_null(batch.column("x"), 9.0))\n',
        do=transform(', reads=("id", "x", "s")'),
        then={"t": [{**r, "x": 9.0 if r["x"] is None else r["x"]} for r in ROWS]},
        look=found_by_index,
        irreversible="transform with f(id, x, s)",
        everywhere=True,
    ),
    Case(
        "transform into several batches",
        start=START,
        above=HALVES,
        do=transform(),
        then={"t": ROWS},
        irreversible="transform with f(all columns)",
    ),
    Case(
        "transform into more rows of another schema, reading a part",
        start=INDEXED,
        above="""
        def f(batch):
            assert batch.schema.names == ["id", "s"]
            ids = batch.column("id").to_pylist()
            return pa.table({"id": [10 * i + k for i in ids for k in (0, 1)], "who": ["w"] * (2 * len(ids))})
        """,
        do=transform(', reads=("id", "s")', '["who: large_string", "id: int32", "z: int8"]'),
        then={"t": [{"who": "w", "id": 10 * i + k, "z": None} for i in (1, 2, 3) for k in (0, 1)]},
        columns={"t": ["who: large_string", "id: int32", "z: int8"]},
        irreversible="transform",
    ),
    Case(
        "transform fragments with deletions, after a rename",
        start=START,
        before=more_rows,
        above='def f(batch):\n    return batch.select(["id", "y"])\n',
        do='RenameColumn(table="t", column="x", to="y"), ' + transform("", '["id: int64", "y: float64"]'),
        then={"t": [{"id": r["id"], "y": r["x"]} for r in [*ROWS, {"id": 5, "x": None}]]},
        irreversible="transform",
    ),
    Case(
        "build a new table",
        start=START,
        above='def rows():\n    yield pa.record_batch({"k": [1, 2]})\n',
        do='BuildTable(table="b", rows=rows, schema="k: int64", key=("k",))',
        then={"b": [{"k": 1}, {"k": 2}], "t": ROWS},
        everywhere=True,
    ),
    Case(
        "build a table anew",
        start=INDEXED,
        above='def rows():\n    yield pa.record_batch({"id": [1, 2], "y": [True, None]})\n',
        do='BuildTable(table="t", rows=rows, schema=["id: int64", "y: bool"], key=("id",), max_gone=1)',
        then={"t": [{"id": 1, "y": True}, {"id": 2, "y": None}]},
        look=found_by_index,
        irreversible="build table",
    ),
    Case(
        "rewrite in another order",
        start=INDEXED,
        do='RewriteTable(table="t", order_by=("id",))',
        then={"t": ROWS},
        look=laid_out(order=[1, 2, 3]),
        everywhere=True,
    ),
    Case(
        "rewrite in another storage version",
        start=INDEXED,
        do='RewriteTable(table="t", data_storage_version="2.1")',
        then={"t": ROWS},
        look=laid_out("2.1"),
    ),
    Case(
        "rewrite an empty table",
        start='CreateTable(table="t", schema="id: int64")',
        do='RewriteTable(table="t", stable_row_ids=True)',
        then={"t": []},
        look=laid_out(stable=True),
    ),
    Case(
        "rewrite with stable row ids",
        start=INDEXED,
        before=more_rows,
        do='RewriteTable(table="t", stable_row_ids=True, order_by=("s", "id"))',
        then={"t": [*ROWS, {"id": 5, "x": None, "s": None}]},
        look=laid_out(stable=True, order=[1, 3, 2, 5]),
    ),
    Case(
        "make a table, and give it another layout",
        start=START,
        do='CreateTable(table="n", schema="a: int8", rows=[{"a": 1}]), '
        'RewriteTable(table="n", data_storage_version="2.1", stable_row_ids=True)',
        then={"n": [{"a": 1}], "t": ROWS},
        look=laid_out("2.1", stable=True, table="n"),
    ),
    Case(
        "order a table, then give it another layout",
        start=START,
        do='RewriteTable(table="t", order_by=("x",)), RewriteTable(table="t", stable_row_ids=True)',
        then={"t": ROWS},
        look=laid_out(stable=True, order=[3, 1, 2]),
    ),
    Case(
        "rewrite without stable row ids",
        start=(START, 'RewriteTable(table="t", stable_row_ids=True)'),
        do='RewriteTable(table="t", stable_row_ids=False)',
        then={"t": ROWS},
        look=laid_out(),
    ),
    Case(
        "change a table that is rewritten first",
        start=START,
        do='RewriteTable(table="t", order_by=("id",), stable_row_ids=True), '
        'UpdateRows(table="t", set={"x": "id"}), RenameColumn(table="t", column="x", to="y")',
        then={"t": [{"id": r["id"], "y": float(r["id"]), "s": r["s"]} for r in ROWS]},
        look=laid_out(stable=True, order=[1, 2, 3]),
    ),
    Case(
        "rewrite in order what was changed before",
        start=START,
        do='UpdateRows(table="t", set={"x": "id"}), RewriteTable(table="t", order_by=("id",))',
        then={"t": [{**r, "x": float(r["id"])} for r in ROWS]},
        look=laid_out(order=[1, 2, 3]),
    ),
]

REFUSALS = [
    Refusal(
        "rename to a name that is taken",
        start=TWO_TABLES,
        do='RenameTable(table="t", to="u")',
        error=PlanError,
        says=["table 'u' already exists"],
    ),
    Refusal(
        "rename what is not there",
        start=START,
        do='RenameTable(table="x", to="y")',
        error=PlanError,
        says=["table 'x' does not exist; tables: t"],
    ),
    Refusal(
        "rename to what is no name",
        start=START,
        do='RenameTable(table="t", to="a/b")',
        error=ScriptError,
        says=["RenameTable.to"],
    ),
    Refusal("drop what is not there", start=START, do='DropTable(table="x")', error=PlanError, says=["'x'"]),
    Refusal(
        "a rewriting that changes nothing",
        start=START,
        do='RewriteTable(table="t")',
        error=ScriptError,
        says=["set at least one of"],
    ),
    Refusal(
        "an order by an unknown column",
        start=START,
        do='RewriteTable(table="t", order_by=("z",))',
        error=PlanError,
        says=["no column 'z'"],
    ),
    Refusal(
        "an order by a struct's field",
        start='CreateTable(table="t", schema="s: struct<a: int8>")',
        do='RewriteTable(table="t", order_by=("s.a",))',
        error=ScriptError,
        says=["only whole columns"],
    ),
    Refusal(
        "another layout for a table that is changed before",
        start=START,
        do='UpdateRows(table="t", set={"x": "1"}), RewriteTable(table="t", stable_row_ids=True)',
        error=PlanError,
        says=["layout of t cannot be changed"],
    ),
    Refusal(
        "a transformation that loses the key",
        start=START,
        above="def f(batch):\n    return batch\n",
        do=transform("", '["x: float64"]'),
        error=PlanError,
        says=["'id' does not exist in table 't'"],
    ),
    Refusal(
        "a transformation that reads what is not there",
        start=START,
        above="def f(batch):\n    return batch\n",
        do=transform(', reads=("z",)'),
        error=PlanError,
        says=["no column 'z'"],
    ),
    *(
        Refusal(
            f"a transformation that {name}",
            start=START,
            above=f"def f(batch):\n    {body}\n",
            do=transform(),
            error=FunctionFailed if "f() raised" in says[0] else PlanError,
            says=says,
            plan=False,
        )
        for name, body, says in (
            ("raises", 'raise KeyError("boom")', ["f() raised KeyError", "boom"]),
            ("gives numbers", "return [1]", ["f() yielded int"]),
            ("gives nothing", "return None", ["f() raised TypeError"]),
            ("gives a stranger", 'return pa.table({"q": [1]})', ["columns that the table does not have: q"]),
            ("gives what does not fit", 'return pa.table({"id": ["x"]})', ["column 'id' does not fit"]),
        )
    ),
    Refusal(
        "a source that raises",
        start=START,
        above='def rows():\n    yield pa.record_batch({"k": [1]})\n    raise OSError("gone")\n',
        do='BuildTable(table="b", rows=rows, schema="k: int64")',
        error=FunctionFailed,
        says=["rows() raised OSError: gone"],
        plan=False,
    ),
    Refusal(
        "an inner function",
        above="def outer():\n    return lambda batch: batch\n",
        start=START,
        do='TransformTable(table="t", using=outer(), schema="id: int64")',
        error=ScriptError,
        says=["is not a module-level function"],
    ),
]


@pytest.mark.parametrize("case", [*CASES, *REFUSALS], ids=str)
def test_tables(run, case):
    run(case)
