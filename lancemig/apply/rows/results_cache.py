"""What a row function has answered, kept while its step is under way: no row is asked about twice.

A function may be slow, and other writers may come in between, or the process may die. Answers are kept by row
address, together with the state of the columns that the function reads: while a fragment's files for these
columns are the same, so is the answer, for functions are pure. Rows that a compaction moved are found again
by what was read of them.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.values import answered, chosen, fitted
from lancemig.catalog.keys import matches
from lancemig.catalog.sources import REASON, UNKNOWN
from lancemig.store.lance import ROW_ADDRESS, LanceFragment, Table, quoted
from lancemig.store.objects import Objects, PreconditionFailed

Known = Callable[[int, str], pa.Table | None]
"""The answers that were kept for a fragment in a state."""


def comparable(columns: pa.Schema) -> bool:
    """Whether rows can be found by these columns."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_map)
    return not any(is_(of) for of in columns.types for is_ in lists)


def moved_results(earlier: Table, table: Table, reads: Sequence[str], known: Known) -> pa.Table | None:
    """The answers to rows of fragments that `earlier` has and `table` has not, and what was read of them.

    None where there are none, or where rows cannot be found by what was read.
    """
    gone = [fragment for fragment in earlier.fragments if fragment.fragment_id not in table.fragment_ids]
    found = [rows for fragment in gone for rows in _answers(earlier, fragment, reads, known)]
    return pa.concat_tables(found) if found else None


def _answers(
    earlier: Table, fragment: LanceFragment, reads: Sequence[str], known: Known
) -> Iterator[pa.Table]:
    answers = known(fragment.fragment_id, fragment_state(earlier, fragment, reads))
    if answers is None:
        return
    asked = {path: quoted(path) for path in reads}
    for batch in earlier.batches(asked, fragments=[fragment], addresses=True):
        if not comparable(batch.schema):
            return
        rows = pa.Table.from_batches([batch])
        at = matches(rows, answers, [ROW_ADDRESS])
        there = answers.take(pa.array(at[at >= 0])).drop_columns([ROW_ADDRESS])
        given = (
            rows.filter(pa.array(at >= 0)).select(list(reads)).rename_columns([f"read:{p}" for p in reads])
        )
        for name in given.column_names:
            there = there.append_column(name, given.column(name))
        yield there


def fragment_state(table: Table, fragment: LanceFragment, reads: Sequence[str]) -> str:
    """What names a fragment in the state of what is read of it."""
    return f"{fragment.fragment_id}:{table.state_of(fragment, reads)}"


def results_for_moved_rows(pool: pa.Table, given: pa.RecordBatch, reads: Sequence[str]) -> pa.Table:
    """The answers in `pool` to rows of `given` that read the same, at the addresses that they have now."""
    rows = pa.Table.from_batches([given])
    read = pool.select([f"read:{path}" for path in reads]).rename_columns(list(reads))
    at = matches(rows, read, reads)
    found = pool.drop_columns([f"read:{path}" for path in reads]).take(pa.array(at[at >= 0]))
    return found.append_column(ROW_ADDRESS, rows.column(ROW_ADDRESS).filter(pa.array(at >= 0)))


Function = Callable[[pa.RecordBatch], Any]

KEEP_EVERY = timedelta(seconds=5)
"""How much work a death may cost, but for the call that is under way."""

_ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")

CHEAP = timedelta(seconds=1)
"""What is asked again sooner than that is not looked for where it lay before."""

_QUICK, _SLOW = timedelta(seconds=0.2), timedelta(seconds=1)
_FEWEST, _MOST = 1, 65_536
_PLACE = "place"


class ResultStore:
    """Where answers are kept across deaths: objects under `folder`.

    Each is for a range of fragments, of one version of the table; its key says which.
    """

    def __init__(self, objects: Objects, folder: str, hold: Callable[[], None]) -> None:
        self.objects = objects
        self.folder = folder
        self.hold = hold
        self.keys = sorted(item.key for item in objects.list(folder))
        self._read = lru_cache(maxsize=4)(self._table)

    def put(self, answers: Sequence["_Answered"]) -> None:
        """Keep these answers, as one object."""
        rows = [one.rows.append_column(_PLACE, _repeated(one.place, one.rows.num_rows)) for one in answers]
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, rows[0].schema, options=_ZSTD) as stream:
            for batch in rows:
                stream.write_batch(batch)
        ids = [one.fragment for one in answers]
        numbers = min(ids), max(ids), answers[0].version, len(self.keys)
        self.hold()
        key = f"{self.folder}{'-'.join(f'{number:010d}' for number in numbers)}.arrow"
        outcome = self.objects.write_if(key, sink.getvalue(), None)
        if not isinstance(outcome, PreconditionFailed):
            self.keys.append(key)

    def get(self, fragment: int, place: str) -> Iterator[pa.Table]:
        """The rows kept for this fragment in this state."""
        for key in self.keys:
            first, last, *_ = key.removeprefix(self.folder).split("-")
            if int(first) <= fragment <= int(last):
                kept = self._read(key)
                if kept is not None:
                    yield kept.filter(pc.equal(kept.column(_PLACE), place)).drop_columns([_PLACE])

    def versions(self) -> set[int]:
        """The versions of the table whose rows were answered for."""
        return {int(key.removeprefix(self.folder).split("-")[2]) for key in self.keys}

    def _table(self, key: str) -> pa.Table | None:
        found = self.objects.read(key)
        if found is None:
            return None
        with pa.ipc.open_stream(found.body) as stream:
            return stream.read_all()


@dataclass(frozen=True)
class _Answered:
    """What was answered for rows of one fragment; `place` names the state of what was read."""

    version: int
    fragment: int
    place: str
    rows: pa.RecordBatch

    @cached_property
    def range(self) -> tuple[int, int]:
        """The lowest and the highest address."""
        return _range(self.rows)

    def concerns(self, given: pa.RecordBatch | None) -> bool:
        """Whether there may be answers to rows of `given` among them (None: of any)."""
        if given is None or not (given.num_rows and self.rows.num_rows):
            return True
        first, last = _range(given)
        return first <= self.range[1] and self.range[0] <= last


class FunctionResultCache:
    """Asks a function about rows, a few at first and more while it is quick, and keeps what it answered."""

    def __init__(
        self,
        now: Callable[[], datetime],
        results: ResultStore | None = None,
        at: Callable[[int], Table | None] = lambda _: None,
    ) -> None:
        """`at` opens another version of the table, as far as it is there."""
        self.now = now
        self.shelf = results
        self.at = at
        self._pool = lru_cache(maxsize=1)(self._moved)
        self._size = 1024
        self._buffer: list[_Answered] = []
        self._since = now()
        self._asked, self._spent = 0, timedelta()

    @classmethod
    def in_memory(cls) -> "FunctionResultCache":
        """Answers that nobody asks for again."""
        return cls(lambda: datetime.min)

    def of(
        self,
        using: Function,
        reads: Sequence[str],
        fields: Sequence[pa.Field],
        table: Table,
        fragment: LanceFragment,
        given: pa.RecordBatch,
    ) -> pa.RecordBatch:
        """`fields`, `__unknown__` and `__reason__` for each row of `given`, which has `reads` and addresses.

        Where there is no answer the fields are null. Raises PlanError for a function that fails, or answers
        with what does not fit.
        """
        place = fragment_state(table, fragment, reads)
        ask = partial(_asked, using, reads, fields, table.name)
        known = self._known(fragment.fragment_id, place, given)
        if known is None:
            known = self._elsewhere(table, given, tuple(reads))
        at = pc.index_in(given.column(ROW_ADDRESS), known.column(ROW_ADDRESS)) if known else None
        if known is None or at is None or at.null_count == len(at):
            return pa.concat_batches(self._fresh(ask, (table.version, fragment.fragment_id, place), given))
        there = at.is_valid()
        rest = given.filter(pc.invert(there))
        asked = list(self._fresh(ask, (table.version, fragment.fragment_id, place), rest))
        both = pa.concat_tables([known, pa.Table.from_batches(asked, schema=known.schema)])
        order = pc.index_in(given.column(ROW_ADDRESS), both.column(ROW_ADDRESS))
        return pa.record_batch([_one(column) for column in both.take(order).columns], schema=both.schema)

    def _elsewhere(self, table: Table, given: pa.RecordBatch, reads: tuple[str, ...]) -> pa.Table | None:
        """Answers to these rows where they lay before a compaction moved them here."""
        if self._spent * given.num_rows < CHEAP * self._asked:
            return None
        pool = self._pool(table, reads)
        if pool is None:
            return None
        found = results_for_moved_rows(pool, given, reads)
        return found if found.num_rows else None

    def _moved(self, table: Table, reads: tuple[str, ...]) -> pa.Table | None:
        versions = {one.version for one in self._buffer} | (self.shelf.versions() if self.shelf else set())
        earlier = (self.at(version) for version in sorted(versions - {table.version}))
        found = [moved_results(one, table, reads, self._known) for one in earlier if one is not None]
        there = [rows for rows in found if rows is not None]
        return pa.concat_tables(there) if there else None

    def flush(self) -> None:
        """Keep what was answered since the last time."""
        if self.shelf and self._buffer:
            self.shelf.put(self._buffer)
        self._buffer = []
        self._since = self.now()

    def _known(self, fragment: int, place: str, given: pa.RecordBatch | None = None) -> pa.Table | None:
        """What was answered for the fragment in this state; of this process, what may concern `given`."""
        same = [one for one in self._buffer if one.place == place and one.concerns(given)]
        fresh = [pa.Table.from_batches([one.rows]) for one in same]
        found = [*(self.shelf.get(fragment, place) if self.shelf else ()), *fresh]
        found = [table for table in found if table.num_rows]
        return pa.concat_tables(found) if found else None

    def _fresh(
        self,
        ask: Callable[[pa.RecordBatch], pa.RecordBatch],
        where: tuple[int, int, str],
        given: pa.RecordBatch,
    ) -> Iterator[pa.RecordBatch]:
        start = 0
        while start < given.num_rows:
            part = given.slice(start, self._size)
            start += part.num_rows
            began = self.now()
            batch = ask(part)
            took = self.now() - began
            self._asked, self._spent = self._asked + part.num_rows, self._spent + took
            if took < _QUICK:
                self._size = min(self._size * 2, _MOST)
            elif took > _SLOW:
                self._size = max(self._size // 2, _FEWEST)
            if self.shelf:
                if self._buffer and self._buffer[0].version != where[0]:
                    self.flush()
                self._buffer.append(_Answered(*where, batch))
                if self.now() - self._since > KEEP_EVERY:
                    self.flush()
            yield batch


def _asked(
    using: Function,
    reads: Sequence[str],
    fields: Sequence[pa.Field],
    table: str,
    part: pa.RecordBatch,
) -> pa.RecordBatch:
    given = pa.record_batch([part.column(path) for path in reads], names=list(reads))
    answer = answered(using, given, [field.name for field in fields])
    values = {
        field.name: _settled(answer.columns[field.name], answer.unknown, field, table) for field in fields
    }
    return pa.record_batch(
        {
            **values,
            UNKNOWN: answer.unknown,
            REASON: answer.reason,
            ROW_ADDRESS: part.column(ROW_ADDRESS),
        }
    )


def _settled(values: pa.Array, unknown: pa.BooleanArray, field: pa.Field, table: str) -> pa.Array:
    """Values in the field's type; where there is no answer, what was given is not even looked at."""
    if pc.any(unknown).as_py():
        values = chosen(unknown, pa.nulls(len(values), values.type), values)
    return fitted(values, field.with_nullable(True), f"{table}.{field.name}")


def _repeated(text: str, length: int) -> pa.StringArray:
    return pa.repeat(pa.scalar(text), length)


def _range(rows: pa.RecordBatch) -> tuple[int, int]:
    ends = pc.min_max(rows.column(ROW_ADDRESS))
    return ends["min"].as_py(), ends["max"].as_py()


def _one(array: pa.ChunkedArray) -> pa.Array:
    combined = array.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
