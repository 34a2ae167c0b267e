"""What of a run has taken effect in place, as the tables' own logs and the pointer tell."""

from lancemig.apply.flight import Flight
from lancemig.plan.plan import PlannedMigration, Step
from lancemig.store.tables import Commit


def published(flight: Flight) -> int:
    """How many of the plan's in-place migrations the pointer knows of."""
    now = flight.seen.pointer.revision if flight.seen.pointer else None
    reached = [migration.leads_to for migration in flight.plan.in_place]
    if flight.seen.pointer is None or now not in reached:
        return 0
    return reached.index(now) + 1


def commits_of(flight: Flight, step: Step) -> list[Commit]:
    """The commits of one step, oldest first."""
    tables, root = flight.store.tables, flight.root
    table = tables.find(root, step.table)
    if table is None:
        return []
    run, base = flight.run, flight.run.bases.get(step.table, 0)
    known = run.done.get(step.id)
    since = base if known else flight.base_of(step)
    return flight.worker.sought(table, since, lambda stamped: stamped.startswith(f"{step.id}."))


def any_landed(flight: Flight, migration: PlannedMigration) -> bool:
    """Whether a step of the migration has a commit."""
    return any(commits_of(flight, step) for step in migration.steps)


def nothing_landed(flight: Flight) -> bool:
    """Whether no step took effect in place that the pointer does not know of."""
    return not any(any_landed(flight, migration) for migration in flight.plan.in_place[published(flight) :])
