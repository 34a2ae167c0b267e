"""The identity of tables across renames and drops, from the live root to the staged one."""

from collections.abc import Iterable

from lancemig.catalog.operations import Operation, RewriteTable
from lancemig.errors import PlanError


class Tracking:
    """Gives each table of the live root, and each new one, a number that stays while its name changes."""

    def __init__(self, live: Iterable[str]) -> None:
        self.source: dict[int, str | None] = dict(enumerate(live))
        """The live table by number; None for a new one."""
        self._now = {name: id_ for id_, name in self.source.items() if name is not None}
        self._written_anew: set[int] = set()
        self._touched: set[int] = set()

    def follow(self, operation: Operation) -> int:
        """Take `operation` into account, and return the number of its table.

        Raises:
            PlanError: the operation asks for a layout that a table copied before cannot get.
        """
        effect, name_after = operation.row_effect, operation.table_after
        if operation.table not in self._now and effect.from_source:
            id_ = len(self.source)
            self.source[id_] = None
            self._now[operation.table] = id_
            self._written_anew.add(id_)
            return id_
        id_ = self._now[operation.table]
        if name_after is None:
            del self._now[operation.table]
        elif name_after != operation.table:
            self._now[name_after] = self._now.pop(operation.table)
        else:
            _refuse_late_layout(operation, copied=id_ in self._touched and id_ not in self._written_anew)
            if id_ not in self._touched and effect.writes_table:
                self._written_anew.add(id_)
            self._touched.add(id_)
        return id_

    def finally_called(self, id_: int) -> str | None:
        """The table's name after all operations; None for one that was dropped."""
        return next((name for name, other in self._now.items() if other == id_), None)

    def copied(self, id_: int) -> bool:
        """Whether the table's files must be in the staged root before its first step."""
        return self.finally_called(id_) is not None and id_ not in self._written_anew


def _refuse_late_layout(operation: Operation, *, copied: bool) -> None:
    """Refuse a new layout for a copied table: Lance sets the layout when the table is created."""
    if not copied or not isinstance(operation, RewriteTable):
        return
    if operation.data_storage_version is not None or operation.stable_row_ids is not None:
        raise PlanError(
            f"the layout of {operation.table} cannot be changed after an earlier operation of the same run "
            "changed the table",
            next_step="move RewriteTable to a revision of its own, and upgrade to the one before it first",
        )
