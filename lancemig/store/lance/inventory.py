"""What lies under a root: tables, LanceDB's namespaces, rows in a write-ahead log, and files nobody knows.

`take_inventory` lists each level with one request, and never what is inside of a table's data. A rebuild
carries the tables that lancemig can name. Everything else is refused by name, or named as staying in the old
root.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import lance

from lancemig.catalog.sources import count_text
from lancemig.catalog.value import format_names, format_root
from lancemig.errors import PlanError
from lancemig.store.lance.errors import translated
from lancemig.store.lance.parallel import parallel_map
from lancemig.store.objects import Objects
from lancemig.store.objects.location import lance_address

SUFFIX = ".lance"
"""What the folder of a table ends in."""

MANIFEST = "__manifest"
"""The table in which LanceDB's directory namespace keeps the names of its tables."""

_VERSIONS, _LOG = "_versions", "_mem_wal"
_LOOKED_AT = 1000
"""How many objects of an unknown folder are looked at for a table in it."""


@dataclass(frozen=True)
class RootInventory:
    """Everything under one root, by what becomes of it; keys are relative to the store."""

    root: str
    tables: tuple[str, ...] = ()
    """The tables that lancemig can name; they are carried."""

    unflushed: dict[str, int] = field(default_factory=dict)
    """The number of files in the write-ahead log of a table, whose rows are in no version of it."""

    namespaced: tuple[str, ...] = ()
    """What LanceDB's `__manifest` names: namespaces such as `sales`, and their tables (`sales.orders`)."""

    unaddressed: tuple[str, ...] = ()
    """Folders of tables that no name leads to: without `.lance`, nested, or of a namespace."""

    unfinished: tuple[str, ...] = ()
    """Folders that end in `.lance` and have no version: a table that was not finished, or not removed."""

    unknown: tuple[str, ...] = ()
    """Files and folders that are neither a table nor lancemig's own."""

    @property
    def staying(self) -> list[str]:
        """What a rebuild leaves in the old root, as sentences."""
        return [
            f"{format_names(keys)}: {why}"
            for keys, why in (
                (self.unfinished, "no table, has no version"),
                (self.unknown, "unknown to lancemig"),
            )
            if keys
        ]

    def refuse_loss(self, by: Literal["rebuild", "copy"] = "rebuild") -> None:
        """Refuse a rebuild or a copy of this root while it has tables or rows that neither carries.

        Raises:
            PlanError: there are such; the message names them.
        """
        if self.unflushed:
            raise PlanError(self.unflushed_text, next_step=UNFLUSHED_NEXT_STEP)
        if self.namespaced:
            raise PlanError(
                f"a {by} cannot carry LanceDB namespaces, and would leave {format_names(self.namespaced)} "
                f"behind in {format_root(self.root)}",
                next_step="move the tables out of their namespaces, to the root itself, and drop the "
                "namespaces; changes in place are possible meanwhile",
            )
        if self.unaddressed:
            raise PlanError(
                f"no operation can name the tables in {format_names(self.unaddressed)}; a {by} would leave "
                f"them behind in {format_root(self.root)}",
                next_step="move each to NAME.lance beside the other tables, or out of the root; then run the "
                "same command again",
            )

    @property
    def unflushed_text(self) -> str:
        """The tables with rows in a write-ahead log, in a sentence."""
        logs = ", ".join(f"{name} ({count_text(n, 'file')})" for name, n in self.unflushed.items())
        return (
            "rows in LanceDB's write-ahead log are in no version of their table, and would stay behind in "
            f"{format_root(self.root)}: {logs}"
        )


UNFLUSHED_NEXT_STEP = (
    "write these rows into the table itself and call unset_lsm_write_spec(), then remove its _mem_wal "
    "folder, and run the same command again"
)


@dataclass(frozen=True)
class KnownKeys:
    """What else may lie under a root, and is nobody's loss: lancemig's own files and other roots."""

    prefixes: tuple[str, ...] = ()
    """Keys, and beginnings of keys."""

    records: tuple[str, ...] = ()
    """Names of files; a folder that has one is another root, or a copy of one."""

    roots: Callable[[], Iterable[str]] = tuple
    """Gives the prefixes of the catalog's roots; that costs requests."""

    def has(self, key: str) -> bool:
        """Whether a key is known, or a folder is in or around a known one."""
        return _is_near(key, self.prefixes)

    def without_roots(self, keys: Iterable[str], root: str) -> list[str]:
        """The keys that are in no other root than `root`; if there are none, the roots are not asked for."""
        unknown = list(keys)
        roots = [each for each in self.roots() if each and each != root] if unknown else []
        return [key for key in unknown if not _is_near(key, roots)]


def _is_near(key: str, prefixes: Iterable[str]) -> bool:
    folder = key.endswith("/")
    return any(key == p or key.startswith(p) or (folder and p.startswith(key)) for p in prefixes)


def take_inventory(objects: Objects, root: str, catalog_dir: str, known: KnownKeys) -> RootInventory:
    """List what lies under a root, level by level.

    Args:
        objects: The store.
        root: The prefix of the root; if it is empty, tables in further folders are another catalog's.
        catalog_dir: The folder of its tables.
        known: What else is expected there.
    """
    tables_folder = f"{root}{catalog_dir}"
    at_root = list(_strangers(objects, root, tables_folder, known)) if catalog_dir else []
    files, folders = objects.entries(tables_folder)
    of_tables = [folder for folder in folders if folder.endswith(SUFFIX)]
    contents = dict(
        parallel_map(lambda name: (name, _content(objects, f"{tables_folder}{name}/")), of_tables)
    )
    unfinished = [f"{tables_folder}{name}/" for name, (whole, _) in contents.items() if not whole]
    strangers = [f"{tables_folder}{name}/" for name in folders if name not in {*of_tables, MANIFEST}]
    strangers += [f"{tables_folder}{name}" for name in files]
    strangers = [*at_root, *(key for key in strangers if not known.has(key))]
    strangers = [key for key in known.without_roots(strangers, root) if not _has_record(objects, key, known)]
    names, located = _named(objects, tables_folder) if MANIFEST in folders else ([], set())
    within = dict(parallel_map(lambda key: (key, list(_tables_within(objects, key))), strangers))
    unaddressed = [f for key in strangers for f in within[key] if f == key or root]
    unknown = [key for key in strangers if not (within[key] and (root or key in within[key]))]
    return RootInventory(
        root=root,
        tables=tuple(name.removesuffix(SUFFIX) for name, (whole, _) in contents.items() if whole),
        unflushed={name.removesuffix(SUFFIX): logs for name, (_, logs) in contents.items() if logs},
        namespaced=tuple(names),
        unaddressed=tuple(folder for folder in unaddressed if folder not in located),
        unfinished=tuple(unfinished),
        unknown=tuple(unknown),
    )


def _content(objects: Objects, folder: str) -> tuple[bool, int]:
    """Whether the folder of a table has versions; and the number of files in its write-ahead log."""
    _, folders = objects.entries(folder)
    logs = sum(1 for _ in islice(objects.list(f"{folder}{_LOG}/"), _LOOKED_AT)) if _LOG in folders else 0
    return _VERSIONS in folders, logs


def _named(objects: Objects, tables_folder: str) -> tuple[list[str], set[str]]:
    """The namespaces and their tables in LanceDB's manifest, by name; and the folders of these tables.

    Some releases write an empty manifest into each catalog. Tables at the root are not in it, or at the place
    where LanceDB finds them without it.
    """
    uri = lance_address(objects.uri, f"{tables_folder}{MANIFEST}")
    with translated(f"reading the namespaces in {tables_folder}{MANIFEST}"):
        columns = ["object_id", "object_type", "location"]
        rows = lance.dataset(uri, storage_options=objects.lance_options()).to_table(columns).to_pylist()
    names, located = [], set()
    for row in rows:
        at_root = row["object_type"] == "table" and row["location"] == f"{row['object_id']}{SUFFIX}"
        if not at_root:
            names.append(row["object_id"].replace("$", "."))
            located.add(f"{tables_folder}{row['location']}/")
    return names, located


def _strangers(objects: Objects, root: str, tables_folder: str, known: KnownKeys) -> Iterator[str]:
    """What is beside the folder of the tables, and not known."""
    files, folders = objects.entries(root)
    for key in (*(f"{root}{folder}/" for folder in folders), *(f"{root}{name}" for name in files)):
        if not (known.has(key) or tables_folder.startswith(key)):
            yield key


def _has_record(objects: Objects, key: str, known: KnownKeys) -> bool:
    return key.endswith("/") and not set(known.records).isdisjoint(objects.entries(key)[0])


def _tables_within(objects: Objects, key: str) -> Iterator[str]:
    """The folders of tables in or below a folder, from the first objects of it."""
    if not key.endswith("/"):
        return
    found = dict[str, None]()
    for item in islice(objects.list(key), _LOOKED_AT):
        folder, has_versions, _ = item.key.partition(f"/{_VERSIONS}/")
        if has_versions:
            found.setdefault(f"{folder}/")
    yield from found
