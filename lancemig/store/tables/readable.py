"""A pinned table as DuckDB reads it: columns in types that it knows, projections and filters pushed down."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from lancemig.store.tables.failures import translated
from lancemig.store.tables.table import Table
from lancemig.store.tables.widths import is_blob, rows_at_once

_BATCH_ROWS = 8192
_WIDEST_DECIMAL = 38
_KNOWN_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8")


def readable_type(of: pa.DataType) -> pa.DataType:
    """`of`, or the nearest type that DuckDB reads and that holds every value of it.

    tests/store/test_query.py::test_every_type_is_read_and_filtered has them all.
    """
    if isinstance(of, pa.BaseExtensionType) and of.extension_name not in _KNOWN_EXTENSIONS:
        return readable_type(of.storage_type)
    if pa.types.is_float16(of):
        return pa.float32()
    if pa.types.is_decimal(of):
        return _readable_decimal(of)
    if pa.types.is_struct(of):
        return pa.struct([_readable_field(of.field(place)) for place in range(of.num_fields)])
    if pa.types.is_map(of):
        return pa.map_(readable_type(of.key_type), _readable_field(of.item_field))
    if pa.types.is_fixed_size_list(of):
        return pa.list_(_readable_field(of.value_field), of.list_size)
    if pa.types.is_large_list(of):
        return pa.large_list(_readable_field(of.value_field))
    return pa.list_(_readable_field(of.value_field)) if pa.types.is_list(of) else of


def _readable_decimal(of: pa.DataType) -> pa.DataType:
    """DuckDB's decimals have no negative scale and 38 digits; a longer one is text, which loses none."""
    digits = of.precision - min(of.scale, 0)
    return pa.decimal128(digits, max(of.scale, 0)) if digits <= _WIDEST_DECIMAL else pa.string()


def _readable_field(field: pa.Field) -> pa.Field:
    if is_blob(field):
        return pa.field(field.name, pa.large_binary(), field.nullable)
    return field.with_type(readable_type(field.type))


def _pushable(of: pa.DataType) -> bool:
    """Whether Lance filters by a column of this type exactly as DuckDB does, and does not panic over it."""
    return bool(
        pa.types.is_boolean(of)
        or pa.types.is_signed_integer(of)
        or pa.types.is_string(of)
        or pa.types.is_date32(of)
        or pa.types.is_timestamp(of)
    )


class Readable(ds.Dataset):  # type: ignore[misc]
    """What DuckDB takes for an Arrow dataset: it asks for `schema`, then for a `scanner` per scan.

    `left_out` are columns that SQL could not tell apart, for its names have no case. What went wrong in a
    scan is kept in `failures`, for DuckDB passes on only its text.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.failures: list[Exception] = []
        lowered = Counter(name.lower() for name in table.columns.names)
        self.left_out = tuple(name for name in table.columns.names if lowered[name.lower()] > 1)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns in types that DuckDB reads."""
        return pa.schema([_readable_field(f) for f in self.table.columns if f.name not in self.left_out])

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> "_Scan":  # noqa: A002
        """One scan; nothing is read before its reader is."""
        return _Scan(self, tuple(columns or self.schema.names), filter)

    def chosen(self, names: Sequence[str]) -> pa.Schema:
        """The schema of these columns."""
        return pa.schema([self.schema.field(name) for name in names])

    def named(self, condition: Any) -> list[str]:
        """The columns that an Arrow expression names: those without which it cannot be bound."""
        return [name for name in self.schema.names if not self._binds(condition, without=name)]

    def _binds(self, condition: Any, without: str) -> bool:
        schema = self.chosen([name for name in self.schema.names if name != without])
        try:
            ds.dataset(schema.empty_table()).scanner(filter=condition)
        except pa.ArrowInvalid:
            return False
        return True


class _Scan:
    """A scan of some columns, of the rows that a condition lets through."""

    def __init__(self, of: Readable, columns: tuple[str, ...], condition: Any) -> None:
        self.of, self.columns, self.condition = of, columns, condition

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows as a stream, never more than a few batches of it in memory."""
        with self._kept():
            return self._opened()

    def _opened(self) -> pa.RecordBatchReader:
        if self.condition is None:
            return self._reader(self._scan(self.columns), self.columns)
        named = self.of.named(self.condition)
        scan = self._filtered_by_lance(named)
        if scan is not None:
            return self._reader(scan, self.columns)
        read = list(dict.fromkeys([*self.columns, *named]))
        found = ds.Scanner.from_batches(
            self._reader(self._scan(read), read), columns=list(self.columns), filter=self.condition
        )
        return found.to_reader()

    def _filtered_by_lance(self, named: Sequence[str]) -> Iterator[pa.RecordBatch] | None:
        """The scan with the condition pushed down to Lance; None where Lance cannot be trusted with it."""
        columns = self.of.table.columns
        if not all(_pushable(columns.field(name).type) for name in named):
            return None
        try:
            return self._scan(self.columns, filter=self.condition)
        except Exception:  # noqa: BLE001 - what Lance cannot do, as with paths and some types, Arrow can
            return None

    def _scan(self, columns: Sequence[str], **options: Any) -> Iterator[pa.RecordBatch]:
        # Lance's own limit, batch_size_bytes, cuts batches up once they are whole in memory.
        options |= {
            "blob_handling": "all_binary",
            "batch_size": rows_at_once(self.of.table.dataset, columns, _BATCH_ROWS),
        }
        scanner = self.of.table.dataset.scanner(columns=list(columns), **options)
        # A condition that Lance cannot take is refused here, not with the first batch.
        return iter(scanner.to_reader())

    def _reader(self, batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> pa.RecordBatchReader:
        schema = self.of.chosen(columns)
        return pa.RecordBatchReader.from_batches(schema, self._cast(batches, schema))

    def _cast(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._kept():
            for batch in batches:
                yield batch.cast(schema)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what goes wrong."""
        try:
            with translated(f"reading {self.of.table.name}"):
                yield
        except Exception as error:
            self.of.failures.append(error)
            raise
