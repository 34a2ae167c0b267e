"""How a shallow clone's files become its own, and what stays as it was."""

import shutil
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.dataset import Index
from lance.fragment import DataFile, DeletionFile, FragmentMetadata

ROWS = 400
VERSIONS = ["id", "_row_created_at_version", "_row_last_updated_at_version"]


def lived_in(folder: Path, *, stable: bool) -> LanceDataset:
    """A table with deletions, an update and indices, one of them with parameters."""
    vectors = np.random.default_rng(1).standard_normal(ROWS * 4, dtype=np.float32)
    rows = pa.table(
        {
            "id": pa.array(range(ROWS)),
            "text": pa.array([f"word number{n}" for n in range(ROWS)]),
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4),
        }
    )
    ds = lance.write_dataset(rows, folder / "t.lance", max_rows_per_file=100, enable_stable_row_ids=stable)
    ds.create_scalar_index("id", "BTREE")
    ds.delete("id = 3 or id = 250")
    ds.update({"text": "'u'"}, where="id = 15")
    return lance.dataset(ds.uri)


def owned(metadata: FragmentMetadata) -> FragmentMetadata:
    files = [
        DataFile(
            f.path, f.fields, f.column_indices, f.file_major_version, f.file_minor_version, f.file_size_bytes
        )
        for f in metadata.files
    ]
    gone = metadata.deletion_file
    if gone is not None:
        gone = DeletionFile(gone.read_version, gone.id, gone.file_type, gone.num_deleted_rows, None)
    return replace(metadata, files=files, deletion_file=gone)


def taken_over(clone: LanceDataset) -> LanceDataset:
    fragments = [owned(fragment.metadata) for fragment in clone.get_fragments()]
    operation = LanceOperation.Update(
        updated_fragments=fragments, fields_modified=[], update_mode="rewrite_columns"
    )
    return LanceDataset.commit(clone.uri, Transaction(clone.version, operation))


def with_files(source: LanceDataset, folder: Path) -> LanceDataset:
    source.shallow_clone(str(folder / "clone.lance"), source.version)
    for part in ("data", "_deletions", "_indices"):
        shutil.copytree(Path(source.uri, part), folder / "clone.lance" / part, dirs_exist_ok=True)
    return lance.dataset(folder / "clone.lance")


@pytest.mark.parametrize("stable", [False, True])
def test_an_update_that_only_renames_files_keeps_rows_ids_versions_and_what_indices_cover(
    tmp_path: Path, stable: bool
) -> None:
    source = lived_in(tmp_path, stable=stable)
    clone = with_files(source, tmp_path)
    before = clone.scanner(with_row_id=True).to_table()
    covered = [(i.name, i.num_rows_indexed) for i in clone.describe_indices()]
    own = taken_over(clone)
    assert own.scanner(with_row_id=True).to_table().equals(before)
    assert [(i.name, i.num_rows_indexed) for i in own.describe_indices()] == covered
    assert {f.base_id for one in own.get_fragments() for f in one.metadata.files} == {None}
    if stable:
        assert own.to_table(VERSIONS).equals(source.to_table(VERSIONS))


def test_a_merge_that_only_renames_files_forgets_when_rows_were_updated(tmp_path: Path) -> None:
    source = lived_in(tmp_path, stable=True)
    clone = with_files(source, tmp_path)
    fragments = [owned(fragment.metadata) for fragment in clone.get_fragments()]
    operation = LanceOperation.Merge(fragments, clone.lance_schema, preserves_nullability=True)
    own = LanceDataset.commit(clone.uri, Transaction(clone.version, operation))
    assert not own.to_table(VERSIONS).equals(source.to_table(VERSIONS))


def test_an_append_that_comes_between_is_no_conflict_and_a_delete_of_the_same_fragment_is(
    tmp_path: Path,
) -> None:
    clone = with_files(lived_in(tmp_path, stable=False), tmp_path)
    lance.write_dataset(clone.to_table(limit=1), clone.uri, mode="append")
    assert taken_over(clone).count_rows() == ROWS - 1
    again = with_files(lived_in(tmp_path / "2", stable=False), tmp_path / "2")
    lance.dataset(again.uri).delete("id = 20")
    with pytest.raises(OSError, match="conflict"):
        taken_over(again)


def test_an_index_under_the_same_id_is_taken_over_with_its_details_and_unknown_without(
    tmp_path: Path,
) -> None:
    clone = with_files(lived_in(tmp_path, stable=False), tmp_path)
    [index] = clone.describe_indices()
    [segment] = index.segments
    old = Index(
        uuid=segment.uuid,
        name=index.name,
        fields=list(index.fields),
        dataset_version=segment.dataset_version_at_last_update,
        fragment_ids=segment.fragment_ids,
        index_version=segment.index_version,
        created_at=segment.created_at,
        base_id=segment.base_id,
    )
    for details, known in ((None, "Unknown"), ((index.type_url, b""), "BTree")):
        now = lance.dataset(clone.uri, version=clone.version)
        new = replace(old, base_id=None, index_details=details)
        operation = LanceOperation.CreateIndex([new], [old])
        folder = tmp_path / known
        shutil.copytree(now.uri, folder)
        own = LanceDataset.commit(str(folder), Transaction(now.version, operation))
        [found] = own.describe_indices()
        assert (found.index_type, found.num_rows_indexed) == (known, index.num_rows_indexed)
        assert found.segments[0].base_id is None


def test_an_index_that_a_clone_borrows_is_lost_with_its_next_compaction(tmp_path: Path) -> None:
    """The reason why a clone gets indices of its own (apply/commit/detach.py)."""
    source = lived_in(tmp_path, stable=False)
    source.shallow_clone(str(tmp_path / "clone.lance"), source.version)
    clone = lance.dataset(tmp_path / "clone.lance")
    assert clone.count_rows("id = 7") == 1
    clone.optimize.compact_files()
    with pytest.raises((OSError, ValueError, RuntimeError), match="Not found"):
        lance.dataset(clone.uri).to_table(filter="id = 7")
