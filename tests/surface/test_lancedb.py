"""What lancemig relies on in LanceDB, and what it cannot rely on."""

from collections.abc import Callable
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest
from lancedb.index import BTree
from lancedb.table import LanceTable

from lancemig.errors import Refused
from lancemig.store.lance.read_only_table import checked_out

ROW = pa.table({"id": [9], "s": ["x"]})
Write = Callable[[LanceTable], object]

REFUSED: dict[str, Write] = {
    "add": lambda table: table.add(ROW),
    "overwrite": lambda table: table.add(ROW, mode="overwrite"),
    "update": lambda table: table.update(values={"id": 5}),
    "delete": lambda table: table.delete("id = 1"),
    "create_index": lambda table: table.create_index("id", config=BTree()),
    "drop_index": lambda table: table.drop_index("s_idx"),
    "add_columns": lambda table: table.add_columns({"x": "id + 1"}),
    "alter_columns": lambda table: table.alter_columns({"path": "id", "rename": "z"}),
    "drop_columns": lambda table: table.drop_columns(["id"]),
    "optimize": lambda table: table.optimize(),
}
LEAKS: dict[str, Write] = {
    "merge_insert": lambda table: table.merge_insert("id").when_not_matched_insert_all().execute(ROW),
    "restore": lambda table: table.restore(),
    "restore to": lambda table: table.restore(1),
    "checkout_latest": lambda table: table.checkout_latest(),
    "checkout": lambda table: table.checkout(3),
    "compact_files": lambda table: table.compact_files(),
}
QUIET: dict[str, Write] = {
    "merge": lambda table: table.merge(pa.table({"id": [1], "z": [1]}), "id"),
    "cleanup_old_versions": lambda table: table.cleanup_old_versions(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table with three versions: created, indexed, appended to."""
    made = lancedb.connect(tmp_path).create_table("t", pa.table({"id": [1, 2], "s": ["a", "b"]}))
    made.create_index("s", config=BTree())
    made.add(ROW)
    return tmp_path


def newest(folder: Path) -> tuple[int, int]:
    table = lancedb.connect(folder).open_table("t")
    return table.version, table.count_rows()


@pytest.mark.parametrize("word", REFUSED)
def test_lancedb_refuses_to_write_to_a_table_that_is_checked_out(folder: Path, word: str):
    table = lancedb.connect(folder).open_table("t", version=2)
    with pytest.raises(ValueError, match="cannot be modified when a specific version is checked out"):
        REFUSED[word](table)
    assert newest(folder) == (3, 3)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("word", LEAKS)
def test_some_words_write_or_lead_out_of_the_version_all_the_same(folder: Path, word: str):
    table = lancedb.connect(folder).open_table("t", version=2)
    LEAKS[word](table)
    assert table.version > 2 or newest(folder)[0] > 3


@pytest.mark.parametrize("word", REFUSED)
def test_a_table_opened_as_it_was_refuses_what_lancedb_does(folder: Path, word: str):
    with pytest.raises(ValueError, match="cannot be modified"):
        REFUSED[word](checked_out(lancedb.connect(folder), "t", 2))


@pytest.mark.parametrize("word", LEAKS | QUIET)
def test_a_table_opened_as_it_was_refuses_the_others_too(folder: Path, word: str):
    table = checked_out(lancedb.connect(folder), "t", 2)
    with pytest.raises(Refused, match="table t is open at version 2, read-only"):
        (LEAKS | QUIET)[word](table)
    assert (table.version, table.count_rows()) == (2, 2)
    assert newest(folder) == (3, 3)


def test_a_table_opened_as_it_was_is_read_like_any_other(folder: Path):
    table = checked_out(lancedb.connect(folder), "t", 2)
    assert isinstance(table, LanceTable)
    assert table.search().where("s = 'b'").to_list() == [{"id": 2, "s": "b"}]
    assert table.to_arrow().column("id").to_pylist() == [1, 2]


def test_an_upsert_from_an_old_version_inserts_what_came_since_a_second_time(folder: Path):
    LEAKS["merge_insert"](lancedb.connect(folder).open_table("t", version=2))
    assert lancedb.connect(folder).open_table("t").count_rows("id = 9") == 2
