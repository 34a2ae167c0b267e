"""What a catalog looks like: tables, their columns, keys, indices and metadata; without any rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field, model_validator

from lancemig.catalog.arrow_types import ArrowSchema, fields_in, with_fields
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError

KEY = "lancemig.key"
"""The schema metadata in which a table's key is kept, as a JSON list of column names."""

_ChildFields = Callable[[pa.DataType], tuple[pa.Field, ...]]
"""Which fields a path may go into."""


class Index(FrozenModel):
    """An index on one column; `type` is Lance's word (`BTREE`, `BITMAP`, `INVERTED`, `IVF_PQ`, …).

    Without a `name`, it has the one that Lance gives it.
    """

    name: str
    column: str
    type: str
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") is None and "column" in given:
            return {**given, "name": f"{given['column']}_idx"}
        return given


class TableSchema(FrozenModel):
    """One table: `columns` with their field metadata, `key`, `indices` and schema `metadata`."""

    columns: ArrowSchema
    key: tuple[str, ...] = ()
    indices: tuple[Index, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)

    def with_columns(self, fields: Iterable[pa.Field]) -> "TableSchema":
        """The same table with other columns; indices and key are left as they are."""
        return self.model_copy(update={"columns": pa.schema(list(fields))})


class CatalogSchema(FrozenModel):
    """All tables of a catalog, by name."""

    tables: dict[str, TableSchema] = Field(default_factory=dict)

    def table(self, name: str) -> TableSchema:
        """The table called `name`; PlanError names those there are."""
        if name not in self.tables:
            there = ", ".join(sorted(self.tables)) or "no tables"
            raise PlanError(f"table {name!r} does not exist; tables: {there}")
        return self.tables[name]

    def with_table(self, name: str, table: TableSchema) -> "CatalogSchema":
        """This catalog with `name` being `table`."""
        return CatalogSchema(tables={**self.tables, name: table})

    def without_table(self, name: str) -> "CatalogSchema":
        """This catalog with the table `name` gone; PlanError where there is none."""
        self.table(name)
        return CatalogSchema(tables={n: t for n, t in self.tables.items() if n != name})

    def require_absent(self, name: str) -> None:
        """Refuse a table name that is taken."""
        if name in self.tables:
            raise PlanError(f"table {name!r} already exists")


def column(table: str, schema: pa.Schema, path: str) -> pa.Field:
    """The field at `path` (`a.b` is the child `b` of the struct `a`); PlanError names what there is."""
    return _field_at(table, schema, path, lambda of: fields_in(of) if pa.types.is_struct(of) else ())


def field_within(table: str, schema: pa.Schema, path: str) -> pa.Field:
    """Like `column`, and into lists and maps: `tags.item`, `scores.key`, `scores.value.unit`.

    Such fields have metadata of their own, and are no columns.
    """
    return _field_at(table, schema, path, fields_in)


def _field_at(table: str, schema: pa.Schema, path: str, inside: _ChildFields) -> pa.Field:
    names, fields = path.split("."), tuple(schema)
    for at, name in enumerate(names, start=1):
        found = next((f for f in fields if f.name == name), None)
        if found is not None and at == len(names):
            return found
        if found is None or not inside(found.type):
            break
        fields = inside(found.type)
    there = ", ".join(f.name for f in fields)
    raise PlanError(f"table {table!r} has no column {path!r}; columns: {there}")


def has_column(schema: pa.Schema, path: str) -> bool:
    """Whether there is a field at `path`."""
    try:
        column("", schema, path)
    except PlanError:
        return False
    return True


def replace_field(fields: Iterable[pa.Field], path: str, replacement: Iterable[pa.Field]) -> list[pa.Field]:
    """`fields` with the one at `path` replaced by `replacement` (nothing, one or more fields)."""
    head, _, rest = path.partition(".")
    result: list[pa.Field] = []
    for field in fields:
        if field.name != head:
            result.append(field)
        elif rest:
            children = replace_field(fields_in(field.type), rest, replacement)
            result.append(field.with_type(with_fields(field.type, children)))
        else:
            result.extend(replacement)
    return result


def text_metadata(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """Arrow metadata as text."""
    return {k.decode(): v.decode() for k, v in (metadata or {}).items()}


_SYNONYMS = {"euclidean": "l2"}
_LANCES_OWN = ("num_partitions",)
"""What Lance decides, whatever was asked for: fewer for few rows, and others after `optimize_indices`.

tests/surface/test_lance_indices.py holds it.
"""


def index_differences(wanted: Index, found: Index) -> Iterator[tuple[str, Any, Any]]:
    """What differs, what it is, and what it should be; of the parameters, those that both name."""
    if wanted.column != found.column:
        yield "column", found.column, wanted.column
    if wanted.type.upper() != found.type.upper():
        yield "type", found.type, wanted.type
        return
    for name in sorted(wanted.params.keys() & found.params.keys()):
        if name not in _LANCES_OWN and not same_param(wanted.params[name], found.params[name]):
            yield name, found.params[name], wanted.params[name]


def same_param(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are one; Lance takes some in more than one spelling."""
    return _normalized(one) == _normalized(other)


def _normalized(value: Any) -> str:
    text = str(value).lower()
    return _SYNONYMS.get(text, text)


class TableStats(FrozenModel):
    """A table at one version, as its manifest tells: no row was read.

    `bytes` counts its data files; `borrows` are the places outside its folder where some of them lie, as
    those of a shallow clone do; `blobs` says that a column holds Lance blobs.
    """

    name: str
    table: TableSchema
    version: int
    rows: int
    bytes: int
    stable_row_ids: bool
    data_storage_version: str
    borrows: tuple[str, ...] = ()
    blobs: bool = False


class LiveCatalog(FrozenModel):
    """All tables under one root."""

    prefix: str
    tables: dict[str, TableStats]

    @property
    def catalog(self) -> CatalogSchema:
        """The schema alone."""
        return CatalogSchema(tables={name: live.table for name, live in self.tables.items()})
