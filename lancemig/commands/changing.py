"""The verbs that change a catalog."""

from dataclasses import dataclass, replace
from pathlib import Path

from lancemig.apply.attempts import Assumption
from lancemig.apply.caller import OnProgress, silent
from lancemig.apply.flight import facts as flight_facts
from lancemig.apply.flight import table_changes
from lancemig.apply.following import WhenExists
from lancemig.apply.lease import read_lock
from lancemig.apply.publish import Change
from lancemig.apply.reconcile import flips, record
from lancemig.apply.reconcile import reconcile as reconcile_flip
from lancemig.apply.runner import Outcome, carry_out, flip_staged, give_up
from lancemig.apply.sidecar import Phase, Run
from lancemig.apply.solo import Solo, alone
from lancemig.apply.tail import Brought
from lancemig.catalog.lineage import Action, Place, TableChange
from lancemig.catalog.schema import differences
from lancemig.catalog.sources import counted
from lancemig.catalog.timings import Timing
from lancemig.commands.opening import Catalog
from lancemig.commands.planning import Prepared, giving_up, resume, work_of_entry
from lancemig.commands.row_report import RowReport
from lancemig.errors import LancemigError, LockHeld, PlanError, Refused, RunUnfinished
from lancemig.script.loader import replay


def carry_out_prepared(
    catalog: Catalog, prepared: Prepared, on_progress: OnProgress = silent, report: Path | None = None
) -> Outcome:
    """Carry out what was prepared and shown; a plan without migrations changes nothing.

    The file `report` gets a line of JSON for each row that a step leaves as it is.
    """
    catalog.changeable()
    prepared = _reporting(prepared, report)
    if not prepared.plan.migrations:
        return Outcome(run="", place=prepared.plan.origin)
    if prepared.resumes is not None and prepared.resumes.no_flip:
        run = prepared.resumes
        if run.phase is Phase.VERIFIED:
            raise RunUnfinished(
                f"run {run.run} has staged {run.staged_prefix} and waits for its flip",
                next_step="lancemig flip; or give it up: lancemig recover --undo",
            )
    return carry_out(catalog.store, prepared.orders, catalog.caller, prepared.run_id, on_progress)


def stamp(catalog: Catalog, target: str, note: str | None = None) -> tuple[Place, list[str]]:
    """Say that the live catalog is at `target`, changing no table; makes a pointer if there is none.

    Returns where it is now, and how the catalog differs from what the files say of that revision: it is
    stamped all the same, for files need not reach back to an empty catalog.
    """
    catalog.changeable()
    with alone(catalog.store, catalog.caller) as solo:
        here = catalog.place(solo.seen)
        revision = catalog.line.resolve(target, here.revision)
        there = Place(prefix=here.prefix, revision=revision)
        facts = flight_facts(catalog.store.tables.live(here.prefix))
        solo.committer.guard_catalog(here.prefix, {name: version for name, (version, _) in facts.items()})
        change = _moving(catalog, solo, Action.STAMP, (here, there), note)
        solo.publish(replace(change, tables=table_changes(facts, facts)))
    return there, _differing(catalog, there)


def _differing(catalog: Catalog, place: Place) -> list[str]:
    try:
        wanted = replay(catalog.migrations(catalog.line.upto(place.revision)))
    except PlanError as error:
        return [f"the files do not tell what revision {place.revision} looks like: {error.message}"]
    found = catalog.store.tables.live(place.prefix).catalog
    said = [f"the catalog has no table {name}" for name in wanted.tables if name not in found.tables]
    said += [f"no file describes table {name}" for name in found.tables if name not in wanted.tables]
    for name in set(wanted.tables) & set(found.tables):
        said += differences(name, wanted.tables[name], found.tables[name])
    return sorted(said)


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did: where the catalog is, which root it left, and what was written there since."""

    place: Place
    left: Place
    written: tuple[str, ...]


def rollback(catalog: Catalog, note: str | None = None, *, again: bool = False) -> RolledBack:
    """Return to the root that was live before the last flip, in one conditional write.

    Nothing in either root is changed; what was written since the flip stays in the root that is left. A
    rollback of a rollback goes forward again, so it is done only when asked for with `again`.
    """
    catalog.changeable()
    with alone(catalog.store, catalog.caller) as solo:
        pointer = solo.seen.pointer
        if pointer is None or pointer.previous is None:
            raise PlanError(
                "nothing was flipped yet, so there is no root to return to", next_step="lancemig history"
            )
        here, there = pointer.place, pointer.previous
        last = next(catalog.store.pointers.chain(pointer), None)
        if last is not None and last.action is Action.ROLLBACK and not again:
            raise PlanError(
                f"the last change, at {last.finished}, was a rollback; another goes on to {there.prefix}",
                next_step="lancemig rollback --again, if that is what is wanted",
            )
        _refuse_lost_tables(catalog, solo, there)
        written = _written_since(catalog, solo, here)
        facts = (flight_facts(catalog.store.tables.live(place.prefix)) for place in (here, there))
        change = _moving(catalog, solo, Action.ROLLBACK, (here, there), note)
        reads = catalog.store.tables.reads(there.prefix)
        solo.publish(replace(change, tables=table_changes(*facts), reads=reads))
        return RolledBack(there, here, written)


def _written_since(catalog: Catalog, solo: Solo, place: Place) -> tuple[str, ...]:
    """The tables of a root that were written to since it became the live one."""
    chain = catalog.store.pointers.chain(solo.seen.pointer)
    arrival = next((e for e in chain if e.target.prefix == place.prefix != e.origin.prefix), None)
    if arrival is None:
        return ()
    then = {change.table: change for change in arrival.tables}
    now = catalog.store.tables.live(place.prefix).tables
    return tuple(
        f"{name}: {live.rows - (before.rows_after or 0):+,} rows, "
        f"{counted(live.version - (before.version_after or 0), 'commit')}"
        for name, live in now.items()
        if live.version != (before := then.get(name, TableChange(table=name))).version_after
    )


def _refuse_lost_tables(catalog: Catalog, solo: Solo, there: Place) -> None:
    """See that the root still holds what it held when it was left."""
    flips = (e for e in catalog.store.pointers.chain(solo.seen.pointer) if e.origin == there != e.target)
    left = next(flips, None)
    held = {change.table for change in left.tables if change.version_before is not None} if left else set()
    lost = held - set(catalog.store.tables.names(there.prefix))
    if lost:
        raise PlanError(
            f"the root {there.prefix} no longer holds {', '.join(sorted(lost))}",
            next_step="lancemig history --lineage -v",
        )


def _moving(
    catalog: Catalog, solo: Solo, action: Action, places: tuple[Place, Place], note: str | None
) -> Change:
    now = catalog.caller.stamp()
    return Change(action=action, origin=places[0], target=places[1], run=solo.run, started=now, note=note)


def flip(catalog: Catalog, prefix: str | None, on_progress: OnProgress = silent) -> Outcome:
    """Flip to the root that `upgrade --no-flip` staged; refuses any other that was never live.

    It is caught up and proven again first. Raises PlanError for a prefix that holds no complete, verified
    catalog.
    """
    catalog.changeable()
    run = catalog.in_flight()
    if run is None or run.staged_prefix is None or (prefix is not None and prefix != run.staged_prefix):
        raise PlanError(
            (f"{prefix} is not a staged root that waits" if prefix else "no staged root waits")
            + " for its flip"
            + (f"; {run.staged_prefix} is" if run and run.staged_prefix else ""),
            next_step="lancemig upgrade --no-flip; to return to an old root: lancemig rollback",
        )
    if run.phase not in (Phase.CATCH_UP, Phase.VERIFY, Phase.VERIFIED, Phase.RECONCILE):
        raise PlanError(
            f"{run.staged_prefix} is not complete: run {run.run} stopped in phase {run.phase}",
            next_step="lancemig recover",
        )
    prepared = resume(catalog, run)
    return flip_staged(catalog.store, prepared.orders, catalog.caller, run.run, on_progress)


def reconcile(catalog: Catalog, when_exists: WhenExists = "error") -> list[Brought]:
    """Bring over what reached roots that were left by flips, the oldest root's first, through each later one.

    A root that is no longer there is passed over.
    """
    catalog.changeable()
    brought: list[Brought] = []
    with alone(catalog.store, catalog.caller) as solo:
        for flipped in flips(catalog.store.pointers.chain(solo.seen.pointer)):
            if not catalog.store.tables.names(flipped.left) or solo.seen.pointer is None:
                continue
            work = work_of_entry(catalog, flipped.entry)
            began = catalog.caller.now()
            found = reconcile_flip(solo.committer, flipped, work, when_exists)
            took = round((catalog.caller.now() - began).total_seconds(), 3)
            change = record(flipped, found, solo.seen.pointer, solo.run, catalog.caller)
            if change is not None:
                timing = Timing(phase="reconcile", seconds=took, rows=sum(one.rows for one in found))
                solo.publish(replace(change, timings=(timing,)))
            brought += found
    return brought


def recover(
    catalog: Catalog,
    on_progress: OnProgress = silent,
    report: Path | None = None,
    *,
    assumption: str | None = None,
) -> Outcome:
    """Finish the run in flight; `assumption` tells what its log does not tell any more."""
    prepared = _assuming(resume(catalog, _in_flight(catalog)), assumption)
    return carry_out_prepared(catalog, prepared, on_progress, report)


def undo(
    catalog: Catalog,
    on_progress: OnProgress = silent,
    report: Path | None = None,
    *,
    overwrite: bool = False,
    assumption: str | None = None,
) -> list[str]:
    """Give up the run in flight: put back what it did and did not publish, keeping what came since.

    A cell that somebody changed since stays as it is, unless `overwrite`. `assumption` tells what the run's
    log does not tell any more.
    """
    catalog.changeable()
    prepared = _assuming(_reporting(giving_up(catalog, _in_flight(catalog)), report), assumption)
    return give_up(
        catalog.store, prepared.orders, catalog.caller, prepared.run_id, on_progress, overwrite=overwrite
    )


def would_flip(catalog: Catalog) -> bool:
    """Whether to finish the run in flight makes another root the live one."""
    run = catalog.in_flight()
    return run is not None and bool(run.plan.staged) and not run.no_flip


def _assuming(prepared: Prepared, assumption: str | None) -> Prepared:
    seen = Assumption(assumption) if assumption else None
    return replace(prepared, orders=replace(prepared.orders, assumption=seen))


def _reporting(prepared: Prepared, report: Path | None) -> Prepared:
    if report is None:
        return prepared
    on_left = RowReport(report, prepared.run_id).put
    return replace(prepared, orders=replace(prepared.orders, on_left=on_left))


def unlock(catalog: Catalog, *, force: bool) -> str:
    """Remove the lock, whoever holds it; says whose it was."""
    key = catalog.store.lock_key
    found = catalog.store.objects.read(key)
    if found is None:
        return "no lock is held"
    try:
        lock = read_lock(found, key)
    except LockHeld:
        if not force:
            raise
        catalog.store.objects.delete([key])
        return f"removed {key}, which was no lock that this lancemig can read"
    now = catalog.caller.now()
    if not force and not lock.expired(now):
        raise Refused(f"the lock is held by {lock.describe(now)}", next_step="lancemig unlock --force")
    catalog.store.objects.delete([key])
    return f"removed the lock of {lock.describe(now)}"


def _in_flight(catalog: Catalog) -> Run:
    run = catalog.in_flight()
    if run is None:
        raise LancemigError("no run is in flight; there is nothing to recover", next_step="lancemig status")
    return run
