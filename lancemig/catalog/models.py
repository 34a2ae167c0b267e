"""Declared tables: `Table` as an application writes it, and `Model`, the common form of all declarations.

`model_of` checks a declaration and makes it a `Model`. `recreate` goes the other way: the operations that
create the tables of a catalog, empty.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from lancemig.catalog.arrow_types import ArrowSchema, lance_schema, unsupported_type
from lancemig.catalog.checks import Check
from lancemig.catalog.index_parameters import CREATABLE
from lancemig.catalog.operations import CreateIndex, CreateTable, Operation
from lancemig.catalog.operations.base import nameable
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, text_metadata
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError

EMBEDDINGS = "embedding_functions"
"""The schema metadata in which LanceDB describes how vector columns are computed."""

_RESERVED_COLUMNS = (
    "_rowid",
    "_rowaddr",
    "_rowoffset",
    "_row_created_at_version",
    "_row_last_updated_at_version",
)
_FIX_MODEL = "fix the model, then run the same command again"


class Table(FrozenModel):
    """A table as an application declares it.

    `key`, `indices` and `metadata` are compared with the catalog only where they are given; an empty list
    declares that there are none.

    Example:
        `Table(Recording, key=("id",), indices=[Index(column="fs", type="BTREE")])`

    Args:
        schema: A pyarrow schema, a LanceModel, a pydantic model, a mapping from names to types, or fields.
        key: The columns that identify a row; one name may be given as text.
        indices: The indices of the table.
        checks: Checks that `lancemig audit` runs at any time.
        metadata: The schema metadata.
    """

    declared: Any = Field(alias="schema")
    key: tuple[str, ...] | None = None
    indices: tuple[Index, ...] | None = None
    checks: tuple[Check, ...] = ()
    metadata: dict[str, str] | None = None

    def __init__(self, schema: Any, **fields: Any) -> None:
        # `schema` may be given by position; pydantic itself accepts keywords only.
        super().__init__(**{"schema": schema, **fields})

    @field_validator("key", mode="before")
    @classmethod
    def _as_tuple(cls, key: Any) -> Any:
        return (key,) if isinstance(key, str) else key


class Model(FrozenModel):
    """What a declaration tells about a table, in the form that Lance stores."""

    columns: ArrowSchema
    key: tuple[str, ...] | None = None
    """None where the declaration has no key, and the current one stays."""
    indices: tuple[Index, ...] | None = None
    """None where the declaration has no indices, and the current ones stay."""
    metadata: dict[str, str | None] = Field(default_factory=dict)
    """The declared entries of the schema metadata; None for one that must be absent."""
    complete: bool = False
    """Whether entries that `metadata` does not name must be absent."""
    described: bool = True
    """Whether the metadata of columns is declared."""
    checks: tuple[Check, ...] = ()


def model_of(name: str, table: Table, schema: pa.Schema, *, by_class: bool = False) -> Model:
    """The model of a declared table.

    Args:
        name: The name of the table.
        table: The declaration.
        schema: Its schema as pyarrow's.
        by_class: Whether a LanceModel or pydantic model declares the schema. Such a class declares no
            metadata of columns, and of the table only how vectors are computed.

    Raises:
        PlanError: Lance cannot store such a table.
    """
    _checked_names(name, schema, table.metadata or {})
    for field in schema:
        if (unsupported := unsupported_type(field.type)) is not None:
            raise PlanError(f"{name}.{field.name}: Lance cannot store {unsupported}", next_step=_FIX_MODEL)
    columns = lance_schema(schema)
    declared = {k: v for k, v in text_metadata(schema.metadata).items() if not k.startswith("lancemig.")}
    entries: dict[str, str | None] = {**declared, **(table.metadata or {})}
    if by_class:
        embeddings = entries.get(EMBEDDINGS)
        # LanceDB writes this JSON over many lines, and reads it from one line as well.
        entries[EMBEDDINGS] = embeddings and json.dumps(json.loads(embeddings))
    # An invalid operation is refused here, where the message can name the model.
    CreateTable(table=name, schema=columns, key=table.key or ()).after(CatalogSchema())
    indices = None if table.indices is None else _checked_indices(name, table.indices, columns)
    return Model(
        columns=columns,
        key=table.key,
        indices=indices,
        metadata=entries,
        complete=table.metadata is not None or (bool(declared) and not by_class),
        described=not by_class,
        checks=table.checks,
    )


def _checked_names(name: str, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
    """Refuse names that Lance accepts but cannot work with, and names that are reserved."""
    if not nameable(name):
        raise PlanError(
            "a table name may contain letters, digits, `_`, `-` and `.`, and must not start with `.`"
        )
    for column in schema.names:
        if column in _RESERVED_COLUMNS or "`" in column:
            raise PlanError(f"{name}.{column}: Lance reserves this column name")
    reserved = [entry for entry in metadata if entry.startswith("lancemig.")]
    if reserved:
        raise PlanError(f"metadata {', '.join(reserved)} is reserved for lancemig")


def _checked_indices(name: str, indices: tuple[Index, ...], columns: pa.Schema) -> tuple[Index, ...]:
    """Refuse an index of an unknown type or of a type that its column cannot have, and two of one name."""
    catalog = CatalogSchema(tables={name: TableSchema(columns=columns)})
    checked: list[Index] = []
    for index in indices:
        if any(other.name == index.name for other in checked):
            raise PlanError(f"two indices are named {index.name!r}: give one of them another `name`")
        operation = CreateIndex(table=name, **index.model_dump())
        operation.after(catalog)
        checked.append(operation.index)
    return tuple(checked)


def embedding_functions(metadata: str | None) -> dict[str, dict[str, Any]]:
    """LanceDB's description of how each vector column is computed; empty where it is unreadable.

    Args:
        metadata: The value of the schema metadata `EMBEDDINGS`.
    """
    try:
        functions = json.loads(metadata or "[]")
        return {str(function["vector_column"]): function for function in functions}
    except (ValueError, TypeError, KeyError):
        return {}


def recreate(catalog: CatalogSchema) -> list[Operation]:
    """The operations that create these tables, empty, with their indices.

    Tables and indices that no operation can create are omitted; `cannot_recreate` names them.
    """
    tables = _creatable_tables(catalog)
    return [operation for name, table in tables for operation in _create_operations(name, table)]


def cannot_recreate(catalog: CatalogSchema) -> list[str]:
    """Messages about what no operation can create: invalid table names, and unknown types of indices."""
    return [
        *(
            f"table {name!r}: LanceDB does not allow this name"
            for name in sorted(catalog.tables)
            if not nameable(name)
        ),
        *(
            f"no operation can create {name}: index {index.name} on {index.column} ({index.type})"
            for name, table in _creatable_tables(catalog)
            for index in table.indices
            if index.type not in CREATABLE
        ),
    ]


def _creatable_tables(catalog: CatalogSchema) -> list[tuple[str, TableSchema]]:
    return sorted((name, table) for name, table in catalog.tables.items() if nameable(name))


def _create_operations(name: str, table: TableSchema) -> list[Operation]:
    columns = table.columns.with_metadata(table.metadata or None)
    indices = [index.model_dump() for index in table.indices if index.type in CREATABLE]
    return [
        CreateTable(table=name, schema=columns, key=table.key),
        *(CreateIndex.model_validate({"table": name, **index}) for index in indices),
    ]
