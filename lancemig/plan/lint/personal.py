"""A rule over names: columns that sound like personal data say how sensitive they are."""

from collections.abc import Iterator

import pyarrow as pa

from lancemig.catalog.operations import (
    AddColumn,
    BuildTable,
    CreateTable,
    Operation,
    RenameColumn,
    SetMetadata,
    TransformTable,
)
from lancemig.catalog.schema import TableSchema, column, has_column
from lancemig.plan.lint import codes
from lancemig.plan.lint.sensitive import holds, sounds_like
from lancemig.plan.lint.subject import Change, Found, Subject

SENSITIVITY = "sensitivity"
"""The field metadata that says how sensitive a column is; `none` says that it only sounds so."""


def personal(subject: Subject) -> Iterator[Found]:
    """A column is added, or gets a name, that sounds like personal data, and has no `sensitivity`."""
    said = _said_of(subject)
    for change in subject.changes:
        operation = change.operation
        given = [each for each in _new_columns(change) if each[1].metadata]
        said |= {(operation.table, path) for path, field in given if SENSITIVITY.encode() in field.metadata}
        for path, field in _new_columns(change):
            what = sounds_like(field.name)
            if what is not None and holds(field.type, what) and not _is_said(operation.table, path, said):
                key = f'table="{operation.table}", column="{path}"'
                yield Found(
                    codes.PERSONAL,
                    change.span,
                    f"{operation.table}.{path} looks like {what}, but its sensitivity is not declared",
                    f'SetMetadata({key}, metadata={{"{SENSITIVITY}": "…"}}); use "none" if it is not '
                    "personal data",
                )


def _said_of(subject: Subject) -> set[tuple[str, str]]:
    operations: list[Operation] = [change.operation for change in subject.changes]
    return {
        (each.table, each.column)
        for each in operations
        if isinstance(each, SetMetadata) and each.column and each.metadata.get(SENSITIVITY)
    }


def _is_said(table: str, path: str, said: set[tuple[str, str]]) -> bool:
    """Whether it is said of the column, or of a struct around it."""
    names = path.split(".")
    return any((table, ".".join(names[:length])) in said for length in range(1, len(names) + 1))


def _new_columns(change: Change) -> Iterator[tuple[str, pa.Field]]:
    """The columns and fields of structs that an operation adds, or gives a name."""
    operation = change.operation
    if isinstance(operation, CreateTable | BuildTable | TransformTable):
        known = change.table or TableSchema(columns=pa.schema([]))
        yield from (each for each in _fields("", operation.columns) if not has_column(known.columns, each[0]))
    elif isinstance(operation, AddColumn):
        yield operation.column.name, operation.column
        yield from _children(operation.column.name, operation.column)
    elif isinstance(operation, RenameColumn) and sounds_like(operation.column.rpartition(".")[2]) is None:
        there = change.table is not None and has_column(change.table.columns, operation.column)
        old = column("", change.table.columns, operation.column) if there and change.table else None
        of = old if old is not None else pa.field(operation.to, pa.null())
        yield operation.new_path, of.with_name(operation.to)


def _fields(prefix: str, fields: pa.Schema | pa.DataType) -> Iterator[tuple[str, pa.Field]]:
    for field in fields:
        path = f"{prefix}{field.name}"
        yield path, field
        yield from _children(path, field)


def _children(path: str, field: pa.Field) -> Iterator[tuple[str, pa.Field]]:
    of = field.type
    while pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        of = of.value_type
    if pa.types.is_struct(of):
        yield from _fields(f"{path}.", of)
