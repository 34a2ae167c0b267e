"""What would fail, found before anything is touched, and what a person should know beforehand."""

from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any, Protocol

import pyarrow as pa

from lancemig.catalog.arrow_types import format_type, unsupported_type
from lancemig.catalog.keys import checked_keys
from lancemig.catalog.operations import (
    AddColumn,
    BackfillColumns,
    BuildTable,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropColumn,
    DropTable,
    Operation,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    TransformTable,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.operations.base import checked_key
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, TableStats, column
from lancemig.catalog.sources import count_text, is_stub, known_rows, read_answers, read_source
from lancemig.errors import PlanError

Checked = tuple[tuple[str, ...], int | None]
"""Notes for the reader, and the number of rows concerned where it was counted."""

_NOTHING: Checked = ((), None)


class Probe(Protocol):
    """The questions a plan may ask about the live catalog; answering them writes nothing."""

    def count(self, table: str, where: str | None) -> int:
        """How many rows of a live table match."""
        ...

    def sql(self, columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
        """The types of SQL expressions over a table with these columns; PlanError for wrong ones."""
        ...

    def index(self, columns: pa.Schema, wanted: Index) -> None:
        """Refuse an index with parameters that Lance does not take, with PlanError."""
        ...


def checked(operation: Operation, before: CatalogSchema, live: TableStats | None, probe: Probe) -> Checked:
    """Refuse with PlanError what would fail; `live` is the table while no step has changed its rows."""
    _written(operation)
    _storable(operation)
    table = before.tables.get(operation.table)
    if isinstance(operation, CreateTable | BuildTable):
        _readable(operation.rows, operation.columns)
    if table is None:
        return _NOTHING
    return _checked(operation, table, live, probe)


@singledispatch
def _checked(operation: Operation, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    return _NOTHING


@_checked.register
def _(operation: UpdateRows, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    for path, sql in operation.set.items():
        wanted = column(operation.table, table.columns, path)
        found = probe.sql(table.columns, {"new": sql}, operation.where).field("new")
        _assignable(operation.table, path, found.type, wanted.type)
    if operation.unknown is not None:
        probe.sql(table.columns, {}, operation.unknown)
    return (), _counted(table, operation.where, live, probe)


@_checked.register
def _(operation: BackfillColumns, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if operation.where is not None:
        probe.sql(table.columns, {}, operation.where)
    return (), _counted(table, operation.where, live, probe)


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
def _(operation: DeleteRows, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    probe.sql(table.columns, {}, operation.where)
    return (), _counted(table, operation.where, live, probe)


@_checked.register
def _(operation: AddColumn, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    if operation.sql is not None:
        found = probe.sql(table.columns, {"new": operation.sql}, None).field("new")
        _assignable(operation.table, operation.column.name, found.type, operation.column.type)
    if "." in operation.column.name and live and live.data_storage_version in ("2.0", "2.1"):
        raise PlanError(
            f"{operation.table} has storage version {live.data_storage_version}, which does not "
            "support adding a struct field",
            next_step=f'rewrite the table in an earlier operation: RewriteTable(table="{operation.table}", '
            'data_storage_version="2.2")',
        )
    if operation.computed:
        return ("rows appended during the run are backfilled too",), None
    return _NOTHING


@_checked.register
def _(operation: CreateIndex, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    operation.after(CatalogSchema(tables={operation.table: table}))
    probe.index(table.columns, operation.index)
    return _NOTHING


@_checked.register
def _(operation: RetypeColumn, table: TableSchema, live: TableStats | None, probe: Probe) -> Checked:
    column(operation.table, table.columns, operation.column)
    if operation.using is not None:
        found = probe.sql(table.columns, {"new": operation.using}, None).field("new")
        _assignable(operation.table, operation.column, found.type, operation.to)
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
    column(operation.table, table.columns, operation.column)
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
    """The brakes that are set, as a note."""
    names = ("max_rows", "min_delta", "max_indeterminate")
    set_ = [f"{name} {value:,}" for name in names if (value := getattr(operation, name, None)) is not None]
    return (f"brakes: {', '.join(set_)}",) if set_ else ()


def _written(operation: Operation) -> None:
    """Refuse a function that was left for a person to write, before anything is touched."""
    given: Any
    for given in (getattr(operation, "using", None), getattr(operation, "rows", None)):
        if is_stub(given):
            raise PlanError(
                f"{given.__name__}() is not implemented yet: {given.__doc__ or 'its body is a placeholder'}",
                next_step="implement it in the migration file, then run the same command again",
            )


def _storable(operation: Operation) -> None:
    """Refuse types that Lance does not take, or takes and then cannot write or read."""
    for path, of in _declared(operation):
        if (odd := unsupported_type(of)) is not None:
            raise PlanError(
                f"{operation.table}.{path}: Lance cannot store {odd}",
                next_step="declare another type in the migration file, then run the same command again",
            )


def _declared(operation: Operation) -> Iterator[tuple[str, pa.DataType]]:
    if isinstance(operation, CreateTable | BuildTable | TransformTable):
        yield from ((field.name, field.type) for field in operation.columns)
    elif isinstance(operation, AddColumn):
        yield operation.column.name, operation.column.type
    elif isinstance(operation, RetypeColumn):
        yield operation.column, operation.to


def _readable(rows: Any, columns: pa.Schema) -> None:
    """Read rows that stand in the file, so that one that does not fit is found now; no function is run."""
    if known_rows(rows) is not None:
        for _ in read_source(rows, columns):
            pass


def _counted(table: TableSchema, where: str | None, live: TableStats | None, probe: Probe) -> int | None:
    if live is None or where is None:
        return live.rows if live else None
    return probe.count(live.name, where) if live.table.columns == table.columns else None


def _assignable(table: str, path: str, found: pa.DataType, wanted: pa.DataType) -> None:
    """Refuse an SQL result that Arrow can never cast to the column's type."""
    try:
        pa.nulls(0, found).cast(wanted)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise PlanError(
            f"{table}.{path} is {format_type(wanted)}, but the expression gives {format_type(found)}",
            next_step="add a cast to the expression: cast(… as …)",
        ) from error
