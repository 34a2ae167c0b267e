"""The verbs that look: what is live, what is under way, and whether files and catalog agree."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from lancemig.apply.lock import Lock, locks
from lancemig.apply.replicate.reconcile import RootTransition, root_transitions, written_since
from lancemig.apply.retention.readers import count
from lancemig.apply.sidecar import Run
from lancemig.catalog.findings import Code, Finding
from lancemig.catalog.lineage import Action, LineageEntry, Pointer, RootRevision
from lancemig.catalog.schema import LiveCatalog
from lancemig.commands.context import Catalog
from lancemig.errors import PlanError
from lancemig.revisions.chain import RevisionChain, before_squash_step
from lancemig.revisions.header import Header


def late_writes(catalog: Catalog, pointer: Pointer | None) -> list[Finding]:
    """One finding for each root that was written to since it was left, and not reconciled since."""
    try:
        found = root_transitions(catalog.store.pointers.chain(pointer))
    except PlanError:
        return []
    return [finding for transition in found for finding in _late(catalog, transition)]


def _late(catalog: Catalog, transition: RootTransition) -> list[Finding]:
    tables, prefix = catalog.store.tables, transition.left.prefix
    written = [name for name in transition.versions()[0] if written_since(tables, transition, name)]
    if not written:
        return []
    what = "rollback" if transition.back else "flip"
    return [
        Finding(
            code=Code.LATE_WRITES,
            message=f"{', '.join(written)} in {prefix} was written to after the {what}: a writer still uses "
            "the old root",
            next_step="lancemig reconcile; and restart the writer so that it opens the live root",
        )
    ]


@dataclass(frozen=True)
class Status:
    """Where a catalog stands: everything `status` shows."""

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
        """The command to type next."""
        if self.run is not None:
            return finishing(self.run)
        found = [
            finding.next_step
            for finding in self.findings
            if finding.code in (Code.UNKNOWN_REVISION, Code.LATE_WRITES)
        ]
        if found:
            return found[0]
        if self.head is None:
            return "lancemig revision -m MESSAGE"
        return "lancemig upgrade --plan" if self.pending else "nothing to do"


def status(catalog: Catalog) -> Status:
    """Look at everything; writes nothing."""
    seen, store = catalog.seen(), catalog.store
    place = catalog.active(seen)
    lock = locks(store.objects).read(store.lock_key)
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
        findings=(*(() if known else (ahead(catalog.chain, place),)), *late_writes(catalog, seen.pointer)),
    )


def current(catalog: Catalog) -> RootRevision:
    """The live root and its revision."""
    return catalog.active(catalog.seen())


def history(catalog: Catalog) -> list[LineageEntry]:
    """The lineage, newest first; LineageBroken where the chain is broken."""
    return list(catalog.store.pointers.chain(catalog.seen().pointer))


def finishing(run: Run) -> str:
    """The command that ends a run in flight."""
    return run.stage.next_step


def ahead(line: RevisionChain, place: RootRevision) -> Finding:
    """That no file describes the live revision."""
    into = line.squashed_into(place.revision or "")
    if into is not None:
        return Finding(
            code=Code.UNKNOWN_REVISION,
            message=f"the live revision {place.revision} lies inside the range squashed into {into.path}",
            next_step=before_squash_step(into),
            path=into.path,
        )
    return Finding(
        code=Code.UNKNOWN_REVISION,
        message=f"the live catalog is at {place.revision}, but no file in versions/ has this id",
        next_step="git pull; to see who applied it: lancemig history --lineage",
    )


def edited(header: Header) -> Finding:
    """That what was applied under an id is not the file that has it."""
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
    """A finding where the live revision's file is not the one that was applied, as far as `entries` tell."""
    header = next((header for header in catalog.chain.headers if header.revision == revision), None)
    if header is None or header.replaces:
        return []
    for entry in entries:
        for migration in entry.vouches:
            if migration.revision == revision:
                return [] if migration.sha256 == header.sha256 else [edited(header)]
    return []


def applied_revisions(catalog: Catalog) -> dict[str, str]:
    """The revisions that were applied to the live catalog and not taken back, as the lineage tells.

    Each with the digest of the file that was applied.
    """
    applied: dict[str, str] = {}
    flips: dict[tuple[RootRevision, RootRevision], dict[str, str]] = {}
    for entry in reversed(history(catalog)):
        revisions = {migration.revision: migration.sha256 for migration in entry.migrations}
        if entry.action is Action.STAMP:
            # Of the first releases, it names none.
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
