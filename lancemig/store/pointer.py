"""The pointer, the chain of lineage entries that it names, and verification reports, in the store."""

from collections.abc import Iterator
from dataclasses import dataclass

from lancemig.catalog.lineage import (
    FIND_OUT,
    LINEAGE_ENTRY,
    POINTER,
    VERIFICATION_REPORT,
    LineageEntry,
    Pointer,
    VerificationReport,
    checked_entry,
    checked_report,
)
from lancemig.errors import LancemigError, LineageBroken, PointerMoved
from lancemig.store.documents import Documents, write_once
from lancemig.store.objects import Objects, PreconditionFailed


@dataclass(frozen=True)
class PointerRead:
    """The pointer as it was read; both fields are None if there is none yet."""

    pointer: Pointer | None
    version_token: str | None


class PointerStore:
    """The pointer at `key`, and the folder `_lancemig/` beside it."""

    def __init__(self, objects: Objects, key: str) -> None:
        self.key = key
        self.folder = f"{key.rpartition('/')[0]}/_lancemig/".lstrip("/")
        self._pointers = Documents(objects, POINTER)
        self._entries = Documents(objects, LINEAGE_ENTRY)

    def read(self) -> PointerRead:
        """The pointer now; ConfigError if it is not valid, or of a newer format."""
        stored = self._pointers.read(self.key)
        return PointerRead(stored.value, stored.version_token) if stored else PointerRead(None, None)

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
        id_ = pointer.lineage if pointer else None
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
