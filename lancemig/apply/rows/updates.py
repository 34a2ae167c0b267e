"""Which rows of a pinned table an `UpdateRows` or `BackfillColumns` changes, fragment by fragment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import FragmentResult, RowCounts, StagingContext, checked_brakes
from lancemig.apply.rows.values import big_enough, child, chosen, distinct, fitted, repeated, with_child
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
    """A batch of rows that were looked at: by path the `old` values, the `new` ones, and where they differ.

    `unknown` are the rows without an answer, `reason` says why. `columns` are the whole columns as they are
    to be, and `flagged` the rows of which the flag changes.
    """

    row_ids: pa.Array
    addresses: pa.Array
    old: dict[str, pa.Array]
    new: dict[str, pa.Array]
    differs: dict[str, pa.BooleanArray]
    unknown: pa.BooleanArray
    reason: pa.Array
    columns: dict[str, pa.Array]
    flagged: pa.BooleanArray

    @cached_property
    def changed(self) -> pa.BooleanArray:
        """The rows of which a value changes."""
        return _any(self.differs.values(), len(self.row_ids))

    @property
    def tally(self) -> RowCounts:
        """How many rows change, stay, and have no answer."""
        changed = pc.sum(self.changed).as_py() or 0
        return RowCounts(changed, len(self.row_ids) - changed, pc.sum(self.unknown).as_py() or 0)

    def values(self, columns: pa.Schema) -> pa.RecordBatch:
        """The whole columns of the rows that are written, and where these lie."""
        places = [pa.field(name, pa.uint64()) for name in (ROW_ID, ROW_ADDRESS)]
        fields = pa.schema([*(columns.field(head) for head in self.columns), *places])
        whole = pa.record_batch([*self.columns.values(), self.row_ids, self.addresses], schema=fields)
        return whole.filter(pc.or_(self.changed, self.flagged))

    def left(self) -> pa.Table:
        """The rows without an answer: row id, old values, reason."""
        columns = {ROW_ID: self.row_ids, **self.old, REASON: self.reason}
        return pa.table(columns).filter(self.unknown)


def staged_changes(operation: ComputedChange, table: Table, context: StagingContext) -> Staged | None:
    """Stage the operation on the pinned table; None when no row changes.

    A row whose new value is the old one is not touched, and only files of changed columns are written.
    Raises BrakeTripped, with nothing committed, past a brake.
    """
    patches = context.patches(
        table,
        _paths(operation, context),
        lambda fragment: _done(operation, table, fragment, context),
        at_once=AT_ONCE if isinstance(operation, UpdateRows) else 1,
    )
    if context.braked:
        checked_brakes(operation, context.counts)
    staged, tally = patched(table, patches), context.counts
    return staged and staged.counted(tally.changed, tally.skipped, tally.indeterminate)


def _paths(operation: ComputedChange, context: StagingContext) -> list[str] | None:
    """The columns that decide what becomes of a fragment; None for all, where SQL may name any of them."""
    if isinstance(operation, UpdateRows) or operation.where is not None or context.where is not None:
        return None
    return [*operation.reads, *operation.targets, *([operation.flag] if operation.flag else [])]


def counted_changes(operation: ComputedChange, table: Table, context: StagingContext) -> RowCounts:
    """What the operation would do, without staging it; raises BrakeTripped past a brake."""
    tally = sum((delta.tally for delta in deltas(operation, table, context)), RowCounts())
    checked_brakes(operation, tally)
    return tally


def deltas(operation: ComputedChange, table: Table, context: StagingContext) -> Iterator[Delta]:
    """What the operation would do to the pinned table, batch by batch; writes nothing."""
    for fragment in context.chosen(table):
        yield from _deltas(operation, table, fragment, context)


def _done(
    operation: ComputedChange, table: Table, fragment: LanceFragment, context: StagingContext
) -> FragmentResult:
    found: list[pa.RecordBatch] = []
    left: list[pa.Table] = []
    tally = RowCounts()
    for delta in _deltas(operation, table, fragment, context):
        tally += delta.tally
        values = delta.values(table.columns)
        if values.num_rows:
            found.append(values)
        if pc.any(delta.unknown).as_py():
            left.append(delta.left())
    files = patch(table, fragment, pa.Table.from_batches(found)) if found else None
    return FragmentResult(files, tally, tuple(left))


def _deltas(
    operation: ComputedChange, table: Table, fragment: LanceFragment, context: StagingContext
) -> Iterator[Delta]:
    where = _both(operation.where, context.where)
    heads = _heads([*operation.targets, *([operation.flag] if operation.flag else [])])
    asked = {head: quoted(head) for head in heads} | _expressions(operation)
    rows = table.batches(
        asked,
        where,
        [fragment],
        row_ids=True,
        addresses=True,
        batch_size=MANY,
    )
    for batch in rows:
        context.watch(batch.num_rows, batch.nbytes)
        if batch.num_rows:
            new = _new(operation, table, fragment, batch, context)
            yield _delta(operation, table, batch, new)


def _expressions(operation: ComputedChange) -> dict[str, str]:
    if isinstance(operation, BackfillColumns):
        return {f"{_NEW}{path}": quoted(path) for path in operation.reads}
    unknown = {UNKNOWN: operation.unknown} if operation.unknown is not None else {}
    return {f"{_NEW}{path}": sql for path, sql in operation.set.items()} | unknown


def _new(
    operation: ComputedChange,
    table: Table,
    fragment: LanceFragment,
    batch: pa.RecordBatch,
    context: StagingContext,
) -> pa.RecordBatch:
    """The new values by path, `__unknown__` and `__reason__`."""
    if isinstance(operation, BackfillColumns):
        reads = {path: batch.column(f"{_NEW}{path}") for path in operation.reads}
        given = pa.record_batch({**reads, ROW_ADDRESS: batch.column(ROW_ADDRESS)})
        fields = [column(table.name, table.columns, path).with_name(path) for path in operation.columns]
        return context.results.of(operation.using, operation.reads, fields, table, fragment, given)
    unknown = repeated(False, batch.num_rows)
    if operation.unknown is not None:
        unknown = pc.fill_null(batch.column(UNKNOWN), False)
    values = {path: batch.column(f"{_NEW}{path}") for path in operation.set}
    reason = pc.if_else(unknown, pa.scalar(operation.unknown, pa.string()), pa.scalar(None, pa.string()))
    return pa.record_batch({**values, UNKNOWN: unknown, REASON: reason})


def _delta(operation: ComputedChange, table: Table, batch: pa.RecordBatch, answers: pa.RecordBatch) -> Delta:
    """Compare old values and new ones; where there is no answer the old value stands."""
    unknown = answers.column(UNKNOWN)
    columns: dict[str, pa.Array] = {}
    old, new, differs = {}, {}, {}
    for path in operation.targets:
        head, *rest = path.split(".")
        whole = columns.get(head, batch.column(head))
        wanted, where = column(table.name, table.columns, path), f"{table.name}.{path}"
        old[path] = child(whole, rest)
        values = _known(answers.column(path), unknown, wanted, old[path], where)
        differing = pc.and_(distinct(old[path], values), big_enough(old[path], values, operation.min_delta))
        if rest:
            # A struct that is null has no field to be set.
            differing = pc.and_(differing, child(whole, rest[:-1]).is_valid())
        new[path], differs[path] = chosen(differing, values, old[path]), differing
        columns[head] = with_child(whole, rest, new[path]) if rest else new[path]
    flagged = repeated(False, batch.num_rows)
    if operation.flag is not None:
        was = batch.column(operation.flag)
        flagged = pc.xor(unknown, pc.fill_null(was, False))
        columns[operation.flag] = chosen(flagged, unknown, was)
    row_ids, addresses, reason = batch.column(ROW_ID), batch.column(ROW_ADDRESS), answers.column(REASON)
    return Delta(row_ids, addresses, old, new, differs, unknown, reason, columns, flagged)


def _known(
    values: pa.Array, unknown: pa.BooleanArray, field: pa.Field, old: pa.Array, where: str
) -> pa.Array:
    if not pc.any(unknown).as_py():
        return fitted(values, field, where)
    nothing = pa.nulls(len(values), values.type)
    given = fitted(chosen(unknown, nothing, values), field.with_nullable(True), where)
    return fitted(chosen(unknown, old, given), field, where)


def _any(masks: Iterable[pa.BooleanArray], length: int) -> pa.BooleanArray:
    result = repeated(False, length)
    for mask in masks:
        result = pc.or_(result, mask)
    return result


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
