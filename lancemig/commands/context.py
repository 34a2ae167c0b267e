"""What the verbs work on: the files, the store, and the environment of this process."""

import getpass
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path

from lancemig.apply.environment import Environment
from lancemig.apply.run import active_root
from lancemig.apply.sidecar import Run
from lancemig.apply.store import Store, VerificationSettings
from lancemig.catalog.lineage import RootRevision, standing
from lancemig.commands.files import read_chain
from lancemig.commands.lance_versions import require_supported
from lancemig.commands.running import on_catalog
from lancemig.config import Settings
from lancemig.errors import ConfigError
from lancemig.revisions.chain import RevisionChain
from lancemig.revisions.header import Header
from lancemig.revisions.loader import Migration, load_migration
from lancemig.store.lance import Tables
from lancemig.store.lance.inventory import RootInventory
from lancemig.store.objects import open_objects
from lancemig.store.objects.location import location
from lancemig.store.pointer import PointerRead
from lancemig.store.process import Command


@dataclass(frozen=True)
class Catalog:
    """A catalog of lancemig.ini: its settings, its store, and the environment of this process."""

    settings: Settings
    store: Store
    environment: Environment

    @cached_property
    def chain(self) -> RevisionChain:
        """The revisions in versions/."""
        return read_chain(self.settings)

    @property
    def fallback(self) -> RootRevision:
        """The live root while there is no pointer.

        Raises:
            ConfigError: lancemig.ini does not set `fallback_prefix`.
        """
        if self.settings.fallback_prefix is None:
            raise ConfigError(
                f"{self.settings.store} has no pointer {self.settings.pointer}, and "
                f"{self.settings.path.name} [{self.settings.name}] sets no fallback_prefix",
                next_step="add `fallback_prefix = …` there: the root that is live until the first flip",
            )
        return RootRevision(prefix=self.settings.fallback_prefix)

    def seen(self) -> PointerRead:
        """Read the pointer; empty if lancemig.ini bypasses it."""
        if self.settings.resolution == "pinned":
            return PointerRead(None, None)
        return self.store.pointers.read()

    def require_store(self) -> None:
        """Refuse a local store that does not exist: a path with a typing error is no empty catalog.

        Raises:
            ConfigError: the directory does not exist.
        """
        where = location(self.settings.store)
        if isinstance(where, Path) and not where.is_dir():
            raise ConfigError(
                f"the store {where} does not exist",
                next_step=f"check `store` in {self.settings.path.name}, and that its disk is mounted; if the "
                "catalog is new: lancemig upgrade creates it",
            )

    def active(self, seen: PointerRead) -> RootRevision:
        """The live root and its revision, according to the pointer that was read."""
        return active_root(seen, self.fallback) if seen.pointer is None else seen.pointer.active

    def inventory(self, seen: PointerRead) -> RootInventory:
        """Everything under the live root, according to the pointer that was read.

        The lineage is read only if something is there that may be another root.
        """

        def roots() -> Iterable[str]:
            return standing(self.store.pointers.chain(seen.pointer), seen.pointer).roots

        return self.store.inventory(self.active(seen).prefix, self.settings.staging_prefix, roots)

    def in_flight(self) -> Run | None:
        """The run in progress, if there is one."""
        return self.store.sidecars().in_flight()

    @on_catalog
    def migrations(self, headers: tuple[Header, ...]) -> list[Migration]:
        """Load the migration files with these headers."""
        return [load_migration(header) for header in headers]

    def changeable(self) -> None:
        """Refuse to change a catalog whose pointer is bypassed, or with untested releases of Lance.

        Raises:
            ConfigError: lancemig.ini bypasses the pointer; or lancedb and pylance are no tested pair.
        """
        require_supported()
        if self.settings.resolution == "pinned":
            raise ConfigError(
                f"{self.settings.path.name} [{self.settings.name}] has resolution = pinned, which is "
                "read-only",
                next_step="use a section with resolution = pointer: lancemig -n NAME …",
            )


def open_catalog(settings: Settings) -> Catalog:
    """Open a catalog; reads nothing from its store yet."""
    objects = open_objects(settings.store, settings.storage_options)
    tables = Tables(objects, settings.catalog_dir)
    store = Store(
        objects,
        tables,
        settings.pointer,
        lock_ttl=settings.lock_ttl,
        retry_seconds=settings.retry_seconds,
        indices=settings.indices,
        catch_up_rows=settings.catch_up_rows,
        catch_up_seconds=settings.catch_up_seconds,
        verification=verification_settings(settings),
    )
    return Catalog(settings, store, current_environment(settings.script_location))


def verification_settings(settings: Settings) -> VerificationSettings:
    """The settings of lancemig.ini for verification."""
    words = settings.verify_command
    command = Command(words, settings.path.parent, settings.verify_timeout) if words else None
    return VerificationSettings(settings.verify_sample, command)


def current_environment(folder: Path) -> Environment:
    """This process, on this machine, at the current commit of the repository around `folder`."""
    return Environment(
        actor=os.environ.get("LANCEMIG_ACTOR") or _user(),
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        now=lambda: datetime.now(UTC),  # noqa: TID251 - the one clock
        new_id=lambda: uuid.uuid4().hex[:12],  # noqa: TID251 - the one source of ids
        sleep=time.sleep,
        alive=_alive,
        git_commit=cache(partial(_git_commit, folder)),
        versions={name: version(name) for name in ("lancemig", "pylance")},
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


def _machine() -> str:
    """Identify the machine, and containers with the same host name: boot id and process-id namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _alive(pid: int) -> bool:
    if not _machine():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _git_commit(folder: Path) -> str | None:
    try:
        completed = subprocess.run(  # noqa: S603 - a fixed command
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607 - whichever git is there
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() or None if completed.returncode == 0 else None
