"""The moments of a run: before and after each effect, and at each look at a table's newest version.

Others may come in at any of them; the dead of `dying` die at effects only.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from dying import Died, DyingObjects, DyingTables, Fate

from lancemig.commands.context import Catalog
from lancemig.store.lance import Table

T = TypeVar("T")


@dataclass
class Moments(Fate):
    """A fate that calls `happen` with what is about to be at each moment, and `landed` after each effect.

    `looked` is told of each look at the newest version of a table. Nothing happens to the dead, and nothing
    in other threads: the order of moments is the same in each run.
    """

    happen: Callable[[str], None] = lambda _: None
    landed: Callable[[str], None] = lambda _: None
    looked: Callable[[str, str, int | None], None] = lambda *_: None
    within: bool = field(default=False)

    def take(self, what: str, do: Callable[[], T], half: Callable[[], object] = lambda: None) -> T:
        if threading.current_thread() is not threading.main_thread():
            return super().take(what, do, half)
        self.moment(f"before {what}")
        alive = not self.dead
        try:
            done = super().take(what, do, half)
        except Died:
            if alive and self.how == "after":
                self.landed(what)
            raise
        self.landed(what)
        self.moment(f"after {what}")
        return done

    def moment(self, what: str) -> None:
        if self.dead or threading.current_thread() is not threading.main_thread():
            return
        self.happen(what)


class WatchedTables(DyingTables):
    """Tables whose newest version is looked at in moments of a fate."""

    fate: Moments

    def find(self, root: str, name: str, version: int | None = None) -> Table | None:
        if version is not None:
            return super().find(root, name, version)
        self.fate.moment(f"look at {name}")
        found = super().find(root, name)
        self.fate.looked(root, name, found.version if found else None)
        return found


def watched(catalog: Catalog, fate: Moments) -> Catalog:
    """The catalog in the hands of a process with that fate; it never pauses."""
    store = catalog.store
    objects = DyingObjects(store.objects, fate)
    own: Any = replace(store, objects=objects, tables=WatchedTables(store.tables, objects, fate))
    return replace(catalog, store=own, environment=replace(catalog.environment, sleep=lambda _: None))
