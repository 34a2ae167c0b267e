"""Following tables through renames and drops, from the live root to their place in the staged one."""

from collections.abc import Iterable

from lancemig.catalog.operations import (
    BuildTable,
    CreateTable,
    DropTable,
    Operation,
    RenameTable,
    RewriteTable,
    TransformTable,
)
from lancemig.errors import PlanError

_WRITES_ANEW = (TransformTable, BuildTable, RewriteTable)


class Tracking:
    """Who is who: each table of the live root, and each new one, under all its names in turn."""

    def __init__(self, live: Iterable[str]) -> None:
        self.source: dict[int, str | None] = dict(enumerate(live))
        self._now = {name: id_ for id_, name in self.source.items() if name is not None}
        self._written_anew: set[int] = set()
        self._touched: set[int] = set()

    def follow(self, operation: Operation) -> int:
        """Take `operation` into account; the identity of the table it concerns."""
        if operation.table not in self._now and isinstance(operation, CreateTable | BuildTable):
            id_ = len(self.source)
            self.source[id_] = None
            self._now[operation.table] = id_
            self._written_anew.add(id_)
            return id_
        id_ = self._now[operation.table]
        if isinstance(operation, RenameTable):
            self._now[operation.to] = self._now.pop(operation.table)
        elif isinstance(operation, DropTable):
            del self._now[operation.table]
        else:
            _refuse_late_layout(operation, copied=id_ in self._touched and id_ not in self._written_anew)
            if id_ not in self._touched and isinstance(operation, _WRITES_ANEW):
                self._written_anew.add(id_)
            self._touched.add(id_)
        return id_

    def finally_called(self, id_: int) -> str | None:
        """The table's name when all is done; None for one that was dropped."""
        return next((name for name, other in self._now.items() if other == id_), None)

    def copied(self, id_: int) -> bool:
        """Whether the table's files are needed in the staged root before its first step."""
        return self.finally_called(id_) is not None and id_ not in self._written_anew


def _refuse_late_layout(operation: Operation, *, copied: bool) -> None:
    """Lance gives a table its layout when it is made: one written here is made with it, a copy is not."""
    if not copied or not isinstance(operation, RewriteTable):
        return
    if operation.data_storage_version is not None or operation.stable_row_ids is not None:
        raise PlanError(
            f"the layout of {operation.table} cannot be changed after an earlier operation of the same run "
            "changed the table",
            next_step="move RewriteTable to a revision of its own, and upgrade to the one before it first",
        )
