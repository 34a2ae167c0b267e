"""Trying a plan's brakes before its first commit, so that a run past one stops with nothing changed.

The first step needs no rehearsal: its own brakes come before its commit. A later one is looked at on the live
table where no earlier step touches that; otherwise the earlier steps are done to a clone that borrows the
table's files, and what the functions answered there is not asked again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lancemig.apply.flight import Flight
from lancemig.apply.landing.hands import Site
from lancemig.apply.landing.worker import Worker, named
from lancemig.apply.rows.changes import counted_changes
from lancemig.apply.rows.scope import Scope
from lancemig.catalog.operations import BackfillColumns, Brakes, Operation, RowBrake, UpdateRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.plan.plan import Step


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
