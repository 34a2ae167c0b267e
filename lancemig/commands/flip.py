"""The verbs that move the pointer between roots, and replicate late writes to the roots that it left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lancemig.apply.effects.replay import table_paths
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.replicate.merge import WhenExists
from lancemig.apply.replicate.reconcile import (
    Reconciliation,
    RootTransition,
    TableRoute,
    count_late_commits,
    source_schema,
    transition_between,
)
from lancemig.apply.replicate.types import ReplicationResult
from lancemig.apply.rows.diff import diff
from lancemig.apply.run import facts, table_changes
from lancemig.apply.runner import RunOutcome, flip_staged
from lancemig.apply.stages import Phase
from lancemig.catalog.lineage import Action, Copied, Pointer, RootRevision, standing
from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands.context import Catalog
from lancemig.commands.retention import restore
from lancemig.commands.running import on_catalog
from lancemig.commands.upgrade import resume
from lancemig.commands.work import migrations_of_entry
from lancemig.errors import Irreversible, LancemigError, PlanError
from lancemig.plan.plan import DirectedMigration, downward, upward
from lancemig.plan.tracking import Tracking


def table_routes(catalog: Catalog, transition: RootTransition, schema: CatalogSchema) -> list[TableRoute]:
    """The route of each table of the source root, whose schema is `schema`.

    Raises:
        PlanError: a migration file was edited after it was applied.
    """
    work = migrations_of_entry(catalog, transition.flip)
    if not transition.is_rollback:
        later = _later_migrations(catalog, transition)
        return [
            TableRoute(p.source, p)
            if not p.derived
            else TableRoute(p.source, None, "it is derived again from its source")
            for p in table_paths(schema, [*work, *later])
            if p.source is not None
        ]
    changed = _changed_after_flip(catalog, transition)
    return [_route_back(catalog, transition, work, schema, name, changed) for name in schema.tables]


def _later_migrations(catalog: Catalog, transition: RootTransition) -> list[DirectedMigration]:
    """The revisions that were applied in place after the flip, which late rows pass through as well."""
    chain, revision = catalog.chain, transition.target.revision
    if not (chain.knows(transition.flip.target.revision) and chain.knows(revision)):
        return []
    direction, headers = chain.between(transition.flip.target.revision, revision)
    return upward(catalog.migrations(headers)) if direction == "up" else []


def _route_back(
    catalog: Catalog,
    transition: RootTransition,
    work: Sequence[DirectedMigration],
    schema: CatalogSchema,
    name: str,
    changed: dict[str, str],
) -> TableRoute:
    if name in changed:
        return TableRoute(
            name,
            None,
            f"revision {changed[name]} changed its rows after the flip; roll forward, downgrade that "
            "revision, and roll back again",
        )
    try:
        inverse = _inverse(catalog, transition, work, name)
        path = next(path for path in table_paths(schema, inverse) if path.source == name)
    except (Irreversible, PlanError) as error:
        return TableRoute(name, None, error.message)
    if path.target is None:
        return TableRoute(name, None, "the other root does not have this table")
    if path.target not in transition.versions()[1]:
        return TableRoute(name, None, f"the other root has no table {path.target}")
    return TableRoute(name, path)


def _inverse(
    catalog: Catalog, transition: RootTransition, work: Sequence[DirectedMigration], name: str
) -> list[DirectedMigration]:
    """The inverse of the migrations, for one table alone: operations on others may be irreversible."""
    if any(migration.direction == "down" for migration in work):
        return upward([directed.migration for directed in reversed(work)])
    state = _schema(catalog, transition.target.prefix, transition.versions()[1])
    before: dict[str, CatalogSchema | None] = {}
    tracking, owned = Tracking(state.tables), list[tuple[DirectedMigration, Operation, int]]()
    for directed in work:
        before[directed.revision] = state
        for operation in directed.operations:
            owned.append((directed, operation, tracking.follow(operation)))
            state = operation.after(state)
    migrations = [
        directed.migration.model_copy(
            update={
                "operations": tuple(
                    operation
                    for owner, operation, id_ in owned
                    if owner is directed and tracking.finally_called(id_) == name
                )
            }
        )
        for directed in reversed(work)
    ]
    return downward(migrations, before)


def _schema(catalog: Catalog, prefix: str, versions: Mapping[str, int]) -> CatalogSchema:
    tables = catalog.store.tables
    return CatalogSchema(
        tables={name: tables.open(prefix, name, at).schema() for name, at in versions.items()}
    )


def _changed_after_flip(catalog: Catalog, transition: RootTransition) -> dict[str, str]:
    """The tables whose rows a revision changed in place after the flip, as `{table: revision}`."""
    if transition.source.revision == transition.flip.target.revision:
        return {}
    changed: dict[str, str] = {}
    for entry in catalog.store.pointers.chain(catalog.seen().pointer):
        if entry.seq <= transition.flip.seq:
            break
        if entry.migrations and entry.origin.prefix == entry.target.prefix == transition.source.prefix:
            changed |= {step.table: entry.migrations[-1].revision for step in entry.steps if step.changed}
    return changed


@on_catalog
def flip(catalog: Catalog, prefix: str | None, on_progress: OnProgress = no_progress) -> RunOutcome:
    """Flip to the root that `upgrade --no-flip` staged, once it is caught up and verified again.

    Raises:
        PlanError: no complete staged root waits for its flip, or `prefix` names another root.
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


@on_catalog
def reconcile(catalog: Catalog, when_exists: WhenExists = "error") -> list[ReplicationResult]:
    """Replicate late writes from the roots that the pointer left, until no more arrive."""
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as session:
        return _reconciliation(catalog, session, when_exists).run()


def _reconciliation(
    catalog: Catalog, session: ExclusiveSession, when_exists: WhenExists = "error"
) -> Reconciliation:
    return Reconciliation(
        session,
        session.committer,
        lambda transition, schema: table_routes(catalog, transition, schema),
        when_exists,
    )


@dataclass(frozen=True)
class LateWrites:
    """The writes to a table of the previous root since the flip."""

    table: str
    rows: int
    """By how many rows the table grew; negative if it shrank."""
    commits: int
    inserted: int | None = None
    """Like `updated` and `deleted`, None unless the rows were compared."""
    updated: int | None = None
    deleted: int | None = None
    why: str = ""
    """Why these writes cannot be carried back; empty if they can."""


@dataclass(frozen=True)
class RollbackResult:
    """A rollback, or what one would do."""

    live: RootRevision
    """The root that is live after the rollback."""
    previous: RootRevision
    """The root that the rollback leaves."""
    late_writes: tuple[LateWrites, ...]
    """The writes to that root since the flip."""
    carried_back: tuple[ReplicationResult, ...] | None = None
    """What was replicated of these writes; None if the rollback was only planned."""
    discarded: bool = False
    restored_from: str | None = None
    """The copy that the root is restored from, if it is not complete."""
    failed: str = ""
    """Why the rows written since the flip could not be carried back after the rollback, and the next step."""


@on_catalog
def rollback_plan(catalog: Catalog) -> RollbackResult:
    """What `rollback` would do, and which of the rows written since could be carried back; writes nothing."""
    seen = catalog.seen()
    catalog.store.pointers.require_own(seen)
    live, previous = _live_and_previous(seen.pointer)
    transition = transition_between(catalog.store.pointers.chain(seen.pointer), live, previous)
    copied = _copy_to_restore(catalog, seen.pointer, transition, previous)
    late = _compared_writes(catalog, transition) if transition and copied is None else ()
    return RollbackResult(previous, live, late, restored_from=copied.to if copied else None)


@on_catalog
def rollback(
    catalog: Catalog,
    note: str | None = None,
    *,
    again: bool = False,
    discard: bool = False,
    when_exists: WhenExists = "error",
    on_progress: OnProgress = no_progress,
) -> RollbackResult:
    """Make the root live that was live before the last flip, in one conditional write; then carry rows back.

    A root that was archived and deleted is restored from its copy first. Rows written since the flip are
    replicated through the inverse of the migrations, as `reconcile` does it.

    `again` allows a rollback of a rollback, which rolls forward. With `discard`, rows written since the flip
    stay where they are, for good.

    Raises:
        PlanError: there is no previous root, it is incomplete, or the last change was a rollback.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as session:
        live, previous = _live_and_previous(session.seen.pointer)
        chain = list(catalog.store.pointers.chain(session.seen.pointer))
        last = next((entry for entry in chain if entry.origin != entry.target or entry.migrations), None)
        if last is not None and last.action is Action.ROLLBACK and not again:
            raise PlanError(
                f"the last change, at {last.finished}, was a rollback; another one would return to "
                f"{previous.prefix}",
                next_step="if that is intended: lancemig rollback --again",
            )
        transition = transition_between(chain, live, previous)
        if transition is not None and not discard:
            _refuse_without_routes(catalog, transition)
        restored = _restored(catalog, session, transition, previous, on_progress)
        tables = catalog.store.tables
        before, after = (facts(tables.live(root.prefix)) for root in (live, previous))
        change = session.pointer_update(Action.ROLLBACK, live, previous, note)
        change = replace(change, tables=table_changes(before, after), reads=tables.reads(previous.prefix))
        session.publish(change)
        done = RollbackResult(previous, live, (), (), restored_from=restored)
        if transition is None:
            return done
        try:
            return _carried_back(catalog, session, transition, done, discard=discard, when_exists=when_exists)
        except LancemigError as error:
            # The pointer is written: the rollback is done, whatever came of the late writes.
            next_step = error.next_step or "lancemig status"
            return replace(done, failed=f"{error.message}; next: {next_step}, then: lancemig reconcile")


def _refuse_without_routes(catalog: Catalog, transition: RootTransition) -> None:
    """Refuse a rollback, before it, if rows written since the flip could not be carried back.

    Without such rows, no file is read.
    """
    late = _late_writes(catalog, transition)
    if not late:
        return
    try:
        table_routes(catalog, transition, source_schema(catalog.store.tables, transition))
    except LancemigError as error:
        tables = ", ".join(each.table for each in late)
        source = transition.source.prefix
        raise PlanError(
            f"rows were written to {source} since the flip ({tables}), and cannot be carried back: "
            f"{error.message}; nothing was changed",
            next_step="restore the files of the revision (git checkout), then run the same command again; or "
            f"leave these rows in {source}: lancemig rollback --discard",
        ) from error


def _carried_back(
    catalog: Catalog,
    session: ExclusiveSession,
    transition: RootTransition,
    done: RollbackResult,
    *,
    discard: bool,
    when_exists: WhenExists,
) -> RollbackResult:
    """Carry the rows that were written since the flip back, or record that they are discarded."""
    late = _late_writes(catalog, transition)
    reconciliation = _reconciliation(catalog, session, when_exists)
    if discard:
        reconciliation.discard(transition)
        return replace(done, late_writes=late, discarded=True)
    # Without late writes no inverse is needed, and no file is read.
    results = tuple(reconciliation.reconcile(transition)) if late else ()
    return replace(done, late_writes=late, carried_back=results)


def _live_and_previous(pointer: Pointer | None) -> tuple[RootRevision, RootRevision]:
    if pointer is None or pointer.previous is None:
        raise PlanError("no flip has happened yet, so no previous root exists", next_step="lancemig history")
    return pointer.active, pointer.previous


def _restored(
    catalog: Catalog,
    session: ExclusiveSession,
    transition: RootTransition | None,
    root: RootRevision,
    on_progress: OnProgress,
) -> str | None:
    """Restore the root if it is incomplete; the copy that it was restored from, or None."""
    copied = _copy_to_restore(catalog, session.seen.pointer, transition, root)
    if copied is None:
        return None
    restore(catalog, session, copied, on_progress)
    _refuse_missing_tables(catalog, transition, root, "")
    return copied.to


def _copy_to_restore(
    catalog: Catalog, pointer: Pointer | None, transition: RootTransition | None, root: RootRevision
) -> Copied | None:
    """The copy that a root must be restored from; None if it has all its tables.

    Raises:
        PlanError: tables are missing, and the lineage records no copy.
    """
    known = standing(list(catalog.store.pointers.chain(pointer)), pointer)
    archived, deleted = known.archives.get(root.prefix), known.deleted.get(root.prefix)
    if archived is not None and archived.copied is not None and _missing_tables(catalog, transition, root):
        return archived.copied
    _refuse_missing_tables(catalog, transition, root, f"; gc deleted it at {deleted}" if deleted else "")
    return None


def _missing_tables(catalog: Catalog, transition: RootTransition | None, root: RootRevision) -> set[str]:
    expected = transition.versions()[1] if transition else {}
    return set(expected) - set(catalog.store.tables.names(root.prefix))


def _refuse_missing_tables(
    catalog: Catalog, transition: RootTransition | None, root: RootRevision, cause: str
) -> None:
    missing = _missing_tables(catalog, transition, root)
    if missing:
        raise PlanError(
            f"the root {root.prefix} no longer has {', '.join(sorted(missing))}{cause}",
            next_step="lancemig history --lineage -v",
        )


def _late_writes(catalog: Catalog, transition: RootTransition) -> tuple[LateWrites, ...]:
    """The tables of the source root that were written to since the flip."""
    tables, late = catalog.store.tables, []
    for name, live in tables.live(transition.source.prefix).tables.items():
        commits = count_late_commits(tables, transition, name)
        if commits:
            before = tables.find(transition.source.prefix, name, transition.reconciled_upto(name))
            late.append(LateWrites(name, live.rows - (before.count() if before else 0), commits))
    return tuple(late)


def _compared_writes(catalog: Catalog, transition: RootTransition) -> tuple[LateWrites, ...]:
    """Like `_late_writes`, with the kinds of changed rows, and why they cannot be carried back."""
    writes = _late_writes(catalog, transition)
    if not writes:
        return ()
    schema = source_schema(catalog.store.tables, transition)
    why = "the table was created after the flip"
    routes: dict[str, TableRoute] = {}
    try:
        routes = {route.table: route for route in table_routes(catalog, transition, schema)}
    except LancemigError as error:
        why = error.message
    return tuple(
        _compared(catalog, transition, routes.get(late.table, TableRoute(late.table, None, why)), late)
        for late in writes
    )


def _compared(
    catalog: Catalog, transition: RootTransition, route: TableRoute, late: LateWrites
) -> LateWrites:
    if route.path is None:
        return replace(late, why=route.why)
    tables, prefix = catalog.store.tables, transition.source.prefix
    try:
        before = tables.open(prefix, late.table, transition.reconciled_upto(late.table))
        now = tables.open(prefix, late.table)
        rows = diff(before, now, before.schema().key, columns=before.columns.names)
    except LancemigError as error:
        return replace(late, why=error.message)
    return replace(
        late, inserted=rows.inserted.num_rows, updated=rows.new.num_rows, deleted=rows.deleted.num_rows
    )
