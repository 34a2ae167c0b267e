"""The verbs that look: what is live, what is under way, and whether files and catalog agree."""

from dataclasses import dataclass, field
from datetime import datetime

from lancemig.apply.lease import Lock, read_lock
from lancemig.apply.readers import count
from lancemig.apply.sidecar import Phase, Run
from lancemig.catalog.findings import Finding
from lancemig.catalog.lineage import Action, LineageEntry, Place, Pointer
from lancemig.catalog.live import LiveCatalog
from lancemig.commands.findings import check_files
from lancemig.commands.opening import Catalog
from lancemig.commands.stragglers import stragglers
from lancemig.errors import LineageBroken


@dataclass(frozen=True)
class Status:
    """Where a catalog stands: everything `status` shows."""

    catalog: str
    store: str
    place: Place
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
        """The command to type next."""
        if self.run is not None:
            return _finishing(self.run)
        late = [finding.next_step for finding in self.findings if finding.code == "LM403"]
        if late:
            return late[0]
        if self.head is None:
            return "lancemig revision -m MESSAGE"
        return "lancemig upgrade --plan" if self.pending else "nothing to do"


def status(catalog: Catalog) -> Status:
    """Look at everything; writes nothing."""
    seen, store = catalog.seen(), catalog.store
    place = catalog.place(seen)
    found = store.objects.read(store.lock_key)
    known = catalog.line.knows(place.revision)
    _, pending = catalog.line.between(place.revision, catalog.line.head) if known else ("up", ())
    return Status(
        catalog=catalog.settings.name,
        store=catalog.settings.store,
        place=place,
        pointer=seen.pointer,
        head=catalog.line.head,
        pending=tuple(header.revision for header in pending),
        live=store.tables.live(place.prefix),
        run=catalog.in_flight(),
        lock=read_lock(found, store.lock_key) if found else None,
        now=catalog.caller.now(),
        readers=count(store.objects, store.pointers.folder, catalog.caller.now()),
        findings=(*(() if known else (_ahead(place),)), *stragglers(catalog, seen.pointer)),
    )


def current(catalog: Catalog) -> Place:
    """The live root and its revision."""
    return catalog.place(catalog.seen())


def history(catalog: Catalog) -> list[LineageEntry]:
    """The lineage, newest first; LineageBroken where the chain is broken."""
    return list(catalog.store.pointers.chain(catalog.seen().pointer))


def check(catalog: Catalog) -> list[Finding]:
    """The CI check: whether the files' head is what the pointer says is live, and nothing is half-done."""
    findings = check_files(catalog.settings)
    if any(finding.code == "LM200" for finding in findings):
        return findings
    seen = catalog.seen()
    place = catalog.place(seen)
    run = catalog.in_flight()
    if run is not None:
        findings.append(
            Finding(
                code="LM402",
                message=f"run {run.run} has been under way since {run.started} ({run.phase})",
                next_step=_finishing(run),
            )
        )
    if not catalog.line.knows(place.revision):
        return [*findings, _ahead(place)]
    if place.revision != catalog.line.head:
        findings.append(
            Finding(
                code="LM401",
                message=f"live is {place.revision or 'base'}, the files' head is {catalog.line.head}",
                next_step="lancemig upgrade --plan",
            )
        )
    return [*findings, *_edited(catalog, seen.pointer)]


def _edited(catalog: Catalog, pointer: Pointer | None) -> list[Finding]:
    """Files that were changed after they had been applied, by the checksums in the lineage."""
    applied: dict[str, str] = {}
    try:
        for entry in catalog.store.pointers.chain(pointer):
            for migration in entry.migrations if entry.direction == "up" else ():
                applied.setdefault(migration.revision, migration.sha256)
    except LineageBroken as error:
        return [Finding(code="LM203", message=error.message, next_step=error.next_step or "")]
    place = catalog.place(catalog.seen())
    return [
        Finding(
            code="LM201",
            message=f"{header.path} was edited after it was applied",
            next_step=f"git diff {header.path}; put it back, and write a new revision",
        )
        for header in catalog.line.upto(place.revision)
        if applied.get(header.revision, header.sha256) != header.sha256
    ]


def _finishing(run: Run) -> str:
    if run.phase is Phase.UNDO:
        return "lancemig recover --undo"
    return "lancemig flip" if run.waits else "lancemig recover"


def _ahead(place: Place) -> Finding:
    return Finding(
        code="LM202",
        message=f"the live catalog is at {place.revision}, which no file in versions/ describes",
        next_step="git pull; lancemig history tells how it came there",
    )


def applied_revisions(catalog: Catalog) -> frozenset[str]:
    """The revisions that were applied to the live catalog and not taken back, as the lineage tells."""
    applied: set[str] = set()
    flips: dict[tuple[Place, Place], set[str]] = {}
    for entry in reversed(history(catalog)):
        revisions = {migration.revision for migration in entry.migrations}
        if entry.direction == "up":
            applied |= revisions
            flips[entry.origin, entry.target] = revisions
        elif entry.direction == "down":
            applied -= revisions
        elif entry.action is Action.ROLLBACK:
            applied -= flips.get((entry.target, entry.origin), set())
            applied |= flips.get((entry.origin, entry.target), set())
    return frozenset(applied)
