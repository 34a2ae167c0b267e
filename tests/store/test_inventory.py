"""The inventory of a root: every table, log, namespace and file under it is in exactly one place."""

import shutil
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lab import ROOT, Lab
from servers import NewPlace, Place

from lancemig.commands import check, flip, retention, upgrade
from lancemig.errors import PlanError, VerifyFailed
from lancemig.store.lance.inventory import RootInventory

ROWS = pa.table({"id": [1, 2], "x": [1.0, 2.0]})


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(
        'CreateTable(table="t", key=("id",), schema={"id": "int64", "x": "float64"}, rows=[{"id": 1}])'
    )
    lab.upgrade()
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    return lab


def catalog_folder(lab: Lab) -> Path:
    return Path(lab.place.store) / ROOT / "catalog"


def taken(lab: Lab) -> RootInventory:
    catalog = lab.catalog()
    return catalog.inventory(catalog.seen())


def codes(lab: Lab) -> set[str]:
    return {finding.code for part in check.check(lab.catalog()) for finding in part.findings}


def test_a_root_of_tables_alone_has_nothing_else(lab: Lab) -> None:
    assert taken(lab) == RootInventory(root=ROOT, tables=("t",))
    assert codes(lab) == {"LM401"}
    assert lab.upgrade().flipped


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("catalog/orders", "v1/catalog/orders/"),
        ("catalog/sales/orders.lance", "v1/catalog/sales/orders.lance/"),
        ("catalog/a/b/c", "v1/catalog/a/b/c/"),
        ("beside/orders.lance", "v1/beside/orders.lance/"),
    ],
)
def test_a_table_that_no_operation_can_name_is_refused_by_name(lab: Lab, path: str, named: str) -> None:
    lance.write_dataset(ROWS, str(Path(lab.place.store) / ROOT / path))
    assert taken(lab).unaddressed == (named,)
    assert "LM330" in codes(lab)
    with pytest.raises(PlanError, match=f"no operation can name the tables in {named}"):
        upgrade.prepare(lab.catalog(), "head", "up")
    with pytest.raises(PlanError):
        lab.upgrade()
    assert lab.root == ROOT


def test_a_namespace_is_refused_with_its_tables(lab: Lab) -> None:
    database = lancedb.connect(str(catalog_folder(lab)))
    database.create_namespace(["sales"])
    database.create_table("orders", ROWS, namespace_path=["sales"])
    found = taken(lab)
    assert found.namespaced == ("sales", "sales.orders")
    assert (found.unaddressed, found.unknown) == ((), ())
    with pytest.raises(PlanError, match=r"would leave sales, sales.orders behind in v1/"):
        lab.upgrade()
    assert "LM330" in codes(lab)
    # A change in place concerns no other table.
    (lab.folder / "versions" / "0002.py").unlink()
    lab.written.pop()
    lab.revision('UpdateRows(table="t", set={"x": "5.0"})')
    lab.upgrade()
    assert database.open_table("orders", namespace_path=["sales"]).count_rows() == 2


def test_an_empty_manifest_is_no_namespace(lab: Lab) -> None:
    """Some releases of LanceDB write it into every catalog."""
    database = lancedb.connect(str(catalog_folder(lab)))
    database.create_namespace(["sales"])
    database.drop_namespace(["sales"])
    assert (catalog_folder(lab) / "__manifest").exists()
    assert taken(lab) == RootInventory(root=ROOT, tables=("t",))
    assert lab.upgrade().flipped
    assert (
        lancedb.connect(str(Path(lab.place.store) / lab.root / "catalog")).open_table("t").count_rows() == 1
    )


def unflushed(lab: Lab, name: str = "users") -> None:
    """A table with an upsert that is acknowledged, and only in its log."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("x", pa.float64())])
    table = lancedb.connect(str(catalog_folder(lab))).create_table(name, ROWS.cast(schema))
    table.set_unenforced_primary_key("id")
    table.set_lsm_write_spec(lancedb.LsmWriteSpec.unsharded())
    upsert = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    upsert.execute(pa.table({"id": [3], "x": [3.0]}, schema=schema))


def test_rows_in_a_write_ahead_log_are_refused_by_the_name_of_their_table(lab: Lab) -> None:
    unflushed(lab)
    assert set(taken(lab).unflushed) == {"users"}
    with pytest.raises(PlanError, match=r"write-ahead log are in no version .*: users \(\d files\)"):
        lab.upgrade()
    assert lab.root == ROOT
    assert "LM331" in codes(lab)


def test_a_log_that_appears_after_the_plan_stops_the_flip(lab: Lab) -> None:
    lab.upgrade(no_flip=True)
    folder = catalog_folder(lab) / "t.lance" / "_mem_wal" / "shard" / "wal"
    folder.mkdir(parents=True)
    (folder / "1.arrow").write_bytes(b"rows")
    with pytest.raises((PlanError, VerifyFailed), match="write-ahead log"):
        flip.flip(lab.catalog(), None)
    assert lab.root == ROOT
    (folder / "1.arrow").unlink()
    assert flip.flip(lab.catalog(), None).flipped


def test_what_is_no_table_stays_and_the_plan_names_it(lab: Lab) -> None:
    folder = catalog_folder(lab)
    (folder / "README.md").write_text("ours")
    (folder.parent / "export.parquet").write_text("ours")
    (folder / "_refs" / "x").mkdir(parents=True)
    (folder / "_refs" / "x" / "y.json").write_text("{}")
    (folder / "half.lance" / "data").mkdir(parents=True)
    (folder / "half.lance" / "data" / "1.lance").write_text("?")
    prepared = upgrade.prepare(lab.catalog(), "head", "up")
    assert prepared.staying == (
        "v1/catalog/half.lance/: no table, has no version",
        "v1/export.parquet, v1/catalog/_refs/, v1/catalog/README.md: unknown to lancemig",
    )
    assert "LM332" in codes(lab)
    assert lab.upgrade().flipped
    assert (folder / "README.md").exists()


def test_thousands_of_unknown_files_are_named_in_a_line(lab: Lab) -> None:
    for number in range(3000):
        (catalog_folder(lab) / f"f{number:04d}.bin").write_bytes(b"")
    [line] = upgrade.prepare(lab.catalog(), "head", "up").staying
    assert line.endswith("f0004.bin and 2,995 more: unknown to lancemig")


@pytest.mark.parametrize("prefix", ["", "v1/"])
def test_other_roots_and_copies_in_the_same_store_are_no_strangers(
    tmp_path: Path, local_place: Place, prefix: str
) -> None:
    lab = Lab(tmp_path / "lab", local_place)
    ini = lab.folder / "lancemig.ini"
    ini.write_text(ini.read_text().replace("fallback_prefix = v1/", f"fallback_prefix = {prefix}"))
    lab.revision(
        'CreateTable(table="t", key=("id",), schema={"id": "int64", "x": "float64"}, rows=[{"id": 1}])'
    )
    lab.upgrade()
    for old, new in (("x", "y"), ("y", "z")):
        lab.revision(f'RenameColumn(table="t", column="{old}", to="{new}")')
        prepared = upgrade.prepare(lab.catalog(), "head", "up")
        assert prepared.staying == ()
        assert lab.upgrade().flipped


@pytest.mark.s3
def test_in_a_bucket_it_costs_a_request_a_folder(tmp_path: Path, new_place: NewPlace) -> None:
    lab = Lab(tmp_path, new_place("moto"))
    lab.revision('CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}])')
    lab.upgrade()
    objects = lab.catalog().store.objects
    objects.write_if(f"{ROOT}catalog/orders/_versions/1.manifest", b"x", None)
    objects.write_if(f"{ROOT}notes.txt", b"x", None)
    found = taken(lab)
    assert (found.tables, found.unaddressed) == (("t",), ("v1/catalog/orders/",))
    assert found.unknown == ("v1/notes.txt",)


@pytest.mark.parametrize("path", ["catalog/orders", "catalog/a/b/c"])
def test_a_backup_that_would_leave_a_table_out_is_refused(lab: Lab, new_place: NewPlace, path: str) -> None:
    lance.write_dataset(ROWS, str(Path(lab.place.store) / ROOT / path))
    elsewhere = Path(new_place("local").store)
    with pytest.raises(
        PlanError, match=f"no operation can name the tables in v1/{path}/; a copy would leave"
    ):
        retention.copy(lab.catalog(), ROOT, str(elsewhere / "backup"))
    assert not (elsewhere / "backup").exists()


def test_a_backup_of_rows_in_a_log_and_of_namespaces_is_refused(lab: Lab, new_place: NewPlace) -> None:
    log = catalog_folder(lab) / "t.lance" / "_mem_wal" / "shard" / "wal"
    log.mkdir(parents=True)
    (log / "1.arrow").write_bytes(b"rows")
    target = str(Path(new_place("local").store) / "backup")
    with pytest.raises(PlanError, match=r"write-ahead log .* t \(1 file\)"):
        retention.copy(lab.catalog(), ROOT, target)
    shutil.rmtree(log.parent.parent)
    db = lancedb.connect_namespace("dir", {"root": str(catalog_folder(lab))})
    db.create_namespace(["sales"])
    with pytest.raises(
        PlanError, match="a copy cannot carry LanceDB namespaces, and would leave sales behind"
    ):
        retention.copy(lab.catalog(), ROOT, target)
