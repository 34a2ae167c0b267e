"""The store of a catalog as a run uses it: objects, tables, and the documents beside the pointer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from lancemig.apply.root_owner import COPY_RECORD_FILE, ROOT_OWNER_FILE
from lancemig.apply.sidecar import Sidecars
from lancemig.store.lance import Tables
from lancemig.store.lance.inventory import KnownKeys, RootInventory
from lancemig.store.objects import Objects
from lancemig.store.pointer import PointerStore, Reports
from lancemig.store.process import Command

SAMPLE = 1000


@dataclass(frozen=True)
class VerificationSettings:
    """The verification settings of lancemig.ini: how many rows to recompute, and the project's own tests."""

    sample: int = SAMPLE
    command: Command | None = None


@dataclass(frozen=True)
class Store:
    """The store of a catalog; all effects go through `objects` and `tables`."""

    objects: Objects
    tables: Tables
    pointer_key: str
    lock_ttl: float = 60.0
    retry_seconds: float = 900.0
    indices: Literal["refresh", "leave"] = "refresh"
    catch_up_rows: int = 1000
    catch_up_seconds: float = 30.0
    verification: VerificationSettings = field(default_factory=VerificationSettings)

    @property
    def pointers(self) -> PointerStore:
        """The pointer and its lineage."""
        return PointerStore(self.objects, self.pointer_key)

    @property
    def lock_key(self) -> str:
        """The key of the lock."""
        return f"{self.pointers.folder}lock.json"

    def scratch(self, run: str) -> str:
        """The folder for what a run needs only while it is in progress, such as memoised results."""
        return f"{self.pointers.folder}scratch/{run}/"

    @property
    def reports(self) -> Reports:
        """The verification reports."""
        return Reports(self.objects, f"{self.pointers.folder}reports/")

    def inventory(
        self, root: str, staging_prefix: str = "", roots: Callable[[], Iterable[str]] = tuple
    ) -> RootInventory:
        """Everything under a root, but for lancemig's own files and other roots.

        Args:
            root: Its prefix.
            staging_prefix: That of lancemig.ini; what begins like it is a staged root.
            roots: Gives the roots of the catalog; asked only if something unknown may be one of them.
        """
        staged = staging_prefix.partition("{")[0]
        own = (
            self.pointer_key,
            self.pointers.folder,
            f"{root}{ROOT_OWNER_FILE}",
            *([staged] if staged else []),
        )
        return self.tables.inventory(root, KnownKeys(own, (ROOT_OWNER_FILE, COPY_RECORD_FILE), roots))

    def staging(self, prefix: str, run: str) -> "Store":
        """The store confined to the staged root `prefix`, the run's scratch folder and the reports.

        Nothing else can be written through it; live tables can be guarded.
        """
        prefixes = (prefix, self.scratch(run), f"{self.pointers.folder}reports/")
        tables = self.tables.confined(prefixes)
        return replace(self, objects=tables.objects, tables=tables)

    def sidecars(self) -> Sidecars:
        """The sidecars; use one instance for each run, since it remembers what it read."""
        return Sidecars(self.objects, self.pointers.folder)
