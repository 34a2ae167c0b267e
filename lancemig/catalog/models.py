"""What an application says its tables look like: `Table`, and the `Model` that any declaration becomes."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from lancemig.catalog.arrow_types import ArrowSchema, lance_schema, unsupported_type
from lancemig.catalog.checks import Check
from lancemig.catalog.operations import CreateIndex, CreateTable, Operation
from lancemig.catalog.operations.base import nameable
from lancemig.catalog.operations.indices import CREATABLE
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, text_metadata
from lancemig.catalog.value import FrozenModel
from lancemig.errors import PlanError

_LANCES_OWN = ("_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version")
EMBEDDINGS = "embedding_functions"
"""The schema metadata in which LanceDB keeps how vectors are computed."""


class Table(FrozenModel):
    """A table as an application declares it: `Table(schema, key=("id",), indices=[Index(...)])`.

    `schema` is a pyarrow schema, a LanceModel, a pydantic model, or fields. What is left out is not said, and
    is left as it is in the catalog: `key`, `indices` and `metadata` are compared only where they are given;
    an empty list says that there are none. `checks` are standing: `lancemig audit` makes them.
    """

    declared: Any = Field(alias="schema")
    key: tuple[str, ...] | None = None
    indices: tuple[Index, ...] | None = None
    checks: tuple[Check, ...] = ()
    metadata: dict[str, str] | None = None

    def __init__(self, schema: Any, **given: Any) -> None:
        # Pydantic's own keywords, which its checker takes for those of the base.
        super().__init__(**{"schema": schema, **given})

    @field_validator("key", mode="before")
    @classmethod
    def _one_name(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


class Model(FrozenModel):
    """What a declaration says of a table, as Lance would store it.

    `key` and `indices` are None where nothing is said of them. `metadata` holds the entries that are said,
    None for one that must be absent; where it is `complete`, there are no others. `described` tells whether
    the columns' own metadata is said.
    """

    columns: ArrowSchema
    key: tuple[str, ...] | None = None
    indices: tuple[Index, ...] | None = None
    metadata: dict[str, str | None] = Field(default_factory=dict)
    complete: bool = False
    described: bool = True
    checks: tuple[Check, ...] = ()


def model_of(name: str, table: Table, schema: pa.Schema, *, by_class: bool = False) -> Model:
    """What `table` says, its `schema` having become Arrow's; PlanError for what Lance could not store.

    A LanceModel or pydantic model (`by_class`) cannot say what metadata columns have; of the table's, it says
    how vectors are computed.
    """
    _checked_names(name, schema, table.metadata or {})
    for field in schema:
        if (odd := unsupported_type(field.type)) is not None:
            raise PlanError(f"{name}.{field.name}: Lance cannot store {odd}", next_step=_FIX_MODEL)
    columns = lance_schema(schema)
    said = {k: v for k, v in text_metadata(schema.metadata).items() if not k.startswith("lancemig.")}
    entries: dict[str, str | None] = {**said, **(table.metadata or {})}
    if by_class:
        told = entries.get(EMBEDDINGS)
        # LanceDB spreads it over many lines, which it does not mind to have in one.
        entries[EMBEDDINGS] = told and json.dumps(json.loads(told))
    # What these two refuse is refused here, where the model can be named.
    CreateTable(table=name, schema=columns, key=table.key or ()).after(CatalogSchema())
    indices = None if table.indices is None else _checked_indices(name, table.indices, columns)
    return Model(
        columns=columns,
        key=table.key,
        indices=indices,
        metadata=entries,
        complete=table.metadata is not None or (bool(said) and not by_class),
        described=not by_class,
        checks=table.checks,
    )


def _checked_names(name: str, schema: pa.Schema, metadata: Mapping[str, str]) -> None:
    """Refuse names that Lance takes, and then cannot work with, and those that are not for models."""
    if not nameable(name):
        raise PlanError(
            "a table name may contain letters, digits, `_`, `-` and `.`, and must not start with `.`"
        )
    for column in schema.names:
        if column in _LANCES_OWN or "`" in column:
            raise PlanError(f"{name}.{column}: Lance reserves this column name")
    own = [entry for entry in metadata if entry.startswith("lancemig.")]
    if own:
        raise PlanError(f"metadata {', '.join(own)} is reserved for lancemig")


def _checked_indices(name: str, indices: tuple[Index, ...], columns: pa.Schema) -> tuple[Index, ...]:
    """Refuse an index that Lance has no such kind of, or cannot build on its column, and two of one name."""
    catalog = CatalogSchema(tables={name: TableSchema(columns=columns)})
    found: list[Index] = []
    for index in indices:
        if any(other.name == index.name for other in found):
            raise PlanError(f"two indices are named {index.name!r}: give one of them another `name`")
        operation = CreateIndex(table=name, **index.model_dump())
        operation.after(catalog)
        found.append(operation.index)
    return tuple(found)


def embedding_functions(metadata: str | None) -> dict[str, dict[str, Any]]:
    """What LanceDB says on how each vector column is computed, by column; empty where it is unreadable."""
    try:
        found = json.loads(metadata or "[]")
        return {str(one["vector_column"]): one for one in found}
    except (ValueError, TypeError, KeyError):
        return {}


_FIX_MODEL = "fix the model, then run the same command again"


def recreate(catalog: CatalogSchema) -> list[Operation]:
    """What makes these tables, empty, and their indices, but for what no operation makes."""
    return [made for name, table in _creatable_tables(catalog) for made in _create_operations(name, table)]


def cannot_recreate(catalog: CatalogSchema) -> list[str]:
    """What no operation makes: tables with other names than LanceDB allows, and indices of other types."""
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
