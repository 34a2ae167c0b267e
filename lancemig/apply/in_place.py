"""Data-only and additive migrations: applied to the live root, beside other writers."""

from collections.abc import Sequence
from dataclasses import replace

from lancemig.apply.checks import require
from lancemig.apply.commit.executor import StepExecutor, naming_step
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.rows.context import StagingContext
from lancemig.apply.rows.keys import key_faults
from lancemig.apply.rows.updates import counted_changes
from lancemig.apply.run import (
    PlannedStep,
    RunContext,
    applied_migrations,
    nothing_landed,
    published_count,
    table_changes,
)
from lancemig.catalog.lineage import RootRevision, StepDone
from lancemig.catalog.operations import (
    BackfillColumns,
    Brakes,
    Operation,
    RowBrake,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.errors import PlanError
from lancemig.plan.plan import PlannedMigration, Step
from lancemig.store.lance import Table


def apply_in_place(context: RunContext) -> None:
    """Apply the plan's in-place migrations that are not published yet, one after the other.

    Each ends with its own lineage entry and pointer write; a resumed run continues with the first that has
    none.
    """
    published = published_count(context)
    if context.fresh or (not published and nothing_landed(context)):
        check_before_commits(context)
    for number, (migration, steps) in enumerate(context.steps_by_migration(context.plan.in_place)):
        if number >= published:
            _apply(context, migration, steps)


def check_before_commits(context: RunContext) -> None:
    """Refuse steps in place that would exceed their limits or break a declared key, before the first commit.

    Raises:
        BrakeTripped: a step would change more rows than it may.
        PlanError: after a step that writes key columns, a key would be null or occur twice.
    """
    steps = list(context.steps(context.plan.in_place))
    for table in dict.fromkeys(planned.step.table for planned in steps if _checked(planned)):
        of_table = [planned for planned in steps if planned.step.table == table]
        last = max(index for index, planned in enumerate(of_table) if _checked(planned))
        first = of_table[0]
        if first is steps[0] and not last and not isinstance(first.operation, UndoRows):
            # The step itself checks limits and keys before its first commit.
            continue
        if last or _writes_key(first) or not isinstance(first.operation, UpdateRows | BackfillColumns):
            _rehearse_on_clone(context, table, of_table[: last + 1])
        else:
            _count_changes(context, first)


def _checked(planned: PlannedStep) -> bool:
    return _braked(planned.operation) or _writes_key(planned)


def _braked(operation: Operation) -> bool:
    limits: list[int | None] = [operation.max_rows] if isinstance(operation, RowBrake) else []
    limits += [operation.max_indeterminate] if isinstance(operation, Brakes) else []
    return any(limit is not None for limit in limits)


def _writes_key(planned: PlannedStep) -> bool:
    """Whether a key may be null or occur twice after the step: it writes columns of the key, or adds rows."""
    before, after, operation = planned.table_before, planned.table_after, planned.operation
    if before is None or after is None or not after.key:
        return False
    if isinstance(operation, UndoRows):
        return operation.restores_key
    if isinstance(operation, UpsertRows):
        return set(operation.on) != set(after.key)
    return not operation.column_effects(before).written.isdisjoint(after.key)


def _count_changes(context: RunContext, planned: PlannedStep) -> None:
    """Count what a step would change in the live table as it is now."""
    executor, step, operation = context.executor, planned.step, planned.operation
    if isinstance(operation, UpdateRows | BackfillColumns):
        results = executor.function_results(step, operation, context.live_table(planned))
        with naming_step(step):
            counted_changes(
                operation, executor.tables.open(context.root, step.table), StagingContext(results=results)
            )
        results.flush()


def _rehearse_on_clone(context: RunContext, table: str, steps: Sequence[PlannedStep]) -> None:
    """Execute the steps of a table on a clone of it, in the scratch folder of the run."""
    store = context.store
    root = f"{store.scratch(context.run.run)}rehearsal/"
    stale = [item.key for item in store.objects.list(store.tables.folder(root, table))]
    if stale:
        context.lease.renew()
        store.objects.delete(stale)
    live = store.tables.find(context.root, table, context.run.bases.get(table))
    if live is not None:
        context.lease.renew()
        store.tables.clone(live, root, table)
    executor: StepExecutor = replace(
        context.executor,
        guarding=False,
        on_progress=lambda progress: context.on_progress(replace(progress, phase="rehearsal")),
    )
    for planned in steps:
        target = replace(
            context.live_table(planned), root=root, base=live.version if live else 0, private=True
        )
        executor.perform(planned.step, planned.operation, target)
        if _writes_key(planned) and planned.table_after is not None:
            _require_key(executor.tables.open(root, table), planned.table_after.key, planned.step)


def _require_key(table: Table, key: tuple[str, ...], step: Step) -> None:
    """Refuse a step after which a key is null or occurs twice."""
    faults = key_faults(table, key)
    if faults:
        with naming_step(step):
            raise PlanError(
                f"the key {', '.join(key)} would be broken: {faults.text}; nothing was changed",
                next_step="change the operation, or remove the key first: "
                f'SetKey(table="{table.name}", key=())',
            )


def _apply(context: RunContext, migration: PlannedMigration, steps: Sequence[PlannedStep]) -> None:
    if context.run.revision != migration.revision:
        checks = require(context, migration, "before")
        before = context.facts(context.root)
        context.record.save(revision=migration.revision, before=before, checks=tuple(checks))
    started = context.environment.stamp()
    done = [context.perform(planned, context.live_table(planned)) for planned in steps]
    _publish(context, migration, done, started)


def _publish(context: RunContext, migration: PlannedMigration, done: list[StepDone], started: str) -> None:
    checks = [*context.run.checks, *require(context, migration, "after")]
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
