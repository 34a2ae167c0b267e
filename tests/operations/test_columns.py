"""RenameColumn, RetypeColumn, DropColumn and RequireColumn: what an old program would notice."""

import shutil
from collections.abc import Callable

import lance
import pytest
from lab import Lab
from there_and_back import Case, Refusal

from lancemig.errors import PlanError, ScriptError

START = """
CreateTable(table="t", key=("id",), schema=pa.schema([
    pa.field("id", pa.int64()), pa.field("n", pa.int32(), metadata={"unit": "mm"}),
    pa.field("x", pa.float64()),
    pa.field("s", pa.string()),
    pa.field("info", pa.struct([("serial", pa.string()), ("port", pa.int32())])),
    pa.field("tags", pa.list_(pa.string()))]),
    rows=[{"id": 1, "n": 10, "x": 1.5, "s": "a", "info": {"serial": "A1", "port": 1}, "tags": ["p"]},
          {"id": 2},
          {"id": 3, "n": 30, "x": -2.0, "s": "c", "info": {"serial": None, "port": 3}, "tags": []}])
"""
INDEXED = (
    START
    + ', CreateIndex(table="t", column="n", type="BTREE"), CreateIndex(table="t", column="id", type="BTREE")'
    + ', CreateIndex(table="t", column="info.port", type="BTREE", name="by_port")'
)
ONLY_IDS = (
    'CreateTable(table="t", schema="id: int64", rows=[{"id": 1}])',
    'AddColumn(table="t", column="n: int64"), AddColumn(table="t", column="tags: list<item: string>")',
)
STABLE = (START, 'RewriteTable(table="t", stable_row_ids=True)')
ONE = {"id": 1, "n": 10, "x": 1.5, "s": "a", "info": {"serial": "A1", "port": 1}, "tags": ["p"]}
TWO = {"id": 2, "n": None, "x": None, "s": None, "info": None, "tags": None}
THREE = {"id": 3, "n": 30, "x": -2.0, "s": "c", "info": {"serial": None, "port": 3}, "tags": []}
ALL = (ONE, TWO, THREE)


def rows(change: Callable[[dict], dict]) -> dict[str, list[dict]]:
    return {"t": [change(row) for row in ALL]}


def renamed(old: str, new: str) -> dict[str, list[dict]]:
    return rows(lambda row: {(new if name == old else name): value for name, value in row.items()})


def info(change: Callable[[dict], dict]) -> dict[str, list[dict]]:
    return rows(lambda row: {**row, "info": row["info"] and change(row["info"])})


def without(*names: str) -> dict[str, list[dict]]:
    return rows(lambda row: {name: value for name, value in row.items() if name not in names})


def scattered(lab: Lab) -> None:
    lab.append("t", [{**ONE, "id": 4}, {**ONE, "id": 5}])
    lab.append("t", [{**THREE, "id": 6}])
    lab.dataset("t").delete("id in (2, 4)")


def filled_later(lab: Lab) -> None:
    lab.append("t", [{"id": 2, "n": 2, "tags": ["a"]}])
    lab.append("t", [{"id": 3}, {"id": 4}])
    lab.dataset("t").delete("id = 4")


def whole(lab: Lab) -> None:
    """Lance finds nothing wrong, and writers could go on."""
    found = lab.dataset("t")
    found.validate()
    copy = lab.folder / "copy.lance"
    shutil.copytree(found.uri, copy, dirs_exist_ok=True)
    lance.write_dataset(found.schema.empty_table(), copy, mode="append")
    copied = lance.write_dataset(found.to_table(), copy, mode="append")
    copied.optimize.compact_files()
    assert copied.count_rows() == 2 * found.count_rows()
    shutil.rmtree(copy)


def indexed(*names: str) -> Callable[[Lab], None]:
    def look(lab: Lab) -> None:
        assert sorted(index.name for index in lab.dataset("t").describe_indices()) == sorted(names)
        assert lab.dataset("t").count_rows("id = 3") == 1

    return look


def finds(where: str, names: tuple[str, ...]) -> Callable[[Lab], None]:
    def look(lab: Lab) -> None:
        indexed(*names)(lab)
        assert lab.dataset("t").count_rows(where) == 1
        assert "Index" in lab.dataset("t").scanner(filter=where).explain_plan()

    return look


def key_is_text(lab: Lab) -> None:
    assert lab.dataset("t").count_rows("id = '3'") == 1


def rename(column: str, to: str) -> str:
    return f'RenameColumn(table="t", column="{column}", to="{to}")'


def retype(column: str, to: str, more: str = "") -> str:
    return f'RetypeColumn(table="t", column="{column}", to="{to}"{more})'


def drop(column: str) -> str:
    return f'DropColumn(table="t", column="{column}")'


def require(column: str) -> str:
    return f'RequireColumn(table="t", column="{column}")'


NAMES = ("id_idx", "n_idx", "by_port")

RENAME = [
    Case("rename a column", start=START, do=rename("n", "m"), then=renamed("n", "m"), everywhere=True),
    Case("rename with stable row ids", start=STABLE, do=rename("n", "m"), then=renamed("n", "m")),
    Case(
        "rename an indexed column",
        start=INDEXED,
        do=rename("n", "m"),
        then=renamed("n", "m"),
        look=finds("m = 30", NAMES),
    ),
    Case("rename the key", start=INDEXED, do=rename("id", "rec_id"), then=renamed("id", "rec_id")),
    Case(
        "rename a struct's field",
        start=INDEXED,
        do=rename("info.port", "socket"),
        then=info(lambda i: {"serial": i["serial"], "socket": i["port"]}),
        look=finds("info.socket = 3", NAMES),
    ),
    Case("rename a struct", start=INDEXED, do=rename("info", "device"), then=renamed("info", "device")),
    Case(
        "exchange two names",
        start=START,
        do=", ".join([rename("x", "tmp"), rename("s", "x"), rename("tmp", "s")]),
        then={
            "t": [{("s" if n == "x" else "x" if n == "s" else n): v for n, v in row.items()} for row in ALL]
        },
    ),
    Case(
        "rename and require",
        start=START,
        do=rename("id", "rec_id") + ", " + require("rec_id"),
        then=renamed("id", "rec_id"),
    ),
]

RETYPE = [
    Case("int32 to int64", start=START, do=retype("n", "int64"), then=rows(dict), changed=3, everywhere=True),
    Case(
        "int to float64",
        start=START,
        do=retype("n", "float64"),
        then=rows(lambda row: {**row, "n": row["n"] and float(row["n"])}),
        columns={
            "t": [
                "id: int64",
                "n: float64",
                "x: float64",
                "s: string",
                "info: struct<serial: string, port: int32>",
                "tags: list<item: string>",
            ]
        },
    ),
    Case(
        "float to string",
        start=START,
        do=retype("x", "string"),
        then=rows(lambda row: {**row, "x": {1.5: "1.5", None: None, -2.0: "-2"}[row["x"]]}),
    ),
    Case("string to large_string", start=START, do=retype("s", "large_string"), then=rows(dict)),
    Case("a list's items", start=START, do=retype("tags", "list<large_string>"), then=rows(dict)),
    Case(
        "SQL has no inverse",
        start=START,
        do=retype("n", "float64", ', using="cast(n as double) / 4"'),
        then=rows(lambda row: {**row, "n": row["n"] and row["n"] / 4}),
        irreversible="t.n was computed by 'cast(n as double) / 4'",
    ),
    Case(
        "an indexed column",
        start=INDEXED,
        do=retype("n", "int64"),
        then=rows(dict),
        look=finds("n = 30", NAMES),
    ),
    Case(
        "a struct's field",
        start=INDEXED,
        do=retype("info.port", "int64"),
        then=rows(dict),
        columns={
            "t": [
                "id: int64",
                "n: int32",
                "x: float64",
                "s: string",
                "info: struct<serial: string, port: int64>",
                "tags: list<item: string>",
            ]
        },
        look=finds("info.port = 3", NAMES),
    ),
    Case(
        "the key",
        start=INDEXED,
        do=retype("id", "string"),
        then=rows(lambda row: {**row, "id": str(row["id"])}),
        look=key_is_text,
    ),
    Case(
        "a whole struct",
        start=START,
        do=retype("info", "struct<serial: large_string, port: int64>"),
        then=rows(dict),
    ),
    Case(
        "several fragments with deletions",
        start=START,
        before=scattered,
        do=retype("n", "int64") + ", " + retype("info.port", "float64"),
        then={
            "t": [
                {**row, "info": row["info"] and {**row["info"], "port": float(row["info"]["port"])}}
                for row in (ONE, THREE, {**ONE, "id": 5}, {**THREE, "id": 6})
            ]
        },
    ),
    Case(
        "with stable row ids",
        start=STABLE,
        do=retype("n", "int64") + ", " + retype("info.port", "int64"),
        then=rows(dict),
    ),
    Case(
        "an empty table",
        start='CreateTable(table="t", schema="id: int64\\nn: int32\\ninfo: struct<a: int8>")',
        do=retype("n", "float64") + ", " + retype("info.a", "int16"),
        then={"t": []},
    ),
    Case(
        "a required column stays required",
        start='CreateTable(table="t", schema="id: int32 not null", rows=[{"id": 1}])',
        do=retype("id", "int64"),
        then={"t": [{"id": 1}]},
        columns={"t": ["id: int64 not null"]},
    ),
    Case(
        "twice, and renamed between",
        start=START,
        do=", ".join([retype("n", "int64"), rename("n", "m"), retype("m", "float64")]),
        then={
            "t": [
                {("m" if k == "n" else k): (float(v) if k == "n" and v else v) for k, v in r.items()}
                for r in ALL
            ]
        },
    ),
]

DROP = [
    Case(
        "drop a column",
        start=START,
        do=drop("x"),
        then=without("x"),
        irreversible="no inverse can be derived for: drop column x",
        everywhere=True,
    ),
    Case(
        "drop an indexed column",
        start=INDEXED,
        do=drop("n"),
        then=without("n"),
        look=indexed("id_idx", "by_port"),
        irreversible="drop column n",
    ),
    Case(
        "drop a struct's field",
        start=INDEXED,
        do=drop("info.serial"),
        then=info(lambda i: {"port": i["port"]}),
        look=finds("info.port = 3", NAMES),
        irreversible="drop column info.serial",
    ),
    Case(
        "drop a struct's indexed field",
        start=INDEXED,
        do=drop("info.port"),
        then=info(lambda i: {"serial": i["serial"]}),
        look=indexed("id_idx", "n_idx"),
        irreversible="drop column info.port",
    ),
    Case(
        "drop a field beside one that was never written",
        start=(START, 'AddColumn(table="t", column="info.new: string")'),
        do=drop("info.serial") + ", " + drop("info.port"),
        then=info(lambda _: {"new": None}),
        irreversible="drop column",
    ),
    Case(
        "drop a whole struct",
        start=INDEXED,
        do=drop("info"),
        then=without("info"),
        look=indexed("id_idx", "n_idx"),
        irreversible="drop column info",
    ),
    Case(
        "drop the only column that was ever written",
        start=ONLY_IDS,
        do=drop("id"),
        then={"t": [{"n": None, "tags": None}]},
        look=whole,
        irreversible="drop column id",
    ),
    Case(
        "drop the only column that was written in some fragments",
        start=(*ONLY_IDS, 'RewriteTable(table="t", stable_row_ids=True)'),
        before=filled_later,
        do=drop("id") + ", " + drop("n"),
        then={"t": [{"tags": None}, {"tags": None}, {"tags": ["a"]}]},
        look=whole,
        irreversible="drop column",
    ),
    Case(
        "drop with several fragments",
        start=START,
        before=scattered,
        do=drop("info.serial") + ", " + drop("x"),
        then={
            "t": [
                {k: ({"port": v["port"]} if k == "info" else v) for k, v in row.items() if k != "x"}
                for row in (ONE, THREE, {**ONE, "id": 5}, {**THREE, "id": 6})
            ]
        },
        irreversible="drop column",
    ),
]

REQUIRE = [
    Case(
        "require a column",
        start=INDEXED,
        do=require("id"),
        then=rows(dict),
        look=indexed(*NAMES),
        everywhere=True,
    ),
    Case(
        "fill, then require",
        start=START,
        do='UpdateRows(table="t", set={"n": "0"}, where="n is null"), ' + require("n"),
        then={"t": [ONE, {**TWO, "n": 0}, THREE]},
    ),
    Case(
        "relax what was required",
        start=START + ", " + require("id"),
        do='RelaxColumn(table="t", column="id")',
        then=rows(dict),
    ),
    Case(
        "require in an empty table",
        start='CreateTable(table="t", schema="id: int64")',
        do=require("id"),
        then={"t": []},
    ),
]

REFUSALS = [
    Refusal(
        "rename to a name that is taken",
        start=START,
        do=rename("n", "x"),
        error=PlanError,
        says=["already has a column 'x'"],
    ),
    Refusal(
        "rename what is not there", start=START, do=rename("y", "z"), error=PlanError, says=["no column 'y'"]
    ),
    Refusal(
        "rename to a path", start=START, do=rename("n", "a.b"), error=ScriptError, says=["RenameColumn.to"]
    ),
    Refusal(
        "a cast that loses fractions",
        start=START,
        do=retype("x", "int32"),
        error=PlanError,
        says=["casting t.x to int32 would lose data", "1.5"],
        plan=False,
    ),
    Refusal(
        "a cast that overflows in silence",
        start='CreateTable(table="t", schema="x: float64", rows=[{"x": 1e300}])',
        do=retype("x", "float32"),
        error=PlanError,
        says=["would lose data: 1 values change, for example 1e+300"],
        plan=False,
    ),
    Refusal(
        "a cast that drops a struct's field",
        start=START,
        do=retype("info", "struct<serial: string>"),
        error=PlanError,
        says=["would lose data"],
        plan=False,
    ),
    Refusal(
        "text that is no number",
        start=START,
        do=retype("s", "int64"),
        error=PlanError,
        says=["casting t.s to int64 would lose data"],
        plan=False,
    ),
    Refusal(
        "a cast that Arrow does not know",
        start=START,
        do=retype("info", "int64"),
        error=PlanError,
        says=["t.info: no cast from struct<serial: string, port: int32> to int64 exists"],
    ),
    Refusal(
        "SQL for the key",
        start=START,
        do=retype("id", "int64", ', using="n"'),
        error=PlanError,
        says=["t.id is part of the key"],
    ),
    Refusal(
        "SQL for a struct's field",
        start=START,
        do=retype("info.port", "int64", ', using="1"'),
        error=ScriptError,
        says=["whole column"],
    ),
    Refusal(
        "SQL of a wrong type",
        start=START,
        do=retype("n", "list<int8>", ', using="s"'),
        error=PlanError,
        says=["t.n is list<item: int8>, but the expression gives string"],
    ),
    Refusal("drop the key", start=START, do=drop("id"), error=PlanError, says=["t.id is part of the key"]),
    Refusal(
        "drop the last column",
        start='CreateTable(table="t", schema="x: int8")',
        do=drop("x"),
        error=PlanError,
        says=["t.x is the last column"],
    ),
    Refusal(
        "drop a struct's last field",
        start='CreateTable(table="t", schema="x: int8\\ns: struct<a: int8>")',
        do=drop("s.a"),
        error=PlanError,
        says=["t.s.a is the last column"],
    ),
    Refusal(
        "drop what is not there", start=START, do=drop("info.nope"), error=PlanError, says=["serial, port"]
    ),
    Refusal(
        "require a column with nulls",
        start=START,
        do=require("n"),
        error=PlanError,
        says=["t.n is null in 1 of 3 rows"],
    ),
    Refusal(
        "require a struct's field",
        start=START,
        do=require("info.port"),
        error=ScriptError,
        says=["works on whole columns"],
    ),
    Refusal(
        "require twice",
        start=START + ", " + require("id"),
        do=require("id"),
        error=PlanError,
        says=["t.id is already non-null"],
    ),
    Refusal(
        "require a column that an earlier step made null",
        start=START,
        do='UpdateRows(table="t", set={"id": "nullif(id, 1)"}), ' + require("id"),
        error=PlanError,
        says=["t.id is null in 1 rows"],
        plan=False,
    ),
]


@pytest.mark.parametrize("case", [*RENAME, *RETYPE, *DROP, *REQUIRE, *REFUSALS], ids=str)
def test_columns(run, case):
    run(case)
