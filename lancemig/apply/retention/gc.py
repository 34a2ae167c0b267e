"""What nothing needs any more, and what is kept and why: told from the store, deciding nothing by itself.

A root goes once it was archived and its retention is over; an attempt's staged root once nothing names it; a
guard once no entry of the lineage inside its retention names its version. Whatever a reader, a clone or a run
in flight needs is kept, and so are all roots that were never archived.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from lancemig.apply.environment import Environment, OnProgress, Progress, no_progress
from lancemig.apply.exclusive import ExclusiveSession, exclusive
from lancemig.apply.retention.copy import borrowed_by, is_manifest, places
from lancemig.apply.retention.readers import ReaderLease, of_root, readers
from lancemig.apply.root_owner import ROOT_OWNER_FILE, read_root_owner, staged_roots
from lancemig.apply.sidecar import Run
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, Collected, LineageEntry, Pointer, Standing, parse_time, standing
from lancemig.catalog.stamps import guarded_version
from lancemig.store.lance import Table
from lancemig.store.objects import ObjectInfo

RetainedVersions = dict[str, set[int]]
"""Versions by the table's name, in whichever root."""


def retained_versions(
    entries: Sequence[LineageEntry], pointer: Pointer | None, now: datetime, retention: timedelta
) -> dict[str, RetainedVersions]:
    """By root, the versions that entries of a lineage, newest first, name and that are to be kept.

    Entries inside the retention; and whatever their age, the one that made the live revision live, the last
    change of root, and the reconciliations since.
    """
    found: dict[str, RetainedVersions] = {}
    for entry in _kept(entries, now, retention):
        roots = {entry.origin.prefix, entry.target.prefix}
        if entry.action is Action.RECONCILE and pointer is not None and pointer.previous_prefix is not None:
            # It tells how far the old root was brought over.
            roots.add(pointer.previous_prefix)
        for root in roots:
            versions = found.setdefault(root, {})
            for table, version in _named(entry):
                versions.setdefault(table, set()).add(version)
    return found


def _kept(entries: Sequence[LineageEntry], now: datetime, retention: timedelta) -> Iterable[LineageEntry]:
    arrived = flipped = False
    for entry in entries:
        moves, changes_root = entry.origin != entry.target, entry.origin.prefix != entry.target.prefix
        always = (moves and not arrived) or (changes_root and not flipped)
        always = always or (entry.action is Action.RECONCILE and not flipped)
        # With no retention at all, nothing of the past is kept.
        if always or now - parse_time(entry.finished) < retention:
            yield entry
        arrived, flipped = arrived or moves, flipped or changes_root


def _named(entry: LineageEntry) -> Iterable[tuple[str, int]]:
    for change in entry.tables:
        for version in (change.version_before, change.version_after):
            if version is not None:
                yield change.table, version
    for step in entry.steps:
        for version in step.versions:
            yield step.table, version
            # What an undo compares it with.
            yield step.table, version - 1


Kind = Literal["root", "staged", "guards", "scratch", "lease"]


@dataclass(frozen=True)
class GcRules:
    """What `gc` goes by: how long the lineage's versions stay guarded, and attempts lie there.

    With `force`, the retention of archived roots and the grace of attempts are over at once.
    """

    retention: timedelta
    grace: timedelta
    staging_prefix: str
    fallback: str
    force: bool = False


@dataclass(frozen=True)
class GcItem:
    """Something that can go, and why: what lies under `name`, or the `guards` of the table that is there."""

    kind: Kind
    name: str
    bytes: int
    objects: int
    why: str
    table: str = ""
    guards: tuple[str, ...] = ()

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that are guarded no longer."""
        return tuple(sorted({version for g in self.guards if (version := guarded_version(g)) is not None}))


@dataclass(frozen=True)
class GcKept:
    """Something that is kept, and why."""

    name: str
    bytes: int
    why: str


@dataclass(frozen=True)
class GcPlan:
    """What can go, and what is kept."""

    items: tuple[GcItem, ...]
    kept: tuple[GcKept, ...]

    @property
    def bytes(self) -> int:
        """How much could go."""
        return sum(item.bytes for item in self.items)


def plan_gc(store: Store, rules: GcRules, now: datetime) -> GcPlan:
    """Look at everything in the store; writes nothing."""
    return _Looking(store, rules, now).found()


@dataclass
class _Looking:
    store: Store
    rules: GcRules
    now: datetime
    kept: dict[str, GcKept] = field(default_factory=dict)

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
    def needed(self) -> dict[str, RetainedVersions]:
        # Not a matter of force: a guard takes no room to speak of, and without it nothing is undone.
        return retained_versions(self.entries, self.pointer, self.now, self.rules.retention)

    def found(self) -> GcPlan:
        going = {item.name: item for item in (*self._roots(), *self._staged())}
        guards = {root: list(self._guards(root)) for root in self.kept if self._in_use(root)}
        borrowed = self._borrowed(self.kept, guards)
        # What is lent keeps its lender, which may itself have borrowed.
        while lent := {root: by for root in going if (by := borrowed_by(self.store.tables, root, borrowed))}:
            for root, by in lent.items():
                item = going.pop(root)
                why = f"lends files to a root that is kept ({by[0]}); to end that: lancemig detach"
                self.kept[root] = GcKept(root, item.bytes, why)
            borrowed |= self._borrowed(lent, {})
        loose = [item for found in guards.values() for item in found if not self._lent(item, borrowed)]
        items = [*going.values(), *loose, *self._scratch(), *self._leases()]
        return GcPlan(tuple(items), tuple(self.kept.values()))

    def _roots(self) -> Iterator[GcItem]:
        """Roots that were live: those whose archive ended, while all others are kept."""
        for root in dict.fromkeys((self.live, *self.standing.roots)):
            objects = objects_of(self.store, root)
            if not objects:
                continue
            size = sum(item.size for item in objects)
            why = self._why_kept(root)
            if why is not None:
                self.kept[root] = GcKept(root, size, why)
                continue
            archived = self.standing.archives[root]
            over = f"archived, retention ended {archived.retain_until}"
            if parse_time(archived.retain_until) > self.now:
                over = f"archived until {archived.retain_until}, ignored by --force"
            copied = f"; copied to {archived.copied.to}" if archived.copied else "; not copied"
            yield GcItem("root", root, size, len(objects), over + copied)

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

    def _staged(self) -> Iterator[GcItem]:
        """Roots of attempts that came to nothing."""
        objects = self.store.objects
        for root in staged_roots(objects, self.rules.staging_prefix):
            own = read_root_owner(objects, root)
            if root in (self.live, *self.standing.roots) or own is None:
                continue
            if (own.store, own.pointer) != (objects.uri, self.store.pointer_key) or self._holds_another(root):
                continue
            found = list(objects.list(root))
            size, since = sum(item.size for item in found), _newest(found, parse_time(own.at))
            reader = of_root(list(self.leases.values()), root, self.now)
            if self.run is not None and self.run.staged_prefix == root:
                self.kept[root] = GcKept(root, size, f"staged by run {self.run.run}")
            elif reader is not None:
                self.kept[root] = GcKept(root, size, reader.describe())
            elif self.now - since < self.rules.grace and not self.rules.force:
                until = since + self.rules.grace
                why = f"from abandoned run {own.run}; kept until {until:%Y-%m-%d %H:%M} UTC"
                self.kept[root] = GcKept(root, size, why)
            else:
                yield GcItem("staged", root, size, len(found), f"from abandoned run {own.run}")

    def _holds_another(self, root: str) -> bool:
        """Whether the pointer, or a root that was live, lies inside of it."""
        inside = (self.store.pointer_key, *self.standing.roots, self.live)
        return any(one.startswith(root) for one in inside)

    def _in_use(self, root: str) -> bool:
        """Whether versions in the root are guarded for what the lineage names."""
        return root == self.live or root in self.standing.roots

    def _guards(self, root: str) -> Iterator[GcItem]:
        """Guards of versions that nothing names any more; of a root that is read from, none."""
        if of_root(list(self.leases.values()), root, self.now) is not None or self.run is not None:
            return
        needed = self.needed.get(root, {})
        for name in self.store.tables.folders(root):
            loose = []
            for guard in self.store.tables.guards(root, name):
                version = guarded_version(guard)
                if version is not None and version not in needed.get(name, ()):
                    loose.append(guard)
            if loose:
                folder = self.store.tables.folder(root, name)
                found = [item for g in loose for item in self.store.objects.list(f"{folder}tree/{g}/")]
                why = "no lineage entry within its retention names these versions"
                size = sum(item.size for item in found)
                yield GcItem("guards", f"{root}{name}", size, len(found), why, name, tuple(sorted(loose)))

    def _borrowed(self, roots: Iterable[str], guards: dict[str, list[GcItem]]) -> frozenset[str]:
        """Where roots that are kept borrow: their newest versions, and those that stay guarded."""
        found: list[Table] = []
        for root in roots:
            loose = {item.table: item.versions for item in guards.get(root, ())}
            found += self._kept_versions(root, loose)
        return places(found)

    def _kept_versions(self, root: str, loose: dict[str, tuple[int, ...]]) -> Iterator[Table]:
        for name, newest in self.store.tables.newest(root).items():
            yield newest
            guarded = {guarded_version(guard) for guard in self.store.tables.guards(root, name)}
            for version in guarded - {None, newest.version} - set(loose.get(name, ())):
                table = self.store.tables.find(root, name, version)
                if table is not None:
                    yield table

    def _lent(self, item: GcItem, borrowed: frozenset[str]) -> bool:
        root = item.name.removesuffix(item.table)
        return self.store.tables.uri(root, item.table) in borrowed

    def _scratch(self) -> Iterator[GcItem]:
        objects, folder = self.store.objects, f"{self.store.pointers.folder}scratch/"
        for run in objects.folders(folder):
            if self.run is None or self.run.run != run:
                found = list(objects.list(f"{folder}{run}/"))
                size = sum(item.size for item in found)
                yield GcItem("scratch", f"{folder}{run}/", size, len(found), f"run {run} has ended")

    def _leases(self) -> Iterator[GcItem]:
        for key, lease in self.leases.items():
            if lease.expired(self.now):
                yield GcItem("lease", key, 0, 1, f"expired {lease.expires_at:%Y-%m-%d %H:%M} UTC")


def objects_of(store: Store, root: str) -> list[ObjectInfo]:
    """What goes with a root that was live: its tables, and its claim. What else lies there is not ours."""
    tables, objects = store.tables, store.objects
    folders = [tables.folder(root, name) for name in tables.folders(root)]
    found = [item for folder in folders for item in objects.list(folder)]
    mark = objects.read(root + ROOT_OWNER_FILE) if root else None
    return found if mark is None else [*found, ObjectInfo(root + ROOT_OWNER_FILE, len(mark.body))]


def _newest(found: list[ObjectInfo], begun: datetime) -> datetime:
    """When something was written there last; files that were linked tell when their sources were."""
    content = (item for item in found if not item.key.endswith(ROOT_OWNER_FILE))
    return max([begun, *(item.modified for item in content if item.modified)])


AT_ONCE = 1000


@dataclass(frozen=True)
class GcResult:
    """What was deleted, what is kept, and what a reader that came at the last moment has saved."""

    items: tuple[GcItem, ...]
    found: GcPlan
    spared: tuple[str, ...]


def run_gc(
    store: Store,
    environment: Environment,
    rules: GcRules,
    note: str | None = None,
    on_progress: OnProgress = no_progress,
) -> GcResult:
    """Delete what can go now, looked at anew under the lock; RunUnfinished while a run is in flight.

    The lineage tells of roots and guards before they go. After any death the same command goes on.
    """
    with exclusive(store, environment) as solo:
        found = plan_gc(store, rules, environment.now())
        _record(solo, found.items, note)
        spared = _read_from(solo, found.items)
        items = tuple(item for item in found.items if item.name not in spared)
        for item in items:
            on_progress(Progress("gc", text=f"deleting {item.kind} {item.name}", bytes=item.bytes))
            _delete(solo, item)
    return GcResult(items, found, spared)


def _record(solo: ExclusiveSession, items: Iterable[GcItem], note: str | None) -> None:
    told = [
        Collected(kind=item.kind, name=item.name, bytes=item.bytes, why=item.why, versions=item.versions)
        for item in items
        if item.kind not in ("scratch", "lease")
    ]
    pointer = solo.seen.pointer
    if pointer is None or not told or _told_already(solo, told):
        return
    solo.publish(replace(solo.pointer_update(Action.GC, pointer.active, note=note), collected=told))


def _told_already(solo: ExclusiveSession, wanted: Sequence[Collected]) -> bool:
    """Whether the newest entry is that of a `gc` that died: what is left to delete is among what it tells."""
    newest = next(solo.store.pointers.chain(solo.seen.pointer), None)
    told = {} if newest is None else {(one.kind, one.name): set(one.versions) for one in newest.collected}
    return all(
        (one.kind, one.name) in told and told[one.kind, one.name] >= set(one.versions) for one in wanted
    )


def _read_from(solo: ExclusiveSession, items: Iterable[GcItem]) -> tuple[str, ...]:
    """The roots on which a reader has put a lease since they were looked at."""
    leases = list(readers(solo.store.objects, solo.store.pointers.folder).values())
    now = solo.environment.now()
    roots = [item.name for item in items if item.kind in ("root", "staged")]
    return tuple(root for root in roots if of_root(leases, root, now) is not None)


def _delete(solo: ExclusiveSession, item: GcItem) -> None:
    store = solo.store
    if item.kind == "guards":
        root = item.name.removesuffix(item.table)
        for guard in item.guards:
            solo.lease.renew()
            store.tables.unguard(root, item.table, guard)
        return
    if item.kind == "lease":
        found = [ObjectInfo(item.name, 0)]
    elif item.kind == "root":
        found = objects_of(store, item.name)
    else:
        found = list(store.objects.list(item.name))
    _delete_objects(solo, [one.key for one in found])


def _delete_objects(solo: ExclusiveSession, keys: Sequence[str]) -> None:
    """Manifests first, so that no death on the way leaves a table that opens and cannot be read."""
    manifests = [key for key in keys if is_manifest(key)]
    claims = [key for key in keys if key.endswith(f"/{ROOT_OWNER_FILE}")]
    apart = {*manifests, *claims}
    others = [key for key in keys if key not in apart]
    for group in (manifests, others, claims):
        for start in range(0, len(group), AT_ONCE):
            solo.lease.renew()
            solo.store.objects.delete(group[start : start + AT_ONCE])
