"""The values of a new column: computed fragment by fragment, and added in one commit."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import FragmentResult, RowCounts, StagingContext
from lancemig.apply.rows.values import fitted
from lancemig.catalog.operations import AddColumn
from lancemig.catalog.sources import REASON, UNKNOWN
from lancemig.store.lance import AT_ONCE, MANY, ROW_ID, LanceFragment, Staged, Table, quoted, volatile
from lancemig.store.lance.patches import column_patch, expression_patch, with_column


def staged_addition(operation: AddColumn, table: Table, context: StagingContext) -> Staged:
    """Stage the new column with its values; a row without an answer gets null."""
    compute = _computed_by_lance if _lance_computes(operation, table) else _computed_here
    patches = context.patches(
        table,
        operation.reads or None,
        lambda fragment: compute(operation, table, fragment, context),
        at_once=AT_ONCE if operation.using is None else 1,
    )
    counts = context.counts
    staged = with_column(table, operation.column, patches)
    return staged.counted(counts.changed, counts.skipped, counts.indeterminate)


@dataclass
class _FragmentValues:
    """Computes the values for one fragment, and counts them."""

    operation: AddColumn
    table: Table
    fragment: LanceFragment
    context: StagingContext
    counts: RowCounts = field(default_factory=RowCounts)
    skipped_rows: list[pa.Table] = field(default_factory=list)

    def values(self) -> Iterator[pa.Array]:
        constant = self._constant()
        if constant is not None:
            yield from self._repeated(constant)
            return
        for batch in self._batches():
            if self.operation.using is None:
                self.context.watch(batch.num_rows, batch.nbytes)
            array = self._computed(batch)
            self.counts += RowCounts(len(array) - array.null_count, array.null_count)
            yield array

    def _constant(self) -> pa.Array | None:
        """The value, as an array of one, if the expression names no column and calls no function."""
        sql, names = self.operation.sql, self.table.columns.names
        if sql is None or "(" in sql or any(name.lower() in sql.lower() for name in names):
            return None
        columns = {"new": sql, "": quoted(names[0])}
        batch = next(self.table.batches(columns, fragments=[self.fragment], batch_size=1), None)
        return None if batch is None or not batch.num_rows else self._computed(batch)[:1]

    def _repeated(self, constant: pa.Array) -> Iterator[pa.Array]:
        """The value for every row of the fragment, without reading any."""
        remaining = self.fragment.count_rows()
        while remaining:
            count = min(remaining, MANY)
            self.context.watch(count, 0)
            self.counts += RowCounts(0, count) if constant.null_count else RowCounts(count)
            yield constant.take(pa.array(np.zeros(count, dtype=np.int64)))
            remaining -= count

    def _batches(self) -> Iterator[pa.RecordBatch]:
        operation = self.operation
        columns = {path: quoted(path) for path in operation.reads}
        if operation.sql is not None:
            # Lance refuses a scan of nothing but literals, so a column is read with them.
            columns = {"new": operation.sql, "": quoted(self.table.columns.names[0])}
        by_function = operation.using is not None
        return self.table.batches(
            columns,
            fragments=[self.fragment],
            row_ids=by_function,
            addresses=by_function,
            batch_size=MANY,
        )

    def _computed(self, batch: pa.RecordBatch) -> pa.Array:
        operation, where = self.operation, f"{self.table.name}.{self.operation.column.name}"
        if operation.sql is not None or operation.using is None:
            return fitted(batch.column("new"), operation.column, where)
        results = self.context.results.compute(
            operation.using,
            operation.reads,
            [operation.column],
            self.table,
            self.fragment,
            batch.drop_columns([ROW_ID]),
            watch=self.context.watch,
            again=operation,
        )
        unknown = results.column(UNKNOWN)
        if pc.any(unknown).as_py():
            self.counts += RowCounts(indeterminate=pc.sum(unknown).as_py())
            rows = pa.table({ROW_ID: batch.column(ROW_ID), REASON: results.column(REASON)})
            self.skipped_rows.append(rows.filter(unknown))
        return results.column(operation.column.name)


def _computed_here(
    operation: AddColumn, table: Table, fragment: LanceFragment, context: StagingContext
) -> FragmentResult:
    computing = _FragmentValues(operation, table, fragment, context)
    files = column_patch(table, fragment, operation.column, computing.values(), fragment.count_rows())
    return FragmentResult(files, computing.counts, tuple(computing.skipped_rows))


def _lance_computes(operation: AddColumn, table: Table) -> bool:
    """Whether Lance can compute the column that is declared from its SQL.

    Lance derives the schema from the type of the expression. The nulls of a volatile expression could not be
    counted afterwards.
    """
    sql, column = operation.sql, operation.column
    if sql is None or pa.types.is_nested(column.type) or not column.name.isidentifier():
        return False
    plain = "_row" not in sql.lower() and not volatile(sql)
    return plain and table.expression(sql).with_name(column.name).equals(column, check_metadata=True)


def _computed_by_lance(
    operation: AddColumn, table: Table, fragment: LanceFragment, context: StagingContext
) -> FragmentResult:
    sql, column = table.sql(operation.sql or ""), operation.column
    files = expression_patch(table, fragment, column, sql)
    # The line break ends a comment in the SQL.
    nulls = table.count(f"({sql}\n) is null", [fragment]) if column.nullable else 0
    context.watch(files.rows, sum(file.file_size_bytes or 0 for file in files.files))
    return FragmentResult(files, RowCounts(files.rows - nulls, nulls))
