"""Giving an old root its retention, with a copy elsewhere if that is asked for; nothing is deleted here."""

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

_SAME_AGAIN = "run the same command again"


@dataclass(frozen=True)
class ArchiveRequest:
    """What is to be archived: `root`, by default the one that was live before the last flip; copied `to`."""

    retention: timedelta
    root: str | None = None
    to: CopySide | None = None
    note: str | None = None


@dataclass(frozen=True)
class ArchiveResult:
    """What holds of a root now, and what was copied for it; `new` unless it held before."""

    archived: Archived
    copy: CopyResult | None
    new: bool


def archive(
    store: Store, environment: Environment, wanted: ArchiveRequest, on_progress: OnProgress = no_progress
) -> ArchiveResult:
    """Archive a root: the copy first, then one lineage entry; asked again, what holds already stands.

    Refuses a root that is live, that never was, that is gone, and one whose files the live root reads. The
    lock is taken once the copy is done: a root that was written to, or became live, is refused then.
    """
    pointer, root, _ = _checked(store, wanted)
    copy = None
    if wanted.to is not None:
        copy = copy_root(CopyRequest(side_of(store, root), wanted.to, on_progress=on_progress), environment)
    with exclusive(store, environment) as solo:
        pointer, root, known = _checked(store, wanted)
        if copy is not None and snapshot(side_of(store, root)) != copy.listing:
            raise Refused(f"{root} was written to during the copy", next_step=_SAME_AGAIN)
        found = known.archives.get(root)
        copied = copy.copied if copy else found.copied if found else None
        archived = _archived(root, wanted.retention, environment, copied)
        if found is not None and _stands(found, archived, environment):
            return ArchiveResult(found, copy, new=False)
        _record(solo, pointer.active, archived, wanted.note)
    return ArchiveResult(archived, copy, new=True)


def side_of(store: Store, root: str) -> CopySide:
    """A root of the catalog's own store, as a side of a copy."""
    return CopySide(store.objects, root, store.tables.catalog_dir)


def _checked(store: Store, wanted: ArchiveRequest) -> tuple[Pointer, str, Standing]:
    """The pointer, the root that is meant, and what the lineage says of roots; refuses what cannot be."""
    pointer = store.pointers.read().pointer
    root = wanted.root if wanted.root is not None or pointer is None else pointer.previous_prefix
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
            f"{root} was never live; roots that were live: {', '.join(map(format_root, known.roots))}",
            next_step="lancemig history --lineage",
        )
    if not store.tables.names(root):
        gone = f"; gc deleted it on {known.deleted[root]}" if root in known.deleted else ""
        raise PlanError(
            f"{format_root(root)} no longer has any table{gone}", next_step="lancemig history --lineage"
        )
    _refuse_lender(store, root, pointer.active_prefix)
    return pointer, root, known


def _refuse_lender(store: Store, root: str, live: str) -> None:
    lent = borrowed_by(store.tables, root, places(store.tables.newest(live).values()))
    if lent:
        raise PlanError(
            f"the live root {format_root(live)} borrows files from {format_root(root)}: {lent[0]}",
            next_step="copy them into the live root with lancemig detach, then archive",
        )


def _archived(root: str, retention: timedelta, environment: Environment, copied: Copied | None) -> Archived:
    return Archived(
        root=root,
        retention_seconds=int(retention.total_seconds()),
        retain_until=format_time(environment.now() + retention),
        copied=copied,
    )


def _stands(found: Archived, wanted: Archived, environment: Environment) -> bool:
    """Whether what holds of the root is what is wanted, so that a command that died can be given again."""
    same = (found.retention_seconds, found.copied) == (wanted.retention_seconds, wanted.copied)
    return same and (parse_time(found.retain_until) > environment.now() or not found.retention_seconds)


def _record(solo: ExclusiveSession, live: RootRevision, archived: Archived, note: str | None) -> None:
    solo.publish(replace(solo.pointer_update(Action.ARCHIVE, live, note=note), archived=archived))
