"""What a live table is, beyond its schema: the facts a plan is made from."""

from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.value import Value


class LiveTable(Value):
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


class LiveCatalog(Value):
    """All tables under one root."""

    prefix: str
    tables: dict[str, LiveTable]

    @property
    def catalog(self) -> CatalogSchema:
        """The schema alone."""
        return CatalogSchema(tables={name: live.table for name, live in self.tables.items()})
