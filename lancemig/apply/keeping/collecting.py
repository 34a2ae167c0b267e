"""Deleting exactly what nothing needs any more: told in the lineage first, then done, manifests first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lancemig.apply.caller import Caller, OnProgress, Progress, silent
from lancemig.apply.claims import CLAIM
from lancemig.apply.keeping.collectable import Collectable, Item, Rules, collectable, objects_of
from lancemig.apply.keeping.copies import is_manifest
from lancemig.apply.keeping.readers import of_root, readers
from lancemig.apply.solo import Solo, alone
from lancemig.apply.store import Store
from lancemig.catalog.lineage import Action, Collected
from lancemig.store.objects import Listed

AT_ONCE = 1000


@dataclass(frozen=True)
class Gone:
    """What was deleted, what is kept, and what a reader that came at the last moment has saved."""

    items: tuple[Item, ...]
    found: Collectable
    spared: tuple[str, ...]


def collect(
    store: Store, caller: Caller, rules: Rules, note: str | None = None, on_progress: OnProgress = silent
) -> Gone:
    """Delete what can go now, looked at anew under the lock; RunUnfinished while a run is in flight.

    The lineage tells of roots and guards before they go. After any death the same command goes on.
    """
    with alone(store, caller) as solo:
        found = collectable(store, rules, caller.now())
        _record(solo, found.items, note)
        spared = _read_from(solo, found.items)
        items = tuple(item for item in found.items if item.name not in spared)
        for item in items:
            on_progress(Progress("gc", text=f"deleting {item.kind} {item.name}", bytes=item.bytes))
            _delete(solo, item)
    return Gone(items, found, spared)


def _record(solo: Solo, items: Iterable[Item], note: str | None) -> None:
    told = [
        Collected(kind=item.kind, name=item.name, bytes=item.bytes, why=item.why, versions=item.versions)
        for item in items
        if item.kind not in ("scratch", "lease")
    ]
    pointer = solo.seen.pointer
    if pointer is None or not told or _told_already(solo, told):
        return
    solo.publish(replace(solo.change(Action.GC, pointer.place, note=note), collected=told))


def _told_already(solo: Solo, wanted: Sequence[Collected]) -> bool:
    """Whether the newest entry is that of a `gc` that died: what is left to delete is among what it tells."""
    newest = next(solo.store.pointers.chain(solo.seen.pointer), None)
    told = {} if newest is None else {(one.kind, one.name): set(one.versions) for one in newest.collected}
    return all(
        (one.kind, one.name) in told and told[one.kind, one.name] >= set(one.versions) for one in wanted
    )


def _read_from(solo: Solo, items: Iterable[Item]) -> tuple[str, ...]:
    """The roots on which a reader has put a lease since they were looked at."""
    leases = list(readers(solo.store.objects, solo.store.pointers.folder).values())
    now = solo.caller.now()
    roots = [item.name for item in items if item.kind in ("root", "staged")]
    return tuple(root for root in roots if of_root(leases, root, now) is not None)


def _delete(solo: Solo, item: Item) -> None:
    store = solo.store
    if item.kind == "guards":
        root = item.name.removesuffix(item.table)
        for guard in item.guards:
            solo.lease.hold()
            store.tables.unguard(root, item.table, guard)
        return
    if item.kind == "lease":
        found = [Listed(item.name, 0)]
    elif item.kind == "root":
        found = objects_of(store, item.name)
    else:
        found = list(store.objects.list(item.name))
    _delete_objects(solo, [one.key for one in found])


def _delete_objects(solo: Solo, keys: Sequence[str]) -> None:
    """Manifests first, so that no death on the way leaves a table that opens and cannot be read."""
    manifests = [key for key in keys if is_manifest(key)]
    claims = [key for key in keys if key.endswith(f"/{CLAIM}")]
    apart = {*manifests, *claims}
    others = [key for key in keys if key not in apart]
    for group in (manifests, others, claims):
        for start in range(0, len(group), AT_ONCE):
            solo.lease.hold()
            solo.store.objects.delete(group[start : start + AT_ONCE])
