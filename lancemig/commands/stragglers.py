"""Writers that missed the last flip: what has been written to the root that it left."""

from lancemig.apply.reconcile import Flipped, last_flip
from lancemig.apply.tail import ROWS_MOVE, ROWS_STAY
from lancemig.catalog.lineage import Pointer
from lancemig.commands.findings import Finding
from lancemig.commands.opening import Catalog
from lancemig.errors import OutcomeUnknown, PlanError


def stragglers(catalog: Catalog, pointer: Pointer | None) -> list[Finding]:
    """One finding when rows reached the old root since the last flip and were not brought over; else none."""
    try:
        flipped = last_flip(catalog.store.pointers.chain(pointer))
    except PlanError:
        return []
    left_at = {c.table: c.version_before for c in flipped.entry.tables if c.version_before is not None}
    written = [name for name, version in left_at.items() if _written(catalog, flipped, name, version)]
    if not written:
        return []
    prefix = flipped.entry.origin.prefix
    return [
        Finding(
            code="LM403",
            message=f"{', '.join(written)} in {prefix} was written to since the flip: a writer missed it",
            next_step="lancemig reconcile; and let the writer open the catalog anew",
        )
    ]


def _written(catalog: Catalog, flipped: Flipped, table: str, left_at: int) -> bool:
    since = flipped.upto.get(table, left_at)
    found = catalog.store.tables.find(flipped.entry.origin.prefix, table)
    if found is None or found.version <= since:
        return False
    try:
        log = catalog.store.tables.commits(found, since)
    except OutcomeUnknown:
        return True
    return any(commit.operation not in ROWS_STAY | ROWS_MOVE for commit in log)
