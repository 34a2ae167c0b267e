"""What a store of objects promises, and the values it answers with."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

Names: TypeAlias = list[str]  # `list` is a method below


@dataclass(frozen=True, slots=True)
class Found:
    """An object as it was read; `etag` is what a later `write_if` expects."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Written:
    """The object holds what was to be written."""

    etag: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The object is not as expected; `found` is what it is now, None where it is gone.

    With `answer_lost`, one of our attempts went unanswered: the body may have been there for a
    while before the one in `found` replaced it. Whoever must know looks into what was found.
    """

    found: Found | None
    answer_lost: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
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

    def read(self, key: str) -> Found | None:
        """Read the whole object, None where there is none."""
        ...

    def write_if(self, key: str, body: bytes, expected: str | None) -> Written | Moved:
        """Write `body` if the object still has the ETag `expected`; None: if there is none yet.

        Of any number of writers that expect the same, one is told Written. A write that landed
        while its answer was lost is found by reading back, so `body` must hold an id of its own.
        Raises OutcomeUnknown when it may have landed and cannot be read back.
        """
        ...

    def folders(self, prefix: str) -> Names:
        """Names of the folders immediately below `prefix`, sorted; empty ones do not count."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
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
