"""`upgrade --plan --sample N`: old and new values of each kind of change, and what is not sampled."""

from pathlib import Path

from console import Console
from lab import Lab

START = """CreateTable(table="t", key=("id",), schema=["id: int64", "x: int64", "s: struct<a: int64>"],
    rows=[{"id": i, "x": i * 10, "s": {"a": i}} for i in range(1, 6)])"""


def sampled(lab: Lab, console: Console, operations: str, above: str = "", count: int = 2) -> str:
    lab.revision(START)
    console.says("upgrade")
    lab.revision(operations, above=above)
    said = console.says("upgrade", "--plan", "--sample", str(count))
    text = " ".join(said[said.index("sample   ") :].split())
    assert "no row changes its values" not in text
    return text


def test_a_retyped_column(lab: Lab, console: Console) -> None:
    text = sampled(
        lab, console, 'RetypeColumn(table="t", column="x", to="float64", using="cast(x as double) / 4")'
    )
    assert "id=1 x 10 → 2.5 id=2 x 20 → 5.0" in text


def test_a_retyped_field_of_a_struct(lab: Lab, console: Console) -> None:
    text = sampled(lab, console, 'RetypeColumn(table="t", column="s.a", to="float64")')
    assert "id=1 s.a 1 → 1.0" in text


def test_a_renamed_column_and_a_change_of_its_values(lab: Lab, console: Console) -> None:
    operations = 'RenameColumn(table="t", column="x", to="y"), UpdateRows(table="t", set={"y": "y + 1"})'
    text = sampled(lab, console, operations)
    assert "id=1 x → y 10 → 10" in text
    assert "id=1 y 10 → 11" in text


def test_a_renamed_key(lab: Lab, console: Console) -> None:
    assert "id=2 id → no 2 → 2" in sampled(lab, console, 'RenameColumn(table="t", column="id", to="no")')


TRANSFORM = 'TransformTable(table="t", using=f, schema=["id: int64", "x: int64"], reads=("id", "x"))'


def test_a_transformed_table(lab: Lab, console: Console) -> None:
    body = """
def f(batch):
    rows = [{"id": r["id"], "x": r["x"] + 1} for r in batch.to_pylist() if r["id"] != 2]
    return pa.RecordBatch.from_pylist([*rows, {"id": -rows[0]["id"], "x": 0}],
        schema=pa.schema([("id", pa.int64()), ("x", pa.int64())]))
"""
    text = sampled(lab, console, TRANSFORM, body, count=20)
    assert "id=1 x 10 → 11 id=2 deleted" in text
    assert "id=-1 inserted" in text


def test_a_function_is_tried_on_a_few_rows_only(lab: Lab, console: Console, tmp_path: Path) -> None:
    body = f"""
from pathlib import Path

def f(batch):
    with Path({str(tmp_path / "log")!r}).open("a") as log:
        log.write("x" * batch.num_rows)
    return pa.array([1] * batch.num_rows, pa.int64())
"""
    lab.revision('CreateTable(table="t", key=("id",), schema=["id: int64", "x: int64"])')
    console.says("upgrade")
    lab.append("t", [{"id": i} for i in range(5000)])
    lab.revision('BackfillColumns(table="t", columns=("x",), reads=("id",), using=f)', above=body)
    assert "x null → 1" in " ".join(console.says("upgrade", "--plan", "--sample", "3").split())
    assert 3 <= len((tmp_path / "log").read_text()) <= 128


def test_a_function_that_raises_is_found_before_the_run(lab: Lab, console: Console) -> None:
    lab.revision(START)
    console.says("upgrade")
    lab.revision(TRANSFORM, above="def f(batch):\n    raise KeyError('size')\n")
    said = console("upgrade", "--plan", "--sample", "3")
    assert said.exit_code == 2
    assert "f() raised KeyError: 'size'" in said.stderr


def test_what_has_no_rows_to_show_is_not_sampled(lab: Lab, console: Console) -> None:
    operations = """
        CreateIndex(table="t", column="x", type="BTREE"),
        SetMetadata(table="t", metadata={"owner": "us"}),
        AddColumn(table="t", column="note: string"),
        CreateTable(table="u", schema=["k: int64"], rows=[{"k": 1}]),
        UpdateRows(table="t", set={"x": "0"}, where="id > 100")
    """
    text = sampled(lab, console, operations)
    assert text.count("not sampled") == 4
    assert text.count("none of the rows examined changes") == 1
    document = console.json("upgrade", "--plan", "--sample", "2")
    assert [each.get("sampled", True) for each in document["samples"]].count(False) == 4
