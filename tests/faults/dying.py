"""A process that dies at a chosen effect: a wrapper around the two doors of all that changes a store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Literal, TypeVar

from lancemig.commands.context import Catalog
from lancemig.store.lance import Layout, Staged, Stamp, Table, Tables
from lancemig.store.objects import ObjectBody, ObjectInfo, Objects, PreconditionFailed, WriteOk

How = Literal["before", "half", "after"]
HOWS: tuple[How, ...] = ("before", "half", "after")
T = TypeVar("T")


class Died(BaseException):
    """The process is gone; no handler sees it."""


@dataclass
class Fate:
    """Death at effect number `at`: before it, half-way through it, or with its answer lost.

    The dead do nothing more, also not in `finally`. `at=0` forbids every effect; None lets live.
    """

    at: int | None = None
    how: How = "before"
    effects: list[str] = field(default_factory=list)
    watch: Callable[[], None] = lambda: None
    dead: bool = False
    lock: Lock = field(default_factory=Lock)

    def take(self, what: str, do: Callable[[], T], half: Callable[[], object] = lambda: None) -> T:
        with self.lock:
            if self.dead:
                raise Died(what)
            self.effects.append(what)
            if self.at is not None and len(self.effects) >= self.at:
                self.dead = True
                if self.at and self.how == "after":
                    do()
                if self.at and self.how == "half":
                    half()
                raise Died(what)
            done = do()
        self.watch()
        return done


@dataclass
class DyingObjects:
    """Objects whose writes, deletions and copies are effects."""

    objects: Objects
    fate: Fate

    @property
    def uri(self) -> str:
        return self.objects.uri

    def lance_options(self) -> dict[str, str]:
        return self.objects.lance_options()

    def read(self, key: str) -> ObjectBody | None:
        return self.objects.read(key)

    def info(self, key: str) -> ObjectInfo | None:
        return self.objects.info(key)

    def folders(self, prefix: str) -> list[str]:
        return self.objects.folders(prefix)

    def entries(self, prefix: str) -> tuple[list[str], list[str]]:
        return self.objects.entries(prefix)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.objects.list(prefix)

    def write_if(self, key: str, body: bytes, expected: str | None) -> WriteOk | PreconditionFailed:
        return self.fate.take(f"write {key}", lambda: self.objects.write_if(key, body, expected))

    def delete(self, keys: Sequence[str]) -> None:
        some = list(keys)[::2]
        self.fate.take(
            f"delete {len(keys)}: {keys[0]}",
            lambda: self.objects.delete(keys),
            lambda: self.objects.delete(some),
        )

    def copy(self, pairs: Sequence[tuple[str, str]], on_copied: Any = lambda _: None) -> None:
        some = list(pairs)[::2] if len(pairs) > 1 else []
        self.fate.take(
            f"copy {len(pairs)}: {pairs[0][0]}",
            lambda: self.objects.copy(pairs, on_copied),
            lambda: self.objects.copy(some, on_copied),
        )

    def stream(self, key: str) -> Iterator[bytes]:
        return self.objects.stream(key)

    def copy_from(
        self, source: Objects, pairs: Sequence[tuple[str, str]], on_copied: Any = lambda _: None
    ) -> None:
        origin = source.objects if isinstance(source, DyingObjects) else source
        some = list(pairs)[::2] if len(pairs) > 1 else []
        self.fate.take(
            f"receive {len(pairs)}: {pairs[0][0]}",
            lambda: self.objects.copy_from(origin, pairs, on_copied),
            lambda: self.objects.copy_from(origin, some, on_copied),
        )


class DyingTables(Tables):
    """Tables whose commits and guards are effects; staging is none, and carrying is made of copies."""

    def __init__(self, tables: Tables, objects: Objects, fate: Fate) -> None:
        super().__init__(objects, tables.catalog_dir)
        self.fate = fate

    def commit(self, table: Table, staged: Staged, stamp: Stamp) -> int:
        make = super().commit
        return self.fate.take(f"commit {stamp.step} to {table.name}", lambda: make(table, staged, stamp))

    def create(self, root: str, name: str, staged: Staged, layout: Layout, stamp: Stamp) -> int:
        make = super().create
        return self.fate.take(f"create {name}", lambda: make(root, name, staged, layout, stamp))

    def clone(self, table: Table, root: str, name: str) -> None:
        make = super().clone
        self.fate.take(f"clone {table.name}", lambda: make(table, root, name))

    def compact(self, root: str, name: str, options: Mapping[str, Any]) -> int:
        make = super().compact
        return self.fate.take(f"compact {name}", lambda: make(root, name, options))

    def optimize_indices(self, root: str, name: str, indices: Sequence[str]) -> tuple[str, ...]:
        make = super().optimize_indices
        return self.fate.take(f"optimize indices of {name}", lambda: make(root, name, indices))

    def guard(self, table: Table, name: str) -> None:
        make = super().guard
        self.fate.take(f"guard {table.name} {table.version}", lambda: make(table, name))

    def unguard(self, root: str, name: str, guard: str) -> None:
        make = super().unguard
        self.fate.take(f"unguard {name} {guard}", lambda: make(root, name, guard))


def dying(catalog: Catalog, fate: Fate) -> Catalog:
    """The catalog in the hands of a process with that fate; it never pauses."""
    store = catalog.store
    objects = DyingObjects(store.objects, fate)
    own = replace(store, objects=objects, tables=DyingTables(store.tables, objects, fate))
    return replace(catalog, store=own, environment=replace(catalog.environment, sleep=lambda _: None))
