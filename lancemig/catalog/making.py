"""The operations that make tables out of nothing, as a schema has them."""

from lancemig.catalog.operations import CreateIndex, CreateTable, Operation
from lancemig.catalog.operations.additive import CREATABLE
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema


def making(catalog: CatalogSchema) -> list[Operation]:
    """What makes these tables, empty, and their indices, but for those that no operation makes."""
    return [made for name, table in sorted(catalog.tables.items()) for made in _making(name, table)]


def unmade(catalog: CatalogSchema) -> list[tuple[str, Index]]:
    """The indices that no operation makes, each with its table's name."""
    tables = sorted(catalog.tables.items())
    return [(name, index) for name, table in tables for index in table.indices if index.type not in CREATABLE]


def _making(name: str, table: TableSchema) -> list[Operation]:
    columns = table.columns.with_metadata(table.metadata or None)
    indices = [index.model_dump() for index in table.indices if index.type in CREATABLE]
    return [
        CreateTable(table=name, schema=columns, key=table.key),
        *(CreateIndex.model_validate({"table": name, **index}) for index in indices),
    ]
