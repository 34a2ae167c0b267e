"""Symbolic links in a local store are read through, as Lance does, and never deleted or written through.

All links lead to folders that the test makes below its own `tmp_path`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lancemig.errors import StoreError
from lancemig.store.objects import Objects, WriteOk, open_objects


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    root.mkdir()
    return root


@pytest.fixture
def objects(root: Path) -> Objects:
    return open_objects(str(root), {})


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder outside of the store, with a file in it and one below it."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "precious").write_text("not lancemig's")
    (outside / "sub" / "precious").write_text("not lancemig's")
    return outside


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("at", ["linked", "v1/linked", "v1/catalog/t.lance/data/linked"])
def test_nothing_behind_a_link_to_a_folder_is_deleted(
    objects: Objects, root: Path, outside: Path, at: str
) -> None:
    (root / at).parent.mkdir(parents=True, exist_ok=True)
    (root / at).symlink_to(outside)
    (root / at).parent.joinpath("own").write_text("ours")
    listed = {item.key: item.link for item in objects.list("")}
    own = str(Path(at).parent / "own")
    assert listed == {own: None, f"{at}/precious": at, f"{at}/sub/precious": at}
    # The listing of what is behind the link names it as well.
    assert {item.link for item in objects.list(at)} == {at}
    with pytest.raises(StoreError, match="never follows") as raised:
        objects.delete(list(listed))
    assert f"nothing below {root / at} is deleted: it is a symbolic link" in raised.value.message
    assert f"rm {root / at}" in raised.value.next_step
    assert files(outside) == ["precious", "sub/precious"]
    assert (root / at).is_symlink()


def test_a_link_to_a_file_is_deleted_itself(objects: Objects, root: Path, outside: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "file").symlink_to(outside / "precious")
    (root / "a" / "nowhere").symlink_to(outside / "absent")
    assert [item.key for item in objects.list("")] == ["a/file"]
    objects.delete(["a/file", "a/nowhere"])
    assert files(outside) == ["precious", "sub/precious"]
    assert not (root / "a").exists()


def test_a_link_to_a_folder_as_the_object_itself_is_removed_alone(
    objects: Objects, root: Path, outside: Path
) -> None:
    (root / "a").mkdir()
    (root / "a" / "linked").symlink_to(outside)
    objects.delete(["a/linked"])
    assert files(outside) == ["precious", "sub/precious"]
    assert not (root / "a").exists()


def test_a_link_that_takes_the_place_of_a_listed_folder_leads_nowhere(
    objects: Objects, root: Path, outside: Path
) -> None:
    (root / "a" / "sub").mkdir(parents=True)
    (root / "a" / "sub" / "precious").write_text("ours")
    listed = [item.key for item in objects.list("")]
    (root / "a" / "sub").rename(root / "moved")
    (root / "a" / "sub").symlink_to(outside / "sub")
    with pytest.raises(StoreError, match="it is a symbolic link"):
        objects.delete(listed)
    assert files(outside) == ["precious", "sub/precious"]


def test_a_folder_that_is_swapped_with_a_link_all_the_time_never_leads_outside(
    objects: Objects, root: Path, outside: Path, tmp_path: Path
) -> None:
    names = [f"precious{number}" for number in range(100)]
    for name in names:
        (outside / name).write_text("not lancemig's")
    (tmp_path / "link").symlink_to(outside)
    swap = (
        "import os, sys\n"
        "folder, link, spare = sys.argv[1:]\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    os.rename(folder, spare); os.rename(link, folder)\n"
        "    os.rename(folder, link); os.rename(spare, folder)\n"
    )
    folder = root / "a"
    folder.mkdir()
    arguments = [sys.executable, "-c", swap, str(folder), str(tmp_path / "link"), str(tmp_path / "spare")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as swapper:
        try:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            for name in names * 3:
                try:
                    objects.delete([f"a/{name}"])
                except StoreError as error:
                    assert "it is a symbolic link" in error.message
        finally:
            swapper.kill()
    assert len(files(outside)) == 102


def test_a_store_that_was_replaced_is_not_touched(objects: Objects, root: Path, tmp_path: Path) -> None:
    assert isinstance(objects.write_if("a/b", b"1", None), WriteOk)
    root.rename(tmp_path / "moved")
    (root / "a").mkdir(parents=True)
    (root / "a" / "b").write_text("another store's")
    with pytest.raises(StoreError, match="is not the directory that was opened"):
        objects.delete(["a/b"])
    with pytest.raises(StoreError, match="is not the directory that was opened"):
        objects.write_if("a/c", b"2", None)
    assert files(root) == ["a/b"]


def test_a_store_whose_own_path_has_a_link_works(root: Path, tmp_path: Path) -> None:
    (tmp_path / "by-link").symlink_to(root)
    objects = open_objects(str(tmp_path / "by-link"), {})
    assert isinstance(objects.write_if("a/b", b"1", None), WriteOk)
    objects.delete(["a/b"])
    assert [path.name for path in root.iterdir()] == [".lancemig"]


def test_a_conditional_write_behind_a_link_is_refused(objects: Objects, root: Path, outside: Path) -> None:
    """Two stores may link to one folder, and each has a lock of its own."""
    (root / "linked").symlink_to(outside)
    with pytest.raises(StoreError, match="the lock of the store does not cover"):
        objects.write_if("linked/ACTIVE.json", b"1", None)
    assert files(outside) == ["precious", "sub/precious"]


def test_a_link_to_a_folder_above_it_is_not_listed_for_ever(objects: Objects, root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").write_text("x")
    (root / "a" / "b" / "up").symlink_to(root / "a")
    (root / "c").mkdir()
    (root / "c" / "there").symlink_to(root / "a")
    (root / "a" / "b" / "back").symlink_to(root / "c")
    listed = [item.key for item in objects.list("")]
    assert listed.count("a/file") == 1
    assert len(listed) < 10


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete everything")
def test_a_folder_without_permission_is_named(objects: Objects, root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "b").write_text("x")
    (root / "a").chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot delete"):
            objects.delete(["a/b"])
    finally:
        (root / "a").chmod(0o700)
