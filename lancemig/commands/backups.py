"""Whether the lineage knows of a backup of the live root: asked before a protected catalog is flipped."""

from datetime import datetime

from lancemig.catalog.durations import duration_text
from lancemig.catalog.lineage import Action, LineageEntry
from lancemig.commands.opening import Catalog


def recent_backup(catalog: Catalog) -> LineageEntry | None:
    """The newest entry that tells of a copy of the live root, every object compared; None for one too old."""
    seen = catalog.seen()
    oldest = catalog.caller.now() - catalog.settings.backup_max_age
    for entry in catalog.store.pointers.chain(seen.pointer):
        if datetime.fromisoformat(entry.finished) < oldest:
            return None
        if entry.action is Action.COPY and _copied(entry) == catalog.place(seen).prefix:
            return entry
    return None


def missing_backup(catalog: Catalog) -> str | None:
    """What is wrong with flipping now; None where a backup is known."""
    if recent_backup(catalog) is not None:
        return None
    root, age = catalog.place(catalog.seen()).prefix or "./", duration_text(catalog.settings.backup_max_age)
    return f"the lineage knows of no copy of {root} from the last {age}"


def _copied(entry: LineageEntry) -> str:
    copied = getattr(entry, "copied", None)
    return str(copied.root) if copied is not None else entry.target.prefix
