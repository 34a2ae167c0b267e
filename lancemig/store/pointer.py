"""The pointer, the chain of lineage entries that it names, and verification reports, in the store."""

from collections.abc import Iterator
from dataclasses import dataclass

from lancemig.catalog.lineage import (
    FIND_OUT,
    LINEAGE_ENTRY,
    POINTER,
    VERIFICATION_REPORT,
    ForeignWrite,
    LineageEntry,
    Pointer,
    VerificationReport,
    checked_entry,
    checked_report,
    foreign_write,
)
from lancemig.errors import ForeignPointer, LancemigError, LineageBroken, PointerMoved
from lancemig.store.documents import Documents, write_once
from lancemig.store.objects import Objects, PreconditionFailed

_FOREIGN_FIELDS = ("active_prefix", "previous_prefix", "revision", "lineage")


@dataclass(frozen=True)
class PointerRead:
    """The pointer as it was read; both fields are None if there is none yet."""

    pointer: Pointer | None
    version_token: str | None


@dataclass(frozen=True)
class ForeignChange:
    """A pointer that another program wrote."""

    seen: PointerRead
    newest: LineageEntry | None
    """The newest entry of the lineage, which the next entry continues; None if the lineage is empty."""
    write: ForeignWrite

    @property
    def broken(self) -> bool:
        """Whether the pointer names a lineage entry that is gone: who removed it may not be who wrote it."""
        named = self.seen.pointer.lineage if self.seen.pointer else None
        return named is not None and (self.newest is None or self.newest.id != named)

    def error(self, key: str) -> LancemigError:
        """The error for verbs that need to know what is live."""
        if self.broken:
            message = f"lineage entry {self.write.lineage} is missing"
            return LineageBroken(message, next_step=f"{FIND_OUT}; or {_RECORD_IT}")
        return ForeignPointer(f"{self.text(key)}; nothing was changed", next_step=FOREIGN_NEXT_STEP)

    def text(self, key: str) -> str:
        """What is known of it, in a sentence."""
        by = f" by {self.write.written_by}" if self.write.written_by else ""
        at = f" at {self.write.written_at}" if self.write.written_at else ""
        if self.seen.pointer is None:
            return f"another program deleted the pointer {key}: {self.write.why}"
        return f"another program wrote the pointer {key}{at}{by}: {self.write.why}"


_RECORD_IT = "if the pointer is right, record it: lancemig stamp REVISION"
FOREIGN_NEXT_STEP = f"find out who wrote it, and restore the pointer; or, {_RECORD_IT}"


class PointerStore:
    """The pointer at `key`, and the folder `_lancemig/` beside it."""

    def __init__(self, objects: Objects, key: str) -> None:
        self.key = key
        self._objects = objects
        self.folder = f"{key.rpartition('/')[0]}/_lancemig/".lstrip("/")
        self._pointers = Documents(objects, POINTER)
        self._entries = Documents(objects, LINEAGE_ENTRY)

    def read(self) -> PointerRead:
        """The pointer now; ConfigError if it is not valid, or of a newer format."""
        stored = self._pointers.read(self.key)
        return PointerRead(stored.value, stored.version_token) if stored else PointerRead(None, None)

    def foreign(self, seen: PointerRead) -> ForeignChange | None:
        """The change of the pointer by another program; None if lancemig wrote it, or if it has no lineage.

        Costs a request for the lineage entry that the pointer names, or a listing if it names none.

        Raises:
            LineageBroken: The entry was changed after it was written.
        """
        pointer = seen.pointer
        named = self._named(pointer)
        newest = None if named is not None else self._newest()
        why = foreign_write(pointer, named, newest.id if newest else None)
        if why is None:
            return None
        info = self._objects.info(self.key)
        fields = {} if pointer is None else pointer.model_dump(include=set(_FOREIGN_FIELDS))
        write = ForeignWrite(
            **fields,
            why=why,
            written_at=f"{info.modified:%Y-%m-%dT%H:%M:%SZ}" if info and info.modified else None,
            written_by=info.owner if info else None,
        )
        return ForeignChange(seen, named or newest, write)

    def require_own(self, seen: PointerRead) -> None:
        """Raise ForeignPointer for a pointer that another program wrote."""
        foreign = self.foreign(seen)
        if foreign is not None:
            raise foreign.error(self.key)

    def _named(self, pointer: Pointer | None) -> LineageEntry | None:
        if pointer is None or pointer.lineage is None:
            return None
        stored = self._entries.read(self._entry_key(pointer.lineage))
        return None if stored is None else checked_entry(stored.value, pointer.lineage)

    def _newest(self) -> LineageEntry | None:
        """The entry with the highest number; of several, which lost a race but one, the last one finished."""
        folder = f"{self.folder}lineage/"
        ids = [item.key.removeprefix(folder).removesuffix(".json") for item in self._objects.list(folder)]
        if not ids:
            return None
        highest = max(id_.partition("-")[0] for id_ in ids)
        entries = [self.entry(id_) for id_ in ids if id_.partition("-")[0] == highest]
        return max(entries, key=lambda entry: (entry.finished, entry.id))

    def publish(self, seen: PointerRead, entry: LineageEntry, pointer: Pointer) -> PointerRead:
        """Write the lineage entry, then replace the pointer, if it is still the one in `seen`.

        Raises:
            PointerMoved: Another process changed the pointer. The entry is then not part of the history: no
                pointer names it.
        """
        self._entries.write_once(self._entry_key(entry.id), entry)
        outcome = self._pointers.write_if(self.key, pointer, seen.version_token)
        if isinstance(outcome, PreconditionFailed):
            if outcome.answer_lost and self._in_history(entry):
                return self.read()
            raise PointerMoved(
                f"the pointer {self.key} was changed by another process; {self._current(outcome)}",
                next_step="lancemig status, then run the same command again",
            )
        return PointerRead(pointer, outcome.version_token)

    def _in_history(self, entry: LineageEntry) -> bool:
        """Whether a pointer named `entry`: our write landed without an answer, and another followed."""
        return any(other.id == entry.id for other in self.chain(self.read().pointer))

    def _current(self, outcome: PreconditionFailed) -> str:
        """The state of a pointer that another process changed."""
        if outcome.found is None:
            return "the pointer no longer exists"
        try:
            pointer = self._pointers.decode(outcome.found.body, self.key)
        except LancemigError:
            return "this version of lancemig cannot read it"
        return f"it is now at revision {pointer.revision}, set by {pointer.updated_by}"

    def entry(self, id_: str) -> LineageEntry:
        """The lineage entry with this id; LineageBroken if it is missing or was changed."""
        stored = self._entries.read(self._entry_key(id_))
        if stored is None:
            raise LineageBroken(f"lineage entry {id_} is missing", next_step=FIND_OUT)
        return checked_entry(stored.value, id_)

    def chain(self, pointer: Pointer | None) -> Iterator[LineageEntry]:
        """All entries, from the one that the pointer names to the first; LineageBroken if one is wrong."""
        if pointer is not None and pointer.lineage is not None:
            yield from self.chain_from(pointer.lineage)

    def chain_from(self, newest: str) -> Iterator[LineageEntry]:
        """All entries, from the one with this id to the first; LineageBroken if one is wrong."""
        id_: str | None = newest
        claimed: str | None = None
        while id_ is not None:
            entry = self.entry(id_)
            if claimed is not None and entry.digest != claimed:
                raise LineageBroken(
                    f"lineage entry {id_} does not match the checksum in its successor", next_step=FIND_OUT
                )
            yield entry
            id_, claimed = entry.parent, entry.parent_digest

    def _entry_key(self, id_: str) -> str:
        return f"{self.folder}lineage/{id_}.json"


class Reports:
    """Verification reports under `folder`: `<head of the sha256>.json`, and the same as text."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self.objects = objects
        self.folder = folder
        self._reports = Documents(objects, VERIFICATION_REPORT)

    def keep(self, report: VerificationReport) -> str:
        """Write a report as text and as JSON, unless it exists; returns the key of the JSON."""
        text = self._key(report.digest, "txt")
        write_once(self.objects, text, f"{report.text()}\n".encode(), f"the verification report {text}")
        key = self._key(report.digest, "json")
        self._reports.write_once(key, report)
        return key

    def read(self, digest: str) -> VerificationReport:
        """The report with this digest; LineageBroken if it is missing or was changed."""
        key = self._key(digest, "json")
        stored = self._reports.read(key)
        if stored is None:
            raise LineageBroken(
                f"the verification report {key} is missing", next_step=VERIFICATION_REPORT.next_step
            )
        return checked_report(stored.value, digest)

    def _key(self, digest: str, kind: str) -> str:
        return f"{self.folder}{digest[:16]}.{kind}"
