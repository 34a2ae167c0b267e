"""What a store of objects promises, and the values it answers with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
    """An object's key, relative to the store, and its size in bytes."""

    key: str
    size: int


def nobody(_done: int) -> None:
    """Take no notice of progress."""


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
