"""Changes of the pointer that are a single write: nothing to resume, so the lock alone guards them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lancemig.apply.commit.committer import Committer
from lancemig.apply.environment import Environment
from lancemig.apply.lock import Lease, hold_lock
from lancemig.apply.publish import PointerUpdate, publish
from lancemig.apply.runner import new_run_id
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, RootRevision
from lancemig.errors import RunUnfinished
from lancemig.store.pointer import PointerRead


@dataclass
class ExclusiveSession:
    """The lock, held while no run is in flight, and the pointer as it was read under it."""

    store: Store
    environment: Environment
    lease: Lease
    run: str
    seen: PointerRead

    def pointer_update(
        self,
        action: Action,
        origin: RootRevision,
        target: RootRevision | None = None,
        note: str | None = None,
    ) -> PointerUpdate:
        """A change of this process that begins now; without `target`, the place stays."""
        started = self.environment.stamp()
        return PointerUpdate(action, origin, target or origin, run=self.run, started=started, note=note)

    def publish(self, change: PointerUpdate) -> None:
        """The one write."""
        self.lease.renew()
        self.seen = publish(self.store.pointers, self.seen, change, self.environment)

    @property
    def committer(self) -> Committer:
        """For the commits that go before it."""
        store = self.store
        return Committer(store.tables, self.run, self.lease, self.environment, store.retry_seconds)


@contextmanager
def exclusive(
    store: Store, environment: Environment, *, beside_waiting: bool = False
) -> Iterator[ExclusiveSession]:
    """Hold the lock; RunUnfinished when a run is in flight, LockHeld when another runner is at work.

    With `beside_waiting`, a run that waits for its flip is no obstacle.
    """
    run_id = new_run_id(environment)
    with hold_lock(store.objects, store.lock_key, run_id, environment, store.lock_ttl) as lease:
        run = store.sidecars().in_flight()
        if run is not None and not (beside_waiting and run.waits):
            raise RunUnfinished(
                f"run {run.run} has been in progress since {run.started}",
                next_step="finish it: lancemig recover; or undo it: lancemig recover --undo",
            )
        yield ExclusiveSession(store, environment, lease, run_id, store.pointers.read())
