"""gc deletes what nothing needs: no root that lends, no version that is named, nothing of another's."""

import json
from datetime import timedelta
from pathlib import Path

import lance
import pytest
from lab import ROOT, Lab
from servers import NewPlace, Place

import lancemig
from lancemig.apply.environment import format_time
from lancemig.apply.retention.readers import READER_FORMAT
from lancemig.apply.root_owner import ROOT_OWNER_FILE
from lancemig.catalog.lineage import Action, backups, standing
from lancemig.commands import flip, recovery, retention, status
from lancemig.commands.context import Catalog
from lancemig.errors import LancemigError, PlanError

TABLES = """
    CreateTable(table="t", schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]), key=("id",),
                rows=[{"id": n, "x": n / 2} for n in range(5)]),
"""
NONE = timedelta()


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(TABLES)
    lab.upgrade()
    return lab


def rebuilt(lab: Lab, column: str, to: str) -> str:
    """One more rebuild; the root that it left."""
    old = lab.root
    lab.revision(f'RenameColumn(table="t", column="{column}", to="{to}")')
    lab.upgrade()
    return old


def going(catalog: Catalog, *, force: bool = False) -> list[tuple[str, str]]:
    return [(item.kind, item.name) for item in retention.gc_plan(catalog, force=force).items]


def why(catalog: Catalog, name: str) -> str:
    return next(stays.why for stays in retention.gc_plan(catalog).kept if stays.name == name)


def cloned(lab: Lab, source: str, target: str) -> None:
    """Replace the table in `target` by one that borrows from `source`."""
    tables = lab.catalog().store.tables
    tables.objects.delete([item.key for item in tables.objects.list(tables.folder(target, "t"))])
    tables.clone(tables.open(source, "t"), target, "t")


def test_gc_deletes_exactly_what_its_plan_lists(lab: Lab) -> None:
    rebuilt(lab, "x", "y")
    second = rebuilt(lab, "y", "z")
    for root in (ROOT, second):
        retention.archive(lab.catalog(), root, retention=NONE)
    for _ in range(3):
        lab.revision('UpdateRows(table="t", set={"z": "z + 1"})')
        lab.upgrade()
    objects = lab.catalog().store.objects
    objects.write_if("_lancemig/scratch/20200101T000000Z-dead/answers/1", b"x", None)
    lab.late += timedelta(days=40)
    planned = retention.gc_plan(lab.catalog())
    kinds = {item.kind for item in planned.items}
    assert kinds == {"root", "scratch", "guards"}
    before = {item.key for item in objects.list("")}
    gone = retention.gc(lab.catalog())
    assert gone.items == planned.items
    after = {item.key for item in objects.list("")}
    roots = tuple(item.name for item in planned.items if item.kind in ("root", "scratch"))
    left = {key for key in before - after if not key.startswith(roots)}
    assert all("/tree/lancemig/" in key or "/_refs/branches/lancemig" in key for key in left)
    assert {key for key in after if key.startswith((ROOT, second))} == set()
    assert len(lab.rows("t")) == 5
    assert going(lab.catalog()) == []
    entry = status.history(lab.catalog())[0]
    assert entry.action is Action.GC
    assert {one.name for one in entry.collected if one.kind == "root"} == {ROOT, second}


def test_a_root_that_lends_to_one_that_is_kept_is_kept_and_not_archived(lab: Lab) -> None:
    old = rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), retention=NONE)
    assert going(lab.catalog()) == [("root", old)]
    cloned(lab, old, lab.root)
    assert going(lab.catalog(), force=True) == []
    assert why(lab.catalog(), old) == "lends files to t in the live root; to end that: lancemig detach"
    retention.gc(lab.catalog(), force=True)
    assert len(lab.rows("t")) == 5
    with pytest.raises(PlanError, match=r"the live root .* borrows files from v1/") as refused:
        retention.archive(lab.catalog(), old, retention=timedelta(days=1))
    assert "lancemig detach" in str(refused.value)


def test_a_chain_of_lenders_is_kept_by_its_last_borrower(lab: Lab) -> None:
    first = rebuilt(lab, "x", "y")
    second = rebuilt(lab, "y", "z")
    for root in (first, second):
        retention.archive(lab.catalog(), root, retention=NONE)
    cloned(lab, first, second)
    lab.append("t", [{"id": 9}], root=second)
    cloned(lab, second, lab.root)
    assert going(lab.catalog(), force=True) == []
    retention.gc(lab.catalog(), force=True)
    assert len(lab.rows("t")) == 6


def test_a_guarded_version_keeps_its_lender_until_the_guard_goes(lab: Lab) -> None:
    old = rebuilt(lab, "x", "y")
    for _ in range(3):
        # So that no version has a number that the flip names.
        lab.append("t", [{"id": 4}], root=old)
    retention.archive(lab.catalog(), retention=NONE)
    cloned(lab, old, lab.root)
    lab.revision('DeleteRows(table="t", where="id = 4")')
    lab.upgrade()
    # What makes the newest version self-contained; the one before is guarded.
    dataset = lab.dataset("t")
    lance.write_dataset(dataset.to_table(), dataset.uri, mode="overwrite")
    assert lab.catalog().store.tables.open(lab.root, "t").borrows == ()
    assert going(lab.catalog(), force=True) == []
    lab.revision('DeleteRows(table="t", where="id = 3")')
    lab.upgrade()
    lab.late += timedelta(days=40)
    assert {kind for kind, _ in going(lab.catalog())} == {"root", "guards"}
    retention.gc(lab.catalog())
    assert len(lab.rows("t")) == 3


def test_versions_that_the_lineage_names_stay_guarded_for_its_retention(lab: Lab) -> None:
    for _ in range(2):
        lab.revision('UpdateRows(table="t", set={"x": "x + 1"})')
        lab.upgrade()
    tables = lab.catalog().store.tables
    assert going(lab.catalog()) == []
    guards = len(tables.guards(ROOT, "t"))
    lab.late += timedelta(days=40)
    [item] = retention.gc_plan(lab.catalog()).items
    assert (item.kind, item.name) == ("guards", "v1/t")
    newest = tables.open(ROOT, "t").version
    assert newest not in item.versions
    retention.gc(lab.catalog())
    assert len(tables.guards(ROOT, "t")) == guards - len(item.guards)
    assert tables.open(ROOT, "t", item.versions[0]), "gc itself cleans nothing up"
    lab.dataset("t").cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
    assert tables.find(ROOT, "t", item.versions[0]) is None
    assert lab.catalog().chain.head == status.current(lab.catalog()).revision
    lab.downgrade("0002")
    assert lab.rows("t")[1]["x"] == 1.5


def test_branches_of_others_are_left_alone(lab: Lab) -> None:
    lab.dataset("t").create_branch("experiment", 1)
    lab.late += timedelta(days=40)
    retention.gc(lab.catalog(), force=True)
    assert "experiment" in lab.catalog().store.tables.guards(ROOT, "t")


def test_a_staged_root_of_another_catalog_or_of_nobody_is_left_alone(lab: Lab) -> None:
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    staged = lab.upgrade(no_flip=True).staged_prefix or ""
    recovery.undo(lab.catalog())
    lab.late += timedelta(days=2)
    assert going(lab.catalog()) == [("staged", staged)]
    claim = Path(lab.place.store) / staged / ROOT_OWNER_FILE
    told = json.loads(claim.read_text())
    for other in ({"pointer": "other/ACTIVE.json"}, {"store": "s3://elsewhere"}, {"format": 2}):
        claim.write_text(json.dumps({**told, **other}))
        assert going(lab.catalog(), force=True) == []
    claim.unlink()
    assert going(lab.catalog(), force=True) == []


def test_a_copy_of_a_staged_root_is_nobodys_to_collect(lab: Lab, tmp_path: Path) -> None:
    rebuilt(lab, "x", "y")
    copy = "lancemig-staging-20200101T000000Z-c0c0/"
    retention.copy(lab.catalog(), lab.root, copy)
    lab.late += timedelta(days=400)
    retention.gc(lab.catalog(), force=True)
    assert lab.rows("t", copy) == lab.rows("t")


def test_an_archive_ends_when_its_root_is_live_again(lab: Lab) -> None:
    old = rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), retention=NONE)
    new = lab.root
    flip.rollback(lab.catalog())
    assert why(lab.catalog(), old) == "live"
    assert going(lab.catalog(), force=True) == []
    flip.rollback(lab.catalog(), again=True)
    assert lab.root == new
    assert why(lab.catalog(), old) == "target of rollback"
    catalog = lab.catalog()
    pointer = catalog.seen().pointer
    assert standing(catalog.store.pointers.chain(pointer), pointer).archives == {}


def test_a_lease_that_cannot_be_read_stops_everything(lab: Lab) -> None:
    rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), retention=NONE)
    document = {"format": READER_FORMAT + 1, "root": ROOT}
    lab.catalog().store.objects.write_if("_lancemig/leases/1.json", json.dumps(document).encode(), None)
    with pytest.raises(LancemigError, match=r"leases/1\.json has format"):
        retention.gc(lab.catalog(), force=True)
    assert len(lab.rows("t", ROOT)) == 5


def test_a_lease_that_ended_is_removed_and_holds_nothing(lab: Lab) -> None:
    rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), retention=NONE)
    config = lab.folder / "lancemig.ini"
    reader = lancemig.connect(config, at="0001", lease=60)
    assert going(lab.catalog()) == []
    lab.late += timedelta(minutes=3)
    assert going(lab.catalog()) == [], "clocks differ"
    lab.late += timedelta(minutes=10)
    assert {kind for kind, _ in going(lab.catalog())} == {"root", "lease"}
    retention.gc(lab.catalog())
    assert list(lab.catalog().store.objects.list("_lancemig/leases")) == []
    reader.close()


def test_a_reader_that_comes_at_the_last_moment_saves_its_root(lab: Lab) -> None:
    rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), retention=NONE)
    catalog, config = lab.catalog(), lab.folder / "lancemig.ini"
    told = []

    class Watched(type(catalog.store.objects)):  # type: ignore[misc]
        def write_if(self, key: str, body: bytes, expected: str | None):  # type: ignore[no-untyped-def]
            if "lineage/" in key and not told:
                told.append(lancemig.connect(config, at="0001", lease=60))
            return super().write_if(key, body, expected)

    from dataclasses import replace

    objects = Watched(catalog.store.objects._root)
    gone = retention.gc(replace(catalog, store=replace(catalog.store, objects=objects)))
    assert gone.spared == (ROOT,)
    assert told[0].open_table("t").count_rows() == 5


def test_the_last_backup_is_a_copy_of_the_root_that_is_live(lab: Lab, tmp_path: Path) -> None:
    catalog = lab.catalog()

    def last() -> object:
        found = next(backups(catalog.store.pointers.chain(catalog.seen().pointer)), None)
        return found and (found.revision, found.copied.to)

    assert last() is None
    retention.copy(catalog, ROOT, str(tmp_path / "backup"))
    assert last() == ("0001", str(tmp_path / "backup"))
    old = rebuilt(lab, "x", "y")
    assert last() is None
    retention.copy(catalog, old, str(tmp_path / "old"))
    assert last() is None
    retention.copy(lab.catalog(), lab.root, str(tmp_path / "new"))
    assert last() == ("0002", str(tmp_path / "new"))


def test_what_a_catalog_never_flipped_needs_is_all_kept(lab: Lab) -> None:
    assert going(lab.catalog(), force=True) == []
    assert format_time(lab.catalog().environment.now())


@pytest.mark.s3
def test_in_a_bucket_it_is_the_same(tmp_path: Path, new_place: NewPlace) -> None:
    lab = Lab(tmp_path / "bucket", new_place("moto"))
    lab.revision(TABLES)
    lab.upgrade()
    old = rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), retention=NONE, to="backup")
    lab.late += timedelta(days=40)
    retention.gc(lab.catalog())
    assert list(lab.catalog().store.objects.list(old)) == []
    assert len(lab.rows("t")) == 5
    assert len(lab.rows("t", "backup/")) == 5


@pytest.mark.parametrize("at", ["extra.lance", "t.lance/data/more", "t.lance/_indices"])
def test_a_root_with_a_link_to_a_folder_is_kept_until_the_link_is_removed(
    lab: Lab, tmp_path: Path, at: str
) -> None:
    """What is behind the link is outside of the store, in a folder of this test."""
    rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    for name in ("precious", "sub/precious"):
        (outside / name).write_text("not lancemig's")
    link = Path(lab.place.store) / ROOT / "catalog" / at
    link.symlink_to(outside)
    assert why(lab.catalog(), ROOT).startswith(f"{ROOT}catalog/{at}: a symbolic link")
    retention.gc(lab.catalog(), force=True)
    assert (outside / "precious").exists()
    assert (outside / "sub" / "precious").exists()
    link.unlink()
    retention.gc(lab.catalog())
    assert not (Path(lab.place.store) / ROOT).exists()
    assert (outside / "precious").exists()


@pytest.mark.parametrize("folder", ["", "catalog"])
def test_a_root_behind_a_link_is_read_and_never_deleted(lab: Lab, tmp_path: Path, folder: str) -> None:
    linked = Path(lab.place.store) / ROOT.rstrip("/") / folder
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    retention.gc(lab.catalog(), force=True)
    assert "a symbolic link" in why(lab.catalog(), ROOT)
    assert lance.dataset(str(linked / ("t.lance" if folder else "catalog/t.lance"))).count_rows() == 5


def test_a_root_with_rows_in_a_write_ahead_log_is_kept(lab: Lab) -> None:
    rebuilt(lab, "x", "y")
    retention.archive(lab.catalog(), ROOT, retention=NONE)
    log = Path(lab.place.store) / ROOT / "catalog" / "t.lance" / "_mem_wal" / "shard" / "wal"
    log.mkdir(parents=True)
    (log / "1.arrow").write_bytes(b"rows")
    assert "rows in a write-ahead log" in why(lab.catalog(), ROOT)
    retention.gc(lab.catalog(), force=True)
    assert (log / "1.arrow").exists()


def test_an_abandoned_root_with_files_of_others_is_kept(lab: Lab) -> None:
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    lab.upgrade(no_flip=True)
    run = lab.catalog().in_flight()
    assert run is not None and run.staged_prefix is not None
    recovery.undo(lab.catalog())
    objects = lab.catalog().store.objects
    objects.write_if(f"{run.staged_prefix}notes.txt", b"mine", None)
    assert going(lab.catalog(), force=True) == []
    kept = next(o for o in retention.gc_plan(lab.catalog(), force=True).kept if o.name == run.staged_prefix)
    assert f"has {run.staged_prefix}notes.txt, not written by lancemig" in kept.why
    objects.delete([f"{run.staged_prefix}notes.txt"])
    assert going(lab.catalog(), force=True) == [("staged", run.staged_prefix)]
