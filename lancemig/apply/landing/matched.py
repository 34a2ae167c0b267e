"""How many rows an operation's `where` held for, before and after: counted only where it does not follow."""

from lancemig.apply.landing.hands import Landing, Site, commits
from lancemig.apply.rows.brakes import Tally
from lancemig.catalog.operations import BackfillColumns, DeleteRows, Operation, UpdateRows
from lancemig.store.tables import Tables, volatile


def matched(
    tables: Tables, operation: Operation, site: Site, landing: Landing
) -> tuple[int | None, int | None]:
    """How many rows matched before the operation, and do after it; None where it has no `where`."""
    where = getattr(operation, "where", None)
    if where is None:
        return None, None
    tally = sum((Tally(one.changed, one.skipped) for one in landing), Tally())
    before, landed = tally.changed + tally.skipped, commits(landing)
    if len(landed) == 1 and landed[0].version == landed[0].read_version + 1 and not volatile(where):
        # Nobody came in between, so that the rows that were looked at are all there were.
        after = _following(operation, before)
        if after is not None:
            return before, after
    table = tables.find(site.root, site.name, landed[-1].version if landed else None)
    return before, None if table is None else table.count(where)


def _following(operation: Operation, before: int) -> int | None:
    """How many rows match after `before` of them were looked at; None where that takes counting."""
    if isinstance(operation, DeleteRows):
        return 0
    if not isinstance(operation, UpdateRows | BackfillColumns):
        return None
    heads = {path.partition(".")[0] for path in operation.targets} | {operation.flag or "_row", "_row"}
    said = (operation.where or "").lower()
    # A name that has to be spelt in another way inside quotes would not be recognized.
    plain = all(head.isidentifier() for head in heads)
    return before if plain and not any(head.lower() in said for head in heads) else None
