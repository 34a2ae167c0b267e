"""The lock: a lease with an owner and a heartbeat.

One runner works at a time, and a dead one blocks nobody: its lease expires.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lancemig.apply.environment import Environment, Progress
from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.errors import LancemigError, LockHeld
from lancemig.events import log_event
from lancemig.store.documents import Documents
from lancemig.store.objects import ObjectBody, Objects, PreconditionFailed

LOCK_FORMAT = 1

_log = logging.getLogger(__name__)


class Lock(StoredModel):
    """The runner at work, and how far it is."""

    format: int = LOCK_FORMAT
    id: str
    run: str
    actor: str
    host: str
    machine: str
    """Boot id and process namespace: tells processes apart that share a host name, as containers do."""
    pid: int
    taken_at: datetime
    heartbeat_at: datetime
    ttl_seconds: float
    """The lock expires so many seconds after the last heartbeat."""
    doing: Progress | None = None
    """How far the run was at the last heartbeat."""

    def expired(self, now: datetime) -> bool:
        """Whether the last heartbeat is older than `ttl_seconds`."""
        return now > self.heartbeat_at + timedelta(seconds=self.ttl_seconds)

    def describe(self, now: datetime) -> str:
        """The owner, and the age of the last heartbeat."""
        age = (now - self.heartbeat_at).total_seconds()
        return f"run {self.run} of {self.actor}@{self.host} (pid {self.pid}), last heartbeat {age:.0f} s ago"


LOCK = DocumentType(
    Lock,
    "lock",
    LOCK_FORMAT,
    next_step="make sure that no runner is at work, then: lancemig unlock --force",
    newer="upgrade lancemig; or, if no runner is at work: lancemig unlock --force",
    # A lock of a newer release is held as well: its owner may be at work.
    error=LockHeld,
    newer_error=LockHeld,
    ensure_ascii=False,
)


def locks(objects: Objects) -> Documents[Lock]:
    """The lock as a stored document; reading a lock that cannot be parsed raises LockHeld."""
    return Documents(objects, LOCK)


@dataclass
class Lease:
    """A held lock; call `renew` before every effect."""

    objects: Objects
    key: str
    lock: Lock
    version_token: str
    now: Callable[[], datetime]
    lost: str | None = None
    """Who took the lock over, as text; None while it is held."""
    doing: Progress | None = None
    """How far the run is; written with the next heartbeat."""
    _heartbeat: threading.Lock = field(default_factory=threading.Lock)

    def renew(self) -> None:
        """Check that the lock is still held; LockHeld if another runner took it over.

        Asks the store only if the lock has expired meanwhile, as after a suspend of the machine.
        """
        if self.lost is None and self.lock.expired(self.now()):
            self.heartbeat()
        if self.lost is not None:
            raise LockHeld(
                f"another runner took over the lock of run {self.lock.run}: {self.lost}",
                next_step="lancemig status",
            )

    def heartbeat(self) -> None:
        """Write the time and the progress to the lock; sets `lost` if another runner took it over."""
        with self._heartbeat:
            now = self.now()
            lock = self.lock.model_copy(update={"heartbeat_at": now, "doing": self.doing})
            outcome = locks(self.objects).write_if(self.key, lock, self.version_token)
            if isinstance(outcome, PreconditionFailed):
                self.lost = _new_owner(self.objects, outcome.found, self.key, now)
                log_event(_log, "lock_lost", "lock lost: %s", self.lost, key=self.key, run=self.lock.run)
            else:
                self.lock, self.version_token = lock, outcome.version_token
                log_event(_log, "lock_renewed", "lock renewed", key=self.key, run=self.lock.run)

    def release(self) -> None:
        """Delete the lock, unless another runner took it over."""
        found = self.objects.read(self.key)
        if found is not None and found.version_token == self.version_token:
            self.objects.delete([self.key])
            log_event(_log, "lock_released", "lock released", key=self.key, run=self.lock.run)


@contextmanager
def hold_lock(
    objects: Objects, key: str, run: str, environment: Environment, ttl_seconds: float
) -> Iterator[Lease]:
    """Hold the lock while the body runs.

    A lock is taken over if it has expired, or if its owner's process on this machine no longer exists.

    Raises:
        LockHeld: Another runner holds the lock; the message names it.
    """
    lease = _acquire(objects, key, run, environment, ttl_seconds)
    stop = threading.Event()
    thread = threading.Thread(target=_keep_alive, args=(lease, ttl_seconds / 3, stop), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        # The outcome of the run counts; a lock that cannot be deleted expires by itself.
        with suppress(LancemigError):
            lease.release()


def _acquire(objects: Objects, key: str, run: str, environment: Environment, ttl_seconds: float) -> Lease:
    now = environment.now()
    lock = Lock(
        id=environment.new_id(),
        run=run,
        actor=environment.actor,
        host=environment.host,
        machine=environment.machine,
        pid=environment.pid,
        taken_at=now,
        heartbeat_at=now,
        ttl_seconds=ttl_seconds,
    )
    documents = locks(objects)
    outcome = documents.write_if(key, lock, None)
    if isinstance(outcome, PreconditionFailed):
        other = outcome.found and documents.decode(outcome.found.body, key)
        if other and not (other.expired(now) or _died(other, environment)):
            log_event(_log, "lock_refused", "lock held by %s", other.describe(now), key=key, owner=other.run)
            raise _held_by(other, now)
        if other:
            text = "lock taken over from %s"
            log_event(_log, "lock_taken_over", text, other.describe(now), key=key, run=run, owner=other.run)
        outcome = documents.write_if(key, lock, outcome.found.version_token if outcome.found else None)
    if isinstance(outcome, PreconditionFailed):
        other = outcome.found and documents.decode(outcome.found.body, key)
        raise (
            _held_by(other, now)
            if other
            else LockHeld("another runner acquired the lock first", next_step="run the same command again")
        )
    log_event(_log, "lock_acquired", "lock acquired by run %s", run, key=key, run=run)
    return Lease(objects, key, lock, outcome.version_token, environment.now)


def _new_owner(objects: Objects, found: ObjectBody | None, key: str, now: datetime) -> str:
    if found is None:
        return "the lock was removed"
    try:
        return locks(objects).decode(found.body, key).describe(now)
    except LockHeld as error:
        return error.message


def _held_by(lock: Lock, now: datetime) -> LockHeld:
    until = lock.heartbeat_at + timedelta(seconds=lock.ttl_seconds)
    return LockHeld(
        f"locked by {lock.describe(now)}; without another heartbeat the lock expires at {until:%H:%M:%S} UTC",
        next_step="wait for it; or, if that process is certainly dead: lancemig unlock --force",
    )


def _died(lock: Lock, environment: Environment) -> bool:
    return lock.machine == environment.machine and not environment.alive(lock.pid)


def _keep_alive(lease: Lease, every: float, stop: threading.Event) -> None:
    while not stop.wait(every) and lease.lost is None:
        try:
            lease.heartbeat()
        except LancemigError:
            # If the store fails now, the next effect will find out; the lease lives on until its ttl.
            continue
