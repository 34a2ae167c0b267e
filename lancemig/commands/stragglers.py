"""Writers that missed a flip or a rollback: what has been written to the roots that were left."""

from lancemig.apply.tail.reconcile import Crossing, crossings, written_since
from lancemig.catalog.findings import Finding
from lancemig.catalog.lineage import Pointer
from lancemig.commands.opening import Catalog
from lancemig.errors import PlanError


def stragglers(catalog: Catalog, pointer: Pointer | None) -> list[Finding]:
    """One finding for each root that was written to since it was left, and not reconciled since."""
    try:
        found = crossings(catalog.store.pointers.chain(pointer))
    except PlanError:
        return []
    return [finding for crossing in found for finding in _late(catalog, crossing)]


def _late(catalog: Catalog, crossing: Crossing) -> list[Finding]:
    tables, prefix = catalog.store.tables, crossing.left.prefix
    written = [name for name in crossing.versions()[0] if written_since(tables, crossing, name)]
    if not written:
        return []
    what = "rollback" if crossing.back else "flip"
    return [
        Finding(
            code="LM403",
            message=f"{', '.join(written)} in {prefix} was written to after the {what}: a writer still uses "
            "the old root",
            next_step="lancemig reconcile; and restart the writer so that it opens the live root",
        )
    ]
