"""The coverage gate: a staged column goes live only if another gate compared it, or a reason is declared.

The gate takes the columns that the stored table has, and the outcomes of the gates that compare values. It
does not ask what operations state about columns, so that a column that an operation forgets is refused here.
"""

from collections.abc import Iterable, Iterator, Sequence

from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.sources import count_text

_OF_VALUES = ("columns", "recomputed")
"""The gates that compare values; those of indices and recall name a column as well, but do not compare it."""

_UNCOVERED = "no gate compared it, and nothing declares why it cannot be compared"


def coverage_gate(
    table: str,
    columns: Sequence[str],
    key: Sequence[str],
    outcomes: Iterable[GateOutcome],
) -> Iterator[GateOutcome]:
    """One failure for each column that no gate compared and no reason excuses; else one success.

    Args:
        table: the staged table's name.
        columns: its columns, as stored.
        key: the columns that the keys gate compares.
        outcomes: the outcomes of the gates that compare values.
    """
    found = list(outcomes)
    if any(not one.ok and one.column is None and one.gate == "recomputed" for one in found):
        # Whole rows differ: which of their columns are equal is not known.
        return
    values = [one for one in found if one.gate in _OF_VALUES]
    compared = {one.column for one in values if one.compared}
    if any(one.gate == "keys" and one.compared for one in found):
        compared |= set(key)
    declared = {one.column for one in values if one.declared} - compared
    open_ = [name for name in columns if name not in compared and name not in declared]
    for name in open_:
        yield GateOutcome(gate="coverage", table=table, column=name, ok=False, detail=_UNCOVERED)
    if not open_:
        excused = [name for name in columns if name in declared]
        detail = f"{count_text(len(columns), 'column')}, each of them compared"
        if excused:
            detail = (
                f"{len(columns) - len(excused)} of {count_text(len(columns), 'column')} compared; a declared "
                f"reason for {', '.join(excused)}"
            )
        yield GateOutcome(gate="coverage", table=table, ok=True, detail=detail)
