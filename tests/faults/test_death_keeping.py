"""Death at every effect of archive, copy and gc: what is live stays whole, and the same command goes on."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dying import Died, Fate
from lab import ROOT, Lab
from scenes import EVERY, Course, Scene, Snapshot, actions, course, deaths, dies, rows, settled
from servers import NewPlace

import lancemig
from lancemig.apply.retention import copy, gc
from lancemig.apply.root_owner import ROOT_OWNER_FILE
from lancemig.catalog.lineage import backups
from lancemig.commands import flip, recovery, retention
from lancemig.commands.context import Catalog

START = """
    CreateTable(table="t", schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]), key=("id",),
                rows=[{"id": n, "x": n / 2} for n in range(5)]),
    CreateTable(table="u", schema=pa.schema([("id", pa.int64())]), rows=[{"id": 1}]),
"""
ADD = 'UpdateRows(table="t", set={"x": "x + 1"})'
RENAME = 'RenameTable(table="u", to="w")'
AGAIN = 'RenameTable(table="w", to="v")'


def flipped(folder: Path, new_place: NewPlace) -> Lab:
    """`v1/` is the old root."""
    lab = Lab(folder / "lab", new_place("local"))
    for operations in (START, ADD, RENAME):
        lab.revision(operations)
    lab.upgrade()
    return lab


def looked(lab: Lab) -> Snapshot:
    """The live rows; and whatever else can be opened anywhere can be read."""
    store = lab.catalog().store
    for root in (ROOT, "backup/"):
        for name in store.tables.names(root):
            assert store.tables.open(root, name).read().num_rows
    return rows(lab)


def archived(folder: Path, new_place: NewPlace) -> Scene:
    lab = flipped(folder, new_place)
    return Scene(lab, lambda _, catalog: retention.archive(catalog, to="backup"), looked)


def copied(folder: Path, new_place: NewPlace) -> Scene:
    lab = flipped(folder, new_place)
    return Scene(lab, lambda _, catalog: retention.copy(catalog, ROOT, "backup"), looked)


def collected(folder: Path, new_place: NewPlace) -> Scene:
    """A root, a staged root, guards, a run's scratch and a lease, all of which nobody needs."""
    lab = flipped(folder, new_place)
    retention.archive(lab.catalog(), retention=timedelta())
    for _ in range(3):
        lab.revision(ADD)
        lab.upgrade()
    lab.revision(AGAIN)
    lab.upgrade(no_flip=True)
    recovery.undo(lab.catalog())
    store = lab.catalog().store
    store.objects.write_if(f"{store.scratch('20200101T000000Z-dead')}answers/1", b"1", None)
    lancemig.connect(lab.folder / "lancemig.ini", lease=60)
    lab.late += timedelta(days=40)
    kinds = {item.kind for item in retention.gc_plan(lab.catalog()).items}
    assert kinds == {"root", "staged", "guards", "scratch", "lease"}
    return Scene(lab, collect, looked)


def collect(lab: Lab, catalog: Catalog) -> None:
    """`gc`, in a copy of the store that has made its staged roots its own."""
    objects = lab.catalog().store.objects
    for item in list(objects.list("")):
        found = objects.read(item.key) if item.key.endswith(ROOT_OWNER_FILE) else None
        if found is not None:
            claim = {**json.loads(found.body), "store": objects.uri}
            objects.write_if(item.key, json.dumps(claim).encode(), found.version_token)
    retention.gc(catalog)
    assert retention.gc_plan(catalog).items == ()


def restored(folder: Path, new_place: NewPlace) -> Scene:
    """The old root was archived elsewhere, and collected; it is brought back, and rolled back to."""
    lab = flipped(folder, new_place)
    retention.archive(lab.catalog(), to=str(folder / "elsewhere"), retention=timedelta())
    retention.gc(lab.catalog())
    assert lab.catalog().store.tables.folders(ROOT) == []
    return Scene(lab, restore, looked)


def restore(lab: Lab, catalog: Catalog) -> None:
    """After a death past the flip back, `status` says reconcile."""
    if lab.root == ROOT:
        flip.reconcile(catalog)
    else:
        flip.rollback(catalog)


SCENES = {scene.__name__: scene for scene in (archived, copied, collected, restored)}


@pytest.fixture(scope="module")
def played(
    tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace
) -> Callable[[str], tuple[Scene, Course]]:
    made: dict[str, tuple[Scene, Course]] = {}

    def get(name: str) -> tuple[Scene, Course]:
        if name not in made:
            scene = SCENES[name](tmp_path_factory.mktemp(name), new_place)
            made[name] = scene, course(scene)
        return made[name]

    return get


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are several effects of each sort."""
    monkeypatch.setattr(copy, "AT_ONCE", 6)
    monkeypatch.setattr(gc, "AT_ONCE", 6)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("name", SCENES)
def test_a_command_that_dies_at_any_effect_is_finished_by_the_same(
    played: Any, subtests: pytest.Subtests, name: str, every: bool
) -> None:
    scene, usual = played(name)
    for at, how in deaths(usual.effects, all_of_them=every):
        with subtests.test(f"{how} effect {at}: {usual.effects[at - 1]}"):
            dies(scene, usual, at, how)


def test_what_they_do(played: Any) -> None:
    assert played("archived")[1].actions[0] == "archive 0003 0003"
    assert played("collected")[1].actions[0] == "gc 0006 0006"
    for name in ("archived", "copied", "collected"):
        assert len(played(name)[1].distinct) == 1, "readers of what is live notice nothing"
    before, after = played("restored")[1].distinct
    assert (sorted(before), sorted(after)) == (["t", "w"], ["t", "u"])


@pytest.mark.s3
@pytest.mark.parametrize(
    ("name", "sort", "how"),
    [
        ("archived", "receive", "half"),
        ("archived", "write ACTIVE", "after"),
        ("copied", "write backup", "before"),
        ("collected", "delete", "half"),
        ("collected", "unguard", "after"),
        ("restored", "receive", "half"),
    ],
)
def test_so_it_is_in_a_bucket(played: Any, new_place: NewPlace, name: str, sort: str, how: Any) -> None:
    scene, usual = played(name)
    at = next(at for at, what in enumerate(usual.effects, 1) if what.startswith(sort))
    dies(scene, usual, at, how, new_place("moto"))


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_backup_that_dies_is_recorded_at_last(played: Any, subtests: pytest.Subtests, how: Any) -> None:
    there = played("copied")[0]
    scene = Scene(there.lab, lambda lab, catalog: retention.copy(catalog, lab.root, "backup"), looked)
    usual = course(scene)
    for at, what in enumerate(usual.effects, 1):
        with subtests.test(f"{how} effect {at}: {what}"):
            lab = scene.copy()
            with pytest.raises(Died):
                scene.run(lab, Fate(at, how))
            lab.outlive_the_lock()
            scene.repeat(lab)
            catalog = lab.catalog()
            backup = next(backups(catalog.store.pointers.chain(catalog.seen().pointer)), None)
            assert backup is not None
            assert (backup.revision, backup.copied.root) == ("0003", lab.root)
            # Died after it was told, it is told once more: so it is as young as it was compared.
            assert actions(lab) in (usual.actions, [usual.actions[0], *usual.actions])
            settled(lab)
