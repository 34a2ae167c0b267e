"""A door to objects that lets through only what may be written: so a build cannot reach what is live."""

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
    nobody,
)


def out_of_bounds(where: str) -> StoreError:
    """What is raised where something would be written that a staged root does not hold."""
    return StoreError(
        f"{where} is outside the area that this stage of the run may write to; nothing was written there",
        next_step="this is a bug in lancemig, please report it; lancemig status shows the state of the run",
    )


@dataclass(frozen=True)
class Confined:
    """All objects to be read; those below `prefixes` to be written, copied to and deleted."""

    objects: Objects
    prefixes: tuple[str, ...]

    @property
    def uri(self) -> str:
        """What Lance opens."""
        return self.objects.uri

    def lance_options(self) -> dict[str, str]:
        """Storage options for Lance."""
        return self.objects.lance_options()

    def read(self, key: str) -> ObjectBody | None:
        """Read the whole object."""
        return self.objects.read(key)

    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        """Write, if it is below one of the prefixes."""
        self._within(key)
        return self.objects.write_if(key, body, expected)

    def folders(self, prefix: str) -> Names:
        """Names of the folders immediately below `prefix`."""
        return self.objects.folders(prefix)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`."""
        return self.objects.list(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete, if all are below one of the prefixes."""
        self._within(*keys)
        self.objects.delete(keys)

    def copy(self, pairs: Sequence[tuple[str, str]], on_copied: Callable[[int], None] = nobody) -> None:
        """Copy, if all destinations are below one of the prefixes."""
        self._within(*(destination for _, destination in pairs))
        self.objects.copy(pairs, on_copied)

    def stream(self, key: str) -> Iterator[bytes]:
        """Read the object in pieces."""
        return self.objects.stream(key)

    def receive(
        self, source: Objects, pairs: Sequence[tuple[str, str]], on_received: Callable[[int], None] = nobody
    ) -> None:
        """Receive, if all destinations are below one of the prefixes."""
        self._within(*(destination for _, destination in pairs))
        self.objects.receive(source, pairs, on_received)

    def _within(self, *keys: str) -> None:
        for key in keys:
            if ".." in key.split("/") or not any(key.startswith(prefix) for prefix in self.prefixes):
                raise out_of_bounds(key)
