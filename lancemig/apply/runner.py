"""Carrying out a plan from beginning to end, or going on where a dead run left off."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from lancemig.apply.commit.intents import OutcomeRuling, rule_outcome
from lancemig.apply.environment import Environment, OnProgress, Progress, no_progress
from lancemig.apply.in_place import apply_in_place
from lancemig.apply.lock import Lease, hold_lock
from lancemig.apply.rebuild import build, flip, proven, reconcile_after_flip, staged, wait
from lancemig.apply.rows.skipped import OnSkipped, ignore
from lancemig.apply.run import RunContext, TableFacts, active_root, facts, nothing_landed
from lancemig.apply.sidecar import Phase, Run
from lancemig.apply.store import Store
from lancemig.apply.undo_run import undo_run
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, RootRevision, StepDone
from lancemig.catalog.value import format_revision, format_root
from lancemig.errors import BrakeTripped, CheckFailed, PlanError, PlanStale, RunUnfinished, StoreError
from lancemig.plan.plan import DirectedMigration, Plan


@dataclass(frozen=True)
class RunRequest:
    """What is to be carried out: `work` are the plan's operations, `staging` the prefix of a new root.

    `on_left` is told of rows that a step leaves as they are; while `postponed` says so, a flip waits.
    `assumption` is what a person saw of the commit that a dead run was making, where the log does not tell.
    """

    plan: Plan
    migrations: Sequence[DirectedMigration]
    staging: str
    fallback: RootRevision
    no_flip: bool = False
    note: str | None = None
    on_skipped: OnSkipped = ignore
    ruling: OutcomeRuling | None = None
    postponed: Callable[[], bool] | None = None


@dataclass(frozen=True)
class RunOutcome:
    """What a run did: the catalog's place afterwards, each step, and what a person should be told."""

    run: str
    place: RootRevision
    steps: tuple[StepDone, ...] = ()
    messages: tuple[str, ...] = ()
    staged_prefix: str | None = None
    flipped: bool = False


def new_run_id(environment: Environment) -> str:
    """A run's name: when it began, and four hex digits: `20260520T190000Z-7c1d`."""
    return f"{environment.now():%Y%m%dT%H%M%SZ}-{environment.new_id()[:4]}"


def apply_plan(
    store: Store,
    orders: RunRequest,
    environment: Environment,
    run_id: str,
    on_progress: OnProgress = no_progress,
) -> RunOutcome:
    """Carry out `orders.plan`, or finish the run of that name if its sidecar is there.

    Whatever kills it, the same call goes on and each step takes effect once. Raises PlanStale when the
    catalog is no longer what the plan was made from, LockHeld when another runner is at work.
    """
    with _flight(store, orders, environment, run_id, on_progress) as context:
        _finish_undo(context)
        if not staged(context):
            apply_in_place(context)
        if context.plan.staged and not staged(context):
            build(context, orders.staging)
            proven(context)
            if orders.postponed is not None and not context.run.no_flip:
                wait(context, orders.postponed)
            if not context.run.no_flip:
                flip(context)
        if context.plan.staged and staged(context):
            reconcile_after_flip(context)
        return _ended(context)


def flip_staged(
    store: Store,
    orders: RunRequest,
    environment: Environment,
    run_id: str,
    on_progress: OnProgress = no_progress,
) -> RunOutcome:
    """Flip to the root that a run with `no_flip` staged: catch up and prove again first."""
    with _flight(store, orders, environment, run_id, on_progress) as context:
        if not staged(context):
            proven(context)
            context.save(no_flip=False)
            flip(context, Action.FLIP)
        reconcile_after_flip(context)
        return _ended(context)


def undo_in_flight(
    store: Store,
    orders: RunRequest,
    environment: Environment,
    run_id: str,
    on_progress: OnProgress = no_progress,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Undo what the run in flight did and did not publish, and take its sidecar away; says what was done."""
    with _flight(store, orders, environment, run_id, on_progress) as context:
        said = undo_run(context, "lancemig recover --undo", overwrite=overwrite)
        context.end()
        return said


def _finish_undo(context: RunContext) -> None:
    """A run that is being undone can only be undone to the end: no step of it may be done again."""
    if context.run.phase is not Phase.UNDO:
        return
    why = context.run.undoing or ""
    undo_run(context, why)
    context.end()
    raise RunUnfinished(
        f"run {context.run.run} was being undone ({why}); the undo is now complete, and nothing else was "
        "done",
        next_step="lancemig upgrade --plan",
    )


@contextmanager
def _flight(
    store: Store, orders: RunRequest, environment: Environment, run_id: str, on_progress: OnProgress
) -> Iterator[RunContext]:
    with hold_lock(store.objects, store.lock_key, run_id, environment, store.lock_ttl) as lease:
        sidecars = store.sidecars()
        seen, run = store.pointers.read(), sidecars.in_flight()
        if run is not None and run.run != run_id:
            raise RunUnfinished(
                f"run {run.run} has been in progress since {run.started}",
                next_step="finish it: lancemig recover; or undo it: lancemig recover --undo",
            )
        begun = run or _new_run(orders, environment, run_id)
        place = active_root(seen, orders.fallback)
        root = begun.plan.origin.prefix
        told = partial(_told, lease, on_progress)
        context = RunContext(
            store, sidecars, lease, environment, told, orders.migrations, seen, begun, root, orders.on_skipped
        )
        # Wanted with the lineage; meanwhile there is other work.
        threading.Thread(target=environment.git_commit, daemon=True).start()
        if run is None:
            context.fresh = True
            _start(context, place)
        if orders.ruling is not None:
            rule_outcome(context, store.tables, root, orders.ruling)
        _guard_bases(context)
        try:
            yield context
        except StoreError:
            # A runner that was replaced meanwhile meets what its successor did.
            context.lease.renew()
            raise
        except (BrakeTripped, CheckFailed, PlanError) as error:
            context.lease.renew()
            _stop(context, error)


def _told(lease: Lease, on_progress: OnProgress, progress: Progress) -> None:
    """Tell the caller, and with the next heartbeat whoever asks for the status."""
    lease.doing = progress
    on_progress(progress)


def _stop(context: RunContext, error: BrakeTripped | CheckFailed | PlanError) -> NoReturn:
    """End a run that cannot succeed, where nothing is half-done: the migration may be mended right away.

    What was half-done when a brake tripped or a check failed is put back; an operation that turned out to be
    impossible may become possible, so that is for a person to decide.
    """
    if staged(context) or context.run.phase is Phase.UNDO:
        raise error
    if nothing_landed(context):
        context.end()
        raise error
    if isinstance(error, BrakeTripped | CheckFailed):
        said = undo_run(context, error.message)
        context.end()
        raise type(error)(
            f"{error.message}\n  the changes of this run were undone:\n  " + "\n  ".join(said),
            next_step=error.next_step,
        ) from error
    raise type(error)(
        error.message,
        next_step="undo the changes of this run: lancemig recover --undo; then fix the migration",
    ) from error


def _new_run(orders: RunRequest, environment: Environment, run_id: str) -> Run:
    return Run(
        run=run_id,
        plan=orders.plan,
        plan_digest=orders.plan.digest,
        no_flip=orders.no_flip,
        started=environment.stamp(),
        actor=environment.actor,
        host=environment.host,
        note=orders.note,
    )


def _start(context: RunContext, place: RootRevision) -> None:
    """See that the plan still holds, and write the sidecar."""
    live = context.store.tables.live(context.root)
    said = [one.message for one in catalog_drift(context.plan.start, live.catalog) if one.structural]
    if place != context.plan.origin:
        said.insert(0, f"the pointer is at {format_revision(place.revision)} in {format_root(place.prefix)}")
    if said:
        raise PlanStale(
            "the catalog changed after the plan was made: " + "; ".join(said),
            next_step="lancemig upgrade --plan",
        )
    found = facts(live)
    bases = {name: version for name, (version, _) in found.items()}
    context.save(phase=Phase.IN_PLACE, bases=bases, **_first_begun(context, found))


def _first_begun(context: RunContext, found: TableFacts) -> dict[str, Any]:
    """What says that the first migration in place has begun; nothing where something comes before that."""
    first = next(iter(context.plan.in_place), None)
    if first is None or any(check.due("before") for check in context.checks(first)):
        return {}
    return {"revision": first.revision, "before": dict(found)}


def _guard_bases(context: RunContext) -> None:
    """Guard what is changed in place; once more for a run that died before it had."""
    touched = {step.table for migration in context.plan.in_place for step in migration.steps}
    bases = {name: context.run.bases[name] for name in sorted(touched & set(context.run.bases))}
    if not context.fresh:
        # A run that died before it had may find one gone, and does without.
        bases = {name: v for name, v in bases.items() if context.store.tables.find(context.root, name, v)}
    context.executor.guard_catalog(context.root, bases)


def _ended(context: RunContext) -> RunOutcome:
    """Take the sidecar away, unless the run waits for its flip."""
    flipped = staged(context)
    if not context.run.no_flip or flipped or not context.plan.staged:
        context.end()
    return RunOutcome(
        run=context.run.run,
        place=active_root(context.seen, context.plan.origin),
        steps=tuple(context.run.done.values()),
        messages=tuple(context.messages),
        staged_prefix=context.run.staged_prefix,
        flipped=flipped,
    )
