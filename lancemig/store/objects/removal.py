"""Removal of files below a directory; it never follows a symbolic link and never leaves the file system.

Reading follows links to folders, as Lance does. A removal opens each folder of a path by a handle, relative
to the handle of its parent, and refuses a link: also one that takes the place of a folder meanwhile.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

from lancemig.errors import StoreError

TEMPORARY = ".lancemig-tmp"

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Identity = tuple[int, int]
"""Device and inode of a directory."""


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a leftover of a write, not an object."""
    return name.startswith(".") and name.endswith(TEMPORARY)


def identity(folder: Path) -> Identity | None:
    """The device and inode of a directory; None if it does not exist."""
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def first_link(root: Path, key: str) -> str | None:
    """The first folder above the object `key` that is a symbolic link; both are relative to `root`."""
    folder = ""
    for part in key.split("/")[:-1]:
        folder = f"{folder}/{part}" if folder else part
        if (root / folder).is_symlink():
            return folder
    return None


def remove_files(root: Path, expected: Identity, keys: Sequence[str]) -> None:
    """Remove files, and folders that become empty; it is no error if a file does not exist.

    The last part of a key may be a link: then the link is removed, not its target.

    Args:
        root: The directory of the store, without links.
        expected: What `identity` returned for `root` when the store was opened.
        keys: POSIX paths relative to `root`.

    Raises:
        StoreError: A folder on the way is a link or on another file system, or `root` is another directory by
            now. No file behind it is removed.
        OSError: The operating system refuses a removal.
    """
    for folder, group in groupby(sorted(keys, key=_folder_of), key=_folder_of):
        with _opened(root, expected, folder) as handles:
            if handles is not None:
                for key in group:
                    _unlink(key.rpartition("/")[2], handles[-1])
                _remove_empty(folder.split("/") if folder else [], handles)


def _folder_of(key: str) -> str:
    return key.rpartition("/")[0]


@contextmanager
def _opened(root: Path, expected: Identity, folder: str) -> Iterator[list[int] | None]:
    """Handles of `root` and of each folder down to `folder`; None if `folder` does not exist."""
    with ExitStack() as stack:
        handles = [_open(root, None, stack)]
        if _identity_of(handles[0]) != expected:
            raise replaced(root)
        path = root
        for name in folder.split("/") if folder else []:
            path /= name
            try:
                handles.append(_open(name, handles[-1], stack))
            except FileNotFoundError:
                yield None
                return
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                if not _is_file(name, handles[-1]):
                    raise _behind_link(path, root) from error
                yield None
                return
            if _identity_of(handles[-1])[0] != expected[0]:
                raise _other_file_system(path, root)
        yield handles


def _open(name: str | Path, parent: int | None, stack: ExitStack) -> int:
    handle = os.open(name, _OPEN, dir_fd=parent)
    stack.callback(os.close, handle)
    return handle


def _is_file(name: str, folder: int) -> bool:
    """Whether there is a file, where a folder could not be opened; a link that was swapped away is none."""
    try:
        return stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode)
    except FileNotFoundError:
        return False


def _identity_of(handle: int) -> Identity:
    found = os.fstat(handle)
    return found.st_dev, found.st_ino


def replaced(root: Path) -> StoreError:
    """The error for a store whose directory was replaced or unmounted after it was opened."""
    return StoreError(
        f"the store {root} is not the directory that was opened: it was replaced, mounted or unmounted "
        "meanwhile; nothing was changed in it",
        next_step=f"check that {root} is the right directory, then: lancemig status",
    )


def _other_file_system(folder: Path, root: Path) -> StoreError:
    return StoreError(
        f"nothing below {folder} is deleted: it is on another file system than the store {root}",
        next_step=f"remove its files by hand, or unmount {folder}, then run the same command again",
    )


def _behind_link(link: Path, root: Path) -> StoreError:
    """The error for a deletion behind a symbolic link."""
    return StoreError(
        f"nothing below {link} is deleted: it is a symbolic link, and a deletion in the store {root} never "
        "follows one",
        next_step=f"check what the link leads to, then remove the link (rm {link}) or put the folder itself "
        "there, and run the same command again",
    )


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return
    except PermissionError:
        # POSIX has this error for a folder as well.
        if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
            raise


def _remove_empty(names: list[str], handles: list[int]) -> None:
    """Remove the folders that have only leftovers, from the deepest one up to the root, exclusively."""
    for name, parent, folder in zip(reversed(names), reversed(handles[:-1]), reversed(handles), strict=False):
        with os.scandir(folder) as listing:
            entries = [entry.name for entry in listing]
        if not all(is_temporary(entry) for entry in entries):
            return
        for entry in entries:
            _unlink(entry, folder)
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            # ENOTDIR: a link has taken the place of the folder; it stays.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            return
