"""Every public attribute of a Lance dataset: what becomes of it in a rebuild, for each way a table is staged.

`copy` and `clone` carry what the manifest has. A table that is written anew gets its settings by commits of
lancemig; its versions, tags and branches stay in the old root, and its indices are built again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

Carried = Callable[[lance.LanceDataset], Any]

CARRIED: dict[str, Carried] = {
    "config": lambda t: dict(t.config()),
    "metadata": lambda t: dict(t.metadata),
    "schema": lambda t: [(str(f), f.nullable) for f in t.schema],
    "schema_metadata": lambda t: t.schema.metadata,
    "lance_schema": lambda t: [_fields(f) for f in t.schema],
    "has_stable_row_ids": lambda t: t.has_stable_row_ids,
    "data_storage_version": lambda t: t.data_storage_version,
    "count_rows": lambda t: t.count_rows(),
    "to_table": lambda t: t.to_table().sort_by("id"),
    "describe_indices": lambda t: sorted((i.name, i.index_type, i.field_names) for i in t.describe_indices()),
}
"""Equal in the old and the new root, however the table is staged."""

WITH_VERSIONS: dict[str, Carried] = {
    "tags": lambda t: {name: t.checkout_version(name).to_table() for name in t.tags.list()},
    "branches": lambda t: {
        name: t.checkout_version((name, None)).to_table()
        for name in t.branches.list()
        if not name.startswith("lancemig/")
    },
    "checkout_version": lambda t: t.checkout_version("first").to_table(),
}
"""Carried by copy and clone. The plan names them where a table is written anew (test_references.py)."""

REBUILT = {
    "index_statistics": "of indices that cover the same rows (test_coverage.py)",
    "list_indices": "older form of describe_indices",
    "has_index": "older form of describe_indices",
    "stats": "sizes of files and statistics of indices; files may be others",
    "centroids": "of a vector index: kept with its files, or trained again",
    "get_ivf_model": "of a vector index: kept with its files, or trained again",
    "prewarm_index": "loads an index",
}
"""Made anew from the same rows where the files are not copied."""

OF_THE_STORE = {
    "uri", "base_paths", "add_bases", "all_files", "tracked_files", "get_fragment", "get_fragments",
    "max_field_id", "version", "latest_version", "versions", "version_refs", "get_transactions",
    "read_transaction", "delta", "partition_expression",
}  # fmt: skip
"""Where and in which commits the rows are stored: each root has its own."""

UNFLUSHED = {"initialize_mem_wal", "mem_wal_index_details", "mem_wal_writer"}
"""Rows that are in no version; the inventory of a root finds them."""

ACTIONS = {
    "add_columns", "alter_columns", "checkout_latest", "cleanup_old_versions", "commit", "commit_batch",
    "commit_existing_index_segments", "create_branch", "create_index", "create_index_uncommitted",
    "create_scalar_index", "deep_clone", "delete", "delete_config_keys", "drop", "drop_columns", "drop_index",
    "explain_cleanup_old_versions", "filter", "from_pydantic_model", "head", "insert", "join", "join_asof",
    "merge", "merge_existing_index_segments", "merge_index_metadata", "merge_insert",
    "migrate_manifest_paths_v2", "optimize", "read_blob_ranges", "read_blobs", "remap_row_addrs",
    "replace_field_metadata", "replace_schema", "replace_schema_metadata", "restore", "sample", "scanner",
    "shallow_clone", "slice", "sort_by", "sql", "take", "take_blobs", "to_batches", "to_pandas",
    "truncate_table", "update", "update_config", "update_field_metadata", "update_metadata",
    "update_schema_metadata", "validate",
}  # fmt: skip
"""Read or change what the others name."""

OF_THE_HANDLE = {
    "initial_storage_options", "io_stats_incremental", "io_stats_snapshot", "latest_storage_options",
    "new_file_session", "session", "storage_options_accessor",
}  # fmt: skip
"""Of the process that opened the table."""

ALL = {*CARRIED, *WITH_VERSIONS, *REBUILT, *OF_THE_STORE, *UNFLUSHED, *ACTIONS, *OF_THE_HANDLE}

WAYS = {
    "copy": (
        "copy",
        'RenameColumn(table="t", column="x", to="y")',
        'RenameColumn(table="t", column="y", to="x")',
    ),
    "clone": ("clone", 'RenameColumn(table="other", column="x", to="y")', ""),
    "table": ("copy", 'RewriteTable(table="t", data_storage_version="2.1")', ""),
}


def _fields(of: pa.Field) -> Any:
    """Name and metadata of a field and of all fields below it."""
    inner = of.type.value_field if isinstance(of.type, pa.ListType) else None
    below = [inner] if inner is not None else [*of.type] if pa.types.is_struct(of.type) else []
    return of.name, dict(of.metadata or {}), [_fields(one) for one in below]


def furnished(lab: Lab) -> lance.LanceDataset:
    """A table of a stranger, with something of everything that a table can carry."""
    item = pa.field("item", pa.int64(), metadata={"deep": "3"})
    inner = pa.field("a", pa.list_(item), metadata={"nested": "2"})
    schema = pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False, metadata={"top": "1"}),
            pa.field("x", pa.float64()),
            pa.field("st", pa.struct([inner])),
            pa.field("vec", pa.list_(pa.float32(), 4)),
        ],
        metadata={"of": "schema"},
    )
    vectors = np.random.default_rng(1).standard_normal(300 * 4, dtype=np.float32)
    rows = pa.table(
        {
            "id": range(300),
            "x": [n / 2 for n in range(300)],
            "st": [{"a": [n]} for n in range(300)],
            "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4),
        },
        schema=schema,
    )
    uri = lab.catalog().store.tables.uri("v1/", "t")
    made = lance.write_dataset(
        rows, uri, enable_stable_row_ids=True, data_storage_version="2.1", max_rows_per_file=100
    )
    made.tags.create("first", 1)
    made.create_branch("mine", 1)
    made.update_config({"lance.auto_cleanup.interval": "1000", "lance.auto_cleanup.older_than": "14d"})
    made.update_metadata({"of": "table"})
    made.create_scalar_index("id", "BTREE")
    made.create_index("vec", "IVF_PQ", num_partitions=2, num_sub_vectors=2)
    made.delete("id = 7")
    lance.write_dataset(pa.table({"x": [1.0]}), lab.catalog().store.tables.uri("v1/", "other"))
    return lance.dataset(uri)


def test_every_attribute_of_a_dataset_is_known() -> None:
    """A new release of Lance may let a table carry more: say what becomes of it, and carry it."""
    found = {name for name in dir(lance.LanceDataset) if not name.startswith("_")}
    assert found - ALL == set(), "what becomes of these in a rebuild?"
    assert ALL - found == set(), "Lance has these no longer"


@pytest.mark.parametrize("way", WAYS)
def test_a_rebuild_carries_them(tmp_path: Path, local_place: Place, way: str) -> None:
    staging, *operations = WAYS[way]
    lab = Lab(tmp_path, local_place, staging=staging)
    before = furnished(lab)
    for operation in filter(None, operations):
        lab.revision(operation)
        lab.upgrade()
    after = lab.dataset("t")
    assert after.uri != before.uri
    for name, value in (CARRIED if way == "table" else CARRIED | WITH_VERSIONS).items():
        assert value(after) == value(before), name


@pytest.mark.parametrize("way", ["copy", "table"])
def test_settings_that_a_writer_changes_during_a_rebuild_are_carried(
    tmp_path: Path, local_place: Place, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lancemig.apply.replicate import catch_up

    lab = Lab(tmp_path, local_place)
    furnished(lab)
    real, waiting = catch_up._refuse_new_tables, [True]

    def meanwhile(context: Any) -> None:
        if waiting:
            waiting.clear()
            table = lab.dataset("t")
            table.update_config({"mine": "new", "lance.auto_cleanup.older_than": "7d"})
            table.delete_config_keys(["lance.auto_cleanup.interval"])
            lab.dataset("t").update_metadata({"of": "another"})
        real(context)

    monkeypatch.setattr(catch_up, "_refuse_new_tables", meanwhile)
    lab.revision(WAYS[way][1])
    lab.upgrade()
    assert dict(lab.dataset("t").config()) == {"mine": "new", "lance.auto_cleanup.older_than": "7d"}
    assert dict(lab.dataset("t").metadata) == {"of": "another"}
