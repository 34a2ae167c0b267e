"""How a live catalog differs from what it should be: each difference with its own code."""

from collections.abc import Iterator, Mapping

import pyarrow as pa

from lancemig.catalog.arrow_types import fields_in, format_type, is_varying_list, lance_schema
from lancemig.catalog.findings import Code, Level
from lancemig.catalog.operations.base import nameable
from lancemig.catalog.operations.indices import CREATABLE
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, index_differences, text_metadata
from lancemig.catalog.value import FrozenModel


class Difference(FrozenModel):
    """One difference of a table, in words."""

    code: Code
    message: str

    @property
    def harmless(self) -> bool:
        """Whether it is worth knowing, and no drift: no revision could make or mend it."""
        return self.code.level is Level.INFO

    @property
    def structural(self) -> bool:
        """Whether operations that were planned for the one may not fit the other."""
        return self.code not in _BESIDE


_BESIDE = (Code.METADATA, Code.INDEX_ADDED, Code.INDEX_CHANGED, Code.INDEX_UNSUPPORTED, Code.TABLE_UNNAMED)


def catalog_drift(wanted: CatalogSchema, found: CatalogSchema) -> list[Difference]:
    """How `found` differs from `wanted`, tables included; each difference begins with its table's name."""
    there, known = found.tables, wanted.tables
    gone = [
        Difference(code=Code.TABLE_DROPPED, message=f"{name}: the table is missing")
        for name in {*known} - {*there}
    ]
    new = [added_table(name) for name in {*there} - {*known}]
    said = [
        Difference(code=one.code, message=f"{name}: {one.message}")
        for name in known
        if name in there
        for one in drift(known[name], there[name])
    ]
    return sorted([*gone, *new, *said], key=lambda one: one.message)


def added_table(name: str) -> Difference:
    """That there is a table more; with a name that no operation takes it is none of lancemig's."""
    if nameable(name):
        return Difference(code=Code.TABLE_ADDED, message=f"{name}: the table was added")
    return Difference(code=Code.TABLE_UNNAMED, message=f"{name}: LanceDB does not allow this table name")


def drift(wanted: TableSchema, found: TableSchema) -> list[Difference]:
    """How `found` differs from `wanted`, beyond what Lance makes of either (catalog/arrow_types.py).

    The order of columns is no difference: programs name columns, and Lance keeps no promise on it. Of an
    index, only those parameters are compared that both name, and into how many partitions Lance has put
    vectors is its own affair.
    """
    return [
        *_fields("", list(lance_schema(wanted.columns)), list(lance_schema(found.columns))),
        *_key(wanted.key, found.key),
        *_indices(wanted.indices, found.indices),
        *_metadata("the table", wanted.metadata, found.metadata),
    ]


def _fields(above: str, wanted: list[pa.Field], found: list[pa.Field]) -> Iterator[Difference]:
    there, known = {field.name: field for field in found}, {field.name for field in wanted}
    for field in wanted:
        path = f"{above}{field.name}"
        if field.name in there:
            yield from _field(path, field, there[field.name])
        else:
            yield Difference(code=Code.COLUMN_DROPPED, message=f"column {path} was dropped")
    for field in found:
        if field.name not in known:
            said = f"column {above}{field.name} was added: {format_type(field.type)}"
            yield Difference(code=Code.COLUMN_ADDED, message=said)


def _field(path: str, wanted: pa.Field, found: pa.Field) -> Iterator[Difference]:
    if pa.types.is_struct(wanted.type) and pa.types.is_struct(found.type):
        yield from _fields(f"{path}.", list(wanted.type), list(found.type))
    elif wanted.type != found.type:
        said = f"column {path} is {format_type(found.type)}, not {format_type(wanted.type)}"
        yield Difference(code=Code.RETYPED, message=said)
    elif not wanted.type.equals(found.type, check_metadata=True):
        yield from _inside(path, wanted.type, found.type)
    if wanted.nullable != found.nullable:
        state = "nullable, but should not be" if found.nullable else "not nullable, but should be"
        yield Difference(code=Code.NULLABILITY, message=f"column {path} is {state}")
    yield from _metadata(f"column {path}", text_metadata(wanted.metadata), text_metadata(found.metadata))


def _inside(path: str, wanted: pa.DataType, found: pa.DataType) -> Iterator[Difference]:
    """The metadata of the fields inside two types that are alike but for it."""
    for one, other in zip(fields_in(wanted), fields_in(found), strict=True):
        below = f"{path}.{'item' if is_varying_list(wanted) else one.name}"
        yield from _metadata(f"column {below}", text_metadata(one.metadata), text_metadata(other.metadata))
        yield from _inside(below, one.type, other.type)


def _metadata(of: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted({**wanted, **found}):
        if wanted.get(name) != found.get(name):
            said = f"is {found[name]!r}" if name in found else "is missing"
            instead = ", but was not declared"
            if name in wanted:
                instead = f", {'not' if name in found else 'expected'} {wanted[name]!r}"
            yield Difference(code=Code.METADATA, message=f"metadata {name!r} of {of} {said}{instead}")


def _key(wanted: tuple[str, ...], found: tuple[str, ...]) -> Iterator[Difference]:
    if wanted != found:
        said = f"the key is {', '.join(found) or 'unknown'}, not {', '.join(wanted) or 'unknown'}"
        yield Difference(code=Code.KEY_CHANGED, message=said)


def _indices(wanted: tuple[Index, ...], found: tuple[Index, ...]) -> Iterator[Difference]:
    there, known = {index.name: index for index in found}, {index.name for index in wanted}
    for index in wanted:
        if index.name not in there:
            yield Difference(code=Code.INDEX_DROPPED, message=f"index {index.name} was dropped")
            continue
        for what, is_, should in index_differences(index, there[index.name]):
            said = f"index {index.name}: {what} is {is_}, not {should}"
            yield Difference(code=Code.INDEX_CHANGED, message=said)
    for index in found:
        if index.name not in known:
            code = Code.INDEX_ADDED if index.type in CREATABLE else Code.INDEX_UNSUPPORTED
            said = f"index {index.name} on {index.column} was added ({index.type})"
            yield Difference(code=code, message=said)
