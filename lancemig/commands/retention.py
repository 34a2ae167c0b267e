"""The verbs that keep, copy and delete roots: archive, copy, restore, gc, detach."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import takewhile

from lancemig.apply.commit.detach import materialize
from lancemig.apply.environment import OnProgress, Progress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.retention.archive import ArchiveRequest, ArchiveResult
from lancemig.apply.retention.archive import archive as archive_root
from lancemig.apply.retention.copy import (
    CopyRequest,
    CopyResult,
    CopySide,
    bring_back,
    copy_root,
    missing_from,
)
from lancemig.apply.retention.gc import GcPlan, GcResult, GcRules, plan_gc, run_gc
from lancemig.apply.retention.held import lent_to
from lancemig.apply.run import facts, table_changes
from lancemig.catalog.lineage import Action, Copied, Pointer, RootRevision, backups, standing
from lancemig.catalog.value import duration_text, format_root
from lancemig.commands.context import Catalog
from lancemig.config import read_settings
from lancemig.errors import ConfigError, PlanError, Refused, RunUnfinished, StoreError
from lancemig.store.objects import open_objects
from lancemig.store.objects.location import Bucket, is_address, location

_HARMLESS = frozenset({Action.ARCHIVE, Action.COPY, Action.GC, Action.RECONCILE})
"""Actions that may happen during a copy of the live root: none leaves it partly changed."""


def archive(
    catalog: Catalog,
    root: str | None = None,
    *,
    retention: timedelta | None = None,
    to: str | None = None,
    section: str | None = None,
    note: str | None = None,
    on_progress: OnProgress = no_progress,
) -> ArchiveResult:
    """Archive an old root for `retention`, after a copy `to` another location if one is given.

    `section` of lancemig.ini has the storage options of that location.
    """
    catalog.changeable()
    catalog.store.pointers.require_own(catalog.seen())
    request = ArchiveRequest(
        retention=catalog.settings.archive_retention if retention is None else retention,
        root=None if root is None else _prefix(root),
        to=None if to is None else _side(catalog, to, section),
        note=note,
    )
    if request.to is not None:
        _refuse_roots(catalog, request.to)
    return archive_root(catalog.store, catalog.environment, request, on_progress)


@dataclass(frozen=True)
class CopyMade:
    """A finished copy; the lineage has it `recorded` if its source is the live root."""

    source: str
    copy: CopyResult
    recorded: bool


def copy(
    catalog: Catalog,
    source: str,
    target: str,
    *,
    sections: tuple[str | None, str | None] = (None, None),
    note: str | None = None,
    on_progress: OnProgress = no_progress,
) -> CopyMade:
    """Copy the tables of a root to another location, in this store or any other; every object is compared.

    The lineage records a copy of the live root as a backup.

    Raises:
        PlanError: the live root has tables or rows that a copy cannot carry; the message names them.
        RunUnfinished: a run is changing the live root in place.
        Refused: the catalog was changed during the copy of the live root.
    """
    origin, destination = (_side(catalog, *side) for side in zip((source, target), sections, strict=True))
    _refuse_roots(catalog, destination)
    request = CopyRequest(origin, destination, on_progress=on_progress)
    pointer = _pointer_if_live(catalog, origin)
    if pointer is None:
        return CopyMade(origin.uri, copy_root(request, catalog.environment), recorded=False)
    run = catalog.in_flight()
    if run is not None and not run.waits:
        raise RunUnfinished(
            f"run {run.run} has been in progress since {run.started}: the live root may be only "
            "partly changed",
            next_step="lancemig recover, then copy again",
        )
    seen = catalog.seen()
    catalog.store.pointers.require_own(seen)
    catalog.inventory(seen).refuse_loss("copy")
    made = copy_root(request, catalog.environment)
    with exclusive(catalog.store, catalog.environment, beside_waiting=True) as session:
        _record(session, pointer, made, note)
    return CopyMade(origin.uri, made, recorded=True)


def _record(session: ExclusiveSession, before: Pointer, made: CopyResult, note: str | None) -> None:
    """Record the copy, unless a migration ran during the copy, even one that was undone."""
    entries = takewhile(
        lambda entry: entry.id != before.lineage, session.store.pointers.chain(session.seen.pointer)
    )
    meanwhile = [entry.action for entry in entries if entry.action not in _HARMLESS]
    if meanwhile or session.seen.pointer is None or session.seen.pointer.active != before.active:
        raise Refused(
            f"the catalog was changed during the copy ({', '.join(meanwhile) or 'not by lancemig'}); "
            f"{made.copied.to} may be incomplete and was not recorded",
            next_step=f"copy again: lancemig copy {made.copied.root} {made.copied.to}",
        )
    session.publish(
        replace(session.pointer_update(Action.COPY, before.active, note=note), copied=made.copied)
    )


def gc_plan(catalog: Catalog, *, force: bool = False, forget: Iterable[str] = ()) -> GcPlan:
    """What can be deleted now, and what is kept; writes nothing.

    Args:
        catalog: The catalog.
        force: Whether the retention of archived roots and the grace are over at once.
        forget: Tags and branches of others, as `t:train-2026`, that may be deleted with the only root that
            has them.

    Raises:
        ForeignPointer: another program wrote the pointer, so that it is not known what is needed.
    """
    catalog.changeable()
    catalog.store.pointers.require_own(catalog.seen())
    return plan_gc(catalog.store, _rules(catalog, force=force, forget=forget), catalog.environment.now())


def gc(
    catalog: Catalog,
    *,
    force: bool = False,
    forget: Iterable[str] = (),
    note: str | None = None,
    on_progress: OnProgress = no_progress,
) -> GcResult:
    """Delete what `gc_plan` lists, planned again under the lock."""
    catalog.changeable()
    rules = _rules(catalog, force=force, forget=forget)
    return run_gc(catalog.store, catalog.environment, rules, note, on_progress)


def restore(
    catalog: Catalog, session: ExclusiveSession, copied: Copied, on_progress: OnProgress = no_progress
) -> CopyResult:
    """Restore a root from its copy, every object compared; objects that exist are left alone."""
    source = CopySide(
        open_objects(copied.to, copied.options), "", catalog.settings.catalog_dir, copied.options
    )
    target = CopySide(catalog.store.objects, copied.root, catalog.settings.catalog_dir)
    return bring_back(CopyRequest(source, target, session.lease.renew, on_progress), copied)


def _rules(catalog: Catalog, *, force: bool, forget: Iterable[str]) -> GcRules:
    settings, named = catalog.settings, frozenset(forget)
    for name in sorted(named):
        table, colon, reference = name.rpartition(":")
        if not (table and colon and reference):
            raise ConfigError(
                f"--forget-tags {name} does not name a table and its tag or branch",
                next_step="write TABLE:NAME, as lancemig gc --plan prints it",
            )
    return GcRules(
        retention=settings.kept_lineage,
        grace=settings.gc_grace,
        staging_prefix=settings.staging_prefix,
        fallback=catalog.active(catalog.seen()).prefix,
        force=force,
        forget=named,
    )


def _prefix(text: str) -> str:
    return f"{text.removesuffix('/')}/" if text.removesuffix("/") else ""


def _side(catalog: Catalog, text: str, section: str | None) -> CopySide:
    """A root of this catalog by its prefix, or another location by its URL or path."""
    settings = catalog.settings
    if section is None and not is_address(text):
        options = settings.storage_options
        return CopySide(catalog.store.objects, _prefix(text), settings.catalog_dir, options)
    other = settings if section is None else read_settings(settings.path, section, environ=os.environ)
    options = other.storage_options
    return CopySide(open_objects(text, options), "", settings.catalog_dir, options)


def _pointer_if_live(catalog: Catalog, side: CopySide) -> Pointer | None:
    """The pointer, if this side of a copy is the live root; None if the catalog keeps no lineage."""
    if catalog.settings.resolution == "pinned":
        return None
    pointer = catalog.seen().pointer
    return pointer if pointer is not None and side.uri == _uri(catalog, pointer.active_prefix) else None


def _refuse_roots(catalog: Catalog, target: CopySide) -> None:
    """Refuse a copy over a root of this catalog."""
    seen = catalog.seen()
    run = catalog.in_flight()
    roots = {
        catalog.active(seen).prefix,
        *standing(catalog.store.pointers.chain(seen.pointer), seen.pointer).roots,
    }
    if run is not None and run.staged_prefix is not None:
        roots.add(run.staged_prefix)
    for root in sorted(roots):
        if target.uri == _uri(catalog, root):
            raise PlanError(
                f"{format_root(root)} is a root of this catalog and cannot be a copy destination",
                next_step="choose another destination",
            )


def _uri(catalog: Catalog, root: str) -> str:
    return f"{catalog.store.objects.uri}/{root}".rstrip("/")


@dataclass(frozen=True)
class Detached:
    """The files that were copied into the live root."""

    place: RootRevision
    files: dict[str, int]
    """The number of files by table."""
    roots: tuple[str, ...]
    """The roots from which they were borrowed."""
    still: dict[str, str] = field(default_factory=dict)
    """The folders that tagged versions and branches of others still read, each with the name of one."""


def detach(catalog: Catalog, note: str | None = None, on_progress: OnProgress = no_progress) -> Detached:
    """Copy the files that the live tables borrow, and record that they borrow no more.

    Writers may go on meanwhile. After a crash the same command continues; if nothing is borrowed, nothing is
    written.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment, again="lancemig detach") as session:
        place, tables = catalog.active(session.seen), catalog.store.tables
        change, before = (
            session.pointer_update(Action.DETACH, place, note=note),
            facts(tables.live(place.prefix)),
        )
        roots = tables.reads(place.prefix)
        files = {}
        for name, table in tables.newest(place.prefix).items():
            if table.bases:
                on_progress(Progress("detach", name, text=f"copying files borrowed from {_listed(roots)}"))
                files[name] = materialize(session.committer, place.prefix, name, place.revision or "")
        if files or _recorded_as_borrowing(session):
            after = facts(tables.live(place.prefix))
            session.committer.guard_catalog(
                place.prefix, {name: version for name, (version, _) in after.items()}
            )
            session.publish(replace(change, tables=table_changes(before, after), reads=()))
        return Detached(place, files, roots, lent_to(catalog.store, place.prefix))


def _recorded_as_borrowing(session: ExclusiveSession) -> bool:
    """Whether the lineage says that the live root borrows files."""
    pointer = session.seen.pointer
    last = next(session.store.pointers.chain(pointer), None)
    return last is not None and bool(last.reads)


def _listed(roots: tuple[str, ...]) -> str:
    return ", ".join(format_root(root) for root in roots)


def missing_backup(catalog: Catalog) -> str | None:
    """The reason not to flip a protected catalog now; None if there is a backup.

    A backup is a recent copy of the live root that the lineage records, in another store, complete there now.
    """
    pointer = catalog.seen().pointer
    oldest = catalog.environment.now() - catalog.settings.backup_max_age
    recent = takewhile(lambda each: each.at >= oldest, backups(catalog.store.pointers.chain(pointer)))
    reasons: dict[str, str] = {}
    for backup in recent:
        to = backup.copied.to
        if to not in reasons:
            reason = _no_backup(catalog, backup.copied)
            if reason is None:
                return None
            reasons[to] = reason
    if reasons:
        return "; ".join(f"the copy at {to} is no backup: {reason}" for to, reason in reasons.items())
    root = format_root(catalog.active(catalog.seen()).prefix)
    age = duration_text(catalog.settings.backup_max_age)
    return f"the lineage has no record of a copy of {root} in the last {age}"


def _no_backup(catalog: Catalog, copied: Copied) -> str | None:
    """Why a recorded copy is no backup now; None if it is one."""
    if _in_store(catalog, copied):
        return f"it is in the same store, {catalog.store.objects.uri}"
    try:
        objects = open_objects(copied.to, copied.options)
        return missing_from(CopySide(objects, "", catalog.settings.catalog_dir), copied)
    except (StoreError, ConfigError) as error:
        return error.message


def _in_store(catalog: Catalog, copied: Copied) -> bool:
    """Whether a copy is inside of the catalog's own store, or the store inside of the copy."""
    settings = catalog.settings
    here, there = location(settings.store), location(copied.to)
    if isinstance(here, Bucket) != isinstance(there, Bucket):
        return False
    if isinstance(here, Bucket) and copied.options.get("endpoint") != settings.storage_options.get(
        "endpoint"
    ):
        return False
    uris = [f"{each.uri if isinstance(each, Bucket) else each}/" for each in (here, there)]
    return uris[0].startswith(uris[1]) or uris[1].startswith(uris[0])
