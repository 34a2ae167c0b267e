"""Checks that run while the plan is made: what would fail, and what the reader of the plan should know.

Every operation is checked by what it states: the schema allows it, its SQL is valid and fits its columns, and
Lance can store its types. `_checked` has the checks of single operations, dispatched on the type.
"""

from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any, Protocol

import pyarrow as pa

from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.arrow_types import format_field, format_type, unsupported_type
from lancemig.catalog.column_metadata import embeddings
from lancemig.catalog.index_parameters import CREATABLE
from lancemig.catalog.keys import checked_keys
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    CreateIndex,
    DeduplicateRows,
    DeleteRows,
    DropColumn,
    DropTable,
    Operation,
    RenameColumn,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    SetMetadata,
    TransformTable,
    UpdateRows,
    UpsertRows,
    ValueChange,
)
from lancemig.catalog.operations.base import checked_key
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, TableStats, column, unreadable
from lancemig.catalog.sources import count_text, is_stub, known_rows, read_answers, read_source
from lancemig.errors import PlanError

Checked = tuple[tuple[str, ...], int | None]
"""Notes for the reader, and the number of rows concerned where it was counted."""

LEAST_COVERAGE = 0.9
"""The share of the rows of a live table that an index covers after a value change; else it is built again."""

_NOTHING: Checked = ((), None)


class Repeats(Protocol):
    """The repeated keys of a table."""

    deleted: int
    """Rows that `DeduplicateRows` deletes."""

    keys: int
    """Keys that several rows have."""

    nulls: int
    """Rows with a null in their key."""


class Probe(Protocol):
    """Answers questions about the live catalog while a plan is made; no answer writes anything."""

    def count(self, table: str, where: str | None) -> int:
        """The number of rows of a live table that match."""
        ...

    def repeats(self, table: str, operation: DeduplicateRows) -> Repeats:
        """How many rows of a live table the operation deletes, for how many keys."""
        ...

    def sql(self, columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
        """The types of SQL expressions over a table with these columns; PlanError for wrong ones."""
        ...

    def rewritten(self, columns: pa.Schema, sql: str) -> tuple[str, pa.DataType] | None:
        """The form in which an expression is evaluated, with its type; None if that is as it is written."""
        ...

    def null_column(self, table: str, columns: pa.Schema, field: pa.Field, *, live: bool) -> None:
        """Refuse a column without values with which Lance could not read the table, with PlanError.

        With `live`, no earlier step of the plan changes the table.
        """
        ...

    def index(self, columns: pa.Schema, wanted: Index) -> None:
        """Refuse an index with parameters that Lance does not take, with PlanError."""
        ...


def checked(operation: Operation, before: CatalogSchema, live: TableStats | None, probe: Probe) -> Checked:
    """Refuse an operation that would fail.

    Args:
        operation: the operation.
        before: the schema of the catalog before it.
        live: the size of its table, where no earlier step of the plan has changed its rows.
        probe: answers questions about the live catalog.

    Returns:
        Notes for the reader of the plan, and the number of rows concerned where it was counted.

    Raises:
        PlanError: the operation would fail.
    """
    _refuse_stubs(operation)
    table = before.tables.get(operation.table)
    _refuse_types(operation, table)
    after = operation.after(before)
    _refuse_names(operation, table, after)
    if operation.row_effect.from_source:
        _refuse_rows(operation)
    if table is None:
        return _NOTHING
    _refuse_sql(operation, table, after.tables.get(operation.table), probe)
    _refuse_indices(operation, table, after.tables.get(operation.table_after or ""), probe)
    notes, rows = _checked(operation, table, live, probe)
    followed = _metadata_notes(operation, table, after.tables.get(operation.table))
    return (*_sql_notes(operation, table, probe), *notes, *followed), rows


@singledispatch
def _checked(operation: Operation, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    return _NOTHING


@_checked.register(UpdateRows)
@_checked.register(BackfillColumns)
@_checked.register(DeleteRows)
def _(
    operation: UpdateRows | BackfillColumns | DeleteRows,
    table: TableSchema,
    live: TableStats | None,
    probe: Probe,
) -> Checked:
    notes = _blob_notes(live) if isinstance(operation, DeleteRows) else ()
    return notes, _counted(table, operation.where, live, probe)


@_checked.register
def _(operation: DeduplicateRows, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if live is None or live.table.columns != table.columns:
        return ("repeated rows are counted after the preceding steps",), None
    found = probe.repeats(live.name, operation)
    stay = "stays" if found.nulls == 1 else "stay"
    nulls = f"{count_text(found.nulls, 'row')} with a null in the key {stay}"
    of = f"{count_text(found.keys, 'key')} {'occurs' if found.keys == 1 else 'occur'} more than once"
    return (of, *([nulls] if found.nulls else []), *_blob_notes(live)), found.deleted


def _blob_notes(live: TableStats | None) -> tuple[str, ...]:
    """A note that deleted rows do not come back, where Lance does not let their blobs be written again."""
    blobs = live is not None and live.blobs
    return ("the rows cannot be restored by an undo: the table has Lance blobs",) if blobs else ()


@_checked.register
def _(operation: UpsertRows, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if live is not None and live.blobs:
        raise PlanError(
            f"table {operation.table!r} has Lance blobs, which cannot be compared with those of the source",
            next_step="write the rows with LanceDB, or move the blobs to a table of their own",
        )
    on = checked_key(operation.table, table.columns, operation.on)
    if known_rows(operation.rows) is None:
        return _NOTHING
    rows, unknown = read_answers(operation.rows, table.columns)
    checked_keys(rows, on, "the source")
    without = f"{count_text(unknown.num_rows, 'row')} of the source without an answer"
    return ((without,) if unknown.num_rows else ()), rows.num_rows


@_checked.register
def _(operation: AddColumn, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if "." in operation.column.name and live and live.data_storage_version in ("2.0", "2.1"):
        raise PlanError(
            f"{operation.table} has storage version {live.data_storage_version}, which does not "
            "support adding a struct field",
            next_step=f'rewrite the table in an earlier operation: RewriteTable(table="{operation.table}", '
            'data_storage_version="2.2")',
        )
    if live and live.data_storage_version == "0.1" and not operation.computed:
        raise PlanError(
            f"{operation.table} has storage version 0.1 (legacy), which does not support adding a column "
            "without values",
            next_step=f'rewrite the table in an earlier operation: RewriteTable(table="{operation.table}", '
            'data_storage_version="stable")',
        )
    if operation.computed:
        return ("rows appended during the run are backfilled too",), None
    _refuse_unreadable(operation, table, live, probe)
    head, _, field = operation.column.name.partition(".")
    if not field:
        return _NOTHING
    notes = (
        f"{head} is written again, with null as {operation.column.name}",
        f"rows that programs append without {operation.column.name} afterwards cannot be read with a filter, "
        "a limit of Lance",
    )
    return notes, None


@_checked.register
def _(operation: CreateIndex, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    probe.index(table.columns, operation.index)
    return _NOTHING


@_checked.register
def _(operation: RetypeColumn, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if operation.column in table.key and operation.using is not None:
        raise PlanError(
            f"{operation.table}.{operation.column} is part of the key; `using` could give two rows "
            "the same key",
            next_step="retype it without `using`: a lossless cast keeps keys unique",
        )
    head = operation.column.partition(".")[0]
    indices = [index.name for index in table.indices if index.column.partition(".")[0] == head]
    return tuple(f"index {name} is dropped and rebuilt" for name in indices), None


@_checked.register
def _(operation: DropColumn, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    path = operation.column
    lost = [i.name for i in table.indices if i.column == path or i.column.startswith(f"{path}.")]
    return tuple(f"also drops index {name}" for name in lost), None


@_checked.register
def _(operation: DropTable, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    return ("its rows remain only in the old root",), None if live is None else live.rows


@_checked.register
def _(operation: RequireColumn, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if live is None or live.table.columns != table.columns:
        return ("checked for nulls after the preceding steps",), None
    nulls = probe.count(live.name, f"`{operation.column}` is null")
    if nulls:
        raise PlanError(
            f"{operation.table}.{operation.column} is null in {nulls:,} of {live.rows:,} rows",
            next_step="fill the nulls in an earlier operation: UpdateRows or BackfillColumns",
        )
    return _NOTHING


@_checked.register(TransformTable)
@_checked.register(RewriteTable)
def _(operation: Operation, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if live is not None and live.blobs:
        raise PlanError(
            f"table {operation.table!r} has Lance blobs, which a rebuild cannot copy",
            next_step="leave the table unchanged, or derive it again: BuildTable",
        )
    return _NOTHING


def brake_notes(operation: Operation) -> tuple[str, ...]:
    """A note of the brakes that are set; empty for none."""
    names = ("max_rows", "min_delta", "max_indeterminate")
    set_ = [f"{name} {value:,}" for name in names if (value := getattr(operation, name, None)) is not None]
    return (f"brakes: {', '.join(set_)}",) if set_ else ()


def affected_indices(operation: Operation, before: TableSchema | None) -> list[Index]:
    """The indices of a table that leave out rows after a value change."""
    if not isinstance(operation, ValueChange) or before is None:
        return []
    effects = operation.column_effects(before)
    changed = {path.partition(".")[0] for path in effects.computed}
    every = effects.replaced is not None or operation.row_effect.inserts
    return [index for index in before.indices if every or index.column.partition(".")[0] in changed]


def index_notes(
    operation: Operation, before: TableSchema | None, rows: int | None, *, in_place: bool, refresh: bool
) -> tuple[str, ...]:
    """A note for each index that a value change may leave with fewer rows than its table has.

    Args:
        operation: The operation.
        before: The table before it.
        rows: The number of rows of the table; None where it is not known.
        in_place: Whether it changes a live table.
        refresh: Whether indices of live tables are built again.
    """
    of_rows = " of the rows" if rows is None else f" of {count_text(rows, 'row')}"
    if not in_place:
        what = f"built again if it leaves out any{of_rows} afterwards"
    elif refresh:
        what = f"built again if it covers less than {LEAST_COVERAGE:.0%}{of_rows} afterwards"
    else:
        what = "may cover fewer rows afterwards (indices = leave)"
    return tuple(f"index {index.name}: {what}" for index in affected_indices(operation, before))


def _refuse_unreadable(
    operation: AddColumn, table: TableSchema, live: TableStats | None, probe: Probe
) -> None:
    """Refuse a column after which Lance could not read the table, and name the operation that adds it."""
    try:
        now = live is not None and live.table.columns == table.columns
        probe.null_column(operation.table, table.columns, operation.column, live=now)
    except PlanError as error:
        head, _, field = operation.column.name.partition(".")
        if not field:
            raise PlanError(
                error.message,
                next_step=f'let the nulls be written: AddColumn(table="{operation.table}", '
                f'column="{format_field(operation.column)}", sql="null")',
            ) from error
        after = operation.after(CatalogSchema(tables={operation.table: table})).tables[operation.table]
        wanted = column(operation.table, after.columns, head)
        raise PlanError(
            error.message,
            next_step="use an operation that writes the column again: "
            f'RetypeColumn(table="{operation.table}", column="{head}", to="{format_type(wanted.type)}")',
        ) from error


def _refuse_stubs(operation: Operation) -> None:
    """Refuse a generated function of which the body is still a placeholder."""
    given: Any
    for given in (getattr(operation, "using", None), getattr(operation, "rows", None)):
        if is_stub(given):
            raise PlanError(
                f"{given.__name__}() is not implemented yet: {given.__doc__ or 'its body is a placeholder'}",
                next_step="implement it in the migration file, then run the same command again",
            )


def _refuse_types(operation: Operation, table: TableSchema | None) -> None:
    """Refuse new types that Lance does not take, or takes and then cannot write or read."""
    effects = operation.column_effects(table)
    fields = {**effects.added, **{field.name: field for field in effects.replaced or ()}}
    for path, of in {**{path: field.type for path, field in fields.items()}, **effects.types}.items():
        if (odd := unsupported_type(of)) is not None:
            raise PlanError(
                f"{operation.table}.{path}: Lance cannot store {odd}",
                next_step="declare another type in the migration file, then run the same command again",
            )


_RESERVED = frozenset({
    "_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version",
})  # fmt: skip
"""Names that Lance keeps for itself; tests/operations/test_names.py has them."""


def _refuse_names(operation: Operation, table: TableSchema | None, after: CatalogSchema) -> None:
    """Refuse new columns that Lance cannot read, and operations that have to read such a column."""
    known = frozenset(table.columns.names if table else ())
    result = after.tables.get(operation.table_after or "")
    for name in result.columns.names if result else ():
        if name not in known and (unreadable(name) or "." in name or "\0" in name or name in _RESERVED):
            raise PlanError(
                f"{operation.table}: a column cannot be called {name!r} in Lance",
                next_step="choose a name without backtick, dot and NUL that is not empty and not one of "
                f"{', '.join(sorted(_RESERVED))}",
            )
    effect = operation.row_effect
    if table is None or effect.restores or effect.table_dropped:
        return
    if isinstance(operation, RenameColumn) and operation.column:
        return  # Lance alone can name a column with a backtick, and finds it by its id
    effects = operation.column_effects(table)
    all_columns = effects.reads is None or effect.removes or effect.writes_table
    read = known if all_columns else (effects.reads or frozenset()) | effects.touched
    for name in table.columns.names:
        if unreadable(name) and name in read:
            raise PlanError(
                f"{operation.table}: {operation.describe()} has to read or write the column {name!r}, and "
                "Lance cannot: no path and no SQL can name it",
                next_step=f"rename it in an earlier operation: RenameColumn(table={operation.table!r}, "
                f"column={name!r}, to=NAME)"
                if name
                else "write the rows into a new table without a column of that name",
            )


def _refuse_sql(operation: Operation, table: TableSchema, after: TableSchema | None, probe: Probe) -> None:
    """Refuse SQL that Lance does not take, or that gives no value for its column."""
    effects = operation.column_effects(table)
    for condition in effects.conditions:
        probe.sql(table.columns, {}, condition)
    for path, sql in effects.expressions.items():
        wanted = column(operation.table, (after or table).columns, path)
        found = probe.sql(table.columns, {"new": sql}, None).field("new")
        _refuse_other_type(operation.table, path, found.type, wanted.type)


def _sql_notes(operation: Operation, table: TableSchema, probe: Probe) -> Iterator[str]:
    """A note for each expression that is evaluated with casts, which states the type of its result."""
    effects = operation.column_effects(table)
    for sql in dict.fromkeys([*effects.expressions.values(), *effects.conditions]):
        found = probe.rewritten(table.columns, sql)
        if found is not None:
            yield f"{sql}: evaluated as {found[0]}, which is {format_type(found[1])}"


def _refuse_indices(
    operation: Operation, before: TableSchema, after: TableSchema | None, probe: Probe
) -> None:
    """Refuse a new type of an indexed column on which its index cannot be built again."""
    if after is None or isinstance(operation, CreateIndex):
        return
    old = {index.name: index for index in before.indices}
    for index in after.indices:
        if index.name not in old or index.type not in CREATABLE:
            continue
        was = column(operation.table, before.columns, old[index.name].column).type
        now = column(operation.table, after.columns, index.column).type
        if was == now:
            continue
        create = CreateIndex(table=operation.table, **index.model_dump())
        try:
            create.require_indexable(now)
            probe.index(after.columns, index)
        except PlanError as error:
            raise PlanError(
                f"index {index.name} ({index.type}) on {operation.table}.{index.column} cannot be built "
                f"again on {format_type(now)}: {error.message}",
                next_step=f'drop it in an earlier operation: DropIndex(table="{operation.table}", '
                f'name="{index.name}"); and create one that fits in a later operation',
            ) from error


def _metadata_notes(operation: Operation, before: TableSchema, after: TableSchema | None) -> Iterator[str]:
    """What becomes of metadata that names columns, and of LanceDB's embedding functions."""
    if after is None or isinstance(operation, SetMetadata):
        return
    for name in sorted({**before.metadata, **after.metadata}):
        if before.metadata.get(name) != after.metadata.get(name):
            yield f"metadata {name} names columns, and follows"
    kept = [vector for _, _, vector in embeddings(after.metadata)]
    written = operation.column_effects(before)
    touched = {path.partition(".")[0] for path in (*written.types, *written.computed)}
    for function, source, vector in embeddings(before.metadata):
        if vector not in kept and not written.renamed:
            yield f"LanceDB no longer embeds {source} into {vector} ({function}) when rows are added"
        elif {source, vector} & touched or written.replaced is not None:
            yield f"LanceDB embeds {source} into {vector} ({function}): the function must fit the new column"


def _refuse_rows(operation: Operation) -> None:
    """Read rows that stand in the file, so that one that does not fit is found now; no function is run."""
    rows, columns = getattr(operation, "rows", None), operation.column_effects(None).replaced
    if columns is not None and known_rows(rows) is not None:
        given = read_source(rows, columns).read_all()
        checked_keys(given, getattr(operation, "key", ()), f"the rows of {operation.table}")


def _counted(table: TableSchema, where: str | None, live: TableStats | None, probe: Probe) -> int | None:
    if live is None or where is None:
        return live.rows if live else None
    return probe.count(live.name, where) if live.table.columns == table.columns else None


def _refuse_other_type(table: str, path: str, found: pa.DataType, wanted: pa.DataType) -> None:
    """Refuse an SQL result that Arrow can never cast to the column's type."""
    try:
        nulls(0, found).cast(wanted)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise PlanError(
            f"{table}.{path} is {format_type(wanted)}, but the expression gives {format_type(found)}",
            next_step="add a cast to the expression: cast(… as …)",
        ) from error
