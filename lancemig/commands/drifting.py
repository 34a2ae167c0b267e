"""The live catalog against what its files, or the versions that its lineage names, say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lancemig.catalog.drift import (
    NOT_COMPARED,
    TABLE_ADDED,
    TABLE_DROPPED,
    UNREADABLE,
    added_table,
    drift,
)
from lancemig.catalog.findings import Finding, Level
from lancemig.catalog.lineage import Action, LineageEntry, Place
from lancemig.catalog.schema import TableSchema
from lancemig.commands.foreign import by_others
from lancemig.commands.opening import Catalog
from lancemig.errors import PlanError
from lancemig.script.loader import replay
from lancemig.store.tables import Damaged, Table

_MENDED = "revert the change by hand, or add a revision that describes it and stamp it"
_STEPS = {
    TABLE_ADDED: "add a revision that creates it and stamp it, or drop it by hand",
    TABLE_DROPPED: "restore it from a backup, or add a revision that drops it and stamp it",
    UNREADABLE: "restore the table from a backup, or move its folder away",
}
"""What is to be done about a difference."""


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
        said = "neither the files nor the lineage define the expected schema of the live catalog"
        return [_info(NOT_COMPARED, said, "lancemig stamp REVISION, or lancemig baseline -m MESSAGE")]
    found = tables.look(prefix, lambda table: _looked_at(wanted, table), _unreadable)
    gone = sorted({*wanted.told, *wanted.versions} - set(found))
    left = set(tables.folders(prefix)) if gone else set()
    missing = [_error(TABLE_DROPPED, _gone(name, empty=name in left)) for name in gone]
    return [*missing, *(finding for name in sorted(found) for finding in found[name])]


def _gone(name: str, *, empty: bool) -> str:
    return f"{name}: the table is missing" + (", and its folder has no version of it" if empty else "")


def _unreadable(name: str, error: Damaged) -> list[Finding]:
    return [_error(UNREADABLE, f"{name}: {error.message}")]


def _looked_at(wanted: Expected, table: Table) -> list[Finding]:
    name = table.name
    if name not in wanted.told and name not in wanted.versions:
        one = added_table(name)
        return [(_info if one.harmless else _error)(one.code, one.said)]
    schema = wanted.of(name)
    if schema is None:
        said = f"{name}: version {wanted.versions[name]}, recorded in the lineage, was removed by cleanup"
        return [_info(NOT_COMPARED, said)]
    differences = drift(schema, table.schema())
    since = wanted.versions.get(name, table.version)
    history = by_others(wanted.catalog.store.tables, table, since, differences)
    all_of_them = [*differences, *history.differences]
    found = [(_info if one.harmless else _error)(one.code, f"{name}: {one.said}") for one in all_of_them]
    return [*found, *history.findings]


def _error(code: str, said: str) -> Finding:
    return Finding(code=code, message=said, next_step=_STEPS.get(code, _MENDED))


def _info(code: str, said: str, step: str = "") -> Finding:
    return Finding(code=code, message=said, next_step=step, level=Level.INFO)
