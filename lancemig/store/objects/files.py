"""Files that are there whole or not at all, also after a power failure."""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lancemig.errors import StoreError

TEMPORARY = ".lancemig-tmp"

# What Lance may replace later, and a few bytes each: manifests, version hints, branches and tags.
# A link would let a later write in place reach the source as well; a copy cannot.
COPIED_FOLDERS = frozenset({"_versions", "_refs"})

NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

NEXT_STEPS = {
    errno.ENOSPC: "free some space on that disk, then run the same command again",
    errno.EDQUOT: "free some of the quota on that disk, then run the same command again",
    errno.EFBIG: "raise the file size limit (ulimit -f), then run the same command again",
    errno.EACCES: "give this user the permission (ls -ld shows the owner), then run the same command again",
    errno.EPERM: "give this user the permission (ls -ld shows the owner), then run the same command again",
    errno.ENOENT: "lancemig status",
    errno.EROFS: "remount that disk as writable, then run the same command again",
}


@contextmanager
def on_disk(what: str, path: Path) -> Iterator[None]:
    """Turn what the system refuses into a StoreError that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"cannot {what} {path}: {reason}",
            next_step=NEXT_STEPS.get(error.errno or 0, "check that disk, then run the same command again"),
        ) from error


def is_temporary(name: str) -> bool:
    """Say whether a file of this name is a leftover, not an object."""
    return name.startswith(".") and name.endswith(TEMPORARY)


def replace(path: Path, pieces: Iterable[bytes]) -> None:
    """Make `pieces`, joined, the content of `path` at once; its folder is not yet synced."""

    def fill(temporary: Path) -> None:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    _by_way_of_a_temporary(path, fill)


def carry(source: Path, destination: Path) -> None:
    """Link `source` to `destination`, or copy it where links do not serve.

    A destination of the same size is left as it is. Its folder is not yet synced.
    """
    if source.is_symlink():
        source = source.resolve()
    if destination.exists() and destination.stat().st_size == source.stat().st_size:
        return
    if not (COPIED_FOLDERS.intersection(source.parts) or source.suffix == ".json"):
        try:
            _by_way_of_a_temporary(destination, lambda temporary: temporary.hardlink_to(source))
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        else:
            return
    _by_way_of_a_temporary(destination, lambda temporary: _copy(source, temporary))


def _copy(source: Path, temporary: Path) -> None:
    shutil.copy2(source, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


def _by_way_of_a_temporary(path: Path, fill: Callable[[Path], None]) -> None:
    make_folder(path.parent)
    temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    try:
        fill(temporary)
        temporary.replace(path)
    finally:
        # Also after success: rename() leaves both names where they are links to one file already.
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, so that they outlive a power failure."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` outlive a power failure, where the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def walk(folder: Path, leave_out: Path) -> Iterator["os.DirEntry[str]"]:
    """Every file below `folder`, but for leftovers and what is below `leave_out`.

    Links to folders are followed, as Lance does. A folder that is not there is empty.
    """
    waiting = [str(folder)]
    while waiting:
        below = waiting.pop()
        if below == str(leave_out):
            continue
        try:
            with os.scandir(below) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif not is_temporary(entry.name):
                        yield entry
        except (FileNotFoundError, NotADirectoryError):
            continue


def remove_if_empty(folder: Path) -> bool:
    """Remove a folder that holds nothing but leftovers; say whether it is gone."""
    try:
        left = list(folder.iterdir())
        if not all(is_temporary(path.name) for path in left):
            return False
        for path in left:
            path.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
