"""Changes of the pointer that are a single write: nothing to resume, so the lock alone guards them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lancemig.apply.commit.committer import Committer
from lancemig.apply.environment import Caller
from lancemig.apply.lock import Lease, held
from lancemig.apply.publish import Change, publish
from lancemig.apply.runner import new_run_id
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, Place
from lancemig.errors import RunUnfinished
from lancemig.store.pointer import Seen


@dataclass
class Solo:
    """The lock, held while no run is in flight, and the pointer as it was read under it."""

    store: Store
    caller: Caller
    lease: Lease
    run: str
    seen: Seen

    def change(
        self, action: Action, origin: Place, target: Place | None = None, note: str | None = None
    ) -> Change:
        """A change of this process that begins now; without `target`, the place stays."""
        started = self.caller.stamp()
        return Change(action, origin, target or origin, run=self.run, started=started, note=note)

    def publish(self, change: Change) -> None:
        """The one write."""
        self.lease.hold()
        self.seen = publish(self.store.pointers, self.seen, change, self.caller)

    @property
    def committer(self) -> Committer:
        """For the commits that go before it."""
        store = self.store
        return Committer(store.tables, self.run, self.lease, self.caller, store.retry_seconds)


@contextmanager
def alone(store: Store, caller: Caller, *, beside_waiting: bool = False) -> Iterator[Solo]:
    """Hold the lock; RunUnfinished when a run is in flight, LockHeld when another runner is at work.

    With `beside_waiting`, a run that waits for its flip is no obstacle.
    """
    run_id = new_run_id(caller)
    with held(store.objects, store.lock_key, run_id, caller, store.lock_ttl) as lease:
        run = store.sidecars().in_flight()
        if run is not None and not (beside_waiting and run.waits):
            raise RunUnfinished(
                f"run {run.run} has been in progress since {run.started}",
                next_step="finish it: lancemig recover; or undo it: lancemig recover --undo",
            )
        yield Solo(store, caller, lease, run_id, store.pointers.read())
