"""Where Lance stores tags and branches, and which of it names a place (store/lance/references.py)."""

import shutil
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from lancemig.errors import StoreError
from lancemig.store.lance.manifests import with_locations


def branched(folder: Path) -> lance.LanceDataset:
    """A table with a branch of two commits, and a branch of that branch."""
    table = lance.write_dataset(pa.table({"id": [1, 2]}), folder / "t.lance")
    branch = table.create_branch("mine", 1)
    branch.insert(pa.table({"id": [10]}))
    below = branch.create_branch("mine/below", ("mine", 2))
    below.insert(pa.table({"id": [20]}))
    return lance.dataset(folder / "t.lance")


def ids(table: lance.LanceDataset, name: str) -> list[int]:
    return sorted(table.checkout_version((name, None)).to_table()["id"].to_pylist())


def manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob("tree/**/_versions/*.manifest"))


def test_a_branch_that_is_copied_byte_by_byte_reads_its_source(tmp_path: Path) -> None:
    table = branched(tmp_path)
    shutil.copytree(table.uri, tmp_path / "copy.lance")
    copy = lance.dataset(tmp_path / "copy.lance")
    assert ids(copy, "mine") == [1, 2, 10]
    (tmp_path / "t.lance").rename(tmp_path / "gone.lance")
    with pytest.raises((OSError, ValueError), match="Not found"):
        ids(copy, "mine")


def test_a_branch_whose_manifests_name_the_copy_needs_the_source_no_more(tmp_path: Path) -> None:
    table = branched(tmp_path)
    shutil.copytree(table.uri, tmp_path / "much-longer-name-than-before.lance")
    for path in manifests(tmp_path / "much-longer-name-than-before.lance"):
        changed = with_locations(
            path.read_bytes(), lambda at: at.replace("t.lance", "much-longer-name-than-before.lance")
        )
        path.write_bytes(changed)
    shutil.rmtree(tmp_path / "t.lance")
    copy = lance.dataset(tmp_path / "much-longer-name-than-before.lance")
    assert ids(copy, "mine") == [1, 2, 10]
    assert ids(copy, "mine/below") == [1, 2, 10, 20]
    # Lance goes on with it, and its cleanup knows what the branch reads.
    branch = copy.checkout_version(("mine", None))
    branch.create_scalar_index("id", "BTREE")
    branch.delete("id = 2")
    lance.write_dataset(pa.table({"id": [3]}), copy.uri, mode="overwrite")
    lance.dataset(copy.uri).cleanup_old_versions(older_than=None, retain_versions=1, delete_unverified=True)
    assert ids(lance.dataset(copy.uri), "mine") == [1, 10]


def test_a_manifest_without_locations_stays_as_it_is(tmp_path: Path) -> None:
    branched(tmp_path)
    (path,) = (tmp_path / "t.lance" / "_versions").glob("*.manifest")
    assert with_locations(path.read_bytes(), lambda _: "elsewhere") == path.read_bytes()


@pytest.mark.parametrize("body", [b"", b"LANC", b"x" * 64, b"\0" * 100])
def test_bytes_that_are_no_manifest_are_refused(body: bytes) -> None:
    with pytest.raises(StoreError, match="manifest"):
        with_locations(body, lambda at: at)


def test_a_cut_manifest_is_refused(tmp_path: Path) -> None:
    branched(tmp_path)
    body = manifests(tmp_path / "t.lance")[0].read_bytes()
    for at in (1, 20, len(body) // 2):
        with pytest.raises(StoreError, match="manifest"):
            with_locations(body[at:], lambda at: at)


def test_names_lie_below_refs_and_a_branch_below_tree(tmp_path: Path) -> None:
    table = branched(tmp_path)
    table.tags.create("first", 1)
    found = {p.relative_to(table.uri).as_posix() for p in Path(table.uri).glob("_refs/*/*")}
    assert found == {
        "_refs/tags/first.json",
        "_refs/branches/mine.json",
        "_refs/branches/mine%2Fbelow.json",
    }
    assert {p.relative_to(table.uri).parts[1] for p in manifests(Path(table.uri))} == {"mine"}
