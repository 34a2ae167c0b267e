"""The live catalog against what its files, or the versions that its lineage names, say of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from lancemig.catalog.drift import Difference, added_table, drift
from lancemig.catalog.findings import Code, Finding, Level
from lancemig.catalog.lineage import Action, LineageEntry, RootRevision
from lancemig.catalog.schema import TableSchema
from lancemig.commands.context import Catalog
from lancemig.errors import PlanError
from lancemig.revisions.loader import replay
from lancemig.store.lance import Commit, Damaged, Table, Tables

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
    return Finding(code=Code.TABLE_RESTORED, message=f"{table.name}: {said}", next_step=_REMADE)


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
        found = [one for one in drift(then.schema(), self.table.schema()) if one.code == Code.INDEX_CHANGED]
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
            yield self._info(Code.LOG_INCOMPLETE, said)

    def _changes(self, commit: Commit) -> str:
        name, root = self.table.name, self.table.root
        before, after = (self.tables.find(root, name, commit.version - at) for at in (1, 0))
        if before is None or after is None:
            return ""
        return "; ".join(one.message for one in drift(before.schema(), after.schema()) if not one.harmless)

    def _changed(self, commit: Commit, changes: str) -> Finding:
        said = f"{self._not_ours(commit)}: {changes}"
        if any(not one.harmless for one in (*self.known, *self.differences)):
            return Finding(code=Code.FOREIGN_COMMIT, message=said, next_step=_SETTLED)
        return Finding(
            code=Code.FOREIGN_COMMIT,
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
            code=Code.TABLE_RESTORED,
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
        yield self._info(Code.ROWS_EDITED, f"rows were changed by another writer: {kinds} in {where}")

    def _not_ours(self, commit: Commit) -> str:
        when = self.made.get(commit.version)
        at = f"{when:%Y-%m-%dT%H:%M:%SZ}" if when else "an unknown time"
        told = ", ".join(f"{key}={value}" for key, value in sorted(commit.properties.items())) or "none"
        return (
            f"{self.table.name}: version {commit.version} of {at} was not committed by lancemig "
            f"({commit.operation}, properties: {told})"
        )

    def _info(self, code: Code, said: str) -> Finding:
        return Finding(code=code, message=f"{self.table.name}: {said}")


_DEFINE = "lancemig stamp REVISION, or lancemig baseline -m MESSAGE"
_MENDED = "revert the change by hand, or add a revision that describes it and stamp it"
_STEPS = {
    Code.TABLE_ADDED: "add a revision that creates it and stamp it, or drop it by hand",
    Code.TABLE_DROPPED: "restore it from a backup, or add a revision that drops it and stamp it",
    Code.UNREADABLE: "restore the table from a backup, or move its folder away",
}
"""What is to be done about a difference."""


@dataclass(frozen=True)
class Expected:
    """What the live tables should be: their schemas by the files, and their versions by the lineage.

    A table that the files do not tell of is as its version in the lineage was.
    """

    catalog: Catalog
    place: RootRevision
    told: Mapping[str, TableSchema]
    versions: Mapping[str, int]

    @property
    def unknown(self) -> bool:
        """Whether nothing says what the catalog should look like."""
        return not self.told and not self.versions

    def of(self, name: str) -> TableSchema | None:
        """What a table should be; None where nobody can tell any more."""
        tables = self.catalog.store.tables
        if name in self.told:
            return self.told[name]
        then = tables.find(self.place.prefix, name, self.versions[name])
        return None if then is None else then.schema()


def expected(
    catalog: Catalog, place: RootRevision, entries: Sequence[LineageEntry], *, by_files: bool = True
) -> Expected:
    """What the live catalog should look like; `by_files` unless those are known to be other ones."""
    told: Mapping[str, TableSchema] = {}
    if by_files and place.revision is not None and catalog.chain.knows(place.revision):
        try:
            told = replay(catalog.migrations(catalog.chain.upto(place.revision))).tables
        except PlanError:
            # The files do not reach back to an empty catalog.
            told = {}
    entry = next((entry for entry in entries if _tells_versions(entry, place)), None)
    changes = entry.tables if entry else ()
    versions = {one.table: one.version_after for one in changes if one.version_after is not None}
    return Expected(catalog, place, told, versions)


def _tells_versions(entry: LineageEntry, place: RootRevision) -> bool:
    # What a reconciliation names are the versions of the root that was left.
    return bool(entry.tables) and entry.target.prefix == place.prefix and entry.action != Action.RECONCILE


def drifted(wanted: Expected) -> list[Finding]:
    """How the live catalog differs, table by table; of rows, who else changed some. Reads no rows."""
    tables, prefix = wanted.catalog.store.tables, wanted.place.prefix
    if wanted.unknown and not tables.folders(prefix):
        return []
    if wanted.unknown:
        said = "neither the files nor the lineage define the expected schema of the live catalog"
        return [Finding(code=Code.NOT_COMPARED, message=said, next_step=_DEFINE)]
    found = tables.look(prefix, lambda table: _looked_at(wanted, table), _unreadable)
    gone = sorted({*wanted.told, *wanted.versions} - set(found))
    left = set(tables.folders(prefix)) if gone else set()
    missing = [_finding(Code.TABLE_DROPPED, _gone(name, empty=name in left)) for name in gone]
    return [*missing, *(finding for name in sorted(found) for finding in found[name])]


def _gone(name: str, *, empty: bool) -> str:
    return f"{name}: the table is missing" + (", and its folder has no version of it" if empty else "")


def _unreadable(name: str, error: Damaged) -> list[Finding]:
    return [_finding(Code.UNREADABLE, f"{name}: {error.message}")]


def _looked_at(wanted: Expected, table: Table) -> list[Finding]:
    name = table.name
    if name not in wanted.told and name not in wanted.versions:
        one = added_table(name)
        return [_finding(one.code, one.message)]
    schema = wanted.of(name)
    if schema is None:
        said = f"{name}: version {wanted.versions[name]}, recorded in the lineage, was removed by cleanup"
        return [_finding(Code.NOT_COMPARED, said)]
    differences = drift(schema, table.schema())
    since = wanted.versions.get(name, table.version)
    history = by_others(wanted.catalog.store.tables, table, since, differences)
    all_of_them = [*differences, *history.differences]
    found = [_finding(one.code, f"{name}: {one.message}") for one in all_of_them]
    return [*found, *history.findings]


def _finding(code: Code, message: str) -> Finding:
    step = "" if code.level is Level.INFO else _STEPS.get(code, _MENDED)
    return Finding(code=code, message=message, next_step=step)
