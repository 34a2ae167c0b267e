"""What a manifest says of indices, beyond what Lance returns."""

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from lancemig.errors import StoreError
from lancemig.store.lance.manifests import segment_details, with_locations

INDICES: dict[str, tuple[str, dict[str, Any]]] = {
    "BTREE": ("x", {}),
    "BITMAP": ("x", {}),
    "ZONEMAP": ("x", {}),
    "BLOOMFILTER": ("x", {}),
    "LABEL_LIST": ("labels", {}),
    "INVERTED": ("text", {"with_position": True}),
    "NGRAM": ("text", {}),
    "IVF_FLAT": ("vec", {"num_partitions": 2, "metric": "cosine"}),
    "IVF_PQ": ("vec", {"num_partitions": 2, "num_sub_vectors": 2}),
    "IVF_HNSW_SQ": ("vec", {"num_partitions": 1, "m": 8}),
}


def made(folder: Path) -> lance.LanceDataset:
    rows = 300
    vectors = np.random.default_rng(1).random(rows * 4, np.float32)
    table = pa.table(
        {
            "x": range(rows),
            "text": [f"word n{n}" for n in range(rows)],
            "labels": [[str(n % 3)] for n in range(rows)],
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4),
        }
    )
    return lance.write_dataset(table, folder / "t.lance")


def manifest(dataset: lance.LanceDataset) -> bytes:
    newest = min(Path(dataset.uri).glob("_versions/*.manifest"))
    return newest.read_bytes()


@pytest.mark.parametrize("kind", INDICES)
def test_the_details_of_an_index_are_those_that_its_commit_was_given(tmp_path: Path, kind: str) -> None:
    dataset = made(tmp_path)
    column, params = INDICES[kind]
    assert segment_details(manifest(dataset)) == {}
    index = dataset.create_index_uncommitted(column, kind, name="i", fragment_ids=[0], **params)
    done = lance.LanceDataset.commit(
        dataset, lance.LanceOperation.CreateIndex([index], []), read_version=dataset.version
    )
    [(uuid, known)] = segment_details(manifest(done)).items()
    assert uuid == str(index.uuid)
    assert known.details == index.index_details
    assert known.files == {file.path: file.size_bytes for file in index.files or ()}


def test_every_segment_and_system_index_is_there(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    dataset.create_scalar_index("x", "BTREE")
    for start in (300, 400):
        table = dataset.to_table(limit=100).set_column(0, "x", pa.array(range(start, start + 100)))
        dataset = lance.write_dataset(table, dataset.uri, mode="append")
    dataset.delete("x % 9 = 0")
    dataset.optimize.compact_files(defer_index_remap=True)
    dataset.optimize.optimize_indices(num_indices_to_merge=0)
    dataset = lance.dataset(dataset.uri)
    segments = {str(one.uuid): index for index in dataset.describe_indices() for one in index.segments}
    known = segment_details(manifest(dataset))
    assert len(segments) > 2
    assert {uuid: one.details[0] for uuid, one in known.items() if one.details} == {
        uuid: index.type_url for uuid, index in segments.items()
    }


@pytest.mark.parametrize("cut", [0, 10, 40])
def test_bytes_that_are_no_manifest_are_refused(tmp_path: Path, cut: int) -> None:
    dataset = made(tmp_path)
    dataset.create_scalar_index("x", "BTREE")
    broken = manifest(dataset)[cut + 1 :][:-cut] if cut else b""
    for read in (segment_details, lambda text: with_locations(text, str)):
        with pytest.raises(StoreError):
            read(broken)
