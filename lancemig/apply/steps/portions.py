"""A table written anew in portions: each is kept once it is there, so a death costs only the last one.

A portion covers a range of the source's rows. What a function made of it lies in the table's folder, in files
that no version names yet; an object in the run's scratch folder says which, and for which rows.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from lancemig.apply.steps.written import Piece
from lancemig.store.objects import Objects

MOST_ROWS = 1 << 20
"""So many of the source's rows are a portion; Lance puts as many into a file."""

LONGEST = timedelta(seconds=60)
"""How long is written at one portion: what a death may cost."""


@dataclass(frozen=True)
class Portion:
    """What was made of the source's rows up to `upto`, after the portion before it: fragments, and rows."""

    upto: int
    rows: int
    fragments: tuple[str, ...]


@dataclass
class Portions:
    """The portions that are kept below `folder`; those of another state of the `source` do not count."""

    objects: Objects
    folder: str
    source: str
    hold: Callable[[], None]
    kept: list[Portion] = field(default_factory=list)

    def found(self) -> "Portions":
        """With what an earlier process has kept."""
        for item in sorted(self.objects.list(self.folder), key=lambda item: item.key):
            found = self.objects.read(item.key)
            document = json.loads(found.body) if found else {}
            if document.pop("source", None) == self.source:
                self.kept.append(Portion(**{**document, "fragments": tuple(document["fragments"])}))
        return self

    def put(self, portion: Portion) -> None:
        """Keep a portion; it is finished."""
        document = {
            "source": self.source,
            "upto": portion.upto,
            "rows": portion.rows,
            "fragments": list(portion.fragments),
        }
        self.hold()
        key = f"{self.folder}{len(self.kept):08d}.json"
        # One of another state of the source may lie there.
        there = self.objects.read(key)
        self.objects.write_if(key, json.dumps(document).encode(), there.etag if there else None)
        self.kept.append(portion)

    @property
    def upto(self) -> int:
        """The number of the source's rows that need not be read again."""
        return self.kept[-1].upto if self.kept else 0


@dataclass
class Cut:
    """Pieces on their way into a portion, until there are enough of them; `over` when there are no more."""

    pieces: Iterator[Piece]
    now: Callable[[], datetime]
    upto: int
    over: bool = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What was made of the rows of one portion; asked again, of the next."""
        began, start = self.now(), self.upto
        for rows, made in self.pieces:
            yield from made
            self.upto += rows
            if self.upto - start >= MOST_ROWS or self.now() - began >= LONGEST:
                return
        self.over = True


def written_in_portions(
    portions: Portions,
    cut: Cut,
    write: Callable[[Iterator[pa.RecordBatch]], tuple[Sequence[str], int]],
) -> list[Portion]:
    """All portions, of which those that are kept are not written again."""
    while not cut.over:
        fragments, rows = write(cut.batches())
        portions.put(Portion(cut.upto, rows, tuple(fragments)))
    return portions.kept
