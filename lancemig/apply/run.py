"""A run under way: its sidecar, its lease, and what every phase needs of both."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lancemig.apply.commit.executor import StepExecutor
from lancemig.apply.commit.intents import CommitIntents
from lancemig.apply.commit.target import TargetTable
from lancemig.apply.effects.replay import TablePath, table_paths
from lancemig.apply.environment import Environment, OnProgress
from lancemig.apply.lock import Lease
from lancemig.apply.publish import PointerUpdate, publish
from lancemig.apply.rows.skipped import OnSkipped, ignore
from lancemig.apply.sidecar import Run, Sidecars
from lancemig.apply.store import Store
from lancemig.catalog.checks import Check, Tolerance
from lancemig.catalog.lineage import Action, AppliedMigration, RootRevision, StepDone, TableChange
from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import CatalogSchema, LiveCatalog
from lancemig.catalog.value import Phase, Timing
from lancemig.errors import RunUnfinished
from lancemig.events import log_event
from lancemig.plan.plan import DirectedMigration, Plan, PlannedMigration, Step
from lancemig.store.lance import Commit
from lancemig.store.pointer import PointerRead

_log = logging.getLogger(__name__)

TableFacts = Mapping[str, tuple[int, int]]
"""Version and rows of each table."""


@dataclass
class RunContext:
    """One run: `run` and `seen` are what was last written; all else is given.

    `work` are the plan's operations, resolved from the migration files whose checksums the plan holds. It is
    `fresh` where it began in this process.
    """

    store: Store
    sidecars: Sidecars
    lease: Lease
    environment: Environment
    on_progress: OnProgress
    migrations: Sequence[DirectedMigration]
    seen: PointerRead
    run: Run
    root: str
    on_skipped: OnSkipped = ignore
    fresh: bool = False
    messages: list[str] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """What is carried out."""
        return self.run.plan

    @property
    def active(self) -> RootRevision:
        """Which root is live, at which revision, as last read or written."""
        return active_root(self.seen, self.plan.origin)

    @property
    def staged_prefix(self) -> str:
        """The root that is staged; the run has named it before it is asked for."""
        return self.run.staged_prefix or ""

    @property
    def staged_revision(self) -> str:
        """The revision that the staged root leads to, or is taken back from."""
        return self.plan.staged[-1].revision

    @property
    def action(self) -> Action:
        """What the lineage calls the direction of the plan."""
        return Action.UPGRADE if self.plan.direction == "up" else Action.DOWNGRADE

    def live_table(self, step: Step, before: CatalogSchema, after: CatalogSchema) -> TargetTable:
        """The live table that `step` concerns, and its schema before and after."""
        return TargetTable(
            root=self.root,
            name=step.table,
            base=self.base_of(step),
            private=False,
            before=before.tables.get(step.table),
            after=after.tables.get(step.table),
        )

    def base_of(self, step: Step) -> int:
        """The version after which the step may have landed: the last one that a step before it landed as."""
        base = self.run.bases.get(step.table, 0)
        for earlier in (one for migration in self.plan.in_place for one in migration.steps):
            if earlier.id == step.id:
                return base
            done = self.run.done.get(earlier.id)
            if done is not None and done.table == step.table:
                base = max([base, *done.versions])
        # What puts a step back comes after all of them.
        return base

    @property
    def executor(self) -> StepExecutor:
        """The hands of this run."""
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
            intents=CommitIntents(self.root, self),
        )

    def perform(self, step: Step, operation: Operation, target: TargetTable) -> StepDone:
        """Carry out a step and write down that it is done; one that is, is not looked at again.

        A step that changed nothing left no stamp: done again by a resumed run, it would take rows that later
        steps made (tests/faults/test_death_operations.py).
        """
        known = self.run.done.get(step.id)
        if known is not None:
            log_event(_log, "step_skipped", "step %s is done", step.id, step=step.id, table=step.table)
            return known
        with self.timed("step", **timing_fields(step)):
            done = self.executor.perform(step, operation, target)
        self.save(done={**self.run.done, step.id: done})
        return done

    @contextmanager
    def timed(self, phase: Phase, **fields: Any) -> Iterator[dict[str, Any]]:
        """Remember how long this takes, with these fields and those that are put into the mapping meanwhile.

        It is written down with the next note. What fails is not remembered: to be done again, it takes less.
        """
        began = self.environment.now()
        subject = " ".join(filter(None, (phase, fields.get("step"), fields.get("table"))))
        log_event(_log, "phase_started", "%s started", subject, phase=phase, **fields)
        yield fields
        seconds = round((self.environment.now() - began).total_seconds(), 3)
        timing = Timing(phase=phase, seconds=seconds, **fields)
        text = "%s finished in %.3f s"
        log_event(_log, "phase_finished", text, subject, seconds, phase=phase, seconds=seconds, **fields)
        self.run = self.run.changed(timings=(*self.run.timings, timing))

    def timings(self, staged: bool) -> tuple[Timing, ...]:
        """How long the phases of staging took; or those of the migration in place that is under way."""
        steps = {step.id for m in self.plan.in_place if m.revision == self.run.revision for step in m.steps}
        return tuple(t for t in self.run.timings if (t.phase != "step" if staged else t.step in steps))

    def save(self, **fields: Any) -> None:
        """Write down in the sidecar how far the run is."""
        self.lease.renew()
        run = self.run.changed(**fields)
        self.sidecars.write(run)
        self.run = run

    def end(self) -> None:
        """The run is over: take away what only it needed, the sidecar last."""
        self.lease.renew()
        scratch = self.store.scratch(self.run.run)
        left = [item.key for item in self.store.objects.list(scratch)]
        if left:
            self.store.objects.delete(left)
            self.lease.renew()
        self.sidecars.remove(self.run)

    def publish(self, change: PointerUpdate) -> None:
        """The commit point: lineage entry and pointer, while the lease is held."""
        self.lease.renew()
        self.seen = publish(self.store.pointers, self.seen, change, self.environment)

    def operations(self, migration: PlannedMigration) -> Sequence[Operation]:
        """The operations of one migration of the plan, in the plan's order."""
        return self._work_of(migration).operations

    def checks(self, migration: PlannedMigration) -> Sequence[Check]:
        """What is to hold before and after one migration of the plan; nothing, when it is taken back."""
        return self._work_of(migration).migration.checks if self.plan.direction == "up" else ()

    def tolerances(self, migration: PlannedMigration) -> Sequence[Tolerance]:
        """Where one migration of the plan says that the proof need not be exact."""
        return self._work_of(migration).migration.tolerances if self.plan.direction == "up" else ()

    def _work_of(self, migration: PlannedMigration) -> DirectedMigration:
        found = next((work for work in self.migrations if work.revision == migration.revision), None)
        if found is None:
            raise RunUnfinished(
                f"the file of revision {migration.revision} was edited after run {self.run.run} started",
                next_step="restore the file (git checkout), then run the same command again",
            )
        return found

    def staged_migrations(self) -> list[DirectedMigration]:
        """The work that is done in the staged root."""
        revisions = {migration.revision for migration in self.plan.staged}
        return [work for work in self.migrations if work.revision in revisions]

    def in_place_migrations(self) -> list[DirectedMigration]:
        """The work that is done in the live root."""
        revisions = {migration.revision for migration in self.plan.in_place}
        return [work for work in self.migrations if work.revision in revisions]

    def staging_start(self) -> CatalogSchema:
        """The catalog's schema once the plan's in-place migrations are done."""
        schema = self.plan.start
        for work in self.in_place_migrations():
            for operation in work.operations:
                schema = operation.after(schema)
        return schema

    def table_paths(self) -> list[TablePath]:
        """The way of every table into the staged root."""
        return table_paths(self.staging_start(), self.staged_migrations())

    def facts(self, root: str) -> dict[str, tuple[int, int]]:
        """Version and rows of every table under `root` now."""
        return {name: (one.version, one.count()) for name, one in self.store.tables.newest(root).items()}


def facts(live: LiveCatalog) -> dict[str, tuple[int, int]]:
    """Version and rows of every table."""
    return {name: (table.version, table.rows) for name, table in live.tables.items()}


def table_changes(before: TableFacts, after: TableFacts) -> list[TableChange]:
    """Every table before and after."""
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
    """The migrations as the lineage names them."""
    return [AppliedMigration(revision=m.revision, kind=m.kind, sha256=m.sha256) for m in migrations]


def timing_fields(step: Step) -> dict[str, Any]:
    """What a step's time is set against."""
    return {
        "table": step.table,
        "way": step.strategy.value,
        "operation": step.operation,
        "step": step.id,
        "rows": step.rows,
        "bytes": step.bytes,
    }


def active_root(seen: PointerRead, fallback: RootRevision) -> RootRevision:
    """Which root is live, at which revision."""
    return seen.pointer.active if seen.pointer else fallback


def published_count(context: RunContext) -> int:
    """How many of the plan's in-place migrations the pointer knows of."""
    now = context.seen.pointer.revision if context.seen.pointer else None
    reached = [migration.leads_to for migration in context.plan.in_place]
    if context.seen.pointer is None or now not in reached:
        return 0
    return reached.index(now) + 1


def step_commits(context: RunContext, step: Step) -> list[Commit]:
    """The commits of one step, oldest first."""
    tables, root = context.store.tables, context.root
    table = tables.find(root, step.table)
    if table is None:
        return []
    run, base = context.run, context.run.bases.get(step.table, 0)
    known = run.done.get(step.id)
    since = base if known else context.base_of(step)
    return context.executor.find_commits(table, since, lambda stamped: stamped.startswith(f"{step.id}."))


def any_landed(context: RunContext, migration: PlannedMigration) -> bool:
    """Whether a step of the migration has a commit."""
    return any(step_commits(context, step) for step in migration.steps)


def nothing_landed(context: RunContext) -> bool:
    """Whether no step took effect in place that the pointer does not know of."""
    return not any(
        any_landed(context, migration) for migration in context.plan.in_place[published_count(context) :]
    )
