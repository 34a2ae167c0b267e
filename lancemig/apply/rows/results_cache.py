"""A cache of what row functions returned while their step is executed: no row is computed twice.

A function may be slow, other writers may commit in between, and the process may die. Results are stored by
row address, together with the state of the columns that the function reads: while the files of a fragment for
these columns are the same, so are the results, for functions are pure. Rows that a compaction moved are
matched by the values that the function read.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.environment import Watch, no_watch
from lancemig.apply.rows.calls import CallSize
from lancemig.apply.rows.values import call_function, chosen, fitted, whole
from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.keys import matches
from lancemig.catalog.operations import FunctionCall
from lancemig.catalog.sources import REASON, UNKNOWN
from lancemig.errors import StoreError
from lancemig.store.lance import ROW_ADDRESS, LanceFragment, Table, quoted
from lancemig.store.objects import Objects, PreconditionFailed

Function = Callable[[pa.RecordBatch], Any]

FindResults = Callable[[int, str], pa.Table | None]
"""Looks up the results for the rows of a fragment (by id) in a state."""

KEEP_EVERY = timedelta(seconds=5)
"""How much computing a death may cost, in addition to the call that is being made."""

CHEAP = timedelta(seconds=1)
"""Results that take less to compute are not searched for among moved rows."""

_MOST = 65_536
"""The most rows in a call."""

_ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")
_STATE = "place"
"""The column of stored results with the state of their fragment."""


def fragment_state(table: Table, fragment: LanceFragment, reads: Sequence[str]) -> str:
    """The id of a fragment and the state of the columns that are read of it."""
    return f"{fragment.fragment_id}:{table.state_of(fragment, reads)}"


def moved_results(earlier: Table, table: Table, reads: Sequence[str], find: FindResults) -> pa.Table | None:
    """The results for rows of fragments that `earlier` has and `table` has not, with the values read.

    Returns:
        A table with the columns of the results, and `read:PATH` for each path that was read; None where there
        are no results, or rows cannot be matched by these columns.
    """
    removed = [fragment for fragment in earlier.fragments if fragment.fragment_id not in table.fragment_ids]
    results = [rows for fragment in removed for rows in _with_values_read(earlier, fragment, reads, find)]
    return pa.concat_tables(results) if results else None


def _with_values_read(
    earlier: Table, fragment: LanceFragment, reads: Sequence[str], find: FindResults
) -> Iterator[pa.Table]:
    results = find(fragment.fragment_id, fragment_state(earlier, fragment, reads))
    if results is None:
        return
    columns = {path: quoted(path) for path in reads}
    for batch in earlier.batches(columns, fragments=[fragment], addresses=True):
        if not _matchable(batch.schema):
            return
        rows = pa.Table.from_batches([batch])
        at = matches(rows, results, [ROW_ADDRESS])
        matched = results.take(pa.array(at[at >= 0])).drop_columns([ROW_ADDRESS])
        values = rows.filter(pa.array(at >= 0))
        for path in reads:
            matched = matched.append_column(f"read:{path}", values.column(path))
        yield matched


def _matchable(columns: pa.Schema) -> bool:
    """Whether rows can be matched by the values of these columns."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_map)
    return not any(is_list(type_) for type_ in columns.types for is_list in lists)


def results_for_moved_rows(pool: pa.Table, rows: pa.RecordBatch, reads: Sequence[str]) -> pa.Table:
    """The results in `pool`, as `moved_results` returns them, for those of `rows` with the same values."""
    wanted = pa.Table.from_batches([rows])
    values = pool.select([f"read:{path}" for path in reads]).rename_columns(list(reads))
    at = matches(wanted, values, reads)
    results = pool.drop_columns([f"read:{path}" for path in reads]).take(pa.array(at[at >= 0]))
    return results.append_column(ROW_ADDRESS, wanted.column(ROW_ADDRESS).filter(pa.array(at >= 0)))


class ResultStore:
    """Results that outlive the process: objects below a folder.

    Each holds results for a range of fragments of one version of the table; its key says which.
    """

    def __init__(self, objects: Objects, folder: str, renew_lease: Callable[[], None]) -> None:
        self.objects = objects
        self.folder = folder
        self.renew_lease = renew_lease
        self.keys = sorted(item.key for item in objects.list(folder))
        self._cached = lru_cache(maxsize=4)(self._load)

    def put(self, results: Sequence["_ResultBatch"]) -> None:
        """Store these results, all of one version of the table, as one object."""
        batches = [one.rows.append_column(_STATE, pa.repeat(one.state, one.rows.num_rows)) for one in results]
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batches[0].schema, options=_ZSTD) as stream:
            for batch in batches:
                stream.write_batch(batch)
        ids = [one.fragment for one in results]
        numbers = min(ids), max(ids), results[0].version, len(self.keys)
        self.renew_lease()
        key = f"{self.folder}{'-'.join(f'{number:010d}' for number in numbers)}.arrow"
        outcome = self.objects.write_if(key, sink.getvalue(), None)
        if not isinstance(outcome, PreconditionFailed):
            self.keys.append(key)

    def get(self, fragment: int, state: str) -> Iterator[pa.Table]:
        """The stored results for a fragment in this state."""
        for key in self.keys:
            first, last, *_ = key.removeprefix(self.folder).split("-")
            if int(first) <= fragment <= int(last):
                results = self._cached(key)
                if results is not None:
                    yield results.filter(pc.equal(results.column(_STATE), state)).drop_columns([_STATE])

    def versions(self) -> set[int]:
        """The versions of the table for whose rows there are results."""
        return {int(key.removeprefix(self.folder).split("-")[2]) for key in self.keys}

    def _load(self, key: str) -> pa.Table | None:
        stored = self.objects.read(key)
        if stored is None:
            return None
        with pa.ipc.open_stream(stored.body) as stream:
            return stream.read_all()


@dataclass(frozen=True)
class _ResultBatch:
    """The results for rows of one fragment."""

    version: int
    """The version of the table."""

    fragment: int

    state: str
    """The state of the fragment, as `fragment_state` gives it."""

    rows: pa.RecordBatch
    """The results, with the addresses of the rows."""

    @cached_property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest address."""
        return _address_range(self.rows)

    def may_have(self, rows: pa.RecordBatch | None) -> bool:
        """Whether there may be results for one of `rows` (None: any row) among these."""
        if rows is None or not (rows.num_rows and self.rows.num_rows):
            return True
        first, last = _address_range(rows)
        return first <= self.range[1] and self.range[0] <= last


class FunctionResultCache:
    """Calls a row function, with more rows a call the quicker it is, and keeps its results."""

    def __init__(
        self,
        now: Callable[[], datetime],
        store: ResultStore | None = None,
        open_version: Callable[[int], Table | None] = lambda _: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make an empty cache, or one with the results that are stored.

        Args:
            now: The clock.
            store: Where results are stored; without one, nothing is kept.
            open_version: Opens another version of the table; None where it was removed.
            sleep: Waits before a function is called again.
        """
        self.now = now
        self.sleep = sleep
        self.store = store
        self.open_version = open_version
        self._moved_results = lru_cache(maxsize=1)(self._find_moved_results)
        self._size = CallSize(now, _MOST)
        self._unstored: list[_ResultBatch] = []
        self._stored_at = now()
        self._computed_rows, self._computing_time = 0, timedelta()

    @classmethod
    def in_memory(cls) -> "FunctionResultCache":
        """A cache for one staging, without a store."""
        return cls(lambda: datetime.min)

    def compute(
        self,
        using: Function,
        reads: Sequence[str],
        fields: Sequence[pa.Field],
        table: Table,
        fragment: LanceFragment,
        rows: pa.RecordBatch,
        watch: Watch = no_watch,
        again: FunctionCall | None = None,
    ) -> pa.RecordBatch:
        """The results of a function for rows of a fragment, from the cache or from calls.

        Args:
            using: The function.
            reads: The paths that it reads.
            fields: The columns that it returns.
            table: The pinned table.
            fragment: The fragment of all rows.
            rows: The paths that are read, and the address of each row.
            watch: Called with the rows that have a result, as soon as they have it.
            again: How often the function is called again after an exception.

        Returns:
            The fields, `__unknown__`, `__reason__` and the address of each row. The fields are null where the
            function has no answer.

        Raises:
            FunctionFailed: The function raised an exception; all earlier results are stored.
            PlanError: The function returned what does not fit.
        """
        state = fragment_state(table, fragment, reads)
        call = partial(_call, using, reads, fields, table.name, again=again, sleep=self.sleep)
        source = (table.version, fragment.fragment_id, state)
        cached = self._find(fragment.fragment_id, state, rows)
        if cached is None:
            cached = self._find_moved(table, rows, tuple(reads))
        at = pc.index_in(rows.column(ROW_ADDRESS), cached.column(ROW_ADDRESS)) if cached else None
        if cached is None or at is None or at.null_count == len(at):
            return pa.concat_batches(self._compute(call, source, rows, watch))
        missing = rows.filter(pc.invert(at.is_valid()))
        watch(rows.num_rows - missing.num_rows, 0)
        computed = list(self._compute(call, source, missing, watch))
        results = pa.concat_tables([cached, pa.Table.from_batches(computed, schema=cached.schema)])
        order = pc.index_in(rows.column(ROW_ADDRESS), results.column(ROW_ADDRESS))
        columns = [whole(column) for column in results.take(order).columns]
        return pa.record_batch(columns, schema=results.schema)

    def flush(self) -> None:
        """Store the results that are not stored yet."""
        if self.store and self._unstored:
            self.store.put(self._unstored)
        self._unstored = []
        self._stored_at = self.now()

    def _find(self, fragment: int, state: str, rows: pa.RecordBatch | None = None) -> pa.Table | None:
        """The results for a fragment in this state: all stored ones, and others that `rows` may need."""
        unstored = [one for one in self._unstored if one.state == state and one.may_have(rows)]
        stored = self.store.get(fragment, state) if self.store else ()
        found = [*stored, *(pa.Table.from_batches([one.rows]) for one in unstored)]
        found = [table for table in found if table.num_rows]
        return pa.concat_tables(found) if found else None

    def _find_moved(self, table: Table, rows: pa.RecordBatch, reads: tuple[str, ...]) -> pa.Table | None:
        """The results for these rows from before a compaction moved them."""
        if self._computing_time * rows.num_rows < CHEAP * self._computed_rows:
            return None
        pool = self._moved_results(table, reads)
        if pool is None:
            return None
        results = results_for_moved_rows(pool, rows, reads)
        return results if results.num_rows else None

    def _find_moved_results(self, table: Table, reads: tuple[str, ...]) -> pa.Table | None:
        versions = {one.version for one in self._unstored} | (self.store.versions() if self.store else set())
        earlier = (self.open_version(version) for version in sorted(versions - {table.version}))
        pools = [moved_results(one, table, reads, self._find) for one in earlier if one is not None]
        pools = [pool for pool in pools if pool is not None]
        return pa.concat_tables(pools) if pools else None

    def _compute(
        self,
        call: Callable[[pa.RecordBatch], pa.RecordBatch],
        source: tuple[int, int, str],
        rows: pa.RecordBatch,
        watch: Watch,
    ) -> Iterator[pa.RecordBatch]:
        """Call the function for rows of a `source`: version of the table, id and state of the fragment."""
        start = 0
        while start < rows.num_rows:
            part = rows.slice(start, self._size.rows)
            start += part.num_rows
            try:
                results, took = self._size.timed(partial(call, part))
            except (Exception, KeyboardInterrupt):
                # What the function raised says more than that the store fails as well.
                with suppress(StoreError):
                    self.flush()
                raise
            self._computed_rows += part.num_rows
            self._computing_time += took
            if self.store:
                if self._unstored and self._unstored[0].version != source[0]:
                    self.flush()
                self._unstored.append(_ResultBatch(*source, results))
                if self.now() - self._stored_at > KEEP_EVERY:
                    self.flush()
            watch(part.num_rows, part.nbytes)
            yield results


def _call(
    using: Function,
    reads: Sequence[str],
    fields: Sequence[pa.Field],
    table: str,
    rows: pa.RecordBatch,
    again: FunctionCall | None,
    sleep: Callable[[float], None],
) -> pa.RecordBatch:
    given = pa.record_batch([rows.column(path) for path in reads], names=list(reads))
    answer = call_function(using, given, [field.name for field in fields], again, sleep)
    values = {
        field.name: _null_where_unknown(answer.columns[field.name], answer.unknown, field, table)
        for field in fields
    }
    return pa.record_batch(
        {
            **values,
            UNKNOWN: answer.unknown,
            REASON: answer.reason,
            ROW_ADDRESS: rows.column(ROW_ADDRESS),
        }
    )


def _null_where_unknown(values: pa.Array, unknown: pa.BooleanArray, field: pa.Field, table: str) -> pa.Array:
    """The values in the field's type. Those of unknown rows are dropped first, so they need not fit."""
    if pc.any(unknown).as_py():
        values = chosen(unknown, nulls(len(values), values.type), values)
    return fitted(values, field.with_nullable(True), f"{table}.{field.name}")


def _address_range(rows: pa.RecordBatch) -> tuple[int, int]:
    ends = pc.min_max(rows.column(ROW_ADDRESS))
    return ends["min"].as_py(), ends["max"].as_py()
