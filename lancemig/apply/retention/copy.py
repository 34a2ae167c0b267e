"""Copying the tables of a root between any two stores; every object is compared.

Data files are copied and compared first, manifests last, so that a partial copy cannot be opened. Objects
that exist at the target are compared as well, and never sent twice. Lance's files are immutable, so a table
that is written to meanwhile is copied as it was when it was listed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from lancemig.apply.environment import Environment, OnProgress, Progress, no_progress
from lancemig.apply.root_owner import COPY_RECORD_FILE
from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.catalog.lineage import Copied
from lancemig.catalog.value import FrozenModel, digest, format_root
from lancemig.errors import PlanError, Refused, StoreError, VerifyFailed
from lancemig.store.documents import Documents
from lancemig.store.lance import Table, Tables, manifest_version
from lancemig.store.lance.inventory import SUFFIX
from lancemig.store.lance.references import reference_at
from lancemig.store.objects import ObjectInfo, Objects, PreconditionFailed, has_checksum, same_content

COPY_FORMAT = 1
RECORD = COPY_RECORD_FILE
Listing = dict[str, ObjectInfo]
"""Objects by their keys relative to a root."""


@dataclass(frozen=True)
class CopySide:
    """A root in a store: the source or the target of a copy."""

    objects: Objects
    root: str
    catalog_dir: str
    options: Mapping[str, str] = field(default_factory=dict)
    """The options that the store was opened with."""

    @property
    def uri(self) -> str:
        """The address of the root, at which it can be opened as a store of its own."""
        return f"{self.objects.uri}/{self.root}".rstrip("/")

    @property
    def tables(self) -> Tables:
        """Its tables."""
        return Tables(self.objects, self.catalog_dir)

    def listing(self) -> Listing:
        """All objects of its tables, without the hints of the newest version, which are rewritten."""
        found = self.objects.list(f"{self.root}{self.catalog_dir}")
        by_key = {item.key.removeprefix(self.root): item for item in found}
        return {key: item for key, item in by_key.items() if self.table_of(key) and not is_hint(key)}

    def table_of(self, key: str) -> str | None:
        """The name of the table that a key belongs to; None if it is not in a table."""
        folder, slash, _ = key.removeprefix(self.catalog_dir).partition("/")
        return folder.removesuffix(SUFFIX) if slash and folder.endswith(SUFFIX) else None

    def versions(self, listing: Listing) -> dict[str, int]:
        """The newest version of each table in a listing; folders without a manifest are left out."""
        newest: dict[str, int] = {}
        for key in filter(is_manifest, listing):
            name, version = self.table_of(key) or "", manifest_version(key.rpartition("/")[2]) or 0
            if key.startswith(f"{self.catalog_dir}{name}{SUFFIX}/_versions/"):
                newest[name] = max(version, newest.get(name, 0))
        return newest


def is_manifest(key: str) -> bool:
    """Whether the key is a manifest of a table or of a branch."""
    folder, _, name = key.rpartition("/")
    return folder.endswith("/_versions") and manifest_version(name) is not None


def is_hint(key: str) -> bool:
    """Whether the key is beside manifests, but is not one: a hint of the newest version."""
    return key.rpartition("/")[0].endswith("/_versions") and not is_manifest(key)


def may_change(key: str) -> bool:
    """Whether Lance may rewrite the object: tags and branches; all other objects are immutable."""
    return "/_refs/" in key


class CopiedObject(FrozenModel):
    """An object of a copy; its key is relative to the root, `checksum` is what it was compared by."""

    key: str
    size: int
    checksum: str


class CopyRecord(StoredModel):
    """The objects of a copy. Until it is `complete`, it only reserves the target for its source."""

    format: int = COPY_FORMAT
    source: str
    complete: bool = False
    finished: str | None = None
    objects: tuple[CopiedObject, ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of the list of objects: equal if two copies have the same content."""
        return digest([[one.key, one.size, one.checksum] for one in self.objects])

    @property
    def bytes(self) -> int:
        """The size of the copy."""
        return sum(one.size for one in self.objects)


COPY_RECORD = DocumentType(
    CopyRecord,
    "copy record",
    COPY_FORMAT,
    next_step="inspect {where}; remove it if the copy is no longer needed",
)


def read_record(side: CopySide) -> tuple[CopyRecord | None, str | None]:
    """The record beside a copy, and its version token; None, None if there is none.

    Raises:
        StoreError: It cannot be parsed. A newer format is a ConfigError.
    """
    found = side.objects.read(side.root + RECORD)
    if found is None:
        return None, None
    return COPY_RECORD.decode(found.body, f"{side.uri}/{RECORD}"), found.version_token


def write_record(side: CopySide, record: CopyRecord, expected: str | None) -> str:
    """Compare and swap the record; returns its version token. Refused if another copy is in progress."""
    outcome = Documents(side.objects, COPY_RECORD).write_if(side.root + RECORD, record, expected)
    if isinstance(outcome, PreconditionFailed):
        raise Refused(
            f"another copy to {side.uri} is in progress",
            next_step="run the same command again once it has ended",
        )
    return outcome.version_token


AT_ONCE = 256
COMPARED_AT_ONCE = 8
ROUNDS = 5
_NAMED = 10
T = TypeVar("T")
R = TypeVar("R")
_SAME_AGAIN = "run the same command again"


@dataclass(frozen=True)
class CopyRequest:
    """A copy from `source` to `target`; `hold` renews the lease before each effect."""

    source: CopySide
    target: CopySide
    hold: Callable[[], None] = lambda: None
    on_progress: OnProgress = no_progress


@dataclass(frozen=True)
class CopyResult:
    """A complete copy, and how much of it this command sent."""

    copied: Copied
    listing: Listing
    sent: int
    sent_bytes: int

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches of others, as `t:experiment`: their manifests name the source, also in the copy."""
        found = (reference_at(key) for key in sorted(self.listing))
        branches = [one for one in found if one is not None and one.kind == "branch" and not one.is_guard]
        folders = [one.key.partition("/_refs/")[0].rpartition("/")[2] for one in branches]
        return tuple(
            f"{folder.removesuffix(SUFFIX)}:{one.name}" for folder, one in zip(folders, branches, strict=True)
        )


def copy_root(copying: CopyRequest, environment: Environment) -> CopyResult:
    """Copy all tables of the source as they are now, and compare every object.

    After a crash, the same call continues and sends nothing twice. The source may be written to, and cleaned
    up, meanwhile.

    Raises:
        PlanError: A table borrows files from outside its folder.
        Refused: The target has other content.
        VerifyFailed: Objects of the target differ; the message names them.
    """
    source, target = copying.source, copying.target
    _refuse_overlap(source, target)
    _refuse_borrowed(source)
    token = _reserve(copying)
    for _ in range(ROUNDS):
        wanted = snapshot(source)
        _refuse_newer_versions(copying, wanted)
        try:
            transfer = _Transfer(copying, wanted)
            checksums = transfer.send_and_compare()
        except StoreError:
            if not _vanished(source, wanted):
                raise
            continue
        if not _vanished(source, wanted):
            break
    else:
        raise StoreError(
            f"cleanup removed files from {source.uri} during every attempt to copy it", next_step=_SAME_AGAIN
        )
    _require_complete(target, wanted)
    objects = tuple(
        CopiedObject(key=key, size=wanted[key].size, checksum=checksums[key]) for key in sorted(wanted)
    )
    record = CopyRecord(source=source.uri, complete=True, finished=environment.stamp(), objects=objects)
    copying.hold()
    write_record(target, record, token)
    return CopyResult(_copied(copying, record), wanted, transfer.count, transfer.bytes)


def missing_from(side: CopySide, copied: Copied) -> str | None:
    """What a recorded copy lacks now, by its record and a listing; None if it is complete.

    Objects are compared by name and size, not by content.
    """
    record, _ = read_record(side)
    if record is None:
        return f"{side.uri} has no {RECORD} any more"
    if not record.complete or record.digest != copied.digest:
        return f"{side.uri} has the record of another copy"
    existing = side.listing()
    lost = [
        each.key
        for each in record.objects
        if each.key not in existing or existing[each.key].size != each.size
    ]
    return (
        f"{len(lost)} of its {len(record.objects)} objects are missing, such as {lost[0]}" if lost else None
    )


def bring_back(copying: CopyRequest, copied: Copied) -> CopyResult:
    """Restore a root from the copy that the lineage records, and compare every object.

    Objects that still exist are kept. VerifyFailed, before anything is restored, if the copy is not the one
    that was recorded.
    """
    source, target = copying.source, copying.target
    record, _ = read_record(source)
    if record is None or not record.complete or record.digest != copied.digest:
        raise VerifyFailed(
            f"{source.uri} does not have the copy of {format_root(copied.root)} that the lineage records",
            next_step="find out who wrote there: lancemig history --lineage -v",
        )
    existing = source.listing()
    wanted = {one.key: existing[one.key] for one in record.objects if one.key in existing}
    wrong = [one.key for one in record.objects if one.key not in wanted or wanted[one.key].size != one.size]
    same = _in_threads(
        lambda one: one.key in wrong or has_checksum(source.objects, wanted[one.key], one.checksum),
        record.objects,
    )
    wrong += [one.key for one, is_same in zip(record.objects, same, strict=True) if not is_same]
    _refuse_differing(source, wrong)
    transfer = _Transfer(copying, wanted)
    transfer.send_and_compare()
    _require_complete(target, wanted)
    return CopyResult(copied, wanted, transfer.count, transfer.bytes)


def snapshot(side: CopySide) -> Listing:
    """The manifests as they are now, and all files as of a moment later, which include those they name."""
    manifests = {key: item for key, item in side.listing().items() if is_manifest(key)}
    names = side.versions(manifests)
    if not names:
        raise PlanError(
            f"{side.uri}/{side.catalog_dir} has no tables",
            next_step="give the path of a root; catalog_dir in lancemig.ini is the folder of the "
            "tables inside "
            "it",
        )
    files = {key: item for key, item in side.listing().items() if not is_manifest(key)}
    return {key: item for key, item in {**files, **manifests}.items() if side.table_of(key) in names}


class _Transfer:
    """Sends the objects that the target lacks, and compares all objects."""

    def __init__(self, copying: CopyRequest, wanted: Listing) -> None:
        self.copying, self.wanted = copying, wanted
        self.count = self.bytes = 0

    def send_and_compare(self) -> dict[str, str]:
        """Send what is missing and compare everything; returns the checksum of each object, by key."""
        keys = sorted(self.wanted)
        found: dict[str, str] = {}
        for group in ([k for k in keys if not is_manifest(k)], [k for k in keys if is_manifest(k)]):
            there = self.copying.target.listing()
            self._send([key for key in group if key not in there])
            checksums = self._compare(group)
            changed = [key for key in group if may_change(key) and key not in checksums]
            if changed:
                self._send(changed)
                checksums |= self._compare(changed)
            _refuse_differing(self.copying.target, [key for key in group if key not in checksums])
            found |= checksums
        return found

    def _send(self, keys: Sequence[str]) -> None:
        source, target = self.copying.source, self.copying.target
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            self.copying.hold()
            target.objects.copy_from(
                source.objects, [(source.root + key, target.root + key) for key in some], self._report
            )
            self.count += len(some)
            self.bytes += sum(self.wanted[key].size for key in some)

    def _report(self, done: int) -> None:
        text = f"sent {self.count + done:,} of {len(self.wanted):,} objects"
        self.copying.on_progress(Progress("copy", text=text, bytes=self.bytes or None))

    def _compare(self, keys: Sequence[str]) -> dict[str, str]:
        source, target = self.copying.source.objects, self.copying.target.objects
        there = self.copying.target.listing()

        def checksum(key: str) -> str | None:
            return same_content(source, self.wanted[key], target, there[key]) if key in there else None

        self.copying.on_progress(Progress("copy", text=f"comparing {len(keys):,} objects"))
        compared = zip(keys, _in_threads(checksum, keys), strict=True)
        return {key: found for key, found in compared if found is not None}


def _in_threads(do: Callable[[T], R], of: Sequence[T]) -> list[R]:
    with ThreadPoolExecutor(COMPARED_AT_ONCE) as threads:
        return list(threads.map(do, of))


def _copied(copying: CopyRequest, record: CopyRecord) -> Copied:
    return Copied(
        root=copying.source.root,
        to=copying.target.uri,
        options=dict(copying.target.options),
        objects=len(record.objects),
        bytes=record.bytes,
        digest=record.digest,
    )


def _reserve(copying: CopyRequest) -> str | None:
    """Reserve the target for this source; Refused if it has another copy. Returns the record's token."""
    record, token = read_record(copying.target)
    if record is None:
        _refuse_occupied(copying.target)
        copying.hold()
        return write_record(copying.target, CopyRecord(source=copying.source.uri), None)
    if record.source != copying.source.uri:
        raise Refused(
            f"{copying.target.uri} already has a copy of {record.source}",
            next_step="choose another destination",
        )
    return token


def _refuse_occupied(target: CopySide) -> None:
    for key in target.listing():
        raise Refused(
            f"{target.uri} is not empty: it has for example {key}", next_step="choose an empty destination"
        )


def _refuse_newer_versions(copying: CopyRequest, wanted: Listing) -> None:
    """Refuse a target that has a newer version of a table, which would be taken for the newest one."""
    source, target = copying.source, copying.target
    ours, theirs = source.versions(wanted), target.versions(target.listing())
    for name, version in theirs.items():
        if version > ours.get(name, -1):
            raise Refused(
                f"{target.uri} has version {version} of table {name}, but {source.uri} does not",
                next_step="choose another destination",
            )


def _refuse_overlap(source: CopySide, target: CopySide) -> None:
    """Refuse a source and a target of which one is inside the tables of the other."""
    one, other = (f"{side.uri}/{side.catalog_dir}" for side in (source, target))
    for outer, inner in ((one, other), (other, one)):
        within = inner.removeprefix(outer).partition("/")[0]
        if inner.startswith(outer) and (not within or within.endswith(SUFFIX)):
            raise PlanError(
                f"{target.uri} and {source.uri} are the same location, or one contains the other",
                next_step="choose another destination",
            )


def _refuse_borrowed(source: CopySide) -> None:
    for name, table in source.tables.newest(source.root).items():
        if table.borrows:
            raise PlanError(
                f"table {name} in {source.uri} borrows files from {table.borrows[0]}; a copy would be "
                "unreadable without them",
                next_step="make the live root self-contained with lancemig detach, then copy",
            )


def _refuse_differing(side: CopySide, keys: Sequence[str]) -> None:
    if keys:
        more = f"\n  and {len(keys) - _NAMED:,} more" if len(keys) > _NAMED else ""
        listed = "\n  ".join(sorted(keys)[:_NAMED])
        raise VerifyFailed(
            f"objects in {side.uri} differ from what was copied:\n  {listed}{more}",
            next_step="find out who changed them; remove them there, then run the same command again",
        )


def _vanished(source: CopySide, wanted: Listing) -> bool:
    """Whether cleanup removed an object that is to be copied."""
    return not wanted.keys() <= source.listing().keys()


def _require_complete(target: CopySide, wanted: Listing) -> None:
    """Check that the newest version of each table can be opened, and that all its files exist."""
    there = target.listing()
    for name in target.versions(wanted):
        table = target.tables.open(target.root, name)
        files = (key.removeprefix(target.root) for key in target.tables.files(table))
        _refuse_differing(target, [key for key in files if key not in there])


def places(tables: Iterable[Table]) -> frozenset[str]:
    """The locations outside the tables' own folders from which these versions borrow files."""
    return frozenset(place for table in tables for place in table.borrows)


def borrowed_by(tables: Tables, root: str, borrowed: Iterable[str]) -> list[str]:
    """The locations among `borrowed` that are in `root`."""
    folder = f"{tables.objects.uri}/{root}{tables.catalog_dir}"
    return sorted(place for place in borrowed if f"{place}/".startswith(folder))
