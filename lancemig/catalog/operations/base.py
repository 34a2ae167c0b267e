"""The base of every operation: a declared change of one table, as a value without effect."""

import re
from abc import abstractmethod
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, model_validator

from lancemig.catalog.operations.effects import ColumnEffects, RowEffect
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.sources import checked_function, checked_source, describe_source
from lancemig.catalog.value import FrozenModel, Kind, digest
from lancemig.errors import Irreversible, PlanError


class Strategy(StrEnum):
    """What an operation costs: the schema or an index, one column, touched rows, the table, the source."""

    METADATA = "metadata"
    COLUMN = "column"
    ROWS = "rows"
    TABLE = "table"
    SOURCE = "source"
    COPY = "copy"


Function = Annotated[
    Any, BeforeValidator(checked_function), PlainSerializer(lambda f: f and f"{f.__name__}()")
]
Source = Annotated[Any, BeforeValidator(checked_source), PlainSerializer(describe_source)]


_TABLE_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$"

TableName = Annotated[str, StringConstraints(pattern=_TABLE_NAME)]
"""LanceDB's rule: letters, digits, underscore, hyphen, period; it becomes a folder's name."""


def nameable(table: str) -> bool:
    """Whether an operation, or LanceDB, can name this table. Lance alone makes others, too."""
    return re.match(_TABLE_NAME, table) is not None


class Operation(FrozenModel):
    """A declared change of `table`.

    A subclass gives its fields and the abstract methods below, which are pure. What the operation does to a
    stored table is dispatched on its type in `apply/effects/`.
    """

    kind: ClassVar[Kind]
    strategy: ClassVar[Strategy]
    why: ClassVar[str]
    """What programs that use the catalog notice of the operation, as a sentence for the plan."""

    op: str
    table: TableName

    @abstractmethod
    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog's schema after this operation.

        Raises:
            PlanError: the operation is impossible on this schema.
        """

    @abstractmethod
    def inverse(self, before: CatalogSchema) -> "tuple[Operation, ...]":
        """The operations that revert this one, given the schema before it.

        Raises:
            Irreversible: no operation does; `self.irreversible()` makes the error.
        """

    @abstractmethod
    def describe(self) -> str:
        """This operation in a few words, without the table's name."""

    @abstractmethod
    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        """What this operation does to columns; `before` is its table, None where its schema is not known."""

    @property
    @abstractmethod
    def row_effect(self) -> RowEffect:
        """What this operation does to the rows of its table as a whole."""

    @property
    def table_after(self) -> str | None:
        """The name of the table after this operation; None where it does not exist any more."""
        return None if self.row_effect.table_dropped else self.row_effect.table_renamed_to or self.table

    def irreversible(self) -> Irreversible:
        """The error of an operation from which no inverse follows."""
        return Irreversible(
            f"no inverse can be derived for: {self.describe()}",
            next_step="declare `downgrade = [...]` in the migration, or run: lancemig rollback",
        )

    def content(self) -> str:
        """The sha256 of what the operation says: its type and all fields that are not at their default.

        A field that a later release adds leaves it as it is. Functions count by name and rows by number; what
        they hold is covered by the sha256 of the file that declares them.
        """
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return digest({"op": self.op, "fields": fields})

    @model_validator(mode="after")
    def _own_fields_agree(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Refuse fields that contradict each other, with ValueError."""


class FunctionCall(FrozenModel):
    """How the function of an operation is called.

    Args:
        retries: How often it is called again with the same rows after it raised an exception.
        pause: Seconds before the first of these calls; twice as long before each further one.
    """

    retries: int = Field(default=0, ge=0)
    pause: float = Field(default=1.0, ge=0)


def one_of(**given: Any) -> None:
    """Refuse more than one of these fields."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} cannot be combined")


def checked_key(table: str, columns: pa.Schema, key: tuple[str, ...]) -> tuple[str, ...]:
    """`key`, if all its columns are top-level columns of the table."""
    for name in key:
        if name not in columns.names:
            raise PlanError(f"the key column {name!r} does not exist in table {table!r}")
    return key


class TableChange(Operation):
    """Changes one table that exists and keeps its name."""

    def after(self, catalog: CatalogSchema) -> CatalogSchema:
        """The catalog with the changed table."""
        return catalog.with_table(self.table, self._after(catalog.table(self.table)))

    @abstractmethod
    def _after(self, table: TableSchema) -> TableSchema:
        """The table after this operation; PlanError when it is impossible."""


class Rebuild(TableChange):
    """Changes what an old program relies on; built beside the live catalog, then flipped to."""

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.METADATA


class Additive(TableChange):
    """Adds to a table what no old program looks at."""

    kind: ClassVar[Kind] = Kind.ADDITIVE
