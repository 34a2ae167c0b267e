"""Making the live root stand on its own: what it borrows from other roots is copied into it."""

from dataclasses import dataclass, replace

from lancemig.apply.caller import OnProgress, Progress, silent
from lancemig.apply.flight import facts, table_changes
from lancemig.apply.landing.owning import own
from lancemig.apply.solo import Solo, alone
from lancemig.catalog.lineage import Action, Place
from lancemig.commands.opening import Catalog


@dataclass(frozen=True)
class Detached:
    """What was copied: files, by table, from which roots."""

    place: Place
    files: dict[str, int]
    roots: tuple[str, ...]


def detach(catalog: Catalog, note: str | None = None, on_progress: OnProgress = silent) -> Detached:
    """Copy what the live tables borrow, while writers go on, and let the lineage tell that they do no more.

    Asked again it goes on where it died; where nothing is borrowed, nothing is written.
    """
    catalog.changeable()
    with alone(catalog.store, catalog.caller) as solo:
        place, tables = catalog.place(solo.seen), catalog.store.tables
        change, before = solo.change(Action.DETACH, place, note=note), facts(tables.live(place.prefix))
        roots = tables.reads(place.prefix)
        files = {}
        for name, table in tables.newest(place.prefix).items():
            if table.bases:
                on_progress(Progress("detach", name, text=f"copying files borrowed from {_listed(roots)}"))
                files[name] = own(solo.committer, place.prefix, name, place.revision or "")
        if files or _told(solo):
            after = facts(tables.live(place.prefix))
            solo.committer.guard_catalog(
                place.prefix, {name: version for name, (version, _) in after.items()}
            )
            solo.publish(replace(change, tables=table_changes(before, after), reads=()))
        return Detached(place, files, roots)


def _told(solo: Solo) -> bool:
    """Whether the lineage says that the live root borrows."""
    pointer = solo.seen.pointer
    last = next(solo.store.pointers.chain(pointer), None)
    return last is not None and bool(last.reads)


def _listed(roots: tuple[str, ...]) -> str:
    return ", ".join(root or "./" for root in roots)
