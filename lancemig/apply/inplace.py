"""Data-only and additive migrations, applied to the live root while writers go on."""

from lancemig.apply.flight import Flight, applied, table_changes
from lancemig.apply.guarantees import hold
from lancemig.apply.landed import nothing_landed, published
from lancemig.apply.publish import Change
from lancemig.apply.rehearse import rehearse
from lancemig.catalog.lineage import CheckResult, Place, StepDone
from lancemig.catalog.schema import CatalogSchema
from lancemig.plan.plan import PlannedMigration


def apply_in_place(flight: Flight) -> None:
    """Apply the plan's in-place migrations that the pointer does not know of yet, one after the other.

    Each ends with its own lineage entry and pointer write; a resumed run goes on with the first that has
    none.
    """
    schema = flight.plan.start
    known = published(flight)
    if flight.fresh or (not known and nothing_landed(flight)):
        rehearse(flight)
    for number, migration in enumerate(flight.plan.in_place):
        operations = flight.operations(migration)
        if number < known:
            for operation in operations:
                schema = operation.after(schema)
        else:
            schema = _apply(flight, migration, schema)


def _apply(flight: Flight, migration: PlannedMigration, schema: CatalogSchema) -> CatalogSchema:
    if flight.run.revision != migration.revision:
        checks = hold(flight, migration, "before")
        flight.note(revision=migration.revision, before=flight.facts(flight.root), checks=tuple(checks))
    started, done = flight.caller.stamp(), []
    for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
        after = operation.after(schema)
        done.append(flight.perform(step, operation, flight.live_site(step, schema, after)))
        schema = after
    checks = [*flight.run.checks, *hold(flight, migration, "after")]
    _publish(flight, migration, done, checks, started)
    return schema


def _publish(
    flight: Flight,
    migration: PlannedMigration,
    done: list[StepDone],
    checks: list[CheckResult],
    started: str,
) -> None:
    facts = flight.facts(flight.root)
    # So that the catalog can be read as it was at this revision (`--at`).
    flight.worker.guard_catalog(flight.root, {name: version for name, (version, _) in facts.items()})
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
            tables=table_changes(flight.run.before, facts),
            steps=done,
            checks=checks,
            timings=flight.timings(staged=False),
        )
    )
