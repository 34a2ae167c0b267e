"""The verbs that move the pointer between roots, and replicate late writes to the roots that it left."""

from dataclasses import dataclass, replace

from lancemig.apply.effects.replay import TablePath, derived_again, table_paths
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.replicate.merge import WhenExists
from lancemig.apply.replicate.reconcile import (
    Reconciliation,
    RootTransition,
    TableRoute,
    count_late_commits,
    reconcile_next_step,
    root_transitions,
    source_schema,
    transition_between,
)
from lancemig.apply.replicate.types import ReplicationResult
from lancemig.apply.rows.diff import diff
from lancemig.apply.run import facts, table_changes
from lancemig.apply.runner import RunOutcome, flip_staged
from lancemig.apply.sidecar import Run
from lancemig.apply.stages import Phase
from lancemig.apply.verify.derived import derived_gate
from lancemig.catalog.lineage import Action, Copied, GateOutcome, Pointer, RootRevision, standing
from lancemig.commands.context import Catalog
from lancemig.commands.retention import restore
from lancemig.commands.routes import Router, table_routes
from lancemig.commands.running import on_catalog
from lancemig.commands.upgrade import resume
from lancemig.errors import LancemigError, PlanError
from lancemig.store.lance import Tables


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
class FlipPlan:
    """What a flip would do."""

    run: str
    live: RootRevision
    """The root that is live now, and that the flip leaves."""
    staged: RootRevision
    """The root that becomes live."""
    behind: tuple[LateWrites, ...]
    """The writes to live tables that are replicated before the flip."""
    derived: tuple[GateOutcome, ...]
    """How tables that were derived again differ from the live ones; the flip is refused if one is not ok."""


def flip_plan(catalog: Catalog, prefix: str | None = None) -> FlipPlan:
    """What `flip` would do, with the tables as they are now; writes nothing.

    Raises:
        PlanError: no complete staged root waits for its flip, or `prefix` names another root.
    """
    run = _staged_run(catalog, prefix)
    seen, tables, root = catalog.seen(), catalog.store.tables, run.plan.origin.prefix
    catalog.store.pointers.require_own(seen)
    if run.has_flipped(seen.pointer):
        raise PlanError(
            f"{run.staged_prefix} is live: run {run.run} has flipped", next_step="lancemig recover"
        )
    migrations = {one.revision: one for one in resume(catalog, run).request.migrations}
    start = run.plan.start
    for planned in run.plan.in_place:
        for operation in migrations[planned.revision].operations:
            start = operation.after(start)
    paths = table_paths(start, [migrations[planned.revision] for planned in run.plan.staged])
    staged = run.staged_prefix or ""
    return FlipPlan(
        run=run.run,
        live=catalog.active(seen),
        staged=RootRevision(prefix=staged, revision=run.plan.target),
        behind=tuple(
            late
            for path in paths
            if path.source and path.target and not path.derived
            and (late := _written(tables, root, path.source, run.caught_up[path.source]))
        ),
        derived=tuple(
            outcome
            for name, target in derived_again(paths).items()
            for path in paths
            if path.target == target
            and (outcome := _compared_with_live(tables, (root, name), (staged, path)))
        ),
    )  # fmt: skip


def _written(tables: Tables, root: str, name: str, since: int) -> LateWrites | None:
    newest, before = tables.find(root, name), tables.find(root, name, since)
    if newest is None or newest.version == since:
        return None
    rows = newest.count() - (before.count() if before else 0)
    return LateWrites(name, rows, newest.version - since)


def _compared_with_live(
    tables: Tables, of_live: tuple[str, str], of_staged: tuple[str, TablePath]
) -> GateOutcome | None:
    """The gate of a table that is derived again, given root and name of the live one; None if one is gone."""
    path = of_staged[1]
    live, staged = tables.find(*of_live), tables.find(of_staged[0], path.target or "")
    if live is None or staged is None:
        return None
    made = [step.operation for step in path.steps if step.operation.row_effect.from_source]
    return derived_gate(live, staged, path.key_after(live.schema()), made[-1])


@on_catalog
def flip(catalog: Catalog, prefix: str | None, on_progress: OnProgress = no_progress) -> RunOutcome:
    """Flip to the root that `upgrade --no-flip` staged, once it is caught up and verified again.

    Raises:
        PlanError: no complete staged root waits for its flip, or `prefix` names another root.
        Incomplete: the flip is done, and late writes could not be carried over.
    """
    catalog.changeable()
    run = _staged_run(catalog, prefix)
    prepared = resume(catalog, run)
    return flip_staged(catalog.store, prepared.request, catalog.environment, run.run, on_progress)


def _staged_run(catalog: Catalog, prefix: str | None) -> Run:
    """The run whose staged root waits for the flip; PlanError if there is none."""
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
    return run


@on_catalog
def reconcile(catalog: Catalog, when_exists: WhenExists = "error") -> list[ReplicationResult]:
    """Replicate late writes from the roots that the pointer left, until no more arrive.

    Raises:
        PlanError: the operations that late rows pass through are not known; nothing was written.
        Incomplete: some rows were replicated, and others could not be.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment, again="lancemig reconcile") as session:
        return _reconciliation(catalog, session, when_exists).run()


def discard_late_writes(catalog: Catalog) -> list[LateWrites]:
    """Record that the late writes in the roots that the pointer left are never replicated; returns them.

    No file is read. The rows stay in those roots until `gc` deletes them.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as session:
        discarded: list[LateWrites] = []
        for transition in root_transitions(catalog.store.pointers.chain(session.seen.pointer)):
            late = _late_writes(catalog, transition)
            if late:
                discarded += late
                _reconciliation(catalog, session).discard(transition)
        return discarded


def _reconciliation(
    catalog: Catalog, session: ExclusiveSession, when_exists: WhenExists = "error"
) -> Reconciliation:
    return Reconciliation(
        session,
        session.committer,
        lambda transition, schema, tables: table_routes(catalog, transition, schema, tables),
        when_exists,
    )


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
                next_step="to carry back rows that it left behind: lancemig reconcile; if another rollback "
                "is intended: lancemig rollback --again",
            )
        transition = transition_between(chain, live, previous)
        if transition is not None and not discard:
            _refuse_without_routes(catalog, transition, again=again)
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
            return replace(done, failed=f"{error.message}; next: {reconcile_next_step(error)}")


def _refuse_without_routes(catalog: Catalog, transition: RootTransition, *, again: bool) -> None:
    """Refuse a rollback, before it, if rows written since the flip could not be carried back.

    Without such rows, no file is read.
    """
    late = _late_writes(catalog, transition)
    if not late:
        return
    try:
        schema = source_schema(catalog.store.tables, transition)
        table_routes(catalog, transition, schema, [each.table for each in late])
    except PlanError as error:
        tables = ", ".join(each.table for each in late)
        source = transition.source.prefix
        raise PlanError(
            f"rows were written to {source} since the flip ({tables}), and cannot be carried back: "
            f"{error.message}; nothing was changed",
            next_step="restore the files of the revision (git checkout), then run the same command again; or "
            f"leave these rows in {source}: lancemig rollback {'--again ' if again else ''}--discard",
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
    router = Router(catalog, transition, schema)
    return tuple(_compared(catalog, transition, _route_or_why(router, late.table), late) for late in writes)


def _route_or_why(router: Router, table: str) -> TableRoute:
    if table not in router.schema.tables:
        return TableRoute(table, None, "the table was created after the flip")
    try:
        return router.route(table)
    except PlanError as error:
        return TableRoute(table, None, error.message)


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
