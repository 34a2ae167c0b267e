"""The live catalog against what its files, or the versions that its lineage names, say of it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lancemig.catalog.drift import (
    FOREIGN_COMMIT,
    LOG_GONE,
    NOT_COMPARED,
    ROWS_EDITED,
    TABLE_ADDED,
    TABLE_DROPPED,
    drift,
)
from lancemig.catalog.findings import Finding, Level
from lancemig.catalog.lineage import Action, LineageEntry, Place
from lancemig.catalog.schema import TableSchema
from lancemig.commands.opening import Catalog
from lancemig.errors import PlanError
from lancemig.script.loader import replay
from lancemig.store.tables import Commit, Table

LOOKED_BACK, GLANCED_BACK = 100, 20
"""So many commits of a table are looked at, the newest: of one that differs, and of any other.

Each is three requests to an object store.
"""

_EDITS = ("Update", "Delete", "DataReplacement", "DataOverlay", "Overwrite", "Restore")
_SCHEMA_STAYS = ("Append", "Update", "Delete", "Rewrite", "ReserveFragments", "DataReplacement")
_FIXES = "put it back by hand, or write a revision that says so and stamp it"

_SETTLED = "once that is put right: lancemig stamp current, from where on commits are looked at"


@dataclass(frozen=True)
class Expected:
    """What the live tables should be: their schemas by the files, and their versions by the lineage.

    A table that the files do not tell of is as its version in the lineage was.
    """

    catalog: Catalog
    place: Place
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
    catalog: Catalog, place: Place, entries: Sequence[LineageEntry], *, by_files: bool = True
) -> Expected:
    """What the live catalog should look like; `by_files` unless those are known to be other ones."""
    told: Mapping[str, TableSchema] = {}
    if by_files and place.revision is not None and catalog.line.knows(place.revision):
        try:
            told = replay(catalog.migrations(catalog.line.upto(place.revision))).tables
        except PlanError:
            # The files do not reach back to an empty catalog.
            told = {}
    entry = next((entry for entry in entries if _tells_versions(entry, place)), None)
    changes = entry.tables if entry else ()
    versions = {one.table: one.version_after for one in changes if one.version_after is not None}
    return Expected(catalog, place, told, versions)


def _tells_versions(entry: LineageEntry, place: Place) -> bool:
    # What a reconciliation names are the versions of the root that was left.
    return bool(entry.tables) and entry.target.prefix == place.prefix and entry.action != Action.RECONCILE


def drifted(wanted: Expected) -> list[Finding]:
    """How the live catalog differs, table by table; of rows, who else changed some. Reads no rows."""
    tables, prefix = wanted.catalog.store.tables, wanted.place.prefix
    if wanted.unknown and not tables.folders(prefix):
        return []
    if wanted.unknown:
        said = "neither files nor lineage tell what the live catalog should look like"
        return [_info(NOT_COMPARED, said, "lancemig stamp REVISION, or lancemig baseline -m MESSAGE")]
    found = tables.look(prefix, lambda table: _looked_at(wanted, table))
    gone = {*wanted.told, *wanted.versions} - set(found)
    missing = [_error(TABLE_DROPPED, f"{name}: the table is gone") for name in sorted(gone)]
    return [*missing, *(finding for name in sorted(found) for finding in found[name])]


def _looked_at(wanted: Expected, table: Table) -> list[Finding]:
    name = table.name
    if name not in wanted.told and name not in wanted.versions:
        return [_error(TABLE_ADDED, f"{name}: the table was added")]
    schema = wanted.of(name)
    if schema is None:
        said = f"{name}: version {wanted.versions[name]}, which the lineage names, has been cleaned away"
        return [_info(NOT_COMPARED, said)]
    differences = drift(schema, table.schema())
    found = [(_info if one.harmless else _error)(one.code, f"{name}: {one.said}") for one in differences]
    return [*found, *_by_others(wanted, table, changed=bool(differences))]


def _by_others(wanted: Expected, table: Table, *, changed: bool) -> Iterator[Finding]:
    """What others have committed since the version that the lineage names."""
    since = wanted.versions.get(table.name, table.version)
    first = max(since, table.version - (LOOKED_BACK if changed else GLANCED_BACK))
    log = wanted.catalog.store.tables.search(table, first)
    others = [commit for commit in log.commits if commit.stamp is None]
    suspects = [commit for commit in others if commit.operation not in _SCHEMA_STAYS]
    yield from _schema_changes(wanted, table, suspects)
    edits = [commit for commit in others if commit.operation in _EDITS]
    if edits:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(e.operation for e in edits).items())
        where = (
            f"versions {edits[0].version} to {edits[-1].version}"
            if edits[1:]
            else f"version {edits[0].version}"
        )
        yield _info(ROWS_EDITED, f"{table.name}: rows were changed by another writer: {kinds} in {where}")
    unseen = first - since + len(log.missing)
    if changed and unseen:
        said = f"{table.name}: {unseen} commits since version {since} were not looked at, or are cleaned away"
        yield _info(LOG_GONE, said)


def _schema_changes(wanted: Expected, table: Table, suspects: Sequence[Commit]) -> Iterator[Finding]:
    made: Mapping[int, datetime] = {}
    tables = wanted.catalog.store.tables
    for commit in suspects:
        before, after = (tables.find(table.root, table.name, commit.version - at) for at in (1, 0))
        if before is None or after is None:
            continue
        differences = drift(before.schema(), after.schema())
        changes = "; ".join(one.said for one in differences if not one.harmless)
        if changes:
            made = made or table.made()
            at = f"{made[commit.version]:%Y-%m-%dT%H:%M:%SZ}" if commit.version in made else "an unknown time"
            told = ", ".join(f"{key}={value}" for key, value in commit.properties.items()) or "none"
            yield _error(
                FOREIGN_COMMIT,
                f"{table.name}: version {commit.version} of {at} is not ours ({commit.operation}, "
                f"properties: {told}): {changes}",
            )


def _error(code: str, said: str) -> Finding:
    return Finding(code=code, message=said, next_step=_SETTLED if code == FOREIGN_COMMIT else _FIXES)


def _info(code: str, said: str, step: str = "") -> Finding:
    return Finding(code=code, message=said, next_step=step, level=Level.INFO)
