"""Branches keep a version alive; what becomes of versions that nothing guards."""

import shutil
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import lance
import lancedb
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction
from lance.fragment import write_fragments

GUARD = "lancemig/0007-c91e/recordings"


def rows(count: int, start: int = 0) -> pa.Table:
    ids = list(range(start, start + count))
    return pa.table({"id": ids, "x": [i / 2 for i in ids]})


@pytest.fixture
def ds(tmp_path: Path) -> LanceDataset:
    """A table whose version 1 shares no file with its latest version."""
    uri = tmp_path / "t.lance"
    lance.write_dataset(rows(20), uri, max_rows_per_file=10)
    lance.dataset(uri).update({"x": "x + 1"})
    lance.dataset(uri).optimize.compact_files()
    return lance.dataset(uri)


def clean(ds: LanceDataset, *, unverified: bool = True) -> None:
    lance.dataset(ds.uri).cleanup_old_versions(older_than=timedelta(0), delete_unverified=unverified)


def test_a_branch_guards_a_version_against_the_harshest_cleanup(ds: LanceDataset) -> None:
    ds.create_branch(GUARD, 1)
    clean(ds)
    assert [v["version"] for v in ds.versions()] == [1, ds.version]
    assert lance.dataset(ds.uri, version=1).to_table().equals(rows(20))
    assert lance.dataset(ds.uri).checkout_version(1).count_rows() == 20


def test_a_branch_does_not_keep_a_version_without_rows(tmp_path: Path) -> None:
    """What a version names is kept, and with it the version; this one names nothing."""
    uri = str(tmp_path / "t.lance")
    lance.write_dataset(rows(20), uri)
    lance.dataset(uri).delete("true")
    lance.dataset(uri).create_branch(GUARD, 2)
    lance.write_dataset(rows(20), uri, mode="append")
    clean(lance.dataset(uri))
    assert [v["version"] for v in lance.dataset(uri).versions()] == [3]
    kept = lance.dataset(uri).checkout_version((GUARD, None))
    assert (kept.version, kept.count_rows()) == (2, 0)
    # Our stamp goes with the version.
    assert type(kept.read_transaction(2).operation).__name__ == "Clone"


def test_the_log_of_a_guarded_version_stays_readable(ds: LanceDataset) -> None:
    ds.create_branch(GUARD, 1)
    clean(ds)
    assert isinstance(ds.read_transaction(1).operation, LanceOperation.Overwrite)


def test_lancedbs_optimize_runs_beside_a_branch_and_keeps_its_version(
    ds: LanceDataset, tmp_path: Path
) -> None:
    ds.create_branch(GUARD, 1)
    opened = lancedb.connect(tmp_path).open_table("t")
    opened.add(rows(5, 100))
    with pytest.warns(UserWarning, match="cleanup_older_than=0"):
        opened.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    assert lance.dataset(ds.uri, version=1).to_table().equals(rows(20))


def test_a_tag_guards_too_but_makes_cleanup_raise(ds: LanceDataset) -> None:
    ds.tags.create("lancemig-0007", 1)
    with pytest.raises(OSError, match="1 tagged version"):
        clean(ds)
    assert lance.dataset(ds.uri, version=1).count_rows() == 20


def test_a_version_goes_once_its_branch_is_deleted(ds: LanceDataset) -> None:
    ds.create_branch(GUARD, 1)
    ds.branches.delete(GUARD)
    clean(ds)
    with pytest.raises(ValueError, match="was not found"):
        lance.dataset(ds.uri, version=1)


def test_a_version_cleaned_away_and_one_never_made_look_alike(ds: LanceDataset) -> None:
    clean(ds)
    for version in (1, 99):
        with pytest.raises(OSError, match="was not found"):
            ds.read_transaction(version)


def test_branches_are_listed_with_the_version_they_hold(ds: LanceDataset) -> None:
    ds.create_branch(GUARD, 1)
    ds.create_branch("lancemig/0007-c91e/other", 2)
    held = {name: branch["parent_version"] for name, branch in ds.branches.list().items()}
    assert held == {GUARD: 1, "lancemig/0007-c91e/other": 2}


def test_a_branch_lies_in_tree_and_refs_and_copies_no_data(ds: LanceDataset) -> None:
    before = {p for p in Path(ds.uri).rglob("*") if p.is_file()}
    ds.create_branch(GUARD, 1)
    added = {p.relative_to(ds.uri).as_posix() for p in Path(ds.uri).rglob("*") if p.is_file()} - {
        p.relative_to(ds.uri).as_posix() for p in before
    }
    assert "_refs/branches/lancemig%2F0007-c91e%2Frecordings.json" in added
    assert {p.split("/")[0] for p in added} == {"_refs", "tree"}
    assert not [p for p in added if p.endswith(".lance")]


@pytest.mark.parametrize("version", [1, 2])
def test_a_branch_cannot_be_made_twice(ds: LanceDataset, version: int) -> None:
    ds.create_branch(GUARD, 1)
    with pytest.raises(OSError, match=r"Clone operation|was not found"):
        ds.create_branch(GUARD, version)
    assert ds.branches.list()[GUARD]["parent_version"] == 1


def test_a_branch_that_lost_its_ref_blocks_its_name_for_good(ds: LanceDataset) -> None:
    ds.create_branch(GUARD, 1)
    for ref in Path(ds.uri, "_refs", "branches").iterdir():
        ref.unlink()
    assert ds.branches.list() == {}
    with pytest.raises(OSError, match="Clone operation"):
        ds.create_branch(GUARD, 1)
    with pytest.raises(ValueError, match="does not exist"):
        ds.branches.delete(GUARD)
    ds.create_branch(GUARD + "-2", 1)


@pytest.mark.parametrize("name", ["a b", "a:b", "a@b", "a//b", "/a", "a/", "a..b", "a.lock", "main"])
def test_a_branch_name_is_words_joined_by_single_slashes(ds: LanceDataset, name: str) -> None:
    with pytest.raises(OSError, match="Ref is invalid"):
        ds.create_branch(name, 1)


def test_a_missing_branch_or_version_is_said_to_be_missing(ds: LanceDataset) -> None:
    with pytest.raises(ValueError, match="Branch nope does not exist"):
        ds.branches.delete("nope")
    with pytest.raises(OSError, match="was not found"):
        ds.create_branch(GUARD, 99)


def test_in_a_copy_a_branch_guards_nothing_until_it_is_back_in_its_place(
    ds: LanceDataset, tmp_path: Path
) -> None:
    ds.create_branch(GUARD, 1)
    shutil.copytree(ds.uri, tmp_path / "copy.lance")
    shutil.move(ds.uri, tmp_path / "kept.lance")
    copied = lance.dataset(tmp_path / "copy.lance")
    clean(copied)
    assert [v["version"] for v in copied.versions()] == [copied.version]
    shutil.move(tmp_path / "kept.lance", ds.uri)
    clean(ds)
    assert lance.dataset(ds.uri, version=1).to_table().equals(rows(20))


def test_a_branch_that_is_deleted_leaves_no_file_and_harms_no_version(ds: LanceDataset) -> None:
    ds.create_branch(GUARD, 1)
    ds.create_branch("another/v1", 1)
    ds.branches.delete(GUARD)
    left = [path.relative_to(ds.uri).as_posix() for path in Path(ds.uri).rglob("*") if path.is_file()]
    assert [path for path in left if "c91e" in path] == []
    clean(ds)
    assert lance.dataset(ds.uri, version=1).to_table().equals(rows(20))
    assert lance.dataset(ds.uri).count_rows() == 20


def test_a_commit_staged_from_a_cleaned_version_fails(ds: LanceDataset) -> None:
    made = Transaction(1, write_fragments(rows(1), ds.uri, return_transaction=True).operation)
    clean(ds, unverified=False)
    with pytest.raises(OSError, match=r"_versions/1\.manifest was not found"):
        LanceDataset.commit(ds.uri, made)


def test_cleanup_of_unverified_files_ruins_what_is_staged_and_the_commit_does_not_notice(
    ds: LanceDataset,
) -> None:
    made = write_fragments(rows(1, 500), ds, mode="append", return_transaction=True)
    clean(ds)
    LanceDataset.commit(ds.uri, made)
    with pytest.raises(pa.ArrowInvalid, match="Not found"):
        lance.dataset(ds.uri).to_table()


def test_an_ordinary_cleanup_leaves_what_is_staged(ds: LanceDataset) -> None:
    made = write_fragments(rows(1, 500), ds, mode="append", return_transaction=True)
    clean(ds, unverified=False)
    LanceDataset.commit(ds.uri, made)
    assert lance.dataset(ds.uri).count_rows() == 21


def test_the_ref_of_a_branch_is_an_object_named_for_it(tmp_path: Path) -> None:
    dataset = lance.write_dataset(pa.table({"id": [1]}), tmp_path / "t.lance")
    dataset.create_branch("lancemig/20260520T190000Z-7c1d/v1", 1)
    names = [path.name for path in (tmp_path / "t.lance" / "_refs" / "branches").iterdir()]
    assert names == [quote("lancemig/20260520T190000Z-7c1d/v1", safe="") + ".json"]


def test_a_branch_makes_a_folder_below_the_path_as_a_url_spells_it(tmp_path: Path) -> None:
    folder = tmp_path / "a dätä"
    lance.write_dataset(rows(2), folder / "t.lance").create_branch(GUARD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a d%C3%A4t%C3%A4", "a dätä"]
    assert [path for path in (tmp_path / "a d%C3%A4t%C3%A4").rglob("*") if path.is_file()] == []
    assert list((folder / "t.lance" / "_refs" / "branches").iterdir()) != []
