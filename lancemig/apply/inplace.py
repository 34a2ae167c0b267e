"""Data-only and additive migrations, applied to the live root while writers go on."""

from lancemig.apply.flight import Flight, applied, table_changes
from lancemig.apply.publish import Change
from lancemig.catalog.lineage import Place, StepDone
from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import CatalogSchema
from lancemig.plan.plan import PlannedMigration, Step


def apply_in_place(flight: Flight) -> None:
    """Apply the plan's in-place migrations that the pointer does not know of yet, one after the other.

    Each ends with its own lineage entry and pointer write; a resumed run goes on with the first that has
    none.
    """
    schema = flight.plan.start
    known = published(flight)
    for number, migration in enumerate(flight.plan.in_place):
        operations = flight.operations(migration)
        if number < known:
            for operation in operations:
                schema = operation.after(schema)
        else:
            schema = _apply(flight, migration, schema)


def published(flight: Flight) -> int:
    """How many of the plan's in-place migrations the pointer knows of."""
    now = flight.seen.pointer.revision if flight.seen.pointer else None
    reached = [migration.leads_to for migration in flight.plan.in_place]
    if flight.seen.pointer is None or now not in reached:
        return 0
    return reached.index(now) + 1


def _apply(flight: Flight, migration: PlannedMigration, schema: CatalogSchema) -> CatalogSchema:
    if flight.run.revision != migration.revision:
        flight.note(revision=migration.revision, before=flight.facts(flight.root))
    started, done = flight.caller.stamp(), []
    for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
        after = operation.after(schema)
        done.append(_step(flight, step, operation, schema, after))
        schema = after
    _publish(flight, migration, done, started)
    return schema


def _step(
    flight: Flight, step: Step, operation: Operation, before: CatalogSchema, after: CatalogSchema
) -> StepDone:
    known = flight.run.done.get(step.id)
    if known is not None:
        # One that had nothing to do left no stamp; asked again, it would land after later ones.
        return known
    site = flight.live_site(step, before, after)
    done = flight.worker.perform(step, operation, site)
    flight.note(done={**flight.run.done, step.id: done})
    return done


def _publish(flight: Flight, migration: PlannedMigration, done: list[StepDone], started: str) -> None:
    flight.publish(
        Change(
            action=flight.action,
            origin=flight.place,
            target=Place(prefix=flight.root, revision=migration.leads_to),
            run=flight.run.run,
            started=started,
            note=flight.run.note,
            direction=flight.plan.direction,
            plan_digest=flight.run.plan_digest,
            migrations=applied([migration]),
            tables=table_changes(flight.run.before, flight.facts(flight.root)),
            steps=done,
        )
    )
