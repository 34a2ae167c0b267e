"""The brakes: a run that would change more than a person allowed stops before anything is committed."""

from dataclasses import dataclass

from lancemig.catalog.operations import Brakes, Operation, RowBrake
from lancemig.catalog.sources import counted
from lancemig.errors import BrakeTripped


@dataclass(frozen=True)
class Tally:
    """Rows that a change changes, leaves alone, and has no answer for (they are left alone, too)."""

    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.changed + other.changed,
            self.skipped + other.skipped,
            self.indeterminate + other.indeterminate,
        )


def checked_brakes(operation: Operation, tally: Tally) -> None:
    """Raise BrakeTripped where `operation` would do more than its brakes allow."""
    if isinstance(operation, RowBrake):
        _check(operation, "max_rows", tally.changed, operation.max_rows, "would change")
    if isinstance(operation, Brakes):
        _check(
            operation,
            "max_indeterminate",
            tally.indeterminate,
            operation.max_indeterminate,
            "could not be decided",
        )


def _check(operation: Operation, brake: str, count: int, limit: int | None, what: str) -> None:
    if limit is None or count <= limit:
        return
    option = f"--{brake.replace('_', '-')}"
    rows = counted(count, "row")
    raise BrakeTripped(
        f"{operation.table}: {rows} {what}, but {brake} is {limit:,} ({operation.describe()})",
        next_step=f"inspect the rows: lancemig upgrade --plan --sample 20; then raise {brake} in the "
        "migration, "
        f"or for this run only: lancemig upgrade {option} {count}",
    )
