"""Progress on stderr: bars on a terminal, otherwise a line every few seconds, JSON with `--log-json`."""

import logging
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from lancemig.apply.environment import OnProgress
from lancemig.apply.environment import Progress as Report
from lancemig.events import json_on_stderr, log_event
from lancemig.report.status import amount_text, progress_text

QUIET_SECONDS = 2.0
"""The least time between two lines about one step."""

_PACE_SECONDS = 30.0

_log = logging.getLogger(__name__)


@contextmanager
def progress() -> Iterator[OnProgress]:
    """Show the progress of a run while the body runs."""
    if sys.stderr.isatty() and not json_on_stderr():
        with _bars() as show:
            yield show
    else:
        yield _Lines()


class _Pace:
    """The rows per second of a step, over the last half minute: a resumed run begins with many rows done."""

    def __init__(self) -> None:
        self.seen: deque[tuple[float, int]] = deque()

    def rate(self, progress: Report, now: float) -> float | None:
        """The current rate, with what `progress` says; None before there is one."""
        self.seen.append((now, progress.rows or 0))
        while len(self.seen) > 2 and now - self.seen[1][0] > _PACE_SECONDS:
            self.seen.popleft()
        since, rows = self.seen[0]
        done = (progress.rows or 0) - rows
        return done / (now - since) if done > 0 and now > since else None


class _Lines:
    """A line for each new step, and at most one every few seconds within a step."""

    def __init__(self) -> None:
        self.step, self.since, self.at, self.pace = "", 0.0, 0.0, _Pace()

    def __call__(self, progress: Report) -> None:
        now = time.monotonic()
        step = f"{progress.phase} {progress.step} {progress.table}"
        if step != self.step:
            self.step, self.since, self.pace = step, now, _Pace()
        rate = self.pace.rate(progress, now)
        if self.since != now and now - self.at < QUIET_SECONDS:
            return
        self._show(progress, now - self.since, rate)
        self.at = now

    @staticmethod
    def _show(progress: Report, seconds: float, rate: float | None) -> None:
        text = progress_text(progress, seconds, rate)
        if json_on_stderr():
            amounts = {"rows": progress.rows, "rows_total": progress.of, "bytes": progress.bytes}
            where = {"phase": progress.phase, "table": progress.table, "step": progress.step}
            log_event(_log, "progress", "%s", text, **where, **amounts)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201


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
        tasks: dict[str, tuple[TaskID, str, float, _Pace]] = {}

        def show(progress: Report) -> None:
            name = progress.table or progress.phase
            if name not in tasks:
                tasks[name] = (bars.add_task(name, total=None, amount=""), "", 0.0, _Pace())
            task, step, since, pace = tasks[name]
            if step != f"{progress.phase} {progress.step}":
                since, pace = time.monotonic(), _Pace()
                tasks[name] = (task, f"{progress.phase} {progress.step}", since, pace)
            now = time.monotonic()
            bars.update(
                task,
                description=f"{name}  {progress.text or progress.phase}"[:60],
                completed=progress.rows or 0,
                total=progress.of,
                amount=amount_text(progress, now - since, pace.rate(progress, now)),
            )

        yield show
