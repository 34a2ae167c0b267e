"""The verbs that only read: what is live, what is in progress, and whether files and catalog agree."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from lancemig.apply.lock import Lock, locks
from lancemig.apply.replicate.reconcile import RootTransition, count_late_commits, root_transitions
from lancemig.apply.retention.readers import count
from lancemig.apply.sidecar import Run
from lancemig.catalog.findings import Code, Finding, Level
from lancemig.catalog.lineage import Action, LineageEntry, Pointer, RootRevision
from lancemig.catalog.schema import LiveCatalog
from lancemig.catalog.sources import count_text
from lancemig.catalog.value import format_names
from lancemig.commands.context import Catalog
from lancemig.errors import LineageBroken, PlanError
from lancemig.revisions.chain import RevisionChain, before_squash_step
from lancemig.revisions.header import Header
from lancemig.store.lance.inventory import RootInventory
from lancemig.store.pointer import FOREIGN_NEXT_STEP, PointerRead


def foreign_pointer(catalog: Catalog, seen: PointerRead) -> list[Finding]:
    """A finding if another program wrote the pointer; none if the lineage is broken, which `check` finds."""
    pointers = catalog.store.pointers
    try:
        foreign = pointers.foreign(seen)
    except LineageBroken:
        return []
    if foreign is None or foreign.broken:
        return []
    return [
        Finding(code=Code.FOREIGN_POINTER, message=foreign.text(pointers.key), next_step=FOREIGN_NEXT_STEP)
    ]


def inventory_findings(inventory: RootInventory) -> list[Finding]:
    """What lies in the live root besides the tables that lancemig can name."""
    rebuild = "a rebuild is refused until"
    found = []
    if inventory.namespaced or inventory.unaddressed:
        names = format_names([*inventory.namespaced, *inventory.unaddressed])
        next_step = f"{rebuild} they are moved to NAME.lance beside the other tables, or out of the root"
        found.append(
            Finding(code=Code.UNADDRESSED, message=f"no operation can name: {names}", next_step=next_step)
        )
    for name, files in inventory.unflushed.items():
        message = f"{name} has rows in a write-ahead log ({count_text(files, 'file')}), which no version has"
        next_step = f"{rebuild} they are written into the table, and its _mem_wal folder is removed"
        found.append(Finding(code=Code.UNFLUSHED, message=message, next_step=next_step))
    found += [
        Finding(
            code=Code.UNKNOWN_FILES,
            message=f"in the live root, and not carried by a rebuild: {each}",
            next_step="move it elsewhere if programs need it",
        )
        for each in inventory.staying
    ]
    return found


def late_writes(catalog: Catalog, pointer: Pointer | None) -> list[Finding]:
    """One finding for each root that was written to after the pointer left it, and is not reconciled."""
    try:
        transitions = root_transitions(catalog.store.pointers.chain(pointer))
    except PlanError:
        return []
    return [finding for transition in transitions for finding in _late_writes(catalog, transition)]


def _late_writes(catalog: Catalog, transition: RootTransition) -> list[Finding]:
    prefix, written = transition.source.prefix, _written_since(catalog, transition)
    if not written:
        return []
    change = "rollback" if transition.is_rollback else "flip"
    return [
        Finding(
            code=Code.LATE_WRITES,
            message=f"{', '.join(written)} in {prefix} was written to after the {change}: a writer still "
            "uses the old root",
            next_step="lancemig reconcile; and restart the writer so that it opens the live root",
        )
    ]


def _written_since(catalog: Catalog, transition: RootTransition) -> list[str]:
    """The tables of the root that was left which others wrote to since, and which are not reconciled."""
    tables = catalog.store.tables
    return [name for name in transition.versions()[0] if count_late_commits(tables, transition, name)]


def first_flip(catalog: Catalog, pointer: Pointer | None, root: str) -> Finding | None:
    """What to change before a root that programs may open directly is left; None after the first flip."""
    if pointer is not None and pointer.previous_prefix is not None:
        return None
    return Finding(
        code=Code.OLD_ROOT_IN_USE,
        level=Level.INFO,
        message=f"this is the first flip: programs that open {catalog.store.objects.uri}/{root} directly "
        "keep reading and writing there",
        next_step=f"{_FIND_ROOT}, then apply the plan",
    )


_FIND_ROOT = (
    "let each program find the live root: lancemig.connect() in Python, or active_prefix in the pointer"
)


def writes_to_first_root(catalog: Catalog, entries: Iterable[LineageEntry]) -> list[Finding]:
    """A finding if the root from before the first flip was written to since: a program opens it directly."""
    try:
        first = root_transitions(entries)[0]
    except PlanError:
        return []
    if first.is_rollback or first.source.prefix != catalog.settings.fallback_prefix:
        return []
    written = _written_since(catalog, first)
    if not written:
        return []
    return [
        Finding(
            code=Code.OLD_ROOT_IN_USE,
            message=f"{', '.join(written)} in {first.source.prefix} was written to after the flip away from "
            "it: a program opens that root directly",
            next_step=f"{_FIND_ROOT}; then: lancemig reconcile",
        )
    ]


@dataclass(frozen=True)
class Status:
    """Everything that `status` shows of a catalog."""

    catalog: str
    store: str
    place: RootRevision
    pointer: Pointer | None
    head: str | None
    pending: tuple[str, ...]
    live: LiveCatalog
    run: Run | None
    lock: Lock | None
    now: datetime
    findings: tuple[Finding, ...] = field(default=())
    readers: int = 0

    @property
    def next_step(self) -> str:
        """The next command for a person."""
        if self.run is not None:
            return finishing(self.run)
        urgent = [
            finding.next_step
            for finding in self.findings
            if finding.code in (Code.FOREIGN_POINTER, Code.UNKNOWN_REVISION, Code.LATE_WRITES)
        ]
        if urgent:
            return urgent[0]
        if self.head is None:
            return "lancemig revision -m MESSAGE"
        return "lancemig upgrade --plan" if self.pending else "nothing to do"


def status(catalog: Catalog) -> Status:
    """Read the state of the catalog; writes nothing."""
    catalog.require_store()
    seen, store = catalog.seen(), catalog.store
    place = catalog.active(seen)
    lock = locks(store.objects).read(store.lock_key)
    foreign = foreign_pointer(catalog, seen)
    known = catalog.chain.knows(place.revision)
    _, pending = catalog.chain.between(place.revision, catalog.chain.head) if known else ("up", ())
    return Status(
        catalog=catalog.settings.name,
        store=catalog.settings.store,
        place=place,
        pointer=seen.pointer,
        head=catalog.chain.head,
        pending=tuple(header.revision for header in pending),
        live=store.tables.live(place.prefix),
        run=catalog.in_flight(),
        lock=lock.value if lock else None,
        now=catalog.environment.now(),
        readers=count(store.objects, store.pointers.folder, catalog.environment.now()),
        findings=tuple(foreign)
        or (
            *(() if known else (ahead(catalog.chain, place),)),
            *late_writes(catalog, seen.pointer),
            *inventory_findings(catalog.inventory(seen)),
        ),
    )


def current(catalog: Catalog) -> RootRevision:
    """The live root and its revision."""
    catalog.require_store()
    return catalog.active(catalog.seen())


def history(catalog: Catalog) -> list[LineageEntry]:
    """The lineage, newest entry first; LineageBroken if its chain is broken.

    If another program wrote the pointer, the newest lineage in the store.
    """
    seen, pointers = catalog.seen(), catalog.store.pointers
    foreign = pointers.foreign(seen)
    if foreign is None or foreign.broken:
        return list(pointers.chain(seen.pointer))
    return [] if foreign.newest is None else list(pointers.chain_from(foreign.newest.id))


def finishing(run: Run) -> str:
    """The command that ends a run in progress."""
    return run.stage.next_step


def ahead(line: RevisionChain, place: RootRevision) -> Finding:
    """The finding that no file has the live revision."""
    squashed = line.squashed_into(place.revision or "")
    if squashed is not None:
        return Finding(
            code=Code.UNKNOWN_REVISION,
            message=f"the live revision {place.revision} lies inside the range squashed into {squashed.path}",
            next_step=before_squash_step(squashed),
            path=squashed.path,
        )
    return Finding(
        code=Code.UNKNOWN_REVISION,
        message=f"the live catalog is at {place.revision}, but no file in versions/ has this id",
        next_step="git pull; to see who applied it: lancemig history --lineage",
    )


def edited(header: Header) -> Finding:
    """The finding that a file was edited after it was applied."""
    return Finding(
        code=Code.FILE_EDITED,
        message=f"{header.path} was edited after it was applied",
        next_step=f"(1) restore the file (git diff {header.path}) and make the change in a new "
        "revision; (2) if "
        f"another branch's {header.revision} was applied: git pull, then lancemig rebase; (3) if the "
        "edit is correct: lancemig stamp current",
        path=header.path,
    )


def not_applied(catalog: Catalog, revision: str | None, entries: Iterable[LineageEntry]) -> list[Finding]:
    """A finding if the file of the live revision is not the one that was applied, according to `entries`."""
    header = next((header for header in catalog.chain.headers if header.revision == revision), None)
    if header is None or header.replaces:
        return []
    for entry in entries:
        for migration in entry.vouches:
            if migration.revision == revision:
                return [] if header.has_digest(migration.sha256) else [edited(header)]
    return []


def applied_revisions(catalog: Catalog) -> dict[str, str]:
    """The revisions applied to the live catalog, from the lineage, as `{revision: sha256 of its file}`."""
    applied: dict[str, str] = {}
    flips: dict[tuple[RootRevision, RootRevision], dict[str, str]] = {}
    for entry in reversed(history(catalog)):
        revisions = {migration.revision: migration.sha256 for migration in entry.migrations}
        if entry.action is Action.STAMP:
            # A stamp of the first releases names no revisions.
            applied = revisions or applied
        elif entry.direction == "up":
            applied |= revisions
            flips[entry.origin, entry.target] = revisions
        elif entry.direction == "down":
            _forget(applied, revisions)
        elif entry.action is Action.ROLLBACK:
            _forget(applied, flips.get((entry.target, entry.origin), {}))
            applied |= flips.get((entry.origin, entry.target), {})
    return applied


def _forget(applied: dict[str, str], revisions: Iterable[str]) -> None:
    for revision in revisions:
        applied.pop(revision, None)
