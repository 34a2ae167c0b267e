"""One side of a copy: a root in a store, what it holds, and the record that lies beside a finished copy."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from lancemig.catalog.lineage import checked_format
from lancemig.catalog.value import Value, digest
from lancemig.errors import Refused, StoreError
from lancemig.store.objects import Listed, Moved, Objects
from lancemig.store.tables import Tables, manifest_version

COPY_FORMAT = 1
RECORD = "_lancemig-copy.json"
Listing = dict[str, Listed]
"""Objects by their keys relative to a root."""


@dataclass(frozen=True)
class Side:
    """A root in a store: what is copied, or where to. `options` are those that the store was opened with."""

    objects: Objects
    root: str
    catalog_dir: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Where it is: a store of its own could be opened there."""
        return f"{self.objects.uri}/{self.root}".rstrip("/")

    @property
    def tables(self) -> Tables:
        """Its tables."""
        return Tables(self.objects, self.catalog_dir)

    def listing(self) -> Listing:
        """All objects of its tables; hints of the newest version, which are written anew, are left out."""
        found = self.objects.list(f"{self.root}{self.catalog_dir}")
        by_key = {item.key.removeprefix(self.root): item for item in found}
        return {key: item for key, item in by_key.items() if self.table_of(key) and not is_hint(key)}

    def table_of(self, key: str) -> str | None:
        """The name of the table that a key lies in."""
        folder, slash, _ = key.removeprefix(self.catalog_dir).partition("/")
        return folder.removesuffix(".lance") if slash and folder.endswith(".lance") else None

    def versions(self, listing: Listing) -> dict[str, int]:
        """The newest version of each table in a listing; a folder without a manifest is no table."""
        newest: dict[str, int] = {}
        for key in filter(is_manifest, listing):
            name, version = self.table_of(key) or "", manifest_version(key.rpartition("/")[2]) or 0
            if key.startswith(f"{self.catalog_dir}{name}.lance/_versions/"):
                newest[name] = max(version, newest.get(name, 0))
        return newest


def is_manifest(key: str) -> bool:
    """Whether it is the manifest of a version, of the table itself or of a branch."""
    folder, _, name = key.rpartition("/")
    return folder.endswith("/_versions") and manifest_version(name) is not None


def is_hint(key: str) -> bool:
    """Whether it lies among manifests and is none."""
    return key.rpartition("/")[0].endswith("/_versions") and not is_manifest(key)


def may_change(key: str) -> bool:
    """Whether Lance may write the object anew: where tags and branches are kept; all else is immutable."""
    return "/_refs/" in key


class CopiedObject(Value):
    """An object of a copy, its key relative to the root; `checksum` is what it was compared by."""

    key: str
    size: int
    checksum: str


class CopyRecord(Value):
    """What a copy holds. Until it is `complete` it only tells whose the objects are that lie there."""

    format: int = COPY_FORMAT
    source: str
    complete: bool = False
    finished: str | None = None
    objects: tuple[CopiedObject, ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of what it holds; equal where two copies hold the same."""
        return digest([[one.key, one.size, one.checksum] for one in self.objects])

    @property
    def bytes(self) -> int:
        """How large the copy is."""
        return sum(one.size for one in self.objects)


def read_record(side: Side) -> tuple[CopyRecord | None, str | None]:
    """The record beside a copy, and its ETag; StoreError for one that cannot be read."""
    found = side.objects.read(side.root + RECORD)
    return (None, None) if found is None else (record_in(found.body, f"{side.uri}/{RECORD}"), found.etag)


def record_in(body: bytes, where: str) -> CopyRecord:
    """The record in an object; refuses what is none, or of a newer format."""
    try:
        document = json.loads(body)
        checked_format(document, COPY_FORMAT, where, next_step="upgrade lancemig: pip install -U lancemig")
        return CopyRecord.model_validate(document)
    except ValueError as error:
        raise StoreError(
            f"{where} is not a valid copy record",
            next_step="inspect it; remove it if the copy is no longer needed",
        ) from error


def write_record(side: Side, record: CopyRecord, expected: str | None) -> str:
    """Put the record there if it is as it was read; Refused when another copy is under way."""
    body = json.dumps(record.model_dump(mode="json"), indent=1).encode()
    outcome = side.objects.write_if(side.root + RECORD, body, expected)
    if isinstance(outcome, Moved):
        raise Refused(
            f"another copy to {side.uri} is in progress",
            next_step="run the same command again once it has ended",
        )
    return outcome.etag
