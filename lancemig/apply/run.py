"""The context of a run: what every stage needs of the plan, the stored record and the store."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lancemig.apply.commit.executor import StepExecutor
from lancemig.apply.commit.intents import CommitIntents
from lancemig.apply.commit.target import TargetTable
from lancemig.apply.effects.replay import TablePath, table_paths
from lancemig.apply.environment import Environment, OnProgress
from lancemig.apply.lock import Lease
from lancemig.apply.publish import PointerUpdate, publish
from lancemig.apply.record import RunRecord
from lancemig.apply.rows.skipped import OnSkipped, ignore
from lancemig.apply.sidecar import Run
from lancemig.apply.store import Store
from lancemig.catalog.checks import Check, Tolerance
from lancemig.catalog.lineage import (
    Action,
    AppliedMigration,
    RecordedOperation,
    RootRevision,
    StepDone,
    TableChange,
)
from lancemig.catalog.operations import Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema, LiveCatalog, TableSchema
from lancemig.catalog.stamps import index_stamp, is_of_step
from lancemig.catalog.value import Timing
from lancemig.errors import PlanError, RunUnfinished
from lancemig.events import log_event
from lancemig.plan.plan import DirectedMigration, Plan, PlannedMigration, Step
from lancemig.store.lance import Commit, Table
from lancemig.store.pointer import PointerRead

_log = logging.getLogger(__name__)

TableFacts = Mapping[str, tuple[int, int]]
"""Version and rows of each table."""


@dataclass(frozen=True)
class PlannedStep:
    """A step of the plan, the operation it stands for, and the catalog's schema before and after it."""

    step: Step
    operation: Operation
    before: CatalogSchema
    after: CatalogSchema

    @property
    def table_before(self) -> TableSchema | None:
        """The schema of the step's table before the step; None if there is no such table."""
        return self.before.tables.get(self.step.table)

    @property
    def table_after(self) -> TableSchema | None:
        """The schema of the step's table after the step; None if there is no such table."""
        return self.after.tables.get(self.step.table)


@dataclass(frozen=True)
class RunContext:
    """Everything a stage of a run works with. Only `record` and `messages` change."""

    store: Store
    """The store that the stage reads and writes."""

    record: RunRecord
    """The stored state of the run."""

    environment: Environment
    on_progress: OnProgress

    migrations: Sequence[DirectedMigration]
    """The plan's operations, from migration files with the checksums that the plan names.

    Complete, except in a run that is being undone.
    """

    root: str
    """The prefix of the root that is live when the run starts."""

    on_skipped: OnSkipped = ignore

    fresh: bool = False
    """Whether the run started in this process, so that nothing of it can have landed earlier."""

    messages: list[str] = field(default_factory=list)
    """Messages for the user, shown when the run ends."""

    not_replicated: list[str] = field(default_factory=list)
    """The late writes that were not replicated after the flip, as `messages` names them."""

    written: set[str] = field(default_factory=set)
    """The live tables that this process has committed to since the last change of the pointer."""

    published: list[PointerUpdate] = field(default_factory=list)
    """The changes of the pointer that this process has made."""

    @property
    def run(self) -> Run:
        """The sidecar, as last written."""
        return self.record.run

    @property
    def seen(self) -> PointerRead:
        """The pointer, as last read or written."""
        return self.record.seen

    @property
    def lease(self) -> Lease:
        """The lock of the catalog."""
        return self.record.lease

    @property
    def plan(self) -> Plan:
        """The plan that is carried out."""
        return self.run.plan

    @property
    def active(self) -> RootRevision:
        """Which root is live, at which revision, as last read or written."""
        return active_root(self.seen, self.plan.origin)

    @property
    def flipped(self) -> bool:
        """Whether the pointer names the staged root of this run."""
        return self.run.has_flipped(self.seen.pointer)

    @property
    def staged_prefix(self) -> str:
        """The prefix of the staged root; empty until the run has named it."""
        return self.run.staged_prefix or ""

    @property
    def staged_revision(self) -> str:
        """The last revision that is applied to the staged root, or taken back there."""
        return self.plan.staged[-1].revision

    @property
    def action(self) -> Action:
        """The lineage's action for the direction of the plan."""
        return Action.UPGRADE if self.plan.direction == "up" else Action.DOWNGRADE

    def staging(self) -> "StagingRun":
        """This run, able to write to its staged root only."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return StagingRun(**{**given, "store": self.store.staging(self.staged_prefix, self.run.run)})

    def steps_by_migration(
        self, migrations: Sequence[PlannedMigration]
    ) -> Iterator[tuple[PlannedMigration, list[PlannedStep]]]:
        """Each of these migrations of the plan with its steps, in the plan's order.

        The operations of a migration are looked up when the iteration reaches it: an undo needs no file of a
        later one. Raises RunUnfinished where a file that is needed was edited.
        """
        schema, wanted = self.plan.start, {migration.revision for migration in migrations}
        for migration in (*self.plan.in_place, *self.plan.staged):
            if not wanted:
                return
            steps = []
            for step, operation in zip(migration.steps, self._resolved(migration).operations, strict=True):
                after = operation.after(schema)
                steps.append(PlannedStep(step, operation, schema, after))
                schema = after
            if migration.revision in wanted:
                wanted.remove(migration.revision)
                yield migration, steps

    def steps(self, migrations: Sequence[PlannedMigration]) -> Iterator[PlannedStep]:
        """The steps of these migrations of the plan, in the plan's order."""
        return (planned for _, steps in self.steps_by_migration(migrations) for planned in steps)

    def staging_start(self) -> CatalogSchema:
        """The catalog's schema after the plan's in-place migrations."""
        schema = self.plan.start
        for planned in self.steps(self.plan.in_place):
            schema = planned.after
        return schema

    def table_paths(self) -> list[TablePath]:
        """The path of every table into the staged root."""
        return table_paths(
            self.staging_start(), [self._resolved(migration) for migration in self.plan.staged]
        )

    def checks(self, migration: PlannedMigration) -> Sequence[Check]:
        """The checks of one migration of the plan; none when it is taken back."""
        return self._resolved(migration).migration.checks if self.plan.direction == "up" else ()

    def tolerances(self, migration: PlannedMigration) -> Sequence[Tolerance]:
        """The tolerances of one migration of the plan; none when it is taken back."""
        return self._resolved(migration).migration.tolerances if self.plan.direction == "up" else ()

    def _resolved(self, migration: PlannedMigration) -> DirectedMigration:
        resolved = next((m for m in self.migrations if m.revision == migration.revision), None)
        if resolved is None:
            raise RunUnfinished(
                f"the file of revision {migration.revision} was edited after run {self.run.run} started",
                next_step="restore the file (git checkout), then run the same command again",
            )
        return resolved

    def live_table(self, planned: PlannedStep) -> TargetTable:
        """The table of a step in the live root."""
        return TargetTable(
            root=self.root,
            name=planned.step.table,
            base=self.base_of(planned.step),
            private=False,
            before=planned.table_before,
            after=planned.table_after,
        )

    def base_of(self, step: Step) -> int:
        """The version after which a step in place may have landed: that of the last step before it."""
        base = self.run.bases.get(step.table, 0)
        for earlier in (earlier for migration in self.plan.in_place for earlier in migration.steps):
            if earlier.id == step.id:
                break
            done = self.run.done.get(earlier.id)
            if done is not None and done.table == step.table:
                base = max([base, *done.versions])
        return base

    @property
    def executor(self) -> StepExecutor:
        """Executes the steps of this run."""
        store = self.store
        return StepExecutor(
            store.tables,
            self.run.run,
            self.lease,
            self.environment,
            store.retry_seconds,
            f"{store.scratch(self.run.run)}answers/",
            self.on_progress,
            self.on_skipped,
            fresh=self.fresh,
            refresh_indices=store.indices == "refresh",
            intents=CommitIntents(self.root, self.record),
            on_commit=self._note_commit,
        )

    def _note_commit(self, table: Table) -> None:
        if table.root == self.root:
            self.written.add(table.name)

    def perform(self, planned: PlannedStep, target: TargetTable) -> StepDone:
        """Execute a step and record it as done; a step that is recorded as done is not executed.

        A step that changed nothing left no stamp: repeated by a resumed run, it would change rows that later
        steps made (tests/faults/test_death_operations.py).
        """
        step = planned.step
        recorded = self.run.done.get(step.id)
        if recorded is not None:
            log_event(_log, "step_skipped", "step %s is done", step.id, step=step.id, table=step.table)
            return recorded
        with self.record.timed("step" if step.staged_as is None else "stage", **timing_fields(step)):
            done = self.executor.perform(step, planned.operation, target)
        self.record.save(done={**self.run.done, step.id: done})
        return done

    def timings(self, staged: bool) -> tuple[Timing, ...]:
        """The timings of the staged migrations, or of the migration in place that is being applied."""
        steps = {step.id for m in self.plan.in_place if m.revision == self.run.revision for step in m.steps}
        return tuple(t for t in self.run.timings if (t.phase != "step" if staged else t.step in steps))

    def has_results(self) -> bool:
        """Whether functions gave results that are stored: results by row, or finished chunks of tables."""
        return any(True for _ in self.store.objects.list(self.executor.results_folder))

    def end(self) -> None:
        """End the run: delete its scratch files, and its sidecar last."""
        self.lease.renew()
        scratch = self.store.scratch(self.run.run)
        keys = [item.key for item in self.store.objects.list(scratch)]
        if keys:
            self.store.objects.delete(keys)
            self.lease.renew()
        self.record.remove()

    def publish(self, update: PointerUpdate) -> None:
        """Commit the migration: write the lineage entry and the pointer, while the lease is held."""
        self.lease.renew()
        begun_by = f"{self.run.actor}@{self.run.host}"
        if begun_by != f"{self.environment.actor}@{self.environment.host}":
            update = replace(update, begun_by=begun_by)
        self.record.seen = publish(self.store.pointers, self.seen, update, self.environment)
        self.published.append(update)
        self.written.clear()

    def facts(self, root: str) -> dict[str, tuple[int, int]]:
        """Version and rows of every table under `root` now."""
        tables = self.store.tables.newest(root)
        return {name: (table.version, table.count()) for name, table in tables.items()}


class StagingRun(RunContext):
    """A run while it stages: it can write below its staged prefix, to its scratch and to the reports.

    Every other write raises StoreError: to a live table, and to the pointer.
    """


def facts(live: LiveCatalog) -> dict[str, tuple[int, int]]:
    """Version and rows of every table."""
    return {name: (table.version, table.rows) for name, table in live.tables.items()}


def table_changes(before: TableFacts, after: TableFacts) -> list[TableChange]:
    """Version and rows of every table before and after; None where a table does not exist."""
    return [
        TableChange(
            table=name,
            version_before=before.get(name, (None, None))[0],
            rows_before=before.get(name, (None, None))[1],
            version_after=after.get(name, (None, None))[0],
            rows_after=after.get(name, (None, None))[1],
        )
        for name in sorted({*before, *after})
    ]


def applied_migrations(migrations: Sequence[PlannedMigration]) -> list[AppliedMigration]:
    """The migrations, as a lineage entry stores them."""
    return [AppliedMigration(revision=m.revision, kind=m.kind, sha256=m.sha256) for m in migrations]


def recorded_migrations(context: RunContext) -> list[AppliedMigration]:
    """The staged migrations with their operations: late writes are replicated even if a file is edited."""
    recorded = []
    for planned, steps in context.steps_by_migration(context.plan.staged):
        directed = next(m for m in context.migrations if m.revision == planned.revision)
        up = directed.direction == "up"
        reverse = directed.migration.downgrade if up else directed.migration.operations
        fields: dict[str, Any] = {} if reverse is None else {"reverse": tuple(map(_recorded, reverse))}
        operations = [_recorded(step.operation) for step in steps]
        if reverse is None:
            operations = [
                each.model_copy(update={"inverse": inverse}) if inverse is not None else each
                for each, inverse in zip(operations, map(_recorded_inverse, steps), strict=True)
            ]
        (applied,) = applied_migrations([planned])
        recorded.append(
            AppliedMigration(**applied.model_dump(exclude_unset=True), operations=tuple(operations), **fields)
        )
    return recorded


def _recorded_inverse(planned: PlannedStep) -> tuple[RecordedOperation, ...] | None:
    try:
        inverse = planned.operation.inverse(planned.before)
    except PlanError:
        return None
    return tuple(
        _recorded(each.model_copy(update={"step": planned.step.id}) if isinstance(each, UndoRows) else each)
        for each in inverse
    )


def _recorded(operation: Operation) -> RecordedOperation:
    fields = operation.model_dump(mode="json", exclude_defaults=True) | {"op": operation.op}
    try:
        same = type(operation).model_validate(fields).content() == operation.content()
    except (ValueError, TypeError):
        # It has a function or rows, which are no JSON; and nothing in the store is ever executed.
        same = False
    return RecordedOperation(
        table=operation.table,
        table_after=operation.table_after,
        content=operation.content(),
        **({"fields": fields} if same else {}),
    )


def timing_fields(step: Step) -> dict[str, Any]:
    """The fields of a timing that describe a step, for estimates of later plans."""
    return {
        "table": step.table,
        "way": step.strategy.value,
        "operation": step.operation,
        "step": step.id,
        "rows": step.rows,
        "bytes": step.bytes,
    }


def active_root(seen: PointerRead, fallback: RootRevision) -> RootRevision:
    """Which root is live, at which revision; `fallback` where there is no pointer."""
    return seen.pointer.active if seen.pointer else fallback


def published_count(context: RunContext) -> int:
    """How many of the plan's in-place migrations are published."""
    pointer = context.seen.pointer
    reached = [migration.leads_to for migration in context.plan.in_place]
    if pointer is None or pointer.revision not in reached:
        return 0
    return reached.index(pointer.revision) + 1


def step_commits(context: RunContext, step: Step) -> list[Commit]:
    """The commits of a step in place, oldest first, without those that only built an index again."""
    table = context.store.tables.find(context.root, step.table)
    if table is None:
        return []
    done = step.id in context.run.done
    since = context.run.bases.get(step.table, 0) if done else context.base_of(step)
    indices = index_stamp(step.id, "")
    return context.executor.find_commits(
        table, since, lambda stamp: is_of_step(stamp, step.id) and not stamp.startswith(indices)
    )


def any_landed(context: RunContext, migration: PlannedMigration) -> bool:
    """Whether a step of the migration has a commit."""
    return any(step_commits(context, step) for step in migration.steps)


def nothing_landed(context: RunContext) -> bool:
    """Whether no migration in place has commits without being published."""
    return not any(
        any_landed(context, migration) for migration in context.plan.in_place[published_count(context) :]
    )
