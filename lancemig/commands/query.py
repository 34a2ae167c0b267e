"""`query` and `audit`: SQL over the tables, as they are or as a revision left them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lancemig.apply.checks import run_checks
from lancemig.catalog.lineage import CheckResult, LineageEntry
from lancemig.catalog.value import format_root
from lancemig.commands.context import Catalog
from lancemig.commands.models import standing_checks
from lancemig.errors import ConfigError, PlanError, ScriptError
from lancemig.revisions.header import did_you_mean
from lancemig.store.lance import QueryResult, Table, parallel_map, run_query
from lancemig.store.pointer import PointerRead

_SEE = "lancemig history --lineage"


@dataclass(frozen=True)
class PastState:
    """The versions of all tables as a revision left them, according to a lineage entry."""

    revision: str

    prefix: str
    """The root of the tables."""

    versions: dict[str, int]
    """The version of each table."""

    entry: str
    """The id of the lineage entry."""

    def find(self, catalog: Catalog, name: str) -> Table:
        """Open a table at its version.

        Raises:
            PlanError: The table did not exist then, or the version was removed.
        """
        if name not in self.versions:
            suggestion = (
                did_you_mean(name, self.versions) or f"; tables: {', '.join(self.versions) or 'none'}"
            )
            raise PlanError(f"revision {self.revision} had no table {name!r}{suggestion}", next_step=_SEE)
        found = catalog.store.tables.find(self.prefix, name, self.versions[name])
        if found is None:
            raise PlanError(f"{name}: {self._why_missing(catalog, name)}", next_step=f"{_SEE} -v")
        return found

    def tables(self, catalog: Catalog) -> tuple[dict[str, Table], dict[str, str]]:
        """Open all tables at their versions; returns why others cannot be opened, by name."""
        opened = parallel_map(
            lambda item: catalog.store.tables.find(self.prefix, *item), self.versions.items()
        )
        found = {table.name: table for table in opened if table is not None}
        return found, {name: self._why_missing(catalog, name) for name in self.versions if name not in found}

    def _why_missing(self, catalog: Catalog, name: str) -> str:
        if catalog.store.tables.find(self.prefix, name) is None:
            return (
                f"at revision {self.revision} it was in {format_root(self.prefix)}, where it no longer exists"
            )
        version = f"version {self.versions[name]} of revision {self.revision}"
        return f"{version} was removed by cleanup; it was not guarded"


def past_state(catalog: Catalog, text: str) -> PastState:
    """Find what a revision left when it was last applied to this catalog.

    Args:
        catalog: The catalog.
        text: A revision in the lineage, a unique prefix, or another target except `base`.

    Raises:
        PlanError: The revision was never live here, or the lineage does not have its versions, as after a
            stamp.
        ScriptError: `text` names no revision.
    """
    if catalog.settings.resolution == "pinned":
        raise ConfigError(
            f"{catalog.settings.path.name} [{catalog.settings.name}] has resolution = pinned, which "
            "has no lineage to go back in",
            next_step="use a section with resolution = pointer: lancemig -n NAME …",
        )
    seen = catalog.seen()
    entries = list(catalog.store.pointers.chain(seen.pointer))
    arrivals = [entry for entry in entries if entry.origin != entry.target]
    revision = _resolve(catalog, text, arrivals, seen)
    entry = next((entry for entry in arrivals if entry.target.revision == revision), None)
    if entry is None:
        raise _never_live(revision, entries)
    if not entry.tables:
        raise PlanError(
            f"lineage entry {entry.id} ({entry.action}) set revision {revision} without reading the "
            "tables, so their versions are unknown",
            next_step=_SEE,
        )
    versions = {c.table: c.version_after for c in entry.tables if c.version_after is not None}
    return PastState(revision=revision, prefix=entry.target.prefix, versions=versions, entry=entry.id)


def _resolve(catalog: Catalog, text: str, arrivals: Sequence[LineageEntry], seen: PointerRead) -> str:
    """Resolve a target from the lineage, or from the files if there are any."""
    applied = {entry.target.revision for entry in arrivals if entry.target.revision is not None}
    if text in applied:
        return text
    if not catalog.settings.script_location.is_dir():
        # A program that uses the catalog need not have the files.
        return _by_prefix(text, applied)
    found = catalog.chain.resolve(text, catalog.active(seen).revision)
    if found is None:
        raise ScriptError("base is the catalog before the first revision; it has no tables", next_step=_SEE)
    return found


def _by_prefix(text: str, applied: Iterable[str]) -> str:
    matching = [revision for revision in applied if text and revision.startswith(text)]
    if len(matching) != 1:
        problem = (
            f"{len(matching)} revisions start with {text!r}" if matching else f"no revision is named {text!r}"
        )
        raise ScriptError(f"{problem} in the lineage{did_you_mean(text, applied)}", next_step=_SEE)
    return matching[0]


def _never_live(revision: str, entries: Sequence[LineageEntry]) -> PlanError:
    ups = [entry for entry in entries if entry.direction == "up"]
    applied_by = next((e for e in ups if revision in {m.revision for m in e.migrations}), None)
    if applied_by is not None and applied_by.target.revision is not None:
        last = applied_by.target.revision
        return PlanError(
            f"revision {revision} was never live on its own: it was applied together with {last}",
            next_step=f"use --at {last}; {_SEE} lists the revisions that were live",
        )
    return PlanError(f"revision {revision} was never applied to this catalog", next_step=_SEE)


def query(catalog: Catalog, sql: str, at: str | None = None, limit: int | None = None) -> QueryResult:
    """Run an SQL query over all tables, each at one version; keeps at most `limit` rows."""
    catalog.require_store()
    tables, absent = _tables(catalog, at)
    return run_query(tables, sql, limit=limit, absent=absent)


def audit(catalog: Catalog, at: str | None = None) -> list[CheckResult]:
    """Run the standing checks of lancemig.ini and of the models, all over the same versions."""
    catalog.require_store()
    checks = standing_checks(catalog.settings)
    if not checks:
        return []
    tables, absent = _tables(catalog, at)
    return run_checks(tables, checks, absent=absent)


def _tables(catalog: Catalog, at: str | None) -> tuple[Mapping[str, Table], Mapping[str, str]]:
    """Open the tables, now or as a revision left them; returns why others cannot be opened, by name."""
    if at is not None:
        return past_state(catalog, at).tables(catalog)
    return catalog.store.tables.newest(catalog.active(catalog.seen()).prefix), {}
