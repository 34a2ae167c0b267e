"""Data-only and additive migrations, applied to the live root while writers go on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lancemig.apply.checks import require
from lancemig.apply.commit.executor import StepExecutor, naming_step
from lancemig.apply.commit.target import TargetTable
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.rows.context import StagingContext
from lancemig.apply.rows.updates import counted_changes
from lancemig.apply.run import RunContext, applied_migrations, nothing_landed, published_count, table_changes
from lancemig.catalog.lineage import CheckResult, RootRevision, StepDone
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


def check_brakes(context: RunContext) -> None:
    """Raise BrakeTripped when a step in place would go past its brakes; nothing live has changed then."""
    acts = list(_acts(context))
    for table in dict.fromkeys(act.step.table for act in acts[1:] if act.braked):
        own = [act for act in acts if act.step.table == table]
        last = max(at for at, act in enumerate(own) if act.braked)
        if own[0] is acts[0] and not last:
            continue
        if last or not isinstance(own[0].operation, UpdateRows | BackfillColumns):
            _on_a_clone(context, table, own[: last + 1])
        else:
            _as_it_is(context, own[0])


def _acts(context: RunContext) -> Iterator[_Act]:
    schema = context.plan.start
    for migration in context.plan.in_place:
        for step, operation in zip(migration.steps, context.operations(migration), strict=True):
            after = operation.after(schema)
            yield _Act(step, operation, schema, after)
            schema = after


def _as_it_is(context: RunContext, act: _Act) -> None:
    executor, step, operation = context.executor, act.step, act.operation
    if isinstance(operation, UpdateRows | BackfillColumns):
        answers = executor.function_results(step, operation, context.live_table(step, act.before, act.after))
        with naming_step(step):
            counted_changes(
                operation, executor.tables.open(context.root, step.table), StagingContext(results=answers)
            )
        answers.flush()


def _on_a_clone(context: RunContext, table: str, acts: list[_Act]) -> None:
    store = context.store
    root = f"{store.scratch(context.run.run)}rehearsal/"
    left = [item.key for item in store.objects.list(store.tables.folder(root, table))]
    if left:
        context.lease.renew()
        store.objects.delete(left)
    live = store.tables.find(context.root, table, context.run.bases.get(table))
    if live is not None:
        context.lease.renew()
        store.tables.clone(live, root, table)
    executor: StepExecutor = replace(
        context.executor,
        guarding=False,
        on_progress=lambda progress: context.on_progress(replace(progress, phase="rehearsal")),
    )
    for act in acts:
        executor.perform(
            act.step,
            act.operation,
            TargetTable(
                root=root,
                name=table,
                base=live.version if live else 0,
                private=True,
                before=act.before.tables.get(table),
                after=act.after.tables.get(table),
            ),
        )


def apply_in_place(context: RunContext) -> None:
    """Apply the plan's in-place migrations that the pointer does not know of yet, one after the other.

    Each ends with its own lineage entry and pointer write; a resumed run goes on with the first that has
    none.
    """
    schema = context.plan.start
    known = published_count(context)
    if context.fresh or (not known and nothing_landed(context)):
        check_brakes(context)
    for number, migration in enumerate(context.plan.in_place):
        operations = context.operations(migration)
        if number < known:
            for operation in operations:
                schema = operation.after(schema)
        else:
            schema = _apply(context, migration, schema)


def _apply(context: RunContext, migration: PlannedMigration, schema: CatalogSchema) -> CatalogSchema:
    if context.run.revision != migration.revision:
        checks = require(context, migration, "before")
        context.save(revision=migration.revision, before=context.facts(context.root), checks=tuple(checks))
    started, done = context.environment.stamp(), []
    for step, operation in zip(migration.steps, context.operations(migration), strict=True):
        after = operation.after(schema)
        done.append(context.perform(step, operation, context.live_table(step, schema, after)))
        schema = after
    checks = [*context.run.checks, *require(context, migration, "after")]
    _publish(context, migration, done, checks, started)
    return schema


def _publish(
    context: RunContext,
    migration: PlannedMigration,
    done: list[StepDone],
    checks: list[CheckResult],
    started: str,
) -> None:
    facts = context.facts(context.root)
    # So that the catalog can be read as it was at this revision (`--at`).
    context.executor.guard_catalog(context.root, {name: version for name, (version, _) in facts.items()})
    context.publish(
        PointerUpdate(
            action=context.action,
            origin=context.active,
            target=RootRevision(prefix=context.root, revision=migration.leads_to),
            run=context.run.run,
            started=started,
            note=context.run.note,
            direction=context.plan.direction,
            plan_digest=context.run.plan_digest,
            migrations=applied_migrations([migration]),
            tables=table_changes(context.run.before, facts),
            steps=done,
            checks=checks,
            timings=context.timings(staged=False),
        )
    )
