"""A table whose files were written in several goes, and committed in one."""

import json
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.fragment import FragmentMetadata, write_fragments

SCHEMA = pa.schema([("id", pa.int64()), ("info", pa.struct([("a", pa.int8())]))])


def part(uri: str, first: int, count: int, *, stable: bool) -> LanceOperation.Overwrite:
    rows = pa.Table.from_pylist(
        [{"id": n, "info": {"a": 1}} for n in range(first, first + count)], schema=SCHEMA
    )
    return write_fragments(
        rows, uri, schema=SCHEMA, return_transaction=True, mode="create", enable_stable_row_ids=stable,
        max_rows_per_file=5, data_storage_version="2.1",
    ).operation  # fmt: skip


@pytest.mark.parametrize("stable", [False, True])
def test_fragments_of_several_writes_kept_as_text_make_one_table(tmp_path: Path, stable: bool) -> None:
    uri = str(tmp_path / "t.lance")
    made = [part(uri, first, count, stable=stable) for first, count in ((0, 12), (12, 7), (0, 0))]
    kept = [json.dumps(fragment.to_json()) for one in made for fragment in one.fragments]
    operation = LanceOperation.Overwrite(
        new_schema=made[-1].new_schema, fragments=[FragmentMetadata.from_json(text) for text in kept]
    )
    LanceDataset.commit(uri, Transaction(0, operation), enable_stable_row_ids=stable, max_retries=0)
    table = lance.dataset(uri)
    table.validate()
    assert [fragment.fragment_id for fragment in table.get_fragments()] == [0, 1, 2, 3, 4]
    assert table.to_table()["id"].to_pylist() == list(range(19))
    assert (table.has_stable_row_ids, table.data_storage_version) == (stable, "2.1")
