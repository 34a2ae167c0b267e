"""A process that is really killed, at no chosen moment, while another one writes.

`LANCEMIG_KILLS` says how many kills the campaign over two tables takes at least; a few, if it is not set.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from lab import Appender, Lab
from scenes import settled
from servers import NewPlace, Place

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


KILLS = int(os.environ.get("LANCEMIG_KILLS", "4"))
TWO_TABLES = """
    UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id <= 5"),
    BackfillColumns(table="recordings", columns=("fs",), reads=("fs",), using=one_more, where="id <= 5"),
    UpsertRows(table="notes", on=("at",), rows=[{"at": 100, "text": "new"}, {"at": 101, "text": "new"}]),
    UpdateRows(table="notes", set={"text": "concat(text, '!')"}, where="at < 200"),
    DeleteRows(table="recordings", where="id <= 5 and gain > 9"),
    DeleteRows(table="notes", where="at = 3"),
"""
ONE_MORE = """
def one_more(batch):
    return pc.add(batch.column("fs"), 1)
"""
WRITER = """
import random
import sys
import time
from pathlib import Path

import lancedb

database, stop = lancedb.connect(sys.argv[1]), Path(sys.argv[2])


def does(what, change, table):
    try:
        change(database.open_table(table))
    except RuntimeError as error:
        assert "conflict" in str(error).lower() or "concurrent" in str(error).lower(), error
    else:
        print(what, flush=True)


number = 1000
while not stop.exists():
    number += 1
    does(f"appended {number}", lambda t: t.add([{"id": number, "gain": 7.0, "fs": 1}]), "recordings")
    does(f"updated {number}", lambda t: t.update(where=f"id = {number}", values={"gain": 8.0}), "recordings")
    does(f"noted {number}", lambda t: t.add([{"at": number, "text": "theirs"}]), "notes")
    does("raised 1", lambda t: t.update(where="id = 1", values_sql={"fs": "fs + 1000"}), "recordings")
    time.sleep(random.uniform(0.1, 0.6))
"""


@contextmanager
def another_writing(lab: Lab) -> Iterator[list[str]]:
    """Another process appends and updates through LanceDB; afterwards, what it was told is done."""
    uri = lab.dataset("recordings").uri.rpartition("/")[0]
    stop, told = lab.folder / "stop", lab.folder / "told"
    done: list[str] = []
    with told.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, str(stop)], stdout=out, stderr=subprocess.PIPE, text=True
        )
    try:
        while not told.read_text() and process.poll() is None:
            time.sleep(0.01)
        yield done
    finally:
        stop.touch()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    done += told.read_text().splitlines()


def killed_until_done(lab: Lab, random: Random, most: int, longest: float) -> tuple[int, float]:
    """Kill `lancemig upgrade` within `longest` seconds, at most so often, until one ends well.

    Returns how often it was killed, and how many seconds the last one took.
    """
    killed, status = 0, None
    while status != 0:
        began = time.monotonic()
        process = lancemig(lab, "upgrade")
        try:
            wait = random.uniform(0.3 * longest, longest) if killed < most else 120
            said, _ = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            assert killed < most, "it does not end"
            killed += 1
            process.send_signal(signal.SIGKILL)
            process.communicate()
        else:
            status = process.returncode
            # It may be told that other writers came in between too often; the same command then goes on.
            assert status == 0 or (status == 3 and b"other writers committed first" in said), said.decode()
    return killed, time.monotonic() - began


def test_a_campaign_of_kills_over_two_tables_changes_each_row_once(
    tmp_path: Path, new_place: NewPlace, subtests: pytest.Subtests
) -> None:
    random = Random(3)  # noqa: S311 - which moments are tried
    killed, longest = 0, 1.6
    for number in range(KILLS):
        if killed >= KILLS:
            break
        with subtests.test(f"round {number}"):
            lab = Lab(tmp_path / str(number), new_place("local"))
            lab.revision(START)
            lab.upgrade()
            lab.revision(TWO_TABLES, above=ONE_MORE)
            with another_writing(lab) as told:
                kills, took = killed_until_done(lab, random, min(KILLS - killed, 8), longest)
            killed += kills
            # On a fast machine a run would end before it is killed.
            longest = min(longest, 0.9 * took)
            changed_once(lab, told)
    assert killed


def changed_once(lab: Lab, told: list[str]) -> None:
    """Every value is what the migration makes of it once, and what the other writer was told it is."""

    def theirs(what: str) -> set[int]:
        return {int(line.split()[1]) for line in told if line.startswith(what)}

    assert theirs("updated") and theirs("raised")
    ours = [
        {"id": n, "gain": 2.0 * n, "fs": 100 * n + 1 + (1000 * told.count("raised 1") if n == 1 else 0)}
        for n in range(1, 5)
    ]
    others = [
        {"id": n, "gain": 8.0 if n in theirs("updated") else 7.0, "fs": 1} for n in sorted(theirs("appended"))
    ]
    assert lab.rows("recordings") == [*ours, *others]
    assert lab.rows("notes") == [
        *({"at": n, "text": f"note {n}!"} for n in range(3)),
        *({"at": n, "text": "new!"} for n in (100, 101)),
        *({"at": n, "text": "theirs"} for n in sorted(theirs("noted"))),
    ]
    settled(lab)
