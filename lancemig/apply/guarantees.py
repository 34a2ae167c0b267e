"""The checks that a revision declares, made around it."""

from lancemig.apply.caller import Progress
from lancemig.apply.checks import run_checks
from lancemig.apply.flight import Flight
from lancemig.catalog.checks import When
from lancemig.catalog.lineage import CheckResult
from lancemig.errors import CheckFailed
from lancemig.plan.plan import PlannedMigration


def made(flight: Flight, migration: PlannedMigration, root: str, when: When) -> list[CheckResult]:
    """The outcome of the checks of `migration` that are due, over the tables under `root`; all are made."""
    checks = [check for check in flight.checks(migration) if check.due(when)]
    if not checks:
        return []
    flight.on_progress(Progress("check", text=f"{when} revision {migration.revision}"))
    return run_checks(flight.store.tables.newest(root), checks, when=when)


def hold(flight: Flight, migration: PlannedMigration, when: When) -> list[CheckResult]:
    """Make the checks on the live root; CheckFailed names those that do not hold, and what came instead."""
    results = made(flight, migration, flight.root, when)
    failed = [f"{result.check}: {result.detail}" for result in results if not result.ok]
    if failed:
        raise CheckFailed(
            f"revision {migration.revision}: checks failed {when} it:\n  " + "\n  ".join(failed),
            next_step="show the rows with lancemig query SQL; fix the rows or the migration, then "
            "run the same "
            "command again",
        )
    return results
