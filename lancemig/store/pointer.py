"""The pointer and its lineage, in the store: read whole, published by one conditional write."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lancemig.catalog.lineage import (
    FIND_OUT,
    LineageEntry,
    Pointer,
    VerificationReport,
    read_entry,
    read_pointer,
    read_report,
)
from lancemig.errors import ConfigError, LineageBroken, PointerMoved, StoreError
from lancemig.store.objects import Objects, PreconditionFailed


@dataclass(frozen=True)
class PointerRead:
    """The pointer as it was read; both are None where there is none yet."""

    pointer: Pointer | None
    version_token: str | None


class PointerStore:
    """The pointer at `key`, and `_lancemig/` beside it."""

    def __init__(self, objects: Objects, key: str) -> None:
        self.objects = objects
        self.key = key
        self.folder = f"{key.rpartition('/')[0]}/_lancemig/".lstrip("/")

    def read(self) -> PointerRead:
        """The pointer now; ConfigError when it is no pointer, or of a newer format."""
        found = self.objects.read(self.key)
        if found is None:
            return PointerRead(None, None)
        try:
            document = json.loads(found.body)
        except ValueError as error:
            raise ConfigError(
                f"the pointer {self.key} is not valid JSON: {error}",
                next_step="fix the pointer, or set another with `pointer` in lancemig.ini",
            ) from error
        return PointerRead(read_pointer(document, f"the pointer {self.key}"), found.version_token)

    def publish(self, seen: PointerRead, entry: LineageEntry, pointer: Pointer) -> PointerRead:
        """Write the lineage entry, then make `pointer` the pointer if it is still the one in `seen`.

        PointerMoved when somebody else changed it: the entry then is no history, for no pointer names it.
        """
        self._keep(entry)
        body = json.dumps(pointer.model_dump(mode="json"), indent=1).encode()
        outcome = self.objects.write_if(self.key, body, seen.version_token)
        if isinstance(outcome, PreconditionFailed):
            if outcome.answer_lost and self._in_history(entry):
                return self.read()
            raise PointerMoved(
                f"the pointer {self.key} was changed by another process; {_who(outcome)}",
                next_step="lancemig status, then run the same command again",
            )
        return PointerRead(pointer, outcome.version_token)

    def _in_history(self, entry: LineageEntry) -> bool:
        """Whether a pointer named `entry`: ours landed, its answer was lost, and somebody built on it."""
        return any(other.id == entry.id for other in self.chain(self.read().pointer))

    def _keep(self, entry: LineageEntry) -> None:
        body = json.dumps(entry.document(), indent=1).encode()
        outcome = self.objects.write_if(self._entry_key(entry.id), body, None)
        if isinstance(outcome, PreconditionFailed) and outcome.found and outcome.found.body != body:
            raise StoreError(f"lineage entry {entry.id} already exists with different content")

    def entry(self, id_: str) -> LineageEntry:
        """The lineage entry called `id_`; LineageBroken when it is missing or was changed."""
        found = self.objects.read(self._entry_key(id_))
        if found is None:
            raise LineageBroken(f"lineage entry {id_} is missing", next_step=FIND_OUT)
        try:
            document: Any = json.loads(found.body)
        except ValueError as error:
            raise LineageBroken(
                f"lineage entry {id_} is not valid JSON: {error}", next_step=FIND_OUT
            ) from error
        return read_entry(document, id_)

    def chain(self, pointer: Pointer | None) -> Iterator[LineageEntry]:
        """The entries from the one the pointer names back to the first; LineageBroken where it breaks."""
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


def _who(moved: PreconditionFailed) -> str:
    if moved.found is None:
        return "the pointer no longer exists"
    try:
        pointer = json.loads(moved.found.body)
        return f"it is now at revision {pointer.get('revision')}, set by {pointer.get('updated_by')}"
    except (ValueError, AttributeError):
        return "it is no longer a valid pointer"


class Reports:
    """The reports under `folder`: `<head of the sha256>.json`, and the same as text."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self.objects = objects
        self.folder = folder

    def keep(self, report: VerificationReport) -> str:
        """Write a report, as text and as JSON; its key. One that is there already is left."""
        self._write(self._key(report.digest, "txt"), report.text() + "\n")
        key = self._key(report.digest, "json")
        self._write(key, json.dumps(report.document(), indent=1))
        return key

    def read(self, digest: str) -> VerificationReport:
        """The report of that digest; LineageBroken when it is missing or was changed."""
        key = self._key(digest, "json")
        found = self.objects.read(key)
        if found is None:
            raise LineageBroken(f"the report {key} is missing", next_step="verify again: lancemig verify")
        try:
            return read_report(json.loads(found.body), digest)
        except ValueError as error:
            raise LineageBroken(f"the report {key} is not valid JSON: {error}") from error

    def _write(self, key: str, text: str) -> None:
        outcome = self.objects.write_if(key, text.encode(), None)
        if isinstance(outcome, PreconditionFailed) and outcome.found and outcome.found.body != text.encode():
            raise StoreError(
                f"the report {key} already exists with different content", next_step=f"inspect {key}"
            )

    def _key(self, digest: str, kind: str) -> str:
        return f"{self.folder}{digest[:16]}.{kind}"
