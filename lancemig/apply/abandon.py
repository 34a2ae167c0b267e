"""Giving up a run: what it did in place and did not publish is put back, rows that came since are kept."""

from lancemig.apply.flight import Flight
from lancemig.apply.rebuild import staged
from lancemig.catalog.operations import DropTable, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import counted
from lancemig.errors import RunUnfinished
from lancemig.plan.plan import Landed, PlannedMigration, Step
from lancemig.store.tables import Commit

_UNDO = "undo/"


def abandon(flight: Flight, published: int) -> list[str]:
    """Undo the landed steps of the migration that was not published, newest first; what was done, as text.

    Migrations of the run that were published stay applied. A staged root is kept for inspection. Raises
    RunUnfinished when the flip has landed: then the way back is a rollback.
    """
    if staged(flight):
        raise RunUnfinished(
            f"run {flight.run.run} has flipped already", next_step="lancemig recover, then lancemig rollback"
        )
    said = []
    for number, migration in enumerate(flight.plan.in_place):
        if number >= published and _any_landed(flight, migration):
            said += _undo(flight, migration, _schema_before(flight, number))
    if flight.run.staged_prefix is not None:
        said.append(f"the staged root {flight.run.staged_prefix} is kept for inspection")
    return said


def nothing_landed(flight: Flight, published: int) -> bool:
    """Whether no step took effect in place that the pointer does not know of."""
    return not any(_any_landed(flight, migration) for migration in flight.plan.in_place[published:])


def half_undone(flight: Flight) -> bool:
    """Whether a step of this run has been put back: its stamp is there still, but not what it did."""
    tables = {step.table for migration in flight.plan.in_place for step in migration.steps}
    return any(
        commit.stamp.run == flight.run.run and commit.stamp.step.startswith(_UNDO)
        for name in sorted(tables & set(flight.run.bases))
        for commit in flight.store.tables.log(flight.root, name, flight.run.bases[name])
        if commit.stamp
    )


def _any_landed(flight: Flight, migration: PlannedMigration) -> bool:
    return any(_landed(flight, step) for step in migration.steps)


def _schema_before(flight: Flight, number: int) -> CatalogSchema:
    schema = flight.plan.start
    for migration in flight.plan.in_place[:number]:
        for operation in flight.operations(migration):
            schema = operation.after(schema)
    return schema


def _undo(flight: Flight, migration: PlannedMigration, schema: CatalogSchema) -> list[str]:
    said, done = [], []
    for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
        after = operation.after(schema)
        done.append((step, operation, schema, after))
        schema = after
    for step, operation, before, after in reversed(done):
        commits = _landed(flight, step)
        if commits:
            for inverse in _inverse(operation, before, step):
                said += _put_back(flight, step, inverse, (before, after), commits)
    return said


def _inverse(operation: Operation, before: CatalogSchema, step: Step) -> list[Operation]:
    return [
        one.model_copy(update={"step": step.id}) if isinstance(one, UndoRows) else one
        for one in operation.inverse(before)
    ]


def _landed(flight: Flight, step: Step) -> list[Commit]:
    tables, root = flight.store.tables, flight.root
    table = tables.find(root, step.table)
    if table is None:
        return []
    log = tables.commits(table, flight.run.bases.get(step.table, 0))
    ours = [commit for commit in log if commit.stamp and commit.stamp.run == flight.run.run]
    return [commit for commit in ours if commit.stamp and commit.stamp.step.startswith(f"{step.id}.")]


def _put_back(
    flight: Flight,
    step: Step,
    inverse: Operation,
    schemas: tuple[CatalogSchema, CatalogSchema],
    commits: list[Commit],
) -> list[str]:
    before, after = schemas
    if isinstance(inverse, DropTable):
        return [_removed(flight, step.table)]
    undoes = tuple(
        Landed(prefix=flight.root, table=step.table, version=c.version)
        for c in commits
        if isinstance(inverse, UndoRows)
    )
    own = step.model_copy(
        update={"id": f"{_UNDO}{step.id}", "undoes": undoes, "describe": inverse.describe()}
    )
    site = flight.live_site(step, after, before)
    done = flight.worker.perform(own, inverse, site)
    return [
        f"{step.table}: {step.describe}: put back ({counted(done.changed, 'row')}, {done.skipped:,} left)"
    ]


def _removed(flight: Flight, table: str) -> str:
    """Remove a table that the run made, unless somebody else has written to it since."""
    tables = flight.store.tables
    log = tables.log(flight.root, table, 0)
    if any(commit.stamp is None or commit.stamp.run != flight.run.run for commit in log):
        return f"table {table} is kept: others have written to it since"
    flight.lease.hold()
    folder = tables.folder(flight.root, table)
    keys = [item.key for item in flight.store.objects.list(folder)]
    # The manifests first, so that no death on the way leaves a table that opens and cannot be read.
    manifests = [key for key in keys if key.startswith(f"{folder}_versions/")]
    flight.store.objects.delete(manifests)
    flight.store.objects.delete([key for key in keys if key not in manifests])
    return f"table {table} was removed again"
