"""Reader leases: small objects that expire; `gc` leaves their roots alone until then.

A reader writes its lease before it reads the pointer for the last time, and `gc` reads the leases after it
has recorded in the lineage what it will delete: so one of the two always sees the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lancemig.apply.environment import Environment
from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.errors import LancemigError, PlanError, Refused, StoreError
from lancemig.store.documents import Documents
from lancemig.store.objects import Objects, PreconditionFailed

READER_FORMAT = 1
LONGEST = timedelta(hours=24)
SLACK = timedelta(minutes=5)
"""Clocks differ: a lease counts for so long after it has expired."""


class ReaderLease(StoredModel):
    """A reader of a root: who, where, and until when."""

    format: int = READER_FORMAT
    id: str
    root: str
    at: str | None = None
    """The revision that is read, if it is an old one."""
    owner: str
    host: str
    pid: int
    taken_at: datetime
    expires_at: datetime

    def expired(self, now: datetime) -> bool:
        """Whether the lease no longer counts."""
        return now > self.expires_at + SLACK

    def describe(self) -> str:
        """Who reads, and until when."""
        return (
            f"{self.owner}@{self.host} (pid {self.pid}) reads it until {self.expires_at:%Y-%m-%d %H:%M} UTC"
        )


READER_LEASE = DocumentType(
    ReaderLease,
    "reader lease",
    READER_FORMAT,
    next_step="inspect {where}; remove it if no reader wrote it",
    ensure_ascii=False,
)


@dataclass
class Reading:
    """A lease that this process holds."""

    objects: Objects
    key: str
    lease: ReaderLease
    version_token: str

    def renew(self, now: datetime, length: timedelta) -> None:
        """Extend the lease to `length` from now; Refused if it has expired: the root may be deleted."""
        checked(length)
        if now > self.lease.expires_at:
            raise Refused(
                f"the lease of {self.lease.root} expired at {self.lease.expires_at:%Y-%m-%d %H:%M:%S} UTC",
                next_step="connect again, and renew the lease before it expires",
            )
        lease = self.lease.model_copy(update={"expires_at": now + length})
        outcome = Documents(self.objects, READER_LEASE).write_if(self.key, lease, self.version_token)
        if isinstance(outcome, PreconditionFailed):
            raise Refused(f"the lease {self.key} was removed by another process", next_step="connect again")
        self.lease, self.version_token = lease, outcome.version_token

    def end(self) -> None:
        """Delete the lease."""
        self.objects.delete([self.key])


def checked(length: timedelta) -> timedelta:
    """Return `length` if a lease may be that long; PlanError otherwise."""
    if not timedelta() < length <= LONGEST:
        raise PlanError(
            f"a lease of {length.total_seconds():,.0f} s is invalid; the maximum is 24 hours",
            next_step="use a shorter lease, and renew it",
        )
    return length


def folder_of(folder: str) -> str:
    """The folder of the leases, in the folder beside the pointer."""
    return f"{folder}leases/"


def take(
    objects: Objects,
    folder: str,
    environment: Environment,
    root: str,
    length: timedelta,
    owner: str,
    at: str | None,
) -> Reading:
    """Write a lease on `root`.

    Args:
        objects: The store.
        folder: The folder beside the pointer.
        environment: Clock, ids, host and process.
        root: The root that is read.
        length: How long the lease is; at most a day.
        owner: The reader, as other people know it.
        at: The revision that is read, if it is an old one.
    """
    now = environment.now()
    lease = ReaderLease(
        id=environment.new_id(),
        root=root,
        at=at,
        owner=owner,
        host=environment.host,
        pid=environment.pid,
        taken_at=now,
        expires_at=now + checked(length),
    )
    key = f"{folder_of(folder)}{lease.id}.json"
    outcome = Documents(objects, READER_LEASE).write_if(key, lease, None)
    if isinstance(outcome, PreconditionFailed):
        raise StoreError(f"{key} already exists", next_step="connect again")
    return Reading(objects, key, lease, outcome.version_token)


def readers(objects: Objects, folder: str) -> dict[str, ReaderLease]:
    """All leases by their keys, expired ones too; raises for one that cannot be read: it may be newer."""
    documents = Documents(objects, READER_LEASE)
    return {key: stored.value for key, stored in documents.read_all(folder_of(folder))}


def count(objects: Objects, folder: str, now: datetime) -> int:
    """The number of leases that have not expired; one that cannot be read counts."""
    bodies = (objects.read(item.key) for item in objects.list(folder_of(folder)))
    return sum(not _expired(found.body, now) for found in bodies if found is not None)


def _expired(body: bytes, now: datetime) -> bool:
    try:
        return READER_LEASE.decode(body, "the lease").expired(now)
    except LancemigError:
        return False


def of_root(leases: Sequence[ReaderLease], root: str, now: datetime) -> ReaderLease | None:
    """The lease on a root that expires last; None if all have expired."""
    current = [lease for lease in leases if lease.root == root and not lease.expired(now)]
    return max(current, key=lambda lease: lease.expires_at, default=None)
