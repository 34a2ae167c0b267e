"""Changes as they are collected: each operation tried on the schema so far, with remarks for a person."""

import re
from typing import Any

from pydantic import Field

from lancemig.catalog.kind import Kind
from lancemig.catalog.operations import Operation
from lancemig.catalog.places import place_for_rows, place_for_values, unwritten
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.catalog.value import Value


class Change(Value):
    """An operation, and remarks where a person must decide something before it is applied."""

    operation: Any
    remarks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """`recordings: add column gain: float64`."""
        operation: Operation = self.operation
        return f"{operation.table}: {operation.describe()}"

    @property
    def place(self) -> Any:
        """The function of the operation that is still to be written; None where there is none."""
        given = (getattr(self.operation, name, None) for name in ("using", "rows"))
        return next((function for function in given if unwritten(function)), None)


class Changes(Value):
    """All changes, in an order that can be applied."""

    changes: tuple[Change, ...] = ()
    rebuild: bool = Field(default=False)
    """Whether they are to be staged even where their operations could be applied in place."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations alone."""
        return tuple(change.operation for change in self.changes)

    @property
    def kind(self) -> Kind:
        """What a revision that holds them promises."""
        kinds = [operation.kind for operation in self.operations]
        return Kind.REBUILD if self.rebuild else Kind.weakest(kinds)

    @property
    def places(self) -> tuple[Any, ...]:
        """The functions that are still to be written."""
        return tuple(change.place for change in self.changes if change.place is not None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What each does, in a line."""
        return tuple(change.sentence for change in self.changes)


class Collector:
    """Where changes are collected; `schema` is the catalog after all of them."""

    def __init__(self, schema: CatalogSchema) -> None:
        self.schema = schema
        self.rebuild = False
        self._changes: list[Change] = []
        self._taken: set[str] = set()

    def do(self, operation: Operation, *remarks: str) -> None:
        """Add an operation; PlanError where it is impossible after those before it."""
        self.schema = operation.after(self.schema)
        self._changes.append(Change(operation=operation, remarks=remarks))

    def table(self, name: str) -> TableSchema:
        """A table as it is by now."""
        return self.schema.table(name)

    def values_of(self, verb: str, table: str, column: str, doc: str) -> Any:
        """A place for a function that computes values."""
        return place_for_values(self._name(verb, table, column), doc)

    def rows_of(self, table: str, doc: str) -> Any:
        """A place for a function that yields rows."""
        return place_for_rows(self._name("rows_of", table), doc)

    def _name(self, *parts: str) -> str:
        stem = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts)).strip("_").lower()
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name

    @property
    def collected(self) -> Changes:
        """What was collected."""
        return Changes(changes=tuple(self._changes), rebuild=self.rebuild)
