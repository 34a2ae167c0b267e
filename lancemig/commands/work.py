"""The operations of files, of a plan, or of a lineage entry; and what live tables carry besides rows."""

from collections.abc import Sequence

from lancemig.catalog.lineage import LineageEntry
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
    """The schema before each migration; None if the files do not determine it."""
    found: dict[str, CatalogSchema | None] = {}
    for migration in migrations:
        earlier = catalog.migrations(catalog.chain.upto(migration.header.down_revision))
        try:
            found[migration.header.revision] = replay(earlier)
        except LancemigError:
            found[migration.header.revision] = None
    return found


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
