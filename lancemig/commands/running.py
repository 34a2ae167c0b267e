"""The catalog that a command is at work on, for the functions of migrations that it loads and calls.

A function that calls `lancemig.connect()` means the catalog that is being changed, and not whichever catalog
the ini file names first. Functions are called in threads of lancemig and of Lance as well, so the catalog is
looked up by thread, and by the modules on the call stack in a thread that no command runs in.
"""

import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from lancemig.config import Settings
from lancemig.errors import ConfigError

_CALLERS = ("lancemig.apply.", "lancemig.catalog.sources", "lancemig.revisions.loader")
"""The modules that load migrations and call their functions."""

_at_work: dict[int, list[Settings]] = {}
"""The settings of the catalogs that commands are at work on, by thread, the innermost command last."""


class _HasSettings(Protocol):
    @property
    def settings(self) -> Settings: ...


CatalogT = TypeVar("CatalogT", bound=_HasSettings)
P = ParamSpec("P")
T = TypeVar("T")


def on_catalog(command: Callable[Concatenate[CatalogT, P], T]) -> Callable[Concatenate[CatalogT, P], T]:
    """Let functions of migrations that `command` loads or calls find its catalog, the first argument."""

    @wraps(command)
    def at_work(catalog: CatalogT, /, *arguments: P.args, **named: P.kwargs) -> T:
        thread = threading.get_ident()
        _at_work.setdefault(thread, []).append(catalog.settings)
        try:
            return command(catalog, *arguments, **named)
        finally:
            _at_work[thread].pop()
            if not _at_work[thread]:
                del _at_work[thread]

    return at_work


def settings_at_work() -> Settings | None:
    """The settings of the catalog whose command called the function that asks; None outside of commands.

    Raises:
        ConfigError: Commands on several catalogs run in this process, and the thread belongs to none of them.
    """
    mine = _at_work.get(threading.get_ident())
    if mine:
        return mine[-1]
    if not _called_by_command(sys._getframe()):
        return None
    found = {(str(each[-1].path), each[-1].name): each[-1] for each in list(_at_work.values()) if each}
    if len(found) > 1:
        raise ConfigError(
            "lancemig.connect() in a function of a migration: several catalogs are changed by this process",
            next_step="name the catalog in the function: lancemig.connect(config, name)",
        )
    return next(iter(found.values()), None)


def _called_by_command(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_CALLERS):
            return True
        frame = frame.f_back
    return False
