"""Numbers, sizes, durations and columns as text."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import wrap

from lancemig.catalog.stamps import UNDO, StepId
from lancemig.catalog.value import size_text

JSON_FORMAT = 1
"""The `format` of what verbs print with `--json`."""

MAX_CELL = 72


def step_name(step: str) -> str:
    """The id of a step with its operation counted from 1: `0007/0` is `0007 operation 1`."""
    named = StepId.parse(step)
    if named is None:
        return step
    undo, down = UNDO if named.undo else "", " downgrade" if named.down else ""
    return f"{undo}{named.revision}{down} operation {named.index + 1}"


def size(count: int | None) -> str:
    """A number of bytes: `316 MB`; `?` if it is unknown."""
    return "?" if count is None else size_text(count)


def seconds(amount: float) -> str:
    """`0.04 s`, `12 s`, `3 min`, `2.5 h`."""
    if amount < 10:
        return f"{amount:.2g} s" if amount >= 0.001 else "0 s"
    if amount < 120:
        return f"{amount:.0f} s"
    return f"{amount / 60:.0f} min" if amount < 7200 else f"{amount / 3600:.1f} h"


def number(count: int | None, noun: str) -> str:
    """`1 row`, `4,218,901 rows`; empty if the count is unknown."""
    return "" if count is None else f"{count:,} {noun}{'' if count == 1 else 's'}"


def columns(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines of cells, each column as wide as its widest cell; long cells are wrapped."""
    wrapped = [[wrap(cell, MAX_CELL) or [""] for cell in row] for row in rows]
    cells = [line for row in wrapped for line in zip_longest(*row, fillvalue="")]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]
