"""`check`: each way in which models, files, lineage, live tables and pointer can part has its own code."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import lancedb
import pyarrow as pa
import pytest
from console import CREATE, DOUBLE, Console
from lab import Lab

RECORDINGS = """
    CreateTable(
        table="recordings", key=("id",),
        schema=pa.schema([
            pa.field("id", pa.int64(), nullable=False), ("gain", pa.float64()), ("note", pa.string()),
            ("at", pa.struct([("room", pa.string())])), ("vector", pa.list_(pa.float32(), 2)),
        ], metadata={"site": "north"}),
        rows=[{"id": n, "gain": float(n), "note": f"n{n}", "vector": [n, 1.0]} for n in range(300)],
    ),
    CreateIndex(table="recordings", column="id", type="BTREE"),
    CreateIndex(table="recordings", column="note", type="INVERTED", params={"with_position": True}),
    SetMetadata(table="recordings", column="gain", metadata={"unit": "dB"}),
"""


def codes(console: Console, *options: str) -> list[str]:
    done = console("check", "--format", "json", *options)
    return re.findall(r'"code": "(LM\d\d\d)"', done.stdout)


def lancedb_table(lab: Lab, name: str = "recordings") -> Any:
    return lancedb.connect(str(Path(lab.place.store) / lab.root / "catalog")).open_table(name)


def unstated(lab: Lab) -> None:
    """The lineage names versions, but the files do not reach back."""
    for path in (lab.folder / "versions").glob("*.py"):
        path.unlink()
    (lab.folder / "versions" / "0100.py").write_text(
        'revision = "0100"\ndown_revision = None\nfrom lancemig import DropColumn\n'
        'operations = [DropColumn(table="elsewhere", column="x")]\n'
    )


@pytest.fixture(params=["by the files", "by the versions"])
def recordings(request: pytest.FixtureRequest, lab: Lab, console: Console) -> Lab:
    """A table of which the files tell, or of which only the lineage does."""
    lab.revision(RECORDINGS)
    console.says("upgrade")
    if request.param == "by the versions":
        unstated(lab)
        console.says("stamp", "0100")
    assert codes(console) == []
    return lab


ALTERED: dict[str, tuple[Callable[[lance.LanceDataset], object], str, str]] = {
    "a column more": (
        lambda d: d.add_columns(pa.field("extra", pa.int8())), "LM303", "column extra was added: int8"),
    "a column less": (lambda d: d.drop_columns(["gain"]), "LM304", "column gain was dropped"),
    "another type": (
        lambda d: d.alter_columns({"path": "gain", "data_type": pa.float32()}), "LM305",
        "column gain is float32, not float64"),
    "nullable": (
        lambda d: d.alter_columns({"path": "id", "nullable": True}), "LM306", "column id is nullable"),
    "a field more": (
        lambda d: d.add_columns(pa.field("at", pa.struct([("floor", pa.int8())]))), "LM303",
        "column at.floor was added: int8"),
    "an index less": (lambda d: d.drop_index("id_idx"), "LM308", "index id_idx was dropped"),
    "an index more": (
        lambda d: d.create_scalar_index("gain", "BITMAP"), "LM307",
        "index gain_idx on gain was added (BITMAP)"),
    "another index": (
        lambda d: d.create_scalar_index("id", "BITMAP", name="id_idx", replace=True), "LM309",
        "index id_idx: type is BITMAP, not BTREE"),
    "other parameters": (
        lambda d: d.create_scalar_index("note", "INVERTED", with_position=False, replace=True), "LM309",
        "index note_idx: with_position is False, not True"),
    "metadata": (
        lambda d: d.update_schema_metadata({"site": "south"}), "LM310",
        "metadata 'site' of the table is 'south', not 'north'"),
    "metadata of a column": (
        lambda d: d.replace_field_metadata("gain", {"unit": "V"}), "LM310",
        "metadata 'unit' of column gain is 'V', not 'dB'"),
    "the key": (
        lambda d: d.update_schema_metadata({"lancemig.key": '["note"]'}), "LM311", "the key is note, not id"),
}  # fmt: skip


@pytest.mark.parametrize("what", ALTERED)
def test_what_others_altered_is_drift_and_the_commit_is_named(
    recordings: Lab, console: Console, what: str
) -> None:
    alter, code, said = ALTERED[what]
    alter(recordings.dataset("recordings"))
    done = console("check")
    assert done.exit_code == 1
    assert f"{code}  recordings: {said}" in done.stdout
    version = recordings.dataset("recordings").version
    commit = rf"LM312  recordings: version {version} of \S+Z was not committed by lancemig "
    commit += r"\(\w+, properties: none\): "
    commit += re.escape(said)
    assert re.search(commit, done.stdout), done.stdout
    assert codes(console, "--ignore", "LM3") == []
    assert console("check", "--ignore", "LM30*", "--ignore", "LM31").exit_code == 0


PUT_RIGHT: dict[str, Callable[[lance.LanceDataset], object]] = {
    "an index made again": lambda d: (d.drop_index("id_idx"), d.create_scalar_index("id", "BTREE")),
    "a column that came and went": lambda d: (
        d.add_columns(pa.field("x", pa.int8())), d.drop_columns(["x"])),
}  # fmt: skip


@pytest.mark.parametrize("what", PUT_RIGHT)
def test_what_was_put_right_by_hand_is_in_sync_and_still_told(
    recordings: Lab, console: Console, what: str
) -> None:
    PUT_RIGHT[what](recordings.dataset("recordings"))
    found = console.json("check")
    assert found["ok"]
    assert {(one["code"], one["level"]) for one in found["findings"]} == {("LM312", "warning")}
    assert all("reverted since" in one["message"] for one in found["findings"])
    console.says("stamp", "current")
    assert console.says("check") == "in sync\n"


def test_what_was_altered_is_in_sync_once_a_revision_says_so_and_is_stamped(
    lab: Lab, console: Console
) -> None:
    lab.revision(RECORDINGS)
    console.says("upgrade")
    lab.dataset("recordings").add_columns(pa.field("extra", pa.int8()))
    lab.revision('AddColumn(table="recordings", column=pa.field("extra", pa.int8()))')
    console.says("stamp", "head")
    assert console.says("check") == "in sync\n"


def test_a_parameter_that_no_file_names_is_compared_with_what_the_revision_left(
    lab: Lab, console: Console
) -> None:
    vectors = (
        'CreateIndex(table="recordings", column="vector", type="IVF_FLAT", params={"num_partitions": 1})'
    )
    lab.revision(f"{RECORDINGS} {vectors}")
    console.says("upgrade")
    assert console.says("check") == "in sync\n"
    lab.dataset("recordings").create_index(
        "vector", "IVF_FLAT", num_partitions=1, metric="cosine", replace=True, name="vector_idx"
    )
    assert codes(console) == ["LM309", "LM312"]
    assert "index vector_idx: metric is cosine, not l2" in console("check").stdout


def test_fewer_partitions_than_were_asked_for_are_no_drift(lab: Lab, console: Console) -> None:
    many = 'CreateIndex(table="recordings", column="vector", type="IVF_FLAT", params={"num_partitions": 8})'
    lab.revision(f"{RECORDINGS} {many}")
    console.says("upgrade")
    assert console.says("check") == "in sync\n"


@pytest.mark.parametrize("again", [False, True])
def test_a_restore_from_before_the_live_revision_is_drift(lab: Lab, console: Console, again: bool) -> None:
    lab.revision(RECORDINGS)
    lab.revision('UpdateRows(table="recordings", set={"gain": "gain * 2"})')
    console.says("upgrade", "+1")
    before = lab.dataset("recordings").version
    console.says("upgrade")
    after = lab.dataset("recordings").version
    lab.dataset("recordings").checkout_version(before).restore()
    if again:
        lab.dataset("recordings").checkout_version(after).restore()
        assert codes(console) == ["LM320"]
        return
    assert codes(console) == ["LM313", "LM320"]
    said = rf"version {after + 1} of \S+Z was not committed by lancemig \(Restore, properties: none\): "
    assert re.search(f"{said}it restored version {before}", console("check").stdout)
    console.says("stamp", "0001")
    assert codes(console, "--ignore", "LM401") == []


def test_a_table_that_was_made_anew_is_drift(lab: Lab, console: Console) -> None:
    lab.revision(CREATE)
    lab.revision(DOUBLE)
    console.says("upgrade")
    dataset = lab.dataset("recordings")
    rows, uri = dataset.to_table(), dataset.uri
    shutil.rmtree(uri)
    lance.write_dataset(rows, uri)
    assert codes(console) == ["LM313"]
    assert "it is at version 1, but the live revision ended at version 2" in console("check").stdout
    console.says("stamp", "current")
    assert codes(console) == []


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "half": lambda there: there[: len(there) // 2],
    "zeros": lambda there: bytes(len(there)),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_table_is_told_beside_what_else_there_is(lab: Lab, console: Console, how: str) -> None:
    lab.revision(CREATE)
    lab.revision('CreateTable(table="z", schema=pa.schema([("a", pa.int8())]))')
    console.says("upgrade")
    lab.dataset("z").add_columns(pa.field("b", pa.int8()))
    for path in (Path(lab.place.store) / "v1/catalog/recordings.lance/_versions").iterdir():
        path.write_bytes(DAMAGED[how](path.read_bytes()))
    assert codes(console) == ["LM314", "LM303", "LM312"]
    refused = console.refuses("status", status=6)
    assert "opening table recordings: the files are damaged" in refused
    assert "from a backup" in refused


def test_a_table_of_which_only_the_folder_is_left_is_gone(live: Lab, console: Console) -> None:
    shutil.rmtree(Path(live.place.store) / "v1/catalog/recordings.lance/_versions")
    assert codes(console) == ["LM302", "LM332"]
    assert "its folder has no version of it" in console("check").stdout


def test_rows_that_others_edit_are_told_and_are_no_drift(recordings: Lab, console: Console) -> None:
    recordings.append("recordings", [{"id": 900, "gain": 1.0}])
    assert codes(console) == [], "an append is what tables are for"
    table = lancedb_table(recordings)
    table.update(where="id = 1", values={"gain": 9.0})
    table.delete("id = 2")
    said = console.says("check")
    assert (
        "LM320  info: recordings: rows were changed by another writer: 1 Update, 1 Delete in versions" in said
    )
    assert said.endswith("in sync\n")
    found = console.json("check")
    assert found["ok"]
    assert [finding["level"] for finding in found["findings"]] == ["info"]


def test_maintenance_is_no_drift(recordings: Lab, console: Console) -> None:
    recordings.append("recordings", [{"id": 900, "gain": 1.0}])
    lancedb_table(recordings).optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    assert codes(console) == []


def test_properties_tell_who_it_was(recordings: Lab, console: Console) -> None:
    dataset = recordings.dataset("recordings")
    operation = lance.LanceOperation.UpdateConfig(
        schema_metadata_updates=lance.LanceOperation.UpdateMap({"site": "south"})
    )
    transaction = lance.Transaction(dataset.version, operation, transaction_properties={"by": "notebook"})
    lance.LanceDataset.commit(dataset.uri, transaction)
    assert "properties: by=notebook" in console("check").stdout


def test_tables_come_and_go(recordings: Lab, console: Console) -> None:
    folder = Path(recordings.place.store) / recordings.root / "catalog"
    (folder / "recordings.lance").rename(folder / "copy.lance")
    assert codes(console) == ["LM302", "LM301"]


def test_a_change_that_lancemig_made_is_no_drift(lab: Lab, console: Console) -> None:
    lab.revision(RECORDINGS)
    lab.revision('AddColumn(table="recordings", column=pa.field("b", pa.int8()))')
    lab.revision('RenameColumn(table="recordings", column="gain", to="volume")')
    for _ in range(3):
        console.says("upgrade", "+1")
        assert codes(console, "--ignore", "LM401") == []
    lab.append("recordings", [{"id": 901, "gain": 1.0}], root="v1/")
    console.says("reconcile")
    assert codes(console) == []
    console.says("rollback")
    assert codes(console, "--ignore", "LM401") == []
    console.says("downgrade", "0001")
    assert codes(console, "--ignore", "LM401") == []


def test_json_has_a_line_for_each_comparison(live: Lab, console: Console) -> None:
    names = [
        "models against files",
        "files against lineage",
        "lineage against live catalog",
        "head against pointer",
    ]
    found = console.json("check")
    assert [one["name"] for one in found["comparisons"]] == names
    assert [one["code"] for one in found["comparisons"]] == ["LM1", "LM2", "LM3", "LM4"]
    assert [one["ok"] for one in found["comparisons"]] == [None, True, True, True]
    assert found["comparisons"][0]["skipped"] == "no models in lancemig.ini"
    live.revision(DOUBLE)
    assert [one["ok"] for one in console.json("check", status=1)["comparisons"]] == [None, True, True, False]
    offline = console.json("check", "--offline")["comparisons"]
    assert [one["ok"] for one in offline] == [None, True, None, None]
    (live.folder / "versions" / "0002.py").write_text("x = ")
    broken = console.json("check", status=1)
    assert [one["ok"] for one in broken["comparisons"]] == [None, False, None, None]
    assert broken["findings"][0]["code"] == "LM200"


@pytest.fixture
def altered(live: Lab, console: Console) -> Lab:
    """An edited file (LM201), a column more (LM303, LM312), rows edited (LM320), one pending (LM401)."""
    with (live.folder / "versions" / "0001.py").open("a") as file:
        file.write("# edited\n")
    live.dataset("recordings").add_columns(pa.field("extra", pa.int8()))
    live.dataset("recordings").delete("id = 1")
    live.revision(DOUBLE)
    return live


@pytest.mark.parametrize("form", [(), ("--format", "text"), ("--format", "json"), ("--format", "github")])
@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        ((), ["LM201", "LM303", "LM312", "LM320", "LM401"]),
        (("LM2",), ["LM303", "LM312", "LM320", "LM401"]),
        (("lm201", "LM3*", "LM4"), []),
        (("LM201, LM3…,LM401",), []),
        (("LM201", "LM303", "LM312", "LM401"), ["LM320"]),
        (("LM9", ""), ["LM201", "LM303", "LM312", "LM320", "LM401"]),
    ],
)
def test_only_what_is_left_and_no_information_decides_the_exit_status(
    altered: Lab, console: Console, form: tuple[str, ...], ignored: tuple[str, ...], left: list[str]
) -> None:
    # By what the lineage says of the table: the files are known to be others.
    ignore = [word for pattern in ignored for word in ("--ignore", pattern)]
    done = console("check", *form, *ignore)
    assert done.exit_code == (1 if {*left} - {"LM320"} else 0), done.output
    assert list(dict.fromkeys(re.findall(r"LM\d{3}", done.stdout.replace("LM2:", "")))) == left


def test_files_that_do_not_load_cannot_be_ignored(live: Lab, console: Console) -> None:
    (live.folder / "versions" / "0002.py").write_text("x = ")
    done = console("check", "--ignore", "LM")
    assert done.exit_code == 1
    assert done.stdout.startswith("LM200")


@pytest.mark.slow
def test_findings_come_in_one_order(altered: Lab) -> None:
    dataset = altered.dataset("recordings")
    for number in range(6):
        dataset.update_schema_metadata({f"m{number}": "x"})
        lance.write_dataset(pa.table({"id": [1]}), f"{altered.place.store}/v1/catalog/new{number}.lance")
    command = [sys.executable, "-m", "lancemig", "-c", str(altered.folder / "lancemig.ini"), "check"]
    said = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert "LM301" in next(iter(said))


DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_json_is_as_documented(altered: Lab, console: Console) -> None:
    found = console.json("check", status=1)
    row = next(
        line for line in (DOCS / "formats.md").read_text().splitlines() if line.startswith("| `check` |")
    )
    documented = set(re.findall(r"`([a-z_]+)`", row.partition("|")[2].partition("|")[2]))
    levels = {"error", "warning", "info"}
    given = {*found} - {"format"} | {*found["comparisons"][0]} | {*found["findings"][0]}
    assert documented - levels == given
    assert {one["level"] for one in found["findings"]} <= levels


def test_an_edit_that_is_vouched_for_by_a_stamp_is_taken_for_what_was_applied(
    live: Lab, console: Console
) -> None:
    path = live.folder / "versions" / "0001.py"
    for _ in range(2):
        path.write_text(path.read_text() + "# edited\n")
        assert codes(console) == ["LM201"]
        assert "lancemig stamp current" in console("check").stdout
        console.says("stamp", "current")
        assert codes(console) == []


def test_nothing_found_is_no_annotation(live: Lab, console: Console) -> None:
    assert console.says("check", "--format", "github") == ""


def test_github_shows_annotations(live: Lab, console: Console) -> None:
    with (live.folder / "versions" / "0001.py").open("a") as file:
        file.write("# edited, 100%\n")
    live.dataset("recordings").delete("id = 1")
    lines = console("check", "--format", "github").stdout.splitlines()
    assert re.fullmatch(
        r"::error file=\S+0001.py,title=LM201::\S+0001.py was edited .*"
        r"%0Anext: \(1\) restore the file \(git diff .*",
        lines[0],
    )
    assert lines[1].startswith("::notice title=LM320::recordings: rows were changed")


def test_a_catalog_of_which_nothing_is_known_is_said_to_be_one(lab: Lab, console: Console) -> None:
    lance.write_dataset(pa.table({"id": [1]}), f"{lab.place.store}/v1/catalog/found.lance")
    assert console.json("check")["findings"][0]["code"] == "LM322"


def test_what_is_cleaned_away_is_not_guessed(recordings: Lab, console: Console) -> None:
    recordings.dataset("recordings").drop_columns(["gain"])
    recordings.append("recordings", [{"id": 900, "note": "x"}])
    lancedb_table(recordings).optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    found = codes(console)
    assert "LM304" in found
    assert "LM312" not in found
    assert "LM321" in found
