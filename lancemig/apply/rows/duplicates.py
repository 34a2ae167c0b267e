"""Rows with the same key: which of them `DeduplicateRows` deletes, and which one stays.

Keys are compared by their values, not by hashes. DuckDB groups the rows and spills what does not fit into
memory, so that memory does not grow with the number of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.environment import Watch, no_watch
from lancemig.apply.rows.context import RowCounts, StagingContext, check_limits
from lancemig.apply.rows.values import child
from lancemig.catalog.arrow_arrays import empty_batch
from lancemig.catalog.keys import comparable
from lancemig.catalog.operations import DeduplicateRows
from lancemig.store.lance import MANY, ROW_ADDRESS, Staged, Table, rows_with_equal_keys
from lancemig.store.lance.staging import RepeatedRows, deleted_repeats

_FRAGMENT_BITS = 32
_IN_FRAGMENT = (1 << _FRAGMENT_BITS) - 1


def staged_removal(operation: DeduplicateRows, table: Table, context: StagingContext) -> Staged | None:
    """Stage the removal of repeated rows; None if there are none.

    Raises:
        BrakeTripped: More rows would be deleted than the operation allows.
    """
    staged = deleted_repeats(table, repeated_rows(operation, table, context.watch), operation.describe())
    if staged is not None and context.check_limits:
        check_limits(operation, RowCounts(staged.changed))
    return staged


@dataclass
class RepeatCounts:
    """The result of a search for repeated keys."""

    deleted: int = 0
    """Rows that are deleted."""

    keys: int = 0
    """Keys that several rows have."""

    nulls: int = 0
    """Rows with a null in their key, which stay."""


def count_repeats(operation: DeduplicateRows, table: Table) -> RepeatCounts:
    """How many rows the operation deletes, for how many keys."""
    scan = _Scan(operation, table)
    counts = RepeatCounts()
    for _, first in scan.repeated():
        counts.keys += int(first.sum())
        counts.deleted += int(len(first) - first.sum())
    counts.nulls = scan.nulls
    return counts


def repeated_rows(
    operation: DeduplicateRows, table: Table, watch: Watch = no_watch
) -> Iterator[RepeatedRows]:
    """The rows that the operation deletes, and the fragments of those that stay, fragment by fragment."""
    at, offsets, stays = -1, [np.zeros(0, np.int64)], False
    for rows, first in _Scan(operation, table, watch).repeated():
        owners = rows >> _FRAGMENT_BITS
        for place in np.unique(owners).tolist():
            if place != at and at >= 0:
                yield RepeatedRows(table.fragments[at], np.concatenate(offsets), stays)
            if place != at:
                at, offsets, stays = place, [np.zeros(0, np.int64)], False
            mine = owners == place
            offsets.append(rows[mine & ~first] & _IN_FRAGMENT)
            stays = stays or bool((mine & first).any())
    if at >= 0:
        yield RepeatedRows(table.fragments[at], np.concatenate(offsets), stays)


def repeated_groups(operation: DeduplicateRows, table: Table) -> Iterator[tuple[pa.Table, bool]]:
    """Rows with repeated keys, one a table, and whether the row stays; each row that stays before the others.

    A preview: each row is read by itself.
    """
    for rows, first in _Scan(operation, table).repeated(by_group=True):
        for row, stays in zip(rows.tolist(), first.tolist(), strict=True):
            fragment = table.fragments[row >> _FRAGMENT_BITS]
            address = (fragment.fragment_id << _FRAGMENT_BITS) | (row & _IN_FRAGMENT)
            yield table.read(where=f"{ROW_ADDRESS} = {address}", fragments=[fragment]), stays


@dataclass
class _Scan:
    """One scan of the columns that decide which rows are deleted."""

    operation: DeduplicateRows
    table: Table
    watch: Watch = no_watch

    nulls: int = 0
    """Rows with a null in their key, as far as they were read."""

    failures: list[Exception] = field(default_factory=list)
    """What went wrong while rows were read: DuckDB passes on only its text."""

    def repeated(self, *, by_group: bool = False) -> Iterator[tuple[Any, Any]]:
        """Rows with repeated keys: their positions in the table, and whether each one stays.

        Positions are ascending, or of one key after the other.

        A position has the place of the fragment in its upper half, and the offset in its lower half.
        """
        empty = self._given(empty_batch(self._read_schema))
        key = [name for name in empty.schema.names if name.startswith("key")]
        reader = pa.RecordBatchReader.from_batches(empty.schema, self._batches())
        try:
            name = self.table.name
            for batch in rows_with_equal_keys(reader, key, self._order, name, by_group=by_group):
                yield (
                    batch.column("row").to_numpy(zero_copy_only=False),
                    batch.column("first").to_numpy(zero_copy_only=False),
                )
        except Exception as error:
            if self.failures:
                raise self.failures[0] from error
            raise

    @property
    def _read(self) -> list[str]:
        heads = (term.path.partition(".")[0] for term in self.operation.order)
        return list(dict.fromkeys([*self.operation.key, *heads]))

    @property
    def _read_schema(self) -> pa.Schema:
        fields = [self.table.columns.field(name) for name in self._read]
        return pa.schema([*fields, pa.field(ROW_ADDRESS, pa.uint64())])

    @property
    def _order(self) -> list[str]:
        """What decides which row comes first, as SQL over the columns of `_given`."""
        terms = enumerate(self.operation.order)
        order = [f"order{at} {'desc' if term.descending else 'asc'} nulls last" for at, term in terms]
        return [*order, f'"row" {"asc" if self.operation.keep == "first" else "desc"}']

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self.table.batches(self._read, addresses=True, batch_size=MANY):
                self.watch(batch.num_rows, batch.nbytes)
                whole = np.ones(batch.num_rows, np.bool_)
                for name in self.operation.key:
                    whole &= batch.column(name).is_valid().to_numpy(zero_copy_only=False)
                self.nulls += int(batch.num_rows - whole.sum())
                yield self._given(batch.filter(pa.array(whole)))
        except Exception as error:
            self.failures.append(error)
            raise

    def _given(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The position of each row, and the columns by which rows are compared and ordered."""
        columns = {"row": self._positions(batch)}
        keys = [plain for name in self.operation.key for plain in _plain(batch.column(name))]
        columns |= {f"key{at}": values for at, values in enumerate(keys)}
        for at, term in enumerate(self.operation.order):
            head, *rest = term.path.split(".")
            [values] = _plain(child(batch.column(head), rest))
            if pa.types.is_floating(values.type):
                values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
            columns[f"order{at}"] = values
        return pa.record_batch(columns)

    def _positions(self, batch: pa.RecordBatch) -> pa.Array:
        addresses = batch.column(ROW_ADDRESS).to_numpy().astype(np.int64)
        owners, at = np.unique(addresses >> _FRAGMENT_BITS, return_inverse=True)
        places = np.array([self._places[owner] for owner in owners.tolist()], np.int64)
        return pa.array((places[at] << _FRAGMENT_BITS | (addresses & _IN_FRAGMENT)) if len(at) else addresses)

    @cached_property
    def _places(self) -> dict[int, int]:
        """The place of each fragment in the table, by its id: ids are not always in the order of rows."""
        return {fragment.fragment_id: place for place, fragment in enumerate(self.table.fragments)}


def _plain(array: pa.Array) -> list[pa.Array]:
    """The values as columns that DuckDB compares exactly; several for a struct."""
    array = comparable(array)
    of = array.type
    if pa.types.is_struct(of):
        fields = [plain for each in array.flatten() for plain in _plain(each)]
        return [array.is_valid(), *fields]
    if pa.types.is_floating(of):
        return [pc.if_else(pc.is_nan(array), pa.scalar(float("nan"), of), array)]
    if pa.types.is_decimal(of) and (of.bit_width > _DECIMAL_BITS or of.scale < 0):
        return [array.cast(pa.string())]
    if pa.types.is_interval(of):
        return [array.view(pa.binary(of.bit_width // 8))]
    if pa.types.is_temporal(of):
        # DuckDB's times with a zone, of a day and of durations have microseconds.
        return [array.view(pa.int32() if of.bit_width == _SHORT_BITS else pa.int64())]
    return [array]


_DECIMAL_BITS = 128
_SHORT_BITS = 32
