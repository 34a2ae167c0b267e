"""The schema of a catalog: tables with their columns, keys, indices and metadata, without rows.

`CatalogSchema` holds a `TableSchema` for each table; `LiveCatalog` adds what manifests tell about stored
tables. `column`, `has_column` and `replace_field` work with paths of columns: `a.b` is the field `b` of the
struct `a`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field, model_validator

from lancemig.catalog.arrow_types import ArrowSchema, fields_in, with_fields
from lancemig.catalog.index_parameters import with_lances_names
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError

KEY = "lancemig.key"
"""The schema metadata with the key of a table, as a JSON list of column names."""

_ChildFields = Callable[[pa.DataType], tuple[pa.Field, ...]]
"""Gives the fields inside a type that a path may name."""


class Index(FrozenModel):
    """An index on one column, as a model declares it or a catalog has it.

    Example:
        `Index(column="embedding", type="IVF_PQ", params={"metric": "cosine"})`
    """

    name: str
    """The name; if it is omitted, Lance's default `<column>_idx`."""
    column: str
    type: str
    """Lance's name of the index type: `BTREE`, `BITMAP`, `INVERTED`, `IVF_PQ` and others."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The parameters of the type, as in the operation CreateIndex."""

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("name") is None and "column" in fields:
            fields = {**fields, "name": f"{fields['column']}_idx"}
        return with_lances_names(fields)


class TableSchema(FrozenModel):
    """The schema of one table; `columns` include field metadata, `metadata` is that of the schema."""

    columns: ArrowSchema
    key: tuple[str, ...] = ()
    indices: tuple[Index, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)

    def with_columns(self, fields: Iterable[pa.Field]) -> "TableSchema":
        """The same table with other columns; indices and key do not change."""
        return self.model_copy(update={"columns": pa.schema(list(fields))})


class CatalogSchema(FrozenModel):
    """All tables of a catalog, by name."""

    tables: dict[str, TableSchema] = Field(default_factory=dict)

    def table(self, name: str) -> TableSchema:
        """The table `name`; PlanError, with the existing tables, where it does not exist."""
        if name not in self.tables:
            existing = ", ".join(sorted(self.tables)) or "no tables"
            raise PlanError(f"table {name!r} does not exist; tables: {existing}")
        return self.tables[name]

    def with_table(self, name: str, table: TableSchema) -> "CatalogSchema":
        """This catalog with the table `name` added or replaced."""
        return CatalogSchema(tables={**self.tables, name: table})

    def without_table(self, name: str) -> "CatalogSchema":
        """This catalog without the table `name`; PlanError where it does not exist."""
        self.table(name)
        return CatalogSchema(tables={n: t for n, t in self.tables.items() if n != name})

    def require_absent(self, name: str) -> None:
        """Refuse the name of an existing table with PlanError."""
        if name in self.tables:
            raise PlanError(f"table {name!r} already exists")


def unreadable(name: str) -> bool:
    """Whether Lance can store a column of this name, but no scan and no SQL can name it."""
    return not name or "`" in name


def column(table: str, schema: pa.Schema, path: str) -> pa.Field:
    """The field at `path` in the columns of a table.

    Args:
        table: The name of the table, for the message.
        schema: The columns of the table.
        path: A column, or a field of a struct: `a.b`.

    Raises:
        PlanError: There is no such field; the message lists those that exist.
    """
    return _field_at(table, schema, path, lambda of: fields_in(of) if pa.types.is_struct(of) else ())


def field_within(table: str, schema: pa.Schema, path: str) -> pa.Field:
    """The field at `path`, as `column`, and also inside lists and maps: `tags.item`, `scores.value.unit`.

    Such fields are no columns, but have metadata.
    """
    return _field_at(table, schema, path, fields_in)


def _field_at(table: str, schema: pa.Schema, path: str, inside: _ChildFields) -> pa.Field:
    names, fields = path.split("."), tuple(schema)
    for at, name in enumerate(names, start=1):
        field = next((f for f in fields if f.name == name), None)
        if field is not None and at == len(names):
            return field
        if field is None or not inside(field.type):
            break
        fields = inside(field.type)
    existing = ", ".join(f.name for f in fields)
    raise PlanError(f"table {table!r} has no column {path!r}; columns: {existing}")


def has_column(schema: pa.Schema, path: str) -> bool:
    """Whether there is a field at `path`."""
    try:
        column("", schema, path)
    except PlanError:
        return False
    return True


def replace_field(fields: Iterable[pa.Field], path: str, replacement: Iterable[pa.Field]) -> list[pa.Field]:
    """`fields` with the field at `path` replaced by none, one or more fields."""
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
_CHOSEN_BY_LANCE = ("num_partitions",)
"""Parameters that Lance may choose otherwise: fewer for few rows, and others after `optimize_indices`.

tests/surface/test_lance_indices.py shows it.
"""


def index_differences(wanted: Index, actual: Index) -> Iterator[tuple[str, Any, Any]]:
    """The differences between two indices: the property, its actual value, and the wanted one.

    Only the parameters that both name are compared.
    """
    if wanted.column != actual.column:
        yield "column", actual.column, wanted.column
    if wanted.type.upper() != actual.type.upper():
        yield "type", actual.type, wanted.type
        return
    for name in sorted(wanted.params.keys() & actual.params.keys()):
        if name not in _CHOSEN_BY_LANCE and not same_param(wanted.params[name], actual.params[name]):
            yield name, actual.params[name], wanted.params[name]


def same_param(first: Any, second: Any) -> bool:
    """Whether two values of an index parameter are equal; Lance accepts some in several spellings."""
    return _normalized(first) == _normalized(second)


def _normalized(value: Any) -> str:
    text = str(value).lower()
    return _SYNONYMS.get(text, text)


class TableStats(FrozenModel):
    """The schema and statistics of a table at one version, from its manifest; no rows were read."""

    name: str
    table: TableSchema
    version: int
    rows: int
    bytes: int
    """The size of the data files."""
    stable_row_ids: bool
    data_storage_version: str
    borrows: tuple[str, ...] = ()
    """The folders outside the table with data files that it uses, as a shallow clone does."""
    blobs: bool = False
    """Whether a column holds Lance blobs."""
    unindexed: dict[str, int] = Field(default_factory=dict)
    """The number of rows that each index does not cover, by name, as far as known."""


class LiveCatalog(FrozenModel):
    """All tables under one root."""

    prefix: str
    tables: dict[str, TableStats]

    @property
    def catalog(self) -> CatalogSchema:
        """The schema alone."""
        return CatalogSchema(tables={name: live.table for name, live in self.tables.items()})
