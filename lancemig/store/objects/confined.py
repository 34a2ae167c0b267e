"""A view of a store that can write below some prefixes only: a staged build cannot change the live root."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lancemig.errors import StoreError
from lancemig.store.objects.base import (
    Names,
    ObjectBody,
    ObjectInfo,
    Objects,
    PreconditionFailed,
    WriteOk,
    ignore_progress,
)


def out_of_bounds(where: str) -> StoreError:
    """The error for a write outside the prefixes that a run may write to."""
    return StoreError(
        f"{where} is outside the area that this stage of the run may write to; nothing was written there",
        next_step="this is a bug in lancemig, please report it; lancemig status shows the state of the run",
    )


@dataclass(frozen=True)
class Confined:
    """Reads all objects; writes, copies to and deletes those below `prefixes` only."""

    objects: Objects
    prefixes: tuple[str, ...]

    @property
    def uri(self) -> str:
        """The address as Lance opens it."""
        return self.objects.uri

    def lance_options(self) -> dict[str, str]:
        """Storage options for Lance."""
        return self.objects.lance_options()

    def read(self, key: str) -> ObjectBody | None:
        """Read the whole object; None if it does not exist."""
        return self.objects.read(key)

    def info(self, key: str) -> ObjectInfo | None:
        """When, and by whom, the object was written last."""
        return self.objects.info(key)

    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """Compare and swap; StoreError if the key is not below one of the prefixes."""
        self._require(key)
        return self.objects.write_if(key, body, expected)

    def folders(self, prefix: str) -> Names:
        """Names of the folders directly below `prefix`."""
        return self.objects.folders(prefix)

    def entries(self, prefix: str) -> tuple[Names, Names]:
        """Names of the objects and folders directly below `prefix`."""
        return self.objects.entries(prefix)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below `prefix`."""
        return self.objects.list(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; StoreError if one is not below one of the prefixes."""
        self._require(*keys)
        self.objects.delete(keys)

    def copy(
        self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = ignore_progress
    ) -> None:
        """Copy within the store; StoreError if a destination is not below one of the prefixes."""
        self._require(*(destination for _, destination in pairs))
        self.objects.copy(pairs, on_copied)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the object in pieces."""
        return self.objects.stream(key)

    def copy_from(
        self,
        source: Objects,
        pairs: Sequence[tuple[str, str]],
        on_copied: Callable[[int], None] = ignore_progress,
    ) -> None:
        """Copy from another store; StoreError if a destination is not below one of the prefixes."""
        self._require(*(destination for _, destination in pairs))
        self.objects.copy_from(source, pairs, on_copied)

    def _require(self, *keys: str) -> None:
        for key in keys:
            if ".." in key.split("/") or not any(key.startswith(prefix) for prefix in self.prefixes):
                raise out_of_bounds(key)
