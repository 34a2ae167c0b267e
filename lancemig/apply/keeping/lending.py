"""Which roots lend files to others: told by the tables themselves, whatever the lineage says of them."""

from collections.abc import Iterable

from lancemig.store.tables import Table, Tables


def places(tables: Iterable[Table]) -> frozenset[str]:
    """Where files of these versions of tables lie, outside of the tables' own folders."""
    return frozenset(place for table in tables for place in table.borrows)


def lent_by(tables: Tables, root: str, borrowed: Iterable[str]) -> list[str]:
    """The places among `borrowed` that lie in `root`."""
    folder = f"{tables.objects.uri}/{root}{tables.catalog_dir}"
    return sorted(place for place in borrowed if f"{place}/".startswith(folder))
