"""Which rows of a pinned table an `UpdateRows` or `BackfillColumns` changes, fragment by fragment."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.caller import Watch, unwatched
from lancemig.apply.values import answered, big_enough, child, chosen, distinct, fitted, repeated, with_child
from lancemig.catalog.operations import BackfillColumns, UpdateRows
from lancemig.catalog.schema import column
from lancemig.errors import BrakeTripped, PlanError
from lancemig.store.tables import ROW_ID, LanceFragment, Staged, Table, quoted
from lancemig.store.tables.staging import updated_rows

_NEW = "__new__"
_BATCH = 65_536


@dataclass
class Tally:
    """Counts of rows, filled while a change is computed."""

    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0


@dataclass(frozen=True)
class Scope:
    """Which rows to look at: those of `fragments` (all) where `where` holds; `watch` is told of batches."""

    fragments: frozenset[int] | None = None
    where: str | None = None
    watch: Watch = unwatched
    tally: Tally = field(default_factory=Tally)

    def afresh(self) -> "Scope":
        """The same rows, nothing counted yet: for staging once more."""
        return Scope(self.fragments, self.where, self.watch)


def staged_changes(operation: UpdateRows | BackfillColumns, table: Table, scope: Scope) -> Staged | None:
    """Stage the operation on the pinned table; None when no row changes.

    A row whose new value is the old one is not touched, and only files of changed columns are written.
    Raises BrakeTripped, with nothing committed, past a brake.
    """
    staged = updated_rows(table, _by_fragment(operation, table, scope))
    _brake(operation, scope.tally)
    if staged is None:
        return None
    tally = scope.tally
    return staged.counted(tally.changed, tally.skipped, tally.indeterminate)


def _by_fragment(
    operation: UpdateRows | BackfillColumns, table: Table, scope: Scope
) -> Iterator[tuple[LanceFragment, pa.Table]]:
    where = _both(operation.where, scope.where)
    for fragment in table.fragments:
        if scope.fragments is not None and fragment.fragment_id not in scope.fragments:
            continue
        if isinstance(operation, UpdateRows):
            batches = _updated(operation, table, where, fragment, scope)
        else:
            batches = _backfilled(operation, table, where, fragment, scope)
        changed = [batch for batch in batches if batch.num_rows]
        if changed:
            yield fragment, pa.Table.from_batches(changed)


def _updated(
    operation: UpdateRows, table: Table, where: str | None, fragment: LanceFragment, scope: Scope
) -> Iterator[pa.RecordBatch]:
    heads = _heads(operation.set)
    expressions = {head: quoted(head) for head in heads}
    expressions |= {f"{_NEW}{path}": sql for path, sql in operation.set.items()}
    for batch in table.batches(expressions, where, [fragment], row_ids=True, batch_size=_BATCH):
        scope.watch(batch.num_rows, batch.nbytes)
        new = {path: batch.column(f"{_NEW}{path}") for path in operation.set}
        yield _changed(operation, table, batch, new, repeated(False, batch.num_rows), scope.tally)


def _backfilled(
    operation: BackfillColumns, table: Table, where: str | None, fragment: LanceFragment, scope: Scope
) -> Iterator[pa.RecordBatch]:
    heads = _heads(operation.columns)
    expressions = {head: quoted(head) for head in heads}
    expressions |= {f"{_NEW}{path}": quoted(path) for path in operation.reads}
    for batch in table.batches(expressions, where, [fragment], row_ids=True, batch_size=_BATCH):
        scope.watch(batch.num_rows, batch.nbytes)
        reads = [batch.column(f"{_NEW}{path}") for path in operation.reads]
        given = pa.record_batch(reads, names=list(operation.reads))
        answer = answered(operation.using, given, operation.columns)
        yield _changed(operation, table, batch, answer.columns, answer.unknown, scope.tally)


def _changed(
    operation: UpdateRows | BackfillColumns,
    table: Table,
    batch: pa.RecordBatch,
    new: dict[str, pa.Array],
    unknown: pa.BooleanArray,
    tally: Tally,
) -> pa.RecordBatch:
    """Row ids and new top-level columns of the rows that really change; the others are counted."""
    rows = repeated(False, batch.num_rows)
    columns = {head: batch.column(head) for head in _heads(new)}
    for path, values in new.items():
        head, *rest = path.split(".")
        wanted = column(table.name, table.columns, path)
        old = child(columns[head], rest)
        # Where there is no answer the old value stands, and what the function gave is not even looked at.
        values = _known(values, unknown, wanted, old, f"{table.name}.{path}")
        differs = pc.and_(distinct(old, values), big_enough(old, values, operation.min_delta))
        if rest:
            # A struct that is null has no field to be set.
            differs = pc.and_(differs, child(columns[head], rest[:-1]).is_valid())
        values = chosen(differs, values, old)
        rows = pc.or_(rows, differs)
        columns[head] = with_child(columns[head], rest, values) if rest else values
    tally.indeterminate += pc.sum(unknown).as_py() or 0
    changed = pc.sum(rows).as_py() or 0
    tally.changed += changed
    tally.skipped += batch.num_rows - changed
    fields = [table.columns.field(head) for head in columns]
    whole = pa.record_batch(
        [*columns.values(), batch.column(ROW_ID)],
        schema=pa.schema([*fields, pa.field(ROW_ID, pa.uint64())]),
    )
    return whole.filter(rows)


def _known(
    values: pa.Array, unknown: pa.BooleanArray, field: pa.Field, old: pa.Array, where: str
) -> pa.Array:
    if not pc.any(unknown).as_py():
        return fitted(values, field, where)
    nothing = pa.nulls(len(values), values.type)
    given = fitted(chosen(unknown, nothing, values), field.with_nullable(True), where)
    return fitted(chosen(unknown, old, given), field, where)


def _brake(operation: UpdateRows | BackfillColumns, tally: Tally) -> None:
    over = [
        (name, count, limit)
        for name, count, limit in (
            ("max_rows", tally.changed, operation.max_rows),
            ("max_indeterminate", tally.indeterminate, operation.max_indeterminate),
        )
        if limit is not None and count > limit
    ]
    for name, count, limit in over:
        what = "would change" if name == "max_rows" else "have no answer"
        raise BrakeTripped(
            f"{operation.table}: {count:,} rows {what}, and {name} is {limit:,} ({operation.describe()})",
            next_step=f"look at the rows; then raise {name} in the migration",
        )


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
            raise PlanError(f"column {name!r} has another type on the other side")
        same = pc.and_(same, pc.invert(distinct(old, new)))
    return same
