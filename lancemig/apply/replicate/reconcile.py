"""After the pointer went elsewhere: what still reached the root that was left, brought into the other one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lancemig.apply.commit.committer import Committer
from lancemig.apply.effects.replay import Passage
from lancemig.apply.environment import Caller
from lancemig.apply.publish import Change
from lancemig.apply.replicate.merge import WhenExists
from lancemig.apply.replicate.replicate import bring
from lancemig.apply.replicate.types import ROWS_MOVE, ROWS_STAY, TAIL, Brought, Tail
from lancemig.catalog.lineage import Action, LineageEntry, Place, Pointer, TableChange
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import counted
from lancemig.errors import PlanError, VerifyFailed
from lancemig.store.lance import Tables


@dataclass(frozen=True)
class Crossing:
    """Two roots that a `flip` joined: rows still go `back` where it was rolled back, and forth elsewhere.

    `left` is the place that they come from, as it was when it was left, `reached` the other one as it is, or
    was when it was left in turn; `upto`, the versions up to which the first was reconciled, by table.
    """

    flip: LineageEntry
    back: bool
    left: Place
    reached: Place
    upto: Mapping[str, int]

    def versions(self) -> tuple[dict[str, int], dict[str, int]]:
        """The versions, by table, in which both roots had the same rows: of the one left, and the other."""
        before = {c.table: c.version_before for c in self.flip.tables if c.version_before is not None}
        after = {c.table: c.version_after for c in self.flip.tables if c.version_after is not None}
        return (after, before) if self.back else (before, after)

    def since(self, table: str) -> int:
        """The version of the table in the root that was left up to which all was brought."""
        return self.upto.get(table, self.versions()[0].get(table, 0))


@dataclass(frozen=True)
class Way:
    """How rows of a `table` of the root that was left get to the other one; if they cannot, `why` not."""

    table: str
    passage: Passage | None = None
    why: str = ""


def crossings(chain: Iterable[LineageEntry]) -> list[Crossing]:
    """The roots from which rows may still come to the live one, those left first first.

    `chain` is the lineage, newest first. PlanError where the live root was never flipped or rolled back to.
    """
    entries = list(chain)
    flips = [e for e in entries if e.migrations and e.origin.prefix != e.target.prefix]
    upto: dict[str, dict[str, int]] = {}
    found: list[tuple[LineageEntry, bool, Place, Place]] = []
    here = entries[0].target if entries else None
    joined: set[frozenset[str]] = set()
    for entry in entries:
        if entry.action is Action.RECONCILE:
            for table in entry.tables:
                upto.setdefault(entry.reconciled or "", {}).setdefault(table.table, table.version_after or 0)
        pair = frozenset({entry.origin.prefix, entry.target.prefix})
        if here is None or len(pair) == 1 or entry.target.prefix != here.prefix or pair in joined:
            continue
        flip = next(
            (e for e in flips if {e.origin.prefix, e.target.prefix} == pair and e.seq <= entry.seq), None
        )
        if flip is None:
            break
        joined.add(pair)
        found.insert(0, (flip, flip.origin.prefix != entry.origin.prefix, entry.origin, here))
        if not found[0][1]:
            here = entry.origin
    if not found:
        raise PlanError("the live root was not made by a rebuild", next_step="lancemig history")
    return [Crossing(*one, upto.get(one[2].prefix, {})) for one in found]


def crossing_between(chain: Iterable[LineageEntry], here: Place, there: Place) -> Crossing | None:
    """The crossing that a rollback from `here` to `there` would make; None where no flip joined them."""
    entries = list(chain)
    rollback = LineageEntry(
        seq=entries[0].seq + 1 if entries else 1,
        parent=None,
        parent_digest=None,
        action=Action.ROLLBACK,
        origin=here,
        target=there,
        run="",
        started="",
        finished="",
        actor="",
        host="",
    )
    try:
        return next((one for one in crossings([rollback, *entries]) if one.left == here), None)
    except PlanError:
        return None


def start_of(tables: Tables, crossing: Crossing) -> CatalogSchema:
    """The schema of the root that was left, when both had the same rows."""
    prefix = crossing.left.prefix
    versions = crossing.versions()[0].items()
    return CatalogSchema(tables={name: tables.open(prefix, name, at).schema() for name, at in versions})


def reconcile(
    committer: Committer,
    crossing: Crossing,
    start: CatalogSchema,
    ways: Sequence[Way],
    when_exists: WhenExists,
) -> list[Brought]:
    """Bring over what reached the root that was left; asked again it brings nothing twice.

    Of a table in which rows of both sides are in conflict, nothing is brought while `when_exists` is "error";
    `left` names them, and tables whose rows cannot go that way.
    """
    base = crossing.versions()[1]
    brought = []
    for way in ways:
        since = crossing.since(way.table)
        if way.passage is None or way.passage.target is None:
            brought += _stuck(committer.tables, crossing, way, when_exists)
            continue
        tail = Tail(
            passage=way.passage,
            origin=crossing.left.prefix,
            target=crossing.reached.prefix,
            start=start.table(way.table),
            since=since,
            base=base.get(way.passage.target, 0),
            when_exists=when_exists,
            more_columns=crossing.back,
        )
        try:
            brought.append(bring(committer, tail, crossing.reached.revision or ""))
        except VerifyFailed as error:
            brought.append(Brought(way.table, 0, since, (error.message,)))
    return brought


def _stuck(tables: Tables, crossing: Crossing, way: Way, when_exists: WhenExists) -> list[Brought]:
    """What is to be said of a table whose rows cannot go over, if any came; with "keep", they are let be."""
    since = crossing.since(way.table)
    if not way.why or not written_since(tables, crossing, way.table):
        return []
    if when_exists == "keep":
        return [Brought(way.table, 0, tables.open(crossing.left.prefix, way.table).version)]
    return [Brought(way.table, 0, since, (f"{way.table}: rows cannot be replicated: {way.why}",))]


def written_since(tables: Tables, crossing: Crossing, table: str) -> int:
    """How many commits to a table of the root that was left may have changed rows since all was brought.

    What lancemig itself did there counts only if it brought rows from another root.
    """
    found = tables.find(crossing.left.prefix, table)
    since = crossing.since(table)
    if found is None or found.version <= since:
        return 0
    log = tables.search(found, since)
    wrote = [c for c in log.commits if c.stamp is None or c.stamp.step.startswith(TAIL)]
    return len(log.missing) + sum(commit.operation not in ROWS_STAY | ROWS_MOVE for commit in wrote)


def record(
    crossing: Crossing, brought: Sequence[Brought], pointer: Pointer, run: str, caller: Caller, what: str = ""
) -> Change | None:
    """What the lineage is to tell of a reconciliation; None where it knows. The pointer's place stays."""
    news = [one for one in brought if one.upto > crossing.since(one.source)]
    if not news:
        return None
    rows = counted(sum(one.rows for one in brought), "row")
    return Change(
        action=Action.RECONCILE,
        origin=pointer.place,
        target=pointer.place,
        run=run,
        started=caller.stamp(),
        tables=[TableChange(table=one.source, version_after=one.upto) for one in news],
        note=what or f"{rows} of {crossing.left.prefix or './'} replicated",
        reconciled=crossing.left.prefix,
    )
