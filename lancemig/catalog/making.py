"""The operations that make tables out of nothing, as a schema has them."""

from lancemig.catalog.operations import CreateIndex, CreateTable, Operation
from lancemig.catalog.operations.additive import CREATABLE
from lancemig.catalog.operations.base import nameable
from lancemig.catalog.schema import CatalogSchema, TableSchema


def making(catalog: CatalogSchema) -> list[Operation]:
    """What makes these tables, empty, and their indices, but for what no operation makes."""
    return [made for name, table in _named(catalog) for made in _making(name, table)]


def unmade(catalog: CatalogSchema) -> list[str]:
    """What no operation makes: tables with other names than LanceDB allows, and indices of other types."""
    return [
        *(
            f"table {name!r}: LanceDB does not allow this name"
            for name in sorted(catalog.tables)
            if not nameable(name)
        ),
        *(
            f"no operation can create {name}: index {index.name} on {index.column} ({index.type})"
            for name, table in _named(catalog)
            for index in table.indices
            if index.type not in CREATABLE
        ),
    ]


def _named(catalog: CatalogSchema) -> list[tuple[str, TableSchema]]:
    return sorted((name, table) for name, table in catalog.tables.items() if nameable(name))


def _making(name: str, table: TableSchema) -> list[Operation]:
    columns = table.columns.with_metadata(table.metadata or None)
    indices = [index.model_dump() for index in table.indices if index.type in CREATABLE]
    return [
        CreateTable(table=name, schema=columns, key=table.key),
        *(CreateIndex.model_validate({"table": name, **index}) for index in indices),
    ]
