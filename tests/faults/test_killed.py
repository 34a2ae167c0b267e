"""A process that is really killed, at no chosen moment, while another one writes."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from lab import Appender, Lab
from servers import Place

ROUNDS = 12

START = """
    CreateTable(
        table="recordings", key=("id",),
        schema=pa.schema([("id", pa.int64()), ("gain", pa.float64()), ("fs", pa.int32())]),
        rows=[{"id": n, "gain": float(n), "fs": 100 * n} for n in range(1, 6)],
    ),
    CreateTable(table="notes", schema=pa.schema([("at", pa.int64()), ("text", pa.string())]),
                rows=[{"at": n, "text": f"note {n}"} for n in range(4)]),
"""
IN_PLACE = """
    UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id <= 5"),
    AddColumn(table="recordings", column=pa.field("loud", pa.bool_()), sql="gain > 5"),
    UpsertRows(table="notes", on=("at",), rows=[{"at": 100, "text": "new"}]),
    UpdateRows(table="notes", set={"text": "concat(text, '!')"}),
"""
REBUILD = """
    RenameColumn(table="recordings", column="fs", to="rate"),
    RetypeColumn(table="recordings", column="gain", to="float32", using="cast(gain + 1 as float)"),
    RenameTable(table="notes", to="remarks"),
"""


def lancemig(lab: Lab, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "lancemig", *arguments],
        cwd=lab.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    return lab


def upgraded_with_kills(lab: Lab, seed: int) -> int:
    """Kill `lancemig upgrade` again and again, later each time; then let it be. How often it was killed."""
    random = Random(seed)  # noqa: S311 - which moments are tried
    killed = 0
    for number in range(ROUNDS):
        process = lancemig(lab, "upgrade")
        time.sleep(0.35 + 0.06 * number + random.random() * 0.25)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert process.stdout
        process.stdout.close()
    last = lancemig(lab, "upgrade")
    said, _ = last.communicate(timeout=60)
    assert last.returncode == 0, said.decode()
    return killed


def test_an_upgrade_in_place_survives_kills_beside_a_writer(lab: Lab) -> None:
    lab.revision(IN_PLACE)

    def row(number: int) -> dict[str, object]:
        return {"id": 1000 + number, "gain": 7.0, "fs": 1}

    with Appender(lab, "recordings", row, pause=0.1) as appender:
        killed = upgraded_with_kills(lab, seed=1)
    assert killed >= 1
    assert appender.told
    found = {r["id"]: r for r in lab.rows("recordings")}
    assert len(found) == lab.dataset("recordings").count_rows()
    assert {n: found[n]["gain"] for n in range(1, 6)} == {n: 2.0 * n for n in range(1, 6)}
    assert {n: found[n]["loud"] for n in range(1, 6)} == {n: 2 * n > 5 for n in range(1, 6)}
    assert {r["id"] for r in appender.told} == set(found) - set(range(1, 6))
    assert lab.rows("notes") == [
        *({"at": n, "text": f"note {n}!"} for n in range(4)),
        {"at": 100, "text": "new!"},
    ]


def test_a_rebuild_survives_kills_beside_a_writer(lab: Lab) -> None:
    lab.revision(REBUILD)

    def row(number: int) -> dict[str, object]:
        return {"id": 1000 + number, "gain": 7.0, "fs": 1, "rate": 1}

    with Appender(lab, "recordings", row, pause=0.1) as appender:
        killed = upgraded_with_kills(lab, seed=2)
    assert killed >= 1
    done = lancemig(lab, "reconcile")
    said, _ = done.communicate(timeout=60)
    assert done.returncode == 0, said.decode()
    found = {r["id"]: r for r in lab.rows("recordings")}
    assert len(found) == lab.dataset("recordings").count_rows()
    assert {n: found[n]["rate"] for n in range(1, 6)} == {n: 100 * n for n in range(1, 6)}
    assert {n: found[n]["gain"] for n in range(1, 6)} == {n: n + 1.0 for n in range(1, 6)}
    assert {r["id"] for r in appender.told} <= set(found)
    assert sorted(lab.tables()) == ["recordings", "remarks"]
