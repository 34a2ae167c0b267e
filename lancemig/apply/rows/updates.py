"""The new values that an `UpdateRows` or `BackfillColumns` gives to rows, fragment by fragment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import FragmentResult, RowCounts, StagingContext, check_limits
from lancemig.apply.rows.keys import require_key_afterwards
from lancemig.apply.rows.values import (
    any_of,
    at_least_delta,
    child,
    chosen,
    distinct,
    fitted,
    repeated,
    whole,
    with_child,
)
from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.operations import BackfillColumns, UpdateRows
from lancemig.catalog.schema import column
from lancemig.catalog.sources import REASON, UNKNOWN
from lancemig.errors import PlanError
from lancemig.store.lance import AT_ONCE, MANY, ROW_ADDRESS, ROW_ID, LanceFragment, Staged, Table, quoted
from lancemig.store.lance.patches import patch, patched

_NEW = "__new__"

ComputedChange = UpdateRows | BackfillColumns


@dataclass(frozen=True)
class Delta:
    """What an operation does to a batch of rows."""

    row_ids: pa.Array
    addresses: pa.Array

    old: dict[str, pa.Array]
    """The current values, by path."""

    new: dict[str, pa.Array]
    """The new values, by path; the current ones where nothing changes."""

    differs: dict[str, pa.BooleanArray]
    """The rows whose value changes, by path."""

    unknown: pa.BooleanArray
    """The rows without an answer."""

    reason: pa.Array
    """Why a row has no answer."""

    columns: dict[str, pa.Array]
    """The new top-level columns, whole."""

    flagged: pa.BooleanArray
    """The rows whose flag changes."""

    @cached_property
    def changed(self) -> pa.BooleanArray:
        """The rows in which a value changes."""
        return any_of(self.differs.values(), len(self.row_ids))

    @property
    def counts(self) -> RowCounts:
        """How many rows change, stay, and have no answer."""
        changed = pc.sum(self.changed).as_py() or 0
        return RowCounts(changed, len(self.row_ids) - changed, pc.sum(self.unknown).as_py() or 0)

    def values(self, columns: pa.Schema) -> pa.RecordBatch:
        """The new columns of the rows that change, with row ids and addresses."""
        location = [pa.field(name, pa.uint64()) for name in (ROW_ID, ROW_ADDRESS)]
        fields = pa.schema([*(columns.field(head) for head in self.columns), *location])
        rows = pa.record_batch([*self.columns.values(), self.row_ids, self.addresses], schema=fields)
        return rows.filter(pc.or_(self.changed, self.flagged))

    def skipped_rows(self) -> pa.Table:
        """The rows without an answer: row id, current values, reason."""
        columns = {ROW_ID: self.row_ids, **self.old, REASON: self.reason}
        return pa.table(columns).filter(self.unknown)


def staged_changes(operation: ComputedChange, table: Table, context: StagingContext) -> Staged | None:
    """Stage the operation on the pinned table; None when no row changes.

    Rows that keep their values are not written, and only files of changed columns are. Raises BrakeTripped,
    with nothing committed, when a limit is exceeded.
    """
    patches = context.patches(
        table,
        _paths_read(operation, context),
        lambda fragment: _fragment_result(operation, table, fragment, context),
        at_once=AT_ONCE if isinstance(operation, UpdateRows) else 1,
    )
    if context.check_limits:
        check_limits(operation, context.counts)
    if patches and _key_columns(operation, context):
        require_key_afterwards(table, context.key, partial(_keys_afterwards, table, context))
    staged, counts = patched(table, patches), context.counts
    return staged and staged.counted(counts.changed, counts.skipped, counts.indeterminate)


def _key_columns(operation: ComputedChange, context: StagingContext) -> list[str]:
    """The columns of the key to be checked that the operation writes."""
    return [head for head in _heads(operation.targets) if head in context.key]


def _keys_afterwards(table: Table, context: StagingContext) -> Iterator[pa.RecordBatch]:
    """The keys of the whole table as they are after the operation."""
    order = [name for name in table.columns.names if name in context.key]
    kept = context.new_keys()
    for fragment in table.fragments:
        where = kept.get(fragment.fragment_id)
        new = context.kept_keys.read(where) if context.kept_keys and where else None
        for batch in table.batches(order, fragments=[fragment], addresses=True, batch_size=MANY):
            yield batch if new is None else _overlaid(batch, new)


def _overlaid(batch: pa.RecordBatch, new: pa.Table) -> pa.RecordBatch:
    """The batch with the values of `new` in the rows that have the same address."""
    at = pc.index_in(batch.column(ROW_ADDRESS), value_set=new.column(ROW_ADDRESS).combine_chunks())
    columns = {name: batch.column(name) for name in batch.schema.names}
    for name in new.column_names:
        if name != ROW_ADDRESS:
            columns[name] = chosen(at.is_valid(), whole(new.column(name)).take(at), columns[name])
    return pa.record_batch(columns)


def _paths_read(operation: ComputedChange, context: StagingContext) -> list[str] | None:
    """The columns on which the result for a fragment depends; None for all, where SQL may name any."""
    if isinstance(operation, UpdateRows) or operation.where is not None or context.where is not None:
        return None
    return [*operation.reads, *operation.targets, *([operation.flag] if operation.flag else [])]


def counted_changes(operation: ComputedChange, table: Table, context: StagingContext) -> RowCounts:
    """Count what the operation would change, without staging it; BrakeTripped when a limit is exceeded."""
    counts = sum((delta.counts for delta in deltas(operation, table, context)), RowCounts())
    check_limits(operation, counts)
    return counts


def deltas(
    operation: ComputedChange, table: Table, context: StagingContext, *, batch_size: int = MANY
) -> Iterator[Delta]:
    """What the operation does to the pinned table, batch by batch; writes nothing."""
    for fragment in context.fragments_of(table):
        yield from _deltas(operation, table, fragment, context, batch_size)


def _fragment_result(
    operation: ComputedChange, table: Table, fragment: LanceFragment, context: StagingContext
) -> FragmentResult:
    changed: list[pa.RecordBatch] = []
    skipped: list[pa.Table] = []
    counts = RowCounts()
    for delta in _deltas(operation, table, fragment, context):
        counts += delta.counts
        values = delta.values(table.columns)
        if values.num_rows:
            changed.append(values)
        if pc.any(delta.unknown).as_py():
            skipped.append(delta.skipped_rows())
    rows = pa.Table.from_batches(changed) if changed else None
    files = patch(table, fragment, rows) if rows is not None else None
    written = _key_columns(operation, context)
    keys = context.keep_keys(rows.select([*written, ROW_ADDRESS])) if rows is not None and written else None
    return FragmentResult(files, counts, tuple(skipped), keys)


def _deltas(
    operation: ComputedChange,
    table: Table,
    fragment: LanceFragment,
    context: StagingContext,
    batch_size: int = MANY,
) -> Iterator[Delta]:
    where = _both(operation.where, context.where)
    heads = _heads([*operation.targets, *([operation.flag] if operation.flag else [])])
    columns = {head: quoted(head) for head in heads} | _expressions(operation)
    batches = table.batches(
        columns,
        where,
        [fragment],
        row_ids=True,
        addresses=True,
        batch_size=batch_size,
    )
    for batch in batches:
        if isinstance(operation, UpdateRows):
            context.watch(batch.num_rows, batch.nbytes)
        if batch.num_rows:
            yield _delta(operation, table, batch, _new_values(operation, table, fragment, batch, context))


def _expressions(operation: ComputedChange) -> dict[str, str]:
    """The SQL expressions that new values are made from, by column of the batch."""
    if isinstance(operation, BackfillColumns):
        return {f"{_NEW}{path}": quoted(path) for path in operation.reads}
    unknown = {UNKNOWN: operation.unknown} if operation.unknown is not None else {}
    return {f"{_NEW}{path}": sql for path, sql in operation.set.items()} | unknown


def _new_values(
    operation: ComputedChange,
    table: Table,
    fragment: LanceFragment,
    batch: pa.RecordBatch,
    context: StagingContext,
) -> pa.RecordBatch:
    """The new values by path, with `__unknown__` and `__reason__`."""
    if isinstance(operation, BackfillColumns):
        reads = {path: batch.column(f"{_NEW}{path}") for path in operation.reads}
        rows = pa.record_batch({**reads, ROW_ADDRESS: batch.column(ROW_ADDRESS)})
        fields = [column(table.name, table.columns, path).with_name(path) for path in operation.columns]
        return context.results.compute(
            operation.using,
            operation.reads,
            fields,
            table,
            fragment,
            rows,
            watch=context.watch,
            again=operation,
        )
    unknown = repeated(False, batch.num_rows)
    if operation.unknown is not None:
        unknown = pc.fill_null(batch.column(UNKNOWN), False)
    values = {path: batch.column(f"{_NEW}{path}") for path in operation.set}
    reason = pc.if_else(unknown, pa.scalar(operation.unknown, pa.string()), pa.scalar(None, pa.string()))
    return pa.record_batch({**values, UNKNOWN: unknown, REASON: reason})


def _delta(operation: ComputedChange, table: Table, batch: pa.RecordBatch, results: pa.RecordBatch) -> Delta:
    """Compare current and new values; a row without an answer keeps its current ones."""
    unknown = results.column(UNKNOWN)
    columns: dict[str, pa.Array] = {}
    old, new, differs = {}, {}, {}
    for path in operation.targets:
        head, *rest = path.split(".")
        top_level = columns.get(head, batch.column(head))
        wanted, where = column(table.name, table.columns, path), f"{table.name}.{path}"
        old[path] = child(top_level, rest)
        values = _old_where_unknown(results.column(path), unknown, wanted, old[path], where)
        differing = pc.and_(
            distinct(old[path], values), at_least_delta(old[path], values, operation.min_delta)
        )
        if rest:
            # A struct that is null has no field to be set.
            differing = pc.and_(differing, child(top_level, rest[:-1]).is_valid())
        new[path], differs[path] = chosen(differing, values, old[path]), differing
        columns[head] = with_child(top_level, rest, new[path]) if rest else new[path]
    flagged = repeated(False, batch.num_rows)
    if operation.flag is not None:
        flag = batch.column(operation.flag)
        flagged = pc.xor(unknown, pc.fill_null(flag, False))
        columns[operation.flag] = chosen(flagged, unknown, flag)
    row_ids, addresses, reason = batch.column(ROW_ID), batch.column(ROW_ADDRESS), results.column(REASON)
    return Delta(row_ids, addresses, old, new, differs, unknown, reason, columns, flagged)


def _old_where_unknown(
    values: pa.Array, unknown: pa.BooleanArray, field: pa.Field, old: pa.Array, where: str
) -> pa.Array:
    if not pc.any(unknown).as_py():
        return fitted(values, field, where)
    no_values = nulls(len(values), values.type)
    new = fitted(chosen(unknown, no_values, values), field.with_nullable(True), where)
    return fitted(chosen(unknown, old, new), field, where)


def _heads(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path.partition(".")[0] for path in paths))


def _both(first: str | None, second: str | None) -> str | None:
    conditions = [f"({condition})" for condition in (first, second) if condition is not None]
    return " and ".join(conditions) or None


def identical(rows: pa.Table, others: pa.Table, names: Sequence[str]) -> pa.BooleanArray:
    """Where two tables of equal length have equal values in `names`."""
    same = repeated(True, rows.num_rows)
    for name in names:
        old, new = rows.column(name).combine_chunks(), others.column(name).combine_chunks()
        if old.type != new.type:
            raise PlanError(f"column {name!r} has a different type in the other root")
        same = pc.and_(same, pc.invert(distinct(old, new)))
    return same
