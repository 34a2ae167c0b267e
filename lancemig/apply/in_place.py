"""Data-only and additive migrations, applied to the live root while writers go on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lancemig.apply.checks import hold
from lancemig.apply.commit.executor import Worker, named
from lancemig.apply.commit.target import Site
from lancemig.apply.publish import Change
from lancemig.apply.rows.context import Scope
from lancemig.apply.rows.updates import counted_changes
from lancemig.apply.run import Flight, applied, nothing_landed, published, table_changes
from lancemig.catalog.lineage import CheckResult, Place, StepDone
from lancemig.catalog.operations import BackfillColumns, Brakes, Operation, RowBrake, UpdateRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.plan.plan import PlannedMigration, Step


@dataclass(frozen=True)
class _Act:
    """A step in place, and its table before and after it."""

    step: Step
    operation: Operation
    before: CatalogSchema
    after: CatalogSchema

    @property
    def braked(self) -> bool:
        operation = self.operation
        limits: list[int | None] = [operation.max_rows] if isinstance(operation, RowBrake) else []
        limits += [operation.max_indeterminate] if isinstance(operation, Brakes) else []
        return any(limit is not None for limit in limits)


def rehearse(flight: Flight) -> None:
    """Raise BrakeTripped when a step in place would go past its brakes; nothing live has changed then."""
    acts = list(_acts(flight))
    for table in dict.fromkeys(act.step.table for act in acts[1:] if act.braked):
        own = [act for act in acts if act.step.table == table]
        last = max(at for at, act in enumerate(own) if act.braked)
        if own[0] is acts[0] and not last:
            continue
        if last or not isinstance(own[0].operation, UpdateRows | BackfillColumns):
            _on_a_clone(flight, table, own[: last + 1])
        else:
            _as_it_is(flight, own[0])


def _acts(flight: Flight) -> Iterator[_Act]:
    schema = flight.plan.start
    for migration in flight.plan.in_place:
        for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
            after = operation.after(schema)
            yield _Act(step, operation, schema, after)
            schema = after


def _as_it_is(flight: Flight, act: _Act) -> None:
    worker, step, operation = flight.worker, act.step, act.operation
    if isinstance(operation, UpdateRows | BackfillColumns):
        answers = worker.answers(step, operation, flight.live_site(step, act.before, act.after))
        with named(step):
            counted_changes(operation, worker.tables.open(flight.root, step.table), Scope(answers=answers))
        answers.flush()


def _on_a_clone(flight: Flight, table: str, acts: list[_Act]) -> None:
    store = flight.store
    root = f"{store.scratch(flight.run.run)}rehearsal/"
    left = [item.key for item in store.objects.list(store.tables.folder(root, table))]
    if left:
        flight.lease.hold()
        store.objects.delete(left)
    live = store.tables.find(flight.root, table, flight.run.bases.get(table))
    if live is not None:
        flight.lease.hold()
        store.tables.clone(live, root, table)
    worker: Worker = replace(
        flight.worker,
        guarding=False,
        on_progress=lambda progress: flight.on_progress(replace(progress, phase="rehearsal")),
    )
    for act in acts:
        worker.perform(
            act.step,
            act.operation,
            Site(
                root=root,
                name=table,
                base=live.version if live else 0,
                private=True,
                before=act.before.tables.get(table),
                after=act.after.tables.get(table),
            ),
        )


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
