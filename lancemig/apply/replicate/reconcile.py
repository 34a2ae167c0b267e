"""After the pointer went elsewhere: what still reached the root that was left, brought into the other one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lancemig.apply.commit.committer import Committer
from lancemig.apply.effects.replay import TablePath
from lancemig.apply.environment import Environment
from lancemig.apply.publish import PointerUpdate
from lancemig.apply.replicate.merge import WhenExists
from lancemig.apply.replicate.replicate import replicate
from lancemig.apply.replicate.types import ROWS_MOVE, ROWS_STAY, ReplicationResult, ReplicationTask
from lancemig.catalog.lineage import Action, LineageEntry, Pointer, RootRevision, TableChange
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import count_text
from lancemig.catalog.stamps import is_replication
from lancemig.catalog.value import format_root
from lancemig.errors import PlanError, VerifyFailed
from lancemig.store.lance import Tables


@dataclass(frozen=True)
class RootTransition:
    """Two roots that a `flip` joined: rows still go `back` where it was rolled back, and forth elsewhere.

    `left` is the place that they come from, as it was when it was left, `reached` the other one as it is, or
    was when it was left in turn; `upto`, the versions up to which the first was reconciled, by table.
    """

    flip: LineageEntry
    back: bool
    left: RootRevision
    reached: RootRevision
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
class TableRoute:
    """How rows of a `table` of the root that was left get to the other one; if they cannot, `why` not."""

    table: str
    path: TablePath | None = None
    why: str = ""


def root_transitions(chain: Iterable[LineageEntry]) -> list[RootTransition]:
    """The roots from which rows may still come to the live one, those left first first.

    `chain` is the lineage, newest first. PlanError where the live root was never flipped or rolled back to.
    """
    entries = list(chain)
    flips = [e for e in entries if e.migrations and e.origin.prefix != e.target.prefix]
    upto: dict[str, dict[str, int]] = {}
    found: list[tuple[LineageEntry, bool, RootRevision, RootRevision]] = []
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
    return [RootTransition(*one, upto.get(one[2].prefix, {})) for one in found]


def transition_between(
    chain: Iterable[LineageEntry], here: RootRevision, there: RootRevision
) -> RootTransition | None:
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
        return next((one for one in root_transitions([rollback, *entries]) if one.left == here), None)
    except PlanError:
        return None


def start_of(tables: Tables, transition: RootTransition) -> CatalogSchema:
    """The schema of the root that was left, when both had the same rows."""
    prefix = transition.left.prefix
    versions = transition.versions()[0].items()
    return CatalogSchema(tables={name: tables.open(prefix, name, at).schema() for name, at in versions})


def reconcile(
    committer: Committer,
    transition: RootTransition,
    start: CatalogSchema,
    ways: Sequence[TableRoute],
    when_exists: WhenExists,
) -> list[ReplicationResult]:
    """Bring over what reached the root that was left; asked again it brings nothing twice.

    Of a table in which rows of both sides are in conflict, nothing is brought while `when_exists` is "error";
    `left` names them, and tables whose rows cannot go that way.
    """
    base = transition.versions()[1]
    brought = []
    for way in ways:
        since = transition.since(way.table)
        if way.path is None or way.path.target is None:
            brought += _stuck(committer.tables, transition, way, when_exists)
            continue
        tail = ReplicationTask(
            path=way.path,
            origin=transition.left.prefix,
            target=transition.reached.prefix,
            start=start.table(way.table),
            since=since,
            base=base.get(way.path.target, 0),
            when_exists=when_exists,
            more_columns=transition.back,
        )
        try:
            brought.append(replicate(committer, tail, transition.reached.revision or ""))
        except VerifyFailed as error:
            brought.append(ReplicationResult(way.table, 0, since, (error.message,)))
    return brought


def _stuck(
    tables: Tables, transition: RootTransition, way: TableRoute, when_exists: WhenExists
) -> list[ReplicationResult]:
    """What is to be said of a table whose rows cannot go over, if any came; with "keep", they are let be."""
    since = transition.since(way.table)
    if not way.why or not written_since(tables, transition, way.table):
        return []
    if when_exists == "keep":
        return [ReplicationResult(way.table, 0, tables.open(transition.left.prefix, way.table).version)]
    return [ReplicationResult(way.table, 0, since, (f"{way.table}: rows cannot be replicated: {way.why}",))]


def written_since(tables: Tables, transition: RootTransition, table: str) -> int:
    """How many commits to a table of the root that was left may have changed rows since all was brought.

    What lancemig itself did there counts only if it brought rows from another root.
    """
    found = tables.find(transition.left.prefix, table)
    since = transition.since(table)
    if found is None or found.version <= since:
        return 0
    log = tables.search(found, since)
    wrote = [c for c in log.commits if c.stamp is None or is_replication(c.stamp.step)]
    return len(log.missing) + sum(commit.operation not in ROWS_STAY | ROWS_MOVE for commit in wrote)


def record(
    transition: RootTransition,
    brought: Sequence[ReplicationResult],
    pointer: Pointer,
    run: str,
    environment: Environment,
    what: str = "",
) -> PointerUpdate | None:
    """What the lineage is to tell of a reconciliation; None where it knows. The pointer's place stays."""
    news = [one for one in brought if one.upto > transition.since(one.source)]
    if not news:
        return None
    rows = count_text(sum(one.rows for one in brought), "row")
    return PointerUpdate(
        action=Action.RECONCILE,
        origin=pointer.active,
        target=pointer.active,
        run=run,
        started=environment.stamp(),
        tables=[TableChange(table=one.source, version_after=one.upto) for one in news],
        note=what or f"{rows} of {format_root(transition.left.prefix)} replicated",
        reconciled=transition.left.prefix,
    )
