"""For programs that use a catalog: open it where the pointer says, or as a revision left it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

from lancemig.commands.opening import Catalog, open_catalog
from lancemig.commands.past import Past, past
from lancemig.config import MAIN, read_settings

if TYPE_CHECKING:
    import lancedb
    from lancedb.table import LanceTable


@dataclass(frozen=True)
class PastCatalog:
    """The tables as a revision left them, to be read with LanceDB's words.

    Tables that were not there then are not there. What is opened here stays at its version, and refuses all
    of LanceDB's words that would change rows.
    """

    _catalog: Catalog
    _past: Past

    @property
    def revision(self) -> str:
        """The revision."""
        return self._past.revision

    def table_names(self) -> list[str]:
        """The tables that were there."""
        return sorted(self._past.versions)

    def open_table(self, name: str) -> "LanceTable":
        """A table at the version that the revision left.

        Raises LancemigError where there was no such table, or where the version has been cleaned away.
        """
        return self._catalog.store.tables.checked_out(self._past.find(self._catalog, name))


@overload
def connect(
    config: str | Path = "lancemig.ini", name: str = MAIN, *, at: None = None
) -> "lancedb.DBConnection": ...


@overload
def connect(config: str | Path = "lancemig.ini", name: str = MAIN, *, at: str) -> PastCatalog: ...


def connect(
    config: str | Path = "lancemig.ini", name: str = MAIN, *, at: str | None = None
) -> "lancedb.DBConnection | PastCatalog":
    """A LanceDB connection to the root that is live now, as section `name` of the file `config` tells.

    A program that runs for long asks again from time to time: a flip does not move connections that are open.
    `at` names a revision: then it is the catalog as that left it when it was last applied, to be read only.
    Raises LancemigError for a configuration, a pointer or a store that cannot be read, and for a revision
    that was never live, or whose tables' versions the lineage does not tell.
    """
    catalog = open_catalog(read_settings(Path(config), name, environ=os.environ))
    if at is not None:
        return PastCatalog(catalog, past(catalog, at))
    return catalog.store.tables.connect(catalog.place(catalog.seen()).prefix)
