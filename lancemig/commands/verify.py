"""`verify`: repeat the verification of a flip, or compare two roots."""

from collections.abc import Iterable
from dataclasses import replace

from lancemig.apply.checks import run_checks
from lancemig.apply.effects.replay import table_paths
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.verify.gates import run_gates
from lancemig.apply.verify.pairs import VerificationInput
from lancemig.apply.verify.verify import tests_gate, variables, verification_report
from lancemig.catalog.lineage import CheckResult, GateOutcome, LineageEntry, RootRevision, VerificationReport
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.value import format_root
from lancemig.commands.context import Catalog
from lancemig.commands.running import on_catalog
from lancemig.commands.work import migrations_of_entry
from lancemig.errors import PlanError
from lancemig.plan.plan import DirectedMigration, upward
from lancemig.revisions.header import Header
from lancemig.store.lance import Table

_SEE = "lancemig history --lineage"


@on_catalog
def verify(
    catalog: Catalog, revision: str | None = None, on_progress: OnProgress = no_progress
) -> VerificationReport:
    """Repeat the verification of the last flip, or of the last flip to `revision`. Writes nothing.

    It reads the guarded versions that the lineage names, so later writes make no difference.

    Raises:
        PlanError: There was no such flip, or a version was removed by a cleanup.
    """
    entry = _flip(catalog, revision)
    migrations = migrations_of_entry(catalog, entry)
    before = _versions(entry, "version_before")
    after = _versions(entry, "version_after")
    old = _open_versions(catalog, entry, entry.origin, before)
    new = _open_versions(catalog, entry, entry.target, after)
    start = CatalogSchema(tables={table.name: table.schema() for table in old})
    inputs = replace(
        _verification_input(catalog, (entry.origin, entry.target), start, migrations, on_progress),
        versions=before,
        after=after,
        seed=entry.run,
    )
    started = catalog.environment.stamp()
    outcomes, versions = run_gates(inputs)
    checks = _checks(entry, migrations, new)
    outcomes += _project_tests(catalog, entry, after)
    times = started, catalog.environment.stamp()
    return verification_report(
        inputs, (entry.origin, entry.target), entry.run, times, (outcomes, checks, versions)
    )


def verify_against(
    catalog: Catalog, prefix: str, on_progress: OnProgress = no_progress
) -> VerificationReport:
    """Compare the live root with the one under `prefix`, both as they are now. Writes nothing.

    If the lineage has the roots at different revisions, the older one must equal the newer one after the
    operations in between. A root that the lineage does not know, such as a copy, must equal the live one.
    """
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    seen = catalog.seen()
    live = catalog.active(seen)
    tables = catalog.store.tables
    other_catalog = tables.live(prefix)
    if prefix == live.prefix or not other_catalog.tables:
        reason = "is the live root itself" if prefix == live.prefix else "has no tables"
        raise PlanError(f"{format_root(prefix)} {reason}; nothing to compare", next_step=_SEE)
    other = RootRevision(prefix=prefix, revision=_revision_of(catalog, prefix, live))
    old, new, between = _ordered(catalog, other, live)
    start = other_catalog if old.prefix == prefix else tables.live(old.prefix)
    inputs = replace(
        _verification_input(
            catalog, (old, new), start.catalog, upward(catalog.migrations(between)), on_progress
        ),
        versions={name: table.version for name, table in start.tables.items()},
        seed=prefix,
    )
    started = catalog.environment.stamp()
    outcomes, versions = run_gates(inputs)
    return verification_report(
        inputs,
        (old, new),
        f"against {format_root(prefix)}",
        (started, catalog.environment.stamp()),
        (outcomes, [], versions),
    )


def _verification_input(
    catalog: Catalog,
    roots: tuple[RootRevision, RootRevision],
    start: CatalogSchema,
    migrations: Iterable[DirectedMigration],
    on_progress: OnProgress,
) -> VerificationInput:
    migrations = list(migrations)
    return VerificationInput(
        tables=catalog.store.tables,
        origin=roots[0].prefix,
        staged=roots[1].prefix,
        start=start,
        paths=table_paths(start, migrations),
        versions={},
        seed="",
        sample=catalog.store.verification.sample,
        tolerances=tuple(
            t for change in migrations if change.direction == "up" for t in change.migration.tolerances
        ),
        on_progress=on_progress,
    )


def _flip(catalog: Catalog, revision: str | None) -> LineageEntry:
    """The lineage entry of the last flip to a rebuilt root, or of the last one to a revision."""
    chain = list(catalog.store.pointers.chain(catalog.seen().pointer))
    flips = [entry for entry in chain if entry.migrations and entry.origin.prefix != entry.target.prefix]
    if revision is None:
        if not flips:
            raise PlanError("no rebuild has been flipped to yet; nothing to verify", next_step=_SEE)
        return flips[0]
    found = catalog.chain.resolve(revision, catalog.active(catalog.seen()).revision)
    for entry in flips:
        if found in {entry.target.revision, *(m.revision for m in entry.migrations)}:
            return entry
    raise PlanError(
        f"revision {found} was never flipped to: in-place migrations are not staged and verified",
        next_step=_SEE,
    )


def _versions(entry: LineageEntry, field: str) -> dict[str, int]:
    found = ((change.table, getattr(change, field)) for change in entry.tables)
    return {table: version for table, version in found if version is not None}


def _open_versions(
    catalog: Catalog, entry: LineageEntry, root: RootRevision, versions: dict[str, int]
) -> list[Table]:
    """Open the tables at these versions.

    Raises:
        PlanError: Some are gone; the message names all of them.
    """
    tables = catalog.store.tables
    found = {name: tables.find(root.prefix, name, version) for name, version in versions.items()}
    missing = [f"{name} at version {versions[name]}" for name, table in found.items() if table is None]
    if missing:
        raise PlanError(
            f"the flip {entry.id} can no longer be verified: {', '.join(missing)} in "
            f"{format_root(root.prefix)} was removed by cleanup",
            next_step="show the report of that flip: lancemig history --lineage -v",
        )
    return [table for table in found.values() if table is not None]


def _checks(
    entry: LineageEntry, migrations: list[DirectedMigration], tables: list[Table]
) -> list[CheckResult]:
    if entry.direction == "down" or not migrations:
        return []
    return run_checks({t.name: t for t in tables}, migrations[-1].migration.checks, when="after")


def _project_tests(catalog: Catalog, entry: LineageEntry, after: dict[str, int]) -> list[GateOutcome]:
    """The project's own tests, if the root is unchanged since: tests cannot read old versions."""
    command, store = catalog.store.verification.command, catalog.store
    if command is None:
        return []
    now = {name: table.version for name, table in store.tables.newest(entry.target.prefix).items()}
    if now != after:
        why = f"{entry.target.prefix} was written to since the flip, and tests would read its current state"
        return [GateOutcome(gate="tests", ok=True, way="not compared", detail=why)]
    return list(tests_gate(command, variables(store, entry.target, entry.run)))


def _revision_of(catalog: Catalog, prefix: str, live: RootRevision) -> str | None:
    """The revision of a root according to the lineage; the live one's if the root is unknown."""
    for entry in catalog.store.pointers.chain(catalog.seen().pointer):
        for root in (entry.target, entry.origin):
            if root.prefix == prefix:
                return root.revision
    return live.revision


def _ordered(
    catalog: Catalog, other: RootRevision, live: RootRevision
) -> tuple[RootRevision, RootRevision, tuple[Header, ...]]:
    """The older root, the newer root, and the revisions in between."""
    if other.revision == live.revision:
        return other, live, ()
    upto = [catalog.chain.upto(root.revision) for root in (other, live)]
    if len(upto[0]) <= len(upto[1]):
        return other, live, upto[1][len(upto[0]) :]
    return live, other, upto[0][len(upto[1]) :]
