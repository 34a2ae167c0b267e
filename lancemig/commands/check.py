"""`check`: four comparisons, from what is declared to what is live; each finding has a code of its own."""

from collections.abc import Mapping, Sequence

from lancemig.catalog.findings import Code, Finding
from lancemig.catalog.lineage import LineageEntry, RootRevision
from lancemig.commands.check_files import (
    FILES,
    HEAD,
    LIVE,
    Comparison,
    check_models,
    loadable,
    not_loaded,
    unloaded,
)
from lancemig.commands.context import Catalog
from lancemig.commands.drift import drifted, expected
from lancemig.commands.squash import originals
from lancemig.commands.status import ahead, edited, finishing
from lancemig.errors import LineageBroken
from lancemig.revisions.header import Header


def check(catalog: Catalog) -> list[Comparison]:
    """Whether models, files, lineage, live tables and pointer agree. Reads no rows, writes nothing."""
    found = loadable(catalog.settings)
    if not_loaded(found):
        return unloaded(found)
    seen = catalog.seen()
    place = catalog.active(seen)
    try:
        entries, broken = list(catalog.store.pointers.chain(seen.pointer)), []
    except LineageBroken as error:
        entries, broken = (
            [],
            [Finding(code=Code.LINEAGE_BROKEN, message=error.message, next_step=error.next_step or "")],
        )
    changed = _files(catalog, place, entries)
    return [
        check_models(catalog.settings),
        Comparison(name=FILES, findings=(*found, *broken, *changed)),
        _live(catalog, place, entries, by_files=not changed),
        Comparison(name=HEAD, findings=tuple(_head(catalog, place))),
    ]


def _files(catalog: Catalog, place: RootRevision, entries: Sequence[LineageEntry]) -> list[Finding]:
    if not catalog.chain.knows(place.revision):
        return [ahead(catalog.chain, place)]
    applied: dict[str, str] = {}
    for entry in entries:
        for migration in entry.vouches:
            applied.setdefault(migration.revision, migration.sha256)
    headers = catalog.chain.upto(place.revision)
    changed = [one for one in headers if applied.get(one.revision, one.sha256) != one.sha256]
    kept = originals(catalog) if any(header.replaces for header in changed) else []
    return [edited(header) for header in changed if not _was_squashed(header, applied, kept)]


def _was_squashed(header: Header, applied: Mapping[str, str], kept: Sequence[Header]) -> bool:
    """Whether what was applied is what was squashed into this file, as far as that is still there."""
    there = [one.sha256 for one in kept if one.revision == header.revision]
    return bool(header.replaces) and (not there or applied[header.revision] in there)


def _live(
    catalog: Catalog, place: RootRevision, entries: Sequence[LineageEntry], *, by_files: bool
) -> Comparison:
    if catalog.in_flight() is not None:
        return Comparison(name=LIVE, skipped="a run is in progress")
    return Comparison(
        name=LIVE, findings=tuple(drifted(expected(catalog, place, entries, by_files=by_files)))
    )


def _head(catalog: Catalog, place: RootRevision) -> list[Finding]:
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
    if catalog.chain.knows(place.revision) and place.revision != catalog.chain.head:
        found.append(
            Finding(
                code=Code.PENDING,
                message=f"the live revision is {place.revision or 'base'}, the head is {catalog.chain.head}",
                next_step="lancemig upgrade --plan",
            )
        )
    return found
