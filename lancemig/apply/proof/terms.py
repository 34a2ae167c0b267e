"""What a proof is made with: how much of it, and what is tolerated."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lancemig.apply.caller import OnProgress, silent
from lancemig.apply.transform import Passage
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.tolerances import Tolerance
from lancemig.store.process import Command
from lancemig.store.tables import Tables

SAMPLE = 1000
SCAN_THREADS = 2


@dataclass(frozen=True)
class Proving:
    """What lancemig.ini says of proofs: how many rows are computed again, and the project's own tests."""

    sample: int = SAMPLE
    command: Command | None = None


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
