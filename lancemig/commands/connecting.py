"""For programs that use a catalog: open it where the pointer says."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lancemig.commands.opening import open_catalog
from lancemig.config import MAIN, read_settings

if TYPE_CHECKING:
    import lancedb


def connect(config: str | Path = "lancemig.ini", name: str = MAIN) -> "lancedb.DBConnection":
    """A LanceDB connection to the root that is live now, as section `name` of the file `config` tells.

    A program that runs for long asks again from time to time: a flip does not move connections that are open.
    Raises LancemigError for a configuration, a pointer or a store that cannot be read.
    """
    catalog = open_catalog(read_settings(Path(config), name, environ=os.environ))
    return catalog.store.tables.connect(catalog.place(catalog.seen()).prefix)
