"""Rebuilds: staged beside the live root, caught up, proven, and flipped to by one conditional write."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import wraps

from lancemig.apply.checks import require
from lancemig.apply.commit.committer import ContentionError
from lancemig.apply.commit.detach import materialize
from lancemig.apply.commit.target import TargetTable
from lancemig.apply.environment import Progress
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.replicate.catch_up import behind, catch_up, report_round
from lancemig.apply.replicate.reconcile import TableRoute, reconcile, record, root_transitions, start_of
from lancemig.apply.root_owner import RootOwner, claim_root
from lancemig.apply.run import RunContext, applied_migrations, table_changes, timing_fields
from lancemig.apply.sidecar import Phase
from lancemig.apply.verify.verify import verify
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, RootRevision, StepDone
from lancemig.catalog.operations import Operation, RewriteTable
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import count_text
from lancemig.catalog.value import format_revision, format_root
from lancemig.errors import PlanStale, PointerMoved, VerifyFailed
from lancemig.plan.plan import Carried, Step
from lancemig.store.lance import Table


def staged(context: RunContext) -> bool:
    """Whether the pointer names this run's staged root already."""
    pointer = context.seen.pointer
    return pointer is not None and pointer.active_prefix == context.run.staged_prefix


def in_staging(phase: Callable[[RunContext], None]) -> Callable[[RunContext], None]:
    """Let `phase` write below the run's staged prefix only: to no live table, and not to the pointer."""

    @wraps(phase)
    def confined(context: RunContext) -> None:
        store = context.store
        context.store = store.staging(context.staged_prefix, context.run.run)
        try:
            phase(context)
        finally:
            context.store = store

    return confined


def build(context: RunContext, prefix: str) -> None:
    """Stage; nothing live has changed when this returns, or raises.

    PointerMoved when the root that is being rebuilt is live no more.
    """
    _still_live(context)
    _begin(context, prefix)
    _carry(context)
    _steps(context)


@in_staging
def prove(context: RunContext) -> None:
    """Catch up with the live root, then let the staged one pass all gates; VerifyFailed otherwise."""
    context.save(phase=Phase.CATCH_UP)
    with context.timed("catch-up") as told:
        rounds, rows = catch_up(context)
        told |= {"rounds": rounds, "rows": rows}
    context.save(phase=Phase.VERIFY)
    context.on_progress(Progress("verify", text="comparing the staged root with the live one"))
    with context.timed("verify", **_carried_in_all(context)):
        report = verify(context, context.staged_prefix)
        context.lease.renew()
        kept = context.store.reports.keep(report)
    if not report.ok:
        raise VerifyFailed(
            f"verification of the staged root {context.staged_prefix} failed; the live root is unchanged:\n  "
            + "\n  ".join([*report.failed, f"report: {kept}"]),
            next_step="lancemig status; or abandon the run: lancemig recover --undo",
        )
    before = [result for result in context.run.checks if result.when == "before"]
    context.save(phase=Phase.VERIFIED, checks=(*before, *report.summary()), report=report.digest)


def flip(context: RunContext, action: Action | None = None) -> None:
    """Make the staged root the live one: lineage entry, then the pointer."""
    plan = context.plan
    with context.timed("flip"):
        facts, reads = context.facts(context.staged_prefix), context.store.tables.reads(context.staged_prefix)
        context.executor.guard_catalog(
            context.staged_prefix, {name: version for name, (version, _) in facts.items()}
        )
    context.publish(
        PointerUpdate(
            action=action or context.action,
            origin=context.active,
            target=RootRevision(prefix=context.staged_prefix, revision=plan.target),
            run=context.run.run,
            started=context.run.started,
            note=context.run.note,
            direction=plan.direction,
            plan_digest=context.run.plan_digest,
            migrations=applied_migrations(plan.staged),
            reads=reads,
            timings=context.timings(staged=True),
            tables=table_changes(_caught_up_facts(context), facts),
            steps=[done for key, done in context.run.done.items() if _is_staged(context, key)],
            checks=context.run.checks,
            report=context.run.report,
        )
    )
    context.messages.append(f"live: {context.staged_prefix} (was {format_root(context.root)})")


def reconcile_after_flip(context: RunContext) -> None:
    """Bring over what still reached the old root while the pointer was written."""
    context.save(phase=Phase.RECONCILE)
    pointer = context.seen.pointer
    if pointer is None:
        return
    transition = root_transitions(context.store.pointers.chain(pointer))[-1]
    start = start_of(context.store.tables, transition)
    ways = [TableRoute(p.source, p) for p in context.table_paths() if p.source and p.target and not p.derived]
    with context.timed("reconcile") as told:
        brought = reconcile(context.executor, transition, start, ways, "error")
        told["rows"] = sum(one.rows for one in brought)
    for one in brought:
        report_round(context, one)
    change = record(transition, brought, pointer, context.run.run, context.environment)
    if change is not None:
        context.publish(replace(change, timings=context.run.timings[-1:]))


def _still_live(context: RunContext) -> None:
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
    """Pin and guard the live tables; a resumed run keeps its pins."""
    if context.run.staged_prefix is not None:
        return
    checks = require(context, context.plan.staged[0], "before")
    live = context.store.tables.live(context.root)
    said = [one.message for one in catalog_drift(context.staging_start(), live.catalog) if one.structural]
    if said:
        raise PlanStale(
            "the live catalog changed after the plan was made: " + "; ".join(said),
            next_step="lancemig upgrade --plan",
        )
    bases = {name: table.version for name, table in live.tables.items()}
    _claim(context, prefix)
    context.save(staged_prefix=prefix, phase=Phase.STAGE, bases=bases, caught_up=bases, checks=tuple(checks))


def _claim(context: RunContext, prefix: str) -> None:
    context.lease.renew()
    objects, run = context.store.objects, context.run.run
    own = RootOwner(
        store=objects.uri, pointer=context.store.pointer_key, run=run, at=context.environment.stamp()
    )
    claim_root(objects, prefix, own)


@in_staging
def _carry(context: RunContext) -> None:
    tables = context.store.tables
    for carried in context.plan.carried:
        live = tables.open(context.root, carried.table, context.run.bases[carried.table])
        if carried.staged_as is None:
            continue
        context.executor.guard(live)
        if carried.copied:
            _carried(context, carried, live, carried.staged_as)


def _carried(context: RunContext, carried: Carried, live: Table, name: str) -> None:
    """Bring a table into the staged root, unless it is there; what is copied borrows nothing in the end."""
    tables, prefix, cloned = context.store.tables, context.staged_prefix, carried.by == "clone"
    doing, done = ("cloning", "cloned") if cloned else ("copying", "copied")
    if tables.find(prefix, name) is None:
        context.on_progress(Progress("stage", carried.table, text=f"{doing} as {name}"))
        context.lease.renew()
        facts = live.live()
        with context.timed("stage", table=carried.table, way=carried.by, rows=facts.rows, bytes=facts.bytes):
            (tables.clone if cloned else tables.carry)(live, prefix, name)
        told = Progress("stage", carried.table, text=done, rows=carried.rows, of=carried.rows)
        context.on_progress(replace(told, bytes=carried.bytes))
    if not cloned and live.bases:
        materialize(context.executor, prefix, name, context.staged_revision)


@in_staging
def _steps(context: RunContext) -> None:
    schema = context.staging_start()
    for migration in context.plan.staged:
        for step, operation in zip(migration.steps, context.operations(migration), strict=True):
            after = operation.after(schema)
            # A step that changed nothing left no stamp; done again on a resumed run, it would take rows that
            # were caught up with since, and had gone through it on their way. The gates look at the store.
            if step.staged_as is not None and step.id not in context.run.done:
                with context.timed("stage", **timing_fields(step)):
                    done = _perform(context, step, operation, schema, after)
                context.save(done={**context.run.done, step.id: done})
            schema = after


def _perform(
    context: RunContext, step: Step, operation: Operation, before: CatalogSchema, after: CatalogSchema
) -> StepDone:
    name = step.staged_as or step.table
    source = _source_of(context, name)
    copied = source is not None and any(c.table == source and c.copied for c in context.plan.carried)
    pinned = context.run.bases[source] if source else 0
    target = TargetTable(
        root=context.staged_prefix,
        name=name,
        base=pinned if copied else 0,
        private=True,
        before=before.tables.get(step.table),
        after=after.tables.get(step.table),
        source=context.store.tables.open(context.root, source, pinned) if source and not copied else None,
        layouts=tuple(_layouts(context, name)),
    )
    return context.executor.perform(step, operation, target)


def _layouts(context: RunContext, name: str) -> Iterator[RewriteTable]:
    """What the staged steps of a table ask of its layout, in their order."""
    for migration in context.plan.staged:
        for step, operation in zip(migration.steps, context.operations(migration), strict=True):
            if step.staged_as == name and isinstance(operation, RewriteTable):
                yield operation


def _source_of(context: RunContext, staged_as: str) -> str | None:
    return next((c.table for c in context.plan.carried if c.staged_as == staged_as), None)


def _carried_in_all(context: RunContext) -> dict[str, int]:
    """The rows and bytes that a proof is about, as the plan knew them."""
    carried = context.plan.carried
    return {"rows": sum(c.rows or 0 for c in carried), "bytes": sum(c.bytes or 0 for c in carried)}


def _caught_up_facts(context: RunContext) -> dict[str, tuple[int, int]]:
    tables = context.store.tables
    return {
        name: (version, tables.open(context.root, name, version).count())
        for name, version in context.run.caught_up.items()
    }


def _is_staged(context: RunContext, step_id: str) -> bool:
    return any(step.id == step_id for migration in context.plan.staged for step in migration.steps)


_CATCH_UP_EVERY = timedelta(seconds=10)


def proven(context: RunContext) -> None:
    """Catch up and prove, once more where the proof took so long that too many rows came meanwhile.

    VerifyFailed when a gate fails; ContentionError when writers are faster than the proof.
    """
    began = context.environment.now()
    while True:
        prove(context)
        rows = behind(context)
        if rows <= context.store.catch_up_rows:
            return
        if context.environment.now() - began > timedelta(seconds=context.store.retry_seconds):
            raise ContentionError(
                f"{count_text(rows, 'row')} arrived during verification of the staged root, more than "
                f"catch_up_rows = {context.store.catch_up_rows:,} allows at the flip",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in "
                "lancemig.ini",
            )


def wait(context: RunContext, postponed: Callable[[], bool]) -> None:
    """Keep the staged root caught up while the flip is postponed; then prove it again.

    A run that dies meanwhile is one that waits for `lancemig flip`.
    """
    context.save(no_flip=True)
    context.on_progress(
        Progress("postponed", text="waiting for lancemig flip; new commits are replicated meanwhile")
    )
    caught_up = context.environment.now()
    while postponed():
        context.environment.sleep(1.0)
        context.lease.renew()
        if context.environment.now() - caught_up >= _CATCH_UP_EVERY:
            _follow(context)
            caught_up = context.environment.now()
    proven(context)
    context.save(no_flip=False)


@in_staging
def _follow(context: RunContext) -> None:
    catch_up(context)
