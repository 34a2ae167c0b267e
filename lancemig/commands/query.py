"""The verbs that ask a catalog by SQL, as it is or as a revision left it."""

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
    """The versions of all tables as `revision` left them, in the root at `prefix`, by a lineage entry."""

    revision: str
    prefix: str
    versions: dict[str, int]
    entry: str

    def find(self, catalog: Catalog, name: str) -> Table:
        """A pinned handle on a table as it was then; PlanError where it was not, or is no longer, there."""
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
        """Pinned handles on the tables as they were then, and why the others cannot be opened any more."""
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
    """What the revision that `text` names left when it was last applied to this catalog.

    `text` is a revision in the lineage; or what targets are where the files are there, so `head`, or a
    unique prefix. Raises PlanError for a revision that never was live here, and for one whose versions the
    lineage does not tell, as after a stamp; ScriptError for what names no revision.
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
    """The revision that `text` names: as the lineage has it, or by the files where there are any."""
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
    """What `sql` gives over all tables, each at one version; of its rows, `limit` at most are kept."""
    tables, absent = _tables(catalog, at)
    return run_query(tables, sql, limit=limit, absent=absent)


def audit(catalog: Catalog, at: str | None = None) -> list[CheckResult]:
    """The outcome of the standing checks of lancemig.ini and of the models, all over the same versions."""
    checks = standing_checks(catalog.settings)
    if not checks:
        return []
    tables, absent = _tables(catalog, at)
    return run_checks(tables, checks, absent=absent)


def _tables(catalog: Catalog, at: str | None) -> tuple[Mapping[str, Table], Mapping[str, str]]:
    """The tables now, or as a revision left them; and why some of those cannot be opened any more."""
    if at is not None:
        return past_state(catalog, at).tables(catalog)
    return catalog.store.tables.newest(catalog.active(catalog.seen()).prefix), {}
