"""Operations that add, rename, retype and drop columns, and that allow or refuse nulls in them."""

from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from lancemig.catalog.arrow_arrays import nulls
from lancemig.catalog.arrow_types import ArrowField, ArrowType, format_type
from lancemig.catalog.column_metadata import with_renamed_column, without_columns
from lancemig.catalog.operations.base import (
    Additive,
    Function,
    FunctionCall,
    Operation,
    Rebuild,
    Strategy,
    one_of,
)
from lancemig.catalog.operations.effects import ROWS_STAY, ColumnEffects, RowEffect, heads
from lancemig.catalog.schema import (
    CatalogSchema,
    Index,
    TableSchema,
    column,
    has_column,
    replace_field,
    unreadable,
)
from lancemig.errors import Irreversible, PlanError


class DropColumn(Rebuild):
    """Drop a column or a struct field, and the indices on it.

    Args:
        table: The name of the table.
        column: The path of the column.
    """

    op: Literal["drop_column"] = "drop_column"
    column: str
    why: ClassVar[str] = "programs that read the column break"

    @property
    def strategy(self) -> Strategy:  # type: ignore[override]
        """A struct is written again without its field; a whole column only leaves the schema."""
        return Strategy.COLUMN if "." in self.column else Strategy.METADATA

    def _after(self, table: TableSchema) -> TableSchema:
        column(self.table, table.columns, self.column)
        if self.column in table.key:
            raise PlanError(f"{self.table}.{self.column} is part of the key; it cannot be dropped")
        left = replace_field(table.columns, self.column, [])
        parent = self.column.rpartition(".")[0]
        if not left or (parent and not list(column(self.table, pa.schema(left), parent).type)):
            raise PlanError(f"{self.table}.{self.column} is the last column; it cannot be dropped")
        indices = tuple(i for i in table.indices if has_column(pa.schema(left), i.column))
        metadata = without_columns(table.metadata, [self.column])
        return table.with_columns(left).model_copy(update={"indices": indices, "metadata": metadata})

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """None: the values are in the old root only."""
        raise self.irreversible()

    def describe(self) -> str:
        """`drop column c`."""
        return f"drop column {self.column}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The column, or the struct's field, is dropped."""
        return ColumnEffects(dropped=(self.column,))

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY


class AddColumn(Additive, FunctionCall):
    """Add a nullable column. Its values are null unless `sql` or `using` computes them.

    Args:
        table: The name of the table.
        column: The new column: a `pa.field`, or text such as `"gain: float32"`. A path such as `info.serial`
            adds a field to a struct; its values are null.
        sql: The SQL expression of the values.
        using: A module-level function that computes the values; see `BackfillColumns`.
        reads: The paths of the columns that the function gets.
        retries: See `FunctionCall`, as for `pause`.
    """

    op: Literal["add_column"] = "add_column"
    column: ArrowField
    sql: str | None = None
    using: Function | None = None
    reads: tuple[str, ...] = ()
    why: ClassVar[str] = "adds a nullable column; existing programs don't read it"

    @property
    def computed(self) -> bool:
        """Whether the column gets values."""
        return self.sql is not None or self.using is not None

    @property
    def strategy(self) -> Strategy:  # type: ignore[override]
        """A null column is an entry in the schema; a computed one, and a struct's field, are new files."""
        return Strategy.COLUMN if self.computed or "." in self.column.name else Strategy.METADATA

    def check(self) -> None:
        """Refuse a non-null column, two ways to compute it, and a function that reads nothing."""
        one_of(sql=self.sql, using=self.using)
        if not self.column.nullable:
            raise ValueError(
                f"a new column must be nullable, and {self.column.name} is not: add it as nullable, fill "
                "it, then RequireColumn"
            )
        if (self.using is None) != (not self.reads):
            raise ValueError("`using` requires `reads`, and `reads` requires `using`")
        if self.using is None and self.retries:
            raise ValueError("`retries` requires `using`")
        if self.computed and "." in self.column.name:
            raise ValueError("a struct field cannot be added with values: add it, then fill it")

    def _after(self, table: TableSchema) -> TableSchema:
        for path in self.reads:
            column(self.table, table.columns, path)
        parent, _, name = self.column.name.rpartition(".")
        if not parent:
            return table.with_columns(_appended(self.table, list(table.columns), self.column))
        struct = column(self.table, table.columns, parent)
        if not pa.types.is_struct(struct.type):
            raise PlanError(
                f"{self.table}.{parent} is not a struct; the field {name!r} cannot be added to it"
            )
        children = _appended(self.table, list(struct.type), self.column.with_name(name))
        return table.with_columns(
            replace_field(table.columns, parent, [struct.with_type(pa.struct(children))])
        )

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Drop the column."""
        return (DropColumn(table=self.table, column=self.column.name),)

    def describe(self) -> str:
        """`add column c: int64 = <sql>`."""
        text = f"add column {self.column.name}: {format_type(self.column.type)}"
        if self.sql is not None:
            return f"{text} = {self.sql}"
        if self.using is not None:
            return f"{text} = {self.using.__name__}({', '.join(self.reads)})"
        return text

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The column is added: computed from what the SQL or the function reads, or null."""
        return ColumnEffects(
            reason=self.describe(),
            reads=heads(self.reads),
            expressions={} if self.sql is None else {self.column.name: self.sql},
            computed=(self.column.name,) if self.computed else (),
            by_function=self.using is not None,
            added={self.column.name: self.column},
        )

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY


def _appended(table: str, fields: list[pa.Field], new: pa.Field) -> list[pa.Field]:
    if any(field.name == new.name for field in fields):
        raise PlanError(f"table {table!r} already has a column {new.name!r}")
    return [*fields, new]


class RenameColumn(Rebuild):
    """Rename a column or a struct field. Its indices, and the key, keep working.

    Args:
        table: The name of the table.
        column: The path of the column.
        to: The new name, without the path.
    """

    op: Literal["rename_column"] = "rename_column"
    column: str
    to: str = Field(pattern=r"^[^.`]+$")
    why: ClassVar[str] = "programs that use the old name break"

    @property
    def new_path(self) -> str:
        """The path after the renaming."""
        parent, dot, _ = self.column.rpartition(".")
        return f"{parent}{dot}{self.to}"

    def _after(self, table: TableSchema) -> TableSchema:
        field = column(self.table, table.columns, self.column)
        if has_column(table.columns, self.new_path):
            raise PlanError(f"table {self.table!r} already has a column {self.new_path!r}")
        columns = replace_field(table.columns, self.column, [field.with_name(self.to)])
        return TableSchema(
            columns=pa.schema(columns),
            key=tuple(self.to if name == self.column else name for name in table.key),
            indices=tuple(self._follows(index) for index in table.indices),
            metadata=with_renamed_column(table.metadata, self.column, self.new_path),
        )

    def _follows(self, index: Index) -> Index:
        if index.column == self.column or index.column.startswith(self.column + "."):
            renamed = self.new_path + index.column[len(self.column) :]
            return index.model_copy(update={"column": renamed})
        return index

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Rename it back."""
        old = self.column.rpartition(".")[2]
        if unreadable(old):
            raise self.irreversible()
        return (RenameColumn(table=self.table, column=self.new_path, to=old),)

    def describe(self) -> str:
        """`rename column fs to sample_rate_hz`."""
        return f"rename column {self.column} to {self.to}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The column, or the struct's field, is renamed."""
        return ColumnEffects(renamed={self.column: self.new_path})

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY


class RetypeColumn(Rebuild):
    """Change the type of a column.

    Without `using` the values are cast, and the operation is refused if a value would not survive the cast
    back.

    Args:
        table: The name of the table.
        column: The path of the column.
        to: The new type: a pyarrow type, or its text.
        using: The SQL expression of the new values; default: a cast.
    """

    op: Literal["retype_column"] = "retype_column"
    column: str
    to: ArrowType
    using: str | None = None
    strategy: ClassVar[Strategy] = Strategy.COLUMN
    why: ClassVar[str] = "programs that expect the old type break"

    def check(self) -> None:
        """Refuse SQL on a struct's field, which Lance cannot assign."""
        if self.using is not None and "." in self.column:
            raise ValueError("`using` works on whole columns; retype the struct field without it")

    def _after(self, table: TableSchema) -> TableSchema:
        field = column(self.table, table.columns, self.column)
        if self.using is None:
            castable(self.table, self.column, field.type, self.to)
        return table.with_columns(replace_field(table.columns, self.column, [field.with_type(self.to)]))

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Cast back; what an SQL expression did has no inverse."""
        if self.using is not None:
            raise Irreversible(
                f"{self.table}.{self.column} was computed by {self.using!r}; the inverse cannot be derived",
                next_step="declare `downgrade = [...]` in the migration",
            )
        old = column(self.table, before.table(self.table).columns, self.column).type
        return (RetypeColumn(table=self.table, column=self.column, to=old),)

    def describe(self) -> str:
        """`retype column duration to float64 using duration / 1000.0`."""
        text = f"retype column {self.column} to {format_type(self.to)}"
        return text if self.using is None else f"{text} using {self.using}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """The column is computed by SQL, or cast without loss; a struct with a cast field is computed."""
        if self.using is None and "." not in self.column:
            return ColumnEffects(reason=self.describe(), cast=(self.column,), types={self.column: self.to})
        return ColumnEffects(
            reason=self.describe(),
            expressions={} if self.using is None else {self.column: self.using},
            computed=(self.column,),
            types={self.column: self.to},
        )

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY


class RequireColumn(Rebuild):
    """Make a column non-nullable. The operation is refused while the column contains nulls.

    Args:
        table: The name of the table.
        column: The name of a top-level column.
    """

    op: Literal["require_column"] = "require_column"
    column: str
    why: ClassVar[str] = "programs that write nulls break"

    def check(self) -> None:
        """Refuse a struct's field."""
        if "." in self.column:
            raise ValueError("RequireColumn works on whole columns, not on struct fields")

    def _after(self, table: TableSchema) -> TableSchema:
        return _nullable(self.table, table, self.column, now=False)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Allow nulls again."""
        return (RelaxColumn(table=self.table, column=self.column),)

    def describe(self) -> str:
        """`require column c (non-null)`."""
        return f"require column {self.column} (non-null)"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Read the column; change no value."""
        return ColumnEffects(reads=heads([self.column]))

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays; a later row is checked, too."""
        return ROWS_STAY


class RelaxColumn(Rebuild):
    """Make a column nullable.

    Args:
        table: The name of the table.
        column: The name of a top-level column.
    """

    op: Literal["relax_column"] = "relax_column"
    column: str
    why: ClassVar[str] = "programs that expect no nulls break"

    def check(self) -> None:
        """Refuse a struct's field."""
        if "." in self.column:
            raise ValueError("AllowNulls works on whole columns, not on struct fields")

    def _after(self, table: TableSchema) -> TableSchema:
        return _nullable(self.table, table, self.column, now=True)

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Require it again."""
        return (RequireColumn(table=self.table, column=self.column),)

    def describe(self) -> str:
        """`allow nulls in column c`."""
        return f"allow nulls in column {self.column}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Only the column's definition changes."""
        return ColumnEffects(reads=heads([self.column]))

    @property
    def row_effect(self) -> RowEffect:
        """Every row stays."""
        return ROWS_STAY


def castable(table: str, path: str, old: pa.DataType, new: pa.DataType) -> None:
    """Refuse a cast that Arrow does not know, whatever the values."""
    try:
        nulls(0, old).cast(new)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise PlanError(
            f"{table}.{path}: no cast from {format_type(old)} to {format_type(new)} exists",
            next_step="give an SQL expression: RetypeColumn(…, using=…)",
        ) from error


def _nullable(name: str, table: TableSchema, path: str, *, now: bool) -> TableSchema:
    field = column(name, table.columns, path)
    if field.nullable == now:
        raise PlanError(f"{name}.{path} is already {'nullable' if now else 'non-null'}")
    return table.with_columns(replace_field(table.columns, path, [field.with_nullable(now)]))
