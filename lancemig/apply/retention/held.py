"""Tags and branches of others that only one root has: the root is not deleted while it holds them."""

from collections.abc import Iterable, Iterator
from functools import cache

from lancemig.apply.store import Store
from lancemig.store.lance import Damaged, Reference, ReferenceName, Table


def spelled(table: str, name: ReferenceName) -> str:
    """How a tag or a branch is named on the command line: `t:train-2026`."""
    return f"{table}:{name.name}"


def held(store: Store, root: str, kept: Iterable[str]) -> tuple[str, ...]:
    """The tags and branches of others in `root` that no root among `kept` has, with the versions they name.

    One that was carried is in both, under the table's name there. One that cannot be read is held.
    """
    others, tables = tuple(dict.fromkeys(kept)), store.tables

    @cache
    def names(other: str) -> tuple[str, ...]:
        return tuple(tables.folders(other))

    def is_elsewhere(table: str, one: Reference) -> bool:
        return any(
            tables.has_reference(one, (root, table), (other, name))
            for other in others
            for name in sorted(names(other), key=lambda name: name != table)
        )

    found: list[str] = []
    for table in tables.folders(root):
        listed = tables.reference_names(root, table)
        if not listed:
            continue
        try:
            read = {one.name: one for one in tables.references(root, table)}
            found += [
                spelled(table, name)
                for name in listed
                if name not in read or not is_elsewhere(table, read[name])
            ]
        except Damaged:
            found += [spelled(table, name) for name in listed]
    return tuple(dict.fromkeys(found))


def referenced(store: Store, root: str) -> Iterator[tuple[str, Table]]:
    """The versions that tags and branches of others in `root` name, each with the spelling of its name."""
    for table in store.tables.folders(root):
        if store.tables.reference_names(root, table):
            for one in store.tables.references(root, table):
                version = store.tables.at_reference(root, table, one)
                if version is not None:
                    yield spelled(table, one.name), version


def lent_to(store: Store, root: str) -> dict[str, str]:
    """The folders outside their own table from which such versions borrow, each with the spelling of one."""
    found: dict[str, str] = {}
    for spelling, version in referenced(store, root):
        own = f"{version.uri.rstrip('/')}/"
        for place in version.borrows:
            if not f"{place}/".startswith(own):
                found.setdefault(place, f"{root}{spelling}")
    return found
