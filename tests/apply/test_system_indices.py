"""Indices that Lance makes for itself, such as `__lance_frag_reuse`, are carried by a copy and by a clone."""

import shutil
from pathlib import Path
from typing import Any

import lance
import lancedb
import pyarrow as pa
import pytest
from lab import ROOT, Lab
from servers import Place

from lancemig.commands import retention, upgrade
from lancemig.report.plan import plan_text

ROWS = 600
START = f"""
    CreateTable(table="t", key=("id",),
        schema=["id: int64 not null", "x: float64", "text: string", "vec: fixed_size_list<float32>[4]"],
        rows=[{{"id": n, "x": n * 1.0, "text": f"word n{{n}}", "vec": [n, n % 7, 1.0, 0.5]}}
              for n in range({ROWS})]),
    CreateIndex(table="t", column="id", type="BTREE"),
    CreateIndex(table="t", column="text", type="INVERTED"),
    CreateIndex(table="t", column="vec", type="IVF_FLAT", params={{"num_partitions": 2}})
"""
RENAME = 'RenameColumn(table="t", column="x", to="y")'


def row(number: int) -> dict[str, Any]:
    return {"id": number, "x": number * 1.0, "text": f"word n{number}", "vec": [number, 1.0, 1.0, 0.5]}


def deferred(lab: Lab) -> lance.LanceDataset:
    """A compaction that leaves the indices as they are, and an index that tells where the rows went."""
    for number in range(ROWS, ROWS + 6):
        lab.append("t", [row(number)])
    dataset = lab.dataset("t")
    dataset.optimize.optimize_indices()
    dataset.delete("id % 10 = 0")
    dataset.optimize.compact_files(defer_index_remap=True)
    dataset = lab.dataset("t")
    assert "__lance_frag_reuse" in names(dataset)
    return dataset


def names(dataset: lance.LanceDataset) -> set[str]:
    return {index.name for index in dataset.describe_indices()}


def connected(lab: Lab) -> Any:
    return lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t")


def searched(lab: Lab, number: int) -> None:
    table = connected(lab)
    assert [r["id"] for r in table.search().where(f"id = {number}").to_list()] == [number]
    assert [r["id"] for r in table.search(f"n{number}", query_type="fts").to_list()] == [number]
    near = table.search([float(number), number % 7 if number < ROWS else 1.0, 1.0, 0.5]).nprobes(2).limit(8)
    assert number in [r["id"] for r in near.to_list()]


def used(lab: Lab) -> None:
    """What programs do with the table afterwards, by LanceDB."""
    searched(lab, 251)
    searched(lab, ROWS + 1)
    table = connected(lab)
    column = "y" if "y" in table.schema.names else "x"
    new = pa.table(
        {"id": [251, 9000], column: [1.0, 2.0], "text": ["word n251", "word n9000"],
         "vec": pa.array([[251, 251 % 7, 1.0, 0.5], [9000, 1.0, 1.0, 0.5]], pa.list_(pa.float32(), 4))},
        schema=table.schema,
    )  # fmt: skip
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(new)
    searched(lab, 251)
    table.optimize()
    for number in (251, ROWS + 1, 9000):
        searched(lab, number)
    table.delete("id = 9000")
    table.optimize()
    assert table.count_rows("id = 9000") == 0


@pytest.mark.parametrize("staging", ["copy", "clone"])
def test_a_table_with_deferred_remapping_goes_through_a_rebuild(
    tmp_path: Path, local_place: Place, staging: str
) -> None:
    lab = Lab(tmp_path, local_place, staging=staging)
    lab.revision(START)
    lab.upgrade()
    deferred(lab)
    lab.revision(RENAME)
    lab.upgrade()
    assert "y" in lab.dataset("t").schema.names
    used(lab)


def test_a_clone_with_deferred_remapping_stands_on_its_own(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path, local_place, staging="clone")
    lab.revision(START)
    lab.upgrade()
    deferred(lab)
    lab.revision(RENAME)
    lab.upgrade()
    retention.detach(lab.catalog())
    shutil.rmtree(Path(lab.place.store) / ROOT)
    assert lab.dataset("t").to_table().num_rows == 545
    used(lab)


@pytest.mark.parametrize("staging", ["copy", "clone"])
def test_a_value_change_of_a_table_with_deferred_remapping(
    tmp_path: Path, local_place: Place, staging: str
) -> None:
    lab = Lab(tmp_path, local_place, staging=staging)
    lab.revision(START)
    lab.upgrade()
    deferred(lab)
    lab.revision('UpdateRows(table="t", set={"text": "concat(text, \' new\')"}, where="id < 5")')
    lab.upgrade()
    assert set(covered(lab).values()) == {0}
    lab.downgrade()
    assert set(covered(lab).values()) == {0}
    used(lab)


def covered(lab: Lab) -> dict[str, int]:
    return lab.catalog().store.tables.open(lab.root, "t").uncovered()


LOGGED = """
    CreateTable(table="users", schema={"id": "int64 not null", "name": "string"}, key=("id",),
                rows=[{"id": 1, "name": "ada"}, {"id": 2, "name": "bob"}]),
    CreateIndex(table="users", column="name", type="BTREE")
"""


def with_log(folder: Path, place: Place, staging: str) -> Lab:
    lab = Lab(folder, place, staging=staging)
    lab.revision(LOGGED)
    lab.upgrade()
    users = lancedb.connect(Path(place.store) / ROOT / "catalog").open_table("users")
    users.set_unenforced_primary_key("id")
    users.set_lsm_write_spec(lancedb.LsmWriteSpec.unsharded())
    return lab


@pytest.mark.parametrize("staging", ["copy", "clone"])
def test_the_write_specification_of_a_log_is_carried(
    tmp_path: Path, local_place: Place, staging: str
) -> None:
    lab = with_log(tmp_path, local_place, staging)
    before = lab.dataset("users").mem_wal_index_details()
    lab.revision('RenameColumn(table="users", column="name", to="full_name")')
    lab.upgrade()
    if staging == "clone":
        retention.detach(lab.catalog())
    assert before["maintained_indexes"] == ["name_idx"]
    assert lab.dataset("users").mem_wal_index_details() == before
    users = lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("users")
    upsert = users.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    upsert.execute(pa.table({"id": [3], "full_name": ["eve"]}, schema=users.schema))
    assert (Path(lab.place.store) / lab.root / "catalog" / "users.lance" / "_mem_wal").exists()


ANEW = {
    "rewritten": 'RewriteTable(table="users", stable_row_ids=True)',
    "renamed and changed before": 'RenameTable(table="users", to="u"), RenameTable(table="u", to="users"), '
    'TransformTable(table="users", using=same, schema={"id": "int64 not null", "name": "string"})',
}
SAME = """
def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
"""


@pytest.mark.parametrize("how", ANEW)
def test_the_plan_names_a_write_specification_that_a_new_table_lacks(
    tmp_path: Path, local_place: Place, how: str
) -> None:
    lab = with_log(tmp_path, local_place, "copy")
    lab.revision(ANEW[how], above=SAME)
    text = plan_text(upgrade.prepare(lab.catalog(), "head", "up").request.plan, store="store", staging="v2/")
    assert "note  users: its LSM write specification is not carried: set it again after the flip" in text
    lab.upgrade()
    assert lab.dataset("users").mem_wal_index_details() is None
    assert lab.dataset("users").count_rows() == 2
