"""Rebuilds: stage a root beside the live one, replicate new commits, verify, and flip the pointer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from lancemig.apply.checks import require
from lancemig.apply.commit.committer import ContentionError
from lancemig.apply.commit.detach import materialize, own_indices
from lancemig.apply.commit.target import TargetTable
from lancemig.apply.effects.replay import derived_again
from lancemig.apply.environment import Progress
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.replicate.carried import carry_references, carry_settings
from lancemig.apply.replicate.catch_up import catch_up, report_result, rows_behind
from lancemig.apply.replicate.reconcile import (
    DERIVED_AGAIN,
    FindRoutes,
    Reconciliation,
    TableRoute,
    root_transitions,
)
from lancemig.apply.root_owner import RootOwner, claim_root
from lancemig.apply.run import PlannedStep, RunContext, StagingRun, recorded_migrations, table_changes
from lancemig.apply.stages import VERIFY, Phase
from lancemig.apply.verify.derived import GATE, RAISE_LIMIT
from lancemig.apply.verify.verify import verify
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, RootRevision
from lancemig.catalog.operations import RewriteTable
from lancemig.catalog.sources import count_text
from lancemig.catalog.value import format_revision, format_root
from lancemig.errors import PlanStale, PointerMoved, VerifyFailed
from lancemig.plan.plan import Carried
from lancemig.store.lance import Table

_CATCH_UP_EVERY = timedelta(seconds=10)
"""How often a held run replicates new commits."""


def build(context: RunContext, prefix: str) -> None:
    """Build the staged root under `prefix`, or resume building it; the live root stays as it is.

    Raises:
        PointerMoved: The root that is being rebuilt is not live any more.
        PlanStale: The live catalog changed after the plan was made.
    """
    _require_still_live(context)
    if context.run.staged_prefix is None:
        _begin(context, prefix)
    staging = context.staging()
    for carried in context.plan.carried:
        _carry(staging, carried)
    carry_references(staging)
    steps = list(context.steps(context.plan.staged))
    for planned in steps:
        # A step that changed nothing left no stamp; repeated on a resumed run, it would change rows that
        # were replicated since, and that the step had changed on their way. The gates look at the store.
        if planned.step.staged_as is not None and planned.step.id not in context.run.done:
            _perform(staging, planned, planned.step.staged_as, steps)
    for carried in context.plan.carried:
        if carried.staged_as is not None and not carried.copied:
            carry_settings(staging, carried.table, carried.staged_as)


def replicate_new_commits(context: RunContext) -> None:
    """Replicate what was committed to the live root since it was pinned, until little is missing."""
    context.record.save(phase=Phase.CATCH_UP)
    with context.record.timed("catch-up") as timing:
        rounds, rows = catch_up(context.staging())
        timing |= {"rounds": rounds, "rows": rows}


def verify_up_to_date(context: RunContext) -> None:
    """Verify the staged root; replicate and verify again if too many rows arrived during verification.

    Raises:
        VerifyFailed: A gate, a check or the project's own tests failed.
        ContentionError: Writers are faster than verification.
    """
    began, store = context.environment.now(), context.store
    while True:
        _verify(context.staging())
        rows = rows_behind(context)
        if rows <= store.catch_up_rows:
            return
        if context.environment.now() - began > timedelta(seconds=store.retry_seconds):
            raise ContentionError(
                f"{count_text(rows, 'row')} arrived during verification of the staged root, more than "
                f"catch_up_rows = {store.catch_up_rows:,} allows at the flip",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in lancemig.ini",
            )
        replicate_new_commits(context)


def _verify(staging: StagingRun) -> None:
    staging.record.save(phase=Phase.VERIFY, caught_up={**staging.run.caught_up, **_pinned_replaced(staging)})
    staging.on_progress(Progress("verify", text=VERIFY.text))
    carried = staging.plan.carried
    rows, size = sum(c.rows or 0 for c in carried), sum(c.bytes or 0 for c in carried)
    with staging.record.timed("verify", rows=rows, bytes=size):
        report = verify(staging, staging.staged_prefix)
        staging.lease.renew()
        stored = staging.store.reports.keep(report)
    if not report.ok:
        raise VerifyFailed(
            f"verification of the staged root {staging.staged_prefix} failed; the live root is unchanged:\n  "
            + "\n  ".join([*report.failed, f"report: {stored}"]),
            next_step=RAISE_LIMIT
            if any(outcome.gate == GATE and not outcome.ok for outcome in report.outcomes)
            else "lancemig status; or abandon the run: lancemig recover --undo",
        )
    before = [result for result in staging.run.checks if result.when == "before"]
    staging.record.save(phase=Phase.VERIFIED, checks=(*before, *report.summary()), report=report.digest)


def _pinned_replaced(staging: StagingRun) -> dict[str, int]:
    """The newest versions of live tables that are derived again, guarded: verification compares with them.

    Writes after them are late writes, which the run names after the flip.
    """
    tables, root = staging.store.tables, staging.root
    newest = {name: tables.find(root, name) for name in derived_again(staging.table_paths())}
    versions = {name: table.version for name, table in newest.items() if table is not None}
    staging.executor.guard_catalog(root, versions)
    return versions


def hold(context: RunContext, postponed: Callable[[], bool]) -> None:
    """Replicate new commits while the flip is postponed; then replicate and verify once more.

    A run that dies meanwhile waits for `lancemig flip`.
    """
    context.record.save(no_flip=True)
    context.on_progress(
        Progress("postponed", text="waiting for lancemig flip; new commits are replicated meanwhile")
    )
    caught_up = context.environment.now()
    while postponed():
        context.environment.sleep(1.0)
        context.lease.renew()
        if context.environment.now() - caught_up >= _CATCH_UP_EVERY:
            catch_up(context.staging())
            caught_up = context.environment.now()
    replicate_new_commits(context)
    verify_up_to_date(context)
    context.record.save(no_flip=False)


def flip(context: RunContext, action: Action) -> None:
    """Make the staged root the live one: write the lineage entry, then the pointer.

    Args:
        context: The run.
        action: What the lineage calls this flip.
    """
    plan, run, prefix = context.plan, context.run, context.staged_prefix
    with context.record.timed("flip"):
        facts, reads = context.facts(prefix), context.store.tables.reads(prefix)
        context.executor.guard_catalog(prefix, {name: version for name, (version, _) in facts.items()})
    staged_steps = {step.id for migration in plan.staged for step in migration.steps}
    context.publish(
        PointerUpdate(
            action=action,
            origin=context.active,
            target=RootRevision(prefix=prefix, revision=plan.target),
            run=run.run,
            started=run.started,
            note=run.note,
            direction=plan.direction,
            plan_digest=run.plan_digest,
            migrations=recorded_migrations(context),
            reads=reads,
            timings=context.timings(staged=True),
            tables=table_changes(_caught_up_facts(context), facts),
            steps=[done for step, done in run.done.items() if step in staged_steps],
            checks=run.checks,
            report=run.report,
        )
    )
    context.messages.append(f"live: {prefix} (was {format_root(context.root)})")


def reconcile_after_flip(context: RunContext, find_routes: FindRoutes | None) -> None:
    """Replicate what writers committed to the old root while the pointer was written.

    Args:
        context: The run.
        find_routes: Finds the routes without the operations of the plan; None to take these.
    """
    context.record.save(phase=Phase.RECONCILE)
    pointer = context.seen.pointer
    if pointer is None:
        return
    carry_references(context, add_only=True)
    transition = root_transitions(context.store.pointers.chain(pointer))[-1]

    def planned_routes(*_: object) -> list[TableRoute]:
        paths = context.table_paths()
        routes = [TableRoute(p.source, p) for p in paths if p.source and p.target and not p.derived]
        return [*routes, *(TableRoute(name, None, DERIVED_AGAIN) for name in derived_again(paths))]

    reconciliation = Reconciliation(context, context.executor, find_routes or planned_routes)
    for result in reconciliation.reconcile(transition):
        report_result(context, result)
        context.not_replicated.extend(result.conflicts)


def _require_still_live(context: RunContext) -> None:
    plan = context.plan
    revision = plan.in_place[-1].leads_to if plan.in_place else plan.origin.revision
    if context.active != RootRevision(prefix=context.root, revision=revision):
        raise PointerMoved(
            f"the pointer moved to {format_revision(context.active.revision)} in "
            f"{format_root(context.active.prefix)} after run {context.run.run} started; that run rebuilds "
            f"{format_root(context.root)} at {format_revision(revision)}",
            next_step="lancemig recover --undo, then lancemig upgrade --plan",
        )


def _begin(context: RunContext, prefix: str) -> None:
    """Claim the prefix, and pin the live tables in the record; a resumed run keeps both."""
    checks = require(context, context.plan.staged[0], "before")
    live = context.store.tables.live(context.root)
    drift = [d.message for d in catalog_drift(context.staging_start(), live.catalog) if d.structural]
    if drift:
        raise PlanStale(
            "the live catalog changed after the plan was made: " + "; ".join(drift),
            next_step="lancemig upgrade --plan",
        )
    bases = {name: table.version for name, table in live.tables.items()}
    _claim(context, prefix)
    context.record.save(
        staged_prefix=prefix, phase=Phase.STAGE, bases=bases, caught_up=bases, checks=tuple(checks)
    )


def _claim(context: RunContext, prefix: str) -> None:
    context.lease.renew()
    objects, run = context.store.objects, context.run.run
    owner = RootOwner(
        store=objects.uri, pointer=context.store.pointer_key, run=run, at=context.environment.stamp()
    )
    claim_root(objects, prefix, owner)


def _carry(staging: StagingRun, carried: Carried) -> None:
    """Guard the pinned live table, and copy or clone it into the staged root unless a step writes it."""
    live = staging.store.tables.open(staging.root, carried.table, staging.run.bases[carried.table])
    if carried.staged_as is None:
        return
    staging.executor.guard(live)
    if carried.copied:
        _carry_files(staging, carried, live, carried.staged_as)


def _carry_files(staging: StagingRun, carried: Carried, live: Table, name: str) -> None:
    """Copy or clone a table into the staged root, unless it is there; a copy ends up borrowing no file."""
    tables, prefix, cloned = staging.store.tables, staging.staged_prefix, carried.by == "clone"
    doing, done = ("cloning", "cloned") if cloned else ("copying", "copied")
    if tables.find(prefix, name) is None:
        staging.on_progress(Progress("stage", carried.table, text=f"{doing} as {name}"))
        staging.lease.renew()
        stats = live.live()
        with staging.record.timed(
            "stage", table=carried.table, way=carried.by, rows=stats.rows, bytes=stats.bytes
        ):
            (tables.clone if cloned else tables.carry)(live, prefix, name)
        progress = Progress("stage", carried.table, text=done, rows=carried.rows, of=carried.rows)
        staging.on_progress(replace(progress, bytes=carried.bytes))
    if cloned:
        own_indices(staging.executor, prefix, name, staging.staged_revision)
    elif live.bases:
        materialize(staging.executor, prefix, name, staging.staged_revision)


def _perform(staging: StagingRun, planned: PlannedStep, name: str, steps: Sequence[PlannedStep]) -> None:
    """Execute a step, one of all staged `steps`, on the table `name` of the staged root."""
    carried = next((c for c in staging.plan.carried if c.staged_as == name), None)
    copied = carried is not None and carried.copied
    pinned = staging.run.bases[carried.table] if carried else 0
    source = None
    if carried is not None and not copied:
        source = staging.store.tables.open(staging.root, carried.table, pinned)
    target = TargetTable(
        root=staging.staged_prefix,
        name=name,
        base=pinned if copied else 0,
        private=True,
        before=planned.table_before,
        after=planned.table_after,
        source=source,
        layouts=tuple(
            other.operation
            for other in steps
            if other.step.staged_as == name and isinstance(other.operation, RewriteTable)
        ),
    )
    staging.perform(planned, target)


def _caught_up_facts(context: RunContext) -> dict[str, tuple[int, int]]:
    """Version and rows of the live tables, as of the commits that the staged root has."""
    tables = context.store.tables
    return {
        name: (version, tables.open(context.root, name, version).count())
        for name, version in context.run.caught_up.items()
    }
