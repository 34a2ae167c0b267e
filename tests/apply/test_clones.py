"""`staging = clone`: a staged root that borrows, and `detach`, which makes it stand on its own."""

from datetime import timedelta
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lab import ROOT, Appender, Lab
from servers import Place

from lancemig.apply.commit.detach import materialize
from lancemig.catalog.lineage import Action
from lancemig.commands import retention, status, upgrade
from lancemig.errors import PlanError, StoreError
from lancemig.report.plan import plan_text
from lancemig.report.status import status_text

START = """
    CreateTable(
        table="t", key=("id",),
        schema={"id": "int64 not null", "x": "float64", "text": "string",
                "vec": "fixed_size_list<float32>[4]"},
        rows=[{"id": i, "x": i * 1.0, "text": f"word n{i}", "vec": [i, i % 7, 1.0, 0.5]} for i in range(600)],
    ),
    CreateTable(table="still", schema={"at": "int64"}, rows=[{"at": 1}]),
    CreateIndex(table="t", column="id", type="BTREE"),
    CreateIndex(table="t", column="text", type="INVERTED", params={"with_position": True}),
    CreateIndex(table="t", column="x", type="ZONEMAP"),
    CreateIndex(table="t", column="vec", type="IVF_PQ",
                params={"num_partitions": 2, "num_sub_vectors": 2, "metric": "cosine"}),
"""


def cloned(folder: Path, place: Place, *operations: str) -> Lab:
    lab = Lab(folder, place, staging="clone")
    lab.revision(START)
    lab.upgrade()
    lab.dataset("t").delete("id = 3 or id = 400")
    for operation in operations or ('RenameColumn(table="t", column="x", to="y")',):
        lab.revision(operation)
    lab.upgrade()
    return lab


def data_files(lab: Lab, root: str, table: str) -> list[str]:
    store = lab.catalog().store
    return [item.key for item in store.objects.list(f"{store.tables.folder(root, table)}data/")]


def test_a_cloned_root_copies_nothing_and_the_lineage_tells_what_it_reads(
    tmp_path: Path, place: Place
) -> None:
    lab = cloned(tmp_path, place)
    assert lab.root != ROOT
    assert data_files(lab, lab.root, "t") == data_files(lab, lab.root, "still") == []
    assert [row["id"] for row in lab.rows("t")][:4] == [0, 1, 2, 4]
    assert "y" in lab.dataset("t").schema.names
    assert lab.dataset("t").count_rows("id < 10") == 9
    entry = status.history(lab.catalog())[0]
    assert entry.reads == (ROOT,)
    assert "borrows  2 tables from other roots" in status_text(status.status(lab.catalog()))


def test_what_a_clone_reads_is_told_until_it_is_detached(tmp_path: Path, local_place: Place) -> None:
    lab = cloned(tmp_path, local_place)
    lab.revision('UpdateRows(table="t", set={"y": "y + 1"}, where="id < 5")')
    lab.upgrade()
    assert status.history(lab.catalog())[0].reads == (ROOT,)
    retention.detach(lab.catalog())
    lab.revision('UpdateRows(table="t", set={"y": "y + 1"}, where="id < 5")')
    lab.upgrade()
    entries = status.history(lab.catalog())
    assert [entry.action for entry in entries[:2]] == [Action.UPGRADE, Action.DETACH]
    assert [entry.reads for entry in entries[:2]] == [(), ()]
    list(lab.catalog().store.pointers.chain(lab.catalog().seen().pointer))


def test_a_root_that_lends_its_files_is_archived_once_it_lends_none(
    tmp_path: Path, local_place: Place
) -> None:
    lab = cloned(tmp_path, local_place)
    with pytest.raises(PlanError, match="borrows files from v1/") as refused:
        retention.archive(lab.catalog(), ROOT)
    assert "lancemig detach" in str(refused.value)
    retention.detach(lab.catalog())
    retention.archive(lab.catalog(), ROOT)
    # What the flip left is guarded, and goes on reading it.
    retention.gc(lab.catalog(), force=True)
    assert lab.catalog().store.tables.names(ROOT) == ["still", "t"]


def test_the_plan_tells_of_cloning(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path, local_place, staging="clone")
    lab.revision(START)
    lab.upgrade()
    lab.revision('RenameColumn(table="t", column="x", to="y")')
    prepared = upgrade.prepare(lab.catalog(), "head", "up")
    text = plan_text(prepared.plan, store="store", staging="next/")
    assert "clone  600 rows" in text
    assert "borrowed until lancemig detach" in text
    assert f"the new root borrows files from {ROOT}" in text


def test_a_retyped_column_of_a_clone_is_all_that_is_written(tmp_path: Path, local_place: Place) -> None:
    lab = cloned(tmp_path, local_place, 'RetypeColumn(table="t", column="x", to="float32")')
    assert len(data_files(lab, lab.root, "t")) == 1
    assert [row["x"] for row in lab.rows("t")][:4] == [0.0, 1.0, 2.0, 4.0]


def test_detaching_keeps_rows_ids_and_indices_and_needs_the_old_root_no_more(
    tmp_path: Path, place: Place
) -> None:
    lab = cloned(tmp_path, place)
    lab.append("t", [{"id": 900, "y": 1.0, "text": "word", "vec": [1, 1, 1, 1]}])
    tables = lab.catalog().store.tables
    before, schema = (
        lab.dataset("t").scanner(with_row_id=True).to_table(),
        tables.open(lab.root, "t").schema(),
    )
    covered = {i.name: i.num_rows_indexed for i in lab.dataset("t").describe_indices()}
    done = retention.detach(lab.catalog())
    assert set(done.files) == {"t", "still"}
    assert done.roots == (ROOT,)
    gone(lab)
    table = tables.open(lab.root, "t")
    assert table.borrows == ()
    assert table.schema() == schema
    now = lab.dataset("t")
    assert now.scanner(with_row_id=True).to_table().equals(before)
    # The clone has had its own indices since it was staged, so none is built again.
    assert {i.name: i.num_rows_indexed for i in now.describe_indices()} == covered
    assert now.count_rows("id in (2, 3, 4, 900)") == 3
    assert now.to_table(full_text_query="n20").num_rows == 1
    nearest = now.to_table(nearest={"column": "vec", "q": [20.0, 6.0, 1.0, 0.5], "k": 5})
    assert nearest.num_rows == 5
    now.optimize.compact_files()
    assert lab.dataset("t").count_rows() == 599


def gone(lab: Lab) -> None:
    objects = lab.catalog().store.objects
    objects.delete([item.key for item in objects.list(ROOT)])


def test_detaching_twice_writes_nothing_the_second_time(tmp_path: Path, local_place: Place) -> None:
    lab = cloned(tmp_path, local_place)
    retention.detach(lab.catalog())
    entries, version = len(status.history(lab.catalog())), lab.dataset("t").version
    assert retention.detach(lab.catalog()).files == {}
    assert (len(status.history(lab.catalog())), lab.dataset("t").version) == (entries, version)


def test_writers_go_on_while_it_detaches(tmp_path: Path, local_place: Place) -> None:
    lab = cloned(tmp_path, local_place)
    before = lab.dataset("t").count_rows()

    def row(number: int) -> dict[str, object]:
        return {"id": 1000 + number, "y": 0.0, "text": "late", "vec": [0, 0, 0, 0]}

    with Appender(lab, "t", row) as appender:
        lab.dataset("t").update({"y": "-1.0"}, where="id = 10")
        retention.detach(lab.catalog())
        lab.dataset("t").update({"y": "-2.0"}, where="id = 11")
    assert appender.refused == []
    gone(lab)
    found = {row["id"]: row["y"] for row in lab.rows("t")}
    assert len(found) == before + len(appender.told)
    assert (found[10], found[11]) == (-1.0, -2.0)


def test_a_delete_between_copying_and_naming_is_kept(tmp_path: Path, local_place: Place) -> None:
    lab = cloned(tmp_path, local_place)
    catalog = lab.catalog()
    from lancemig.apply.exclusive import exclusive

    class Late(type(catalog.store.tables)):  # type: ignore[misc]
        waiting = True

        def copy_borrowed_files(self, table: object) -> int:
            taken = super().copy_borrowed_files(table)
            if self.waiting:
                type(self).waiting = False
                lab.dataset("t").delete("id = 7")
            return int(taken)

    tables = Late(catalog.store.objects, catalog.store.tables.catalog_dir)
    object.__setattr__(catalog.store, "tables", tables)
    with exclusive(catalog.store, catalog.environment) as solo:
        materialize(solo.committer, lab.root, "t", "")
    gone(lab)
    assert 7 not in [row["id"] for row in lab.rows("t")]
    assert lab.dataset("t").count_rows() == 597


def test_a_copied_root_borrows_nothing(tmp_path: Path, local_place: Place) -> None:
    lab = cloned(tmp_path, local_place)
    lab.staging = "copy"
    again = Lab(lab.folder, lab.place, staging="copy", written=list(lab.written))
    again.revision('RenameColumn(table="t", column="y", to="z")')
    again.upgrade()
    assert status.history(again.catalog())[0].reads == ()
    assert again.catalog().store.tables.open(again.root, "t").borrows == ()


def test_what_lies_outside_of_the_store_is_named(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision('CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}])')
    lab.upgrade()
    elsewhere = lance.write_dataset(lab.dataset("t").to_table(), tmp_path / "elsewhere.lance")
    tables = lab.catalog().store.tables
    elsewhere.shallow_clone(tables.uri(ROOT, "u"), 1)
    with pytest.raises(StoreError, match=r"elsewhere\.lance, which is outside"):
        retention.detach(lab.catalog())


EVERY_INDEX = """
    CreateTable(
        table="t", key=("id",),
        schema={"id": "int64 not null", "k": "int64", "text": "string", "vec": "fixed_size_list<float32>[4]"},
        rows=[{"id": i, "k": i % 5, "text": f"word n{i}", "vec": [i, i % 7, 1.0, 0.5]} for i in range(600)],
    ),
    CreateTable(table="r", schema={"x": "int64"}, rows=[{"x": 1}]),
"""
INDICES = """
    CreateIndex(table="t", column="id", type="BTREE"),
    CreateIndex(table="t", column="k", type="BITMAP"),
    CreateIndex(table="t", column="text", type="INVERTED", params={"with_position": True}),
    CreateIndex(table="t", column="vec", type="IVF_PQ", params={"num_partitions": 2, "num_sub_vectors": 2}),
"""


def new_rows(*ids: int) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 4 * len(ids), pa.float32()), 4)
    columns = {"id": pa.array(ids, pa.int64()), "k": pa.array([9] * len(ids), pa.int64())}
    return pa.table({**columns, "text": [f"fresh n{n}" for n in ids], "vec": vectors})


def upsert(table: lancedb.table.Table, *ids: int) -> None:
    merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    merge.execute(new_rows(*ids))


def assert_found_by_index(table: lancedb.table.Table, last: int) -> None:
    assert table.search().where(f"id in (3, {last})").to_arrow()["id"].to_pylist() == [3, last]
    assert table.count_rows("k = 9") == len(table.search().where("k = 9").limit(900).to_list())
    found = table.search(f"n{last}", query_type="fts").limit(5).to_arrow()
    assert last in found["id"].to_pylist()
    assert len(table.search([0.5] * 4).limit(5).to_list()) == 5


@pytest.mark.parametrize("during", [False, True], ids=["before", "while staged"])
def test_a_writer_with_plain_lancedb_maintains_the_indices_of_a_clone(
    tmp_path: Path, local_place: Place, during: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, local_place, staging="clone")
    lab.revision(EVERY_INDEX)
    lab.upgrade()
    for n in range(1000, 1200, 50):
        # Several fragments, so that a compaction has something to do.
        lance.write_dataset(new_rows(*range(n, n + 50)), lab.dataset("t").uri, mode="append")
    lab.revision(INDICES)
    lab.upgrade()
    if during:
        from lancemig.apply.replicate import catch_up

        real, waiting = catch_up._refuse_new_tables, [True]

        def meanwhile(context: object) -> None:
            if waiting:
                waiting.clear()
                lab.dataset("t").create_scalar_index("k", "BTREE", name="late", replace=False)
                upsert(lancedb.connect(Path(lab.dataset("t").uri).parent).open_table("t"), 5, 1500)
            real(context)  # type: ignore[arg-type]

        monkeypatch.setattr(catch_up, "_refuse_new_tables", meanwhile)
    lab.revision('RenameColumn(table="r", column="x", to="y")')
    lab.upgrade()
    clone = lab.catalog().store.tables.open(lab.root, "t")
    assert clone.borrows != () and not clone.borrowed_indices
    assert ("late" in clone.covers()) is during
    table = lancedb.connect(Path(lab.dataset("t").uri).parent).open_table("t")
    upsert(table, 7, 2000)
    assert_found_by_index(table, 2000)
    lab.dataset("t").optimize.compact_files()
    table.checkout_latest()
    upsert(table, 8, 2001)
    assert_found_by_index(table, 2001)
    table.optimize(cleanup_older_than=timedelta())
    upsert(table, 9, 2002)
    table.delete("id = 10")
    assert_found_by_index(table, 2002)
    assert table.count_rows() == 600 + 200 + 3 + during - 1
    retention.detach(lab.catalog())
    gone(lab)
    assert_found_by_index(lancedb.connect(Path(lab.dataset("t").uri).parent).open_table("t"), 2002)
