"""One case of every operation on S3, on the two servers in turn: what holds in a directory holds there."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
import test_add_column
import test_backfill_columns
import test_columns
import test_create_table
import test_delete_rows
import test_indices
import test_set_metadata
import test_tables
import test_update_rows
import test_upsert_rows
from servers import Place
from there_and_back import Case, there_and_back

CASES = [
    case
    for cases in (
        test_update_rows.CASES,
        test_backfill_columns.CASES,
        test_upsert_rows.CASES,
        test_delete_rows.CASES,
        test_set_metadata.CASES,
        test_create_table.CASES,
        test_add_column.CASES,
        test_indices.CASES,
        test_columns.RENAME,
        test_columns.RETYPE,
        test_columns.DROP,
        test_columns.REQUIRE,
        test_tables.CASES,
    )
    for case in cases
    if case.everywhere
]


@pytest.mark.s3
@pytest.mark.parametrize(
    ("case", "kind"), list(zip(CASES, cycle(["moto", "seaweedfs"]), strict=False)), ids=str
)
def test_on_s3(tmp_path: Path, new_place: Callable[[str], Place], kind: str, case: Case) -> None:
    there_and_back(tmp_path, new_place(kind), case)
