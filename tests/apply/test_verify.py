"""The gates before a flip: each catches what it is there for and names it, and none cries wolf."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from lab import Appender, Lab
from lance.dataset import LanceDataset
from servers import Place
from values_matrix import TABLES

from lancemig.apply.verify import recompute
from lancemig.catalog.arrow_types import format_field
from lancemig.catalog.lineage import VerificationReport
from lancemig.commands import flip, recovery, status, upgrade
from lancemig.errors import PlanError, ScriptError, VerifyFailed
from lancemig.report.plan import plan_text

ROWS, WIDTH = 600, 8
ABOVE = """
import numpy as np

def made(first=0, last=600):
    random = np.random.default_rng(7)
    return [
        {"id": n, "gain": float(n), "text": f"take {n}", "fs": n % 7, "info": {"serial": f"s{n}", "rate": n},
         "vec": [float(v) for v in random.standard_normal(8)]}
        for n in range(first, last)
    ]

def loud(batch):
    return pc.greater(batch.column("gain"), 100.0)
"""
START = """
    CreateTable(table="t", key=("id",), schema=pa.schema([
        ("id", pa.int64()), ("gain", pa.float64()), ("text", pa.string()), ("fs", pa.int32()),
        ("info", pa.struct([("serial", pa.string()), ("rate", pa.int64())])),
        ("vec", pa.list_(pa.float32(), 8)),
    ]), rows=made()),
    CreateTable(table="notes", schema=pa.schema([("at", pa.int64()), ("text", pa.string())]),
                rows=[{"at": n, "text": f"note {n}"} for n in range(40)]),
    CreateIndex(table="t", column="fs", type="BTREE"),
    CreateIndex(table="t", column="vec", type="IVF_PQ",
                params={"num_partitions": 1, "num_sub_vectors": 8}),
"""
REBUILD = """
    RenameColumn(table="t", column="fs", to="rate"),
    RetypeColumn(table="t", column="gain", to="float32", using="cast(gain / 2 as float)"),
    AddColumn(table="t", column=pa.field("half", pa.float64()), sql="nullif(gain, 7.0)"),
    RenameColumn(table="notes", column="text", to="words"),
"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START, above=ABOVE)
    lab.upgrade()
    return lab


def staged(lab: Lab, operations: str = REBUILD, above: str = "") -> str:
    lab.revision(operations, above=above or ABOVE)
    outcome = lab.upgrade(no_flip=True)
    assert outcome.staged_prefix
    return outcome.staged_prefix


def rewritten(dataset: LanceDataset, change: Callable[[pa.Table], pa.Table]) -> None:
    """The same table with other rows; its indices are made again."""
    indices = dataset.describe_indices()
    rows = change(dataset.to_table())
    lance.write_dataset(
        rows.replace_schema_metadata(dataset.schema.metadata), dataset.uri, schema=None, mode="overwrite"
    )
    for index in indices:
        indexed(lance.dataset(dataset.uri), index.field_names[0], index.name)


def indexed(dataset: LanceDataset, column: str, name: str) -> None:
    if column == "vec":
        dataset.create_index(column, "IVF_PQ", name=name, num_partitions=1, num_sub_vectors=8)
    else:
        dataset.create_scalar_index(column, "BTREE", name=name)


def put(column: str, change: Callable[[list[Any]], None]) -> Callable[[LanceDataset], None]:
    """Changes the values of one column."""

    def corrupt(dataset: LanceDataset) -> None:
        def other(rows: pa.Table) -> pa.Table:
            values = rows.column(column).to_pylist()
            change(values)
            at, field = rows.schema.get_field_index(column), rows.schema.field(column)
            return rows.set_column(at, field, pa.array(values, field.type))

        rewritten(dataset, other)

    return corrupt


def swapped(values: list[Any]) -> None:
    values[10], values[20] = values[20], values[10]


def nulled(values: list[Any]) -> None:
    values[33] = None


def dropped(dataset: LanceDataset) -> None:
    dataset.delete("id = 77" if "id" in dataset.schema.names else "at = 7")


def duplicated(dataset: LanceDataset) -> None:
    lance.write_dataset(dataset.to_table().slice(3, 1), dataset.uri, mode="append")


def replaced_by_a_double(dataset: LanceDataset) -> None:
    dataset.delete("id = 77")
    duplicated(lance.dataset(dataset.uri))


def without_index(dataset: LanceDataset) -> None:
    dataset.drop_index("fs_idx")


def another_index(dataset: LanceDataset) -> None:
    dataset.create_scalar_index("rate", "BITMAP", name="fs_idx", replace=True)


def another_vector_index(dataset: LanceDataset) -> None:
    dataset.create_index("vec", "IVF_FLAT", name="vec_idx", num_partitions=1, replace=True)


def blind_index(dataset: LanceDataset) -> None:
    """An index with the same parameters whose code book takes all vectors for nearly the same one."""
    codes = pa.array(np.linspace(90, 91, 256 * WIDTH, dtype=np.float32))
    centroids = pa.array(np.zeros(WIDTH, dtype=np.float32))
    dataset.create_index(
        "vec",
        "IVF_PQ",
        name="vec_idx",
        num_partitions=1,
        num_sub_vectors=8,
        ivf_centroids=pa.FixedSizeListArray.from_arrays(centroids, WIDTH),
        pq_codebook=pa.FixedSizeListArray.from_arrays(codes, WIDTH),
        replace=True,
    )


def unindexed(dataset: LanceDataset) -> None:
    rows = dataset.to_table().replace_schema_metadata(dataset.schema.metadata)
    lance.write_dataset(rows.slice(0, 300), dataset.uri, mode="overwrite")
    indexed(lance.dataset(dataset.uri), "rate", "fs_idx")
    indexed(lance.dataset(dataset.uri), "vec", "vec_idx")
    lance.write_dataset(rows.slice(300), dataset.uri, mode="append")


def wrongly_typed(dataset: LanceDataset) -> None:
    dataset.drop_index("fs_idx")
    dataset.alter_columns({"path": "rate", "data_type": pa.int64()})


def without_metadata(dataset: LanceDataset) -> None:
    dataset.replace_schema_metadata({})


CORRUPTIONS: dict[str, tuple[str, Callable[[LanceDataset], None], str]] = {
    "dropped row": (
        "t",
        dropped,
        r"t: rows: 599 rows, expected 600\n.*t: keys: 1 key is missing, for example id=77",
    ),
    "dropped row without a key": ("notes", dropped, r"notes: rows: 39 rows, expected 40"),
    "duplicated row": (
        "t",
        duplicated,
        r"t: rows: 601(.|\n)*t: keys: 1 key is unexpected, for example id=3\b",
    ),
    "duplicated row without a key": ("notes", duplicated, r"notes: whole rows: 1 row is unexpected.* at=3"),
    "a double in the place of another": (
        "t",
        replaced_by_a_double,
        r"id=77; 1 key is unexpected, for example id=3\b",
    ),
    "swapped values": (
        "t",
        put("rate", swapped),
        r"t\.rate: columns: 2 rows have a different value.* id=\d+",
    ),
    "swapped values without a key": (
        "notes",
        put("words", swapped),
        r"notes: whole rows: 2 rows are missing",
    ),
    "swapped vectors": (
        "t",
        put("vec", swapped),
        r"t\.vec: columns: 2 rows have a different value.* id=(10|20)",
    ),
    "swapped structs": ("t", put("info", swapped), r"t\.info: columns: 2 rows have a different value"),
    "null for a value": (
        "t",
        put("text", nulled),
        r"t\.text: columns: 1 row has a different value.* id=33\b",
    ),
    "wrong value": ("t", put("rate", lambda v: v.__setitem__(0, 1)), r"t\.rate: columns: 1 row has"),
    "null for a computed value": (
        "t",
        put("half", nulled),
        r"t\.half: recomputed: .* id=33: first run None, second run",
    ),
    "swapped computed values": (
        "t",
        put("half", swapped),
        r"t\.half: recomputed: .* 2 rows differ",
    ),
    "missing index": ("t", without_index, r"t\.rate: indices: no index 'fs_idx'"),
    "another index": ("t", another_index, r"t\.rate: indices: fs_idx: type is BITMAP, expected BTREE"),
    "rows that no index covers": (
        "t",
        unindexed,
        r"t\.rate: indices: .*300 rows not indexed, more than the 0 allowed",
    ),
    "broken recall": ("t", blind_index, r"t\.vec: recall: .*recall@10 0\.\d+ in 50"),
    "another vector index": (
        "t",
        another_vector_index,
        r"t\.vec: indices: vec_idx: type is IVF_FLAT, expected IVF_PQ",
    ),
    "wrong type": ("t", wrongly_typed, r"t: schema: column rate is int64, not int32"),
    "lost key": ("t", without_metadata, r"t: schema: the key is unknown, not id"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_corruption_is_caught_and_named(lab: Lab, what: str) -> None:
    table, corrupt, said = CORRUPTIONS[what]
    prefix = staged(lab)
    corrupt(lab.dataset(table, prefix))
    with pytest.raises(VerifyFailed, match=said) as error:
        flip.flip(lab.catalog(), None)
    assert error.value.exit_status == 4
    assert lab.root == "v1/"
    assert not stored(lab, error.value.message).ok


def stored(lab: Lab, message: str) -> VerificationReport:
    """The report that a failure names."""
    import json

    key = message.rpartition("report: ")[2].strip()
    found = lab.catalog().store.objects.read(key)
    assert found
    report = VerificationReport.model_validate(json.loads(found.body))
    assert lab.catalog().store.reports.read(report.digest) == report
    return report


def test_a_stale_table_is_caught(lab: Lab) -> None:
    old = lab.dataset("t").to_table()
    lab.dataset("t").update({"text": "'new'"}, where="id = 4")
    prefix = staged(lab, 'RenameTable(table="notes", to="remarks")')
    target = lab.dataset("t", prefix)
    rewritten(target, lambda rows: old.cast(rows.schema))
    with pytest.raises(
        VerifyFailed, match=r"t\.text: columns: 1 row has a different value, for example id=4\b"
    ):
        flip.flip(lab.catalog(), None)


def test_a_clean_rebuild_passes_and_tells_how(lab: Lab) -> None:
    staged(lab)
    flip.flip(lab.catalog(), None)
    entry = status.history(lab.catalog())[0]
    assert entry.report
    report = lab.catalog().store.reports.read(entry.report)
    ways = {(o.table, o.column): o.way for o in report.outcomes if o.gate == "columns"}
    assert ways["t", "vec"] == ways["t", "rate"] == ways["notes", "words"] == "same files"
    assert ways["t", "gain"] == ways["t", "half"] == "not compared"
    again = {o.column: o.rows for o in report.outcomes if o.gate == "recomputed"}
    assert again == {"gain": ROWS, "half": ROWS + 1}, report.text()
    assert [c.check for c in entry.checks if c.table == "notes"] == [
        "schema", "rows", "columns", "whole rows",
    ] or {c.check for c in entry.checks if c.table == "notes"} >= {"schema", "rows", "columns"}  # fmt: skip
    assert "t.vec: columns: same files: equal in 600 rows" in report.text()


@pytest.mark.slow
def test_a_rebuild_that_writes_all_rows_anew_is_compared_by_checksums(lab: Lab) -> None:
    staged(
        lab, 'RewriteTable(table="t", order_by=("text",)), RewriteTable(table="notes", order_by=("text",))'
    )
    flip.flip(lab.catalog(), None)
    entry = status.history(lab.catalog())[0]
    report = lab.catalog().store.reports.read(entry.report or "")
    assert {o.way for o in report.outcomes if o.gate == "columns"} == {"checksum"}
    assert all(o.live == o.staged != None for o in report.outcomes if o.gate == "columns")  # noqa: E711


@pytest.mark.slow
@pytest.mark.parametrize("how", ["RewriteTable", "TransformTable"])
@pytest.mark.parametrize("keyed", [True, False])
def test_no_type_of_column_raises_a_false_alarm(
    tmp_path: Path, local_place: Place, how: str, keyed: bool
) -> None:
    lab = Lab(tmp_path / "types", local_place)
    creations, changes = [], []
    for name, table in TABLES.items():
        title = name.replace(" ", "_")
        key = 'key=("id",), ' if keyed else ""
        columns = [format_field(field) for field in table.schema]
        creations.append(f'CreateTable(table="{title}", {key}schema={columns!r})')
        arguments = 'order_by=("id",)' if how == "RewriteTable" else f"using=same, schema={columns!r}"
        changes.append(f'{how}(table="{title}", {arguments})')
    lab.revision(", ".join(creations))
    lab.upgrade()
    for name, table in TABLES.items():
        dataset = lab.dataset(name.replace(" ", "_"))
        for _ in range(1 if keyed else 2):
            lance.write_dataset(table.cast(dataset.schema), dataset.uri, mode="append")
    lab.revision(", ".join(changes), above="def same(batch):\n    return batch")
    lab.upgrade()
    entry = status.history(lab.catalog())[0]
    report = lab.catalog().store.reports.read(entry.report or "")
    assert report.ok
    compared = [o for o in report.outcomes if o.gate in ("columns", "recomputed") and o.compared]
    assert {o.table for o in compared} == {name.replace(" ", "_") for name in TABLES}


def test_a_busy_writer_raises_no_false_alarm(lab: Lab) -> None:
    def row(number: int) -> dict[str, Any]:
        n = 1000 + number
        info = {"serial": None, "rate": n}
        if number % 3 == 0:
            lab.dataset("t", "v1/").update({"text": "'again'"}, where=f"id = {number}")
        if number % 5 == 0:
            lab.dataset("t", "v1/").delete(f"id = {number}")
        return {"id": n, "gain": None, "text": "", "fs": 1, "info": info, "vec": [0.0] * WIDTH}

    lab.revision(REBUILD, above=ABOVE)
    with Appender(lab, "t", row, pause=0.05) as writer:
        lab.upgrade()
    assert writer.told
    entry = status.history(lab.catalog())[0]
    assert all(check.ok for check in entry.checks)


def test_what_others_declared_meanwhile_raises_no_false_alarm(lab: Lab) -> None:
    lab.dataset("t").update_schema_metadata({"owner": "us"})
    lab.revision(REBUILD + 'SetMetadata(table="t", metadata={"unit": "dB"})', above=ABOVE)
    prepared = upgrade.prepare(lab.catalog(), "head", "up")
    lab.dataset("t").update_schema_metadata({"owner": "them"})
    lab.dataset("t").create_scalar_index("text", "BTREE", name="theirs")
    upgrade.apply_prepared(lab.catalog(), prepared)
    checks = {c.check: c for c in status.history(lab.catalog())[0].checks if c.table == "t"}
    assert checks["indices"].ok and checks["schema"].ok
    assert lab.dataset("t").schema.metadata[b"unit"] == b"dB"


@pytest.mark.parametrize(
    "change",
    [
        'DeleteRows(table="t", where="id < 20")',
        'UpdateRows(table="t", set={"fs": "fs + 1"}, where="id < 20")',
        'UpsertRows(table="t", on=("id",), when_exists="overwrite", rows=made(0, 20))',
    ],
)
def test_rows_that_are_put_back_after_an_index_was_built_raise_no_false_alarm(lab: Lab, change: str) -> None:
    """They are in the index no more than after an operation in place; an addition makes it a rebuild."""
    lab.revision(f'{change}, AddColumn(table="t", column="c: int64")', above=ABOVE.replace("n % 7", "n % 6"))
    lab.upgrade()
    lab.dataset("t").optimize.optimize_indices()
    lab.downgrade()
    checks = {c.check: c for c in status.history(lab.catalog())[0].checks if c.table == "t"}
    assert checks["indices"].ok
    assert lab.dataset("t").count_rows() == ROWS


def test_metadata_that_a_step_set_must_be_there(lab: Lab) -> None:
    prefix = staged(lab, REBUILD + 'SetMetadata(table="t", metadata={"unit": "dB"})')
    lab.dataset("t", prefix).update_schema_metadata({"unit": "V"})
    with pytest.raises(VerifyFailed, match="t: schema: the metadata unit differs from the declaration"):
        flip.flip(lab.catalog(), None)


ROWS_COME_AND_GO = {
    "delete": 'DeleteRows(table="t", where="id < 100"), RenameColumn(table="t", column="fs", to="rate")',
    "upsert": """UpsertRows(table="t", on=("id",), when_exists="overwrite",
                 rows=[{**row, "gain": -1.0} for row in made(590, 610)]),
                 RenameColumn(table="t", column="fs", to="rate")""",
    "keep": """UpsertRows(table="t", on=("id",), when_exists="keep", rows=made(590, 610)),
               RenameColumn(table="t", column="fs", to="rate")""",
    "transform": """TransformTable(table="t", using=few, reads=("id", "fs"),
                    schema=pa.schema([("id", pa.int64()), ("rate", pa.int32())])),
                    CreateIndex(table="t", column="rate", type="BTREE")""",
}
FEW = """
def few(batch):
    some = batch.filter(pc.greater(batch.column("id"), 50))
    return pa.record_batch([some.column("id"), some.column("fs")], names=["id", "rate"])
"""


@pytest.mark.parametrize("which", ROWS_COME_AND_GO)
def test_where_rows_come_and_go_what_is_common_is_compared(lab: Lab, which: str) -> None:
    prefix = staged(lab, ROWS_COME_AND_GO[which], above=ABOVE + FEW)
    before = lab.dataset("t", prefix).version
    outcome = flip.flip(lab.catalog(), None)
    assert outcome.flipped
    assert before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "corrupt", "said"),
    [
        (
            "delete",
            put("text", swapped),
            r"t\.text: columns: 2 rows have a different value, for example id=1[12]0",
        ),
        (
            "delete",
            dropped,
            r"t: recomputed: 1 recomputed row missing|recomputed rows missing",
        ),
        ("delete", duplicated, r"t: keys: "),
        ("keep", put("gain", swapped), r"t\.gain: columns: 2 rows"),
        ("keep", dropped, r"t: keys: 1 key is missing, for example id=77"),
        ("transform", put("rate", swapped), r"t\.rate: recomputed: .* 2 rows differ"),
    ],
)
def test_where_rows_come_and_go_a_corruption_is_caught(
    lab: Lab, which: str, corrupt: Callable[[LanceDataset], None], said: str
) -> None:
    prefix = staged(lab, ROWS_COME_AND_GO[which], above=ABOVE + FEW)
    dataset = lab.dataset("t", prefix)
    if corrupt is dropped and which == "delete":
        dataset.delete("id = 177")
    elif corrupt is duplicated:
        rows = dataset.to_table().slice(0, 1)
        lance.write_dataset(rows, dataset.uri, mode="append")
    else:
        corrupt(dataset)
    with pytest.raises(VerifyFailed, match=said):
        flip.flip(lab.catalog(), None)


NULLS = {
    "by key": ("t", REBUILD, "half", r"t\.half: recomputed: .* id=500: first run None, second run 250\.0"),
    "written anew": ("t", "", "half", r"t\.half: recomputed: .* id=500: first run None, second run 500\.0"),
    "without a key": (
        "notes",
        """AddColumn(table="notes", column=pa.field("half", pa.int64()), sql="nullif(at, 7)"),
        RenameColumn(table="notes", column="text", to="words")""",
        "half",
        r"notes\.half: recomputed: other rows are null than expected",
    ),
}
ANEW = """
def anew(batch):
    gain = batch.column("gain")
    half = pc.if_else(pc.equal(gain, 7.0), pa.scalar(None, pa.float64()), gain)
    return pa.record_batch([batch.column("id"), half], names=["id", "half"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("how", NULLS)
def test_nulls_are_computed_again_all_of_them(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, how: str, many: bool
) -> None:
    if many:
        monkeypatch.setattr(recompute, "KEYS_AT_ONCE", 0)
    table, operations, column, said = NULLS[how]
    if how == "written anew":
        operations = """TransformTable(table="t", using=anew, reads=("id", "gain"), schema=pa.schema(
            [("id", pa.int64()), ("half", pa.float64())]))"""
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text() + "verify_sample = 0\n")
    lab.__dict__.pop("opened", None)
    prefix = staged(lab, operations, above=ABOVE + ANEW)
    place = 500 if table == "t" else 20

    def nulled_there(values: list[Any]) -> None:
        values[place] = None

    put(column, nulled_there)(lab.dataset(table, prefix))
    if many and table == "t":
        said = r"t\.half: recomputed: .*other rows are null than expected"
    with pytest.raises(VerifyFailed, match=said):
        flip.flip(lab.catalog(), None)


def test_a_tolerance_is_shown_used_and_recorded(lab: Lab) -> None:
    above = (
        ABOVE
        + """
tolerances = [
    Tolerance(table="t", column="gain", relative=1e-3), Tolerance(table="t", column="vec", recall=0.0),
]
"""
    )
    prefix = staged(
        lab, 'RetypeColumn(table="t", column="gain", to="float64", using="gain * 2")', above=above
    )
    prepared = upgrade.prepare(lab.catalog(), "head", "up")
    assert "  allow t.gain: relative 0.001" in plan_text(prepared.plan, store="", staging="")
    put("gain", lambda v: v.__setitem__(slice(None), [x * 1.0001 for x in v]))(lab.dataset("t", prefix))
    blind_index(lab.dataset("t", prefix))
    flip.flip(lab.catalog(), None)
    report = lab.catalog().store.reports.read(status.history(lab.catalog())[0].report or "")
    used = {o.gate: o.tolerance for o in report.outcomes if o.tolerance}
    assert used == {"recomputed": "t.gain: relative 0.001", "recall": "t.vec: recall 0"}


def test_a_value_that_is_not_the_same_twice_needs_a_tolerance(lab: Lab) -> None:
    lab.revision('RetypeColumn(table="t", column="gain", to="float64", using="random()")')
    with pytest.raises(VerifyFailed, match=r"t\.gain: recomputed: .* rows differ"):
        lab.upgrade()
    recovery.undo(lab.catalog())
    text = 'tolerances = [Tolerance(table="t", column="gain", recompute=False)]'
    path = lab.folder / "versions" / "0002.py"
    path.write_text(path.read_text() + text)
    lab.upgrade()
    report = lab.catalog().store.reports.read(status.history(lab.catalog())[0].report or "")
    [one] = [o for o in report.outcomes if o.gate == "recomputed"]
    assert (one.way, one.tolerance) == ("not compared", "recompute=False")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('tolerances = [Tolerance(table="t")]', ScriptError, "set at least one of"),
        ('tolerances = ["t"]', ScriptError, r"tolerance 1 is not a Tolerance but a str"),
        ('tolerance = [Tolerance(table="t", recall=0.5)]', ScriptError, "did you mean `tolerances`"),
        ('tolerances = [Tolerance(table="t", column="x", recall=0.5)]', PlanError, "has no column 'x'"),
        ('tolerances = [Tolerance(table="u", recall=0.5)]', PlanError, "table 'u' does not exist"),
    ],
)
def test_a_wrong_tolerance_is_refused(lab: Lab, text: str, error: type[Exception], said: str) -> None:
    lab.revision(REBUILD, above=text)
    with pytest.raises(error, match=said):
        lab.upgrade()


def with_command(lab: Lab, command: str, more: str = "") -> None:
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text() + f"verify_command = {command}\n{more}")
    lab.__dict__.pop("opened", None)


@pytest.mark.slow
def test_the_projects_own_tests_see_the_staged_root(lab: Lab) -> None:
    (lab.folder / "own.py").write_text(
        "import os, lancedb\n"
        "db = lancedb.connect(os.environ['LANCEMIG_CATALOG_URI'])\n"
        "assert 'rate' in db.open_table('t').schema.names\n"
        "assert os.environ['LANCEMIG_REVISION'] == '0002' and os.environ['LANCEMIG_STAGED_PREFIX']\n"
        "assert os.environ['LANCEMIG_RUN_ID']\n"
        "open('seen', 'w').write('yes')\n"
    )
    with_command(lab, "python own.py")
    lab.revision(REBUILD)
    lab.upgrade()
    assert (lab.folder / "seen").read_text() == "yes"
    [check] = [c for c in status.history(lab.catalog())[0].checks if c.check == "tests"]
    assert check.detail == "`python own.py` passed"


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ("sh -c 'echo the rate is wrong; exit 3'", "", r"failed with exit status 3:\n    the rate is wrong"),
        ("sh -c 'echo began; sleep 60'", "verify_timeout = 1\n", r"timed out after 1 s:\n    began"),
    ],
)
def test_the_projects_own_tests_stop_a_flip(lab: Lab, command: str, more: str, said: str) -> None:
    with_command(lab, command, more)
    lab.revision(REBUILD)
    with pytest.raises(VerifyFailed, match=said):
        lab.upgrade()
    assert lab.root == "v1/"
