"""Comparing, casting and combining arrays of values. Nothing here reads or writes a table."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.calls import called
from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.arrow_types import format_type
from lancemig.catalog.keys import comparable, row_numbers
from lancemig.catalog.operations.base import FunctionCall
from lancemig.catalog.operations.rows import Rule
from lancemig.catalog.sources import REASON, UNKNOWN
from lancemig.errors import PlanError


def repeated(value: bool, length: int) -> pa.BooleanArray:
    """A mask of `length` times the same value."""
    return pa.repeat(pa.scalar(value), length)


def distinct(old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    """Where two arrays of one type differ; null equals null and NaN equals NaN."""
    both_null = pc.and_(old.is_null(), new.is_null())
    one_null = pc.xor(old.is_null(), new.is_null())
    unequal = pc.fill_null(_unequal(old, new), False)
    return pc.and_(pc.or_(one_null, unequal), pc.invert(both_null))


def _unequal(old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    old, new = _comparable(old), _comparable(new)
    of = old.type
    if pa.types.is_floating(of):
        both_nan = pc.and_(pc.is_nan(old), pc.is_nan(new))
        return pc.and_(pc.not_equal(old, new), pc.invert(both_nan))
    if pa.types.is_struct(of):
        parts = [distinct(a, b) for a, b in zip(old.flatten(), new.flatten(), strict=True)]
        return any_of(parts, len(old))
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return _unequal_lists(old, new)
    if pa.types.is_null(of):
        return repeated(False, len(old))
    return pc.not_equal(old, new)


def _comparable(array: pa.Array) -> pa.Array:
    """The values, cast to a type that Arrow can compare."""
    array = comparable(array)
    of = array.type
    if pa.types.is_map(of):
        return array.cast(pa.list_(pa.struct([of.key_field, of.item_field])))
    return array


def _unequal_lists(old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    lengths = pc.equal(pc.list_value_length(old), pc.list_value_length(new))
    alike = pc.and_(pc.fill_null(lengths, False), pc.and_(old.is_valid(), new.is_valid()))
    left, right = (old, new) if alike.true_count == len(old) else (old.filter(alike), new.filter(alike))
    items = distinct(pc.list_flatten(left), pc.list_flatten(right))
    unequal = pc.invert(alike).to_numpy(zero_copy_only=False)
    owners = pc.list_parent_indices(left).filter(items).to_numpy()
    unequal[np.flatnonzero(~unequal)[owners]] = True
    return pa.array(unequal)


def any_of(masks: Iterable[pa.BooleanArray], length: int) -> pa.BooleanArray:
    """Where one of the masks, each of `length`, is true."""
    result = repeated(False, length)
    for mask in masks:
        result = pc.or_(result, mask)
    return result


def chosen(mask: pa.BooleanArray, yes: pa.Array, no: pa.Array) -> pa.Array:
    """The values of `yes` where `mask` is true, of `no` elsewhere. Unlike `pc.if_else`, for every type."""
    if (count := mask.true_count) in (0, len(mask)):
        return yes if count else no
    indices = np.arange(len(mask))
    indices = np.where(mask.to_numpy(zero_copy_only=False), indices, indices + len(yes))
    return pa.concat_arrays([yes, no]).take(pa.array(indices))


def fitted(array: pa.Array, field: pa.Field, where: str) -> pa.Array:
    """`array` cast to the type of `field`; PlanError where a value does not fit, or must not be null."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.type != field.type:
        try:
            array = array.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise PlanError(f"{where} does not fit {format_type(field.type)}: {error}") from error
    if array.null_count and not field.nullable:
        raise PlanError(f"{where} is not nullable, but {array.null_count} new values are null")
    return array


def lossless(array: pa.Array, to: pa.DataType, where: str) -> pa.Array:
    """`array` cast to `to`; PlanError with an example when casting back gives another value.

    Arrow's own safe cast silently lets a float overflow to infinity, and truncates a timestamp to a date.
    """
    try:
        new = array.cast(to)
        back = new.cast(array.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _lossy(where, to, str(error)) from error
    lost = distinct(array, back)
    if pc.any(lost).as_py():
        example = array.filter(lost)[0]
        raise _lossy(where, to, f"{pc.sum(lost)} values change, for example {example}")
    return new


def _lossy(where: str, to: pa.DataType, why: str) -> PlanError:
    return PlanError(
        f"casting {where} to {format_type(to)} would lose data: {why}",
        next_step="give the conversion in the migration: RetypeColumn(…, using=…)",
    )


def with_child(struct: pa.StructArray, path: Sequence[str], child: pa.Array | None) -> pa.StructArray:
    """`struct` with the field at `path` replaced by `child`, or removed if None; null structs stay null."""
    head, *rest = path
    fields, arrays = [], []
    for field, array in zip(struct.type, _children(struct), strict=True):
        if field.name == head and rest:
            array = with_child(array, rest, child)
        elif field.name == head:
            if child is None:
                continue
            array = child
        fields.append(field.with_type(array.type))
        arrays.append(array)
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=struct.is_null())


def _children(struct: pa.StructArray) -> list[pa.Array]:
    return [struct.field(index) for index in range(struct.type.num_fields)]


def child(array: pa.Array, path: Sequence[str]) -> pa.Array:
    """The values of the field at `path` within a struct array; null where the struct is."""
    for name in path:
        array = pc.struct_field(array, name)
    return array


@dataclass(frozen=True)
class Answer:
    """What a row function returned for a batch."""

    columns: dict[str, pa.Array]

    unknown: pa.BooleanArray
    """The rows for which it has no answer."""

    reason: pa.StringArray
    """Why it has no answer for a row."""


def call_function(
    function: Callable[[pa.RecordBatch], Any],
    batch: pa.RecordBatch,
    columns: Sequence[str],
    again: FunctionCall | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Answer:
    """Call a row function.

    Raises:
        FunctionFailed: The function raised, also when it was called `again`.
        PlanError: It returned other columns, lengths or types.
    """
    name = function.__name__
    returned = called(function, batch, again, sleep)
    arrays = _by_name(returned, columns, name)
    unknown, reason = arrays.pop(UNKNOWN, None), arrays.pop(REASON, None)
    if set(arrays) != set(columns):
        raise PlanError(f"{name}() returned the columns {sorted(arrays)}, expected {sorted(columns)}")
    every = [array for array in (*arrays.values(), unknown, reason) if array is not None]
    if any(len(array) != batch.num_rows for array in every):
        raise PlanError(f"{name}() must return as many rows as it receives ({batch.num_rows})")
    if unknown is None:
        unknown = repeated(False, batch.num_rows)
    if not pa.types.is_boolean(unknown.type):
        raise PlanError(f"{name}() returned {UNKNOWN} as {format_type(unknown.type)}, expected bool")
    if reason is None:
        reason = nulls(batch.num_rows, pa.string())
    if not pa.types.is_string(reason.type):
        raise PlanError(f"{name}() returned {REASON} as {format_type(reason.type)}, expected string")
    return Answer(columns=arrays, unknown=pc.fill_null(unknown, False), reason=reason)


def _by_name(returned: Any, columns: Sequence[str], function: str) -> dict[str, pa.Array]:
    if isinstance(returned, pa.Table):
        returned = returned.combine_chunks()
        return {name: whole(returned.column(name)) for name in returned.column_names}
    if isinstance(returned, pa.RecordBatch):
        return {name: returned.column(name) for name in returned.schema.names}
    if isinstance(returned, pa.Array | pa.ChunkedArray) and len(columns) == 1:
        return {columns[0]: whole(returned)}
    raise PlanError(
        f"{function}() returned {type(returned).__name__}; expected a pa.Array (one column) or a "
        "pa.RecordBatch"
    )


def whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values as one array; copied only where there are several chunks."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)


def at_least_delta(old: pa.Array, new: pa.Array, min_delta: float | None) -> pa.BooleanArray:
    """Where a change is at least `min_delta`; always from or to null or NaN, and for other types."""
    number = pa.types.is_integer(old.type) or pa.types.is_floating(old.type)
    if min_delta is None or not number:
        return repeated(True, len(old))
    delta = pc.abs(pc.subtract(new.cast(pa.float64(), safe=False), old.cast(pa.float64(), safe=False)))
    return pc.fill_null(pc.invert(pc.less(delta, min_delta)), True)


def with_columns(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    """The rows with exactly these columns; a column that they lack is null."""
    for field in columns:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, nulls(rows.num_rows, field.type))
    return rows.select(columns.names)


def combined_by_rule(rule: Rule, old: pa.Array, given: pa.Array) -> pa.Array:
    """The table's values `old`, combined with the source's `given`; two arrays of one type and length.

    `max` and `min` give the greater or the smaller value, where null and NaN lose; `coalesce` gives the
    source's value where the table has null; `union` appends the items of the source's list that the table's
    list lacks, each once.
    """
    if rule == "union":
        return _union(old, given)
    if rule == "coalesce":
        return chosen(old.is_null(), given, old)
    return chosen(_wins(rule, comparable(old), comparable(given)), given, old)


def _wins(rule: Rule, old: pa.Array, given: pa.Array) -> pa.BooleanArray:
    """Where the source's value replaces the table's."""
    further = (pc.greater if rule == "max" else pc.less)(given, old)
    wins = pc.or_(pc.fill_null(further, False), pc.and_(old.is_null(), given.is_valid()))
    if pa.types.is_floating(old.type):
        wins = pc.or_(wins, pc.and_(_is_nan(old), pc.and_(given.is_valid(), pc.invert(_is_nan(given)))))
    return wins


def _is_nan(array: pa.Array) -> pa.BooleanArray:
    return pc.fill_null(pc.is_nan(array), False)


def _union(old: pa.Array, given: pa.Array) -> pa.Array:
    count = len(old)
    owners = np.concatenate([pc.list_parent_indices(side).to_numpy() for side in (old, given)])
    items = pa.concat_arrays([pc.list_flatten(old), pc.list_flatten(given)])
    ours = len(items) - len(pc.list_flatten(given))
    numbers = row_numbers([pa.chunked_array([items])])
    cells = owners.astype(np.int64) * (int(numbers.max(initial=0)) + 1) + numbers
    keep = np.zeros(len(items), dtype=bool)
    keep[np.unique(cells, return_index=True)[1]] = True
    # The table's own items stay, duplicates included.
    keep[:ours] = True
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(owners[kept], kind="stable")]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owners[kept], minlength=count))])
    of = old.type
    of_offsets = pa.int64() if pa.types.is_large_list(of) else pa.int32()
    lists = pa.LargeListArray if pa.types.is_large_list(of) else pa.ListArray
    null = pc.and_(old.is_null(), given.is_null())
    return lists.from_arrays(
        pa.array(offsets, of_offsets), items.take(pa.array(kept)), type=of, mask=null if count else None
    )
