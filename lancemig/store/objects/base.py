"""What a store of objects promises, and the values it answers with."""

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
    """An object as it was read; `etag` is what a later `write_if` expects."""

    body: bytes
    version_token: str


@dataclass(frozen=True, slots=True)
class WriteOk:
    """The object holds what was to be written."""

    version_token: str


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """The object is not as expected; `found` is what it is now, None where it is gone.

    With `answer_lost`, one of our attempts went unanswered: the body may have been there for a
    while before the one in `found` replaced it. Whoever must know looks into what was found.
    """

    found: ObjectBody | None
    answer_lost: bool = False


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's key, relative to the store, and its size in bytes.

    With the ETag where the server tells one, without quotes, and when the object was written last; a file
    that was linked keeps the moment of its source.
    """

    key: str
    size: int
    etag: str | None = field(default=None, compare=False)
    modified: datetime | None = field(default=None, compare=False)


def nobody(_done: int) -> None:
    """Take no notice of progress."""


def finished(pool: ThreadPoolExecutor, tasks: Sequence[Future[None]], on_done: Callable[[int], None]) -> None:
    """Wait for all tasks, telling how many are done; the first failure is raised, and ends it."""
    try:
        for done, task in enumerate(as_completed(tasks), 1):
            task.result()
            on_done(done)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


class Objects(Protocol):
    """Objects under keys, in a bucket or a directory.

    Keys and prefixes are POSIX paths relative to the store; one that leaves it is refused
    (ConfigError). A prefix names a folder: `list("a/b")` finds `a/b/c`, never `a/bc`. Whatever the
    store refuses or cannot do is a StoreError naming the object.
    """

    @property
    def uri(self) -> str:
        """What Lance opens: `s3://bucket[/sub]`, or an absolute path."""
        ...

    def lance_options(self) -> dict[str, str]:
        """Storage options for Lance and LanceDB, with the credentials valid now.

        Ask anew each time a table is opened: credentials expire. They are secrets, not for any log.
        """
        ...

    def read(self, key: str) -> ObjectBody | None:
        """Read the whole object, None where there is none."""
        ...

    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """Write `body` if the object still has the ETag `expected`; None: if there is none yet.

        Of any number of writers that expect the same, one is told Written. A write that landed
        while its answer was lost is found by reading back, so `body` must hold an id of its own.
        Raises OutcomeUnknown when it may have landed and cannot be read back.
        """
        ...

    def folders(self, prefix: str) -> Names:
        """Names of the folders immediately below `prefix`, sorted; empty ones do not count."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`, in no promised order."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects; one that is not there is no error."""
        ...

    def copy(self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = nobody) -> None:
        """Copy each source key to its destination key, without moving bytes through the client.

        Asked for twice it does no harm: what was copied is left or copied again, and a half-copied
        object never has its final name. The sources are meant to be immutable. `on_copied` is told
        how many are done, in the calling thread.
        """
        ...

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the object in pieces that are bearable in memory; StoreError where there is none."""
        ...

    def receive(
        self, source: "Objects", pairs: Sequence[tuple[str, str]], on_received: Callable[[int], None] = nobody
    ) -> None:
        """Put objects of another store here: each key there, under a key here, replacing what is there.

        Within one S3 server no byte moves through the client; elsewhere a few objects at once are streamed. A
        half-received object never has its final name. Whether it arrived as it was, is for `same_content`.
        `on_received` is told how many are done, in the calling thread.
        """
        ...


# At the top of a local store: the lock file. The name is reserved everywhere, so that a catalog
# may move between a bucket and a disk.
RESERVED = ".lancemig"


def checked(key: str) -> str:
    """Return `key` if it names an object in the store; refuses every other."""
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


# The digest of the content, or that of the digests of so many parts: what S3 gives an object that is not
# encrypted with a key of its own. Others are random, and then equal ones do not happen.
_DIGEST = re.compile(r"(?P<digest>[0-9a-f]{32})(-(?P<parts>\d+))?")
_MIB = 1024**2
# Of Lance, of AWS's tools, of others, and of this program.
_PART_SIZES = tuple(size * _MIB for size in (5, 8, 10, 16, 32, 64, 128))


def same_content(one: Objects, this: ObjectInfo, other: Objects, that: ObjectInfo) -> str | None:
    """The checksum that two objects, as they were listed, have in common; None where their bytes differ.

    An ETag can prove that they are the same, never that they are not: then both are read.
    """
    if this.size != that.size:
        return None
    if this.etag and that.etag:
        if this.etag == that.etag and _DIGEST.fullmatch(this.etag):
            return f"etag:{this.etag}"
    elif that.etag and _has(one, this, that.etag):
        return f"etag:{that.etag}"
    elif this.etag and _has(other, that, this.etag):
        return f"etag:{this.etag}"
    checksum = sha256_of(one, this.key)
    return f"sha256:{checksum}" if checksum == sha256_of(other, that.key) else None


def has_checksum(objects: Objects, found: ObjectInfo, checksum: str) -> bool:
    """Whether an object, as it was listed, still has the checksum that `same_content` found."""
    method, _, digest = checksum.partition(":")
    if method == "sha256":
        return sha256_of(objects, found.key) == digest
    return found.etag == digest if found.etag else _has(objects, found, digest)


def sha256_of(objects: Objects, key: str) -> str:
    """The digest of an object's content, in hex."""
    digest = hashlib.sha256()
    for piece in objects.stream(key):
        digest.update(piece)
    return digest.hexdigest()


def _has(objects: Objects, found: ObjectInfo, etag: str) -> bool:
    """Whether an object without an ETag has the content that `etag` stands for."""
    told = _DIGEST.fullmatch(etag)
    if told is None:
        return False
    if told["parts"] is None:
        return next(_part_digests(objects.stream(found.key), found.size), _md5(b"")).hex() == told["digest"]
    count = int(told["parts"])
    return any(
        _md5(b"".join(_part_digests(objects.stream(found.key), size))).hex() == told["digest"]
        for size in _PART_SIZES
        if size * (count - 1) < found.size <= size * count
    )


def _part_digests(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The digest of each part of so many bytes."""
    digest, left = hashlib.md5(usedforsecurity=False), size
    for piece in pieces:
        rest = piece
        while len(rest) > left:
            digest.update(rest[:left])
            yield digest.digest()
            rest, digest, left = rest[left:], hashlib.md5(usedforsecurity=False), size
        digest.update(rest)
        left -= len(rest)
    if left < size:
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
