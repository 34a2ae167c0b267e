"""Progress for people: bars on a terminal, otherwise a line every few seconds; always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from lancemig.apply.environment import OnProgress
from lancemig.apply.environment import Progress as Told
from lancemig.report.status import amount_text, progress_text

QUIET_SECONDS = 2.0


@contextmanager
def progress() -> Iterator[OnProgress]:
    """Show what a run tells while the body runs."""
    if sys.stderr.isatty():
        with _bars() as told:
            yield told
    else:
        yield _Lines()


class _Lines:
    """A line for each new step, and at most one every few seconds within a step."""

    def __init__(self) -> None:
        self.step, self.since, self.at = "", 0.0, 0.0

    def __call__(self, progress: Told) -> None:
        now = time.monotonic()
        step = f"{progress.phase} {progress.step} {progress.table}"
        if step != self.step:
            self.step, self.since = step, now
        elif now - self.at < QUIET_SECONDS:
            return
        print(progress_text(progress, now - self.since), file=sys.stderr, flush=True)  # noqa: T201
        self.at = now


@contextmanager
def _bars() -> Iterator[OnProgress]:
    """A bar for each table: its step, rows, bytes and rate."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, tuple[TaskID, str, float]] = {}

        def told(progress: Told) -> None:
            name = progress.table or progress.phase
            if name not in tasks:
                tasks[name] = (bars.add_task(name, total=None, amount=""), "", 0.0)
            task, step, since = tasks[name]
            if step != f"{progress.phase} {progress.step}":
                since = time.monotonic()
                tasks[name] = (task, f"{progress.phase} {progress.step}", since)
            bars.update(
                task,
                description=f"{name}  {progress.text or progress.phase}"[:60],
                completed=progress.rows or 0,
                total=progress.of,
                amount=amount_text(progress, time.monotonic() - since),
            )

        yield told
