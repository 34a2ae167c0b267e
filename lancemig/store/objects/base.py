"""The interface of a store of objects, the values it returns, and the comparison of two objects."""

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from functools import wraps
from typing import Protocol, TypeAlias, TypeVar

from lancemig.errors import ConfigError, OutcomeUnknown
from lancemig.events import log_event

_log = logging.getLogger(__name__)

Names: TypeAlias = list[str]  # `list` is a method below


@dataclass(frozen=True, slots=True)
class ObjectBody:
    """An object as it was read."""

    body: bytes
    version_token: str
    """What a later `write_if` expects: the ETag in a bucket, a digest of the content on a disk."""


@dataclass(frozen=True, slots=True)
class WriteOk:
    """The object has the content that was to be written."""

    version_token: str


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """The object does not have the expected version token; nothing was written."""

    found: ObjectBody | None
    """The object as it is now; None if it does not exist."""
    answer_lost: bool = False
    """Whether an attempt went unanswered: it may have been written, and then replaced by `found`."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a listing."""

    key: str
    """Relative to the store."""
    size: int
    """In bytes."""
    etag: str | None = field(default=None, compare=False)
    """Without quotes; None on a disk."""
    modified: datetime | None = field(default=None, compare=False)
    """When the object was written last; a linked file has the time of its source."""
    owner: str | None = field(default=None, compare=False)
    """The user who wrote it, if the store says so; only `info` asks for it."""
    link: str | None = field(default=None, compare=False)
    """The first symbolic link to a folder on the way to it, relative to the store; None if there is none, and
    in a bucket. What is behind a link is read, and never deleted."""


def ignore_progress(_done: int) -> None:
    """Ignore the number of objects that are done."""


def wait_for_all(
    pool: ThreadPoolExecutor, tasks: Sequence[Future[None]], on_done: Callable[[int], None]
) -> None:
    """Wait for all tasks, calling `on_done` with the number that are done.

    The first failure is raised, and cancels the tasks that have not begun.
    """
    try:
        for done, task in enumerate(as_completed(tasks), 1):
            task.result()
            on_done(done)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


class Objects(Protocol):
    """Objects under keys, in a bucket or a directory.

    Keys and prefixes are POSIX paths relative to the store; a path outside it is a ConfigError. A prefix
    names a folder: `list("a/b")` finds `a/b/c`, never `a/bc`. A failure of the store is a StoreError that
    names the object.
    """

    @property
    def uri(self) -> str:
        """The address as Lance opens it: `s3://bucket[/sub]`, or an absolute path."""
        ...

    def lance_options(self) -> dict[str, str]:
        """Storage options for Lance and LanceDB, with the credentials valid now.

        Call it each time a table is opened, since credentials expire. Never log the result: it has secrets.
        """
        ...

    def read(self, key: str) -> ObjectBody | None:
        """Read the whole object; None if it does not exist."""
        ...

    def info(self, key: str) -> ObjectInfo | None:
        """When the object was written last, and by whom if the store says so; None if it does not exist."""
        ...

    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """Compare and swap: write `body` if the object still has the version token `expected`.

        Of any number of writers that expect the same, exactly one gets `WriteOk`.

        Args:
            key: The object.
            body: The content. It must differ from what any other writer writes: a write whose answer was lost
                is recognised by reading the object back.
            expected: The version token of an earlier read or write; None if the object must not exist.

        Raises:
            OutcomeUnknown: The write may have landed, and the object cannot be read back.
        """
        ...

    def folders(self, prefix: str) -> Names:
        """Names of the folders directly below `prefix`, sorted; folders without objects do not count."""
        ...

    def entries(self, prefix: str) -> tuple[Names, Names]:
        """The names of the objects and of the folders directly below `prefix`, each sorted, in one request.

        A folder may turn out to have no objects.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below `prefix`, in any order."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects; it is no error if one does not exist."""
        ...

    def copy(
        self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = ignore_progress
    ) -> None:
        """Copy objects within the store, without moving bytes through the client; idempotent.

        An object that is copied in part never has its final name. The sources must not change meanwhile.

        Args:
            pairs: Source and destination keys.
            on_copied: Called in the calling thread with the number of objects that are done.
        """
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the object in pieces of a few MiB; StoreError if it does not exist."""
        ...

    def copy_from(
        self,
        source: "Objects",
        pairs: Sequence[tuple[str, str]],
        on_copied: Callable[[int], None] = ignore_progress,
    ) -> None:
        """Copy objects of another store into this one, replacing objects that exist.

        Within one S3 server no bytes move through the client; otherwise a few objects are streamed at a time.
        An object that is copied in part never has its final name. The content is not compared: see
        `same_content`.

        Args:
            source: The other store.
            pairs: Keys there, and keys here.
            on_copied: Called in the calling thread with the number of objects that are done.
        """
        ...


RESERVED = ".lancemig"
"""The folder of the lock file in a local store; reserved everywhere, so that catalogs can move."""


def checked(key: str) -> str:
    """Return `key` if it names an object in the store; ConfigError otherwise."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts) or parts[0] == RESERVED:
        raise ConfigError(
            f"{key!r} is not a valid key inside the store",
            next_step="fix the prefix, pointer or catalog_dir in lancemig.ini: use a relative path without "
            "'..', '.' or empty parts",
        )
    return key


def folder_of(prefix: str) -> str:
    """Return the folder that `prefix` names: `""` for the whole store, else ending in a slash."""
    return f"{checked(prefix.removesuffix('/'))}/" if prefix else ""


# The digest of the content, or the digest of the digests of so many parts: the ETag of S3, unless the object
# is encrypted with a key of its own. Then the ETag is random, and two objects never have the same.
_DIGEST = re.compile(r"(?P<digest>[0-9a-f]{32})(-(?P<parts>\d+))?")
_MIB = 1024**2
# The part sizes of Lance, of the AWS tools, of others, and of lancemig.
_PART_SIZES = tuple(size * _MIB for size in (5, 8, 10, 16, 32, 64, 128))


def same_content(left: Objects, left_info: ObjectInfo, right: Objects, right_info: ObjectInfo) -> str | None:
    """The checksum that two listed objects have in common; None if their contents differ.

    ETags can prove that the contents are equal, never that they differ: then both objects are read.
    """
    if left_info.size != right_info.size:
        return None
    if left_info.etag and right_info.etag:
        if left_info.etag == right_info.etag and _DIGEST.fullmatch(left_info.etag):
            return f"etag:{left_info.etag}"
    elif right_info.etag and _matches_etag(left, left_info, right_info.etag):
        return f"etag:{right_info.etag}"
    elif left_info.etag and _matches_etag(right, right_info, left_info.etag):
        return f"etag:{left_info.etag}"
    checksum = sha256_of(left, left_info.key)
    return f"sha256:{checksum}" if checksum == sha256_of(right, right_info.key) else None


def has_checksum(objects: Objects, info: ObjectInfo, checksum: str) -> bool:
    """Whether a listed object still has a checksum that `same_content` returned."""
    method, _, digest = checksum.partition(":")
    if method == "sha256":
        return sha256_of(objects, info.key) == digest
    return info.etag == digest if info.etag else _matches_etag(objects, info, digest)


def sha256_of(objects: Objects, key: str) -> str:
    """The sha256 of an object's content, in hex."""
    digest = hashlib.sha256()
    for piece in objects.stream(key):
        digest.update(piece)
    return digest.hexdigest()


def _matches_etag(objects: Objects, info: ObjectInfo, etag: str) -> bool:
    """Whether an object without an ETag has the content that `etag` is the digest of."""
    match = _DIGEST.fullmatch(etag)
    if match is None:
        return False
    if match["parts"] is None:
        return next(_part_digests(objects.stream(info.key), info.size), _md5(b"")).hex() == match["digest"]
    count = int(match["parts"])
    return any(
        _md5(b"".join(_part_digests(objects.stream(info.key), size))).hex() == match["digest"]
        for size in _PART_SIZES
        if size * (count - 1) < info.size <= size * count
    )


def _part_digests(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The digest of each part of `size` bytes."""
    digest, remaining = hashlib.md5(usedforsecurity=False), size
    for piece in pieces:
        rest = piece
        while len(rest) > remaining:
            digest.update(rest[:remaining])
            yield digest.digest()
            rest, digest, remaining = rest[remaining:], hashlib.md5(usedforsecurity=False), size
        digest.update(rest)
        remaining -= len(rest)
    if remaining < size:
        yield digest.digest()


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


StoreT = TypeVar("StoreT")
WriteIf: TypeAlias = Callable[[StoreT, str, bytes, str | None], WriteOk | PreconditionFailed]


def logged_write(write_if: WriteIf[StoreT]) -> WriteIf[StoreT]:
    """Let a store's `write_if` log each conditional write: its key, its condition, its outcome."""

    @wraps(write_if)
    def logged(store: StoreT, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        outcome = "failed"
        try:
            result = write_if(store, key, body, expected)
            outcome = "written" if isinstance(result, WriteOk) else "precondition failed"
        except OutcomeUnknown:
            outcome = "unknown"
            raise
        finally:
            condition = "absent" if expected is None else "present"
            text = "conditional write of %s, expected to be %s: %s"
            log_event(_log, "conditional_write", text, key, condition, outcome, key=key, expected=condition,
                      outcome=outcome)  # fmt: skip
        return result

    return logged
