"""Executing a plan: the stages of a run in their order, from wherever an earlier process stopped."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from lancemig.apply.commit.intents import OutcomeRuling, rule_outcome
from lancemig.apply.environment import Environment, OnProgress, Progress, no_progress
from lancemig.apply.in_place import apply_in_place
from lancemig.apply.lock import Lease, hold_lock
from lancemig.apply.publish import incomplete
from lancemig.apply.rebuild import (
    build,
    flip,
    hold,
    reconcile_after_flip,
    replicate_new_commits,
    verify_up_to_date,
)
from lancemig.apply.record import RunRecord
from lancemig.apply.replicate.reconcile import FindRoutes, reconcile_next_step
from lancemig.apply.rows.skipped import OnSkipped, ignore
from lancemig.apply.run import RunContext, active_root, facts, nothing_landed
from lancemig.apply.sidecar import Run
from lancemig.apply.stages import (
    CATCH_UP,
    FLIP,
    HOLD,
    IN_PLACE,
    RECONCILE,
    STAGE,
    STAGES,
    VERIFY,
    Phase,
    Stage,
)
from lancemig.apply.store import Store
from lancemig.apply.undo_run import undo_run
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, RootRevision, StepDone
from lancemig.catalog.value import format_revision, format_root
from lancemig.errors import (
    BrakeTripped,
    CheckFailed,
    FunctionFailed,
    FunctionUnavailable,
    Incomplete,
    LancemigError,
    OutcomeUnknown,
    PlanError,
    PlanStale,
    RunUnfinished,
    StoreError,
    VerifyFailed,
)
from lancemig.events import log_event
from lancemig.plan.plan import DirectedMigration, Plan
from lancemig.store.lance import LanceRefused, panics_translated

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """What a run is to do, and how."""

    plan: Plan

    migrations: Sequence[DirectedMigration]
    """The operations of the plan, from the migration files."""

    staging: str
    """The prefix of the root that a rebuild creates."""

    fallback: RootRevision
    """The live root, where there is no pointer yet."""

    no_flip: bool = False
    """Whether the run ends before the flip, and waits for `lancemig flip`."""

    note: str | None = None

    on_skipped: OnSkipped = ignore
    """Called with the rows that a step leaves unchanged."""

    ruling: OutcomeRuling | None = None
    """The operator's ruling on a commit whose outcome the table's log does not tell any more."""

    postponed: Callable[[], bool] | None = None
    """Whether the flip still has to wait; asked again and again."""

    release: bool = False
    """Whether to flip to a root that was staged with `no_flip`."""

    find_routes: FindRoutes | None = None
    """Finds the routes of late writes for a run that has flipped, and whose files may be edited since."""


@dataclass(frozen=True)
class RunOutcome:
    """What a run did."""

    run: str

    active: RootRevision
    """The live root and its revision after the run."""

    steps: tuple[StepDone, ...] = ()

    messages: tuple[str, ...] = ()
    """Messages for the user."""

    staged_prefix: str | None = None
    flipped: bool = False

    not_replicated: tuple[str, ...] = ()
    """The late writes that were not replicated after the flip; `messages` names them as well."""


def new_run_id(environment: Environment) -> str:
    """The id of a new run: its start in UTC, and four hex digits: `20260520T190000Z-7c1d`."""
    return f"{environment.now():%Y%m%dT%H%M%SZ}-{environment.new_id()[:4]}"


def apply_plan(
    store: Store,
    request: RunRequest,
    environment: Environment,
    run_id: str,
    on_progress: OnProgress = no_progress,
) -> RunOutcome:
    """Execute `request.plan`, or complete the run `run_id` if its sidecar exists.

    After any death the same call continues, and each step takes effect once.

    Raises:
        PlanStale: The catalog is not what the plan was made from.
        LockHeld: Another runner is active.
    """
    with _open_run(store, request, environment, run_id, on_progress) as context:
        store.pointers.require_own(context.seen)
        _finish_undo(context)
        return _execute(context, request, STAGES)


def flip_staged(
    store: Store,
    request: RunRequest,
    environment: Environment,
    run_id: str,
    on_progress: OnProgress = no_progress,
) -> RunOutcome:
    """Flip to the root that a run with `no_flip` staged, after replicating and verifying once more."""
    with _open_run(store, request, environment, run_id, on_progress) as context:
        store.pointers.require_own(context.seen)
        stages = STAGES[STAGES.index(CATCH_UP) :]
        return _execute(context, replace(request, release=True), stages)


def _execute(context: RunContext, request: RunRequest, stages: Sequence[Stage]) -> RunOutcome:
    """Execute those of `stages` that are due; one that an earlier process completed finds nothing to do."""
    for stage in stages:
        if _due(context, stage):
            _EXECUTE[stage](context, request)
    waits = context.run.no_flip and context.plan.staged and not context.flipped
    if not waits:
        context.end()
    log_event(_log, "run_finished", "%s", context.run.run, run=context.run.run, flipped=context.flipped)
    return RunOutcome(
        run=context.run.run,
        active=context.active,
        steps=tuple(context.run.done.values()),
        messages=tuple(context.messages),
        staged_prefix=context.run.staged_prefix,
        flipped=context.flipped,
        not_replicated=tuple(context.not_replicated),
    )


def _due(context: RunContext, stage: Stage) -> bool:
    """Whether a stage is to be executed: after the flip only the last, before it all others."""
    if stage is not IN_PLACE and not context.plan.staged:
        return False
    return context.flipped is (stage is RECONCILE)


def _hold(context: RunContext, request: RunRequest) -> None:
    if request.release:
        context.record.save(no_flip=False)
    elif request.postponed is not None and not context.run.no_flip:
        hold(context, request.postponed)


def _flip(context: RunContext, request: RunRequest) -> None:
    if not context.run.no_flip:
        flip(context, Action.FLIP if request.release else context.action)


def _reconcile(context: RunContext, request: RunRequest) -> None:
    """Replicate late writes after the flip; whatever fails then, no state is left that only files end.

    A store that failed may answer again, so the first such error leaves the run to `lancemig recover`. Any
    other ends the run: the late writes are the business of `lancemig reconcile`.
    """
    resumed = not context.published
    try:
        reconcile_after_flip(context, request.find_routes)
    except LancemigError as error:
        live = context.active
        done = f"flipped to {format_root(live.prefix)}, which is live at {format_revision(live.revision)}"
        next_step = "lancemig recover"
        if (resumed or not isinstance(error, StoreError)) and _ended(context):
            next_step = reconcile_next_step(error)
        raise Incomplete(
            f"{done}; late writes could not be carried over, because: {error.message}", next_step=next_step
        ) from error


def _ended(context: RunContext) -> bool:
    try:
        context.end()
    except LancemigError:
        return False
    return True


_EXECUTE: Mapping[Stage, Callable[[RunContext, RunRequest], None]] = {
    IN_PLACE: lambda context, _: apply_in_place(context),
    STAGE: lambda context, request: build(context, request.staging),
    CATCH_UP: lambda context, _: replicate_new_commits(context),
    VERIFY: lambda context, _: verify_up_to_date(context),
    HOLD: _hold,
    FLIP: _flip,
    RECONCILE: lambda context, request: _reconcile(context, request),
}
"""What executes each stage. Nothing is flipped to but what `VERIFY`, or `HOLD` after it, has verified."""


def undo_in_flight(
    store: Store,
    request: RunRequest,
    environment: Environment,
    run_id: str,
    on_progress: OnProgress = no_progress,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Undo the unpublished changes of the run in flight and end it; returns what was done, as text."""
    with _open_run(store, request, environment, run_id, on_progress) as context:
        messages = undo_run(context, "lancemig recover --undo", overwrite=overwrite)
        context.end()
        return messages


def _finish_undo(context: RunContext) -> None:
    """Complete an undo that has begun, and raise RunUnfinished: no step of the run may be repeated."""
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
def _open_run(
    store: Store, request: RunRequest, environment: Environment, run_id: str, on_progress: OnProgress
) -> Iterator[RunContext]:
    """Take the lock, and start the run or read its sidecar; end it after an error that it cannot survive."""
    with hold_lock(store.objects, store.lock_key, run_id, environment, store.lock_ttl) as lease:
        sidecars = store.sidecars()
        seen, run = store.pointers.read(), sidecars.in_flight()
        if run is not None and run.run != run_id:
            raise RunUnfinished(
                f"run {run.run} has been in progress since {run.started}",
                next_step="finish it: lancemig recover; or undo it: lancemig recover --undo",
            )
        begun = run or _new_run(request, environment, run_id)
        log_event(_log, "run_resumed" if run else "run_started", "%s, plan %s", run_id,
                  begun.plan_digest[:16], run=run_id, plan=begun.plan_digest)  # fmt: skip
        context = RunContext(
            store=store,
            record=RunRecord(sidecars, lease, environment, begun, seen),
            environment=environment,
            on_progress=partial(_report, lease, on_progress),
            migrations=request.migrations,
            root=begun.plan.origin.prefix,
            on_skipped=request.on_skipped,
            fresh=run is None,
        )
        # The lineage needs it at the end; until then there is other work.
        threading.Thread(target=environment.git_commit, daemon=True).start()
        if context.fresh:
            _start(context, active_root(seen, request.fallback))
        if request.ruling is not None:
            rule_outcome(context.record, store.tables, context.root, request.ruling)
        _guard_bases(context)
        try:
            with _ending_hopeless(context), panics_translated(f"run {context.run.run}"):
                yield context
        except LancemigError as error:
            explained = _explained(context, error)
            if explained is error:
                raise
            raise explained from error


@contextmanager
def _ending_hopeless(context: RunContext) -> Iterator[None]:
    """End the run after an error that it cannot survive."""
    try:
        yield
    except StoreError:
        # To a runner that lost the lock, the work of its successor looks like damage.
        context.lease.renew()
        raise
    except (BrakeTripped, CheckFailed, PlanError) as error:
        context.lease.renew()
        _stop(context, error)


def _explained(context: RunContext, error: LancemigError) -> LancemigError:
    """The error to raise; its message says what this process has done before it.

    After a flip it is Incomplete. Before, an error whose exit status stays true keeps its class. So does one
    that came before any change of the pointer: the run is in flight, and the same command continues.
    """
    ended = context.record.removed
    if isinstance(error, Incomplete):
        return error
    if context.written and not ended and not context.flipped:
        tables = ", ".join(sorted(context.written))
        error.message += f"; run {context.run.run} is unfinished, and has committed to {tables}"
        error.next_step = error.next_step or "lancemig recover"
    # An undo that was completed says so itself.
    published = [update for update in context.published if update.action is not Action.RECOVER]
    if not published:
        return error
    done = "; ".join(update.done for update in published)
    if context.flipped:
        return incomplete(done, error, "lancemig status" if ended else "lancemig recover")
    next_step = error.next_step or ("lancemig upgrade --plan" if ended else "lancemig recover")
    if isinstance(error, BrakeTripped | CheckFailed | VerifyFailed | OutcomeUnknown):
        error.message = f"{done}; the rest was not done, because: {error.message}"
        error.next_step = next_step
        return error
    return incomplete(done, error, next_step)


def _report(lease: Lease, on_progress: OnProgress, progress: Progress) -> None:
    """Report to the caller, and with the next heartbeat of the lock to `lancemig status`."""
    lease.doing = progress
    on_progress(progress)


def _stop(context: RunContext, error: BrakeTripped | CheckFailed | PlanError) -> NoReturn:
    """End a run that cannot succeed if it left nothing half-done, so that the migration can be edited.

    Half-done changes are undone when a limit was exceeded or a check failed. An impossible operation may
    become possible, so a person decides. After an exception of a function the run stays in progress as long
    as it has results of the function.
    """
    if context.flipped or context.run.phase is Phase.UNDO:
        raise error
    waits = isinstance(error, FunctionUnavailable) and not nothing_landed(context)
    if isinstance(error, FunctionFailed) and (waits or context.has_results()):
        raise type(error)(error.message, next_step=_after_failure(error)) from error
    if isinstance(error, LanceRefused) and context.has_results():
        raise LanceRefused(
            error.message,
            next_step="lancemig recover --undo, then change the operation and upgrade again; until then the "
            "run keeps the results of its functions",
        ) from error
    if nothing_landed(context):
        context.end()
        raise error
    if isinstance(error, BrakeTripped | CheckFailed):
        messages = undo_run(context, error.message)
        context.end()
        raise type(error)(
            f"{error.message}\n  the changes of this run were undone:\n  " + "\n  ".join(messages),
            next_step=error.next_step or "fix the data or the migration, then: lancemig upgrade",
        ) from error
    raise type(error)(
        error.message,
        next_step="undo the changes of this run: lancemig recover --undo; then fix the migration",
    ) from error


def _after_failure(error: FunctionFailed) -> str:
    """What to do about a run that stays in progress, so that no row with a result is computed again."""
    again = "run the same command again: it continues, and calls the function only for rows without a result"
    if isinstance(error, FunctionUnavailable):
        return f"{again}; to wait within a run, declare retries=5, pause=2.0 in the operation"
    return (
        "lancemig recover --undo, then fix the function in the migration and upgrade again; or, if the cause "
        f"is outside of the function, {again}"
    )


def _new_run(request: RunRequest, environment: Environment, run_id: str) -> Run:
    return Run(
        run=run_id,
        plan=request.plan,
        plan_digest=request.plan.digest,
        no_flip=request.no_flip,
        started=environment.stamp(),
        actor=environment.actor,
        host=environment.host,
        note=request.note,
    )


def _start(context: RunContext, active: RootRevision) -> None:
    """Check that the catalog is what the plan was made from, and write the sidecar."""
    live = context.store.tables.live(context.root)
    drift = [d.message for d in catalog_drift(context.plan.start, live.catalog) if d.structural]
    if active != context.plan.origin:
        drift.insert(
            0, f"the pointer is at {format_revision(active.revision)} in {format_root(active.prefix)}"
        )
    if drift:
        raise PlanStale(
            "the catalog changed after the plan was made: " + "; ".join(drift),
            next_step="lancemig upgrade --plan",
        )
    before = facts(live)
    bases = {name: version for name, (version, _) in before.items()}
    fields: dict[str, Any] = {}
    first = next(iter(context.plan.in_place), None)
    if first is not None and not any(check.due("before") for check in context.checks(first)):
        # The first migration begins with the run: no check comes before it.
        fields = {"revision": first.revision, "before": before}
    context.record.save(phase=Phase.IN_PLACE, bases=bases, **fields)


def _guard_bases(context: RunContext) -> None:
    """Guard the versions before the changes in place; repeated for a run that died before it had."""
    changed = {step.table for migration in context.plan.in_place for step in migration.steps}
    bases = {name: context.run.bases[name] for name in sorted(changed & set(context.run.bases))}
    if not context.fresh:
        # A run that died before it guarded a version may find it cleaned up, and continues without.
        bases = {name: v for name, v in bases.items() if context.store.tables.find(context.root, name, v)}
    context.executor.guard_catalog(context.root, bases)
