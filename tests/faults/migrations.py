"""Migrations of one operation, and of three, as scenes: to be applied, to be taken back, to be undone."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pytest
from dying import Died, Fate
from lab import Lab
from scenes import Course, Scene, Snapshot, course, kind, whole
from servers import NewPlace

from lancemig.commands import recovery
from lancemig.commands.context import Catalog

START = """
    CreateTable(
        table="recordings", key=("id",),
        schema=pa.schema([
            ("id", pa.int64()), ("gain", pa.float64()), ("fs", pa.int32()), ("text", pa.string()),
            ("info", pa.struct([("serial", pa.string()), ("rate", pa.int64())])),
            ("vec", pa.list_(pa.float32(), 4)),
        ]),
        rows=made(1, 5),
    ),
    CreateTable(
        table="notes", schema=pa.schema([("at", pa.int64()), ("text", pa.string())]),
        rows=[{"at": n, "text": f"note {n}"} for n in range(3)],
    ),
"""
INDICES = """
    CreateIndex(table="recordings", column="id", type="BTREE"),
    CreateIndex(table="recordings", column="gain", type="BTREE"),
"""
ABOVE = """
def row(n):
    return {
        "id": n, "gain": float(n), "fs": 100 * n, "text": f"take {n}",
        "info": None if n == 2 else {"serial": f"s{n}", "rate": n}, "vec": [n, 0.0, 1.0, n],
    }

def made(first, last):
    return [row(n) for n in range(first, last + 1)]

def louder(batch):
    return pc.add(batch.column("gain"), 100.0)
"""
scope: dict[str, Any] = {}
exec(f"import pyarrow.compute as pc\n{ABOVE}", scope)  # noqa: S102 - the rows that others append are made alike
made: Callable[[int, int], list[dict[str, Any]]] = scope["made"]

OPERATIONS = {
    "update": 'UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id > 2")',
    "update struct": 'UpdateRows(table="recordings", set={"info.rate": "info.rate + 1"})',
    "backfill": 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=louder)',
    "upsert": 'UpsertRows(table="recordings", on=("id",), rows=[*made(4, 5), *made(20, 21)])',
    "upsert overwrite": """UpsertRows(table="recordings", on=("id",), when_exists="overwrite",
                                      rows=[{**row(6), "gain": 0.5}, *made(20, 21)])""",
    "upsert keep": """UpsertRows(table="recordings", on=("id",), when_exists="keep",
                                 rows=[{**row(6), "gain": 0.5}, *made(20, 21)])""",
    "delete": 'DeleteRows(table="recordings", where="gain > 4 and gain < 8")',
    "deduplicate": """UpdateRows(table="recordings", set={"fs": "cast(id % 3 as int)"}),
                      DeduplicateRows(table="recordings", key=("fs",), order_by="gain desc")""",
    "metadata": 'SetMetadata(table="recordings", metadata={"owner": "us"})',
    "metadata of a column": 'SetMetadata(table="recordings", column="gain", metadata={"unit": "dB"})',
    "key": 'SetKey(table="notes", key=("at",))',
    "create": """CreateTable(table="tags", schema=pa.schema([("tag", pa.string())]), key=("tag",),
                             rows=[{"tag": "a"}, {"tag": "b"}])""",
    "add null": 'AddColumn(table="recordings", column=pa.field("new", pa.int64()))',
    "add sql": 'AddColumn(table="recordings", column=pa.field("new", pa.float64()), sql="gain * 2")',
    "add using": """AddColumn(table="recordings", column=pa.field("new", pa.float64()), using=louder,
                              reads=("gain",))""",
    "index BTREE": 'CreateIndex(table="recordings", column="fs", type="BTREE")',
    "index INVERTED": 'CreateIndex(table="recordings", column="text", type="INVERTED")',
    "index IVF_FLAT": """CreateIndex(table="recordings", column="vec", type="IVF_FLAT",
                                     params={"num_partitions": 1})""",
    "drop index": 'DropIndex(table="recordings", name="gain_idx")',
    "optimize indices": 'OptimizeIndices(table="recordings")',
    "compact": 'Compact(table="recordings")',
}
THREE = """
    UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id <= 8"),
    UpsertRows(table="notes", on=("at",), rows=[{"at": 50, "text": "new"}]),
    DeleteRows(table="recordings", where="gain > 12 and id <= 8"),
"""
MOVING = (
    """UpdateRows(table="notes", set={"text": "concat(text, '!')"}, where="at < 80"),""",
    """
    DeleteRows(table="notes", where="at = 1 or at = 4"),
    UpsertRows(table="notes", on=("at",), when_exists="overwrite",
               rows=[{"at": 5, "text": "other"}, {"at": 2, "text": None}, {"at": 50, "text": "new"}]),
    UpdateRows(table="notes", set={"text": "concat(text, '?')"}, where="at < 80 and at != 0"),
    """,
)
"""Of `notes`, which has no key, rows that were changed before are deleted and replaced, and changed again."""
WAYS = ["up", "down", "undo"]
NOT_BY_METADATA_ALONE = ("update", "upsert overwrite", "delete", "create", "add sql")


def appended(lab: Lab) -> None:
    """Another writer's rows."""
    lab.append("recordings", made(90, 91))
    lab.append("notes", [{"at": 90, "text": "late"}])


def compacted(lab: Lab) -> None:
    """Another writer's rows, and its compaction: it rewrites an index, so pylance cannot read its commit."""
    appended(lab)
    lab.dataset("recordings").optimize.compact_files()
    log = lab.dataset("recordings")
    with pytest.raises(TypeError, match="RewrittenIndex"):
        log.read_transaction(log.version)


def nobody(lab: Lab) -> None:
    """Nobody writes."""


OTHERS = (nobody, appended, compacted)


@dataclass
class Played:
    """A scene, its undisturbed course, and where it may end when others write before, or after, all of it."""

    scene: Scene
    usual: Course
    ends: list[Snapshot]

    def ends_with(self, others: Callable[[Lab], object]) -> list[Snapshot]:
        return self.ends if others is not nobody else self.usual.seen[-1:]


Play = Callable[[str, str], Played]


def begun(folder: Path, new_place: NewPlace) -> Lab:
    """Tables of several fragments, which an index covers."""
    lab = Lab(folder / "lab", new_place("local"))
    lab.revision(START, above=ABOVE)
    lab.upgrade()
    for first in (6, 8):
        lab.append("recordings", made(first, first + 1))
    lab.revision(INDICES)
    lab.upgrade()
    return lab


def upgraded(lab: Lab, catalog: Catalog) -> None:
    lab.upgrade(catalog=catalog)


def downgraded(lab: Lab, catalog: Catalog) -> None:
    lab.downgrade("0002", catalog=catalog)


def given_up(lab: Lab, catalog: Catalog) -> None:
    recovery.undo(catalog)


def renewed(lab: Lab, *, stable: bool) -> None:
    """`notes` in two fragments, with stable row ids or without."""
    uri, schema = lab.dataset("notes").uri, lab.dataset("notes").schema
    shutil.rmtree(uri)
    lance.write_dataset(schema.empty_table(), uri, enable_stable_row_ids=stable)
    for first in (0, 3):
        lab.append("notes", [{"at": n, "text": f"note {n}"} for n in range(first, first + 3)])


def staged(lab: Lab, operations: str, way: str, *more: str) -> Scene:
    """Migrations: to be applied; to be taken back; or, dead before they were published, to be undone."""
    for one in (operations, *more):
        lab.revision(one, above=ABOVE)
    there = Scene(lab, upgraded, whole)
    if way == "up":
        return there
    if way == "down":
        lab.upgrade()
        return Scene(lab, downgraded, whole)
    fate = Fate()
    there.run(there.copy(), fate)
    with pytest.raises(Died):
        there.run(lab, Fate(next(at for at, what in enumerate(fate.effects, 1) if kind(what) == "ACTIVE")))
    lab.outlive_the_lock()
    return Scene(lab, given_up, whole)


def played(scene: Scene) -> Played:
    early, late = scene.copy(), scene.copy()
    appended(early)
    for lab in (early, late):
        scene.repeat(lab)
    appended(late)
    return Played(scene, course(scene), [whole(early), whole(late)])
