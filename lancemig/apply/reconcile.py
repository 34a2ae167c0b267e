"""After a flip: what still reached the root that was left, brought into the one that was flipped to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lancemig.apply.caller import Caller
from lancemig.apply.commits import Committer
from lancemig.apply.following import WhenExists
from lancemig.apply.publish import Change
from lancemig.apply.tail import Brought, Tail, bring
from lancemig.apply.transform import passages
from lancemig.catalog.lineage import Action, LineageEntry, Pointer, TableChange
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import counted
from lancemig.errors import PlanError
from lancemig.plan.work import Work
from lancemig.store.tables import Tables


@dataclass(frozen=True)
class Flipped:
    """A flip to a rebuilt root, and how far its old root has been reconciled since: versions by table."""

    entry: LineageEntry
    upto: Mapping[str, int]

    @property
    def left(self) -> str:
        """The root that it left."""
        return self.entry.origin.prefix


def flips(chain: Iterable[LineageEntry]) -> list[Flipped]:
    """The flips by which rows came to the live root, oldest first, of a lineage given newest first.

    It ends where the live root was reached by a rollback. PlanError where there is none.
    """
    found: list[LineageEntry] = []
    upto: dict[str, dict[str, int]] = {}
    live: str | None = None
    for entry in chain:
        live = entry.target.prefix if live is None else live
        if entry.action is Action.RECONCILE:
            known = upto.setdefault(entry.reconciled or "", {})
            for table in entry.tables:
                known.setdefault(table.table, table.version_after or 0)
        elif entry.target.prefix == live != entry.origin.prefix:
            if not entry.migrations:
                break
            found.insert(0, entry)
            live = entry.origin.prefix
    if not found:
        raise PlanError("the live root was not flipped to by a rebuild", next_step="lancemig history")
    return [Flipped(entry, upto.get(entry.origin.prefix, {})) for entry in found]


def reconcile(
    committer: Committer, flipped: Flipped, work: Sequence[Work], when_exists: WhenExists
) -> list[Brought]:
    """Bring over what reached the old root since; asked again it brings nothing twice.

    Of a table in which rows of both sides are in conflict, nothing is brought while `when_exists` is "error";
    `left` names them.
    """
    entry = flipped.entry
    start = _start(committer.tables, entry)
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
            when_exists=when_exists,
        )
        brought.append(bring(committer, tail, entry.target.revision or ""))
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


def record(
    flipped: Flipped, brought: Sequence[Brought], pointer: Pointer, run: str, caller: Caller
) -> Change | None:
    """What the lineage is to tell of a reconciliation; None where it knows. The pointer's place stays."""
    entry = flipped.entry
    news = [
        one
        for one in brought
        if one.upto > flipped.upto.get(one.source, _change(entry, one.source).version_before or 0)
    ]
    if not news:
        return None
    return Change(
        action=Action.RECONCILE,
        origin=pointer.place,
        target=pointer.place,
        run=run,
        started=caller.stamp(),
        tables=[TableChange(table=one.source, version_after=one.upto) for one in news],
        note=f"{counted(sum(one.rows for one in brought), 'row')} of {flipped.left or './'} brought over",
        reconciled=flipped.left,
    )
