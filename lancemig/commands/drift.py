"""Drift: the live tables compared with their expected state, from the files or from the lineage."""

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
"""How many of the newest commits are examined: of a table that differs, and of any other table.

Each commit costs three requests to an object store.
"""

FEW_ROWS = 1000
"""So many rows outside an index are read without a noticeable delay."""

_EDITS = ("Update", "Delete", "DataReplacement", "DataOverlay", "Overwrite", "Restore")
_SCHEMA_STAYS = ("Append", "Update", "Delete", "Rewrite", "ReserveFragments", "DataReplacement")
_SETTLED = "fix the difference, then: lancemig stamp current (later checks start there)"


@dataclass(frozen=True)
class ForeignCommits:
    """What the commits of other writers to a table mean."""

    differences: tuple[Difference, ...]
    """Differences that only the versions show, not the files."""

    findings: tuple[Finding, ...]
    """Findings about the commits themselves."""


def foreign_commits(
    tables: Tables, table: Table, since: int, differences: Sequence[Difference]
) -> ForeignCommits:
    """Examine what other writers committed since version `since`, which the lineage names.

    A commit that changed the schema is an error while the schema differs, and a warning once it is right
    again, because values may have been lost in between.

    Args:
        tables: The tables of the store.
        table: The live table.
        since: The version after the last lineage entry.
        differences: The differences of the schema that are known already.
    """
    if table.version < since:
        return ForeignCommits((), (_recreated(table, since),))
    seen = _ForeignLog(tables, table, since, differences)
    return ForeignCommits(seen.differences, tuple(seen.findings()))


def _recreated(table: Table, since: int) -> Finding:
    message = (
        f"the table was recreated: it is at version {table.version}, but the live revision ended at "
        f"version {since}"
    )
    return Finding(code=Code.TABLE_RESTORED, message=f"{table.name}: {message}", next_step=_RESTORE_RECREATED)


_RESTORE_RECREATED = "restore it from a backup; or, if its rows are correct: lancemig stamp current"


class _ForeignLog:
    """The newest commits of other writers to one table."""

    def __init__(self, tables: Tables, table: Table, since: int, known: Sequence[Difference]) -> None:
        self.tables, self.table, self.since, self.known = tables, table, since, known
        self.first = max(since, table.version - (LOOKED_BACK if known else GLANCED_BACK))
        self.log = tables.search(table, self.first)
        self.others = [commit for commit in self.log.commits if commit.stamp is None]
        self.suspects = [commit for commit in self.others if commit.operation not in _SCHEMA_STAYS]

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        """Changed parameters of indices that no file declares; they were Lance's defaults before."""
        then = self.tables.find(self.table.root, self.table.name, self.since) if self.suspects else None
        if then is None:
            return ()
        found = [
            difference
            for difference in drift(then.schema(), self.table.schema())
            if difference.code == Code.INDEX_CHANGED
        ]
        return tuple(difference for difference in found if difference not in self.known)

    @cached_property
    def commit_times(self) -> Mapping[int, datetime]:
        return self.table.made()

    def findings(self) -> Iterator[Finding]:
        for commit in self.suspects:
            changes = self._schema_changes(commit)
            if changes:
                yield self._schema_finding(commit, changes)
        yield from self._restored()
        yield from self._edited_rows()
        unseen = self.first - self.since + len(self.log.missing)
        if unseen and (self.known or self.differences):
            commits = "1 commit" if unseen == 1 else f"{unseen} commits"
            message = (
                f"{commits} since version {self.since} could not be checked: too many, or removed by cleanup"
            )
            yield self._info(Code.LOG_INCOMPLETE, message)

    def _schema_changes(self, commit: Commit) -> str:
        name, root = self.table.name, self.table.root
        before, after = (self.tables.find(root, name, commit.version - at) for at in (1, 0))
        if before is None or after is None:
            return ""
        return "; ".join(
            difference.message
            for difference in drift(before.schema(), after.schema())
            if not difference.harmless
        )

    def _schema_finding(self, commit: Commit, changes: str) -> Finding:
        message = f"{self._describe(commit)}: {changes}"
        if any(not difference.harmless for difference in (*self.known, *self.differences)):
            return Finding(code=Code.FOREIGN_COMMIT, message=message, next_step=_SETTLED)
        return Finding(
            code=Code.FOREIGN_COMMIT,
            message=f"{message}; reverted since",
            next_step="check that no values were lost, then: lancemig stamp current",
            level=Level.WARNING,
        )

    def _restored(self) -> Iterator[Finding]:
        restores = [commit for commit in self.others if commit.back_to is not None]
        last = restores[-1] if restores else None
        if last is None or last.back_to is None or last.back_to >= self.since:
            return
        message = f"it restored version {last.back_to}, from before the live revision"
        yield Finding(
            code=Code.TABLE_RESTORED,
            message=f"{self._describe(last)}: {message}",
            next_step=f"restore version {last.version - 1} by hand if nobody has written since; or stamp the "
            "revision that the table is at: lancemig stamp REVISION",
        )

    def _edited_rows(self) -> Iterator[Finding]:
        edits = [commit for commit in self.others if commit.operation in _EDITS]
        if not edits:
            return
        counted = Counter(edit.operation for edit in edits)
        kinds = ", ".join(f"{count} {kind}" for kind, count in counted.items())
        first, last = edits[0].version, edits[-1].version
        where = f"version {first}" if first == last else f"versions {first} to {last}"
        yield self._info(Code.ROWS_EDITED, f"rows were changed by another writer: {kinds} in {where}")

    def _describe(self, commit: Commit) -> str:
        when = self.commit_times.get(commit.version)
        at = f"{when:%Y-%m-%dT%H:%M:%SZ}" if when else "an unknown time"
        properties = ", ".join(f"{key}={value}" for key, value in sorted(commit.properties.items())) or "none"
        return (
            f"{self.table.name}: version {commit.version} of {at} was not committed by lancemig "
            f"({commit.operation}, properties: {properties})"
        )

    def _info(self, code: Code, message: str) -> Finding:
        return Finding(code=code, message=f"{self.table.name}: {message}")


_DEFINE = "lancemig stamp REVISION, or lancemig baseline -m MESSAGE"
_REVERT = "revert the change by hand, or add a revision that describes it and stamp it"
_STEPS = {
    Code.TABLE_ADDED: "add a revision that creates it and stamp it, or drop it by hand",
    Code.TABLE_DROPPED: "restore it from a backup, or add a revision that drops it and stamp it",
    Code.UNREADABLE: "restore the table from a backup, or move its folder away",
}
"""The next step for a difference; for all others `_REVERT`."""


@dataclass(frozen=True)
class Expected:
    """The expected state of the live tables."""

    catalog: Catalog

    active: RootRevision
    """The live root and its revision."""

    schemas: Mapping[str, TableSchema]
    """The schema of each table that the files create."""

    versions: Mapping[str, int]
    """The version of each table after the last lineage entry; it defines tables that no file creates."""

    @property
    def unknown(self) -> bool:
        """Whether neither files nor lineage define the expected state of the catalog."""
        return not self.schemas and not self.versions

    def of(self, name: str) -> TableSchema | None:
        """The expected schema of a table; None if it is not known any more."""
        tables = self.catalog.store.tables
        if name in self.schemas:
            return self.schemas[name]
        then = tables.find(self.active.prefix, name, self.versions[name])
        return None if then is None else then.schema()


def expected(
    catalog: Catalog, active: RootRevision, entries: Sequence[LineageEntry], *, by_files: bool = True
) -> Expected:
    """Determine the expected state of the live tables.

    Args:
        catalog: The catalog.
        active: The live root and its revision.
        entries: The lineage, newest first.
        by_files: False if the files are not those that were applied.
    """
    schemas: Mapping[str, TableSchema] = {}
    if by_files and active.revision is not None and catalog.chain.knows(active.revision):
        try:
            schemas = replay(catalog.migrations(catalog.chain.upto(active.revision))).tables
        except PlanError:
            # The files do not reach back to an empty catalog.
            schemas = {}
    entry = next((entry for entry in entries if _has_versions(entry, active)), None)
    changes = entry.tables if entry else ()
    versions = {change.table: change.version_after for change in changes if change.version_after is not None}
    return Expected(catalog, active, schemas, versions)


def _has_versions(entry: LineageEntry, active: RootRevision) -> bool:
    # What a reconciliation names are the versions of the root that was left.
    return bool(entry.tables) and entry.target.prefix == active.prefix and entry.action != Action.RECONCILE


def drift_findings(expectation: Expected) -> list[Finding]:
    """Compare the live tables with their expected state. Reads no rows."""
    tables, prefix = expectation.catalog.store.tables, expectation.active.prefix
    if expectation.unknown and not tables.folders(prefix):
        return []
    if expectation.unknown:
        message = "neither the files nor the lineage define the expected schema of the live catalog"
        return [Finding(code=Code.NOT_COMPARED, message=message, next_step=_DEFINE)]
    found = tables.look(prefix, lambda table: _compare_table(expectation, table), _unreadable)
    dropped = sorted({*expectation.schemas, *expectation.versions} - set(found))
    folders = set(tables.folders(prefix)) if dropped else set()
    missing = [_finding(Code.TABLE_DROPPED, _missing(name, empty=name in folders)) for name in dropped]
    return [*missing, *(finding for name in sorted(found) for finding in found[name])]


def _missing(name: str, *, empty: bool) -> str:
    return f"{name}: the table is missing" + (", and its folder has no version of it" if empty else "")


def _unreadable(name: str, error: Damaged) -> list[Finding]:
    return [_finding(Code.UNREADABLE, f"{name}: {error.message}")]


def _compare_table(expectation: Expected, table: Table) -> list[Finding]:
    name = table.name
    if name not in expectation.schemas and name not in expectation.versions:
        difference = added_table(name)
        return [_finding(difference.code, difference.message)]
    schema = expectation.of(name)
    if schema is None:
        message = (
            f"{name}: version {expectation.versions[name]}, recorded in the lineage, was removed by cleanup"
        )
        return [_finding(Code.NOT_COMPARED, message)]
    differences = drift(schema, table.schema())
    since = expectation.versions.get(name, table.version)
    history = foreign_commits(expectation.catalog.store.tables, table, since, differences)
    all_of_them = [*differences, *history.differences]
    found = [_finding(difference.code, f"{name}: {difference.message}") for difference in all_of_them]
    least = expectation.catalog.settings.min_index_coverage
    return [*found, *history.findings, *_uncovered(table, least)]


def _uncovered(table: Table, least: float) -> Iterator[Finding]:
    """The indices that cover less than the share `least` of the rows, where that makes a search slow."""
    rows = table.count()
    for name, left_out in sorted(table.uncovered().items()):
        if left_out >= FEW_ROWS and rows - left_out < least * rows:
            covers = f"covers {rows - left_out:,} of {rows:,} rows"
            message = f"{table.name}: index {name} {covers}; searches read the other rows"
            step = f'add OptimizeIndices(table="{table.name}") to a revision, or call optimize() of LanceDB'
            yield Finding(code=Code.INDEX_COVERAGE, message=message, next_step=step)


def _finding(code: Code, message: str) -> Finding:
    step = "" if code.level is Level.INFO else _STEPS.get(code, _REVERT)
    return Finding(code=code, message=message, next_step=step)
