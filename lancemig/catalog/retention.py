"""What the lineage says of roots that are no longer live: which were archived, copied, or deleted."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lancemig.catalog.lineage import Action, Archived, Copied, LineageEntry, Pointer


def moment(text: str) -> datetime:
    """A moment as the formats spell it."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True)
class Standing:
    """What holds of roots, read from a lineage given newest first.

    `roots` are all that were ever live; `archives`, by root, what holds since it was live last; `deleted`, by
    root, when `gc` deleted it.
    """

    roots: tuple[str, ...]
    archives: dict[str, Archived]
    deleted: dict[str, str]


def standing(chain: Iterable[LineageEntry], pointer: Pointer | None) -> Standing:
    """What the lineage and the pointer say of every root.

    An archive ends when its root is live again: what was said of it then holds no longer.
    """
    roots, live = _of_pointer(pointer), set[str]()
    archives: dict[str, Archived] = {}
    deleted: dict[str, str] = {}
    for entry in chain:
        if entry.archived is not None and entry.archived.root not in live:
            archives.setdefault(entry.archived.root, entry.archived)
        for one in entry.collected:
            if one.kind == "root" and one.name not in live:
                deleted.setdefault(one.name, entry.finished)
        for prefix in (entry.target.prefix, entry.origin.prefix):
            roots.setdefault(prefix)
            live.add(prefix)
    return Standing(tuple(roots), archives, deleted)


def _of_pointer(pointer: Pointer | None) -> dict[str, None]:
    if pointer is None:
        return {}
    named = (pointer.active_prefix, pointer.previous_prefix)
    return {prefix: None for prefix in named if prefix is not None}


@dataclass(frozen=True)
class Backup:
    """A verified copy of the live root: when it was finished, of which revision, and where it is."""

    at: datetime
    revision: str | None
    copied: Copied


def last_backup(chain: Iterable[LineageEntry]) -> Backup | None:
    """The newest verified copy of the root that is live, in a lineage given newest first.

    A copy that was made before the last change of root is none of this one.
    """
    for entry in chain:
        if entry.origin.prefix != entry.target.prefix:
            return None
        if entry.action is Action.COPY and entry.copied is not None:
            return Backup(moment(entry.finished), entry.target.revision, entry.copied)
    return None
