"""What two tables have in common is told by their files alone, and never too much of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from lance import LanceOperation

from lancemig.store.lance import Tables
from lancemig.store.lance.shared_files import SharedFragment, shared_fragments
from lancemig.store.objects import open_objects

BOTH = {"a": "a", "b": "b"}


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    path = tmp_path / "v1" / "catalog" / "t.lance"
    lance.write_dataset(pa.table({"a": range(10), "b": range(10)}), str(path), max_rows_per_file=5)
    lance.dataset(str(path)).delete("a = 2")
    return Tables(open_objects(str(tmp_path), {}), "catalog/")


def copied(tables: Tables) -> lance.LanceDataset:
    tables.carry(tables.open("v1/", "t"), "v2/", "t")
    return lance.dataset(tables.uri("v2/", "t"))


def found(tables: Tables, names: dict[str, str] | None = None) -> list[SharedFragment]:
    folders = tables.folder("v1/", "t"), tables.folder("v2/", "t")
    return shared_fragments(
        tables.objects, tables.open("v1/", "t"), tables.open("v2/", "t"), folders, names or BOTH
    )


def same(tables: Tables, names: dict[str, str] | None = None) -> list[set[str]]:
    return [set(kin.same) for kin in found(tables, names)]


def test_a_copy_is_the_same_in_all_its_columns(tables: Tables) -> None:
    copied(tables)
    assert same(tables) == [{"a", "b"}, {"a", "b"}]


def test_a_clone_borrows_the_very_files(tables: Tables) -> None:
    tables.clone(tables.open("v1/", "t"), "v2/", "t")
    assert same(tables) == [{"a", "b"}, {"a", "b"}]


def test_a_column_is_the_same_under_another_name_and_no_other_column_is(tables: Tables) -> None:
    copied(tables).alter_columns({"path": "b", "name": "c"})
    assert same(tables, {"a": "a", "c": "b"}) == [{"a", "c"}, {"a", "c"}]
    assert same(tables, {"a": "b", "c": "a"}) == [set(), set()]


def test_a_column_that_was_written_again_is_another(tables: Tables) -> None:
    copied(tables).alter_columns({"path": "b", "data_type": pa.int32()})
    assert same(tables) == [{"a"}, {"a"}]


def test_a_row_more_that_is_deleted_makes_another_fragment(tables: Tables) -> None:
    copied(tables).delete("a = 3")
    assert [kin.left.fragment_id for kin in found(tables)] == [1]


def test_what_is_there_twice_is_the_same_once(tables: Tables) -> None:
    dataset = copied(tables)
    fragment = replace(dataset.get_fragments()[1].metadata, id=7)
    operation = LanceOperation.Append([fragment])
    lance.LanceDataset.commit(dataset.uri, operation, read_version=dataset.version)
    assert tables.open("v2/", "t").count() == 14
    assert len(found(tables)) == 2


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1])


@pytest.mark.parametrize("how", [gone, cut])
def test_a_file_that_is_gone_or_has_another_size_is_not_the_same(
    tables: Tables, how: Callable[[Path], None]
) -> None:
    dataset = copied(tables)
    [file] = dataset.get_fragments()[1].metadata.files
    how(Path(dataset.uri) / "data" / file.path)
    assert same(tables) == [{"a", "b"}, set()]


@pytest.mark.parametrize("how", [gone, cut])
def test_so_is_one_that_tells_what_is_deleted(tables: Tables, how: Callable[[Path], None]) -> None:
    dataset = copied(tables)
    how(Path(dataset.uri) / dataset.get_fragments()[0].deletion_file())
    assert [kin.left.fragment_id for kin in found(tables)] == [1]


def test_another_table_has_nothing_in_common(tables: Tables) -> None:
    shutil.copytree(tables.uri("v1/", "t"), tables.uri("v2/", "t"))
    lance.write_dataset(pa.table({"a": range(10), "b": range(10)}), tables.uri("v2/", "t"), mode="overwrite")
    assert found(tables) == []
