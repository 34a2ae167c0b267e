"""The tail of a table without a key whose row ids are stable: a row is known by its id in both roots.

A carried table has the row ids of the one it was carried from. Rows that were inserted since have others, so
they are not told apart: as long as one of them differs, all are brought again. That costs what came since the
table was pinned, in each round.
"""

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.changes import identical
from lancemig.apply.rows.diff import diff, value_columns
from lancemig.apply.rows.values import with_columns
from lancemig.apply.steps.transform import Passage, through
from lancemig.apply.tail.following import Change, Followed, followed_in
from lancemig.catalog.operations import RewriteTable
from lancemig.catalog.schema import TableSchema
from lancemig.store.tables import ROW_ADDRESS, ROW_ID, Staged, Table

_ID = "row id"


def keeps_row_ids(passage: Passage) -> bool:
    """Whether a carried table's rows have the ids of the rows they come from, at the end of the way."""
    return passage.keeps_rows and not any(isinstance(step.operation, RewriteTable) for step in passage.steps)


class ByRowId:
    """What became of a table's rows between two versions, to be done to the table carried from the first."""

    def __init__(self, passage: Passage, start: TableSchema, before: Table, source: Table) -> None:
        found = diff(before, source, (), columns=source.columns.names)
        names = start.columns.names
        self.change = Change(
            was=self._known(passage, start, pa.concat_tables([found.old, found.deleted])),
            now=self._known(passage, start, found.new),
            key=(_ID,),
        )
        self.inserted = through(passage, start, found.inserted.select(names))
        self.before = before.read([], row_ids=True).column(ROW_ID)

    @staticmethod
    def _known(passage: Passage, start: TableSchema, rows: pa.Table) -> pa.Table:
        gone = through(passage, start, rows.select(start.columns.names))
        return gone.append_column(_ID, rows.column(ROW_ID))

    def staged(self, target: Table) -> tuple[Staged | None, Followed]:
        """Stage it, as one commit. What an earlier round has done to the rows since is no conflict."""
        ids = pa.concat_tables([side.select([_ID]) for side in (self.change.was, self.change.now)])
        there = target.rows_of(ids.column(_ID), target.columns.names, addresses=True)
        there = there.append_column(_ID, there.column(ROW_ID))
        new, again = self._insertions(target)
        return followed_in(target, self.change, there, "overwrite", new, again)

    def _insertions(self, target: Table) -> tuple[pa.Table, pa.Table]:
        """The rows to be inserted, and those that were inserted before and are to go."""
        wanted = with_columns(self.inserted, target.columns)
        known = target.read([], row_ids=True, addresses=True)
        known = known.filter(pc.invert(pc.is_in(known.column(ROW_ID), value_set=self.before)))
        found = target.rows_of(known.column(ROW_ID), target.columns.names, addresses=True)
        found = found.sort_by(ROW_ADDRESS)
        alike = found.num_rows == wanted.num_rows
        if alike and pc.all(identical(found, wanted, value_columns(wanted)), min_count=0).as_py():
            return wanted.slice(0, 0), found.slice(0, 0)
        return wanted, found
