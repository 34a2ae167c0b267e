"""What a proof is made with: how much of it, and what is tolerated."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lancemig.apply.caller import OnProgress, silent
from lancemig.apply.steps.transform import Passage
from lancemig.apply.store import SAMPLE
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.tolerances import Tolerance
from lancemig.store.tables import Tables

SCAN_THREADS = 2


@dataclass(frozen=True)
class Ground:
    """Two roots: `staged` is to be what `passages` make of `origin`.

    `versions` are those of the tables of `origin`, `start` is their schema; `after`, those of the staged
    tables, the newest where none is named. `seed` decides which rows are drawn: the same ones every time.
    """

    tables: Tables
    origin: str
    staged: str
    start: CatalogSchema
    passages: list[Passage]
    versions: Mapping[str, int]
    seed: str
    sample: int = SAMPLE
    after: Mapping[str, int] = field(default_factory=dict)
    tolerances: tuple[Tolerance, ...] = ()
    on_progress: OnProgress = silent
