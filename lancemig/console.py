"""Progress for people: bars on a terminal, otherwise a line every few seconds; always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from lancemig.apply.caller import OnProgress
from lancemig.apply.caller import Progress as Told
from lancemig.report.states import progress_text

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
        self.last, self.at = "", 0.0

    def __call__(self, progress: Told) -> None:
        text, now = progress_text(progress), time.monotonic()
        step = f"{progress.phase} {progress.step} {progress.table}"
        if step != self.last or now - self.at > QUIET_SECONDS:
            print(text, file=sys.stderr, flush=True)  # noqa: T201 - the console
            self.last, self.at = step, now


@contextmanager
def _bars() -> Iterator[OnProgress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def told(progress: Told) -> None:
            name = progress.table or progress.phase
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=None, amount="")
            amount = "" if progress.rows is None else f"{progress.rows:,} rows"
            bars.update(
                tasks[name],
                description=f"{name}  {progress.phase} {progress.text}"[:60],
                completed=progress.rows or 0,
                total=progress.of,
                amount=amount,
            )

        yield told
