"""Who calls, and what only the outside can supply: clock, ids, pauses. Tests supply their own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Environment:
    """The person or job behind a run, its machine, and its clock (UTC) and source of ids (12 hex).

    `git_commit` takes a moment when it is asked first.
    """

    actor: str
    host: str
    machine: str
    pid: int
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    sleep: Callable[[float], None]
    alive: Callable[[int], bool]
    git_commit: Callable[[], str | None] = lambda: None
    versions: dict[str, str] = field(default_factory=dict)

    def stamp(self) -> str:
        """Now, as the formats spell it."""
        return format_time(self.now())


def format_time(moment: datetime) -> str:
    """A moment as the formats spell it: `2026-05-20T19:42:10Z`."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Progress:
    """How far a run is: `rows` of `of`, and `bytes`, so far, where that can be told."""

    phase: str
    table: str = ""
    step: str = ""
    text: str = ""
    rows: int | None = None
    of: int | None = None
    bytes: int | None = None


class OnProgress(Protocol):
    """Told about every step as it begins or ends; must not raise."""

    def __call__(self, progress: Progress) -> None:
        """Take notice."""
        ...


Watch = Callable[[int, int], None]
"""Told of each batch that goes by: its rows, and its bytes in memory."""


def no_watch(rows: int, size: int) -> None:
    """Take no notice."""


def no_progress(progress: Progress) -> None:
    """Tell nobody."""
