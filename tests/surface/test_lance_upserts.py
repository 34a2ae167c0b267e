"""A hand-made upsert: a fragment of replaced and new rows, and the replaced ones deleted where they were."""

from pathlib import Path
from typing import Any

import lance
import lancedb
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.fragment import RowIdSequence, write_fragments

ROWS = pa.table({"id": pa.array(range(100)), "x": pa.array(range(100)), "s": [f"s{n}" for n in range(100)]})
SOURCE = pa.table({"id": [3, 60, 500], "x": [1000, 1001, 1002], "s": ["alpha", "beta", "gamma"]})
STABLE = pytest.mark.parametrize("stable", [False, True])


def table(tmp_path: Path, stable: bool) -> LanceDataset:
    ds = lance.write_dataset(ROWS, tmp_path / "t.lance", enable_stable_row_ids=stable, max_rows_per_file=50)
    for column, kind in (("id", "BTREE"), ("x", "BITMAP"), ("s", "INVERTED")):
        ds.create_scalar_index(column, kind)
    return lance.dataset(ds.uri)


def staged(ds: LanceDataset, **fields: Any) -> Transaction:
    old = ds.scanner(filter="id in (3, 60)", with_row_id=True, with_row_address=True).to_table()
    where = f"_rowaddr in ({', '.join(map(str, old['_rowaddr'].to_pylist()))})"
    new = write_fragments(SOURCE, ds, mode="append", return_transaction=True).operation.fragments
    if ds.has_stable_row_ids:
        new[0].row_id_meta = RowIdSequence(old["_rowid"].to_pylist()).to_inline_metadata()
    operation = LanceOperation.Update(
        updated_fragments=[f.delete(where) for f in ds.get_fragments()],
        new_fragments=new,
        update_mode="rewrite_rows",
        **fields,
    )
    return Transaction(ds.version, operation)


@STABLE
def test_it_is_what_lances_own_upsert_stages(tmp_path: Path, stable: bool) -> None:
    ds = table(tmp_path, stable)
    merge = ds.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    theirs = merge.execute_uncommitted(SOURCE)[0].operation
    ours = staged(ds, fields_for_preserving_frag_bitmap=list(range(ds.max_field_id + 1))).operation
    assert theirs.fields_for_preserving_frag_bitmap == ours.fields_for_preserving_frag_bitmap
    assert (theirs.update_mode, theirs.fields_modified) == (ours.update_mode, ours.fields_modified)
    assert [f.physical_rows for f in theirs.new_fragments] == [f.physical_rows for f in ours.new_fragments]
    if stable:
        ids = [
            list(RowIdSequence.from_inline_metadata(one.new_fragments[0].row_id_meta))
            for one in (theirs, ours)
        ]
        assert sorted(ids[0]) == ids[1] == [3, 60]


@STABLE
@pytest.mark.parametrize("after", ["at once", "compacted", "optimised"])
def test_indices_answer_as_a_full_scan_does(tmp_path: Path, stable: bool, after: str) -> None:
    ds = table(tmp_path, stable)
    made = staged(ds, fields_for_preserving_frag_bitmap=list(range(ds.max_field_id + 1)))
    lance.write_dataset(pa.table({"id": [700], "x": [5], "s": ["s5"]}), ds.uri, mode="append")
    LanceDataset.commit(ds.uri, made)
    now = lance.dataset(ds.uri)
    if after == "compacted":
        now.optimize.compact_files(target_rows_per_fragment=1000)
    elif after == "optimised":
        now.optimize.optimize_indices()
    now = lance.dataset(ds.uri)
    wanted = {row["id"]: row for row in now.to_table().to_pylist()}
    assert wanted[3] == {"id": 3, "x": 1000, "s": "alpha"}
    for id_, row in wanted.items():
        assert now.to_table(filter=f"id = {id_}").to_pylist() == [row]
        same = [other["id"] for other in wanted.values() if other["x"] == row["x"]]
        assert sorted(now.to_table(filter=f"x = {row['x']}")["id"].to_pylist()) == sorted(same)
    assert now.count_rows("x = 3") == now.count_rows("x = 60") == 0
    assert now.to_table(full_text_query="s3")["id"].to_pylist() == []
    assert now.to_table(full_text_query="alpha")["id"].to_pylist() == [3]
    assert lancedb.connect(tmp_path).open_table("t").count_rows("id in (3, 60, 500, 700)") == 4
    now.validate()


def test_without_all_fields_named_an_index_misses_the_new_rows(tmp_path: Path) -> None:
    ds = table(tmp_path, stable=True)
    LanceDataset.commit(ds.uri, staged(ds, fields_for_preserving_frag_bitmap=[]))
    now = lance.dataset(ds.uri)
    assert 500 in now.to_table()["id"].to_pylist()
    assert now.to_table(filter="id = 500").num_rows == 0


def test_replaced_rows_keep_their_stable_row_ids_and_new_ones_get_their_own(tmp_path: Path) -> None:
    ds = table(tmp_path, stable=True)
    made = staged(ds, fields_for_preserving_frag_bitmap=list(range(ds.max_field_id + 1)))
    lance.write_dataset(pa.table({"id": [700], "x": [5], "s": ["s5"]}), ds.uri, mode="append")
    LanceDataset.commit(ds.uri, made)
    now = lance.dataset(ds.uri)
    ids = now.scanner(filter="id in (3, 60, 500, 700)", with_row_id=True).to_table()
    assert dict(zip(ids["id"].to_pylist(), ids["_rowid"].to_pylist(), strict=True)) == {
        3: 3,
        60: 60,
        500: 101,
        700: 100,
    }
    delta = now.delta(compared_against=ds.version)
    assert sorted(delta.get_inserted_rows().read_all()["id"].to_pylist()) == [500, 700]
    assert sorted(delta.get_updated_rows().read_all()["id"].to_pylist()) == [3, 60]


def test_the_log_names_another_version_than_the_one_it_was_staged_from(tmp_path: Path) -> None:
    ds = table(tmp_path, stable=False)
    made = staged(ds, fields_for_preserving_frag_bitmap=list(range(ds.max_field_id + 1)))
    lance.write_dataset(pa.table({"id": [700], "x": [5], "s": ["s5"]}), ds.uri, mode="append")
    landed = LanceDataset.commit(ds.uri, made).version
    assert made.read_version == landed - 2
    assert lance.dataset(ds.uri).read_transaction(landed).read_version == landed - 1
