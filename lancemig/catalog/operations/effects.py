"""The two faces of an operation: what it does to the columns of a table, and what it does to its rows.

Both are plain values. Column lineage, replay, verification, costs, squash and lint follow from them, so that
an operation states once, in its own class, what it does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lancemig.catalog.sql_tokens import names_column


@dataclass(frozen=True, kw_only=True)
class ColumnEffects:
    """What an operation does to the columns of one table, in the rows that stay.

    Columns are paths (`a`, or `info.serial` for a field of the struct `info`). A column that no field names
    keeps its name and its values.
    """

    reason: str = ""
    """Why values differ afterwards, in words; the verification report cites it."""

    reads: frozenset[str] | None = frozenset()
    """Top-level columns that the operation needs, besides those that it changes and those that its SQL names.

    None: it may need any column.
    """

    expressions: Mapping[str, str] = field(default_factory=dict)
    """The SQL that computes columns, by the path of the column."""

    conditions: tuple[str, ...] = ()
    """The SQL conditions by which rows are chosen."""

    computed: tuple[str, ...] = ()
    """Columns that get new values, existing ones and new ones; those of `expressions` are among them."""

    by_function: bool = False
    """Whether a Python function of the migration gives the `computed` values, which may take long."""

    added: Mapping[str, pa.Field] = field(default_factory=dict)
    """Columns that do not exist before. One that is not `computed` as well is null in every row."""

    cast: tuple[str, ...] = ()
    """Columns of which only the type changes: casting back gives the old value in every row."""

    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    """The new types of columns that exist before, by path; of `cast` columns and of computed ones."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Columns with a new name, as `{old path: new path}`; their values stay."""

    dropped: tuple[str, ...] = ()
    """Columns that do not exist afterwards."""

    replaced: pa.Schema | None = None
    """All columns of the table afterwards, where none of them continues a column from before."""

    def needs(self, columns: pa.Schema) -> frozenset[str]:
        """The top-level columns of `columns` without which the operation cannot run.

        The names in SQL expressions are found as Lance finds them; if it is not certain, a column is needed.
        """
        if self.reads is None:
            return frozenset(columns.names)
        text = "\n".join([*self.expressions.values(), *self.conditions])
        needed = self.reads | self.touched
        return frozenset(name for name in columns.names if name in needed or names_column(text, name))

    @property
    def touched(self) -> frozenset[str]:
        """The top-level columns from before that the operation changes, renames or drops."""
        changed = {*self.computed, *self.added, *self.cast, *self.renamed, *self.dropped}
        return heads(path for path in changed if "." in path or path not in self.added)

    @property
    def written(self) -> frozenset[str]:
        """The top-level columns of which values are written: computed, cast, or structs that lose a field."""
        shortened = (path for path in self.dropped if "." in path)
        return heads([*self.computed, *self.cast, *shortened])


@dataclass(frozen=True, kw_only=True)
class RowEffect:
    """What an operation does to the rows of its table as a whole; by default every row stays, none is new."""

    removes: bool = False
    """Whether the operation may delete a row, or make several of it."""

    inserts: bool = False
    """Whether the operation may add rows that do not derive from a row of the table before it."""

    from_source: bool = False
    """Whether all rows come from a source, and none from the table before it, if there was one."""

    writes_table: bool = False
    """Whether the operation writes the whole table, so that a rebuild needs no copy of its old files."""

    restores: bool = False
    """Whether the operation restores rows and values of an earlier version, which cannot be recomputed."""

    replayed: bool = True
    """Whether a row that is written to the live table later has to go through the operation, too.

    False for what changes no row: indices, metadata, layout, names of tables. False as well where the rows do
    not come from the live table.
    """

    compares_rows: bool = False
    """Whether it depends on other rows of the table which rows are removed: some rows alone do not tell."""

    max_gone: int | None = None
    """How many rows of the live table a table from a source may lack, by key; None for no limit."""

    max_changed: int | None = None
    """How many rows of the live table may have other values in a table from a source; None for no limit."""

    table_renamed_to: str | None = None
    """The new name of the table; None where it keeps its name."""

    table_dropped: bool = False
    """Whether the table does not exist afterwards."""


ROWS_STAY = RowEffect()
"""Every row stays, and a later row goes through the operation as well."""

NO_ROWS_CONCERNED = RowEffect(replayed=False)
"""The operation concerns indices, metadata or layout: rows are as they were, and later rows skip it."""


def heads(paths: Iterable[str]) -> frozenset[str]:
    """The top-level columns of these paths: `info` for `info.serial`."""
    return frozenset(path.partition(".")[0] for path in paths)
