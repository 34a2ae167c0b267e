"""The key of a table, checked in bounded memory: no key is null, and none occurs twice.

A `KeyScan` hashes the keys of a stream of batches into a temporary file and searches it part by part, so that
only some million hashes are in memory at a time. Rows whose hashes are equal are then read again and compared
by their values, since two keys may have the same hash.
"""

import errno
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.catalog.hashes import Hashes, hash_rows, hash_values
from lancemig.catalog.keys import Positions, comparable, format_key
from lancemig.catalog.operations import DeduplicateRows
from lancemig.catalog.sources import count_text
from lancemig.errors import PlanError, StoreError
from lancemig.revisions.render import render_operation
from lancemig.store.lance import Table
from lancemig.store.lance.table import MANY

HASHES_AT_A_TIME = 4_000_000
"""The number of hashes in memory while equal ones are searched."""

_CHUNK = 1 << 20
_MAX_SUSPECTS = 10_000
"""The number of keys that are compared by value; with more, some are equal beyond doubt."""

_MAX_ROWS = 50_000
_EXAMPLES = 3

Batches = Callable[[], Iterable[pa.RecordBatch]]
"""Gives the batches of the same rows each time."""


@dataclass(frozen=True)
class KeyFaults:
    """What is wrong with the keys of a table."""

    nulls: dict[str, int] = field(default_factory=dict)
    """The number of null values, by key column."""

    repeated: int = 0
    """The number of keys that occur more than once."""

    examples: tuple[str, ...] = ()
    """The first of them, with the number of their rows."""

    def __bool__(self) -> bool:
        return bool(self.nulls or self.repeated)

    @property
    def text(self) -> str:
        """`2 keys occur more than once, for example id='a' (2 rows); id is null in 3 rows`."""
        parts = []
        if self.repeated:
            keys = "1 key occurs" if self.repeated == 1 else f"{self.repeated:,} keys occur"
            parts.append(f"{keys} more than once, for example {'; '.join(self.examples)}")
        parts += [f"{name} is null in {count_text(rows, 'row')}" for name, rows in self.nulls.items()]
        return "; ".join(parts)


@contextmanager
def _naming_the_folder() -> Iterator[None]:
    """Raise a StoreError that names the folder of temporary files where it has no space left."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StoreError(
            f"the temporary folder {tempfile.gettempdir()} is full ({error.strerror}); the check of keys "
            "writes to it",
            next_step="set TMPDIR to a folder with more space, then run the same command again",
        ) from error


class TemporaryBytes:
    """A temporary file that pieces are appended to. Safe to use in several threads."""

    def __init__(self) -> None:
        with _naming_the_folder():
            # It stays open until close.
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="lancemig-keys-")  # noqa: SIM115
        self._size = 0
        self._lock = threading.Lock()

    def append(self, piece: bytes | memoryview) -> tuple[int, int]:
        """Append `piece`; gives its position and length. StoreError where the folder is full."""
        with self._lock, _naming_the_folder():
            at = self._size
            self._file.seek(at)
            self._file.write(piece)
            self._file.flush()
            self._size += len(piece)
        return at, len(piece)

    def read(self, at: int, length: int) -> bytes:
        """At most `length` bytes from a position on."""
        with self._lock:
            self._file.seek(at)
            return self._file.read(length)

    def close(self) -> None:
        """Remove the file."""
        # What could not be written is written once more by close.
        with suppress(OSError):
            self._file.close()


class KeptRows:
    """Rows in a temporary file, to be read again without asking their source again."""

    def __init__(self) -> None:
        self._bytes = TemporaryBytes()

    def add(self, rows: pa.Table) -> tuple[int, int]:
        """Append rows; gives where they are."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        return self._bytes.append(memoryview(sink.getvalue()))

    def read(self, piece: tuple[int, int]) -> pa.Table:
        """The rows of one call of `add`."""
        return pa.ipc.open_stream(self._bytes.read(*piece)).read_all()

    def close(self) -> None:
        """Remove the temporary file."""
        self._bytes.close()


class KeyScan:
    """Collects the hashes of keys, and finds those that occur more than once.

    A row with a null in its key is counted in `nulls`, and has no hash.

    Args:
        key: The names of the key columns.
    """

    def __init__(self, key: Sequence[str]) -> None:
        self.key = tuple(key)
        self.nulls: Counter[str] = Counter()
        self.rows = 0
        self._hashes = TemporaryBytes()

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows; the batch may have other columns as well."""
        self.nulls.update({name: n for name in self.key if (n := batch.column(name).null_count)})
        _, hashes = hashed_keys(batch, self.key)
        self.rows += len(hashes)
        self._hashes.append(hashes.tobytes())

    def watched(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, each added when it is passed on."""
        for batch in batches:
            self.add(batch)
            yield batch

    def repeated(self) -> tuple[int, Hashes]:
        """The number of hashes that occur more than once, and the first of them."""
        parts = max(-(-self.rows // HASHES_AT_A_TIME), 1)
        count, found = 0, np.zeros(0, np.uint64)
        for part in range(parts):
            hashes = np.concatenate([np.zeros(0, np.uint64), *self._part(part, parts)])
            hashes.sort()
            again = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
            count += len(again)
            found = np.concatenate([found, again[: _MAX_SUSPECTS - len(found)]])
        return count, found

    def _part(self, part: int, parts: int) -> Iterator[Hashes]:
        at = 0
        while piece := self._hashes.read(at, 8 * _CHUNK):
            at += len(piece)
            hashes = np.frombuffer(piece, np.uint64)
            yield hashes if parts == 1 else hashes[hashes % np.uint64(parts) == part]

    def close(self) -> None:
        """Remove the temporary file."""
        self._hashes.close()

    def faults(self, batches: Batches) -> KeyFaults:
        """What is wrong with the keys; `batches` gives the same rows again if keys have to be compared."""
        count, suspects = self.repeated()
        seen = _occurrences(batches(), self.key, suspects) if count else []
        repeated = [each for each in seen if each.rows > 1]
        # With so many equal hashes, no more than a few can be of different keys.
        complete = count <= _MAX_SUSPECTS and sum(each.rows for each in seen) < _MAX_ROWS
        examples = tuple(f"{each.text} ({count_text(each.rows, 'row')})" for each in repeated[:_EXAMPLES])
        return KeyFaults(dict(self.nulls), len(repeated) if complete else count, examples)


def hashed_keys(batch: pa.RecordBatch, key: Sequence[str]) -> tuple[Positions, Hashes]:
    """The positions of the rows whose key has no null, and a hash of each of these keys.

    The hashes are equal for keys that SQL finds equal.
    """
    columns = [batch.column(name) for name in key]
    hashes = hash_rows([hash_values(_normalised(column)) for column in columns], batch.num_rows)
    whole = np.ones(batch.num_rows, np.bool_)
    for name in key:
        column = batch.column(name)
        if column.null_count:
            whole &= column.is_valid().to_numpy(zero_copy_only=False)
    return np.flatnonzero(whole), hashes[whole]


def _normalised(array: pa.Array) -> pa.Array:
    """The values with one bit pattern for values that are equal: 0.0 and -0.0, all NaNs, structs of them."""
    array = comparable(array)
    of = array.type
    if pa.types.is_floating(of):
        return pc.if_else(pc.is_nan(array), pa.scalar(float("nan"), of), array)
    if pa.types.is_timestamp(of) or pa.types.is_time64(of) or pa.types.is_duration(of):
        # Python's types of time have no nanoseconds.
        return array.view(pa.int64())
    if pa.types.is_struct(of) and of.num_fields:
        fields = [_normalised(each) for each in array.flatten()]
        names = [of.field(index).name for index in range(of.num_fields)]
        return pa.StructArray.from_arrays(fields, names, mask=array.is_null())
    return array


@dataclass
class _Occurrence:
    """A key, and how many of its rows were seen."""

    text: str
    rows: int = 0


def _occurrences(batches: Iterable[pa.RecordBatch], key: Sequence[str], wanted: Hashes) -> list[_Occurrence]:
    """The keys whose hash is one of `wanted`, in the order of their first rows."""
    seen: dict[tuple[str, ...], _Occurrence] = {}
    rows_seen = 0
    for batch in batches:
        at, hashes = hashed_keys(batch, key)
        at = at[np.isin(hashes, wanted)]
        if not len(at):
            continue
        rows = pa.Table.from_batches([batch.select(list(key)).take(pa.array(at))])
        columns = [map(repr, _normalised(rows.column(name).combine_chunks()).to_pylist()) for name in key]
        for position, values in enumerate(zip(*columns, strict=True)):
            if values not in seen:
                seen[values] = _Occurrence(format_key(rows, key, position))
            seen[values].rows += 1
        rows_seen += len(at)
        if rows_seen >= _MAX_ROWS:
            break
    return list(seen.values())


def key_faults(table: Table, key: Sequence[str]) -> KeyFaults:
    """What is wrong with the keys of a pinned table; reads its key columns, in bounded memory."""

    def batches() -> Iterator[pa.RecordBatch]:
        return table.batches(list(key), batch_size=MANY)

    return faults_of(batches, key)


def faults_of(batches: Batches, key: Sequence[str]) -> KeyFaults:
    """What is wrong with the keys of rows that can be read twice; in bounded memory."""
    with closing(KeyScan(key)) as scan:
        for batch in batches():
            scan.add(batch)
        return scan.faults(batches)


def require_key_afterwards(table: Table, key: Sequence[str], batches: Batches) -> None:
    """Refuse null and repeated keys that a step would leave in a table.

    Args:
        table: The table before the step.
        key: The declared key.
        batches: The rows of the table after the step, with the key columns.

    Raises:
        PlanError: a key would be null or occur more than once; it has the first ones.
    """
    faults = faults_of(batches, key)
    if faults:
        raise PlanError(
            f"the key {', '.join(key)} would be broken: {faults.text}; the step was not committed",
            next_step=f'change the operation, or remove the key first: SetKey(table="{table.name}", key=())',
        )


def require_key(table: Table, key: Sequence[str]) -> None:
    """Refuse null and repeated keys of a table.

    Raises:
        PlanError: a key is null or occurs more than once; it has the first ones.
    """
    faults = key_faults(table, key)
    if faults:
        raise PlanError(
            f"table {table.name!r} cannot have the key {', '.join(key)}: {faults.text}",
            next_step=_cure(table.name, key, faults),
        )


def _cure(table: str, key: Sequence[str], faults: KeyFaults) -> str:
    """What to put into the migration so that the table can have the key."""
    steps = []
    if faults.nulls:
        steps.append("fill the nulls in an earlier operation: UpdateRows or BackfillColumns")
    if faults.repeated:
        line = render_operation(DeduplicateRows(table=table, key=tuple(key)))
        steps.append(f"delete the repeated rows in an earlier operation: {line}")
    return f"{'; '.join(steps)}; or declare another key"
