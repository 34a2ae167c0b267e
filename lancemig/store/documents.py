"""Reading and writing the stored JSON documents: every write is conditional.

What the documents are, and how they are parsed, is in `catalog/documents.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.errors import StoreError
from lancemig.store.objects import Objects, PreconditionFailed, WriteOk

T = TypeVar("T", bound=StoredModel)


@dataclass(frozen=True)
class Stored(Generic[T]):
    """A document as it was read, and the token that a later `write_if` expects."""

    value: T
    version_token: str


@dataclass(frozen=True)
class Documents(Generic[T]):
    """The documents of one type in a store."""

    objects: Objects
    type: DocumentType[T]

    def read(self, key: str) -> Stored[T] | None:
        """The document under `key`; None if there is none.

        Raises what its type declares for a damaged document or a newer format; the error names the key.
        """
        found = self.objects.read(key)
        return None if found is None else Stored(self.decode(found.body, key), found.version_token)

    def read_all(self, folder: str) -> Iterator[tuple[str, Stored[T]]]:
        """All documents in a folder with their keys, in the order of the keys; raises as `read` does."""
        for key in sorted(item.key for item in self.objects.list(folder)):
            stored = self.read(key)
            if stored is not None:
                yield key, stored

    def decode(self, body: bytes, key: str) -> T:
        """Parse the content of the object under `key`; raises as `read` does."""
        return self.type.decode(body, f"the {self.type.name} {key}")

    def write_if(self, key: str, value: T, expected: str | None) -> WriteOk | PreconditionFailed:
        """Compare and swap: write the document if the object still has the version token `expected`.

        With `expected` None, write it if there is no object yet. Raises OutcomeUnknown as `Objects.write_if`.
        """
        return self.objects.write_if(key, self.type.encode(value), expected)

    def write_once(self, key: str, value: T) -> None:
        """Write a document that never changes; StoreError if the object exists with other content."""
        write_once(self.objects, key, self.type.encode(value), f"the {self.type.name} {key}")

    def delete(self, key: str) -> None:
        """Delete the document; it is no error if there is none."""
        self.objects.delete([key])


def write_once(objects: Objects, key: str, body: bytes, name: str) -> None:
    """Write an object that never changes, called `name` in errors; the same content may be there already."""
    outcome = objects.write_if(key, body, None)
    if isinstance(outcome, PreconditionFailed) and outcome.found and outcome.found.body != body:
        raise StoreError(f"{name} already exists with different content", next_step=f"inspect {key}")
