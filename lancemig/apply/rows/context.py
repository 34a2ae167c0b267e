"""What a staging looks at, its results by fragment, and the limits on the rows that it may change."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lancemig.apply.environment import Watch, no_watch
from lancemig.apply.rows.keys import KeptRows
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


def check_limits(operation: Operation, counts: RowCounts) -> None:
    """Raise BrakeTripped where `counts` exceed a limit of the operation."""
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
        f"migration, or for this run only: lancemig upgrade {option} {count}",
    )


@dataclass(frozen=True)
class FragmentResult:
    """What a staging made of one fragment."""

    patch: Patch | None
    """The new files; None when no row changes."""

    counts: RowCounts

    skipped_rows: tuple[pa.Table, ...] = ()
    """The rows without an answer."""

    keys: tuple[int, int] | None = None
    """Where `StagingContext.kept_keys` has the new values of key columns of the rows that change."""


@dataclass
class StagingContext:
    """The rows that a staging looks at, and its results so far, for the next attempt after a conflict."""

    fragments: frozenset[int] | None = None
    """The ids of the fragments to look at; None for all."""

    where: str | None = None
    """Which rows to look at; None for all."""

    watch: Watch = no_watch
    """Called with the rows and bytes of each batch."""

    results: FunctionResultCache = field(default_factory=FunctionResultCache.in_memory)

    key: tuple[str, ...] = ()
    """The declared key that the rows must have after the operation; empty where a gate checks it later."""

    kept_keys: KeptRows | None = None
    """New values of key columns, with the addresses of their rows; None before there are any."""

    check_limits: bool = True
    """Whether to check limits; they count the rows of a whole table, so not for a few rows of it."""

    done: dict[str, FragmentResult] = field(default_factory=dict)
    """The results by fragment and state of what was read of it."""

    schemas: dict[str, Any] = field(default_factory=dict)
    """Schemas that were computed for a layout, by layout."""

    layout: str = ""
    """The layout of the table for which `done` holds."""

    def fragments_of(self, table: Table) -> list[LanceFragment]:
        """The fragments of the pinned table to look at."""
        wanted = self.fragments
        return [f for f in table.fragments if wanted is None or f.fragment_id in wanted]

    def patches(
        self,
        table: Table,
        paths: Sequence[str] | None,
        compute: Callable[[LanceFragment], FragmentResult],
        *,
        at_once: int = 1,
    ) -> list[Patch]:
        """The patches of all fragments; a fragment is computed again only if the columns read have changed.

        Rows that were deleted since, and other columns, make no difference: a patch is applied to the
        fragment as it is when it is committed.

        Args:
            table: The pinned table.
            paths: The columns on which the result for a fragment depends; None for all.
            compute: Computes the result for a fragment.
            at_once: How many threads call `compute`.
        """
        if table.layout != self.layout:
            # An added or dropped column changes the field ids in the files of all others.
            self.layout, self.done = table.layout, {}
        fragments = {f"{f.fragment_id}:{table.state_of(f, paths)}": f for f in self.fragments_of(table)}
        results = {state: self.done[state] for state in fragments if state in self.done}
        missing = [state for state in fragments if state not in results]
        with ThreadPoolExecutor(at_once) as threads:
            computed = threads.map(lambda state: compute(fragments[state]), missing)
            results |= zip(missing, computed, strict=True)
        self.done = {state: results[state] for state in fragments}
        return [result.patch for result in self.done.values() if result.patch]

    def keep_keys(self, rows: pa.Table) -> tuple[int, int]:
        """Keep new values of key columns until `close`; gives where they are."""
        if self.kept_keys is None:
            self.kept_keys = KeptRows()
        return self.kept_keys.add(rows)

    def new_keys(self) -> dict[int, tuple[int, int]]:
        """Where the new values of key columns of each fragment are kept, for `kept_keys`; by fragment id."""
        states = ((state, result.keys) for state, result in self.done.items())
        return {int(state.partition(":")[0]): keys for state, keys in states if keys is not None}

    def close(self) -> None:
        """Remove temporary files."""
        if self.kept_keys is not None:
            self.kept_keys.close()

    def forget(self) -> None:
        """Drop the results: the files that were staged are gone."""
        self.done = {}

    @property
    def counts(self) -> RowCounts:
        """The counts of the last staging."""
        return sum((result.counts for result in self.done.values()), RowCounts())

    @property
    def skipped_rows(self) -> list[pa.Table]:
        """The rows without an answer in the last staging."""
        return [table for result in self.done.values() for table in result.skipped_rows]
