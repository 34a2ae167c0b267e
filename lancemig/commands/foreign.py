"""What others have committed to a table since the live revision left it: named, dated, and how bad it is."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from lancemig.catalog.drift import (
    FOREIGN_COMMIT,
    INDEX_CHANGED,
    LOG_GONE,
    ROWS_EDITED,
    TAKEN_BACK,
    Difference,
    drift,
)
from lancemig.catalog.findings import Finding, Level
from lancemig.store.tables import Commit, Table, Tables

LOOKED_BACK, GLANCED_BACK = 100, 20
"""So many commits of a table are looked at, the newest: of one that differs, and of any other.

Each is three requests to an object store.
"""

_EDITS = ("Update", "Delete", "DataReplacement", "DataOverlay", "Overwrite", "Restore")
_SCHEMA_STAYS = ("Append", "Update", "Delete", "Rewrite", "ReserveFragments", "DataReplacement")
_SETTLED = "fix the difference, then: lancemig stamp current (later checks start there)"


@dataclass(frozen=True)
class Foreign:
    """Differences that only the versions show, not the files; and what is to be said of the commits."""

    differences: tuple[Difference, ...]
    findings: tuple[Finding, ...]


def by_others(tables: Tables, table: Table, since: int, differences: Sequence[Difference]) -> Foreign:
    """What others have committed since version `since`, which the lineage names.

    `differences` are known already. Commits that changed the schema are errors as long as it differs, and
    warnings once it is what it was: values may have been lost on the way.
    """
    if table.version < since:
        return Foreign((), (_made_anew(table, since),))
    seen = _Seen(tables, table, since, differences)
    return Foreign(seen.differences, tuple(seen.findings()))


def _made_anew(table: Table, since: int) -> Finding:
    said = (
        f"the table was recreated: it is at version {table.version}, but the live revision ended at "
        f"version {since}"
    )
    return Finding(code=TAKEN_BACK, message=f"{table.name}: {said}", next_step=_REMADE)


_REMADE = "restore it from a backup; or, if its rows are correct: lancemig stamp current"


class _Seen:
    """The commits of others, as far as they are looked at."""

    def __init__(self, tables: Tables, table: Table, since: int, known: Sequence[Difference]) -> None:
        self.tables, self.table, self.since, self.known = tables, table, since, known
        self.first = max(since, table.version - (LOOKED_BACK if known else GLANCED_BACK))
        self.log = tables.search(table, self.first)
        self.others = [commit for commit in self.log.commits if commit.stamp is None]
        self.suspects = [commit for commit in self.others if commit.operation not in _SCHEMA_STAYS]

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Parameters of indices that no file names: Lance's defaults once, others now."""
        then = self.tables.find(self.table.root, self.table.name, self.since) if self.suspects else None
        if then is None:
            return ()
        found = [one for one in drift(then.schema(), self.table.schema()) if one.code == INDEX_CHANGED]
        return tuple(one for one in found if one not in self.known)

    @cached_property
    def made(self) -> Mapping[int, datetime]:
        return self.table.made()

    def findings(self) -> Iterator[Finding]:
        for commit in self.suspects:
            changes = self._changes(commit)
            if changes:
                yield self._changed(commit, changes)
        yield from self._taken_back()
        yield from self._edited()
        unseen = self.first - self.since + len(self.log.missing)
        if unseen and (self.known or self.differences):
            commits = "1 commit" if unseen == 1 else f"{unseen} commits"
            said = (
                f"{commits} since version {self.since} could not be checked: too many, or removed by cleanup"
            )
            yield self._info(LOG_GONE, said)

    def _changes(self, commit: Commit) -> str:
        name, root = self.table.name, self.table.root
        before, after = (self.tables.find(root, name, commit.version - at) for at in (1, 0))
        if before is None or after is None:
            return ""
        return "; ".join(one.said for one in drift(before.schema(), after.schema()) if not one.harmless)

    def _changed(self, commit: Commit, changes: str) -> Finding:
        said = f"{self._not_ours(commit)}: {changes}"
        if any(not one.harmless for one in (*self.known, *self.differences)):
            return Finding(code=FOREIGN_COMMIT, message=said, next_step=_SETTLED)
        return Finding(
            code=FOREIGN_COMMIT,
            message=f"{said}; reverted since",
            next_step="check that no values were lost, then: lancemig stamp current",
            level=Level.WARNING,
        )

    def _taken_back(self) -> Iterator[Finding]:
        restores = [commit for commit in self.others if commit.back_to is not None]
        last = restores[-1] if restores else None
        if last is None or last.back_to is None or last.back_to >= self.since:
            return
        said = f"it restored version {last.back_to}, from before the live revision"
        yield Finding(
            code=TAKEN_BACK,
            message=f"{self._not_ours(last)}: {said}",
            next_step=f"restore version {last.version - 1} by hand if nobody has written since; or stamp the "
            "revision that the table is at: lancemig stamp REVISION",
        )

    def _edited(self) -> Iterator[Finding]:
        edits = [commit for commit in self.others if commit.operation in _EDITS]
        if not edits:
            return
        counted = Counter(edit.operation for edit in edits)
        kinds = ", ".join(f"{count} {kind}" for kind, count in counted.items())
        first, last = edits[0].version, edits[-1].version
        where = f"version {first}" if first == last else f"versions {first} to {last}"
        yield self._info(ROWS_EDITED, f"rows were changed by another writer: {kinds} in {where}")

    def _not_ours(self, commit: Commit) -> str:
        when = self.made.get(commit.version)
        at = f"{when:%Y-%m-%dT%H:%M:%SZ}" if when else "an unknown time"
        told = ", ".join(f"{key}={value}" for key, value in sorted(commit.properties.items())) or "none"
        return (
            f"{self.table.name}: version {commit.version} of {at} was not committed by lancemig "
            f"({commit.operation}, properties: {told})"
        )

    def _info(self, code: str, said: str) -> Finding:
        return Finding(code=code, message=f"{self.table.name}: {said}", level=Level.INFO)
