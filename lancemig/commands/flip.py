"""The verbs that move the pointer between roots, and bring after it what still reaches the root it left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lancemig.apply.effects.replay import table_paths
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.replicate.merge import WhenExists
from lancemig.apply.replicate.reconcile import (
    RootTransition,
    TableRoute,
    record,
    root_transitions,
    start_of,
    transition_between,
    written_since,
)
from lancemig.apply.replicate.reconcile import reconcile as bring_over
from lancemig.apply.replicate.types import ReplicationResult
from lancemig.apply.rows.diff import diff
from lancemig.apply.run import facts, table_changes
from lancemig.apply.runner import RunOutcome, flip_staged
from lancemig.apply.stages import Phase
from lancemig.catalog.lineage import Action, Copied, Pointer, RootRevision, standing
from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.value import Timing
from lancemig.commands.context import Catalog
from lancemig.commands.retention import restore
from lancemig.commands.upgrade import resume
from lancemig.commands.work import migrations_of_entry
from lancemig.errors import Irreversible, LancemigError, PlanError
from lancemig.plan.plan import DirectedMigration, downward, upward
from lancemig.plan.tracking import Tracking


def table_routes(catalog: Catalog, transition: RootTransition, start: CatalogSchema) -> list[TableRoute]:
    """The way of each table of the root that was left, whose schema is `start`.

    PlanError when a migration file was changed since it was applied.
    """
    work = migrations_of_entry(catalog, transition.flip)
    if not transition.back:
        later = _later(catalog, transition)
        return [
            TableRoute(p.source, p)
            if not p.derived
            else TableRoute(p.source, None, "it is derived again from its source")
            for p in table_paths(start, [*work, *later])
            if p.source is not None
        ]
    touched = _touched_since(catalog, transition)
    return [_back(catalog, transition, work, start, name, touched) for name in start.tables]


def _later(catalog: Catalog, transition: RootTransition) -> list[DirectedMigration]:
    """The revisions that were applied in place since, which rows that come late go through as well."""
    line, revision = catalog.chain, transition.reached.revision
    if not (line.knows(transition.flip.target.revision) and line.knows(revision)):
        return []
    way, headers = line.between(transition.flip.target.revision, revision)
    return upward(catalog.migrations(headers)) if way == "up" else []


def _back(
    catalog: Catalog,
    transition: RootTransition,
    work: Sequence[DirectedMigration],
    start: CatalogSchema,
    name: str,
    touched: dict[str, str],
) -> TableRoute:
    if name in touched:
        return TableRoute(
            name,
            None,
            f"revision {touched[name]} changed its rows after the flip; roll forward, downgrade that "
            "revision, and roll back again",
        )
    try:
        inverse = _inverse(catalog, transition, work, name)
        found = next(p for p in table_paths(start, inverse) if p.source == name)
    except (Irreversible, PlanError) as error:
        return TableRoute(name, None, error.message)
    if found.target is None:
        return TableRoute(name, None, "the other root does not have this table")
    if found.target not in transition.versions()[1]:
        return TableRoute(name, None, f"the other root has no table {found.target}")
    return TableRoute(name, found)


def _inverse(
    catalog: Catalog, transition: RootTransition, work: Sequence[DirectedMigration], name: str
) -> list[DirectedMigration]:
    """The way back of one table: what was done to others may be irreversible."""
    if any(one.direction == "down" for one in work):
        return upward([one.migration for one in reversed(work)])
    state = _schema(catalog, transition.reached.prefix, transition.versions()[1])
    before: dict[str, CatalogSchema | None] = {}
    tracking, about = Tracking(state.tables), list[tuple[DirectedMigration, Operation, int]]()
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


def _touched_since(catalog: Catalog, transition: RootTransition) -> dict[str, str]:
    """The tables in which revisions changed rows in place after the flip, and were not taken back."""
    if transition.left.revision == transition.flip.target.revision:
        return {}
    found: dict[str, str] = {}
    for entry in catalog.store.pointers.chain(catalog.seen().pointer):
        if entry.seq <= transition.flip.seq:
            break
        if entry.migrations and entry.origin.prefix == entry.target.prefix == transition.left.prefix:
            found |= {step.table: entry.migrations[-1].revision for step in entry.steps if step.changed}
    return found


ROUNDS = 20


def flip(catalog: Catalog, prefix: str | None, on_progress: OnProgress = no_progress) -> RunOutcome:
    """Flip to the root that `upgrade --no-flip` staged; refuses any other that was never live.

    It is caught up and proven again first. Raises PlanError for a prefix that holds no complete, verified
    catalog.
    """
    catalog.changeable()
    run = catalog.in_flight()
    if run is None or run.staged_prefix is None or (prefix is not None and prefix != run.staged_prefix):
        raise PlanError(
            (f"{prefix} is not a staged root waiting" if prefix else "no staged root is waiting")
            + " for the flip"
            + (f"; {run.staged_prefix} is" if run and run.staged_prefix else ""),
            next_step="stage one: lancemig upgrade --no-flip; to return to an old root: lancemig rollback",
        )
    if run.phase not in (Phase.CATCH_UP, Phase.VERIFY, Phase.VERIFIED, Phase.RECONCILE):
        raise PlanError(
            f"{run.staged_prefix} is incomplete: run {run.run} stopped in phase {run.phase}",
            next_step="lancemig recover",
        )
    prepared = resume(catalog, run)
    return flip_staged(catalog.store, prepared.request, catalog.environment, run.run, on_progress)


def reconcile(catalog: Catalog, when_exists: WhenExists = "error") -> list[ReplicationResult]:
    """Bring over what reached roots that the pointer left, until nothing more comes.

    The root that was left first comes first, so its rows go on through each later one. A root that is no
    longer there is passed over.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as solo:
        total: dict[tuple[int, str], ReplicationResult] = {}
        for _ in range(ROUNDS):
            found = _reconciled(catalog, solo, when_exists)
            for at, one in found:
                total[at, one.source] = _added(total.get((at, one.source)), one)
            if not any(one.rows for _, one in found):
                break
        return list(total.values())


def _added(known: ReplicationResult | None, one: ReplicationResult) -> ReplicationResult:
    if known is None:
        return one
    left = tuple(dict.fromkeys((*known.conflicts, *one.conflicts)))
    return replace(one, rows=known.rows + one.rows, kept=known.kept + one.kept, conflicts=left)


def _reconciled(
    catalog: Catalog, solo: ExclusiveSession, when_exists: WhenExists
) -> list[tuple[int, ReplicationResult]]:
    found: list[tuple[int, ReplicationResult]] = []
    for at, transition in enumerate(root_transitions(catalog.store.pointers.chain(solo.seen.pointer))):
        if catalog.store.tables.names(transition.left.prefix):
            found += [(at, one) for one in _crossed(catalog, solo, transition, when_exists)]
    return found


def _crossed(
    catalog: Catalog, solo: ExclusiveSession, transition: RootTransition, when_exists: WhenExists
) -> list[ReplicationResult]:
    """Bring over what reached one root, and write down how far."""
    began = catalog.environment.now()
    start = start_of(catalog.store.tables, transition)
    brought = bring_over(
        solo.committer, transition, start, table_routes(catalog, transition, start), when_exists
    )
    took = round((catalog.environment.now() - began).total_seconds(), 3)
    if solo.seen.pointer is not None:
        change = record(transition, brought, solo.seen.pointer, solo.run, catalog.environment)
        if change is not None:
            timing = Timing(phase="reconcile", seconds=took, rows=sum(one.rows for one in brought))
            solo.publish(replace(change, timings=(timing,)))
    return brought


@dataclass(frozen=True)
class LateWrites:
    """What came to a table of the root that is left since the flip: its rows grew by `rows`.

    `inserted`, `updated` and `deleted` are known where they were looked for; `why` says why they cannot go
    back.
    """

    table: str
    rows: int
    commits: int
    inserted: int | None = None
    updated: int | None = None
    deleted: int | None = None
    why: str = ""


@dataclass(frozen=True)
class RollbackResult:
    """A rollback: where the catalog is, which root it left, what came to that one, and what went back.

    Before it is done, `brought` is None. `restored_from` is the copy from which the root that it returns to
    was, or will be, brought back.
    """

    place: RootRevision
    left: RootRevision
    written: tuple[LateWrites, ...]
    brought: tuple[ReplicationResult, ...] | None = None
    discarded: bool = False
    restored_from: str | None = None


def rollback_plan(catalog: Catalog) -> RollbackResult:
    """What `rollback` would do, and what of the rows written since could go back; writes nothing."""
    seen = catalog.seen()
    here, there = _places(seen.pointer)
    transition = transition_between(catalog.store.pointers.chain(seen.pointer), here, there)
    copied = _copied(catalog, seen.pointer, transition, there)
    written = _looked_at(catalog, transition) if transition and copied is None else ()
    return RollbackResult(there, here, written, restored_from=copied.to if copied else None)


def rollback(
    catalog: Catalog,
    note: str | None = None,
    *,
    again: bool = False,
    discard: bool = False,
    when_exists: WhenExists = "error",
    on_progress: OnProgress = no_progress,
) -> RollbackResult:
    """Return to the root that was live before the last flip, in one conditional write, then carry rows back.

    If it was archived and is gone, it is brought back first from where it was copied to.
    What was written to the root that is left goes back through the inverse of the migrations, as
    `reconcile` brings it; with `discard` it stays where it is, for good. A rollback of a rollback goes
    forward again, so it is done only when asked for with `again`.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as solo:
        here, there = _places(solo.seen.pointer)
        chain = catalog.store.pointers.chain(solo.seen.pointer)
        last = next((entry for entry in chain if entry.origin != entry.target or entry.migrations), None)
        if last is not None and last.action is Action.ROLLBACK and not again:
            raise PlanError(
                f"the last change, at {last.finished}, was a rollback; another one would return to "
                f"{there.prefix}",
                next_step="if that is intended: lancemig rollback --again",
            )
        transition = transition_between(catalog.store.pointers.chain(solo.seen.pointer), here, there)
        restored = _restored(catalog, solo, transition, there, on_progress)
        tables = catalog.store.tables
        before, after = (facts(tables.live(place.prefix)) for place in (here, there))
        change = solo.pointer_update(Action.ROLLBACK, here, there, note)
        solo.publish(replace(change, tables=table_changes(before, after), reads=tables.reads(there.prefix)))
        if transition is None:
            return RollbackResult(there, here, (), (), restored_from=restored)
        written = _written(catalog, transition)
        if discard:
            _discard(catalog, solo, transition)
            return RollbackResult(there, here, written, (), discarded=True, restored_from=restored)
        brought = tuple(_crossed(catalog, solo, transition, when_exists))
        return RollbackResult(there, here, written, brought, restored_from=restored)


def _places(pointer: Pointer | None) -> tuple[RootRevision, RootRevision]:
    if pointer is None or pointer.previous is None:
        raise PlanError("no flip has happened yet, so no previous root exists", next_step="lancemig history")
    return pointer.active, pointer.previous


def _restored(
    catalog: Catalog,
    solo: ExclusiveSession,
    transition: RootTransition | None,
    there: RootRevision,
    on_progress: OnProgress,
) -> str | None:
    """Bring the root back if it is not whole; where from, or None where it is."""
    copied = _copied(catalog, solo.seen.pointer, transition, there)
    if copied is None:
        return None
    restore(catalog, solo, copied, on_progress)
    _refuse_lost_tables(catalog, transition, there, "")
    return copied.to


def _copied(
    catalog: Catalog, pointer: Pointer | None, transition: RootTransition | None, there: RootRevision
) -> Copied | None:
    """The copy that a root is to be brought back from; None where all its tables are there.

    PlanError where they are not, and there is no copy.
    """
    chain = list(catalog.store.pointers.chain(pointer))
    known = standing(chain, pointer)
    archived, deleted = known.archives.get(there.prefix), known.deleted.get(there.prefix)
    if archived is not None and archived.copied is not None and _lost(catalog, transition, there):
        return archived.copied
    _refuse_lost_tables(catalog, transition, there, f"; gc deleted it at {deleted}" if deleted else "")
    return None


def _lost(catalog: Catalog, transition: RootTransition | None, there: RootRevision) -> set[str]:
    held = transition.versions()[1] if transition else {}
    return set(held) - set(catalog.store.tables.names(there.prefix))


def _refuse_lost_tables(
    catalog: Catalog, transition: RootTransition | None, there: RootRevision, why: str
) -> None:
    """See that the root still holds what it held when it was left."""
    lost = _lost(catalog, transition, there)
    if lost:
        raise PlanError(
            f"the root {there.prefix} no longer has {', '.join(sorted(lost))}{why}",
            next_step="lancemig history --lineage -v",
        )


def _written(catalog: Catalog, transition: RootTransition) -> tuple[LateWrites, ...]:
    """The tables of the root that is left that were written to since the flip."""
    tables, found = catalog.store.tables, []
    for name, live in tables.live(transition.left.prefix).tables.items():
        commits = written_since(tables, transition, name)
        if commits:
            then = tables.find(transition.left.prefix, name, transition.since(name))
            found.append(LateWrites(name, live.rows - (then.count() if then else 0), commits))
    return tuple(found)


def _looked_at(catalog: Catalog, transition: RootTransition) -> tuple[LateWrites, ...]:
    """The same, with what became of their rows, and whether they can go back."""
    start = start_of(catalog.store.tables, transition)
    known = {way.table: way for way in table_routes(catalog, transition, start)}
    return tuple(_compared(catalog, transition, known, one) for one in _written(catalog, transition))


def _compared(
    catalog: Catalog, transition: RootTransition, known: dict[str, TableRoute], one: LateWrites
) -> LateWrites:
    way, tables = (
        known.get(one.table, TableRoute(one.table, None, "the table was created after the flip")),
        catalog.store.tables,
    )
    if way.path is None:
        return replace(one, why=way.why)
    try:
        before = tables.open(transition.left.prefix, one.table, transition.since(one.table))
        now = tables.open(transition.left.prefix, one.table)
        found = diff(before, now, before.schema().key, columns=before.columns.names)
    except LancemigError as error:
        return replace(one, why=error.message)
    return replace(
        one, inserted=found.inserted.num_rows, updated=found.new.num_rows, deleted=found.deleted.num_rows
    )


def _discard(catalog: Catalog, solo: ExclusiveSession, transition: RootTransition) -> None:
    """Say in the lineage that what came to the root that was left is not to be brought."""
    live = catalog.store.tables.live(transition.left.prefix).tables
    brought = [ReplicationResult(name, 0, table.version) for name, table in live.items()]
    if solo.seen.pointer is not None:
        what = f"rows written to {transition.left.prefix} since the flip are discarded"
        change = record(transition, brought, solo.seen.pointer, solo.run, catalog.environment, what)
        if change is not None:
            solo.publish(change)
