"""How rows get from a root that was left to the one that was flipped or rolled back to, by the files."""

from collections.abc import Mapping, Sequence

from lancemig.apply.steps.transform import passages
from lancemig.apply.tail.reconcile import Crossing, Way
from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands.opening import Catalog
from lancemig.commands.work import work_of_entry
from lancemig.errors import Irreversible, PlanError
from lancemig.plan.tracking import Tracking
from lancemig.plan.work import Work, downward, upward


def ways(catalog: Catalog, crossing: Crossing, start: CatalogSchema) -> list[Way]:
    """The way of each table of the root that was left, whose schema is `start`.

    PlanError when a migration file was changed since it was applied.
    """
    work = work_of_entry(catalog, crossing.flip)
    if not crossing.back:
        later = _later(catalog, crossing)
        return [
            Way(p.source, p) if not p.derived else Way(p.source, None, "it is derived again from its source")
            for p in passages(start, [*work, *later])
            if p.source is not None
        ]
    touched = _touched_since(catalog, crossing)
    return [_back(catalog, crossing, work, start, name, touched) for name in start.tables]


def _later(catalog: Catalog, crossing: Crossing) -> list[Work]:
    """The revisions that were applied in place since, which rows that come late go through as well."""
    line, revision = catalog.line, crossing.reached.revision
    if not (line.knows(crossing.flip.target.revision) and line.knows(revision)):
        return []
    way, headers = line.between(crossing.flip.target.revision, revision)
    return upward(catalog.migrations(headers)) if way == "up" else []


def _back(
    catalog: Catalog,
    crossing: Crossing,
    work: Sequence[Work],
    start: CatalogSchema,
    name: str,
    touched: dict[str, str],
) -> Way:
    if name in touched:
        return Way(
            name,
            None,
            f"revision {touched[name]} changed its rows after the flip; roll forward, downgrade that "
            "revision, and roll back again",
        )
    try:
        inverse = _inverse(catalog, crossing, work, name)
        found = next(p for p in passages(start, inverse) if p.source == name)
    except (Irreversible, PlanError) as error:
        return Way(name, None, error.message)
    if found.target is None:
        return Way(name, None, "the other root does not have this table")
    if found.target not in crossing.versions()[1]:
        return Way(name, None, f"the other root has no table {found.target}")
    return Way(name, found)


def _inverse(catalog: Catalog, crossing: Crossing, work: Sequence[Work], name: str) -> list[Work]:
    """The way back of one table: what was done to others may be irreversible."""
    if any(one.direction == "down" for one in work):
        return upward([one.migration for one in reversed(work)])
    state = _schema(catalog, crossing.reached.prefix, crossing.versions()[1])
    before: dict[str, CatalogSchema | None] = {}
    tracking, about = Tracking(state.tables), list[tuple[Work, Operation, int]]()
    for one in work:
        before[one.revision] = state
        for operation in one.operations:
            about.append((one, operation, tracking.follow(operation)))
            state = operation.after(state)
    migrations = [
        one.migration.model_copy(
            update={
                "operations": tuple(
                    operation
                    for owner, operation, id_ in about
                    if owner is one and tracking.finally_called(id_) == name
                )
            }
        )
        for one in reversed(work)
    ]
    return downward(migrations, before)


def _schema(catalog: Catalog, prefix: str, versions: Mapping[str, int]) -> CatalogSchema:
    tables = catalog.store.tables
    return CatalogSchema(
        tables={name: tables.open(prefix, name, at).schema() for name, at in versions.items()}
    )


def _touched_since(catalog: Catalog, crossing: Crossing) -> dict[str, str]:
    """The tables in which revisions changed rows in place after the flip, and were not taken back."""
    if crossing.left.revision == crossing.flip.target.revision:
        return {}
    found: dict[str, str] = {}
    for entry in catalog.store.pointers.chain(catalog.seen().pointer):
        if entry.seq <= crossing.flip.seq:
            break
        if entry.migrations and entry.origin.prefix == entry.target.prefix == crossing.left.prefix:
            found |= {step.table: entry.migrations[-1].revision for step in entry.steps if step.changed}
    return found
