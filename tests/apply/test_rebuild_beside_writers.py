"""A rebuild while others append, update and delete from its first step to after its flip: nothing is lost.

The writer looks at the pointer only now and then, so for a while after the flip it writes to the old root.
Readers open the catalog through the pointer all the while.
"""

import random
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lab import Lab
from servers import NewPlace

import lancemig
from lancemig.commands import flip

START = """
    CreateTable(table="recordings", key=("id",), schema=["id: int64", "ms: float64", "note: string"],
                rows=[{"id": n, "ms": 1000.0 * n, "note": "n"} for n in range(60)]),
    CreateTable(table="events", key=("id",), schema=["id: int64", "ms: float64"],
                rows=[{"id": n, "ms": 1000.0 * n} for n in range(60)]),
"""
REBUILD = """
    TransformTable(table="recordings", using=in_seconds,
                   schema=["id: int64", "seconds: float64", "note: string"]),
    RenameColumn(table="events", column="ms", to="seconds"),
    RetypeColumn(table="events", column="seconds", to="float32", using="seconds / 1000"),
    UpdateRows(table="events", set={"seconds": "seconds + 1"}),
"""
IN_SECONDS = """
def in_seconds(batch):
    seconds = pc.divide(batch.column("ms"), 1000.0)
    columns = [batch.column("id"), seconds, batch.column("note")]
    return pa.record_batch(columns, names=["id", "seconds", "note"])
"""
BACK = """
    TransformTable(table="recordings", using=in_ms, schema=["id: int64", "ms: float64", "note: string"]),
    RetypeColumn(table="events", column="seconds", to="float64", using="(seconds - 1) * 1000"),
    RenameColumn(table="events", column="seconds", to="ms"),
"""
IN_MS = """
def in_ms(batch):
    ms = pc.multiply(batch.column("seconds"), 1000.0)
    return pa.record_batch([batch.column("id"), ms, batch.column("note")], names=["id", "ms", "note"])
"""


@dataclass
class Writer(threading.Thread):
    """Appends, updates and deletes; `rows` is what it was told is there, in milliseconds.

    No row is changed twice, so a change in the old root and another in the new one never concern the same.
    """

    lab: Lab
    table: str
    seed: int
    rows: dict[int, float] = field(default_factory=dict)
    wrote: int = 0
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.rows = {n: 1000.0 * n for n in range(60)}

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        dice = random.Random(self.seed)  # noqa: S311 - dice
        root, fresh = self.lab.root, list(self.rows)
        next_id = 1000 * (self.seed + 1)
        while not self.over.wait(0.02):
            self.wrote += 1
            if self.wrote % 15 == 0:
                root = self.lab.root
            try:
                dataset = self.lab.dataset(self.table, root)
                what = dice.choice(["append", "append", "update", "delete"]) if fresh else "append"
                if what == "append":
                    next_id += 1
                    self._append(dataset, next_id)
                else:
                    id_ = fresh.pop(dice.randrange(len(fresh)))
                    self._change(dataset, what, id_)
            except BaseException as error:  # noqa: BLE001 - told at the end
                self.errors.append(error)
                return

    def _column(self, dataset: lance.LanceDataset) -> tuple[str, float, float]:
        if "ms" in dataset.schema.names:
            return "ms", 1.0, 0.0
        return "seconds", 1 / 1000, 1.0 if self.table == "events" else 0.0

    def _append(self, dataset: lance.LanceDataset, id_: int) -> None:
        name, factor, plus = self._column(dataset)
        row: dict[str, Any] = {"id": id_, name: 500.0 * factor + plus}
        given = pa.Table.from_pylist([row], schema=dataset.schema.remove_metadata())
        options = self.lab.catalog().store.tables.options()
        lance.write_dataset(given, dataset.uri, mode="append", storage_options=options)
        self.rows[id_] = 500.0

    def _change(self, dataset: lance.LanceDataset, what: str, id_: int) -> None:
        name, factor, plus = self._column(dataset)
        if what == "update":
            dataset.update({name: f"{250.0 * factor + plus}"}, where=f"id = {id_}")
            self.rows[id_] = 250.0
        else:
            dataset.delete(f"id = {id_}")
            del self.rows[id_]


@dataclass
class Reader(threading.Thread):
    """Opens the catalog through the pointer, and looks whether its tables belong together."""

    lab: Lab
    seen: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        while not self.over.wait(0.01):
            catalog = lancemig.connect(str(self.lab.folder / "lancemig.ini"))
            columns = [catalog.open_table(name).schema.names for name in ("recordings", "events")]
            self.seen.add("+".join(sorted({"ms" if "ms" in names else "seconds" for names in columns})))


def settled(lab: Lab) -> None:
    """Bring over what the stale writer wrote until there is nothing more."""
    for one in flip.reconcile(lab.catalog()):
        assert one.conflicts == ()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", pytest.param("moto", marks=pytest.mark.s3)])
def test_all_that_was_acknowledged_is_there_after_the_flip_and_after_the_rollback(
    tmp_path: Path, new_place: NewPlace, kind: str
) -> None:
    lab = Lab(tmp_path, new_place(kind))
    lab.revision(START)
    lab.upgrade()
    lab.revision(REBUILD, above=IN_SECONDS + IN_MS, downgrade=BACK)
    writers = [Writer(lab, "recordings", 1), Writer(lab, "events", 2)]
    reader = Reader(lab)
    for thread in (*writers, reader):
        thread.start()
    lab.upgrade()
    enough = 60 if kind == "local" else 25
    while min(writer.wrote for writer in writers) < enough:
        reader.over.wait(0.1)
    for thread in (*writers, reader):
        thread.over.set()
        thread.join()
    assert [writer.errors for writer in writers] == [[], []]
    assert reader.seen <= {"ms", "seconds"}
    settled(lab)
    recordings, events = (writer.rows for writer in writers)
    assert {row["id"]: row["seconds"] * 1000 for row in lab.rows("recordings")} == pytest.approx(recordings)
    assert {row["id"]: (row["seconds"] - 1) * 1000 for row in lab.rows("events")} == pytest.approx(events)
    done = flip.rollback(lab.catalog())
    assert [one.conflicts for one in done.carried_back or ()] == [(), ()]
    for name, told in (("recordings", recordings), ("events", events)):
        assert {row["id"]: row["ms"] for row in lab.rows(name)} == pytest.approx(told, rel=1e-5)
