"""After a flip: rows that still reached the old root, brought into the live one; at any later time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lancemig.apply.publish import Change
from lancemig.apply.solo import Solo
from lancemig.apply.tail import Brought, Tail, bring
from lancemig.apply.transform import passages
from lancemig.catalog.lineage import Action, LineageEntry, TableChange
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import counted
from lancemig.errors import PlanError
from lancemig.plan.work import Work
from lancemig.store.tables import Tables


@dataclass(frozen=True)
class Flipped:
    """A flip, and how far its old root has been reconciled: `upto` by table, from later entries."""

    entry: LineageEntry
    upto: dict[str, int]


def last_flip(chain: Iterable[LineageEntry]) -> Flipped:
    """The last flip to a rebuilt root in a lineage given newest first; PlanError where there is none."""
    upto: dict[str, int] = {}
    for entry in chain:
        if entry.action is Action.RECONCILE:
            for table in entry.tables:
                upto.setdefault(table.table, table.version_after or 0)
        elif entry.migrations and entry.origin.prefix != entry.target.prefix:
            return Flipped(entry, upto)
        elif entry.origin.prefix != entry.target.prefix:
            break
    raise PlanError("the live root was not flipped to by a rebuild", next_step="lancemig history")


def reconcile(solo: Solo, flipped: Flipped, work: Sequence[Work]) -> list[Brought]:
    """Bring over what reached the old root since; asked again it brings nothing twice.

    Inserted rows are brought; updated and deleted ones are told, for the live row may have changed as well.
    A row that is live already with other values raises VerifyFailed, naming it.
    """
    tables, entry = solo.store.tables, flipped.entry
    start = _start(tables, entry)
    brought = []
    for passage in passages(start, work):
        source, target = passage.source, passage.target
        if source is None or target is None or passage.derived:
            continue
        tail = Tail(
            passage=passage,
            origin=entry.origin.prefix,
            target=entry.target.prefix,
            start=start.table(source),
            since=flipped.upto.get(source, _change(entry, source).version_before or 0),
            base=_change(entry, target).version_after or 0,
        )
        brought.append(bring(solo.committer, tail, entry.target.revision or "", insert_only=True))
    if any(one.rows for one in brought):
        _record(solo, brought)
    return brought


def _start(tables: Tables, entry: LineageEntry) -> CatalogSchema:
    """The old root's schema as the rebuild found it."""
    found = {
        change.table: tables.open(entry.origin.prefix, change.table, change.version_before).schema()
        for change in entry.tables
        if change.version_before is not None
    }
    return CatalogSchema(tables=found)


def _change(entry: LineageEntry, table: str) -> TableChange:
    return next((c for c in entry.tables if c.table == table), TableChange(table=table))


def _record(solo: Solo, brought: list[Brought]) -> None:
    """An entry that tells how far the old root has been brought over; the pointer's place stays."""
    pointer = solo.seen.pointer
    if pointer is None:
        return
    now = solo.caller.stamp()
    solo.publish(
        Change(
            action=Action.RECONCILE,
            origin=pointer.place,
            target=pointer.place,
            run=solo.run,
            started=now,
            tables=[TableChange(table=one.source, version_after=one.upto) for one in brought],
            note=f"{counted(sum(one.rows for one in brought), 'row')} brought over",
        )
    )
