"""The gate of coverage: no column of a staged table goes live that no other gate looked at.

It knows no operation. It takes the columns that the staged table really has, and the outcomes of the gates
that compare values: an operation that those gates do not know cannot pass by being overlooked.
"""

from collections.abc import Iterable, Iterator, Sequence

from lancemig.catalog.lineage import GateOutcome
from lancemig.catalog.sources import count_text

_OF_VALUES = ("columns", "recomputed")
"""The gates that compare values. Those of indices and recall name a column as well, and say nothing of it."""


def coverage_gate(
    table: str,
    columns: Sequence[str],
    key: Sequence[str],
    outcomes: Iterable[GateOutcome],
    unknown: Sequence[str],
) -> Iterator[GateOutcome]:
    """Each of `columns` was compared, or a reason why it cannot be is declared; fails, naming it, otherwise.

    `key` are the columns by which rows are found, which the gate of keys compares. `unknown` are operations
    of which nobody knows what they do: beside one, a reason that follows from the operations is worth
    nothing, and only a comparison, or a tolerance of the migration, covers a column.
    """
    found = list(outcomes)
    if any(not one.ok and one.column is None and one.gate == "recomputed" for one in found):
        # Whole rows are not what they should be: which of their columns are, nobody can tell.
        return
    values = [one for one in found if one.gate in _OF_VALUES]
    compared = {one.column for one in values if one.compared}
    if any(one.gate == "keys" and one.compared for one in found):
        compared |= set(key)
    declared = {one.column for one in values if one.declared and (one.tolerance or not unknown)} - compared
    open_ = [name for name in columns if name not in compared and name not in declared]
    for name in open_:
        yield GateOutcome(gate="coverage", table=table, column=name, ok=False, detail=_why(unknown))
    if not open_:
        excused = [name for name in columns if name in declared]
        detail = f"{count_text(len(columns), 'column')}, each of them compared"
        if excused:
            detail = (
                f"{len(columns) - len(excused)} of {count_text(len(columns), 'column')} compared; a declared "
                f"reason for {', '.join(excused)}"
            )
        yield GateOutcome(gate="coverage", table=table, ok=True, detail=detail)


def _why(unknown: Sequence[str]) -> str:
    why = "no gate compared it, and nothing declares why it cannot be compared"
    if unknown:
        why += f"; the proof does not know what these operations do to columns: {', '.join(unknown)}"
    return why
