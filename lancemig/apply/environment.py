"""What only the outside can supply to a run: clock, ids, pauses, and who runs it. Tests supply their own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class Environment:
    """The process around a run."""

    actor: str
    """The person or job behind the run."""

    host: str

    machine: str
    """Boot and process-id namespace: tells apart machines, and containers that share a host name."""

    pid: int

    now: Callable[[], datetime]
    """The current time in UTC."""

    new_id: Callable[[], str]
    """A new random id: 12 hex digits."""

    sleep: Callable[[float], None]

    alive: Callable[[int], bool]
    """Whether a process of this machine is alive, by its pid."""

    git_commit: Callable[[], str | None] = lambda: None
    """The commit of the project. The first call takes a moment."""

    versions: dict[str, str] = field(default_factory=dict)
    """The versions of lancemig and the libraries that matter, for the lineage."""

    def stamp(self) -> str:
        """The current time, as stored formats write it."""
        return format_time(self.now())


def format_time(moment: datetime) -> str:
    """A time as stored formats write it: `2026-05-20T19:42:10Z`."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    phase: str
    table: str = ""
    step: str = ""
    text: str = ""

    rows: int | None = None
    """The rows so far; None where rows are not counted."""

    of: int | None = None
    """The rows in total; None where the total is unknown."""

    bytes: int | None = None
    """The bytes so far."""


class OnProgress(Protocol):
    """Called when a step begins, progresses or ends; must not raise."""

    def __call__(self, progress: Progress) -> None:
        """Report the progress."""
        ...


Watch = Callable[[int, int], None]
"""Called for each batch that is processed, with its rows and its bytes in memory."""


def no_watch(rows: int, size: int) -> None:
    """Count nothing."""


def no_progress(progress: Progress) -> None:
    """Report nothing."""
