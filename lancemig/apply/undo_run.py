"""Giving up a run: what it did in place and did not publish is put back, rows that came since are kept."""

from lancemig.apply.commit.contended import UNDOING, WITHDRAWN
from lancemig.apply.publish import Change
from lancemig.apply.rebuild import staged
from lancemig.apply.run import Flight, any_landed, commits_of, published, table_changes
from lancemig.apply.sidecar import Phase
from lancemig.catalog.lineage import Action, StepDone
from lancemig.catalog.operations import DropTable, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import counted
from lancemig.errors import RunUnfinished
from lancemig.plan.plan import Landed, PlannedMigration, Step
from lancemig.store.lance import Commit


def abandon(flight: Flight, why: str, *, overwrite: bool = False) -> list[str]:
    """Undo the landed steps of the migration that was not published, newest first; what was done, as text.

    Once begun, it is all that can be done with the run, whatever kills it. A cell that others have changed
    since stays, unless `overwrite`. Migrations of the run that were published stay applied, a staged root is
    kept for inspection. The lineage gets an entry if anything had landed. Raises RunUnfinished when the flip
    has landed: then the way back is a rollback.
    """
    if staged(flight):
        raise RunUnfinished(
            f"run {flight.run.run} has already flipped the pointer",
            next_step="lancemig recover, then lancemig rollback",
        )
    if flight.run.phase is not Phase.UNDO:
        flight.note(phase=Phase.UNDO, undoing=why, overwrite=overwrite)
    said, done = [], []
    known = published(flight)
    for number, migration in enumerate(flight.plan.in_place):
        if number >= known and any_landed(flight, migration):
            undone, steps = _undo(flight, migration, _schema_before(flight, number))
            said += undone
            done += steps
    if done and not _recorded(flight):
        _record(flight, done, why)
    if flight.run.staged_prefix is not None:
        said.append(f"the staged root {flight.run.staged_prefix} is kept for inspection")
    return said


def _recorded(flight: Flight) -> bool:
    """Whether an undo that died had been written down already."""
    pointer = flight.seen.pointer
    if pointer is None or pointer.lineage is None:
        return False
    entry = flight.store.pointers.entry(pointer.lineage)
    return entry.action is Action.RECOVER and entry.run == flight.run.run


def _record(flight: Flight, done: list[StepDone], why: str) -> None:
    """Root and revision stay; that something was done and put back is told."""
    flight.publish(
        Change(
            action=Action.RECOVER,
            origin=flight.place,
            target=flight.place,
            run=flight.run.run,
            started=flight.run.started,
            plan_digest=flight.run.plan_digest,
            tables=table_changes(flight.run.before, flight.facts(flight.root)),
            steps=done,
            note=why,
        )
    )


def _schema_before(flight: Flight, number: int) -> CatalogSchema:
    schema = flight.plan.start
    for migration in flight.plan.in_place[:number]:
        for operation in flight.operations(migration):
            schema = operation.after(schema)
    return schema


def _undo(
    flight: Flight, migration: PlannedMigration, schema: CatalogSchema
) -> tuple[list[str], list[StepDone]]:
    said, done, undone = [], [], []
    for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
        after = operation.after(schema)
        done.append((step, operation, schema, after))
        schema = after
    for step, operation, before, after in reversed(done):
        commits = commits_of(flight, step)
        gone = [commit.version for commit in commits if commit.version in flight.run.gone.values()]
        for inverse in _inverse(operation, before, step, flight.run.overwrite) if commits else ():
            if isinstance(inverse, DropTable):
                said.append(_removed(flight, step.table))
            elif isinstance(inverse, UndoRows) and gone:
                said.append(_not_put_back(step, gone[0], flight.run.bases.get(step.table)))
            else:
                undone.append(_put_back(flight, step, inverse, (before, after), commits))
                said.append(_told(step, undone[-1]))
    return said, undone


def _inverse(operation: Operation, before: CatalogSchema, step: Step, overwrite: bool) -> list[Operation]:
    return [
        one.model_copy(update={"step": step.id, "overwrite": overwrite}) if isinstance(one, UndoRows) else one
        for one in operation.inverse(before)
    ]


def _put_back(
    flight: Flight,
    step: Step,
    inverse: Operation,
    schemas: tuple[CatalogSchema, CatalogSchema],
    commits: list[Commit],
) -> StepDone:
    before, after = schemas
    undoes = tuple(
        Landed(prefix=flight.root, table=step.table, version=c.version)
        for c in commits
        # What was withdrawn has been put back already: put back itself, it would be there for good.
        if isinstance(inverse, UndoRows) and not (c.stamp and c.stamp.step.endswith(WITHDRAWN))
    )
    own = step.model_copy(
        update={"id": f"{UNDOING}{step.id}", "undoes": undoes, "describe": inverse.describe()}
    )
    return flight.perform(own, inverse, flight.live_site(step, after, before))


def _not_put_back(step: Step, version: int, base: int | None) -> str:
    return (
        f"{step.table}: {step.describe}: NOT undone, because its version {version} was removed by "
        f"cleanup; compare the table with version {base}, where the run started"
    )


def _told(step: Step, done: StepDone) -> str:
    kept = f", {done.skipped:,} skipped: changed by another writer since" if done.skipped else ""
    return f"{step.table}: {step.describe}: undone ({counted(done.changed, 'row')}{kept})"


def _removed(flight: Flight, table: str) -> str:
    """Remove a table that the run made, unless somebody else has written to it since."""
    tables = flight.store.tables
    log = tables.search(tables.open(flight.root, table), 0)
    others = any(commit.stamp is None or commit.stamp.run != flight.run.run for commit in log.commits)
    if others or log.missing:
        return f"table {table} is kept: another writer has written to it since"
    flight.lease.hold()
    folder = tables.folder(flight.root, table)
    keys = [item.key for item in flight.store.objects.list(folder)]
    # The manifests first, so that no death on the way leaves a table that opens and cannot be read.
    manifests = [key for key in keys if key.startswith(f"{folder}_versions/")]
    flight.store.objects.delete(manifests)
    flight.store.objects.delete([key for key in keys if key not in manifests])
    return f"table {table} was removed"
