"""Brakes: a run past one stops before its first commit; one that trips late is put back whole."""

import sys
from pathlib import Path
from typing import Any

import lance
import pytest
from lab import Lab
from servers import Place

sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))
from dying import Died, Fate, dying

from lancemig.apply.stages import Phase
from lancemig.catalog.lineage import Action
from lancemig.commands import recovery, status, upgrade
from lancemig.errors import BrakeTripped, RunUnfinished
from lancemig.plan.plan import Overrides

START = """
    CreateTable(table="a", key=("id",), schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]),
                rows=[{"id": n, "x": float(n)} for n in range(10)]),
    CreateTable(table="b", key=("id",), schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]),
                rows=[{"id": n, "x": float(n)} for n in range(10)]),
"""
UNSURE = """
def unsure(batch: pa.RecordBatch) -> pa.RecordBatch:
    x = batch.column("x")
    return pa.record_batch({"x": pc.add(x, 1), "__unknown__": pc.greater(x, 6)})
"""
FIRST = 'UpdateRows(table="a", set={"x": "x + 100"}),'


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START)
    lab.upgrade()
    return lab


def versions(lab: Lab) -> dict[str, int]:
    return {name: lab.dataset(name).version for name in ("a", "b")}


LATER = {
    "update of another table": 'UpdateRows(table="b", set={"x": "x + 1"}, max_rows=3)',
    "function on another table": (
        'BackfillColumns(table="b", columns=("x",), reads=("x",), using=unsure, max_indeterminate=2)'
    ),
    "deletion from another table": 'DeleteRows(table="b", where="x > 1", max_rows=3)',
    "update of what was updated": 'UpdateRows(table="a", set={"x": "0"}, where="x >= 100", max_rows=9)',
    "function on what was updated": (
        'BackfillColumns(table="a", columns=("x",), reads=("x",), using=unsure, max_indeterminate=9)'
    ),
    "deletion of what was updated": 'DeleteRows(table="a", where="x >= 100", max_rows=9)',
    "update of a new column": (
        'AddColumn(table="b", column=pa.field("y", pa.float64()), sql="x * 2"),'
        'UpdateRows(table="b", set={"y": "y + 1"}, max_rows=9)'
    ),
    "update of a new table": (
        'CreateTable(table="c", schema=["x: int64"], rows=[{"x": 1}, {"x": 2}]),'
        'UpdateRows(table="c", set={"x": "x + 1"}, max_rows=1)'
    ),
    "update in a later revision": None,
}


@pytest.mark.parametrize("later", LATER)
def test_a_brake_of_a_later_operation_stops_the_run_before_its_first_commit(lab: Lab, later: str) -> None:
    if LATER[later] is None:
        lab.revision(FIRST)
        lab.revision('UpdateRows(table="a", set={"x": "0"}, where="x >= 100", max_rows=9)')
    else:
        lab.revision(FIRST + str(LATER[later]), above=UNSURE)
    before, place = versions(lab), status.current(lab.catalog())
    with pytest.raises(BrakeTripped) as tripped:
        lab.upgrade()
    assert tripped.value.exit_status == 1
    assert (versions(lab), status.current(lab.catalog())) == (before, place)
    assert lab.catalog().in_flight() is None
    assert list(lab.opened.store.objects.list("_lancemig/scratch/")) == []
    assert sorted(lab.tables()) == ["a", "b"]


@pytest.mark.parametrize("later", [later for later, operation in LATER.items() if operation])
def test_within_its_brakes_the_run_goes_on(lab: Lab, later: str) -> None:
    lab.revision(FIRST + str(LATER[later]), above=UNSURE)
    prepared = upgrade.prepare(
        lab.catalog(), "head", "up", overrides=Overrides(max_rows=10, max_indeterminate=10)
    )
    outcome = upgrade.apply_prepared(lab.catalog(), prepared)
    assert outcome.active.revision == "0002"
    assert lab.dataset("a").count_rows("x = 100") in (0, 1)


def test_a_function_asked_in_the_rehearsal_is_not_asked_again(lab: Lab, tmp_path: Path) -> None:
    log = tmp_path / "asked"
    lab.revision(
        f'{FIRST} BackfillColumns(table="b", columns=("x",), reads=("x",), using=f, max_rows=99)',
        above=f"""
def f(batch: pa.RecordBatch) -> pa.Array:
    from pathlib import Path

    with Path({str(log)!r}).open("a") as log:
        log.write("x" * batch.num_rows)
    return pc.multiply(batch.column("x"), 2)
""",
    )
    lab.upgrade()
    assert [row["x"] for row in lab.rows("b")] == [2.0 * n for n in range(10)]
    assert log.read_text() == "x" * 10


def late(lab: Lab) -> Any:
    """A catalog where rows come after the rehearsal, so that the second operation's brake trips late."""
    catalog = lab.catalog()
    real, done = catalog.store.tables.commit, []

    def commit(table: Any, staged: Any, stamp: Any) -> int:
        version = real(table, staged, stamp)
        if not done:
            done.append(stamp)
            lab.append("b", [{"id": n, "x": 1.0} for n in range(100, 110)])
            lab.append("a", [{"id": 50, "x": 50.0}])
        return version

    catalog.store.tables.commit = commit  # type: ignore[method-assign]
    return catalog


def test_a_brake_that_trips_late_takes_back_what_was_done(lab: Lab) -> None:
    lab.revision(FIRST + 'UpdateRows(table="b", set={"x": "x + 1"}, max_rows=12)')
    with pytest.raises(BrakeTripped, match=r"20 rows would change(.|\n)*were undone:\n  a: set x = x \+ 100"):
        lab.upgrade(catalog=late(lab))
    assert {row["id"]: row["x"] for row in lab.rows("a")} == {**{n: n for n in range(10)}, 50: 50.0}
    assert lab.dataset("b").count_rows() == 20
    assert lab.catalog().in_flight() is None
    entry = status.history(lab.catalog())[0]
    assert (entry.action, entry.target.revision) == (Action.RECOVER, "0001")
    assert entry.note is not None
    assert "max_rows" in entry.note
    assert [(done.step, done.changed) for done in entry.steps] == [("undo/0002/0", 10)]
    prepared = upgrade.prepare(lab.catalog(), "head", "up", overrides=Overrides(max_rows=99))
    upgrade.apply_prepared(lab.catalog(), prepared)
    assert lab.dataset("b").count_rows("x = 2") == 11


def test_an_undo_that_dies_is_finished_whatever_is_asked_for(lab: Lab, subtests: pytest.Subtests) -> None:
    lab.revision(FIRST + 'DeleteRows(table="a", where="id = 3"), UpdateRows(table="b", set={"x": "0"})')
    with pytest.raises(Died):
        lab.upgrade(catalog=dying(lab.catalog(), Fate(12)))
    lab.outlive_the_lock()
    for ask in (lambda: lab.upgrade(), lambda: recovery.recover(lab.catalog())):
        with subtests.test():
            fate = Fate(6)
            with pytest.raises(Died):
                recovery.undo(dying(lab.catalog(), fate))
            lab.outlive_the_lock()
            run = lab.catalog().in_flight()
            assert run is not None
            assert run.phase is Phase.UNDO
            with pytest.raises(RunUnfinished, match="the undo is now complete, and nothing else was done"):
                ask()
            assert lab.catalog().in_flight() is None
            assert [row["x"] for row in lab.rows("a")] == [float(n) for n in range(10)]
            with pytest.raises(Died):
                lab.upgrade(catalog=dying(lab.catalog(), Fate(12)))
            lab.outlive_the_lock()
    recovery.undo(lab.catalog())


def test_a_flag_tells_rows_without_an_answer(lab: Lab) -> None:
    lab.revision('AddColumn(table="a", column=pa.field("odd", pa.bool_()))')
    fill = 'BackfillColumns(table="a", columns=("x",), reads=("x",), using=unsure, flag="odd")'
    lab.revision(fill, above=UNSURE)
    [*_, done] = lab.upgrade().steps
    rows = lab.rows("a")
    assert [row["odd"] for row in rows] == [None] * 7 + [True] * 3
    assert [row["x"] for row in rows] == [1.0, 2, 3, 4, 5, 6, 7, 7, 8, 9]
    assert (done.changed, done.skipped, done.indeterminate) == (7, 3, 3)
    lance.dataset(lab.dataset("a").uri).update({"x": "0"}, where="id = 8")
    lab.revision(fill, above=UNSURE)
    lab.upgrade()
    assert {row["id"]: row["odd"] for row in lab.rows("a")} == {
        **dict.fromkeys(range(6)),
        6: True,
        7: True,
        8: False,
        9: True,
    }
    lab.downgrade()
    assert [row["odd"] for row in lab.rows("a")] == [None] * 7 + [True] * 3


def test_sql_may_not_know_either(lab: Lab) -> None:
    lab.revision(
        'UpdateRows(table="a", set={"x": "x * 2"}, where="x > 1", unknown="x > 7", max_indeterminate=2)'
    )
    [done] = lab.upgrade().steps
    assert [row["x"] for row in lab.rows("a")] == [0.0, 1, 4, 6, 8, 10, 12, 14, 8, 9]
    assert (done.changed, done.indeterminate, done.matched_before, done.matched_after) == (6, 2, 8, 8)
