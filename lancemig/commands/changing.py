"""The verbs that change a catalog."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lancemig.apply.caller import OnProgress, silent
from lancemig.apply.flight import facts as flight_facts
from lancemig.apply.flight import table_changes
from lancemig.apply.landing.attempts import Assumption
from lancemig.apply.lease import read_lock
from lancemig.apply.runner import Outcome, carry_out, give_up
from lancemig.apply.sidecar import Phase, Run
from lancemig.apply.solo import alone
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.lineage import Action, AppliedMigration, Place
from lancemig.catalog.live import LiveCatalog
from lancemig.commands.opening import Catalog
from lancemig.commands.planning import Prepared, giving_up, resume
from lancemig.commands.row_report import RowReport
from lancemig.errors import ConfigError, LancemigError, LockHeld, PlanError, Refused, RunUnfinished
from lancemig.script.loader import Migration, replay


def carry_out_prepared(
    catalog: Catalog,
    prepared: Prepared,
    on_progress: OnProgress = silent,
    report: Path | None = None,
    *,
    postponed_by: Path | None = None,
) -> Outcome:
    """Carry out what was prepared and shown; a plan without migrations changes nothing.

    The file `report` gets a line of JSON for each row that a step leaves as it is. A rebuild is flipped to
    once the file `postponed_by` is gone; it is made if it is not there.
    """
    catalog.changeable()
    prepared = _reporting(prepared, report)
    if postponed_by is not None and prepared.plan.staged:
        prepared = _postponed(prepared, postponed_by)
    if not prepared.plan.migrations:
        return Outcome(run="", place=prepared.plan.origin)
    if prepared.resumes is not None and prepared.resumes.no_flip:
        run = prepared.resumes
        if run.phase is Phase.VERIFIED:
            raise RunUnfinished(
                f"run {run.run} has staged {run.staged_prefix} and waits for the flip",
                next_step="lancemig flip; or abandon the run: lancemig recover --undo",
            )
    return carry_out(catalog.store, prepared.orders, catalog.caller, prepared.run_id, on_progress)


def stamp(catalog: Catalog, target: str, note: str | None = None) -> tuple[Place, list[str]]:
    """Say that the live catalog is at `target`, changing no table; makes a pointer if there is none.

    The lineage gets the digests of the files up to there: from then on they are what was applied. Returns
    where the catalog is now, and how it differs from what the files say of that revision: it is stamped all
    the same, for files need not reach back to an empty catalog.
    """
    catalog.changeable()
    with alone(catalog.store, catalog.caller) as solo:
        here = catalog.place(solo.seen)
        revision = catalog.line.resolve(target, here.revision)
        there = Place(prefix=here.prefix, revision=revision)
        migrations = catalog.migrations(catalog.line.upto(revision))
        live = catalog.store.tables.live(here.prefix)
        facts = flight_facts(live)
        solo.committer.guard_catalog(here.prefix, {name: version for name, (version, _) in facts.items()})
        change = solo.change(Action.STAMP, here, there, note)
        solo.publish(
            replace(change, tables=table_changes(facts, facts), migrations=tuple(map(_vouched, migrations)))
        )
    return there, _differing(migrations, live)


def _vouched(migration: Migration) -> AppliedMigration:
    header = migration.header
    return AppliedMigration(revision=header.revision, kind=migration.kind, sha256=header.sha256)


def _differing(migrations: Sequence[Migration], live: LiveCatalog) -> list[str]:
    try:
        wanted = replay(migrations)
    except PlanError as error:
        said = f"revision {migrations[-1].header.revision}" if migrations else "base"
        return [f"the schema of {said} cannot be derived from the files: {error.message}"]
    return [one.said for one in catalog_drift(wanted, live.catalog) if not one.harmless]


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


def _postponed(prepared: Prepared, file: Path) -> Prepared:
    try:
        file.touch()
    except OSError as error:
        raise ConfigError(
            f"cannot create {file}: {error.strerror}", next_step="give a path in an existing folder"
        ) from error
    return replace(prepared, orders=replace(prepared.orders, postponed=file.exists))


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
        return f"removed the lock {key}, which this version of lancemig could not read"
    now = catalog.caller.now()
    if not force and not lock.expired(now):
        raise Refused(f"the lock is held by {lock.describe(now)}", next_step="lancemig unlock --force")
    catalog.store.objects.delete([key])
    return f"removed the lock of {lock.describe(now)}"


def _in_flight(catalog: Catalog) -> Run:
    run = catalog.in_flight()
    if run is None:
        raise LancemigError("no run is in progress; nothing to recover", next_step="lancemig status")
    return run
