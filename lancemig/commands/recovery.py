"""`recover` and `unlock`: finish or undo the run in progress, and remove the lock of a runner that died."""

from dataclasses import replace
from pathlib import Path

from lancemig.apply.commit.intents import OutcomeRuling
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.lock import locks
from lancemig.apply.runner import RunOutcome, undo_in_flight
from lancemig.apply.sidecar import Run
from lancemig.commands.context import Catalog
from lancemig.commands.running import on_catalog
from lancemig.commands.upgrade import Prepared, apply_prepared, prepare_undo, resume, with_report
from lancemig.errors import LancemigError, LockHeld, Refused


def recover(
    catalog: Catalog,
    on_progress: OnProgress = no_progress,
    report: Path | None = None,
    *,
    assumption: str | None = None,
) -> RunOutcome:
    """Finish the run in progress; `assumption` states an outcome that its log no longer shows."""
    prepared = _with_ruling(resume(catalog, _unfinished_run(catalog)), assumption)
    return apply_prepared(catalog, prepared, on_progress, report)


@on_catalog
def undo(
    catalog: Catalog,
    on_progress: OnProgress = no_progress,
    report: Path | None = None,
    *,
    overwrite: bool = False,
    assumption: str | None = None,
) -> list[str]:
    """Undo the run in progress: revert its unpublished changes and keep rows written since.

    Args:
        catalog: The catalog.
        on_progress: Called with the progress.
        report: A file that gets a line of JSON for each skipped row.
        overwrite: Restore old values even in cells that others have changed since.
        assumption: `landed` or `lost`: an outcome that the run's log no longer shows.
    """
    catalog.changeable()
    prepared = _with_ruling(with_report(prepare_undo(catalog, _unfinished_run(catalog)), report), assumption)
    return undo_in_flight(
        catalog.store,
        prepared.request,
        catalog.environment,
        prepared.run_id,
        on_progress,
        overwrite=overwrite,
    )


def would_flip(catalog: Catalog) -> bool:
    """Whether finishing the run in progress makes another root live."""
    run = catalog.in_flight()
    if run is None or not run.plan.staged or run.no_flip:
        return False
    return not run.has_flipped(catalog.seen().pointer)


def _with_ruling(prepared: Prepared, assumption: str | None) -> Prepared:
    seen = OutcomeRuling(assumption) if assumption else None
    return replace(prepared, request=replace(prepared.request, ruling=seen))


def unlock(catalog: Catalog, *, force: bool) -> str:
    """Remove the lock; returns whose it was."""
    key = catalog.store.lock_key
    try:
        stored = locks(catalog.store.objects).read(key)
    except LockHeld:
        if not force:
            raise
        catalog.store.objects.delete([key])
        return f"removed the lock {key}, which this version of lancemig could not read"
    if stored is None:
        return "no lock is held"
    lock = stored.value
    now = catalog.environment.now()
    if not force and not lock.expired(now):
        raise Refused(f"the lock is held by {lock.describe(now)}", next_step="lancemig unlock --force")
    catalog.store.objects.delete([key])
    return f"removed the lock of {lock.describe(now)}"


def _unfinished_run(catalog: Catalog) -> Run:
    run = catalog.in_flight()
    if run is None:
        raise LancemigError("no run is in progress; nothing to recover", next_step="lancemig status")
    return run
