"""`history --timings`, and plans that tell how long the like of them took."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from lab import Lab
from servers import Place

from lancemig.cli import main
from lancemig.commands import status


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision("""CreateTable(table="t", key=("id",), schema={"id": "int64", "x": "float64"},
                                rows=[{"id": i, "x": 1.0} for i in range(100)])""")
    lab.revision('UpdateRows(table="t", set={"x": "x * 2"})')
    lab.revision('''RetypeColumn(table="t", column="x", to="float32"),
                    TransformTable(table="t", using=f, schema={"id": "int64", "x": "float32"})''',
                 above="def f(batch):\n    return batch\n")  # fmt: skip
    lab.upgrade("0002")
    lab.upgrade()
    return lab


def run(lab: Lab, *words: str) -> str:
    done = CliRunner().invoke(main, ["-c", str(lab.folder / "lancemig.ini"), *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_phase_is_in_the_lineage(lab: Lab) -> None:
    rebuilt, updated, _ = status.history(lab.catalog())
    assert [(t.phase, t.way, t.step) for t in updated.timings] == [("step", "column", "0002/0")]
    assert updated.timings[0].operation == "update_rows"
    assert [(t.phase, t.way, t.table) for t in rebuilt.timings] == [
        ("stage", "copy", "t"),
        ("stage", "column", "t"),
        ("stage", "table", "t"),
        ("catch-up", None, None),
        ("verify", None, None),
        ("flip", None, None),
    ]
    assert all(t.seconds >= 0 for t in rebuilt.timings)
    assert (rebuilt.timings[3].rounds, rebuilt.timings[3].rows) == (1, 0)


def test_what_was_reconciled_is_timed(lab: Lab) -> None:
    lab.append("t", [{"id": 900, "x": 1.0}], root="v1/")
    run(lab, "reconcile")
    [timing] = status.history(lab.catalog())[0].timings
    assert (timing.phase, timing.rows) == ("reconcile", 1)


def test_history_shows_them(lab: Lab) -> None:
    text = run(lab, "history", "--timings")
    assert "    stage     t  copy" in text
    assert "table 0003 operation 2" in text
    assert "1 round" in text
    assert run(lab, "history", "--lineage").count("\n") == 3
    entries = json.loads(run(lab, "history", "--timings", "--json"))["entries"]
    assert entries[0]["timings"][0]["way"] == "copy"


def test_the_next_plan_tells_how_long_it_takes(lab: Lab) -> None:
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    found = json.loads(run(lab, "upgrade", "--plan", "--json"))["estimates"]
    assert {one["way"] for one in found} == {"copy", "verify"}
    assert all(one["like"] == "0003" for one in found)
