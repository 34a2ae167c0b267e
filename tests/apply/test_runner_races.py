"""Several at work on one catalog: runners beside runners, runners beside writers."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab import Appender, Lab
from servers import Place

from lancemig.apply.environment import Progress
from lancemig.apply.exclusive import exclusive
from lancemig.apply.lock import hold_lock
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.runner import RunOutcome
from lancemig.catalog.lineage import Action
from lancemig.commands import adopt, flip, status, upgrade
from lancemig.errors import LockHeld, PointerMoved, Refused

START = """
    CreateTable(table="keyed", key=("id",), schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]),
                rows=[{"id": -n, "x": float(n)} for n in range(1, 41)]),
    CreateTable(table="plain", schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]),
                rows=[{"id": -n, "x": float(n)} for n in range(1, 41)]),
"""
DOUBLE = 'UpdateRows(table="keyed", set={"x": "x * 2"}, where="id < 0")'


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    return lab


def test_of_two_upgrades_at_once_one_wins_and_the_other_is_refused(lab: Lab) -> None:
    lab.revision(DOUBLE)
    start = threading.Barrier(4)

    def race(number: int) -> RunOutcome | Refused:
        catalog = lab.catalog(machine=f"m{number}")
        prepared = upgrade.prepare(catalog, "head", "up", no_flip=False, note=None)
        start.wait()
        try:
            return upgrade.apply_prepared(catalog, prepared)
        except Refused as refused:
            return refused

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(race, range(4)))
    assert sum(isinstance(one, RunOutcome) for one in outcomes) == 1
    assert {one.exit_status for one in outcomes if isinstance(one, Refused)} == {3}
    assert lab.rows("keyed")[0] == {"id": -40, "x": 80.0}
    assert lab.catalog().in_flight() is None


@pytest.mark.slow
def test_of_two_processes_at_once_one_wins_and_the_other_exits_3(lab: Lab) -> None:
    lab.revision(DOUBLE)
    lab.revision('RenameColumn(table="plain", column="x", to="y")')
    command = [sys.executable, "-m", "lancemig", "upgrade"]
    processes = [
        subprocess.Popen(command, cwd=lab.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in processes]
    statuses = sorted(process.returncode for process in processes)
    # Where one began after the other had ended, it found nothing to do.
    assert statuses in ([0, 3], [0, 0]), said
    assert lab.rows("keyed")[0] == {"id": -40, "x": 80.0}
    assert len(status.history(lab.catalog())) == 3


def test_a_runner_that_was_paused_and_replaced_stops_before_its_next_effect(lab: Lab) -> None:
    lab.revision(DOUBLE)
    replaced: list[RunOutcome] = []

    def pause(*_: Any) -> None:
        """While the first runner computes, its lock expires, and another one finishes its run."""
        if not replaced:
            replaced.append(RunOutcome("", lab.catalog().fallback))
            lab.outlive_the_lock()
            replaced.append(lab.upgrade(catalog=lab.catalog(machine="another")))

    catalog = lab.catalog(machine="first")
    prepared = upgrade.prepare(catalog, "head", "up")

    def stepping(progress: Progress) -> None:
        if progress.phase == "step":
            pause()

    with pytest.raises((LockHeld, PointerMoved)):
        upgrade.apply_prepared(catalog, prepared, stepping)
    assert len(replaced) == 2
    assert lab.rows("keyed")[0] == {"id": -40, "x": 80.0}
    assert len(status.history(lab.catalog())) == 2


def test_of_two_changes_of_the_pointer_from_one_reading_the_second_is_moved(lab: Lab) -> None:
    first, second = lab.catalog(), lab.catalog()
    with exclusive(first.store, first.environment) as solo:
        there = first.active(solo.seen)
        change = PointerUpdate(Action.STAMP, there, there, solo.run, first.environment.stamp(), note="first")
        stale = solo.seen
        solo.publish(change)
        late = replace(solo, seen=stale, store=second.store)
        with pytest.raises(PointerMoved, match="was changed by another process") as moved:
            late.publish(replace(change, note="second"))
    assert moved.value.exit_status == 3
    assert status.history(lab.catalog())[0].note == "first"


@pytest.mark.parametrize("loser", ["flip", "reconcile", "rollback", "stamp"])
def test_a_verb_beside_a_runner_is_refused(lab: Lab, loser: str) -> None:
    lab.revision('RenameColumn(table="keyed", column="x", to="y")')
    lab.upgrade(no_flip=loser == "flip")
    verbs = {
        "flip": lambda catalog: flip.flip(catalog, None),
        "reconcile": flip.reconcile,
        "rollback": flip.rollback,
        "stamp": lambda catalog: adopt.stamp(catalog, "head"),
    }
    other = lab.catalog(machine="another")
    with (
        hold_lock(other.store.objects, other.store.lock_key, "r", other.environment, 60),
        pytest.raises(LockHeld, match="run r of"),
    ):
        verbs[loser](lab.catalog())


IN_PLACE = """
    UpdateRows(table="keyed", set={"x": "x * 2"}, where="id < 0"),
    BackfillColumns(table="keyed", columns=("x",), reads=("id", "x"), using=plus, where="id < 0"),
    AddColumn(table="keyed", column=pa.field("twice", pa.int64()), sql="id * 2"),
    AddColumn(table="keyed", column=pa.field("thrice", pa.int64()), using=thrice, reads=("id",)),
    AddColumn(table="keyed", column=pa.field("empty", pa.string())),
    UpsertRows(table="keyed", on=("id",), when_exists="overwrite", rows=[{"id": -1, "x": 0.0}]),
    DeleteRows(table="keyed", where="id = -2"),
    CreateIndex(table="keyed", column="id", type="BTREE"),
    SetMetadata(table="keyed", metadata={"unit": "V"}),
    DropIndex(table="keyed", name="id_idx"),
    DeleteRows(table="plain", where="id = -2"),
    UpdateRows(table="plain", set={"x": "x + 1"}, where="id < 0"),
"""
ABOVE = """
import time

def plus(batch: pa.RecordBatch) -> pa.Array:
    time.sleep(0.1)
    return pc.add(batch.column("x"), 1.0)

def thrice(batch: pa.RecordBatch) -> pa.Array:
    return pc.multiply(batch.column("id"), 3)
"""


PAUSE = {"local": 0.05, "moto": 0.5}


def row(number: int) -> dict[str, Any]:
    return {"id": number, "x": float(number), "y": float(number)}


def written(appender: Appender) -> list[int]:
    assert appender.told
    return [one["id"] for one in appender.told]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_every_operation_in_place_beside_writers_loses_no_row(
    tmp_path: Path, new_place: Any, kind: str
) -> None:
    lab = Lab(tmp_path, new_place(kind))
    lab.revision(START)
    lab.upgrade()
    lab.revision(IN_PLACE, above=ABOVE)
    with (
        Appender(lab, "keyed", row, pause=PAUSE[kind]) as keyed,
        Appender(lab, "plain", row, pause=PAUSE[kind]) as plain,
    ):
        lab.upgrade()
    ids = [one["id"] for one in lab.rows("keyed")]
    assert ids == [*range(-40, -2), -1, *written(keyed)]
    assert [one["id"] for one in lab.rows("plain")] == [*range(-40, -2), -1, *written(plain)]
    for one in lab.rows("keyed"):
        if one["id"] < -2:
            assert one["x"] == 2.0 * -one["id"] + 1
            assert (one["twice"], one["thrice"]) == (one["id"] * 2, one["id"] * 3)
        elif one["id"] > 0:
            assert one["x"] == float(one["id"])
            assert one["twice"] in (None, one["id"] * 2)
    assert lab.dataset("keyed").schema.metadata[b"unit"] == b"V"


@pytest.mark.parametrize("kind", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_a_rebuild_beside_writers_loses_no_row(tmp_path: Path, new_place: Any, kind: str) -> None:
    lab = Lab(tmp_path, new_place(kind))
    lab.revision(START)
    lab.upgrade()
    lab.revision(
        """RenameColumn(table="keyed", column="x", to="y"),
        RetypeColumn(table="plain", column="x", to="float32"),
        RenameColumn(table="plain", column="x", to="y"),"""
    )
    with (
        Appender(lab, "keyed", row, pause=PAUSE[kind]) as keyed,
        Appender(lab, "plain", row, pause=PAUSE[kind]) as plain,
    ):
        lab.upgrade()
        # Writers that opened the old root before the flip and have not noticed it.
        for table in ("keyed", "plain"):
            lab.append(table, [{"id": 10**6, "x": 1e6}], root="v1/")
    flip.reconcile(lab.catalog())
    for table, appender in (("keyed", keyed), ("plain", plain)):
        found = {one["id"]: one["y"] for one in lab.rows(table)}
        assert len(found) == lab.dataset(table).count_rows()
        assert sorted(found) == [*range(-40, 0), *written(appender), 10**6]
        assert all(value == float(abs(id_)) for id_, value in found.items())
