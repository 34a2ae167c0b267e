"""Rebuilds: staged beside the live root, caught up, proven, and flipped to by one conditional write."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import wraps

from lancemig.apply.checks import hold
from lancemig.apply.commit.committer import Outrun
from lancemig.apply.commit.detach import own
from lancemig.apply.commit.target import Site
from lancemig.apply.environment import Progress
from lancemig.apply.publish import Change
from lancemig.apply.replicate.catch_up import behind, catch_up, tell
from lancemig.apply.replicate.reconcile import Way, crossings, reconcile, record, start_of
from lancemig.apply.root_owner import Claim, claim
from lancemig.apply.run import Flight, applied, measures, table_changes
from lancemig.apply.sidecar import Phase
from lancemig.apply.verify.verify import proof_of
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, Place, StepDone
from lancemig.catalog.operations import Operation, RewriteTable
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import counted
from lancemig.errors import PlanStale, PointerMoved, VerifyFailed
from lancemig.plan.plan import Carried, Step
from lancemig.store.lance import Table


def staged(flight: Flight) -> bool:
    """Whether the pointer names this run's staged root already."""
    pointer = flight.seen.pointer
    return pointer is not None and pointer.active_prefix == flight.run.staged_prefix


def in_staging(phase: Callable[[Flight], None]) -> Callable[[Flight], None]:
    """Let `phase` write below the run's staged prefix only: to no live table, and not to the pointer."""

    @wraps(phase)
    def confined(flight: Flight) -> None:
        store = flight.store
        flight.store = store.staging(flight.staged_prefix, flight.run.run)
        try:
            phase(flight)
        finally:
            flight.store = store

    return confined


def build(flight: Flight, prefix: str) -> None:
    """Stage; nothing live has changed when this returns, or raises.

    PointerMoved when the root that is being rebuilt is live no more.
    """
    _still_live(flight)
    _begin(flight, prefix)
    _carry(flight)
    _steps(flight)


@in_staging
def prove(flight: Flight) -> None:
    """Catch up with the live root, then let the staged one pass all gates; VerifyFailed otherwise."""
    flight.note(phase=Phase.CATCH_UP)
    with flight.timed("catch-up") as told:
        rounds, rows = catch_up(flight)
        told |= {"rounds": rounds, "rows": rows}
    flight.note(phase=Phase.VERIFY)
    flight.on_progress(Progress("verify", text="comparing the staged root with the live one"))
    with flight.timed("verify", **_carried_in_all(flight)):
        report = proof_of(flight, flight.staged_prefix)
        flight.lease.hold()
        kept = flight.store.reports.keep(report)
    if not report.ok:
        raise VerifyFailed(
            f"verification of the staged root {flight.staged_prefix} failed; the live root is unchanged:\n  "
            + "\n  ".join([*report.failed, f"report: {kept}"]),
            next_step="lancemig status; or abandon the run: lancemig recover --undo",
        )
    before = [result for result in flight.run.checks if result.when == "before"]
    flight.note(phase=Phase.VERIFIED, checks=(*before, *report.summary()), report=report.digest)


def flip(flight: Flight, action: Action | None = None) -> None:
    """Make the staged root the live one: lineage entry, then the pointer."""
    plan = flight.plan
    with flight.timed("flip"):
        facts, reads = flight.facts(flight.staged_prefix), flight.store.tables.reads(flight.staged_prefix)
        flight.worker.guard_catalog(
            flight.staged_prefix, {name: version for name, (version, _) in facts.items()}
        )
    flight.publish(
        Change(
            action=action or flight.action,
            origin=flight.place,
            target=Place(prefix=flight.staged_prefix, revision=plan.target),
            run=flight.run.run,
            started=flight.run.started,
            note=flight.run.note,
            direction=plan.direction,
            plan_digest=flight.run.plan_digest,
            migrations=applied(plan.staged),
            reads=reads,
            timings=flight.timings(staged=True),
            tables=table_changes(_caught_up_facts(flight), facts),
            steps=[done for key, done in flight.run.done.items() if _is_staged(flight, key)],
            checks=flight.run.checks,
            report=flight.run.report,
        )
    )
    flight.messages.append(f"live: {flight.staged_prefix} (was {flight.root or './'})")


def reconcile_after_flip(flight: Flight) -> None:
    """Bring over what still reached the old root while the pointer was written."""
    flight.note(phase=Phase.RECONCILE)
    pointer = flight.seen.pointer
    if pointer is None:
        return
    crossing = crossings(flight.store.pointers.chain(pointer))[-1]
    start = start_of(flight.store.tables, crossing)
    ways = [Way(p.source, p) for p in flight.passages() if p.source and p.target and not p.derived]
    with flight.timed("reconcile") as told:
        brought = reconcile(flight.worker, crossing, start, ways, "error")
        told["rows"] = sum(one.rows for one in brought)
    for one in brought:
        tell(flight, one)
    change = record(crossing, brought, pointer, flight.run.run, flight.caller)
    if change is not None:
        flight.publish(replace(change, timings=flight.run.timings[-1:]))


def _still_live(flight: Flight) -> None:
    plan = flight.plan
    revision = plan.in_place[-1].leads_to if plan.in_place else plan.origin.revision
    if flight.place != Place(prefix=flight.root, revision=revision):
        raise PointerMoved(
            f"the pointer moved to {flight.place.revision or 'base'} in {flight.place.prefix or './'} "
            f"after run {flight.run.run} started; that run rebuilds {flight.root or './'} at "
            f"{revision or 'base'}",
            next_step="lancemig recover --undo, then lancemig upgrade --plan",
        )


def _begin(flight: Flight, prefix: str) -> None:
    """Pin and guard the live tables; a resumed run keeps its pins."""
    if flight.run.staged_prefix is not None:
        return
    checks = hold(flight, flight.plan.staged[0], "before")
    live = flight.store.tables.live(flight.root)
    said = [one.said for one in catalog_drift(flight.staging_start(), live.catalog) if one.structural]
    if said:
        raise PlanStale(
            "the live catalog changed after the plan was made: " + "; ".join(said),
            next_step="lancemig upgrade --plan",
        )
    bases = {name: table.version for name, table in live.tables.items()}
    _claim(flight, prefix)
    flight.note(staged_prefix=prefix, phase=Phase.STAGE, bases=bases, caught_up=bases, checks=tuple(checks))


def _claim(flight: Flight, prefix: str) -> None:
    flight.lease.hold()
    objects, run = flight.store.objects, flight.run.run
    own = Claim(store=objects.uri, pointer=flight.store.pointer_key, run=run, at=flight.caller.stamp())
    claim(objects, prefix, own)


@in_staging
def _carry(flight: Flight) -> None:
    tables = flight.store.tables
    for carried in flight.plan.carried:
        live = tables.open(flight.root, carried.table, flight.run.bases[carried.table])
        if carried.staged_as is None:
            continue
        flight.worker.guard(live)
        if carried.copied:
            _carried(flight, carried, live, carried.staged_as)


def _carried(flight: Flight, carried: Carried, live: Table, name: str) -> None:
    """Bring a table into the staged root, unless it is there; what is copied borrows nothing in the end."""
    tables, prefix, cloned = flight.store.tables, flight.staged_prefix, carried.by == "clone"
    doing, done = ("cloning", "cloned") if cloned else ("copying", "copied")
    if tables.find(prefix, name) is None:
        flight.on_progress(Progress("stage", carried.table, text=f"{doing} as {name}"))
        flight.lease.hold()
        facts = live.live()
        with flight.timed("stage", table=carried.table, way=carried.by, rows=facts.rows, bytes=facts.bytes):
            (tables.clone if cloned else tables.carry)(live, prefix, name)
        told = Progress("stage", carried.table, text=done, rows=carried.rows, of=carried.rows)
        flight.on_progress(replace(told, bytes=carried.bytes))
    if not cloned and live.bases:
        own(flight.worker, prefix, name, flight.staged_revision)


@in_staging
def _steps(flight: Flight) -> None:
    schema = flight.staging_start()
    for migration in flight.plan.staged:
        for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
            after = operation.after(schema)
            # A step that changed nothing left no stamp; done again on a resumed run, it would take rows that
            # were caught up with since, and had gone through it on their way. The gates look at the store.
            if step.staged_as is not None and step.id not in flight.run.done:
                with flight.timed("stage", **measures(step)):
                    done = _perform(flight, step, operation, schema, after)
                flight.note(done={**flight.run.done, step.id: done})
            schema = after


def _perform(
    flight: Flight, step: Step, operation: Operation, before: CatalogSchema, after: CatalogSchema
) -> StepDone:
    name = step.staged_as or step.table
    source = _source_of(flight, name)
    copied = source is not None and any(c.table == source and c.copied for c in flight.plan.carried)
    pinned = flight.run.bases[source] if source else 0
    site = Site(
        root=flight.staged_prefix,
        name=name,
        base=pinned if copied else 0,
        private=True,
        before=before.tables.get(step.table),
        after=after.tables.get(step.table),
        source=flight.store.tables.open(flight.root, source, pinned) if source and not copied else None,
        layouts=tuple(_layouts(flight, name)),
    )
    return flight.worker.perform(step, operation, site)


def _layouts(flight: Flight, name: str) -> Iterator[RewriteTable]:
    """What the staged steps of a table ask of its layout, in their order."""
    for migration in flight.plan.staged:
        for step, operation in zip(migration.steps, flight.operations(migration), strict=True):
            if step.staged_as == name and isinstance(operation, RewriteTable):
                yield operation


def _source_of(flight: Flight, staged_as: str) -> str | None:
    return next((c.table for c in flight.plan.carried if c.staged_as == staged_as), None)


def _carried_in_all(flight: Flight) -> dict[str, int]:
    """The rows and bytes that a proof is about, as the plan knew them."""
    carried = flight.plan.carried
    return {"rows": sum(c.rows or 0 for c in carried), "bytes": sum(c.bytes or 0 for c in carried)}


def _caught_up_facts(flight: Flight) -> dict[str, tuple[int, int]]:
    tables = flight.store.tables
    return {
        name: (version, tables.open(flight.root, name, version).count())
        for name, version in flight.run.caught_up.items()
    }


def _is_staged(flight: Flight, step_id: str) -> bool:
    return any(step.id == step_id for migration in flight.plan.staged for step in migration.steps)


_CATCH_UP_EVERY = timedelta(seconds=10)


def proven(flight: Flight) -> None:
    """Catch up and prove, once more where the proof took so long that too many rows came meanwhile.

    VerifyFailed when a gate fails; Outrun when writers are faster than the proof.
    """
    began = flight.caller.now()
    while True:
        prove(flight)
        rows = behind(flight)
        if rows <= flight.store.catch_up_rows:
            return
        if flight.caller.now() - began > timedelta(seconds=flight.store.retry_seconds):
            raise Outrun(
                f"{counted(rows, 'row')} arrived during verification of the staged root, more than "
                f"catch_up_rows = {flight.store.catch_up_rows:,} allows at the flip",
                next_step="run the same command again when fewer writers are active; or raise "
                "catch_up_rows in "
                "lancemig.ini",
            )


def wait(flight: Flight, postponed: Callable[[], bool]) -> None:
    """Keep the staged root caught up while the flip is postponed; then prove it again.

    A run that dies meanwhile is one that waits for `lancemig flip`.
    """
    flight.note(no_flip=True)
    flight.on_progress(
        Progress("postponed", text="waiting for lancemig flip; new commits are replicated meanwhile")
    )
    caught_up = flight.caller.now()
    while postponed():
        flight.caller.sleep(1.0)
        flight.lease.hold()
        if flight.caller.now() - caught_up >= _CATCH_UP_EVERY:
            _follow(flight)
            caught_up = flight.caller.now()
    proven(flight)
    flight.note(no_flip=False)


@in_staging
def _follow(flight: Flight) -> None:
    catch_up(flight)
