"""Indices: the ones of a version, and the files of new ones."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Statistics of a vector index would otherwise carry all its centroids, and warn about it.
os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")

import lance
import pyarrow as pa
from lance.dataset import Index as LanceIndex
from lance.dataset import IndexFile
from lance.indices import IndexConfig

from lancemig.catalog.arrow_arrays import empty_table
from lancemig.catalog.index_parameters import INVERTED_PARAMETERS, PARAMETERS, index_type
from lancemig.catalog.schema import Index
from lancemig.errors import PlanError, StoreError
from lancemig.store.lance import schema_edit
from lancemig.store.lance.errors import LanceRefused, translated
from lancemig.store.lance.manifests import manifest_names, segment_details
from lancemig.store.lance.sql import quoted

_SYSTEM = "__lance"
"""The names of indices that Lance makes for itself begin so. A copy and a clone carry them."""

_WRITE_AHEAD_LOG = "__lance_mem_wal"


def has_write_ahead_log(dataset: lance.LanceDataset) -> bool:
    """Whether the table has an LSM write specification, which Lance stores as an index."""
    return any(index.name == _WRITE_AHEAD_LOG for index in dataset.describe_indices())


def described(dataset: lance.LanceDataset) -> tuple[Index, ...]:
    """The indices of `dataset`, with the parameters that rebuild them."""
    return tuple(
        Index(
            name=index.name,
            column=index.field_names[0],
            type=index_type(index.index_type),
            params=_params(dataset, index),
        )
        for index in dataset.describe_indices()
        if not index.name.startswith(_SYSTEM)
    )


def _params(dataset: lance.LanceDataset, index: Any) -> dict[str, Any]:
    details = index.details or {}
    if index.index_type == "Inverted":
        return {name: details[name] for name in INVERTED_PARAMETERS if details.get(name) is not None}
    kind = index_type(index.index_type)
    if not kind.startswith("IVF") and kind not in ("ZONEMAP", "BLOOMFILTER"):
        return {}
    statistics = dataset.stats.index_stats(index.name)["indices"][0]
    if not kind.startswith("IVF"):
        return {name: statistics[name] for name in PARAMETERS[kind] if name in statistics}
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
    """How much of a table an index covers."""

    unindexed: int
    """Rows that the index does not cover."""
    parts: frozenset[str]
    """The ids of its segments, whose files never change."""


def covers(dataset: lance.LanceDataset) -> dict[str, Cover]:
    """The coverage of each index, by name."""
    return {
        index.name: Cover(
            unindexed=int(dataset.stats.index_stats(index.name).get("num_unindexed_rows") or 0),
            parts=frozenset(str(segment.uuid) for segment in index.segments),
        )
        for index in dataset.describe_indices()
        if not index.name.startswith(_SYSTEM)
    }


def uncovered(dataset: lance.LanceDataset) -> dict[str, int]:
    """The number of rows that each index leaves out, by name; read from the manifest alone.

    An index is absent if its segments do not say which fragments they cover.
    """
    # Deleted rows are not among `num_rows`.
    rows = {fragment.fragment_id: fragment.metadata.num_rows for fragment in dataset.get_fragments()}
    found = {}
    for index in dataset.describe_indices():
        covered = [segment.fragment_ids for segment in index.segments]
        if index.name.startswith(_SYSTEM) or any(ids is None for ids in covered):
            continue
        inside = {number for ids in covered for number in ids}
        found[index.name] = sum(count for number, count in rows.items() if number not in inside)
    return found


def segments(dataset: lance.LanceDataset, names: Iterable[str]) -> list[LanceIndex]:
    """All segments of the indices called `names`, in the form in which a commit removes them."""
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
            covering_fields=list(segment.covering_fields or ()),
        )
        for index in dataset.describe_indices()
        if index.name in wanted
        for segment in index.segments
    ]


def detailed(dataset: lance.LanceDataset, wanted: Sequence[LanceIndex]) -> list[LanceIndex] | None:
    """These segments with what only the manifest says of them; None if it says nothing of one of them.

    A commit that names a segment without its details makes the index unknown
    (tests/surface/test_lance_borrowing.py).
    """
    known = segment_details(_manifest(dataset))
    found = []
    for segment in wanted:
        details, files = known[str(segment.uuid)]
        if details is None:
            return None
        listed = [IndexFile(path, size) for path, size in files.items()]
        found.append(replace(segment, index_details=details, files=listed or None))
    return found


def covering_nulls(
    dataset: lance.LanceDataset, index: Index
) -> tuple[list[LanceIndex], list[LanceIndex]] | None:
    """Let an index cover the fragments that it leaves out and that have no value for it.

    `optimize_indices` fails if all vectors that it should add are null (tests/surface/test_lance_indices.py).

    Returns:
        The new segments and those that they replace; None if a fragment has a value, or none is left out.
    """
    old = segments(dataset, [index.name])
    inside = {number for segment in old for number in segment.fragment_ids}
    left_out = [one for one in dataset.get_fragments() if one.fragment_id not in inside]
    if not old or not left_out:
        return None
    scanner = dataset.scanner(
        columns=[], filter=f"{quoted(index.column)} is not null", fragments=left_out, with_row_id=True
    )
    last = detailed(dataset, old[-1:])
    if last is None or scanner.count_rows():
        return None
    covered: Any = {*old[-1].fragment_ids, *(one.fragment_id for one in left_out)}
    return [replace(last[0], fragment_ids=covered)], old[-1:]


def _manifest(dataset: lance.LanceDataset) -> bytes:
    """The manifest of the pinned version."""
    session: Any = dataset.new_file_session()  # type: ignore[no-untyped-call]
    newest, old = manifest_names(int(dataset.version))
    with TemporaryDirectory(prefix="lancemig-") as folder:
        path = Path(folder) / "manifest"
        name = newest if session.contains(f"_versions/{newest}") else old
        session.download_file(f"_versions/{name}", path)
        return path.read_bytes()


def built(dataset: lance.LanceDataset, index: Index, *, again: bool = False) -> LanceIndex:
    """Write the files of a new index over all fragments, not yet committed.

    If there are no values to build it from, it covers no row until `optimize_indices` builds it.

    Args:
        dataset: The table.
        index: Name, column, type and parameters.
        again: Whether the table has an index of that name, which is replaced.
    """
    fragments = [fragment.fragment_id for fragment in dataset.get_fragments()]
    if not fragments and index.type == "BITMAP":
        return _of_nothing(dataset, index)
    try:
        made = _over(dataset, index, fragments, again=again)
    except RuntimeError as error:
        if "with 0 vectors" not in str(error):
            raise
        return _of_nothing(dataset, index)
    if index.type == "INVERTED":
        # Its files lie where queries do not look, until this moves them
        # (tests/surface/test_lance_indices.py).
        dataset.merge_index_metadata(str(made.uuid), index.type)
    return made


def checked_index(columns: pa.Schema, wanted: Index) -> None:
    """PlanError for parameters that Lance refuses: the index is built on an empty table in memory."""
    empty = lance.write_dataset(empty_table(columns), "memory://empty")
    doing = f"the index {wanted.name} ({wanted.type}) on {wanted.column}"
    try:
        with translated(doing):
            built(empty, wanted)
    except (StoreError, LanceRefused) as error:
        raise PlanError(
            error.message, next_step="change the `params` of the index, then run the same command again"
        ) from error


def _over(dataset: lance.LanceDataset, index: Index, fragments: list[int], *, again: bool) -> LanceIndex:
    kind: str | IndexConfig = index.type
    params = index.params
    if params and kind in ("BTREE", "ZONEMAP", "BLOOMFILTER"):
        # Lance ignores the parameters of these types unless they come with the type.
        kind, params = IndexConfig(index_type=index.type.lower(), parameters=dict(params)), {}
    return dataset.create_index_uncommitted(
        index.column, kind, name=index.name, replace=again, fragment_ids=fragments, **params
    )


def _of_nothing(dataset: lance.LanceDataset, index: Index) -> LanceIndex:
    """An index that covers no row.

    Lance builds one for empty tables only, and a BITMAP only with a commit. So it is built on an empty table
    with the same schema, and its files are copied (tests/surface/test_lance_indices.py).
    """
    made: LanceIndex
    with TemporaryDirectory(prefix="lancemig-") as folder:
        scratch = schema_edit.scratch(dataset.lance_schema, f"{folder}/t.lance")
        if index.type == "BITMAP":
            scratch.create_scalar_index(index.column, "BITMAP", name=index.name, **index.params)
            transaction: Any = scratch.read_transaction(scratch.version)
            (made,) = transaction.operation.new_indices
        else:
            made = _over(scratch, index, [], again=False)
        session = dataset.new_file_session()  # type: ignore[no-untyped-call]
        for file in (Path(folder) / "t.lance" / "_indices" / str(made.uuid)).glob("*"):
            session.upload_file(file, f"_indices/{made.uuid}/{file.name}")
    fields = [schema_edit.field_id(dataset.lance_schema, index.column)]
    return replace(made, fields=fields, dataset_version=dataset.version)
