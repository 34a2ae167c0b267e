"""Indices: what a version has, and how one is staged and dropped."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

# Statistics of a vector index would otherwise carry all its centroids, and warn about it.
os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")

import lance
import pyarrow as pa
from lance.dataset import Index as LanceIndex
from lance.file import LanceFileSession

from lancemig.catalog.schema import Index, column
from lancemig.store.tables import surgery

_SPELLINGS = {
    "BTree": "BTREE",
    "Bitmap": "BITMAP",
    "LabelList": "LABEL_LIST",
    "Inverted": "INVERTED",
    "ZoneMap": "ZONEMAP",
    "BloomFilter": "BLOOMFILTER",
    "NGram": "NGRAM",
}
_INVERTED = (
    "base_tokenizer",
    "language",
    "with_position",
    "max_token_length",
    "lower_case",
    "stem",
    "remove_stop_words",
    "custom_stop_words",
    "ascii_folding",
    "min_ngram_length",
    "max_ngram_length",
    "prefix_only",
)


def described(dataset: lance.LanceDataset) -> tuple[Index, ...]:
    """The indices of `dataset`, with the parameters that make the same ones again."""
    return tuple(
        Index(
            name=index.name,
            column=index.field_names[0],
            type=_SPELLINGS.get(index.index_type, index.index_type),
            params=_params(dataset, index),
        )
        for index in dataset.describe_indices()
        if not index.name.startswith("__lance")
    )


def _params(dataset: lance.LanceDataset, index: Any) -> dict[str, Any]:
    details = index.details or {}
    if index.index_type == "Inverted":
        return {name: details[name] for name in _INVERTED if details.get(name) is not None}
    if not index.index_type.startswith("IVF"):
        return {}
    statistics = dataset.stats.index_stats(index.name)["indices"][0]
    compression, graph = details.get("compression", {}), details.get("hnsw", {})
    params = {
        "metric": str(details.get("metric_type", statistics.get("metric_type", "L2"))).lower(),
        "num_partitions": statistics.get("num_partitions"),
        "num_sub_vectors": compression.get("num_sub_vectors"),
        "m": graph.get("max_connections"),
        "ef_construction": graph.get("construction_ef"),
    }
    return {name: value for name, value in params.items() if value is not None}


@dataclass(frozen=True)
class Cover:
    """How much of a table an index covers, and the ids of its parts, whose files are never written again."""

    unindexed: int
    parts: frozenset[str]


def covers(dataset: lance.LanceDataset) -> dict[str, Cover]:
    """What each index covers, by name."""
    return {
        index.name: Cover(
            unindexed=int(dataset.stats.index_stats(index.name).get("num_unindexed_rows") or 0),
            parts=frozenset(str(segment.uuid) for segment in index.segments),
        )
        for index in dataset.describe_indices()
        if not index.name.startswith("__lance")
    }


def segments(dataset: lance.LanceDataset, names: Iterable[str]) -> list[LanceIndex]:
    """All segments of the indices called `names`, as a commit that removes them wants them."""
    wanted = set(names)
    return [
        LanceIndex(
            uuid=segment.uuid,
            name=index.name,
            fields=list(index.fields),
            dataset_version=segment.dataset_version_at_last_update,
            fragment_ids=segment.fragment_ids,
            index_version=segment.index_version,
            created_at=segment.created_at,
            base_id=segment.base_id,
        )
        for index in dataset.describe_indices()
        if index.name in wanted
        for segment in index.segments
    ]


def built(dataset: lance.LanceDataset, index: Index, *, again: bool = False) -> LanceIndex:
    """The files of a new index over all fragments, not yet committed; `again` where one has that name."""
    if index.type == "BITMAP" and not dataset.get_fragments():
        return _made_beside(dataset, index)
    made = dataset.create_index_uncommitted(
        index.column,
        index.type,
        name=index.name,
        replace=again,
        fragment_ids=[fragment.fragment_id for fragment in dataset.get_fragments()],
        **index.params,
    )
    if index.type == "INVERTED":
        # Its files lie where queries do not look, until this moves them
        # (tests/surface/test_lance_indices.py).
        dataset.merge_index_metadata(str(made.uuid), index.type)
    return made


def _made_beside(dataset: lance.LanceDataset, index: Index) -> LanceIndex:
    """The files of an index over no rows that Lance stages for no table without rows, but makes inline.

    It is made inline on a disk of our own, and its files are brought over
    (tests/surface/test_lance_indices.py).
    """
    of = column("", dataset.schema, index.column).type
    with tempfile.TemporaryDirectory(prefix="lancemig-") as folder:
        beside = lance.write_dataset(pa.schema([("values", of)]).empty_table(), folder)
        beside.create_scalar_index("values", "BITMAP", name=index.name)
        transaction: Any = lance.dataset(folder).read_transaction(2)
        made: LanceIndex = transaction.operation.new_indices[0]
        there = LanceFileSession(dataset.uri, storage_options=dataset.latest_storage_options())
        for file in made.files or ():
            path = f"_indices/{made.uuid}/{file.path}"
            there.upload_file(f"{folder}/{path}", path)
    field = surgery.field_id(dataset.lance_schema, index.column)
    return replace(made, fields=[field], dataset_version=dataset.version)
