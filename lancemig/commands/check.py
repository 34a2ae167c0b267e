"""`check`: compare models, files, lineage, live tables and pointer."""

from collections.abc import Mapping, Sequence

from lancemig.catalog.findings import Code, Finding
from lancemig.catalog.lineage import LineageEntry, RootRevision
from lancemig.catalog.value import format_revision
from lancemig.commands.check_files import (
    FILES,
    HEAD,
    LIVE,
    Comparison,
    check_models,
    failed_to_load,
    load_findings,
    without_files,
)
from lancemig.commands.context import Catalog
from lancemig.commands.drift import drift_findings, expected
from lancemig.commands.squash import originals
from lancemig.commands.status import (
    ahead,
    edited,
    finishing,
    foreign_pointer,
    inventory_findings,
    writes_to_first_root,
)
from lancemig.errors import LineageBroken
from lancemig.revisions.header import Header
from lancemig.store.pointer import PointerRead


def check(catalog: Catalog) -> list[Comparison]:
    """Compare models, files, lineage, live tables and pointer. Reads no rows, writes nothing."""
    found = load_findings(catalog.settings)
    if failed_to_load(found):
        return without_files(found)
    catalog.require_store()
    seen = catalog.seen()
    foreign = foreign_pointer(catalog, seen)
    if foreign:
        why = "another program wrote the pointer"
        return [
            check_models(catalog.settings),
            Comparison(name=FILES, findings=tuple(found)),
            Comparison(name=LIVE, skipped=why),
            Comparison(name=HEAD, findings=tuple(foreign)),
        ]
    active = catalog.active(seen)
    try:
        entries, broken = list(catalog.store.pointers.chain(seen.pointer)), []
    except LineageBroken as error:
        entries, broken = (
            [],
            [Finding(code=Code.LINEAGE_BROKEN, message=error.message, next_step=error.next_step or "")],
        )
    changed = _applied_files(catalog, active, entries)
    return [
        check_models(catalog.settings),
        Comparison(name=FILES, findings=(*found, *broken, *changed)),
        _live(catalog, seen, entries, by_files=not changed),
        Comparison(
            name=HEAD,
            findings=(*_head(catalog, active), *writes_to_first_root(catalog, entries)),
        ),
    ]


def _applied_files(catalog: Catalog, active: RootRevision, entries: Sequence[LineageEntry]) -> list[Finding]:
    if not catalog.chain.knows(active.revision):
        return [ahead(catalog.chain, active)]
    applied: dict[str, str] = {}
    for entry in entries:
        for migration in entry.vouches:
            applied.setdefault(migration.revision, migration.sha256)
    headers = catalog.chain.upto(active.revision)
    changed = [one for one in headers if not one.has_digest(applied.get(one.revision, one.sha256))]
    originals_kept = originals(catalog) if any(header.replaces for header in changed) else []
    return [edited(header) for header in changed if not _was_squashed(header, applied, originals_kept)]


def _was_squashed(header: Header, applied: Mapping[str, str], originals_kept: Sequence[Header]) -> bool:
    """Whether the applied file was squashed into this one, as far as the old files are kept."""
    kept = [one for one in originals_kept if one.revision == header.revision]
    same = any(one.has_digest(applied[header.revision]) for one in kept)
    return bool(header.replaces) and (not kept or same)


def _live(
    catalog: Catalog, seen: PointerRead, entries: Sequence[LineageEntry], *, by_files: bool
) -> Comparison:
    if catalog.in_flight() is not None:
        return Comparison(name=LIVE, skipped="a run is in progress")
    stray = inventory_findings(catalog.inventory(seen))
    drifted = drift_findings(expected(catalog, catalog.active(seen), entries, by_files=by_files))
    return Comparison(name=LIVE, findings=(*drifted, *stray))


def _head(catalog: Catalog, active: RootRevision) -> list[Finding]:
    found = []
    run = catalog.in_flight()
    if run is not None:
        found.append(
            Finding(
                code=Code.RUN_IN_PROGRESS,
                message=f"run {run.run} has been in progress since {run.started} ({run.phase})",
                next_step=finishing(run),
            )
        )
    if catalog.chain.knows(active.revision) and active.revision != catalog.chain.head:
        found.append(
            Finding(
                code=Code.PENDING,
                message=f"the live revision is {format_revision(active.revision)}, the head is "
                f"{catalog.chain.head}",
                next_step="lancemig upgrade --plan",
            )
        )
    return found
