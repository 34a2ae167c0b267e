"""Death at every effect: readers see before or after, the same command goes on, and nothing happens twice."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from dying import HOWS, Died, Fate, dying
from lab import Lab
from scenes import EVERY, Course, Scene, Snapshot, course, deaths, dies, rows
from servers import NewPlace, Place

from lancemig.commands import check, flip, recovery, retention, status, upgrade
from lancemig.commands.context import Catalog
from lancemig.report.plan import plan_text

START = """
    CreateTable(
        table="recordings", key=("id",),
        schema=pa.schema([("id", pa.int64()), ("gain", pa.float64()), ("fs", pa.int32())]),
        rows=[{"id": n, "gain": float(n), "fs": 100 * n} for n in range(1, 6)],
    ),
    CreateTable(
        table="notes", schema=pa.schema([("at", pa.int64()), ("text", pa.string())]),
        rows=[{"at": n, "text": f"note {n}"} for n in range(4)],
    ),
    CreateTable(
        table="old", schema=pa.schema([("x", pa.int64())]), rows=[{"x": 1}],
    ),
    CreateIndex(table="recordings", column="fs", type="BTREE"),
"""

IN_PLACE = (
    """
    UpdateRows(table="recordings", set={"gain": "gain * 2"}),
    AddColumn(table="recordings", column=pa.field("loud", pa.bool_()), sql="gain > 5"),
    UpsertRows(table="recordings", on=("id",), when_exists="overwrite",
               rows=[{"id": 1, "gain": -1.0}, {"id": 9, "gain": 9.0, "fs": 900}], max_rows=99),
    """,
    """
    UpdateRows(table="notes", set={"text": "concat(text, '!')"}, max_rows=99),
    CreateTable(table="tags", schema=pa.schema([("tag", pa.string())]), key=("tag",), rows=[{"tag": "a"}]),
    CreateIndex(table="recordings", column="id", type="BTREE"),
    """,
)

REBUILD = """
    RenameColumn(table="recordings", column="fs", to="rate"),
    RetypeColumn(table="recordings", column="gain", to="float32", using="cast(gain * 2 as float)"),
    TransformTable(table="notes", using=shout, schema=pa.schema([("at", pa.int64()), ("text", pa.string())])),
    RenameTable(table="notes", to="remarks"),
    DropTable(table="old"),
    CreateTable(table="tags", schema=pa.schema([("tag", pa.string())]), rows=[{"tag": "a"}]),
"""
SHOUT = """
def shout(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.set_column(1, "text", pc.utf8_upper(batch.column("text")))
"""
THERE_AND_BACK = """
    RenameColumn(table="recordings", column="fs", to="rate"),
    RenameTable(table="notes", to="remarks"),
"""


def started(folder: Path, new_place: NewPlace) -> Lab:
    lab = Lab(folder / "lab", new_place("local"))
    lab.revision(START)
    lab.upgrade()
    return lab


def in_place(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    for operations in IN_PLACE:
        lab.revision(operations)
    return Scene(lab, lambda lab, catalog: lab.upgrade(catalog=catalog))


def in_place_back(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision(
        """UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id > 1"),
        UpsertRows(table="recordings", on=("id",), rows=[{"id": 9, "gain": 9.0, "fs": 900}]),
        DeleteRows(table="recordings", where="id = 3"),
        DeleteRows(table="notes", where="at = 1"),
        CreateIndex(table="recordings", column="id", type="BTREE"),"""
    )
    lab.upgrade()
    lab.append("recordings", [{"id": 7, "gain": 7.0, "fs": 700}])
    return Scene(lab, lambda lab, catalog: lab.downgrade("0001", catalog=catalog))


def rebuild(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision(REBUILD, above=SHOUT)
    return Scene(lab, lambda lab, catalog: lab.upgrade(catalog=catalog))


def mixed(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision('UpdateRows(table="recordings", set={"gain": "gain * 2"})')
    lab.revision('RenameColumn(table="recordings", column="gain", to="volume")')
    lab.revision('UpdateRows(table="recordings", set={"volume": "volume + 1"})')
    return Scene(lab, lambda lab, catalog: lab.upgrade(catalog=catalog))


def rebuild_back(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision(THERE_AND_BACK)
    lab.upgrade()
    lab.append("recordings", [{"id": 7, "gain": 7.0, "rate": 700}])
    return Scene(lab, lambda lab, catalog: lab.downgrade("0001", catalog=catalog))


def late_flip(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision(THERE_AND_BACK)
    lab.upgrade(no_flip=True)
    lab.append("recordings", [{"id": 7, "gain": 7.0, "fs": 700}])
    lab.append("notes", [{"at": 7, "text": "late"}])
    return Scene(lab, lambda _, catalog: flip.flip(catalog, None))


def stragglers(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision(THERE_AND_BACK)
    lab.upgrade()
    for n in (7, 8):
        lab.append("recordings", [{"id": n, "gain": 7.0, "fs": 700}], root="v1/")
        lab.append("notes", [{"at": n, "text": "late"}], root="v1/")
    lab.dataset("recordings", "v1/").update({"gain": "gain + 1"}, where="id = 1")
    lab.dataset("recordings", "v1/").delete("id = 2")
    return Scene(lab, lambda _, catalog: flip.reconcile(catalog))


def rolled_back(folder: Path, new_place: NewPlace) -> Scene:
    """Back to the old root, with what was written to the new one; after a death, `status` says reconcile."""
    lab = started(folder, new_place)
    lab.revision(THERE_AND_BACK)
    lab.upgrade()
    lab.append("recordings", [{"id": 7, "gain": 7.0, "rate": 700}])
    lab.append("remarks", [{"at": 7, "text": "late"}])
    lab.dataset("recordings").update({"rate": "rate + 1"}, where="id = 1")
    lab.dataset("recordings").delete("id = 2")

    def back(lab: Lab, catalog: Catalog) -> None:
        if lab.root == "v1/":
            flip.reconcile(catalog)
        else:
            flip.rollback(catalog)

    return Scene(lab, back)


def rebuild_by_cloning(folder: Path, new_place: NewPlace) -> Scene:
    lab = Lab(folder / "lab", new_place("local"), staging="clone")
    lab.revision(START)
    lab.upgrade()
    lab.revision(REBUILD, above=SHOUT)
    return Scene(lab, lambda lab, catalog: lab.upgrade(catalog=catalog))


@dataclass
class Borrowing(Scene):
    """A scene after a rebuild by cloning, done anew for each copy: clones name where they read."""

    by_copying: bool = False

    def copy(self, place: Place | None = None) -> Lab:
        lab = super().copy(place)
        lab.upgrade()
        lab.append("recordings", [{"id": 7, "gain": 7.0, "rate": 700}])
        lab.dataset("recordings").delete("id = 2")
        if not self.by_copying:
            return lab
        again = Lab(lab.folder, lab.place, written=list(lab.written))
        again.revision('RenameColumn(table="recordings", column="rate", to="fs")')
        return again


def detached(folder: Path, new_place: NewPlace) -> Scene:
    lab = rebuild_by_cloning(folder, new_place).lab
    return Borrowing(lab, lambda _, catalog: retention.detach(catalog), owned)


def borrowing(folder: Path, new_place: NewPlace) -> Scene:
    """A rebuild by copying, of tables that borrow."""
    lab = rebuild_by_cloning(folder, new_place).lab
    return Borrowing(lab, lambda lab, catalog: lab.upgrade(catalog=catalog), owned, by_copying=True)


def owned(lab: Lab) -> Snapshot:
    """The rows; and whether they can be read without the root that they were borrowed from."""
    found, store = rows(lab), lab.catalog().store
    if store.tables.reads(lab.root):
        return found
    files = sorted(item.key for item in store.objects.list("v1/"))
    kept = {key: store.objects.read(key) for key in files}
    store.objects.delete(files)
    assert rows(lab) == found
    for key, there in kept.items():
        assert there is not None
        store.objects.write_if(key, there.body, None)
    return found


@dataclass
class Referenced(Scene):
    """A rebuild of tables with tags and branches, made anew for each copy: branches name where they read."""

    def copy(self, place: Place | None = None) -> Lab:
        lab = super().copy(place)
        dataset = lab.dataset("recordings")
        first = dataset.version
        dataset.tags.create("first", first)
        branch = dataset.create_branch("mine/own", first)
        branch.insert(pa.table({"id": [90], "gain": [9.0], "fs": [90]}, schema=branch.schema))
        lab.append("recordings", [{"id": 7, "gain": 7.0, "fs": 700}])
        lab.dataset("recordings").tags.create("of-branch", ("mine/own", first + 1))
        return lab


def rebuild_with_references(folder: Path, new_place: NewPlace) -> Scene:
    lab = started(folder, new_place)
    lab.revision(THERE_AND_BACK)
    return Referenced(lab, lambda lab, catalog: lab.upgrade(catalog=catalog), named)


def named(lab: Lab) -> Snapshot:
    """The rows; and those that tags and branches of others lead to."""
    dataset = lab.dataset("recordings")
    names: list[Any] = [*sorted(dataset.tags.list()), ("mine/own", None)]
    return rows(lab) | {
        str(name): dataset.checkout_version(name).to_table()["id"].to_pylist() for name in names
    }


def given_up(folder: Path, new_place: NewPlace) -> Scene:
    """A run that died before its last publication, and whose changes are put back."""
    scene = in_place(folder, new_place)
    lab = scene.copy()
    fate = Fate()
    scene.run(lab, fate)
    last = max(at for at, what in enumerate(fate.effects, 1) if what.endswith("ACTIVE.json"))
    with pytest.raises(Died):
        scene.run(scene.lab, Fate(last))
    scene.lab.append("recordings", [{"id": 7, "gain": 7.0, "fs": 700}])
    scene.lab.outlive_the_lock()
    return Scene(scene.lab, lambda _, catalog: recovery.undo(catalog))


def given_up_rebuild(folder: Path, new_place: NewPlace) -> Scene:
    scene = rebuild(folder, new_place)
    with pytest.raises(Died):
        scene.run(scene.lab, Fate(14))
    scene.lab.outlive_the_lock()
    return Scene(scene.lab, lambda _, catalog: recovery.undo(catalog))


SCENES = {
    scene.__name__: scene
    for scene in (
        in_place,
        in_place_back,
        rebuild,
        mixed,
        rebuild_back,
        late_flip,
        stragglers,
        rolled_back,
        given_up,
        given_up_rebuild,
        rebuild_by_cloning,
        rebuild_with_references,
        detached,
        borrowing,
    )
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Callable[[str], Scene]:
    """Each scene set up once; every death happens to a copy."""
    made: dict[str, Scene] = {}

    def get(name: str) -> Scene:
        if name not in made:
            made[name] = SCENES[name](tmp_path_factory.mktemp(name), new_place)
        return made[name]

    return get


@pytest.fixture(scope="module")
def courses(scenes: Callable[[str], Scene]) -> Callable[[str], Course]:
    made: dict[str, Course] = {}

    def get(name: str) -> Course:
        if name not in made:
            made[name] = course(scenes(name))
        return made[name]

    return get


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("name", SCENES)
def test_a_run_that_dies_at_any_effect_is_finished_by_the_same_command(
    scenes: Any, courses: Any, subtests: pytest.Subtests, name: str, every: bool
) -> None:
    scene, usual = scenes(name), courses(name)
    for at, how in deaths(usual.effects, all_of_them=every):
        with subtests.test(f"{how} effect {at}: {usual.effects[at - 1]}"):
            dies(scene, usual, at, how)


def test_an_upgrade_in_place_goes_operation_by_operation(courses: Any) -> None:
    def seen(snapshot: Snapshot) -> tuple[Any, ...]:
        recordings = snapshot["recordings"]
        return (
            [row["gain"] for row in recordings],
            [row["loud"] for row in recordings] if "loud" in recordings[0] else None,
            snapshot["notes"][0]["text"],
            "tags" in snapshot,
        )

    once, doubled = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0]
    upserted, loud = [-1.0, 4.0, 6.0, 8.0, 10.0, 9.0], [None, False, True, True, True, None]
    assert [seen(one) for one in courses("in_place").distinct] == [
        (once, None, "note 0", False),
        (doubled, None, "note 0", False),
        (doubled, [False, False, True, True, True], "note 0", False),
        (upserted, loud, "note 0", False),
        (upserted, loud, "note 0!", False),
        (upserted, loud, "note 0!", True),
    ]


def test_a_rebuild_is_seen_as_a_whole_or_not_at_all(courses: Any) -> None:
    before, after = courses("rebuild").distinct
    assert sorted(before) == ["notes", "old", "recordings"]
    assert sorted(after) == ["recordings", "remarks", "tags"]
    assert after["remarks"][0] == {"at": 0, "text": "NOTE 0"}
    assert after["recordings"][0] == {"id": 1, "gain": 2.0, "rate": 100}


def test_what_was_given_up_is_as_before_but_for_rows_that_came_since(courses: Any, scenes: Any) -> None:
    first = courses("in_place").distinct[3]
    left = courses("given_up").seen[-1]
    assert sorted(left) == ["notes", "old", "recordings"]
    assert left["notes"] == first["notes"]
    assert left["recordings"] == sorted(
        [*first["recordings"], {"id": 7, "gain": 7.0, "fs": 700, "loud": None}], key=lambda row: row["id"]
    )


def test_a_rollback_goes_back_first_and_carries_rows_back_after(courses: Any) -> None:
    before, back, *between, after = courses("rolled_back").distinct
    assert [row["id"] for row in back["recordings"]] == [1, 2, 3, 4, 5]
    assert [(row["id"], row["fs"]) for row in after["recordings"]] == [
        (1, 101),
        *((n, 100 * n) for n in (3, 4, 5)),
        (7, 700),
    ]
    assert after["notes"][-1] == {"at": 7, "text": "late"}
    assert "remarks" in before
    assert len(between) == 1


@pytest.mark.parametrize(
    "look",
    [
        lambda _, catalog: planned(catalog, "head", "up"),
        lambda _, catalog: check.check(catalog),
        lambda _, catalog: status.status(catalog),
        lambda _, catalog: status.history(catalog),
        lambda _, catalog: status.current(catalog),
    ],
    ids=["plan", "check", "status", "history", "current"],
)
@pytest.mark.parametrize("name", ["in_place", "rebuild", "late_flip", "given_up"])
def test_looking_writes_nothing(scenes: Any, name: str, look: Callable[[Lab, Catalog], object]) -> None:
    lab = scenes(name).lab
    before = {path: path.stat().st_mtime_ns for path in Path(lab.place.store).rglob("*")}
    fate = Fate(0)
    look(lab, dying(lab.catalog(), fate))
    assert fate.effects == []
    assert {path: path.stat().st_mtime_ns for path in Path(lab.place.store).rglob("*")} == before


def planned(catalog: Catalog, target: str, direction: Any) -> str:
    prepared = upgrade.prepare(catalog, target, direction, no_flip=False, note=None)
    return plan_text(prepared.plan, store="", staging=prepared.request.staging)


def sampled(
    scene: Scene, usual: Course, place: Callable[[], Place], count: int, subtests: pytest.Subtests
) -> None:
    random = Random(f"{len(usual.effects)} {count}")  # noqa: S311 - which moments are tried
    for _ in range(count):
        at, how = random.randint(1, len(usual.effects)), random.choice(HOWS)
        what = usual.effects[at - 1]
        if how == "half" and not what.startswith(("copy", "delete")):
            how = "after"
        with subtests.test(f"{how} effect {at}: {what}"):
            dies(scene, usual, at, how, place())


@pytest.mark.s3
@pytest.mark.parametrize(
    "name",
    [
        "in_place",
        "rebuild",
        "detached",
        pytest.param("rebuild_by_cloning", marks=pytest.mark.nightly),
        pytest.param("borrowing", marks=pytest.mark.nightly),
    ],
)
def test_so_it_is_in_a_bucket(
    scenes: Any, courses: Any, new_place: NewPlace, subtests: pytest.Subtests, name: str
) -> None:
    sampled(scenes(name), courses(name), lambda: new_place("moto"), 1, subtests)


@pytest.mark.s3
def test_so_it_is_on_a_real_s3_server(
    scenes: Any, courses: Any, new_place: NewPlace, subtests: pytest.Subtests
) -> None:
    sampled(scenes("rebuild"), courses("rebuild"), lambda: new_place("seaweedfs"), 1, subtests)
