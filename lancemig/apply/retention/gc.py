"""Garbage collection: what can be deleted, what is kept and why, and the deletion itself.

A root is deleted once it was archived and its retention is over; the staged root of an abandoned run once its
grace is over; a guard once no lineage entry within the retention names its version. Everything that a reader,
a clone or a run in progress needs is kept, and so is each root that was never archived, and the only root
with a tag or branch of others, unless they are named.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from lancemig.apply.environment import Environment, OnProgress, Progress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.retention.copy import borrowed_by, is_manifest
from lancemig.apply.retention.held import held, lent_to
from lancemig.apply.retention.readers import ReaderLease, of_root, readers
from lancemig.apply.root_owner import ROOT_OWNER_FILE, read_root_owner, staged_roots
from lancemig.apply.sidecar import Run
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, Collected, LineageEntry, Pointer, Standing, parse_time, standing
from lancemig.catalog.stamps import guarded_version
from lancemig.catalog.value import format_names, format_root
from lancemig.events import log_event
from lancemig.store.lance import Table
from lancemig.store.objects import ObjectInfo

_log = logging.getLogger(__name__)

RetainedVersions = dict[str, set[int]]
"""Versions by table name, in one root."""


def retained_versions(
    entries: Sequence[LineageEntry], pointer: Pointer | None, now: datetime, retention: timedelta
) -> dict[str, RetainedVersions]:
    """The versions that lineage entries name and that must be kept, by root; `entries` are newest first.

    Entries within the retention count; whatever their age, so do the entry that made the live revision live,
    the last change of root, and the reconciliations since.
    """
    retained: dict[str, RetainedVersions] = {}
    for entry in _retained_entries(entries, now, retention):
        roots = {entry.origin.prefix, entry.target.prefix}
        if entry.action is Action.RECONCILE and pointer is not None and pointer.previous_prefix is not None:
            # It records how far the old root is reconciled.
            roots.add(pointer.previous_prefix)
        for root in roots:
            versions = retained.setdefault(root, {})
            for table, version in _named_versions(entry):
                versions.setdefault(table, set()).add(version)
    return retained


def _retained_entries(
    entries: Sequence[LineageEntry], now: datetime, retention: timedelta
) -> Iterable[LineageEntry]:
    arrived = flipped = False
    for entry in entries:
        moves, changes_root = entry.origin != entry.target, entry.origin.prefix != entry.target.prefix
        always = (moves and not arrived) or (changes_root and not flipped)
        always = always or (entry.action is Action.RECONCILE and not flipped)
        # Without any retention, no other entry is kept.
        if always or now - parse_time(entry.finished) < retention:
            yield entry
        arrived, flipped = arrived or moves, flipped or changes_root


def _named_versions(entry: LineageEntry) -> Iterable[tuple[str, int]]:
    for change in entry.tables:
        for version in (change.version_before, change.version_after):
            if version is not None:
                yield change.table, version
    for step in entry.steps:
        for version in step.versions:
            yield step.table, version
            # An undo compares with it.
            yield step.table, version - 1


Kind = Literal["root", "staged", "guards", "scratch", "lease"]


@dataclass(frozen=True)
class GcRules:
    """The settings of garbage collection."""

    retention: timedelta
    """How long the versions that a lineage entry names stay guarded."""
    grace: timedelta
    """How long the staged root of an abandoned run is kept after the last write to it."""
    staging_prefix: str
    fallback: str
    """The live root while there is no pointer."""
    force: bool = False
    """The retention of archived roots and the grace are over at once."""
    forget: frozenset[str] = frozenset()
    """The tags and branches of others that may be deleted with their root, as `t:train-2026`."""


@dataclass(frozen=True)
class GcItem:
    """Something that can be deleted: the objects below `name`, or the `guards` of the table there."""

    kind: Kind
    name: str
    bytes: int
    objects: int
    why: str
    """Why it can be deleted."""
    table: str = ""
    guards: tuple[str, ...] = ()
    forgets: tuple[str, ...] = ()
    """The tags and branches of others that only this root has."""

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that lose their guard."""
        return tuple(sorted({version for g in self.guards if (version := guarded_version(g)) is not None}))


@dataclass(frozen=True)
class GcKept:
    """Something that is kept, and why."""

    name: str
    bytes: int
    why: str
    holds: tuple[str, ...] = ()
    """The tags and branches of others because of which it is kept."""


@dataclass(frozen=True)
class GcPlan:
    """What can be deleted, and what is kept."""

    items: tuple[GcItem, ...]
    kept: tuple[GcKept, ...]
    not_held: tuple[str, ...] = ()
    """Names among `GcRules.forget` that are in no root that can be deleted."""

    @property
    def bytes(self) -> int:
        """The bytes that can be deleted."""
        return sum(item.bytes for item in self.items)


def plan_gc(store: Store, rules: GcRules, now: datetime) -> GcPlan:
    """Find what can be deleted in the store; writes nothing."""
    return _GcScan(store, rules, now).plan()


@dataclass
class _GcScan:
    store: Store
    rules: GcRules
    now: datetime
    kept: dict[str, GcKept] = field(default_factory=dict)
    borrowers: dict[str, str] = field(default_factory=dict)
    """For each folder from which a kept version borrows: which version that is, and what ends it."""

    @cached_property
    def pointer(self) -> Pointer | None:
        return self.store.pointers.read().pointer

    @cached_property
    def entries(self) -> list[LineageEntry]:
        return list(self.store.pointers.chain(self.pointer))

    @cached_property
    def standing(self) -> Standing:
        return standing(self.entries, self.pointer)

    @cached_property
    def run(self) -> Run | None:
        return self.store.sidecars().in_flight()

    @cached_property
    def leases(self) -> dict[str, ReaderLease]:
        return readers(self.store.objects, self.store.pointers.folder)

    @cached_property
    def live(self) -> str:
        return self.rules.fallback if self.pointer is None else self.pointer.active_prefix

    @cached_property
    def retained(self) -> dict[str, RetainedVersions]:
        # Whatever `force` is: a guard takes almost no space, and without it nothing can be undone.
        return retained_versions(self.entries, self.pointer, self.now, self.rules.retention)

    def plan(self) -> GcPlan:
        roots = {item.name: item for item in (*self._old_roots(), *self._abandoned_roots())}
        # Newest first: what a newer root keeps is not held by an older one.
        for item in list(roots.values()):
            self._keep_if_held(roots, item)
        guards = {root: list(self._unneeded_guards(root)) for root in self.kept if self._was_live(root)}
        borrowed = self._borrowed_folders(self.kept, guards)
        # A root that lends files is kept, and may itself borrow from another.
        while lenders := {r: lent for r in roots if (lent := borrowed_by(self.store.tables, r, borrowed))}:
            for root, folders in lenders.items():
                item = roots.pop(root)
                self.kept[root] = GcKept(root, item.bytes, f"lends files to {self.borrowers[folders[0]]}")
            borrowed |= self._borrowed_folders(lenders, {})
        unguarded = [
            item for items in guards.values() for item in items if not self._lends_files(item, borrowed)
        ]
        items = [*roots.values(), *unguarded, *self._scratch(), *self._leases()]
        forgotten = {name for item in roots.values() for name in item.forgets}
        return GcPlan(tuple(items), tuple(self.kept.values()), tuple(sorted(self.rules.forget - forgotten)))

    def _keep_if_held(self, roots: dict[str, GcItem], item: GcItem) -> None:
        """Keep a root that has tags or branches of others which no kept root has, unless all are named."""
        only_here = held(self.store, item.name, self.kept)
        if only_here and not self.rules.forget.issuperset(only_here):
            del roots[item.name]
            why = f"the only root with {', '.join(only_here)}"
            self.kept[item.name] = GcKept(item.name, item.bytes, why, only_here)
        elif only_here:
            why = f"{item.why}; with {', '.join(only_here)}"
            roots[item.name] = replace(item, why=why, forgets=only_here)

    def _old_roots(self) -> Iterator[GcItem]:
        """Roots that were live and whose archive has ended; all other roots that were live are kept."""
        for root in dict.fromkeys((self.live, *self.standing.roots)):
            objects = objects_of(self.store, root)
            if not objects:
                continue
            size = sum(item.size for item in objects)
            why = self._why_kept(root) or _undeletable(objects)
            if why is not None:
                self.kept[root] = GcKept(root, size, why)
                continue
            archived = self.standing.archives[root]
            ended = f"archived, retention ended {archived.retain_until}"
            if parse_time(archived.retain_until) > self.now:
                ended = f"archived until {archived.retain_until}, ignored by --force"
            copied = f"; copied to {archived.copied.to}" if archived.copied else "; not copied"
            yield GcItem("root", root, size, len(objects), ended + copied)

    def _why_kept(self, root: str) -> str | None:
        reader = of_root(list(self.leases.values()), root, self.now)
        archived = self.standing.archives.get(root)
        previous = self.pointer is not None and self.pointer.previous_prefix == root
        if root == self.live:
            return "live"
        if reader is not None:
            return reader.describe()
        if archived is None:
            return "target of rollback" if previous else "was live, not archived"
        if parse_time(archived.retain_until) > self.now and (previous or not self.rules.force):
            return f"archived until {archived.retain_until}"
        return None

    def _abandoned_roots(self) -> Iterator[GcItem]:
        """Staged roots of abandoned runs."""
        objects = self.store.objects
        for root in staged_roots(objects, self.rules.staging_prefix):
            owner = read_root_owner(objects, root)
            if root in (self.live, *self.standing.roots) or owner is None:
                continue
            ours = (owner.store, owner.pointer) == (objects.uri, self.store.pointer_key)
            if not ours or self._contains_another(root):
                continue
            items = list(objects.list(root))
            size, since = sum(item.size for item in items), _last_written(items, parse_time(owner.at))
            reader = of_root(list(self.leases.values()), root, self.now)
            if self.run is not None and self.run.staged_prefix == root:
                self.kept[root] = GcKept(root, size, f"staged by run {self.run.run}")
            elif reader is not None:
                self.kept[root] = GcKept(root, size, reader.describe())
            elif self.now - since < self.rules.grace and not self.rules.force:
                until = since + self.rules.grace
                why = f"from abandoned run {owner.run}; kept until {until:%Y-%m-%d %H:%M} UTC"
                self.kept[root] = GcKept(root, size, why)
            elif obstacle := _undeletable(items) or self._foreign(root):
                self.kept[root] = GcKept(root, size, obstacle)
            else:
                yield GcItem("staged", root, size, len(items), f"from abandoned run {owner.run}")

    def _foreign(self, root: str) -> str | None:
        """Why a staged root, which is deleted as a whole, cannot be: others wrote there."""
        found = self.store.inventory(root, roots=lambda: (self.live, *self.standing.roots))
        strangers = [*found.namespaced, *found.unaddressed, *found.unknown]
        if not strangers:
            return None
        names = format_names(strangers, most=1)
        return f"has {names}, not written by lancemig; remove it, then gc again"

    def _contains_another(self, root: str) -> bool:
        """Whether the pointer or a root that was live is below the root."""
        others = (self.store.pointer_key, *self.standing.roots, self.live)
        return any(other.startswith(root) for other in others)

    def _was_live(self, root: str) -> bool:
        """Whether the root is or was live, so that lineage entries name versions in it."""
        return root == self.live or root in self.standing.roots

    def _unneeded_guards(self, root: str) -> Iterator[GcItem]:
        """Guards of versions that no retained entry names; none if the root has a reader."""
        if of_root(list(self.leases.values()), root, self.now) is not None or self.run is not None:
            return
        retained = self.retained.get(root, {})
        for name in self.store.tables.folders(root):
            unneeded = []
            for guard in self.store.tables.guards(root, name):
                version = guarded_version(guard)
                if version is not None and version not in retained.get(name, ()):
                    unneeded.append(guard)
            if unneeded:
                folder = self.store.tables.folder(root, name)
                items = [item for g in unneeded for item in self.store.objects.list(f"{folder}tree/{g}/")]
                why = "no lineage entry within its retention names these versions"
                size = sum(item.size for item in items)
                yield GcItem("guards", f"{root}{name}", size, len(items), why, name, tuple(sorted(unneeded)))

    def _borrowed_folders(self, roots: Iterable[str], guards: dict[str, list[GcItem]]) -> frozenset[str]:
        """The folders from which the kept versions of roots borrow: the newest, and those still guarded."""
        found: dict[str, str] = {}
        for root in roots:
            unneeded = {item.table: item.versions for item in guards.get(root, ())}
            for version, newest in self._kept_versions(root, unneeded):
                found |= dict.fromkeys(version.borrows, self._borrower(version, newest=newest))
            for folder, name in lent_to(self.store, root).items():
                found.setdefault(folder, f"{name}; delete that tag or branch to end it")
        self.borrowers = found | self.borrowers
        return frozenset(found)

    def _borrower(self, version: Table, *, newest: bool) -> str:
        if version.root != self.live:
            return f"{version.name} in {format_root(version.root)}, which is kept"
        if newest:
            return f"{version.name} in the live root; to end that: lancemig detach"
        return (
            f"version {version.version} of {version.name} in the live root, which the lineage names; the "
            "next rebuild ends that"
        )

    def _kept_versions(self, root: str, unneeded: dict[str, tuple[int, ...]]) -> Iterator[tuple[Table, bool]]:
        """The versions that are kept, and whether each is the newest of its table; the newest comes last."""
        for name, newest in self.store.tables.newest(root).items():
            guarded = {guarded_version(guard) for guard in self.store.tables.guards(root, name)}
            for version in guarded - {None, newest.version} - set(unneeded.get(name, ())):
                table = self.store.tables.find(root, name, version)
                if table is not None:
                    yield table, False
            yield newest, True

    def _lends_files(self, item: GcItem, borrowed: frozenset[str]) -> bool:
        root = item.name.removesuffix(item.table)
        return self.store.tables.uri(root, item.table) in borrowed

    def _scratch(self) -> Iterator[GcItem]:
        objects, folder = self.store.objects, f"{self.store.pointers.folder}scratch/"
        for run in objects.folders(folder):
            if self.run is None or self.run.run != run:
                items = list(objects.list(f"{folder}{run}/"))
                size = sum(item.size for item in items)
                yield GcItem("scratch", f"{folder}{run}/", size, len(items), f"run {run} has ended")

    def _leases(self) -> Iterator[GcItem]:
        for key, lease in self.leases.items():
            if lease.expired(self.now):
                yield GcItem("lease", key, 0, 1, f"expired {lease.expires_at:%Y-%m-%d %H:%M} UTC")


def _undeletable(objects: Sequence[ObjectInfo]) -> str | None:
    """Why objects cannot be deleted: some are behind symbolic links, or have rows that no version has."""
    log = next((item.key for item in objects if "/_mem_wal/" in item.key), None)
    if log is not None:
        return (
            f"{log}: rows in a write-ahead log, which no version of the table has; write them elsewhere first"
        )
    links = sorted({item.link for item in objects if item.link})
    if not links:
        return None
    named = format_names(links, most=1)
    return f"{named}: a symbolic link, which a deletion never follows; remove it, then gc again"


def objects_of(store: Store, root: str) -> list[ObjectInfo]:
    """The objects of a root that was live: its tables and its owner file, and none of others."""
    tables, objects = store.tables, store.objects
    folders = [tables.folder(root, name) for name in tables.folders(root)]
    items = [item for folder in folders for item in objects.list(folder)]
    owner = objects.read(root + ROOT_OWNER_FILE) if root else None
    return items if owner is None else [*items, ObjectInfo(root + ROOT_OWNER_FILE, len(owner.body))]


def _last_written(items: list[ObjectInfo], begun: datetime) -> datetime:
    """The time of the last write to a staged root; a linked file has the time of its source."""
    content = (item for item in items if not item.key.endswith(ROOT_OWNER_FILE))
    return max([begun, *(item.modified for item in content if item.modified)])


AT_ONCE = 1000
"""The number of objects in one delete request."""


@dataclass(frozen=True)
class GcResult:
    """The result of a garbage collection."""

    items: tuple[GcItem, ...]
    """What was deleted."""
    plan: GcPlan
    spared: tuple[str, ...]
    """The roots on which a reader took a lease while the collection began."""


def run_gc(
    store: Store,
    environment: Environment,
    rules: GcRules,
    note: str | None = None,
    on_progress: OnProgress = no_progress,
) -> GcResult:
    """Make the plan again under the lock, and delete what it lists.

    The lineage records roots and guards before they are deleted. After a crash the same command continues.

    Raises:
        RunUnfinished: a run is in progress.
    """
    with exclusive(store, environment) as session:
        plan = plan_gc(store, rules, environment.now())
        _record(session, plan.items, note)
        spared = _newly_read(session, plan.items)
        items = tuple(item for item in plan.items if item.name not in spared)
        for root in spared:
            log_event(_log, "gc_spared", "%s is kept: a reader took a lease on it", root, item=root)
        for item in items:
            on_progress(Progress("gc", text=f"deleting {item.kind} {item.name}", bytes=item.bytes))
            _delete(session, item)
            log_event(_log, "gc_deleted", "%s %s deleted: %d bytes in %d objects; %s", item.kind, item.name,
                      item.bytes, item.objects, item.why, kind=item.kind, item=item.name, bytes=item.bytes,
                      objects=item.objects, versions=list(item.versions), reason=item.why)  # fmt: skip
    return GcResult(items, plan, spared)


def _record(session: ExclusiveSession, items: Iterable[GcItem], note: str | None) -> None:
    collected = [
        Collected(kind=item.kind, name=item.name, bytes=item.bytes, why=item.why, versions=item.versions)
        for item in items
        if item.kind not in ("scratch", "lease")
    ]
    pointer = session.seen.pointer
    if pointer is None or not collected or _is_recorded(session, collected):
        return
    session.publish(
        replace(session.pointer_update(Action.GC, pointer.active, note=note), collected=collected)
    )


def _is_recorded(session: ExclusiveSession, collected: Sequence[Collected]) -> bool:
    """Whether the newest entry, of a `gc` that died, lists everything that is still to be deleted."""
    newest = next(session.store.pointers.chain(session.seen.pointer), None)
    recorded = {} if newest is None else {(c.kind, c.name): set(c.versions) for c in newest.collected}
    return all(
        (c.kind, c.name) in recorded and recorded[c.kind, c.name] >= set(c.versions) for c in collected
    )


def _newly_read(session: ExclusiveSession, items: Iterable[GcItem]) -> tuple[str, ...]:
    """The roots on which a reader took a lease after the plan was made."""
    leases = list(readers(session.store.objects, session.store.pointers.folder).values())
    now = session.environment.now()
    roots = [item.name for item in items if item.kind in ("root", "staged")]
    return tuple(root for root in roots if of_root(leases, root, now) is not None)


def _delete(session: ExclusiveSession, item: GcItem) -> None:
    store = session.store
    if item.kind == "guards":
        root = item.name.removesuffix(item.table)
        for guard in item.guards:
            session.lease.renew()
            store.tables.unguard(root, item.table, guard)
        return
    if item.kind == "lease":
        objects = [ObjectInfo(item.name, 0)]
    elif item.kind == "root":
        objects = objects_of(store, item.name)
    else:
        objects = list(store.objects.list(item.name))
    _delete_objects(session, [info.key for info in objects])


def _delete_objects(session: ExclusiveSession, keys: Sequence[str]) -> None:
    """Delete manifests first, so that a crash leaves no table that opens and cannot be read."""
    manifests = [key for key in keys if is_manifest(key)]
    claims = [key for key in keys if key.endswith(f"/{ROOT_OWNER_FILE}")]
    apart = {*manifests, *claims}
    others = [key for key in keys if key not in apart]
    for group in (manifests, others, claims):
        for start in range(0, len(group), AT_ONCE):
            session.lease.renew()
            session.store.objects.delete(group[start : start + AT_ONCE])
