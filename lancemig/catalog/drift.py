"""Drift: the differences between the schema that revisions produce and the schema of a live catalog.

`catalog_drift` compares catalogs, `drift` tables. Each `Difference` has a finding code and a message.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from lancemig.catalog.arrow_types import fields_in, format_type, is_varying_list, lance_schema
from lancemig.catalog.findings import Code, Level
from lancemig.catalog.index_parameters import CREATABLE
from lancemig.catalog.operations.base import nameable
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, index_differences, text_metadata
from lancemig.catalog.value import FrozenModel


class Difference(FrozenModel):
    """One difference of a table."""

    code: Code
    message: str

    @property
    def harmless(self) -> bool:
        """Whether it is no drift, but information: no revision could cause or fix it."""
        return self.code.level is Level.INFO

    @property
    def structural(self) -> bool:
        """Whether operations that were planned for the expected schema may fail on the actual one."""
        return self.code not in _BESIDE


_BESIDE = (Code.METADATA, Code.INDEX_ADDED, Code.INDEX_CHANGED, Code.INDEX_UNSUPPORTED, Code.TABLE_UNNAMED)


def catalog_drift(wanted: CatalogSchema, actual: CatalogSchema) -> list[Difference]:
    """The differences between two catalogs, by message; each message begins with the name of the table.

    Args:
        wanted: The expected schema.
        actual: The schema of the live catalog.
    """
    dropped = [
        Difference(code=Code.TABLE_DROPPED, message=f"{name}: the table is missing")
        for name in wanted.tables.keys() - actual.tables.keys()
    ]
    added = [added_table(name) for name in actual.tables.keys() - wanted.tables.keys()]
    changed = [
        Difference(code=difference.code, message=f"{name}: {difference.message}")
        for name, table in wanted.tables.items()
        if name in actual.tables
        for difference in drift(table, actual.tables[name])
    ]
    return sorted([*dropped, *added, *changed], key=lambda difference: difference.message)


def added_table(name: str) -> Difference:
    """The difference that a table was added; lancemig cannot manage one whose name LanceDB does not allow."""
    if nameable(name):
        return Difference(code=Code.TABLE_ADDED, message=f"{name}: the table was added")
    return Difference(code=Code.TABLE_UNNAMED, message=f"{name}: LanceDB does not allow this table name")


def drift(wanted: TableSchema, actual: TableSchema) -> list[Difference]:
    """The differences between two schemas of a table, compared as Lance stores them (catalog/arrow_types.py).

    The order of columns does not matter: programs access columns by name, and Lance does not promise an
    order. Only the index parameters that both sides name are compared, without the number of partitions,
    which Lance chooses.
    """
    return [
        *_fields("", list(lance_schema(wanted.columns)), list(lance_schema(actual.columns))),
        *_key(wanted.key, actual.key),
        *_indices(wanted.indices, actual.indices),
        *_metadata("the table", wanted.metadata, actual.metadata),
    ]


def _fields(prefix: str, wanted: list[pa.Field], actual: list[pa.Field]) -> Iterator[Difference]:
    actual_fields, wanted_names = {field.name: field for field in actual}, {field.name for field in wanted}
    for field in wanted:
        path = f"{prefix}{field.name}"
        if field.name in actual_fields:
            yield from _field(path, field, actual_fields[field.name])
        else:
            yield Difference(code=Code.COLUMN_DROPPED, message=f"column {path} was dropped")
    for field in actual:
        if field.name not in wanted_names:
            message = f"column {prefix}{field.name} was added: {format_type(field.type)}"
            yield Difference(code=Code.COLUMN_ADDED, message=message)


def _field(path: str, wanted: pa.Field, actual: pa.Field) -> Iterator[Difference]:
    if pa.types.is_struct(wanted.type) and pa.types.is_struct(actual.type):
        yield from _fields(f"{path}.", list(wanted.type), list(actual.type))
    elif wanted.type != actual.type:
        message = f"column {path} is {format_type(actual.type)}, not {format_type(wanted.type)}"
        yield Difference(code=Code.RETYPED, message=message)
    elif not wanted.type.equals(actual.type, check_metadata=True):
        yield from _nested_metadata(path, wanted.type, actual.type)
    if wanted.nullable != actual.nullable:
        state = "nullable, but should not be" if actual.nullable else "not nullable, but should be"
        yield Difference(code=Code.NULLABILITY, message=f"column {path} is {state}")
    yield from _metadata(f"column {path}", text_metadata(wanted.metadata), text_metadata(actual.metadata))


def _nested_metadata(path: str, wanted: pa.DataType, actual: pa.DataType) -> Iterator[Difference]:
    """The differences in the metadata of nested fields, of types that are equal otherwise."""
    for field, other in zip(fields_in(wanted), fields_in(actual), strict=True):
        nested = f"{path}.{'item' if is_varying_list(wanted) else field.name}"
        yield from _metadata(f"column {nested}", text_metadata(field.metadata), text_metadata(other.metadata))
        yield from _nested_metadata(nested, field.type, other.type)


def _metadata(of: str, wanted: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({**wanted, **actual}):
        if wanted.get(name) != actual.get(name):
            state = f"is {actual[name]!r}" if name in actual else "is missing"
            expectation = ", but was not declared"
            if name in wanted:
                expectation = f", {'not' if name in actual else 'expected'} {wanted[name]!r}"
            yield Difference(code=Code.METADATA, message=f"metadata {name!r} of {of} {state}{expectation}")


def _key(wanted: tuple[str, ...], actual: tuple[str, ...]) -> Iterator[Difference]:
    if wanted != actual:
        message = f"the key is {', '.join(actual) or 'unknown'}, not {', '.join(wanted) or 'unknown'}"
        yield Difference(code=Code.KEY_CHANGED, message=message)


def _indices(wanted: tuple[Index, ...], actual: tuple[Index, ...]) -> Iterator[Difference]:
    actual_indices, wanted_names = {index.name: index for index in actual}, {index.name for index in wanted}
    for index in wanted:
        if index.name not in actual_indices:
            yield Difference(code=Code.INDEX_DROPPED, message=f"index {index.name} was dropped")
            continue
        for name, actual_value, wanted_value in index_differences(index, actual_indices[index.name]):
            message = f"index {index.name}: {name} is {actual_value}, not {wanted_value}"
            yield Difference(code=Code.INDEX_CHANGED, message=message)
    for index in actual:
        if index.name not in wanted_names:
            code = Code.INDEX_ADDED if index.type in CREATABLE else Code.INDEX_UNSUPPORTED
            message = f"index {index.name} on {index.column} was added ({index.type})"
            yield Difference(code=code, message=message)
