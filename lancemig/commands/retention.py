"""The verbs that keep roots and remove them: archive, copy, gc."""

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import takewhile

from lancemig.apply.commit.detach import materialize
from lancemig.apply.environment import OnProgress, Progress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.retention.archive import ArchiveRequest, ArchiveResult
from lancemig.apply.retention.archive import archive as archive_root
from lancemig.apply.retention.copy import CopyRequest, CopyResult, CopySide, bring_back, copy_root
from lancemig.apply.retention.gc import GcPlan, GcResult, GcRules, plan_gc, run_gc
from lancemig.apply.run import facts, table_changes
from lancemig.catalog.lineage import Action, Copied, Pointer, RootRevision, last_backup, standing
from lancemig.catalog.value import duration_text, format_root
from lancemig.commands.context import Catalog
from lancemig.config import read_settings
from lancemig.errors import PlanError, Refused, RunUnfinished
from lancemig.store.objects import open_objects
from lancemig.store.objects.location import is_address

_HARMLESS = frozenset({Action.ARCHIVE, Action.COPY, Action.GC, Action.RECONCILE})
"""What may come between the beginning of a copy and its end: none of it leaves the live root half changed."""


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
    """Give an old root its retention, and copy it `to` another place first, if that is asked for.

    `section` of lancemig.ini tells how that place is reached.
    """
    catalog.changeable()
    wanted = ArchiveRequest(
        retention=catalog.settings.archive_retention if retention is None else retention,
        root=None if root is None else _prefix(root),
        to=None if to is None else _side(catalog, to, section),
        note=note,
    )
    if wanted.to is not None:
        _refuse_roots(catalog, wanted.to)
    return archive_root(catalog.store, catalog.environment, wanted, on_progress)


@dataclass(frozen=True)
class CopyMade:
    """A finished copy; `recorded` in the lineage if it is one of the live root."""

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
    """Copy the tables of a root to another place, in this store or any other, every object compared.

    A copy of the live root is recorded in the lineage: it is a backup. It is none while a run changes that
    root in place, or when another revision is live by the time that it is done.
    """
    one, other = (_side(catalog, *where) for where in zip((source, target), sections, strict=True))
    _refuse_roots(catalog, other)
    copying = CopyRequest(one, other, on_progress=on_progress)
    pointer = _live(catalog, one)
    if pointer is None:
        return CopyMade(one.uri, copy_root(copying, catalog.environment), recorded=False)
    run = catalog.in_flight()
    if run is not None and not run.waits:
        raise RunUnfinished(
            f"run {run.run} has been in progress since {run.started}: the live root may be only "
            "partly changed",
            next_step="lancemig recover, then copy again",
        )
    made = copy_root(copying, catalog.environment)
    with exclusive(catalog.store, catalog.environment, beside_waiting=True) as solo:
        _record(solo, pointer, made, note)
    return CopyMade(one.uri, made, recorded=True)


def _record(solo: ExclusiveSession, before: Pointer, made: CopyResult, note: str | None) -> None:
    """Tell of the copy, unless a migration was at work meanwhile, be it one that was put back."""
    entries = takewhile(
        lambda entry: entry.id != before.lineage, solo.store.pointers.chain(solo.seen.pointer)
    )
    meanwhile = [entry.action for entry in entries if entry.action not in _HARMLESS]
    if meanwhile or solo.seen.pointer is None or solo.seen.pointer.active != before.active:
        raise Refused(
            f"the catalog was changed during the copy ({', '.join(meanwhile) or 'not by lancemig'}); "
            f"{made.copied.to} may be incomplete and was not recorded",
            next_step=f"copy again: lancemig copy {made.copied.root} {made.copied.to}",
        )
    solo.publish(replace(solo.pointer_update(Action.COPY, before.active, note=note), copied=made.copied))


def gc_plan(catalog: Catalog, *, force: bool = False) -> GcPlan:
    """What could be deleted now, and what is kept; writes nothing."""
    catalog.changeable()
    return plan_gc(catalog.store, _rules(catalog, force=force), catalog.environment.now())


def gc(
    catalog: Catalog, *, force: bool = False, note: str | None = None, on_progress: OnProgress = no_progress
) -> GcResult:
    """Delete exactly what `gc_plan` lists, looked at anew under the lock."""
    catalog.changeable()
    return run_gc(catalog.store, catalog.environment, _rules(catalog, force=force), note, on_progress)


def restore(
    catalog: Catalog, solo: ExclusiveSession, copied: Copied, on_progress: OnProgress = no_progress
) -> CopyResult:
    """Bring a root back from where it was copied, object by object compared; what is still there stays."""
    source = CopySide(
        open_objects(copied.to, copied.options), "", catalog.settings.catalog_dir, copied.options
    )
    target = CopySide(catalog.store.objects, copied.root, catalog.settings.catalog_dir)
    return bring_back(CopyRequest(source, target, solo.lease.renew, on_progress), copied)


def _rules(catalog: Catalog, *, force: bool) -> GcRules:
    settings = catalog.settings
    return GcRules(
        retention=settings.kept_lineage,
        grace=settings.gc_grace,
        staging_prefix=settings.staging_prefix,
        fallback=catalog.active(catalog.seen()).prefix,
        force=force,
    )


def _prefix(text: str) -> str:
    return f"{text.removesuffix('/')}/" if text.removesuffix("/") else ""


def _side(catalog: Catalog, text: str, section: str | None) -> CopySide:
    """A root of this catalog's store by its prefix, or another place by its address or path."""
    settings = catalog.settings
    if section is None and not is_address(text):
        options = settings.storage_options
        return CopySide(catalog.store.objects, _prefix(text), settings.catalog_dir, options)
    other = settings if section is None else read_settings(settings.path, section, environ=os.environ)
    options = other.storage_options
    return CopySide(open_objects(text, options), "", settings.catalog_dir, options)


def _live(catalog: Catalog, side: CopySide) -> Pointer | None:
    """The pointer, if it is the live root that is on this side, and a lineage is kept."""
    if catalog.settings.resolution == "pinned":
        return None
    pointer = catalog.seen().pointer
    return pointer if pointer is not None and side.uri == _uri(catalog, pointer.active_prefix) else None


def _refuse_roots(catalog: Catalog, target: CopySide) -> None:
    """See that nothing is copied over a root of this catalog."""
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
    """What was copied: files, by table, from which roots."""

    place: RootRevision
    files: dict[str, int]
    roots: tuple[str, ...]


def detach(catalog: Catalog, note: str | None = None, on_progress: OnProgress = no_progress) -> Detached:
    """Copy what the live tables borrow, while writers go on, and let the lineage tell that they do no more.

    Asked again it goes on where it died; where nothing is borrowed, nothing is written.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as solo:
        place, tables = catalog.active(solo.seen), catalog.store.tables
        change, before = (
            solo.pointer_update(Action.DETACH, place, note=note),
            facts(tables.live(place.prefix)),
        )
        roots = tables.reads(place.prefix)
        files = {}
        for name, table in tables.newest(place.prefix).items():
            if table.bases:
                on_progress(Progress("detach", name, text=f"copying files borrowed from {_listed(roots)}"))
                files[name] = materialize(solo.committer, place.prefix, name, place.revision or "")
        if files or _told(solo):
            after = facts(tables.live(place.prefix))
            solo.committer.guard_catalog(
                place.prefix, {name: version for name, (version, _) in after.items()}
            )
            solo.publish(replace(change, tables=table_changes(before, after), reads=()))
        return Detached(place, files, roots)


def _told(solo: ExclusiveSession) -> bool:
    """Whether the lineage says that the live root borrows."""
    pointer = solo.seen.pointer
    last = next(solo.store.pointers.chain(pointer), None)
    return last is not None and bool(last.reads)


def _listed(roots: tuple[str, ...]) -> str:
    return ", ".join(format_root(root) for root in roots)


def missing_backup(catalog: Catalog) -> str | None:
    """What is wrong with flipping now; None where a backup is known."""
    backup = last_backup(catalog.store.pointers.chain(catalog.seen().pointer))
    if backup is not None and backup.at >= catalog.environment.now() - catalog.settings.backup_max_age:
        return None
    root, age = (
        format_root(catalog.active(catalog.seen()).prefix),
        duration_text(catalog.settings.backup_max_age),
    )
    return f"the lineage has no record of a copy of {root} in the last {age}"
