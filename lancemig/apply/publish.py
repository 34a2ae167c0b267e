"""The commit point of a migration: the lineage entry is written, then the pointer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from lancemig.apply.environment import Environment
from lancemig.catalog.lineage import (
    LINEAGE_FORMAT,
    Action,
    AppliedMigration,
    Archived,
    CheckResult,
    Collected,
    Copied,
    LineageEntry,
    Pointer,
    RootRevision,
    StepDone,
    TableChange,
)
from lancemig.catalog.value import Timing, format_revision, format_root
from lancemig.errors import Incomplete, LancemigError
from lancemig.events import log_event
from lancemig.store.pointer import ForeignChange, PointerRead, PointerStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PointerUpdate:
    """A change of the pointer to `target`; the other fields are the record in the lineage entry."""

    action: Action
    origin: RootRevision
    target: RootRevision
    run: str
    started: str
    note: str | None = None
    direction: str | None = None
    plan_digest: str | None = None
    migrations: Sequence[AppliedMigration] = ()
    tables: Sequence[TableChange] = ()
    steps: Sequence[StepDone] = ()
    checks: Sequence[CheckResult] = field(default=())
    reconciled: str | None = None
    report: str | None = None
    archived: Archived | None = None
    copied: Copied | None = None
    collected: Sequence[Collected] = ()
    reads: tuple[str, ...] | None = None
    """The roots that the target borrows files from; None keeps those of the last entry of that root."""
    timings: Sequence[Timing] = ()
    begun_by: str | None = None
    """Who began the run, as `actor@host`, if somebody else finishes it."""
    foreign: ForeignChange | None = None
    """The change of the pointer by another program that a stamp acknowledges."""

    @property
    def done(self) -> str:
        """What has happened once the pointer is written, in words."""
        root, revision = format_root(self.target.prefix), format_revision(self.target.revision)
        if self.action is Action.ROLLBACK:
            return f"rolled back to {root} at {revision}"
        if self.target.prefix != self.origin.prefix:
            return f"flipped to {root}, which is live at {revision}"
        source = format_root(self.reconciled or "")
        return {
            Action.STAMP: f"stamped {revision}",
            Action.RECONCILE: f"late writes of {source} are recorded as reconciled",
            Action.ARCHIVE: f"archived {format_root(self.archived.root)}" if self.archived else "",
            Action.GC: "the lineage records what is deleted",
            Action.COPY: "the lineage records the copy",
            Action.DETACH: "the lineage records that the live root borrows nothing",
            Action.RECOVER: "the undo is in the lineage",
        }.get(self.action, f"{root} is at {revision}")


def incomplete(done: str, error: LancemigError, next_step: str) -> Incomplete:
    """The error of a command that failed after its commit point.

    Args:
        done: What was done, in words.
        error: Why the rest was not.
        next_step: The command that completes the rest.
    """
    return Incomplete(f"{done}; the rest was not done, because: {error.message}", next_step=next_step)


def publish(
    pointers: PointerStore, seen: PointerRead, change: PointerUpdate, environment: Environment
) -> PointerRead:
    """Write the lineage entry, then swap the pointer, if it is still the one in `seen`.

    The root that a rollback returns to changes only with the live root, not with an in-place change.

    Raises:
        PointerMoved: Another process changed the pointer first.
    """
    entry = _entry(pointers, seen, change, environment)
    old = seen.pointer or Pointer(active_prefix=change.origin.prefix)
    fields = {
        "active_prefix": change.target.prefix,
        "revision": change.target.revision,
        "lineage": entry.id,
        "flip_id": environment.new_id(),
        "updated_at": entry.finished,
        "updated_by": f"{environment.actor}@{environment.host}",
        # The note of the last change of revision or root; a reconciliation does not replace it.
        "note": old.note if change.action is Action.RECONCILE else change.note,
    }
    if change.target.prefix != change.origin.prefix:
        fields["previous_prefix"] = change.origin.prefix
        fields["previous_revision"] = change.origin.revision
    published = pointers.publish(seen, entry, old.model_copy(update=fields))
    event = "flipped" if entry.target.prefix != entry.origin.prefix else "pointer_updated"
    about = {"action": entry.action.value, "entry": entry.id, "root": entry.target.prefix}
    root, revision = format_root(entry.target.prefix), format_revision(entry.target.revision)
    log_event(_log, event, "%s: %s is live at revision %s", entry.action.value, root, revision,
              **about, revision=entry.target.revision, previous_root=entry.origin.prefix)  # fmt: skip
    return published


def _entry(
    pointers: PointerStore, seen: PointerRead, change: PointerUpdate, environment: Environment
) -> LineageEntry:
    parent = _parent(pointers, seen, change)
    return LineageEntry.model_validate(
        {
            "format": LINEAGE_FORMAT,
            "seq": parent.seq + 1 if parent else 1,
            "parent": parent.id if parent else None,
            "parent_digest": parent.digest if parent else None,
            "action": change.action,
            "origin": change.origin,
            "target": change.target,
            "run": change.run,
            "migrations": tuple(change.migrations),
            "direction": change.direction,
            "plan_digest": change.plan_digest,
            "tables": tuple(change.tables),
            "steps": tuple(change.steps),
            "checks": tuple(change.checks),
            "started": change.started,
            "finished": environment.stamp(),
            "actor": environment.actor,
            "host": environment.host,
            "git_commit": environment.git_commit(),
            "note": change.note,
            "versions": environment.versions,
            **({"reconciled": change.reconciled} if change.reconciled is not None else {}),
            **({"report": change.report} if change.report else {}),
            **_retention_fields(change),
            **({"begun_by": change.begun_by} if change.begun_by else {}),
            **({"foreign": change.foreign.write} if change.foreign else {}),
            **({"timings": tuple(change.timings)} if change.timings else {}),
            **({"reads": reads} if (reads := _reads(change, parent)) else {}),
        }
    )


def _parent(pointers: PointerStore, seen: PointerRead, change: PointerUpdate) -> LineageEntry | None:
    """The entry that a new one follows; ForeignPointer if another program wrote the pointer."""
    if change.foreign is not None:
        return change.foreign.newest
    if seen.pointer is None or seen.pointer.lineage is None:
        return None
    parent = pointers.entry(seen.pointer.lineage)
    if parent.target != seen.pointer.active:
        pointers.require_own(seen)
    return parent


def _retention_fields(change: PointerUpdate) -> dict[str, object]:
    """The fields of some actions only; left out of other entries, whose digests they would change."""
    fields = {"archived": change.archived, "copied": change.copied, "collected": tuple(change.collected)}
    return {name: value for name, value in fields.items() if value}


def _reads(change: PointerUpdate, parent: LineageEntry | None) -> tuple[str, ...]:
    if change.reads is not None:
        return change.reads
    same = parent is not None and parent.target.prefix == change.target.prefix
    return parent.reads if parent is not None and same else ()
