"""Objects in a local directory: the promises of S3, kept by a lock file and renaming."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lancemig.errors import OutcomeUnknown, StoreError
from lancemig.store.objects.base import (
    RESERVED,
    Names,
    ObjectBody,
    ObjectInfo,
    Objects,
    PreconditionFailed,
    WriteOk,
    checked,
    finished,
    folder_of,
    logged_write,
    nobody,
)

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


LOCK_PATIENCE = 60.0
LOCK_POLL = 0.005
DELETED_AT_ONCE = 1000
RECEIVED_AT_ONCE = 4
PIECE = 4 * 1024**2


def open_directory(root: Path) -> "LocalObjects":
    """Open a directory; the first write makes it where only its last part is missing.

    Refuses one whose parent does not exist either, for that may be a disk that is not mounted.
    """
    if root.exists() and not root.is_dir():
        raise StoreError(
            f"the store {root} is not a directory", next_step="set store to a directory in lancemig.ini"
        )
    if not root.parent.is_dir():
        raise StoreError(
            f"cannot create the store {root}: {root.parent} does not exist",
            next_step=f"mkdir -p {root.parent}",
        )
    return LocalObjects(root)


class LocalObjects:
    """The objects below one directory.

    One lock file for the whole store, `.lancemig/lock`, makes conditional writes and deletions one
    after the other, between threads and processes of one host. It is never listed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def __repr__(self) -> str:
        return f"LocalObjects({self.uri!r})"

    @property
    def uri(self) -> str:
        """The directory."""
        return str(self._root)

    def lance_options(self) -> dict[str, str]:
        """Lance needs none for a directory."""
        return {}

    def read(self, key: str) -> ObjectBody | None:
        """Read the file; None where there is none."""
        path = self._path(key)
        with on_disk("read", path):
            try:
                body = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        return ObjectBody(body, etag_of(body))

    @logged_write
    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """Write the file if it still is as expected, and do not return before the disk has it."""
        path = self._path(key)
        with self._alone():
            found = self.read(key)
            if found is None or found.body != body:
                if (found.version_token if found else None) != expected:
                    return PreconditionFailed(found)
                with on_disk("write", path):
                    replace(path, [body])
            # Also what was there already: the process that wrote it may have died before this.
            _sync_written(path)
        return WriteOk(etag_of(body))

    def folders(self, prefix: str) -> Names:
        """Names of the folders below that hold a file at any depth."""
        folder = self._root / folder_of(prefix)
        with on_disk("list", folder):
            try:
                names = [path.name for path in folder.iterdir() if path.is_dir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(name for name in names if any(self._walk(folder / name)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every file below `prefix`, with its size and the moment it was changed last."""
        folder = self._root / folder_of(prefix)
        with on_disk("list", folder):
            for entry in self._walk(folder):
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue
                changed = datetime.fromtimestamp(found.st_mtime, UTC)
                key = entry.path.removeprefix(self.uri).removeprefix("/")
                yield ObjectInfo(key, found.st_size, modified=changed)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the files, and the folders this leaves empty."""
        paths = [self._path(key) for key in keys]
        for start in range(0, len(paths), DELETED_AT_ONCE):
            some = paths[start : start + DELETED_AT_ONCE]
            with self._alone():
                for path in some:
                    with on_disk("delete", path):
                        _unlink(path)
                self._remove_empty({path.parent for path in some})

    def copy(self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = nobody) -> None:
        """Link each file; copy it where links do not serve. The disk has all names at the end."""
        paths = [(self._path(source), self._path(destination)) for source, destination in pairs]
        for done, (source, destination) in enumerate(paths, 1):
            with on_disk(f"copy {source} to", destination):
                carry(source, destination)
            on_copied(done)
        for folder in {destination.parent for _, destination in paths}:
            with on_disk("sync", folder):
                sync_folder(folder)

    def stream(self, key: str) -> Iterator[bytes]:
        """The file in pieces."""
        path = self._path(key)
        with on_disk("read", path), path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def receive(
        self, source: Objects, pairs: Sequence[tuple[str, str]], on_received: Callable[[int], None] = nobody
    ) -> None:
        """Write each as a file of its own, never as a link: it outlives whatever becomes of its source."""
        paths = [(key, self._path(destination)) for key, destination in pairs]
        with ThreadPoolExecutor(RECEIVED_AT_ONCE) as pool:
            finished(pool, [pool.submit(_received, source, *pair) for pair in paths], on_received)
        for folder in {path.parent for _, path in paths}:
            with on_disk("sync", folder):
                sync_folder(folder)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _walk(self, folder: Path) -> "Iterator[os.DirEntry[str]]":
        return walk(folder, leave_out=self._root / RESERVED)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        path = self._root / RESERVED / "lock"
        lock = FileLock(path)
        with on_disk("lock", path):
            try:
                make_folder(path.parent)
                lock.acquire(timeout=LOCK_PATIENCE, poll_interval=LOCK_POLL)
            except Timeout as error:
                raise StoreError(
                    f"{path} has been held by another process for {LOCK_PATIENCE:.0f} s",
                    next_step=f"find the process with fuser {path}; once it has ended, run the same command "
                    "again",
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _remove_empty(self, folders: set[Path]) -> None:
        for folder in folders:
            with on_disk("remove", folder):
                while folder != self._root and remove_if_empty(folder):
                    folder = folder.parent


def etag_of(body: bytes) -> str:
    """Tell contents apart as S3's ETag does."""
    return hashlib.sha256(body).hexdigest()


def _received(source: Objects, key: str, path: Path) -> None:
    with on_disk("write", path):
        replace(path, source.stream(key))


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return


def _sync_written(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise OutcomeUnknown(
            f"{path} was written, but the disk did not confirm the write: {error.strerror}",
            next_step="lancemig status",
        ) from error
