"""Leases of readers: small objects that expire, and whose roots `gc` leaves alone until then.

A reader puts its lease down before it looks at the pointer for the last time, and `gc` looks at the leases
after it has said in the lineage what it will delete: so one of the two always sees the other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lancemig.apply.environment import Environment
from lancemig.catalog.value import FrozenModel, checked_format
from lancemig.errors import LancemigError, PlanError, Refused, StoreError
from lancemig.store.objects import Objects, PreconditionFailed

READER_FORMAT = 1
LONGEST = timedelta(hours=24)
SLACK = timedelta(minutes=5)
"""Clocks differ: a lease counts for so long after it has expired."""


class ReaderLease(FrozenModel):
    """A reader of a root, and of one revision if it reads the past: who, where, and until when."""

    format: int = READER_FORMAT
    id: str
    root: str
    at: str | None = None
    owner: str
    host: str
    pid: int
    taken_at: datetime
    expires_at: datetime

    def expired(self, now: datetime) -> bool:
        """Whether nobody reads there any more."""
        return now > self.expires_at + SLACK

    def describe(self) -> str:
        """Who reads, and until when."""
        return (
            f"{self.owner}@{self.host} (pid {self.pid}) reads it until {self.expires_at:%Y-%m-%d %H:%M} UTC"
        )


@dataclass
class Reading:
    """A lease that was taken."""

    objects: Objects
    key: str
    lease: ReaderLease
    etag: str

    def renew(self, now: datetime, length: timedelta) -> None:
        """Read for longer; Refused once the lease has expired, for then the root may have been deleted."""
        checked(length)
        if now > self.lease.expires_at:
            raise Refused(
                f"the lease of {self.lease.root} expired at {self.lease.expires_at:%Y-%m-%d %H:%M:%S} UTC",
                next_step="connect again, and renew the lease before it expires",
            )
        lease = self.lease.model_copy(update={"expires_at": now + length})
        outcome = self.objects.write_if(self.key, _body(lease), self.etag)
        if isinstance(outcome, PreconditionFailed):
            raise Refused(f"the lease {self.key} was removed by another process", next_step="connect again")
        self.lease, self.etag = lease, outcome.version_token

    def end(self) -> None:
        """Nobody reads here any more."""
        self.objects.delete([self.key])


def checked(length: timedelta) -> timedelta:
    """A length that a lease may have; PlanError for any other."""
    if not timedelta() < length <= LONGEST:
        raise PlanError(
            f"a lease of {length.total_seconds():,.0f} s is invalid; the maximum is 24 hours",
            next_step="use a shorter lease, and renew it",
        )
    return length


def folder_of(folder: str) -> str:
    """Where leases lie, beside the pointer."""
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
    """Put a lease on `root` down."""
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
    outcome = objects.write_if(key, _body(lease), None)
    if isinstance(outcome, PreconditionFailed):
        raise StoreError(f"{key} already exists", next_step="connect again")
    return Reading(objects, key, lease, outcome.version_token)


def readers(objects: Objects, folder: str) -> dict[str, ReaderLease]:
    """All leases by their keys, expired ones too; StoreError for one that cannot be read: it may be newer."""
    found = {}
    for item in objects.list(folder_of(folder)):
        there = objects.read(item.key)
        if there is not None:
            found[item.key] = read_lease(there.body, item.key)
    return found


def count(objects: Objects, folder: str, now: datetime) -> int:
    """How many leases have not expired; what cannot be read counts as one."""
    there = (objects.read(item.key) for item in objects.list(folder_of(folder)))
    return sum(not _over(found.body, now) for found in there if found is not None)


def _over(body: bytes, now: datetime) -> bool:
    try:
        return read_lease(body, "the lease").expired(now)
    except LancemigError:
        return False


def of_root(leases: Sequence[ReaderLease], root: str, now: datetime) -> ReaderLease | None:
    """The last lease on a root to expire, if there is one that has not."""
    there = [lease for lease in leases if lease.root == root and not lease.expired(now)]
    return max(there, key=lambda lease: lease.expires_at, default=None)


def read_lease(body: bytes, key: str) -> ReaderLease:
    """The lease in an object; refuses what is none, or of a newer format."""
    next_step = f"upgrade lancemig; or remove {key} if no reader wrote it"
    try:
        document = json.loads(body)
        checked_format(document, READER_FORMAT, key, next_step)
        return ReaderLease.model_validate(document)
    except ValueError as error:
        raise StoreError(
            f"this version of lancemig cannot read the lease {key}", next_step=next_step
        ) from error


def _body(lease: ReaderLease) -> bytes:
    return lease.model_dump_json(indent=1).encode()
