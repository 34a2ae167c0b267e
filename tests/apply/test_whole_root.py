"""A root with all that a catalog can hold keeps it, from a rebuild to the deletion of the old root."""

import shutil
from datetime import timedelta
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lab import ROOT, Lab
from servers import Place

from lancemig.commands import check, flip, retention, verify
from lancemig.errors import PlanError

TABLES = """
    CreateTable(
        table="docs", key=("id",),
        schema={"id": "int64 not null", "price": "float64", "text": "string",
                "vec": "fixed_size_list<float32>[4]"},
        rows=[{"id": n, "price": n / 2, "text": f"word n{n}", "vec": [n, n % 7, 1.0, 0.5]}
              for n in range(600)],
    ),
    CreateTable(table="changed", key=("id",), schema={"id": "int64 not null", "x": "float64"},
                rows=[{"id": n, "x": n / 2} for n in range(4)]),
    CreateIndex(table="docs", column="price", type="BTREE"),
    CreateIndex(table="docs", column="text", type="INVERTED"),
    CreateIndex(table="docs", column="vec", type="IVF_PQ",
                params={"num_partitions": 2, "num_sub_vectors": 2, "metric": "cosine"}),
"""
RENAME = 'RenameColumn(table="changed", column="x", to="y")'
BLOBS = [b"first", None, b"x" * 100_000]
USERS = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])
AT_ONCE = timedelta()


def furnished(lab: Lab, directory: Path) -> lancedb.Table:
    """Tags and branches, on a carried table and on a rebuilt one; blobs; a table with a write-ahead log.

    Returns the last of them: only the handle that wrote the log reads its rows.
    """
    docs = lab.dataset("docs")
    docs.tags.create("train-2026", docs.version)
    branch = docs.create_branch("experiment", "train-2026")
    branch.delete("id >= 3")
    lab.dataset("docs").update({"price": "-1.0"}, where="id = 1")
    lab.dataset("changed").tags.create("audit", lab.dataset("changed").version)
    blobs = pa.table(
        {"id": pa.array([1, 2, 3]), "body": pa.array(BLOBS, pa.large_binary())},
        schema=pa.schema(
            [
                pa.field("id", pa.int64()),
                pa.field("body", pa.large_binary(), metadata={"lance-encoding:blob": "true"}),
            ]
        ),
    )
    lance.write_dataset(blobs, str(directory / "files.lance"))
    users = lancedb.connect(directory).create_table(
        "users", pa.table({"id": [1, 2], "name": ["ada", "bob"]}, schema=USERS)
    )
    users.set_unenforced_primary_key("id")
    users.set_lsm_write_spec(lancedb.LsmWriteSpec.unsharded())
    upsert = users.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    upsert.execute(pa.table({"id": [3], "name": ["eve"]}, schema=USERS))
    return users


def assert_whole(directory: Path, column: str) -> None:
    """All that `furnished` made, read by LanceDB and Lance alone."""
    db = lancedb.connect(directory)
    assert sorted(db.list_tables().tables) == ["changed", "docs", "files", "users"]
    docs = db.open_table("docs")
    assert docs.count_rows() == 600
    assert docs.search().where("price = 100.0").to_list()[0]["id"] == 200
    assert docs.search().where("price = -1.0").to_list()[0]["id"] == 1
    assert docs.search("n77", query_type="fts").to_list()[0]["id"] == 77
    assert docs.search([4.0, 4.0, 1.0, 0.5]).distance_type("cosine").limit(600).to_list()
    assert {index.index_type for index in docs.list_indices()} == {"BTree", "FTS", "IvfPq"}
    for index in docs.list_indices():
        statistics = docs.index_stats(index.name)
        assert statistics is not None
        assert (statistics.num_indexed_rows, statistics.num_unindexed_rows) == (599, 1)  # the updated row
    by_lance = lance.dataset(str(directory / "docs.lance"))
    assert by_lance.checkout_version("train-2026").count_rows("price = 0.5 and id = 1") == 1
    assert by_lance.checkout_version(("experiment", None)).to_table()["id"].to_pylist() == [0, 1, 2]
    changed = db.open_table("changed").to_arrow().sort_by("id").to_pydict()
    assert changed == {"id": [0, 1, 2, 3], column: [0.0, 0.5, 1.0, 1.5]}
    assert lance.dataset(str(directory / "changed.lance")).checkout_version("audit").count_rows() == 4
    files = lance.dataset(str(directory / "files.lance"))
    blobs = files.take_blobs("body", indices=[0, 2])
    assert [blob.readall() for blob in blobs] == [BLOBS[0], BLOBS[2]]
    assert db.open_table("users").to_arrow().sort_by("id")["name"].to_pylist() == ["ada", "bob", "eve"]


def flush(users: lancedb.Table, directory: Path) -> None:
    """What the refusal advises: write the rows of the log into the table, and remove the log."""
    rows = users.to_arrow()
    users.close_lsm_writers()
    users.unset_lsm_write_spec()
    users = lancedb.connect(directory).open_table("users")
    users.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)
    shutil.rmtree(directory / "users.lance" / "_mem_wal")


def codes(lab: Lab) -> set[str]:
    return {finding.code for part in check.check(lab.catalog()) for finding in part.findings}


@pytest.mark.parametrize("staging", ["copy", "clone"])
def test_nothing_is_lost_from_a_rebuild_to_gc(tmp_path: Path, local_place: Place, staging: str) -> None:
    lab = Lab(tmp_path / "lab", local_place, staging=staging)
    first = Path(local_place.store) / ROOT / "catalog"
    lab.revision(TABLES)
    lab.upgrade()
    users = furnished(lab, first)
    lab.revision(RENAME)

    assert "LM331" in codes(lab)
    with pytest.raises(PlanError, match="users"):
        lab.upgrade()
    assert lab.root == ROOT
    flush(users, first)
    assert_whole(first, "x")
    lab.upgrade()
    rebuilt = Path(local_place.store) / lab.root / "catalog"
    assert rebuilt != first
    assert_whole(rebuilt, "y")
    assert codes(lab) <= {"LM411"}
    assert verify.verify(lab.catalog()).ok

    flip.rollback(lab.catalog())
    assert_whole(first, "x")
    flip.rollback(lab.catalog(), again=True)
    retention.detach(lab.catalog())
    lab.revision('RenameColumn(table="changed", column="y", to="z")')
    lab.upgrade()
    retention.detach(lab.catalog())
    for root in (ROOT, f"{rebuilt.parent.name}/"):
        retention.archive(lab.catalog(), root, retention=AT_ONCE)
    lab.late += timedelta(days=40)
    # The versions that the last rebuild cloned borrow, and the lineage names them until the next one.
    lab.revision('RenameColumn(table="changed", column="z", to="y")')
    lab.upgrade()
    gone = retention.gc(lab.catalog())
    assert {item.name for item in gone.items if item.kind == "root"} >= {ROOT, f"{rebuilt.parent.name}/"}
    assert_whole(Path(local_place.store) / lab.root / "catalog", "y")
