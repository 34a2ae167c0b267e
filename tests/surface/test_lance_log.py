"""What a table's own log says of each commit, ours and others'."""

from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction

PROPERTIES = {"lancemig.run": "r1", "lancemig.revision": "0007", "lancemig.step": "2"}


def rows(count: int, start: int = 0) -> pa.Table:
    ids = list(range(start, start + count))
    return pa.table({"id": ids, "x": [i / 2 for i in ids]})


def table(folder: Path, *, stable: bool = False) -> LanceDataset:
    written = lance.write_dataset(
        rows(20), folder / "t.lance", max_rows_per_file=10, enable_stable_row_ids=stable
    )
    return lance.dataset(written.uri)


def stamped(ds: LanceDataset) -> Transaction:
    operation = LanceOperation.UpdateConfig(table_metadata_updates=LanceOperation.UpdateMap({"k": "v"}))
    return Transaction(ds.version, operation, transaction_properties=PROPERTIES)


def kind(ds: LanceDataset, version: int) -> str:
    return type(ds.read_transaction(version).operation).__name__


def test_a_stamp_is_found_again_among_other_writers_commits(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ours = stamped(ds)
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.add(rows(1, 50))
    LanceDataset.commit(ds.uri, ours)
    opened.add(rows(1, 60))
    latest = lance.dataset(ds.uri)
    found = [
        version
        for version in range(ds.version + 1, latest.version + 1)
        if latest.read_transaction(version).transaction_properties == PROPERTIES
    ]
    assert found == [3]
    assert latest.read_transaction(3).uuid == ours.uuid
    assert latest.read_transaction(2).transaction_properties == {}


def test_the_log_names_what_lancedb_did(tmp_path: Path) -> None:
    ds = table(tmp_path, stable=True)
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.add(rows(1, 50))
    opened.update(where="id = 1", values={"x": 5.0})
    opened.delete("id = 2")
    opened.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows(2, 50))
    opened.add_columns({"y": "id * 2"})
    opened.alter_columns({"path": "y", "rename": "z"})
    opened.create_index("id", config=lancedb.index.BTree())
    latest = lance.dataset(ds.uri)
    assert [kind(latest, v) for v in range(1, latest.version + 1)] == [
        "Overwrite",
        "Append",
        "Update",
        "Delete",
        "Update",
        "Merge",
        "Project",
        "CreateIndex",
    ]


def test_an_inserting_and_an_updating_upsert_both_read_as_update(tmp_path: Path) -> None:
    ds = table(tmp_path)
    upsert = ds.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    upsert.execute(rows(2, 50))
    operation = lance.dataset(ds.uri).read_transaction(2).operation
    assert isinstance(operation, LanceOperation.Update)
    assert (operation.removed_fragment_ids, operation.updated_fragments) == ([], [])


def test_a_restore_reads_as_restore(tmp_path: Path) -> None:
    ds = table(tmp_path)
    lance.write_dataset(rows(1, 50), ds.uri, mode="append")
    ds.checkout_version(1).restore()
    assert lance.dataset(ds.uri).read_transaction(3).operation.version == 1


def compacted(folder: Path, *, stable: bool, indexed: bool) -> LanceDataset:
    ds = table(folder, stable=stable)
    if indexed:
        ds.create_scalar_index("id", "BTREE")
    lance.dataset(ds.uri).optimize.compact_files()
    return lance.dataset(ds.uri)


def test_a_compaction_that_rewrote_an_index_cannot_be_read(tmp_path: Path) -> None:
    ds = compacted(tmp_path, stable=False, indexed=True)
    with pytest.raises(TypeError, match="RewrittenIndex"):
        ds.read_transaction(ds.version)
    with pytest.raises(TypeError, match="RewrittenIndex"):
        ds.get_transactions()


@pytest.mark.parametrize(("stable", "indexed"), [(True, True), (False, False)])
def test_a_compaction_that_rewrote_no_index_reads_as_rewrite(
    tmp_path: Path, stable: bool, indexed: bool
) -> None:
    ds = compacted(tmp_path, stable=stable, indexed=indexed)
    assert kind(ds, ds.version) == "Rewrite"


def test_the_reservation_before_a_compaction_reads_as_a_nameless_operation(tmp_path: Path) -> None:
    ds = compacted(tmp_path, stable=False, indexed=False)
    assert kind(ds, ds.version - 1) == "BaseOperation"


def test_an_update_of_no_rows_still_makes_a_version(tmp_path: Path) -> None:
    ds = table(tmp_path)
    ds.update({"x": "0.0"}, where="id = 999")
    assert lance.dataset(ds.uri).version == 2
