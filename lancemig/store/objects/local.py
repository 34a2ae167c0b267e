"""Objects in a local directory: conditional writes as on S3, by a lock file and renames."""

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    folder_of,
    ignore_progress,
    logged_write,
    wait_for_all,
)
from lancemig.store.objects.removal import (
    TEMPORARY,
    Identity,
    first_link,
    identity,
    is_temporary,
    remove_files,
    replaced,
)

# Files that Lance may replace later, a few bytes each: manifests, version hints, branches and tags.
# Through a link, a later write in place would change the source as well.
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
    """Raise an OSError as a StoreError that names the path; `what` is a verb."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"cannot {what} {path}: {reason}",
            next_step=NEXT_STEPS.get(error.errno or 0, "check that disk, then run the same command again"),
        ) from error


def replace_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace the content of `path` by `pieces`, atomically; its folder is not yet synced."""

    def fill(temporary: Path) -> None:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    _write_and_rename(path, fill)


def carry(source: Path, destination: Path) -> None:
    """Link `source` to `destination`, or copy it if the file system cannot link it.

    A destination of the same size is left as it is. Its folder is not yet synced.
    """
    if source.is_symlink():
        source = source.resolve()
    if destination.exists() and destination.stat().st_size == source.stat().st_size:
        return
    if not (COPIED_FOLDERS.intersection(source.parts) or source.suffix == ".json"):
        try:
            _write_and_rename(destination, lambda temporary: temporary.hardlink_to(source))
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        else:
            return
    _write_and_rename(destination, lambda temporary: _copy(source, temporary))


def _copy(source: Path, temporary: Path) -> None:
    shutil.copy2(source, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())


def _write_and_rename(path: Path, fill: Callable[[Path], None]) -> None:
    make_folder(path.parent)
    temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    try:
        fill(temporary)
        temporary.replace(path)
    finally:
        # Also after success: rename() leaves both names where they are links to one file already.
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create `folder` and its parents durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, if the file system can."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder that `walk` visits."""

    path: str
    real: str
    """Its path without links."""
    crossed: tuple[str, ...] = ()
    """The `real` paths of the folders in which the walk followed a link to come here."""
    link: str = ""
    """The path of the first link that was followed; empty if none was."""


def walk(folder: Path, leave_out: Path, link: str = "") -> Iterator[tuple["os.DirEntry[str]", str]]:
    """All files below `folder`, except leftovers and files below `leave_out`; and the link that leads there.

    Links to folders are followed, as Lance does; a link to a folder that contains it is not. A folder that
    does not exist is empty.

    Args:
        folder: Where to begin.
        leave_out: A folder that is passed over.
        link: The path of a link that leads to `folder` itself; empty if there is none.
    """
    pending = [_Folder(str(folder), os.path.realpath(folder), link=link)]
    while pending:
        current = pending.pop()
        if current.path == str(leave_out):
            continue
        try:
            with os.scandir(current.path) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        if not is_temporary(entry.name):
                            yield entry, current.link
                    elif (below := _entered(current, entry)) is not None:
                        pending.append(below)
        except (FileNotFoundError, NotADirectoryError):
            continue


def _entered(folder: _Folder, entry: "os.DirEntry[str]") -> _Folder | None:
    """The folder that an entry is or leads to; None if it leads to a folder that contains it."""
    if not entry.is_symlink():
        return replace(folder, path=entry.path, real=f"{folder.real}/{entry.name}")
    target, crossed = os.path.realpath(entry.path), (*folder.crossed, folder.real)
    if any(f"{real}/".startswith(f"{target}/") for real in crossed):
        return None
    return _Folder(entry.path, target, crossed, folder.link or entry.path)


LOCK_PATIENCE = 60.0
LOCK_POLL = 0.005
DELETED_AT_ONCE = 1000
RECEIVED_AT_ONCE = 4
PIECE = 4 * 1024**2


def open_directory(root: Path) -> "LocalObjects":
    """Open a directory; if only its last part does not exist, the first write creates it.

    StoreError if its parent does not exist either: that may be a disk that is not mounted.
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

    One lock file for the whole store, `.lancemig/lock`, serialises conditional writes and deletions of all
    threads and processes of a host. It is never listed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._identity = identity(root)

    def __repr__(self) -> str:
        return f"LocalObjects({self.uri!r})"

    @property
    def uri(self) -> str:
        """The directory."""
        return str(self._root)

    def lance_options(self) -> dict[str, str]:
        """No options: Lance needs none for a directory."""
        return {}

    def read(self, key: str) -> ObjectBody | None:
        """Read the file; None if it does not exist."""
        path = self._path(key)
        with on_disk("read", path):
            try:
                body = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None
        return ObjectBody(body, content_token(body))

    def info(self, key: str) -> ObjectInfo | None:
        """The size, the time of the last change and the owner of the file."""
        path = self._path(key)
        with on_disk("read", path):
            try:
                stat = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                owner = path.owner()
            except (KeyError, FileNotFoundError):
                owner = f"uid {stat.st_uid}"
        return ObjectInfo(key, stat.st_size, modified=datetime.fromtimestamp(stat.st_mtime, UTC), owner=owner)

    @logged_write
    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """Compare and swap; returns once the file is durable."""
        path = self._path(key)
        self._refuse_link(key)
        with self._locked():
            found = self.read(key)
            if found is None or found.body != body:
                if (found.version_token if found else None) != expected:
                    return PreconditionFailed(found)
                with on_disk("write", path):
                    replace_file(path, [body])
            # Also if it has that content already: the process that wrote it may have died before this.
            _sync_written(path)
        return WriteOk(content_token(body))

    def folders(self, prefix: str) -> Names:
        """Names of the folders directly below that have a file at any depth."""
        folder = self._root / folder_of(prefix)
        with on_disk("list", folder):
            try:
                names = [path.name for path in folder.iterdir() if path.is_dir()]
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(name for name in names if any(self._walk(f"{folder_of(prefix)}{name}/")))

    def entries(self, prefix: str) -> tuple[Names, Names]:
        """Names of the files and of the folders directly below `prefix`; links are followed."""
        folder = self._root / folder_of(prefix)
        files, folders = [], []
        with on_disk("list", folder):
            try:
                for path in folder.iterdir():
                    if path.is_dir():
                        folders.append(path.name)
                    elif not is_temporary(path.name):
                        files.append(path.name)
            except (FileNotFoundError, NotADirectoryError):
                return [], []
        if not prefix and RESERVED in folders:
            folders.remove(RESERVED)
        return sorted(files), sorted(folders)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All files below `prefix`, with size and time of the last change."""
        folder = self._root / folder_of(prefix)
        with on_disk("list", folder):
            for entry, link in self._walk(folder_of(prefix)):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                changed = datetime.fromtimestamp(stat.st_mtime, UTC)
                yield ObjectInfo(
                    self._key(entry.path), stat.st_size, modified=changed, link=self._key(link) or None
                )

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the files and the folders that become empty; StoreError for a file behind a link."""
        checked_keys = [checked(key) for key in keys]
        for start in range(0, len(checked_keys), DELETED_AT_ONCE):
            with self._locked() as root_identity, on_disk("delete from", self._root):
                remove_files(self._root, root_identity, checked_keys[start : start + DELETED_AT_ONCE])

    def copy(
        self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = ignore_progress
    ) -> None:
        """Link each file, or copy it if the file system cannot link it. All names are durable at the end."""
        paths = [(self._path(source), self._path(destination)) for source, destination in pairs]
        for done, (source, destination) in enumerate(paths, 1):
            with on_disk(f"copy {source} to", destination):
                carry(source, destination)
            on_copied(done)
        for folder in {destination.parent for _, destination in paths}:
            with on_disk("sync", folder):
                sync_folder(folder)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the file in pieces."""
        path = self._path(key)
        with on_disk("read", path), path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def copy_from(
        self,
        source: Objects,
        pairs: Sequence[tuple[str, str]],
        on_copied: Callable[[int], None] = ignore_progress,
    ) -> None:
        """Write each object as a file of its own, never as a link: the source may change later."""
        paths = [(key, self._path(destination)) for key, destination in pairs]
        with ThreadPoolExecutor(RECEIVED_AT_ONCE) as pool:
            wait_for_all(pool, [pool.submit(_write_streamed, source, *pair) for pair in paths], on_copied)
        for folder in {path.parent for _, path in paths}:
            with on_disk("sync", folder):
                sync_folder(folder)

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _key(self, path: str) -> str:
        return path.removeprefix(self.uri).removeprefix("/")

    def _walk(self, folder: str) -> "Iterator[tuple[os.DirEntry[str], str]]":
        link = first_link(self._root, folder)
        path = str(self._root / link) if link else ""
        return walk(self._root / folder, leave_out=self._root / RESERVED, link=path)

    def _refuse_link(self, key: str) -> None:
        """Refuse a conditional write behind a link to a folder."""
        link = first_link(self._root, key)
        if link is not None:
            raise StoreError(
                f"{self._root / key} is not written: {self._root / link} is a symbolic link, and the "
                "lock of the store does not cover what is behind it",
                next_step=f"put the folder itself at {self._root / link}, or set pointer and catalog_dir in "
                "lancemig.ini to paths without links",
            )

    @contextmanager
    def _locked(self) -> Iterator[Identity]:
        """Hold the lock of the store; yields the device and inode of its directory."""
        path = self._root / RESERVED / "lock"
        if self._identity is not None and identity(self._root) != self._identity:
            raise replaced(self._root)
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
            now = identity(self._root)
            self._identity = self._identity or now
            if now is None or now != self._identity:
                raise replaced(self._root)
            yield now
        finally:
            lock.release()


def content_token(body: bytes) -> str:
    """The version token of a content: the same for the same content, as the ETag of S3."""
    return hashlib.sha256(body).hexdigest()


def _write_streamed(source: Objects, key: str, path: Path) -> None:
    with on_disk("write", path):
        replace_file(path, source.stream(key))


def _sync_written(path: Path) -> None:
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise OutcomeUnknown(
            f"{path} was written, but the disk did not confirm the write: {error.strerror}",
            next_step="lancemig status",
        ) from error
