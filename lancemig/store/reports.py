"""The reports of proofs, beside the pointer: written once, named by their digest, never changed."""

import json

from lancemig.catalog.proof import Report, read_report
from lancemig.errors import LineageBroken, StoreError
from lancemig.store.objects import Moved, Objects


class Reports:
    """The reports under `folder`: `<head of the sha256>.json`, and the same as text."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self.objects = objects
        self.folder = folder

    def keep(self, report: Report) -> str:
        """Write a report, as text and as JSON; its key. One that is there already is left."""
        self._write(self._key(report.digest, "txt"), report.text() + "\n")
        key = self._key(report.digest, "json")
        self._write(key, json.dumps(report.document(), indent=1))
        return key

    def read(self, digest: str) -> Report:
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
        if isinstance(outcome, Moved) and outcome.found and outcome.found.body != text.encode():
            raise StoreError(
                f"the report {key} already exists with different content", next_step=f"inspect {key}"
            )

    def _key(self, digest: str, kind: str) -> str:
        return f"{self.folder}{digest[:16]}.{kind}"
