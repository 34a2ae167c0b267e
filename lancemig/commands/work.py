"""The operations of files, of a plan, or of a lineage entry; and what live tables carry besides rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lancemig.catalog.lineage import LineageEntry
from lancemig.catalog.operations import CreateTable
from lancemig.catalog.schema import CatalogSchema, LiveCatalog
from lancemig.commands.context import Catalog
from lancemig.commands.squash import originals
from lancemig.errors import LancemigError, PlanError, RunUnfinished
from lancemig.plan.plan import (
    AS_FILED,
    CommitRef,
    DirectedMigration,
    Direction,
    Overrides,
    Plan,
    downward,
    upward,
)
from lancemig.revisions.header import Header
from lancemig.revisions.loader import Migration, replay
from lancemig.store.lance import parallel_map

Names = dict[str, tuple[str, ...]]
"""Names by table."""


def migrations_of_files(
    catalog: Catalog, direction: Direction, headers: tuple[Header, ...], overrides: Overrides
) -> list[DirectedMigration]:
    """The migrations of these files, in the order of execution."""
    migrations = catalog.migrations(headers)
    if direction == "up":
        return upward(migrations, overrides)
    return downward(migrations, _schemas_before(catalog, migrations), overrides)


def migrations_of_plan(catalog: Catalog, plan: Plan) -> list[DirectedMigration]:
    """The migrations of a plan, from the files as they are now.

    Raises:
        RunUnfinished: A file is gone.
    """
    revisions = [migration.revision for migration in plan.migrations]
    headers = {header.revision: header for header in catalog.chain.headers}
    missing = [revision for revision in revisions if revision not in headers]
    if missing:
        raise RunUnfinished(
            f"no file in versions/ has the id {', '.join(missing)} any more",
            next_step="restore the file (git checkout), then run the same command again",
        )
    selected = tuple(headers[revision] for revision in revisions)
    return migrations_of_files(catalog, plan.direction, selected, plan.overrides)


def migrations_of_entry(catalog: Catalog, entry: LineageEntry) -> list[DirectedMigration]:
    """The migrations that led to a lineage entry, from the files.

    Raises:
        PlanError: A file was edited since.
    """
    files = {(one.revision, known): one for one in catalog.chain.headers for known in one.digests}
    applied = [(migration.revision, migration.sha256) for migration in entry.migrations]
    if not files.keys() >= set(applied):
        files |= {(one.revision, known): one for one in originals(catalog) for known in one.digests}
    for migration in entry.migrations:
        if (migration.revision, migration.sha256) not in files:
            raise PlanError(
                f"the file of revision {migration.revision} was edited after it was applied",
                next_step="restore the file (git checkout), then run the same command again",
            )
    selected = tuple(files[one] for one in applied)
    return migrations_of_files(catalog, entry.direction or "up", selected, AS_FILED)


def _schemas_before(catalog: Catalog, migrations: Sequence[Migration]) -> dict[str, CatalogSchema | None]:
    """The schema before each migration; None if neither the files nor the lineage determine it.

    The files are enough where they create every table. A catalog that was adopted without `baseline` has
    tables that no file creates: their schema is that of the version that the lineage names.
    """
    found: dict[str, CatalogSchema | None] = {}
    recorded = _RecordedSchemas(catalog)
    for migration in migrations:
        earlier = catalog.migrations(catalog.chain.upto(migration.header.down_revision))
        try:
            schema = replay(earlier)
        except LancemigError:
            found[migration.header.revision] = recorded.before(migration)
            continue
        if any(name not in schema.tables for name in _tables_before([migration])):
            old = recorded.before(migration)
            schema = CatalogSchema(tables={**(old.tables if old else {}), **schema.tables})
        found[migration.header.revision] = schema
    return found


@dataclass
class _RecordedSchemas:
    """Schemas of tables in versions that the lineage names."""

    catalog: Catalog

    @cached_property
    def entries(self) -> list[LineageEntry]:
        """The lineage, the newest entry first."""
        return list(self.catalog.store.pointers.chain(self.catalog.seen().pointer))

    def before(self, migration: Migration) -> CatalogSchema | None:
        """The tables of a migration before it was last applied; None if the lineage does not tell."""
        revision = migration.header.revision
        applied = (entry for entry in self.entries if entry.direction == "up")
        entry = next((e for e in applied if revision in [m.revision for m in e.migrations]), None)
        if entry is None:
            return None
        # A rebuild applies several migrations at once.
        ids = [one.revision for one in entry.migrations]
        headers = {header.revision: header for header in self.catalog.chain.headers}
        together = [headers[one] for one in ids[: ids.index(revision)] if one in headers]
        earlier = self.catalog.migrations(tuple(together))
        versions = {one.table: one.version_before for one in entry.tables}
        names = _tables_before([*earlier, migration])
        found = {
            name: self.catalog.store.tables.find(entry.origin.prefix, name, versions[name])
            for name in sorted(names & versions.keys())
            if versions[name] is not None
        }
        start = CatalogSchema(tables={name: table.schema() for name, table in found.items() if table})
        try:
            return replay(earlier, start)
        except LancemigError:
            return None


def _tables_before(migrations: Sequence[Migration]) -> set[str]:
    """The tables that must exist before these migrations."""
    needed, made = set[str](), set[str]()
    for operation in (operation for migration in migrations for operation in migration.operations):
        if operation.table not in made and not isinstance(operation, CreateTable):
            needed.add(operation.table)
        made |= {operation.table, operation.table_after or operation.table}
    return needed


def applied_commits(catalog: Catalog, headers: tuple[Header, ...]) -> dict[str, tuple[CommitRef, ...]]:
    """The commits of the steps of these revisions, from when they were last applied."""
    selected = {header.revision for header in headers}
    found: dict[str, tuple[CommitRef, ...]] = {}
    for entry in catalog.store.pointers.chain(catalog.seen().pointer):
        if entry.direction == "up" and selected & {m.revision for m in entry.migrations}:
            for step, landed in _step_commits(entry):
                found.setdefault(step, landed)
            selected -= {m.revision for m in entry.migrations}
        if not selected:
            break
    return found


def _step_commits(entry: LineageEntry) -> list[tuple[str, tuple[CommitRef, ...]]]:
    return [
        (
            step.step,
            tuple(
                CommitRef(prefix=entry.target.prefix, table=step.table, version=version)
                for version in step.versions
            ),
        )
        for step in entry.steps
    ]


def changed_steps(plan: Plan, migrations: Sequence[DirectedMigration]) -> list[str]:
    """Steps whose operation differs from the plan although the file is the same.

    The operations of a derived downgrade also depend on earlier files and on the release of lancemig. Plans
    of 0.1.0 do not have the content of a step, so their steps are not compared.
    """
    current = {one.revision: one.operations for one in migrations}
    changed = []
    for migration in plan.migrations:
        operations = current[migration.revision]
        planned = [step.content for step in migration.steps]
        if len(operations) != len(planned):
            changed.append(f"revision {migration.revision} has {len(operations)} steps, not {len(planned)}")
            continue
        changed += [
            f"step {step.id} is {operation.describe()!r} now, not what was planned"
            for step, operation in zip(migration.steps, operations, strict=True)
            if step.content is not None and step.content != operation.content()
        ]
    return changed


def changed_files(plan: Plan, migrations: Sequence[DirectedMigration]) -> list[str]:
    """Files that were edited after the plan was made."""
    current = {migration.revision: migration.migration.header for migration in migrations}
    return [
        f"{current[m.revision].path} was edited since"
        for m in plan.migrations
        if not current[m.revision].has_digest(m.sha256)
    ]


def live_references(catalog: Catalog, live: LiveCatalog) -> tuple[Names, Names]:
    """The tags of each live table, and its branches that are not lancemig's; one listing for each table."""
    tables = catalog.store.tables
    listed = parallel_map(lambda name: (name, tables.reference_names(live.prefix, name)), live.tables)
    tags, branches = (
        {
            name: of_kind
            for name, found in listed
            if (of_kind := tuple(one.name for one in found if one.kind == kind))
        }
        for kind in ("tag", "branch")
    )
    return tags, branches
