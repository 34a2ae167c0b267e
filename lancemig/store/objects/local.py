"""Objects in a local directory: the promises of S3, kept by a lock file and renaming."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lancemig.errors import OutcomeUnknown, StoreError
from lancemig.store.objects import files
from lancemig.store.objects.keys import RESERVED, checked, folder_of
from lancemig.store.objects.values import Found, Listed, Moved, Names, Objects, Written, finished, nobody

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

    def read(self, key: str) -> Found | None:
        """Read the file; None where there is none."""
        path = self._path(key)
        with files.on_disk("read", path):
            try:
                body = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        return Found(body, etag_of(body))

    def write_if(self, key: str, body: bytes, expected: str | None) -> Written | Moved:
        """Write the file if it still is as expected, and do not return before the disk has it."""
        path = self._path(key)
        with self._alone():
            found = self.read(key)
            if found is None or found.body != body:
                if (found.etag if found else None) != expected:
                    return Moved(found)
                with files.on_disk("write", path):
                    files.replace(path, [body])
            # Also what was there already: the process that wrote it may have died before this.
            _sync_written(path)
        return Written(etag_of(body))

    def folders(self, prefix: str) -> Names:
        """Names of the folders below that hold a file at any depth."""
        folder = self._root / folder_of(prefix)
        with files.on_disk("list", folder):
            try:
                names = [path.name for path in folder.iterdir() if path.is_dir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(name for name in names if any(self._walk(folder / name)))

    def list(self, prefix: str) -> Iterator[Listed]:
        """Every file below `prefix`, with its size and the moment it was changed last."""
        folder = self._root / folder_of(prefix)
        with files.on_disk("list", folder):
            for entry in self._walk(folder):
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue
                changed = datetime.fromtimestamp(found.st_mtime, UTC)
                key = entry.path.removeprefix(self.uri).removeprefix("/")
                yield Listed(key, found.st_size, modified=changed)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the files, and the folders this leaves empty."""
        paths = [self._path(key) for key in keys]
        for start in range(0, len(paths), DELETED_AT_ONCE):
            some = paths[start : start + DELETED_AT_ONCE]
            with self._alone():
                for path in some:
                    with files.on_disk("delete", path):
                        _unlink(path)
                self._remove_empty({path.parent for path in some})

    def copy(self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = nobody) -> None:
        """Link each file; copy it where links do not serve. The disk has all names at the end."""
        paths = [(self._path(source), self._path(destination)) for source, destination in pairs]
        for done, (source, destination) in enumerate(paths, 1):
            with files.on_disk(f"copy {source} to", destination):
                files.carry(source, destination)
            on_copied(done)
        for folder in {destination.parent for _, destination in paths}:
            with files.on_disk("sync", folder):
                files.sync_folder(folder)

    def stream(self, key: str) -> Iterator[bytes]:
        """The file in pieces."""
        path = self._path(key)
        with files.on_disk("read", path), path.open("rb") as file:
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
            with files.on_disk("sync", folder):
                files.sync_folder(folder)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _walk(self, folder: Path) -> "Iterator[os.DirEntry[str]]":
        return files.walk(folder, leave_out=self._root / RESERVED)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        path = self._root / RESERVED / "lock"
        lock = FileLock(path)
        with files.on_disk("lock", path):
            try:
                files.make_folder(path.parent)
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
            with files.on_disk("remove", folder):
                while folder != self._root and files.remove_if_empty(folder):
                    folder = folder.parent


def etag_of(body: bytes) -> str:
    """Tell contents apart as S3's ETag does."""
    return hashlib.sha256(body).hexdigest()


def _received(source: Objects, key: str, path: Path) -> None:
    with files.on_disk("write", path):
        files.replace(path, source.stream(key))


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return


def _sync_written(path: Path) -> None:
    try:
        files.sync_folder(path.parent)
    except OSError as error:
        raise OutcomeUnknown(
            f"{path} was written, but the disk did not confirm the write: {error.strerror}",
            next_step="lancemig status",
        ) from error
