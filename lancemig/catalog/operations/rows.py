"""Operations that change values, rows, keys and metadata; the columns stay as they are."""

from abc import abstractmethod
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from lancemig.catalog.arrow_types import format_type
from lancemig.catalog.operations.base import (
    Function,
    FunctionCall,
    Operation,
    Source,
    Strategy,
    TableChange,
    checked_key,
)
from lancemig.catalog.operations.effects import (
    NO_ROWS_CONCERNED,
    ROWS_STAY,
    ColumnEffects,
    RowEffect,
    heads,
)
from lancemig.catalog.schema import (
    CatalogSchema,
    TableSchema,
    column,
    field_within,
    replace_field,
    text_metadata,
)
from lancemig.catalog.sources import describe_source
from lancemig.catalog.value import FrozenModel, Kind
from lancemig.errors import PlanError

Rule = Literal["max", "min", "union", "coalesce"]
"""The greater or the smaller value; both lists' items; the table's value unless it is null."""


def checked_rule(where: str, of: pa.DataType, rule: Rule) -> None:
    """Refuse a rule that does not fit the type of the column called `where`, with PlanError."""
    if rule in ("max", "min") and not ordered(of):
        raise PlanError(
            f"{where} is {format_type(of)}: its values have no order, so the rule {rule!r} cannot be used",
            next_step='use "coalesce", or remove the rule of this column',
        )
    if rule == "union" and not (_list(of) and countable(of.value_type)):
        raise PlanError(
            f'{where} is {format_type(of)}: "union" requires a list of plain values, or of structs of '
            "plain values",
            next_step='use "coalesce", or remove the rule of this column',
        )


def ordered(of: pa.DataType) -> bool:
    """Whether one value can be greater than another."""
    return countable(of) and not pa.types.is_struct(_plain(of))


def countable(of: pa.DataType) -> bool:
    """Whether values can be tested for equality: any type but lists, maps, and structs that hold them."""
    of = _plain(of)
    if pa.types.is_struct(of):
        return all(countable(field.type) for field in of)
    return not (pa.types.is_nested(of) or pa.types.is_null(of))


def _plain(of: pa.DataType) -> pa.DataType:
    if isinstance(of, pa.BaseExtensionType):
        return _plain(of.storage_type)
    return _plain(of.value_type) if pa.types.is_dictionary(of) else of


def _list(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of))


class RowBrake(FrozenModel):
    """A limit on the rows that an operation may change.

    Args:
        max_rows: The largest number of rows that may be changed or deleted; None for no limit. A run past the
            limit stops before its first commit.
    """

    max_rows: int | None = Field(default=None, ge=0)


class Brakes(RowBrake):
    """Limits on what an operation may change. A run past a limit stops before its first commit.

    Args:
        max_rows: The largest number of rows that may be changed; None for no limit.
        min_delta: The smallest numeric change that is made: a value that would change by less stays as it is.
        max_indeterminate: The largest number of rows that the function, the SQL or the source could not
            decide; None for no limit.
    """

    min_delta: float | None = Field(default=None, ge=0)
    max_indeterminate: int | None = Field(default=None, ge=0)


class ValueChange(TableChange):
    """Changes values or rows, not the schema; the inverse restores them from the guarded version."""

    kind: ClassVar[Kind] = Kind.DATA_ONLY
    strategy: ClassVar[Strategy] = Strategy.ROWS
    why: ClassVar[str] = "changes values; the schema stays the same"

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Put back what this operation replaced, inserted or deleted."""
        table = before.tables.get(self.table)
        key = table.key if table is not None else ()
        restores_key = bool(key) and not self.column_effects(table).written.isdisjoint(key)
        return (UndoRows(table=self.table, restores_key=restores_key),)


class Recomputation(ValueChange, Brakes):
    """Computes values of existing columns again, in some or all rows.

    Args:
        where: An SQL condition that chooses the rows; default: all.
        flag: The name of a boolean column. It is set to true in a row that could not be decided, and to false
            in a row that could not be decided earlier and now is.
    """

    where: str | None = None
    flag: str | None = None
    strategy: ClassVar[Strategy] = Strategy.COLUMN

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """The paths of the columns that are computed."""

    @property
    def written(self) -> tuple[str, ...]:
        """The paths of the columns that are written: the targets and the flag."""
        return (*self.targets, *([self.flag] if self.flag is not None else []))

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY

    def check(self) -> None:
        """Refuse a flag that is computed as well."""
        if self.flag is not None and self.flag in self.targets:
            raise ValueError(f"flag {self.flag!r} cannot be one of the computed columns")

    def _after(self, table: TableSchema) -> TableSchema:
        for path in self.targets:
            column(self.table, table.columns, path)
        if self.flag is not None:
            field = column(self.table, table.columns, self.flag)
            if "." in self.flag or not pa.types.is_boolean(field.type):
                raise PlanError(
                    f"flag {self.table}.{self.flag} is {format_type(field.type)}; it must be a "
                    "top-level bool column",
                    next_step=f'add the column in an earlier operation: AddColumn(table="{self.table}", '
                    'column=pa.field("…", pa.bool_()))',
                )
        return table


class UpdateRows(Recomputation):
    """Set columns to the values of SQL expressions.

    Args:
        table: The name of the table.
        set: The SQL expression of each column, by the path of the column.
        where: An SQL condition that chooses the rows; default: all.
        unknown: An SQL condition. A row for which it holds is indeterminate: it keeps its values and is
            counted.
        flag: A boolean column that marks the indeterminate rows.
        max_rows: See `Brakes`, as for `min_delta` and `max_indeterminate`.
    """

    op: Literal["update_rows"] = "update_rows"
    set: dict[str, str] = Field(min_length=1)
    unknown: str | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that are set."""
        return tuple(self.set)

    def describe(self) -> str:
        """`set a = …, b = … where …`."""
        assignments = ", ".join(f"{name} = {sql}" for name, sql in self.set.items())
        return f"set {assignments}" + (f" where {self.where}" if self.where else "")

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """SQL computes the columns that are set."""
        return ColumnEffects(
            reason=self.describe(),
            expressions=self.set,
            conditions=tuple(sql for sql in (self.where, self.unknown) if sql is not None),
            computed=self.written,
        )


class BackfillColumns(Recomputation, FunctionCall):
    """Set columns to the values that a Python function computes from other columns.

    The function must be pure, and must treat each row on its own: the size of its batches is not fixed, and
    it is called once for each row while the columns that it reads stay the same.

    Args:
        table: The name of the table.
        columns: The paths of the columns that are set.
        reads: The paths of the columns that the function gets.
        using: A module-level function. It gets a `pa.RecordBatch` of the columns in `reads`, and returns a
            `pa.Array` (for one column) or a `pa.RecordBatch` with `columns`, of the same length. A boolean
            column `__unknown__` in the result is true for an indeterminate row, which keeps its values; a
            text column `__reason__` says why. Null is a value like any other.
        where: An SQL condition that chooses the rows; default: all.
        flag: A boolean column that marks the indeterminate rows.
        max_rows: See `Brakes`, as for `min_delta` and `max_indeterminate`.
        retries: See `FunctionCall`, as for `pause`.
    """

    op: Literal["backfill_columns"] = "backfill_columns"
    columns: tuple[str, ...] = Field(min_length=1)
    reads: tuple[str, ...] = Field(min_length=1)
    using: Function

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that are filled."""
        return self.columns

    def _after(self, table: TableSchema) -> TableSchema:
        for path in self.reads:
            column(self.table, table.columns, path)
        return super()._after(table)

    def describe(self) -> str:
        """`backfill a, b from f(c, d) where …`."""
        call = f"{self.using.__name__}({', '.join(self.reads)})"
        return f"backfill {', '.join(self.columns)} from {call}" + (
            f" where {self.where}" if self.where else ""
        )

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The function computes the columns from those that it reads."""
        return ColumnEffects(
            reason=self.describe(),
            reads=heads(self.reads),
            conditions=() if self.where is None else (self.where,),
            computed=self.written,
            by_function=True,
        )


class UpsertRows(ValueChange, Brakes):
    """Insert the rows of a source whose key is new, and treat the others as `when_exists` says.

    Null and repeated keys in the source are refused, and so is a key that several rows of the table have.

    Args:
        table: The name of the table.
        rows: A list of rows, a pyarrow table, reader or dataset, or a module-level function that yields
            record batches. A boolean column `__unknown__` is true for an indeterminate row, which is not
            written; a text column `__reason__` says why.
        on: The columns of the key.
        when_exists: What happens to a row whose key the table has. `error` accepts an equal row and refuses
            any other, naming key and values; `overwrite` writes the values of the source; `keep` changes
            nothing; `extend` changes the columns in `extend`.
        extend: The rule for each changed column. `max` and `min` keep the greater or smaller value, `union`
            the items of both lists, `coalesce` the value of the table unless it is null.
        max_rows: See `Brakes`, as for `min_delta` and `max_indeterminate`.
    """

    op: Literal["upsert_rows"] = "upsert_rows"
    rows: Source
    on: tuple[str, ...] = Field(min_length=1)
    when_exists: Literal["error", "overwrite", "keep", "extend"] = "error"
    extend: dict[str, Rule] | None = Field(default=None, min_length=1)

    def check(self) -> None:
        """Refuse rules without `extend`, `extend` without rules, and rules for the key."""
        if (self.when_exists == "extend") != (self.extend is not None):
            raise ValueError('when_exists="extend" requires extend={column: rule}, and the reverse')
        for name in self.extend or {}:
            if name in self.on:
                raise ValueError(f"{name!r} is part of the key, which a rule cannot change")
            if "." in name:
                raise ValueError(f"{name!r} is a struct field; extend accepts only whole columns")

    def _after(self, table: TableSchema) -> TableSchema:
        for name in checked_key(self.table, table.columns, self.on):
            of = table.columns.field(name).type
            if not ordered(of):
                raise PlanError(
                    f"{self.table}.{name} is {format_type(of)}: values of this type cannot be a key"
                )
        for name, rule in (self.extend or {}).items():
            of = column(self.table, table.columns, name).type
            checked_rule(f"{self.table}.{name}", of, rule)
        return table

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Put back what it inserted and overwrote; its own key identifies the rows."""
        return (UndoRows(table=self.table, on=self.on),)

    def describe(self) -> str:
        """`upsert 3 rows on rec_id (overwrite)`, `… (extend seen_at by max)`."""
        rules = ", ".join(f"{name} by {rule}" for name, rule in (self.extend or {}).items())
        how = f"{self.when_exists} {rules}".strip()
        return f"upsert {describe_source(self.rows)} on {', '.join(self.on)} ({how})"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Existing rows get values from the source: the columns with a rule, or all but the key."""
        columns: list[str] = []
        if self.when_exists == "extend":
            columns = list(self.extend or {})
        elif self.when_exists == "overwrite" and before is not None:
            columns = [name for name in before.columns.names if name not in self.on]
        return ColumnEffects(reason=self.describe(), reads=None, computed=tuple(columns))

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays, and rows of the source are inserted."""
        return RowEffect(inserts=True)


class DeleteRows(ValueChange, RowBrake):
    """Delete rows.

    Args:
        table: The name of the table.
        where: An SQL condition that chooses the rows.
        max_rows: The largest number of rows that may be deleted; None for no limit.
    """

    op: Literal["delete_rows"] = "delete_rows"
    where: str

    def _after(self, table: TableSchema) -> TableSchema:
        return table

    def describe(self) -> str:
        """`delete rows where …`."""
        return f"delete rows where {self.where}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Read the columns of the condition; change none."""
        return ColumnEffects(conditions=(self.where,))

    @property
    def row_effect(self) -> RowEffect:
        """Matching rows are removed."""
        return RowEffect(removes=True)


class UndoRows(ValueChange):
    """Restore what another operation changed. The planner creates it; migration files do not use it.

    A changed cell gets its old value, an inserted row is deleted, and a deleted row is inserted again, unless
    another writer has changed the cell, the row or its key since.

    Args:
        table: The name of the table.
        step: The step that is undone.
        on: The columns of the key, for a table without one.
        overwrite: Whether a cell gets its old value even if another writer has changed it.
        repeats: Whether the other operation deleted repeated rows: they are inserted again although rows with
            their keys exist.
        restores_key: Whether columns of the declared key get their old values.
    """

    op: Literal["undo_rows"] = "undo_rows"
    step: str = ""
    on: tuple[str, ...] = ()
    overwrite: bool = False
    repeats: bool = False
    restores_key: bool = False

    def _after(self, table: TableSchema) -> TableSchema:
        return table

    def describe(self) -> str:
        """`revert operation 1 of revision 0002`."""
        revision, _, index = self.step.rpartition("/")
        if not index.isdigit():
            return f"revert step {self.step}"
        return f"revert operation {int(index) + 1} of revision {revision}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Any column may get back an earlier value."""
        columns = pa.schema([]) if before is None else before.columns
        return ColumnEffects(reason=self.describe(), reads=None, replaced=columns)

    @property
    def row_effect(self) -> RowEffect:
        """Inserted rows are removed and deleted rows are inserted again; later rows are not concerned."""
        return RowEffect(removes=True, inserts=True, restores=True, replayed=False)


class SetKey(TableChange):
    """Declare the columns that identify a row. Their values must be unique and not null.

    The key is stored in the metadata of the schema. With a key, updates and deletes of other writers can be
    replicated during a rebuild, and an undo finds its rows again.

    Args:
        table: The name of the table.
        key: The columns of the key; an empty tuple removes the key.
    """

    kind: ClassVar[Kind] = Kind.DATA_ONLY
    strategy: ClassVar[Strategy] = Strategy.METADATA
    why: ClassVar[str] = "changes metadata only"

    op: Literal["set_key"] = "set_key"
    key: tuple[str, ...]

    def _after(self, table: TableSchema) -> TableSchema:
        return table.model_copy(update={"key": checked_key(self.table, table.columns, self.key)})

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Name the key it had before."""
        return (SetKey(table=self.table, key=before.table(self.table).key),)

    def describe(self) -> str:
        """`set key rec_id`."""
        return f"set key {', '.join(self.key)}" if self.key else "remove key"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Read the columns of the key; change none."""
        return ColumnEffects(reads=heads(self.key))

    @property
    def row_effect(self) -> RowEffect:
        """None."""
        return NO_ROWS_CONCERNED


class SetMetadata(TableChange):
    """Set or remove entries in the metadata of a schema or of one column.

    Args:
        table: The name of the table.
        metadata: The new text of each entry; None removes the entry.
        column: The path of a column, of a struct field (`info.serial`), of the items of a list (`tags.item`),
            or of the key or value of a map (`scores.value`); default: the schema.
    """

    kind: ClassVar[Kind] = Kind.DATA_ONLY
    strategy: ClassVar[Strategy] = Strategy.METADATA
    why: ClassVar[str] = "changes metadata only"

    op: Literal["set_metadata"] = "set_metadata"
    metadata: dict[str, str | None] = Field(min_length=1)
    column: str | None = None

    def check(self) -> None:
        """Refuse lancemig's own metadata."""
        own = [name for name in self.metadata if name.startswith("lancemig.")]
        if own:
            raise ValueError(f"metadata {', '.join(own)} is reserved for lancemig")

    def _after(self, table: TableSchema) -> TableSchema:
        if self.column is None:
            return table.model_copy(update={"metadata": self._merged(table.metadata)})
        field = field_within(self.table, table.columns, self.column)
        merged = self._merged(text_metadata(field.metadata))
        return table.with_columns(
            replace_field(table.columns, self.column, [field.with_metadata(merged or None)])
        )

    def _merged(self, old: dict[str, str]) -> dict[str, str]:
        new = {**old, **self.metadata}
        return {name: text for name, text in new.items() if text is not None}

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Set the entries to what they were, or remove them."""
        table = before.table(self.table)
        old = table.metadata
        if self.column is not None:
            old = text_metadata(field_within(self.table, table.columns, self.column).metadata)
        return (
            SetMetadata(
                table=self.table,
                column=self.column,
                metadata={name: old.get(name) for name in self.metadata},
            ),
        )

    def describe(self) -> str:
        """`set metadata a = 'x', remove metadata b on c`."""
        new = ", ".join(f"{name} = {text!r}" for name, text in self.metadata.items() if text is not None)
        gone = ", ".join(name for name, text in self.metadata.items() if text is None)
        parts = [f"set metadata {new}"] if new else []
        parts += [f"remove metadata {gone}"] if gone else []
        return ", ".join(parts) + (f" on {self.column}" if self.column else "")

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """None: no value changes."""
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        """None."""
        return NO_ROWS_CONCERNED
