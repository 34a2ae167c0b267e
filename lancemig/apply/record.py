"""The record of a run: its sidecar and the pointer, as this process last read or wrote them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lancemig.apply.environment import Environment
from lancemig.apply.lock import Lease
from lancemig.apply.sidecar import Run, Sidecars
from lancemig.catalog.value import Phase, Timing
from lancemig.events import log_event
from lancemig.store.pointer import PointerRead

_log = logging.getLogger(__name__)


@dataclass
class RunRecord:
    """The state of a run that is stored: everything that changes while the run is executed."""

    sidecars: Sidecars
    """Where the sidecar is stored."""

    lease: Lease
    """The lock; renewed before each write."""

    environment: Environment
    """The clock for timings."""

    run: Run
    """The sidecar, as last read or written."""

    seen: PointerRead
    """The pointer, as last read or written."""

    removed: bool = False
    """Whether the run has ended."""

    def save(self, **fields: Any) -> None:
        """Write these fields of the run, and the timings so far, into the sidecar.

        Raises PointerMoved when another runner has written the sidecar since.
        """
        self.lease.renew()
        run = self.run.changed(**fields)
        self.sidecars.write(run)
        self.run = run

    def remove(self) -> None:
        """Remove the sidecar: the run is over."""
        self.sidecars.remove(self.run)
        self.removed = True

    @contextmanager
    def timed(self, phase: Phase, **fields: Any) -> Iterator[dict[str, Any]]:
        """Time the block; yields a mapping for further fields of the timing.

        The timing is stored by the next `save`. A block that raises is not recorded: repeated, it takes less.
        """
        began = self.environment.now()
        subject = " ".join(filter(None, (phase, fields.get("step"), fields.get("table"))))
        log_event(_log, "phase_started", "%s started", subject, phase=phase, **fields)
        yield fields
        seconds = round((self.environment.now() - began).total_seconds(), 3)
        text = "%s finished in %.3f s"
        log_event(_log, "phase_finished", text, subject, seconds, phase=phase, seconds=seconds, **fields)
        timing = Timing(phase=phase, seconds=seconds, **fields)
        self.run = self.run.changed(timings=(*self.run.timings, timing))
