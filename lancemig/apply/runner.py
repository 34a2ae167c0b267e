"""Carrying out a plan from beginning to end, or going on where a dead run left off."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from lancemig.apply.commit.intents import Assumption, assume
from lancemig.apply.environment import Caller, OnProgress, Progress, silent
from lancemig.apply.in_place import apply_in_place
from lancemig.apply.lock import Lease, held
from lancemig.apply.rebuild import build, flip, proven, reconcile_after_flip, staged, wait
from lancemig.apply.rows.skipped import OnLeft, unheard
from lancemig.apply.run import Facts, Flight, facts, nothing_landed, place_of
from lancemig.apply.sidecar import Phase, Run
from lancemig.apply.store import Store
from lancemig.apply.undo_run import abandon
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, Place, StepDone
from lancemig.errors import BrakeTripped, CheckFailed, PlanError, PlanStale, RunUnfinished, StoreError
from lancemig.plan.plan import Plan, Work


@dataclass(frozen=True)
class Orders:
    """What is to be carried out: `work` are the plan's operations, `staging` the prefix of a new root.

    `on_left` is told of rows that a step leaves as they are; while `postponed` says so, a flip waits.
    `assumption` is what a person saw of the commit that a dead run was making, where the log does not tell.
    """

    plan: Plan
    work: Sequence[Work]
    staging: str
    fallback: Place
    no_flip: bool = False
    note: str | None = None
    on_left: OnLeft = unheard
    assumption: Assumption | None = None
    postponed: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run did: the catalog's place afterwards, each step, and what a person should be told."""

    run: str
    place: Place
    steps: tuple[StepDone, ...] = ()
    messages: tuple[str, ...] = ()
    staged_prefix: str | None = None
    flipped: bool = False


def new_run_id(caller: Caller) -> str:
    """A run's name: when it began, and four hex digits: `20260520T190000Z-7c1d`."""
    return f"{caller.now():%Y%m%dT%H%M%SZ}-{caller.new_id()[:4]}"


def carry_out(
    store: Store, orders: Orders, caller: Caller, run_id: str, on_progress: OnProgress = silent
) -> Outcome:
    """Carry out `orders.plan`, or finish the run of that name if its sidecar is there.

    Whatever kills it, the same call goes on and each step takes effect once. Raises PlanStale when the
    catalog is no longer what the plan was made from, LockHeld when another runner is at work.
    """
    with _flight(store, orders, caller, run_id, on_progress) as flight:
        _finish_undo(flight)
        if not staged(flight):
            apply_in_place(flight)
        if flight.plan.staged and not staged(flight):
            build(flight, orders.staging)
            proven(flight)
            if orders.postponed is not None and not flight.run.no_flip:
                wait(flight, orders.postponed)
            if not flight.run.no_flip:
                flip(flight)
        if flight.plan.staged and staged(flight):
            reconcile_after_flip(flight)
        return _ended(flight)


def flip_staged(
    store: Store, orders: Orders, caller: Caller, run_id: str, on_progress: OnProgress = silent
) -> Outcome:
    """Flip to the root that a run with `no_flip` staged: catch up and prove again first."""
    with _flight(store, orders, caller, run_id, on_progress) as flight:
        if not staged(flight):
            proven(flight)
            flight.note(no_flip=False)
            flip(flight, Action.FLIP)
        reconcile_after_flip(flight)
        return _ended(flight)


def give_up(
    store: Store,
    orders: Orders,
    caller: Caller,
    run_id: str,
    on_progress: OnProgress = silent,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Undo what the run in flight did and did not publish, and take its sidecar away; says what was done."""
    with _flight(store, orders, caller, run_id, on_progress) as flight:
        said = abandon(flight, "lancemig recover --undo", overwrite=overwrite)
        flight.end()
        return said


def _finish_undo(flight: Flight) -> None:
    """A run that is being undone can only be undone to the end: no step of it may be done again."""
    if flight.run.phase is not Phase.UNDO:
        return
    why = flight.run.undoing or ""
    abandon(flight, why)
    flight.end()
    raise RunUnfinished(
        f"run {flight.run.run} was being undone ({why}); the undo is now complete, and nothing else was done",
        next_step="lancemig upgrade --plan",
    )


@contextmanager
def _flight(
    store: Store, orders: Orders, caller: Caller, run_id: str, on_progress: OnProgress
) -> Iterator[Flight]:
    with held(store.objects, store.lock_key, run_id, caller, store.lock_ttl) as lease:
        sidecars = store.sidecars()
        seen, run = store.pointers.read(), sidecars.in_flight()
        if run is not None and run.run != run_id:
            raise RunUnfinished(
                f"run {run.run} has been in progress since {run.started}",
                next_step="finish it: lancemig recover; or undo it: lancemig recover --undo",
            )
        begun = run or _new_run(orders, caller, run_id)
        place = place_of(seen, orders.fallback)
        root = begun.plan.origin.prefix
        told = partial(_told, lease, on_progress)
        flight = Flight(store, sidecars, lease, caller, told, orders.work, seen, begun, root, orders.on_left)
        # Wanted with the lineage; meanwhile there is other work.
        threading.Thread(target=caller.git_commit, daemon=True).start()
        if run is None:
            flight.fresh = True
            _start(flight, place)
        if orders.assumption is not None:
            assume(flight, store.tables, root, orders.assumption)
        _guard_bases(flight)
        try:
            yield flight
        except StoreError:
            # A runner that was replaced meanwhile meets what its successor did.
            flight.lease.hold()
            raise
        except (BrakeTripped, CheckFailed, PlanError) as error:
            flight.lease.hold()
            _stop(flight, error)


def _told(lease: Lease, on_progress: OnProgress, progress: Progress) -> None:
    """Tell the caller, and with the next heartbeat whoever asks for the status."""
    lease.doing = progress
    on_progress(progress)


def _stop(flight: Flight, error: BrakeTripped | CheckFailed | PlanError) -> NoReturn:
    """End a run that cannot succeed, where nothing is half-done: the migration may be mended right away.

    What was half-done when a brake tripped or a check failed is put back; an operation that turned out to be
    impossible may become possible, so that is for a person to decide.
    """
    if staged(flight) or flight.run.phase is Phase.UNDO:
        raise error
    if nothing_landed(flight):
        flight.end()
        raise error
    if isinstance(error, BrakeTripped | CheckFailed):
        said = abandon(flight, error.message)
        flight.end()
        raise type(error)(
            f"{error.message}\n  the changes of this run were undone:\n  " + "\n  ".join(said),
            next_step=error.next_step,
        ) from error
    raise type(error)(
        error.message,
        next_step="undo the changes of this run: lancemig recover --undo; then fix the migration",
    ) from error


def _new_run(orders: Orders, caller: Caller, run_id: str) -> Run:
    return Run(
        run=run_id,
        plan=orders.plan,
        plan_digest=orders.plan.digest,
        no_flip=orders.no_flip,
        started=caller.stamp(),
        actor=caller.actor,
        host=caller.host,
        note=orders.note,
    )


def _start(flight: Flight, place: Place) -> None:
    """See that the plan still holds, and write the sidecar."""
    live = flight.store.tables.live(flight.root)
    said = [one.said for one in catalog_drift(flight.plan.start, live.catalog) if one.structural]
    if place != flight.plan.origin:
        said.insert(0, f"the pointer is at {place.revision or 'base'} in {place.prefix or './'}")
    if said:
        raise PlanStale(
            "the catalog changed after the plan was made: " + "; ".join(said),
            next_step="lancemig upgrade --plan",
        )
    found = facts(live)
    bases = {name: version for name, (version, _) in found.items()}
    flight.note(phase=Phase.IN_PLACE, bases=bases, **_first_begun(flight, found))


def _first_begun(flight: Flight, found: Facts) -> dict[str, Any]:
    """What says that the first migration in place has begun; nothing where something comes before that."""
    first = next(iter(flight.plan.in_place), None)
    if first is None or any(check.due("before") for check in flight.checks(first)):
        return {}
    return {"revision": first.revision, "before": dict(found)}


def _guard_bases(flight: Flight) -> None:
    """Guard what is changed in place; once more for a run that died before it had."""
    touched = {step.table for migration in flight.plan.in_place for step in migration.steps}
    bases = {name: flight.run.bases[name] for name in sorted(touched & set(flight.run.bases))}
    if not flight.fresh:
        # A run that died before it had may find one gone, and does without.
        bases = {name: v for name, v in bases.items() if flight.store.tables.find(flight.root, name, v)}
    flight.worker.guard_catalog(flight.root, bases)


def _ended(flight: Flight) -> Outcome:
    """Take the sidecar away, unless the run waits for its flip."""
    flipped = staged(flight)
    if not flight.run.no_flip or flipped or not flight.plan.staged:
        flight.end()
    return Outcome(
        run=flight.run.run,
        place=place_of(flight.seen, flight.plan.origin),
        steps=tuple(flight.run.done.values()),
        messages=tuple(flight.messages),
        staged_prefix=flight.run.staged_prefix,
        flipped=flipped,
    )
