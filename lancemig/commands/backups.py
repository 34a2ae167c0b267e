"""Whether the lineage knows of a backup of the live root: asked before a protected catalog is flipped."""

from lancemig.catalog.durations import duration_text
from lancemig.catalog.retention import last_backup
from lancemig.commands.opening import Catalog


def missing_backup(catalog: Catalog) -> str | None:
    """What is wrong with flipping now; None where a backup is known."""
    backup = last_backup(catalog.store.pointers.chain(catalog.seen().pointer))
    if backup is not None and backup.at >= catalog.caller.now() - catalog.settings.backup_max_age:
        return None
    root, age = catalog.place(catalog.seen()).prefix or "./", duration_text(catalog.settings.backup_max_age)
    return f"the lineage has no record of a copy of {root} in the last {age}"
