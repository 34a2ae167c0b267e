"""Writers that missed a flip: what has been written to the roots that were left."""

from lancemig.apply.reconcile import Flipped, flips
from lancemig.apply.tail import ROWS_MOVE, ROWS_STAY
from lancemig.catalog.lineage import Pointer
from lancemig.commands.findings import Finding
from lancemig.commands.opening import Catalog
from lancemig.errors import OutcomeUnknown, PlanError


def stragglers(catalog: Catalog, pointer: Pointer | None) -> list[Finding]:
    """One finding for each root that was written to since it was left, and not reconciled since."""
    try:
        found = flips(catalog.store.pointers.chain(pointer))
    except PlanError:
        return []
    return [finding for flipped in found for finding in _late(catalog, flipped)]


def _late(catalog: Catalog, flipped: Flipped) -> list[Finding]:
    left_at = {c.table: c.version_before for c in flipped.entry.tables if c.version_before is not None}
    written = [name for name, version in left_at.items() if _written(catalog, flipped, name, version)]
    if not written:
        return []
    names = ", ".join(written)
    return [
        Finding(
            code="LM403",
            message=f"{names} in {flipped.left} was written to since the flip: a writer missed it",
            next_step="lancemig reconcile; and let the writer open the catalog anew",
        )
    ]


def _written(catalog: Catalog, flipped: Flipped, table: str, left_at: int) -> bool:
    since = flipped.upto.get(table, left_at)
    found = catalog.store.tables.find(flipped.left, table)
    if found is None or found.version <= since:
        return False
    try:
        log = catalog.store.tables.commits(found, since)
    except OutcomeUnknown:
        return True
    return any(commit.operation not in ROWS_STAY | ROWS_MOVE for commit in log)
