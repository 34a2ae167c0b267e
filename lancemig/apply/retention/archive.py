"""Archiving an old root: its retention, recorded in the lineage, and an optional copy. Deletes nothing."""

from dataclasses import dataclass, replace
from datetime import timedelta

from lancemig.apply.environment import Environment, OnProgress, format_time, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.retention.copy import (
    CopyRequest,
    CopyResult,
    CopySide,
    borrowed_by,
    copy_root,
    places,
    snapshot,
)
from lancemig.apply.store import Store
from lancemig.catalog.lineage import (
    Action,
    Archived,
    Copied,
    Pointer,
    RootRevision,
    Standing,
    parse_time,
    standing,
)
from lancemig.catalog.value import format_root
from lancemig.errors import PlanError, Refused, RunUnfinished

_RUN_AGAIN = "run the same command again"


@dataclass(frozen=True)
class ArchiveRequest:
    """What to archive."""

    retention: timedelta
    root: str | None = None
    """The root; None for the one that was live before the last flip."""
    to: CopySide | None = None
    """Where to copy it first; None for no copy."""
    note: str | None = None


@dataclass(frozen=True)
class ArchiveResult:
    """The archive of a root, and the copy that was made for it."""

    archived: Archived
    copy: CopyResult | None
    new: bool
    """The lineage did not record the same archive before."""


def archive(
    store: Store, environment: Environment, request: ArchiveRequest, on_progress: OnProgress = no_progress
) -> ArchiveResult:
    """Archive a root: the copy first, then one lineage entry; repeated, an equal archive stands.

    The lock is taken after the copy, and the root is checked again.

    Raises:
        PlanError: the root is live, never was live, has no tables, or lends files to the live root.
        RunUnfinished: a run is staging the root.
        Refused: the root was written to during the copy.
    """
    pointer, root, _ = _checked_root(store, request)
    copy = None
    if request.to is not None:
        copy = copy_root(CopyRequest(side_of(store, root), request.to, on_progress=on_progress), environment)
    with exclusive(store, environment) as session:
        pointer, root, known = _checked_root(store, request)
        if copy is not None and snapshot(side_of(store, root)) != copy.listing:
            raise Refused(f"{root} was written to during the copy", next_step=_RUN_AGAIN)
        recorded = known.archives.get(root)
        copied = copy.copied if copy else recorded.copied if recorded else None
        archived = _archived(root, request.retention, environment, copied)
        if recorded is not None and _equal(recorded, archived, environment):
            return ArchiveResult(recorded, copy, new=False)
        _record(session, pointer.active, archived, request.note)
    return ArchiveResult(archived, copy, new=True)


def side_of(store: Store, root: str) -> CopySide:
    """A root of the catalog, as one side of a copy."""
    return CopySide(store.objects, root, store.tables.catalog_dir)


def _checked_root(store: Store, request: ArchiveRequest) -> tuple[Pointer, str, Standing]:
    """The pointer, the root to archive, and what the lineage says of roots; refuses an unsuitable root."""
    pointer = store.pointers.read().pointer
    root = request.root if request.root is not None or pointer is None else pointer.previous_prefix
    if pointer is None or root is None:
        raise PlanError("no flip has happened yet, so no old root exists", next_step="lancemig history")
    if root == pointer.active_prefix:
        raise PlanError(
            f"{format_root(root)} is live",
            next_step="archive the previous root: lancemig archive (without ROOT)",
        )
    run = store.sidecars().in_flight()
    if run is not None and run.staged_prefix == root:
        raise RunUnfinished(f"run {run.run} is staging {root}", next_step="lancemig status")
    known = standing(store.pointers.chain(pointer), pointer)
    if root not in known.roots:
        raise PlanError(
            f"{root} was never live; roots that were live: {', '.join(format_root(r) for r in known.roots)}",
            next_step="lancemig history --lineage",
        )
    if not store.tables.names(root):
        cause = f"; gc deleted it on {known.deleted[root]}" if root in known.deleted else ""
        raise PlanError(
            f"{format_root(root)} no longer has any table{cause}", next_step="lancemig history --lineage"
        )
    _refuse_lender(store, root, pointer.active_prefix)
    return pointer, root, known


def _refuse_lender(store: Store, root: str, live: str) -> None:
    borrowers = borrowed_by(store.tables, root, places(store.tables.newest(live).values()))
    if borrowers:
        raise PlanError(
            f"the live root {format_root(live)} borrows files from {format_root(root)}: {borrowers[0]}",
            next_step="copy them into the live root with lancemig detach, then archive",
        )


def _archived(root: str, retention: timedelta, environment: Environment, copied: Copied | None) -> Archived:
    return Archived(
        root=root,
        retention_seconds=int(retention.total_seconds()),
        retain_until=format_time(environment.now() + retention),
        copied=copied,
    )


def _equal(recorded: Archived, wanted: Archived, environment: Environment) -> bool:
    """Whether the recorded archive is the wanted one, so that a command that died can be repeated."""
    same = (recorded.retention_seconds, recorded.copied) == (wanted.retention_seconds, wanted.copied)
    return same and (parse_time(recorded.retain_until) > environment.now() or not recorded.retention_seconds)


def _record(session: ExclusiveSession, live: RootRevision, archived: Archived, note: str | None) -> None:
    session.publish(replace(session.pointer_update(Action.ARCHIVE, live, note=note), archived=archived))
