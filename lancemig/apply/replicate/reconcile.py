"""Reconciliation: late writes to roots that the pointer has left, replicated into the root that followed."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lancemig.apply.commit.committer import Committer
from lancemig.apply.effects.replay import TablePath
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.replicate.merge import WhenExists
from lancemig.apply.replicate.replicate import replicate
from lancemig.apply.replicate.types import ROWS_MOVE, ROWS_STAY, ReplicationResult, ReplicationTask
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, LineageEntry, RootRevision, TableChange
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import is_replication
from lancemig.catalog.value import Timing, format_root
from lancemig.errors import (
    ConfigError,
    LancemigError,
    OutcomeUnknown,
    PlanError,
    Refused,
    ScriptError,
    StoreError,
    VerifyFailed,
)
from lancemig.events import log_event
from lancemig.store.lance import Table, Tables
from lancemig.store.pointer import PointerRead

_log = logging.getLogger(__name__)

MAX_ROUNDS = 20


@dataclass(frozen=True)
class RootTransition:
    """Two roots that a flip joined, in the direction in which late writes are replicated."""

    flip: LineageEntry
    """The lineage entry of the flip, also if the transition is its rollback."""
    is_rollback: bool
    """The pointer went back over the flip, so rows are replicated from the new root into the old one."""
    source: RootRevision
    """The root that the pointer left, at the revision that it had then."""
    target: RootRevision
    """The root that the pointer went to, at its revision now, or when the pointer left it in turn."""
    reconciled: Mapping[str, int]
    """The version of each source table up to which the lineage records a reconciliation."""

    def versions(self) -> tuple[dict[str, int], dict[str, int]]:
        """The versions, by table, at which both roots had the same rows: of the source, of the target."""
        before = {c.table: c.version_before for c in self.flip.tables if c.version_before is not None}
        after = {c.table: c.version_after for c in self.flip.tables if c.version_after is not None}
        return (after, before) if self.is_rollback else (before, after)

    def reconciled_upto(self, table: str) -> int:
        """The version of the source table up to which everything is replicated."""
        return self.reconciled.get(table, self.versions()[0].get(table, 0))


@dataclass(frozen=True)
class TableRoute:
    """The operations that late rows of a source `table` pass through, or `why` they cannot."""

    table: str
    path: TablePath | None = None
    why: str = ""


DERIVED_AGAIN = "it is derived again from its source"
"""Why late writes to a table of `BuildTable` have no route."""

FindRoutes = Callable[[RootTransition, CatalogSchema, Collection[str]], Sequence[TableRoute]]
"""Finds the routes of these tables of a transition, given the schema of its source root.

Raises PlanError for a table whose route cannot be told, because a migration file is gone or was edited.
"""


def root_transitions(chain: Iterable[LineageEntry]) -> list[RootTransition]:
    """The transitions over which late writes get to the live root; the root that was left first comes first.

    Args:
        chain: The lineage, newest entry first.

    Raises:
        PlanError: no rebuild or rollback made the live root live.
    """
    entries = list(chain)
    flips = [e for e in entries if e.migrations and e.origin.prefix != e.target.prefix and e.foreign is None]
    reconciled: dict[str, dict[str, int]] = {}
    transitions: list[RootTransition] = []
    target = entries[0].target if entries else None
    joined: set[frozenset[str]] = set()
    for entry in entries:
        if entry.action is Action.RECONCILE:
            versions = reconciled.setdefault(entry.reconciled or "", {})
            for table in entry.tables:
                versions.setdefault(table.table, table.version_after or 0)
        pair = frozenset({entry.origin.prefix, entry.target.prefix})
        if target is None or len(pair) == 1 or entry.target.prefix != target.prefix or pair in joined:
            continue
        flip = next(
            (e for e in flips if {e.origin.prefix, e.target.prefix} == pair and e.seq <= entry.seq), None
        )
        if flip is None:
            break
        joined.add(pair)
        is_rollback = flip.origin.prefix != entry.origin.prefix
        versions = reconciled.setdefault(entry.origin.prefix, {})
        transitions.insert(0, RootTransition(flip, is_rollback, entry.origin, target, versions))
        if not is_rollback:
            target = entry.origin
    if not transitions:
        raise PlanError("the live root was not made by a rebuild", next_step="lancemig history")
    return transitions


def transition_between(
    chain: Iterable[LineageEntry], source: RootRevision, target: RootRevision
) -> RootTransition | None:
    """The transition that a rollback from `source` to `target` would make; None if no flip joined them."""
    entries = list(chain)
    rollback = LineageEntry(
        seq=entries[0].seq + 1 if entries else 1,
        parent=None,
        parent_digest=None,
        action=Action.ROLLBACK,
        origin=source,
        target=target,
        run="",
        started="",
        finished="",
        actor="",
        host="",
    )
    try:
        transitions = root_transitions([rollback, *entries])
    except PlanError:
        return None
    return next((transition for transition in transitions if transition.source == source), None)


def source_schema(tables: Tables, transition: RootTransition) -> CatalogSchema:
    """The schema of the source root when both roots had the same rows."""
    prefix = transition.source.prefix
    versions = transition.versions()[0].items()
    return CatalogSchema(tables={name: tables.open(prefix, name, at).schema() for name, at in versions})


def count_late_commits(tables: Tables, transition: RootTransition, table: str) -> int:
    """The number of commits to a source table that may have changed rows and are not reconciled.

    lancemig's own commits count only if they replicated rows from another root.
    """
    newest, upto = tables.find(transition.source.prefix, table), transition.reconciled_upto(table)
    return 0 if newest is None else _count_late_commits(tables, newest, upto)


def _count_late_commits(tables: Tables, newest: Table, upto: int) -> int:
    if newest.version <= upto:
        return 0
    log = tables.search(newest, upto)
    written = [c for c in log.commits if c.stamp is None or is_replication(c.stamp.step)]
    return len(log.missing) + sum(commit.operation not in ROWS_STAY | ROWS_MOVE for commit in written)


def reconcile_next_step(error: LancemigError) -> str:
    """The command that ends the state in which late writes were not replicated because of `error`."""
    if isinstance(error, StoreError | Refused | OutcomeUnknown):
        return "lancemig reconcile"
    if isinstance(error, PlanError | ScriptError | ConfigError):
        return (
            "restore the file of the revision (git checkout), then: lancemig reconcile; or leave these rows "
            "in the old root for good: lancemig reconcile --discard"
        )
    return "lancemig reconcile; or leave these rows in the old root for good: lancemig reconcile --discard"


class CatalogSession(Protocol):
    """What a reconciliation needs of the holder of the lock."""

    @property
    def store(self) -> Store:
        """The store of the catalog."""
        ...

    @property
    def seen(self) -> PointerRead:
        """The pointer as it was last read or written."""
        ...

    def publish(self, change: PointerUpdate, /) -> None:
        """Write a lineage entry and the pointer."""
        ...


@dataclass(frozen=True)
class _LateTables:
    """What one transition has to replicate."""

    transition: RootTransition
    schema: CatalogSchema
    """The schema of the source root."""
    late: Sequence[str]
    """The tables with late writes."""
    routes: Sequence[TableRoute]
    """The routes of these tables, and of those that get rows from an earlier transition first."""
    unchanged: Sequence[ReplicationResult]
    """The other tables, up to their newest version."""


@dataclass(frozen=True)
class Reconciliation:
    """Replicates late writes over root transitions, and records in the lineage how far."""

    session: CatalogSession
    committer: Committer
    find_routes: FindRoutes
    when_exists: WhenExists = "error"

    def run(self) -> list[ReplicationResult]:
        """Reconcile all transitions, in rounds until one replicates nothing; a result for each table.

        The root that was left first comes first, so its rows pass through each later one. A source root that
        has no tables any more is skipped. The routes of all late writes are found before the first write.

        Raises:
            PlanError: A route needs a migration file that is not as it was applied; nothing was written.
        """
        total: dict[tuple[int, str], ReplicationResult] = {}
        for _ in range(MAX_ROUNDS):
            results = self._round()
            for key, result in results:
                earlier = total.get(key)
                total[key] = earlier.plus(result) if earlier else result
            if not any(result.rows for _, result in results):
                break
        return list(total.values())

    def _round(self) -> list[tuple[tuple[int, str], ReplicationResult]]:
        late, results = self._find_all_late(), list[tuple[tuple[int, str], ReplicationResult]]()
        for number in late:
            # Rows that came through an earlier transition are late writes of the next one.
            this = (
                self._find_all_late()[number] if any(result.rows for _, result in results) else late[number]
            )
            results += [((number, result.source), result) for result in self._reconcile(this)]
        return results

    def _find_all_late(self) -> dict[int, _LateTables]:
        store = self.session.store
        found, coming = dict[int, _LateTables](), list[str]()
        transitions = root_transitions(store.pointers.chain(self.session.seen.pointer))
        for number, transition in enumerate(transitions):
            if store.tables.names(transition.source.prefix):
                found[number] = self._find_late(transition, coming)
                coming = [r.path.target for r in found[number].routes if r.path and r.path.target]
        return found

    def reconcile(self, transition: RootTransition) -> list[ReplicationResult]:
        """Replicate the late writes of one transition once, and record how far; a result for each table.

        While `when_exists` is "error", nothing of a table with conflicts is replicated. The conflicts of a
        result also name a table without a route. Repeated, it replicates nothing twice. An error after the
        first table is raised once the lineage has what was replicated.

        Raises:
            PlanError: A route needs a migration file that is not as it was applied; nothing was written.
        """
        return self._reconcile(self._find_late(transition, ()))

    def _find_late(self, transition: RootTransition, coming: Collection[str]) -> _LateTables:
        """Find the late tables of a transition, and the routes of these and of the tables in `coming`."""
        tables, prefix = self.session.store.tables, transition.source.prefix
        schema, unchanged, late = source_schema(tables, transition), list[ReplicationResult](), list[str]()
        for name in schema.tables:
            newest = tables.find(prefix, name)
            if newest is None:
                continue
            if _count_late_commits(tables, newest, transition.reconciled_upto(name)):
                late.append(name)
            else:
                unchanged.append(ReplicationResult(name, 0, newest.version))
        wanted = dict.fromkeys([*late, *(name for name in coming if name in schema.tables)])
        try:
            routes = self.find_routes(transition, schema, list(wanted)) if wanted else ()
        except PlanError as error:
            raise PlanError(
                f"late writes in {format_root(prefix)} cannot be replicated: {error.message}",
                next_step=reconcile_next_step(error),
            ) from error
        return _LateTables(transition, schema, late, [r for r in routes if r.table in wanted], unchanged)

    def _reconcile(self, late: _LateTables) -> list[ReplicationResult]:
        transition, environment = late.transition, self.committer.environment
        began = environment.now()
        source, target = transition.source.prefix, transition.target.prefix
        where = {"phase": "reconcile", "source_root": source, "target_root": target}
        log_event(_log, "phase_started", "reconcile %s into %s started", source, target, **where)
        results, failure = list(late.unchanged), None
        for result in late.unchanged:
            # The next reconciliation compares with this version, so it must not be cleaned up before.
            if result.upto > transition.reconciled_upto(result.source):
                self.committer.guard_catalog(source, {result.source: result.upto})
        for route in (route for route in late.routes if route.table in late.late):
            try:
                results += self._table(transition, late.schema, route)
            except LancemigError as error:
                failure = error
                break
        seconds = round((environment.now() - began).total_seconds(), 3)
        rows = sum(result.rows for result in results)
        text = "reconcile finished: %d rows in %.3f s"
        log_event(_log, "phase_finished", text, rows, seconds, **where, rows=rows, seconds=seconds)
        note = f"{count_text(rows, 'row')} of {format_root(source)} replicated"
        if failure is None or rows:
            self._record(transition, results, note, (Timing(phase="reconcile", seconds=seconds, rows=rows),))
        if failure is not None:
            raise failure
        return results

    def discard(self, transition: RootTransition) -> None:
        """Record in the lineage that the late writes of a transition are never replicated."""
        source = transition.source.prefix
        live = self.session.store.tables.live(source).tables
        results = [ReplicationResult(name, 0, table.version) for name, table in live.items()]
        for result in results:
            upto, text = transition.reconciled_upto(result.source), "%s: writes to %s are discarded"
            if result.upto > upto:
                log_event(_log, "writes_discarded", text, result.source, source, table=result.source,
                          root=source, after=upto, upto=result.upto)  # fmt: skip
        self._record(transition, results, f"rows written to {source} since the flip are discarded")

    def _table(
        self, transition: RootTransition, schema: CatalogSchema, route: TableRoute
    ) -> list[ReplicationResult]:
        if route.path is None or route.path.target is None:
            return self._without_route(transition, route)
        after = transition.reconciled_upto(route.table)
        task = ReplicationTask(
            path=route.path,
            source_root=transition.source.prefix,
            target_root=transition.target.prefix,
            schema=schema.table(route.table),
            after=after,
            target_base=transition.versions()[1].get(route.path.target, 0),
            when_exists=self.when_exists,
            extra_columns=transition.is_rollback,
        )
        try:
            return [replicate(self.committer, task, transition.target.revision or "")]
        except VerifyFailed as error:
            # After the first colon the message may quote a value.
            self._log_table(transition, route, error.message.partition(": ")[0])
            return [ReplicationResult(route.table, 0, after, (error.message,))]

    def _without_route(self, transition: RootTransition, route: TableRoute) -> list[ReplicationResult]:
        """The result for a table whose rows cannot be replicated, if it has late writes."""
        tables = self.session.store.tables
        if not route.why:
            self._log_table(transition, route, "the migration drops the table")
            return []
        if not count_late_commits(tables, transition, route.table):
            return []
        self._log_table(transition, route, route.why)
        if self.when_exists == "keep":
            newest = tables.open(transition.source.prefix, route.table)
            return [ReplicationResult(route.table, 0, newest.version)]
        message = f"{route.table}: rows cannot be replicated: {route.why}"
        return [ReplicationResult(route.table, 0, transition.reconciled_upto(route.table), (message,))]

    @staticmethod
    def _log_table(transition: RootTransition, route: TableRoute, reason: str) -> None:
        about = {"table": route.table, "root": transition.source.prefix, "reason": reason}
        log_event(_log, "table_not_replicated", "%s: not replicated: %s", route.table, reason, **about)

    def _record(
        self,
        transition: RootTransition,
        results: Sequence[ReplicationResult],
        note: str,
        timings: Sequence[Timing] = (),
    ) -> None:
        """Record in the lineage how far each table is reconciled, unless it says so already."""
        pointer = self.session.seen.pointer
        advanced = [result for result in results if result.upto > transition.reconciled_upto(result.source)]
        if pointer is None or not advanced:
            return
        self.session.publish(
            PointerUpdate(
                action=Action.RECONCILE,
                origin=pointer.active,
                target=pointer.active,
                run=self.committer.run,
                started=self.committer.environment.stamp(),
                tables=[TableChange(table=one.source, version_after=one.upto) for one in advanced],
                note=note,
                reconciled=transition.source.prefix,
                timings=timings,
            )
        )
