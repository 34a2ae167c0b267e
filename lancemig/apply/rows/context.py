"""What a step looks at, and what it has made of each fragment so far."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lancemig.apply.environment import Watch, no_watch
from lancemig.apply.rows.results_cache import FunctionResultCache
from lancemig.catalog.operations import Brakes, Operation, RowBrake
from lancemig.catalog.sources import count_text
from lancemig.errors import BrakeTripped
from lancemig.store.lance import LanceFragment, Table
from lancemig.store.lance.patches import Patch


@dataclass(frozen=True)
class RowCounts:
    """Numbers of rows, by what a change does to them."""

    changed: int = 0

    skipped: int = 0
    """Rows that stay as they are."""

    indeterminate: int = 0
    """Rows without an answer; they stay as they are, too."""

    unfilled: int = 0
    """Rows written without a new column, too late to be filled."""

    def __add__(self, other: "RowCounts") -> "RowCounts":
        return RowCounts(
            self.changed + other.changed,
            self.skipped + other.skipped,
            self.indeterminate + other.indeterminate,
            self.unfilled + other.unfilled,
        )


def checked_brakes(operation: Operation, counts: RowCounts) -> None:
    """Raise BrakeTripped where `operation` would do more than its brakes allow."""
    if isinstance(operation, RowBrake):
        _check(operation, "max_rows", counts.changed, operation.max_rows, "would change")
    if isinstance(operation, Brakes):
        _check(
            operation,
            "max_indeterminate",
            counts.indeterminate,
            operation.max_indeterminate,
            "could not be decided",
        )


def _check(operation: Operation, brake: str, count: int, limit: int | None, what: str) -> None:
    if limit is None or count <= limit:
        return
    option = f"--{brake.replace('_', '-')}"
    rows = count_text(count, "row")
    raise BrakeTripped(
        f"{operation.table}: {rows} {what}, but {brake} is {limit:,} ({operation.describe()})",
        next_step=f"inspect the rows: lancemig upgrade --plan --sample 20; then raise {brake} in the "
        "migration, "
        f"or for this run only: lancemig upgrade {option} {count}",
    )


@dataclass(frozen=True)
class FragmentResult:
    """What became of one fragment: its new files, if a row changes, the counts, and the rows left."""

    patch: Patch | None
    counts: RowCounts
    skipped_rows: tuple[pa.Table, ...] = ()


@dataclass
class StagingContext:
    """Which rows a step looks at, and what it has found out so far.

    Those of `fragments` (all) where `where` holds; `watch` is told of batches. What was computed for a
    fragment is used again, when staging is repeated after a conflict, while what it was computed from is the
    same, and so is the table's `layout`; `schemas` are known by it. Rows apart from their table are not
    `braked`: brakes count those of a whole table.
    """

    fragments: frozenset[int] | None = None
    where: str | None = None
    watch: Watch = no_watch
    results: FunctionResultCache = field(default_factory=FunctionResultCache.in_memory)
    braked: bool = True
    done: dict[str, FragmentResult] = field(default_factory=dict)
    schemas: dict[str, Any] = field(default_factory=dict)
    layout: str = ""

    def chosen(self, table: Table) -> list[LanceFragment]:
        """The fragments of the pinned table that are looked at."""
        wanted = self.fragments
        return [f for f in table.fragments if wanted is None or f.fragment_id in wanted]

    def patches(
        self,
        table: Table,
        paths: Sequence[str] | None,
        make: Callable[[LanceFragment], FragmentResult],
        *,
        at_once: int = 1,
    ) -> list[Patch]:
        """What `make` makes of each fragment; not asked again while the columns at `paths` (all) are as then.

        Rows that were deleted since, and other columns, are nothing to it: patches are put onto fragments as
        they are when they are committed. `make` is called in that many threads.
        """
        if table.layout != self.layout:
            # A column that came or went changes what the files of all others are called by.
            self.layout, self.done = table.layout, {}
        now = {f"{f.fragment_id}:{table.state_of(f, paths)}": f for f in self.chosen(table)}
        known = {state: self.done[state] for state in now if state in self.done}
        new = [state for state in now if state not in known]
        with ThreadPoolExecutor(at_once) as threads:
            known |= zip(new, threads.map(lambda state: make(now[state]), new), strict=True)
        self.done = {state: known[state] for state in now}
        return [done.patch for done in self.done.values() if done.patch]

    def forget(self) -> None:
        """Compute everything again: the files that were staged are gone."""
        self.done = {}

    @property
    def counts(self) -> RowCounts:
        """The counts of the last staging."""
        return sum((done.counts for done in self.done.values()), RowCounts())

    @property
    def skipped_rows(self) -> list[pa.Table]:
        """The rows without an answer, as the last staging found them."""
        return [table for done in self.done.values() for table in done.skipped_rows]
