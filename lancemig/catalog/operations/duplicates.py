"""DeduplicateRows: of the rows with the same key, one stays."""

import re
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import pyarrow as pa
from pydantic import BeforeValidator, Field

from lancemig.catalog.arrow_types import format_type, is_blob
from lancemig.catalog.operations.base import Operation, checked_key
from lancemig.catalog.operations.effects import ColumnEffects, RowEffect, heads
from lancemig.catalog.operations.rows import RowBrake, UndoRows, ValueChange, countable, ordered
from lancemig.catalog.schema import CatalogSchema, TableSchema, column
from lancemig.errors import PlanError

_TERM = re.compile(r"(?P<path>\S(?:.*\S)?)\s+(?P<direction>asc|desc)", re.IGNORECASE)


class OrderTerm(NamedTuple):
    """A column by which rows are ordered."""

    path: str
    """The path of the column."""

    descending: bool


def _type_text(field: pa.Field) -> str:
    return "a Lance blob" if is_blob(field) else format_type(field.type)


def _terms(given: Any) -> Any:
    """`"a desc, b"` as `("a desc", "b")`; anything else as it is."""
    return tuple(term.strip() for term in given.split(",")) if isinstance(given, str) else given


class DeduplicateRows(ValueChange, RowBrake):
    """Delete all rows but one of those with the same key.

    A row with a null in its key equals no other row, and stays. NaN equals NaN, and 0.0 equals -0.0.

    Args:
        table: The name of the table.
        key: The columns by which rows are compared.
        keep: Which of the rows with the same key stays, in the order of the table: the `first` or the `last`.
        order_by: The order in which the first row stays, such as `"updated_at desc"` for the newest one.
            Several columns are separated by commas, or given as a tuple. Nulls and NaN come last in both
            directions; `keep` decides between rows that are equal in these columns.
        max_rows: The largest number of rows that may be deleted; None for no limit.
    """

    why: ClassVar[str] = "deletes repeated rows; the schema stays the same"

    op: Literal["deduplicate_rows"] = "deduplicate_rows"
    key: tuple[str, ...] = Field(min_length=1)
    keep: Literal["first", "last"] = "first"
    order_by: Annotated[tuple[str, ...], BeforeValidator(_terms)] = ()

    def check(self) -> None:
        """Refuse a column that is named twice, and an order without a column."""
        if len(set(self.key)) < len(self.key):
            raise ValueError("key names a column twice")
        if not all(term.path.strip() for term in self.order):
            raise ValueError('order_by must name columns, such as "updated_at desc"')

    @property
    def order(self) -> tuple[OrderTerm, ...]:
        """The columns of `order_by`, parsed."""
        found = [(term, _TERM.fullmatch(term.strip())) for term in self.order_by]
        return tuple(
            OrderTerm(match["path"], match["direction"].lower() == "desc")
            if match
            else OrderTerm(term.strip(), descending=False)
            for term, match in found
        )

    def _after(self, table: TableSchema) -> TableSchema:
        for name in checked_key(self.table, table.columns, self.key):
            field = table.columns.field(name)
            if not countable(field.type) or is_blob(field):
                raise PlanError(
                    f"{self.table}.{name} is {_type_text(field)}: values of this type cannot be a key",
                    next_step="name columns of plain values, or of structs of them, in `key`",
                )
        for term in self.order:
            field = column(self.table, table.columns, term.path)
            if not ordered(field.type) or pa.types.is_interval(field.type) or is_blob(field):
                raise PlanError(
                    f"{self.table}.{term.path} is {_type_text(field)}: its values have no order",
                    next_step="name columns of numbers, text, times or booleans in `order_by`",
                )
        return table

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        """Insert the deleted rows again, although rows with their keys exist."""
        return (UndoRows(table=self.table, repeats=True),)

    def describe(self) -> str:
        """`deduplicate by id (keep the first by updated_at desc)`."""
        order = f" by {', '.join(self.order_by)}" if self.order_by else ""
        return f"deduplicate by {', '.join(self.key)} (keep the {self._kept}{order})"

    @property
    def _kept(self) -> str:
        if not self.order_by:
            return self.keep
        return "first" if self.keep == "first" else "first, the last of equal ones"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """Read the key and the order; change no column."""
        return ColumnEffects(reads=heads([*self.key, *(term.path for term in self.order)]))

    @property
    def row_effect(self) -> RowEffect:
        """Repeated rows are removed; which ones depends on all rows, so that later rows skip it."""
        return RowEffect(removes=True, replayed=False, compares_rows=True)
