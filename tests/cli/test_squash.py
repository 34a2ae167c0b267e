"""`squash`: one revision makes the same of a new catalog as several did, and old ones are at it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from console import CREATE, DOUBLE, RENAME, Console
from lab import Lab
from repository import committed, git, started

from lancemig.revisions.header import read_headers
from lancemig.revisions.loader import load_migration

EMPTY = """
    CreateTable(table="notes", schema=pa.schema([("id", pa.int64()), ("text", pa.string())])),
    CreateIndex(table="notes", column="id", type="BTREE"),
"""
ABOVE = """
LOUD = 10.0


def louder(batch: pa.RecordBatch) -> pa.Array:
    return pc.multiply(batch["gain"], LOUD)
"""
LOUDER = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=louder),'
NOTES = """
    AddColumn(table="notes", column=pa.field("at", pa.timestamp("us"))),
    UpdateRows(table="notes", set={"text": "'x'"}),
    RenameColumn(table="notes", column="text", to="said"),
    DropIndex(table="notes", name="id_idx"),
    RetypeColumn(table="notes", column="id", to=pa.int32()),
    RenameTable(table="notes", to="remarks"),
"""


@pytest.fixture
def old(lab: Lab, console: Console) -> Lab:
    """Five revisions, applied one by one."""
    lab.revision(CREATE)
    lab.revision(EMPTY)
    lab.revision(LOUDER, above=ABOVE)
    lab.revision(NOTES)
    lab.revision(DOUBLE)
    for _ in range(5):
        console.says("upgrade", "+1")
    return lab


def another(lab: Lab, folder: Path) -> Lab:
    """A new catalog of the same files."""
    shutil.copytree(lab.folder / "versions", folder / "versions")
    store = folder / "store"
    store.mkdir()
    return Lab(folder, replace(lab.place, store=str(store)))


def schema(lab: Lab) -> Any:
    return lab.catalog().store.tables.live(lab.root).catalog


def files(lab: Lab) -> list[str]:
    folder = lab.folder / "versions"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))


def test_one_revision_makes_the_same_of_a_new_catalog(old: Lab, console: Console, tmp_path: Path) -> None:
    said = console.says("squash", "0001:0004")
    assert said.startswith(f"wrote {old.folder}/versions/0004_squashed_from_0001.py\nmoved ")
    assert files(old) == [
        "0004_squashed_from_0001.py",
        "0005.py",
        *(f"squashed/000{n}.py" for n in (1, 2, 3, 4)),
    ]
    text = (old.folder / "versions" / "0004_squashed_from_0001.py").read_text()
    assert "UpdateRows" not in text, "it changed no row"
    assert text.count("CreateTable") == 3, "imported, with rows, and without"
    new = another(old, tmp_path / "new")
    new.upgrade()
    assert schema(new) == schema(old)
    assert new.rows("recordings") == old.rows("recordings")
    assert Console(new).says("check") == "in sync\n"


def test_a_catalog_that_has_them_is_at_it(old: Lab, console: Console) -> None:
    console.says("squash", "0001:0004")
    assert console.says("check") == "in sync\n"
    assert console.says("current") == "0005 (head)  " + old.root + "\n"
    assert console.says("upgrade").endswith("at 0005\nnothing to do\n")
    old.revision(RENAME)
    console.says("upgrade")
    assert console.says("check") == "in sync\n"
    assert "0001 was" not in console.says("history")


@pytest.mark.slow
def test_one_in_the_midst_is_refused_with_the_way_out(old: Lab, console: Console, tmp_path: Path) -> None:
    late = another(old, tmp_path / "late")
    Console(late).says("upgrade", "0002")
    console.says("squash", "0001:0004")
    assert "inside this range" in Console(late).refuses("squash", "0001:0004", status=2)
    before = late.folder / "before"
    shutil.copytree(late.folder / "versions", before)
    shutil.rmtree(late.folder / "versions")
    shutil.copytree(old.folder / "versions", late.folder / "versions")
    refused = Console(late).refuses("upgrade", status=3)
    assert "inside the range squashed into" in refused
    assert "lancemig upgrade 0004" in refused
    assert "LM202" in Console(late)("check").stdout
    Console(late).says("-x", f"script_location={before}", "upgrade", "0004")
    Console(late).says("upgrade")
    assert Console(late).says("check") == "in sync\n"


def test_one_from_before_goes_through_the_squashed_file(old: Lab, console: Console, tmp_path: Path) -> None:
    early = another(old, tmp_path / "early")
    Console(early).says("upgrade", "0001")
    console.says("squash", "0002:0004")
    shutil.rmtree(early.folder / "versions")
    shutil.copytree(old.folder / "versions", early.folder / "versions")
    Console(early).says("upgrade")
    assert Console(early).says("check") == "in sync\n"
    assert schema(early) == schema(old)
    assert early.rows("recordings") == old.rows("recordings")


def test_what_was_applied_one_by_one_is_not_taken_back_as_one(
    old: Lab, console: Console, tmp_path: Path
) -> None:
    console.says("squash", "0001:0004")
    console.says("downgrade", "0004")
    assert "was applied before it was squashed" in console.refuses("downgrade", "base", status=2)
    assert "revision 0002 was squashed into 0004" in console.refuses("downgrade", "0002", status=2)
    new = another(old, tmp_path / "new")
    new.upgrade("0004")
    Console(new).says("downgrade", "base")
    assert new.tables() == []


def test_rows_that_reached_the_old_root_still_come(old: Lab, console: Console) -> None:
    old.append("recordings", [{"id": 9, "gain": 1.0}], root="v1/")
    console.says("squash", "0001:0004")
    assert "1 row replicated" in console.says("reconcile")


def test_an_edit_before_the_squash_is_still_found(old: Lab, console: Console) -> None:
    with (old.folder / "versions" / "0004.py").open("a") as file:
        file.write("# edited\n")
    console.says("squash", "0001:0004")
    assert "LM201" in console("check").stdout
    shutil.rmtree(old.folder / "versions" / "squashed")
    assert console.says("check") == "in sync\n"


def test_what_was_squashed_is_squashed_again(old: Lab, console: Console, tmp_path: Path) -> None:
    console.says("squash", "0001:0003")
    console.json("squash", "0003:0005")
    assert files(old)[0] == "0005_squashed_from_0003.py"
    text = (old.folder / "versions" / files(old)[0]).read_text()
    assert 'replaces = ("0001", "0002", "0003", "0004", "0005")' in text
    assert console.says("check") == "in sync\n"
    new = another(old, tmp_path / "new")
    new.upgrade()
    assert schema(new) == schema(old)
    assert new.rows("recordings") == old.rows("recordings")


def test_tables_from_before_keep_their_operations(old: Lab, console: Console, tmp_path: Path) -> None:
    console.says("squash", "0002:0005")
    text = (old.folder / "versions" / "0005_squashed_from_0002.py").read_text()
    assert "def louder" in text
    assert "LOUD = 10.0" in text
    assert 'down_revision = "0001"' in text
    new = another(old, tmp_path / "new")
    new.upgrade()
    assert schema(new) == schema(old)
    assert new.rows("recordings") == old.rows("recordings")


CHECKS = """
checks = [
    Check(sql="select count(*) >= 0 from recordings", expect=True, name="both"),
    Check(sql="select * from recordings where gain < 0", when="after"),
    Check(sql="select 'a \\\\ b'", expect='a \\\\ b', when="before", name="before"),
]
tolerances = [Tolerance(table="recordings", column="gain", relative=1e-9)]
downgrade = []
"""


def test_checks_of_the_states_that_are_left_are_kept(old: Lab, console: Console, tmp_path: Path) -> None:
    for number in (2, 3, 5):
        path = old.folder / "versions" / f"000{number}.py"
        path.write_text(path.read_text() + CHECKS)
    done = console("squash", "0002:0005")
    assert done.exit_code == 0, done.output
    said = [line.removeprefix("left out: ") for line in done.stderr.splitlines()]
    assert said == [
        "check of 0002: select * from recordings where gain < 0", "`downgrade` of 0002",
        "check of 0003: both", "check of 0003: select * from recordings where gain < 0",
        "check of 0003: before", "`downgrade` of 0003",
        "check of 0005: before", "`downgrade` of 0005",
    ]  # fmt: skip
    migration = load_migration(read_headers(old.folder / "versions")[1])
    assert [(check.title, check.when) for check in migration.checks] == [
        ("both", "before"), ("before", "before"), ("both", "after"),
        ("select * from recordings where gain < 0", "after"),
    ]  # fmt: skip
    assert [one.describe() for one in migration.tolerances] == ["recordings.gain: relative 1e-09"]
    new = another(old, tmp_path / "new")
    new.upgrade()
    assert new.rows("recordings") == old.rows("recordings")


def test_a_tolerance_of_what_is_renamed_later_is_left_out(old: Lab, console: Console) -> None:
    path = old.folder / "versions" / "0003.py"
    tolerances = 'tolerances = [Tolerance(table="notes", column="text", recompute=False)]\n'
    path.write_text(path.read_text() + tolerances)
    assert "left out: tolerance of 0003: notes.text" in console("squash", "0002:0005").stderr


def test_imports_are_merged(old: Lab, console: Console) -> None:
    path = old.folder / "versions" / "0005.py"
    path.write_text(
        path.read_text().replace("import pyarrow", "from __future__ import annotations\nimport pyarrow", 1)
    )
    console.says("squash", "0001:0005")
    text = (old.folder / "versions" / files(old)[0]).read_text()
    imports = [line for line in text.splitlines() if line.startswith(("from", "import"))]
    assert imports == [
        "from __future__ import annotations", "import pyarrow as pa", "import pyarrow.compute as pc",
        "from lancemig import *", "from lancemig import CreateTable",
    ]  # fmt: skip


def test_names_that_mean_two_things_are_refused(old: Lab, console: Console) -> None:
    path = old.folder / "versions" / "0005.py"
    path.write_text(path.read_text().replace("operations =", "LOUD = 1\n\noperations ="))
    before = files(old)
    assert "define 'LOUD' differently" in console.refuses("squash", "0001:0005", status=2)
    assert files(old) == before


def test_what_is_no_span_is_refused(old: Lab, console: Console) -> None:
    for span in ("0001", "0004:0001", "0002:0002", "base:0002", "0001:0099"):
        console.refuses("squash", span, status=2)
    assert len(files(old)) == 5


def test_a_file_may_not_replace_what_is_there(lab: Lab, console: Console) -> None:
    lab.revision(CREATE)
    lab.revision(DOUBLE)
    path = lab.folder / "versions" / "0002.py"
    path.write_text(path.read_text() + 'replaces = ("0001", "0002")\n')
    assert "but the file of" in console.refuses("history", status=2)
    path.write_text(path.read_text().replace('("0001", "0002")', '("0001",)'))
    assert "must end with '0002'" in console.refuses("history", status=2)


def test_a_squash_that_died_half_way_says_what_is_left_to_do(old: Lab, console: Console) -> None:
    console.says("squash", "0001:0004")
    folder = old.folder / "versions"
    for name in ("0001.py", "0004.py"):
        (folder / "squashed" / name).rename(folder / name)
        assert f"next: if it was squashed, move {folder}/{name} to squashed/" in console.refuses(
            "history", status=2
        )
        (folder / name).rename(folder / "squashed" / name)
    assert console.says("check") == "in sync\n"


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["0003", "0006"], ids=["a number that is taken", "a free number"])
def test_a_branch_from_before_the_squash_is_put_on_top(
    old: Lab, console: Console, tmp_path: Path, revision: str
) -> None:
    console.says("rehash")
    started(old.folder)
    git(old.folder, "checkout", "-q", "-b", "theirs")
    for number in (3, 4, 5):
        (old.folder / "versions" / f"000{number}.py").unlink()
    path = old.folder / "versions" / f"{revision}_theirs.py"
    path.write_text(
        f'from lancemig import *\nrevision = "{revision}"\ndown_revision = "0002"\n'
        'operations = [AddColumn(table="recordings", column="theirs: string")]\n'
    )
    console.says("rehash")
    committed(old.folder, "theirs")
    git(old.folder, "checkout", "-q", "main")
    console.says("squash", "0002:0004")
    committed(old.folder, "squashed")
    git(old.folder, "merge", "-q", "theirs", status=1)
    # Deleted there, moved here: people keep what was moved.
    git(old.folder, "checkout", "-q", "main", "--", "versions/squashed")
    git(old.folder, "checkout", "-q", "main", "--", "versions/0005.py")
    for number in (3, 4):
        (old.folder / "versions" / f"000{number}.py").unlink(missing_ok=True)
    assert "lancemig rebase" in console.refuses("history", status=2)
    assert f"{revision}_theirs.py" in console.says("rebase")
    assert console.says("check", "--offline") == "in sync\n"
    assert console.says("heads").startswith("0006 (head)")
    console.says("upgrade")
    assert console.says("check") == "in sync\n"
