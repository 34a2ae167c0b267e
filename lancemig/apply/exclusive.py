"""Exclusive sessions: pointer changes of a single write, which need the lock and no sidecar."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lancemig.apply.commit.committer import Committer
from lancemig.apply.environment import Environment
from lancemig.apply.lock import Lease, hold_lock
from lancemig.apply.publish import PointerUpdate, incomplete, publish
from lancemig.apply.replicate.reconcile import reconcile_next_step
from lancemig.apply.runner import new_run_id
from lancemig.apply.sidecar import Run
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, RootRevision
from lancemig.errors import Incomplete, Interrupted, LancemigError, RunUnfinished
from lancemig.store.pointer import PointerRead


@dataclass
class ExclusiveSession:
    """A session that holds the lock while no run is in flight."""

    store: Store
    environment: Environment

    lease: Lease
    """The lock."""

    run: str
    """The id of the session, for stamps and the lineage."""

    seen: PointerRead
    """The pointer, as last read or written under the lock."""

    again: str = "run the same command again"
    """The command that completes what the session has begun to write."""

    published: list[PointerUpdate] = field(default_factory=list)
    """The changes of the pointer in this session."""

    written: set[str] = field(default_factory=set)
    """The tables that this session has committed to."""

    def pointer_update(
        self,
        action: Action,
        origin: RootRevision,
        target: RootRevision | None = None,
        note: str | None = None,
    ) -> PointerUpdate:
        """An update of the pointer that begins now. Without a `target`, root and revision stay."""
        started = self.environment.stamp()
        return PointerUpdate(action, origin, target or origin, run=self.run, started=started, note=note)

    def publish(self, update: PointerUpdate) -> None:
        """Write the lineage entry and the pointer."""
        self.lease.renew()
        self.seen = publish(self.store.pointers, self.seen, update, self.environment)
        self.published.append(update)

    @property
    def committer(self) -> Committer:
        """Makes the commits before the pointer is written."""
        store = self.store
        return Committer(
            store.tables,
            self.run,
            self.lease,
            self.environment,
            store.retry_seconds,
            on_commit=lambda table: self.written.add(table.name),
        )

    def explained(self, error: LancemigError) -> LancemigError:
        """The error to raise: Incomplete, with what was done, if it came after the commit point."""
        if isinstance(error, Incomplete) or not (self.published or self.written):
            return error
        texts = [update.done for update in self.published]
        if self.written:
            texts.append(f"rows were written to {', '.join(sorted(self.written))}")
        action = self.published[-1].action if self.published else None
        next_step = self.again
        if action in (Action.ROLLBACK, Action.RECONCILE):
            next_step = reconcile_next_step(error)
        elif action is not None:
            next_step = "lancemig gc" if action is Action.GC else "lancemig status"
        return incomplete("; ".join(texts), error, next_step)


@contextmanager
def exclusive(
    store: Store,
    environment: Environment,
    *,
    beside_waiting: bool = False,
    any_pointer: bool = False,
    again: str = "run the same command again",
) -> Iterator[ExclusiveSession]:
    """Hold the lock while no run is in flight.

    Args:
        store: The catalog's store.
        environment: Supplies clock and ids.
        beside_waiting: Whether to allow a run that waits for its flip.
        any_pointer: Whether to allow a pointer that another program wrote.
        again: The command that completes what the body has begun to write, if it fails.

    Raises:
        RunUnfinished: A run is in flight.
        LockHeld: Another runner is active.
        ForeignPointer: Another program wrote the pointer.
        Incomplete: The body failed after its commit point.
    """
    run_id = new_run_id(environment)
    with hold_lock(store.objects, store.lock_key, run_id, environment, store.lock_ttl) as lease:
        run = store.sidecars().in_flight()
        seen = store.pointers.read()
        if run is not None and not (beside_waiting and run.waits):
            raise _unfinished(run, seen)
        if not any_pointer:
            store.pointers.require_own(seen)
        session = ExclusiveSession(store, environment, lease, run_id, seen, again)
        try:
            yield session
        except LancemigError as error:
            explained = session.explained(error)
            if explained is error:
                raise
            raise explained from error
        except KeyboardInterrupt as interrupt:
            explained = session.explained(LancemigError("interrupted"))
            if not isinstance(explained, Incomplete):
                raise
            next_step = explained.next_step or again
            raise Interrupted(f"interrupted. {explained.message}", next_step=next_step) from interrupt


def _unfinished(run: Run, seen: PointerRead) -> RunUnfinished:
    if run.has_flipped(seen.pointer):
        return RunUnfinished(
            f"run {run.run} has flipped to {run.staged_prefix}, and has not replicated late writes yet",
            next_step="lancemig recover",
        )
    return RunUnfinished(
        f"run {run.run} has been in progress since {run.started}",
        next_step="finish it: lancemig recover; or undo it: lancemig recover --undo",
    )
