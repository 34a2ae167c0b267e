"""The lock: a lease with owner and heartbeat, so that one runner is at work and a dead one blocks nobody."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lancemig.apply.environment import Environment, Progress
from lancemig.catalog.value import FrozenModel, checked_format
from lancemig.errors import ConfigError, LancemigError, LockHeld, StoreError
from lancemig.events import log_event
from lancemig.store.objects import ObjectBody, Objects, PreconditionFailed

LOCK_FORMAT = 1

_log = logging.getLogger(__name__)


class Lock(FrozenModel):
    """Who is at work: `machine` tells processes apart that share a host name, as containers do.

    `doing` is how far it was at the last heartbeat.
    """

    format: int = LOCK_FORMAT
    id: str
    run: str
    actor: str
    host: str
    machine: str
    pid: int
    taken_at: datetime
    heartbeat_at: datetime
    ttl_seconds: float
    doing: Progress | None = None

    def expired(self, now: datetime) -> bool:
        """Whether its owner has not been heard of for longer than it promised."""
        return now > self.heartbeat_at + timedelta(seconds=self.ttl_seconds)

    def describe(self, now: datetime) -> str:
        """Who holds it, and since when nothing was heard."""
        age = (now - self.heartbeat_at).total_seconds()
        return f"run {self.run} of {self.actor}@{self.host} (pid {self.pid}), last heartbeat {age:.0f} s ago"


@dataclass
class Lease:
    """A held lock. `hold` is asked before every effect."""

    objects: Objects
    key: str
    lock: Lock
    etag: str
    now: Callable[[], datetime]
    lost: str | None = None
    doing: Progress | None = None
    _beating: threading.Lock = field(default_factory=threading.Lock)

    def renew(self) -> None:
        """Raise LockHeld when another runner has taken the lease over.

        A process that was asleep for longer than its promise asks the store, before it does anything.
        """
        if self.lost is None and self.lock.expired(self.now()):
            self.heartbeat()
        if self.lost is not None:
            raise LockHeld(
                f"another runner took over the lock of run {self.lock.run}: {self.lost}",
                next_step="lancemig status",
            )

    def heartbeat(self) -> None:
        """Say that the owner lives; notices a take-over."""
        with self._beating:
            now = self.now()
            lock = self.lock.model_copy(update={"heartbeat_at": now, "doing": self.doing})
            outcome = self.objects.write_if(self.key, _body(lock), self.etag)
            if isinstance(outcome, PreconditionFailed):
                self.lost = _taker(outcome.found, self.key, now)
                log_event(_log, "lock_lost", "lock lost: %s", self.lost, key=self.key, run=self.lock.run)
            else:
                self.lock, self.etag = lock, outcome.version_token
                log_event(_log, "lock_renewed", "lock renewed", key=self.key, run=self.lock.run)

    def release(self) -> None:
        """Give the lock back, unless it is no longer ours."""
        found = self.objects.read(self.key)
        if found is not None and found.version_token == self.etag:
            self.objects.delete([self.key])
            log_event(_log, "lock_released", "lock released", key=self.key, run=self.lock.run)


@contextmanager
def hold_lock(
    objects: Objects, key: str, run: str, environment: Environment, ttl_seconds: float
) -> Iterator[Lease]:
    """Hold the lock while the body runs; LockHeld names who has it.

    A lock whose heartbeat is older than its promise, or whose process on this very machine is gone, is taken.
    """
    lease = _taken(objects, key, run, environment, ttl_seconds)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(lease, ttl_seconds / 3, stop), daemon=True)
    beating.start()
    try:
        yield lease
    finally:
        stop.set()
        beating.join()
        # What the run met or achieved counts; a lock that cannot be given back expires by itself.
        with suppress(StoreError):
            lease.release()


def _taken(objects: Objects, key: str, run: str, environment: Environment, ttl_seconds: float) -> Lease:
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
    outcome = objects.write_if(key, _body(lock), None)
    if isinstance(outcome, PreconditionFailed):
        other = outcome.found and read_lock(outcome.found, key)
        if other and not (other.expired(now) or _died(other, environment)):
            log_event(_log, "lock_refused", "lock held by %s", other.describe(now), key=key, owner=other.run)
            raise _held_by(other, now)
        if other:
            text = "lock taken over from %s"
            log_event(_log, "lock_taken_over", text, other.describe(now), key=key, run=run, owner=other.run)
        outcome = objects.write_if(key, _body(lock), outcome.found.version_token if outcome.found else None)
    if isinstance(outcome, PreconditionFailed):
        other = outcome.found and read_lock(outcome.found, key)
        raise (
            _held_by(other, now)
            if other
            else LockHeld("another runner acquired the lock first", next_step="run the same command again")
        )
    log_event(_log, "lock_acquired", "lock acquired by run %s", run, key=key, run=run)
    return Lease(objects, key, lock, outcome.version_token, environment.now)


def _taker(found: ObjectBody | None, key: str, now: datetime) -> str:
    if found is None:
        return "the lock was removed"
    try:
        return read_lock(found, key).describe(now)
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


def _beat(lease: Lease, every: float, stop: threading.Event) -> None:
    while not stop.wait(every) and lease.lost is None:
        try:
            lease.heartbeat()
        except LancemigError:
            # A store that fails now is met again by the next effect; the lease lives on until its ttl.
            continue


def read_lock(found: ObjectBody, key: str) -> Lock:
    """The lock in an object; LockHeld when it is none this program can read, for it may be a newer one's."""
    next_step = "upgrade lancemig, or: lancemig unlock --force"
    try:
        document = json.loads(found.body)
        checked_format(document, LOCK_FORMAT, key, next_step)
        return Lock.model_validate(document)
    except (ValueError, ConfigError) as error:
        raise LockHeld(f"this version of lancemig cannot read the lock {key}", next_step=next_step) from error


def _body(lock: Lock) -> bytes:
    return lock.model_dump_json(indent=1).encode()
