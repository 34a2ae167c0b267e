"""What rules look at: a migration, its syntax tree, and the schema before each of its operations."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lancemig.catalog.operations import Operation
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.errors import PlanError
from lancemig.script.loader import Migration
from lancemig.script.syntax import Assigned, variables


class Span(NamedTuple):
    """The lines that something takes up in its file."""

    first: int
    last: int


class Found(NamedTuple):
    """What a rule found: where, in words, and what to do."""

    code: str
    span: Span
    message: str
    fix: str


@dataclass(frozen=True)
class Change:
    """An operation, where it stands, and the schema before and after it, as far as the files tell."""

    operation: Operation
    span: Span
    before: CatalogSchema
    after: CatalogSchema

    @property
    def table(self) -> TableSchema | None:
        """The operation's table before it; None where there is none, or the files do not tell."""
        return self.before.tables.get(self.operation.table)


@dataclass(frozen=True)
class Subject:
    """A migration as it is linted. `followed_by` are revisions above it that others have already."""

    migration: Migration
    source: str
    tree: ast.Module
    changes: tuple[Change, ...]
    followed_by: tuple[str, ...] = ()

    def variable(self, name: str) -> Span:
        """The lines where the variable `name` is assigned; the first line of the file if it is not."""
        found = variables(self.tree).get(name)
        return _assigned(found[-1]) if found else Span(1, 1)


def subject(
    migration: Migration,
    source: str,
    tree: ast.Module,
    before: CatalogSchema,
    followed_by: tuple[str, ...] = (),
) -> Subject:
    """The subject that a migration is, on a catalog that looks like `before`."""
    return Subject(
        migration=migration,
        source=source,
        tree=tree,
        changes=tuple(_changes(migration.operations, _spans(tree, len(migration.operations)), before)),
        followed_by=followed_by,
    )


def after(operations: Iterable[Operation], before: CatalogSchema) -> CatalogSchema:
    """The schema after `operations`, without the tables of which the files do not tell how they look.

    Files need not reach back to an empty catalog: a table that they never make is unknown.
    """
    catalog = before
    for operation in operations:
        catalog = _after(operation, catalog)
    return catalog


def _after(operation: Operation, catalog: CatalogSchema) -> CatalogSchema:
    try:
        return operation.after(catalog)
    except PlanError:
        left = {name: table for name, table in catalog.tables.items() if name != operation.table}
        return CatalogSchema(tables=left)


def _changes(operations: tuple[Operation, ...], spans: list[Span], before: CatalogSchema) -> Iterator[Change]:
    for operation, span in zip(operations, spans, strict=True):
        result = _after(operation, before)
        yield Change(operation, span, before, result)
        before = result


def _spans(tree: ast.Module, count: int) -> list[Span]:
    """The lines of each operation; of the whole list, where the list is computed."""
    assigned = variables(tree)["operations"][-1] if "operations" in variables(tree) else Assigned(1, None)
    listed = assigned.value
    if isinstance(listed, ast.List | ast.Tuple) and len(listed.elts) == count:
        spans = [Span(item.lineno, item.end_lineno or item.lineno) for item in listed.elts]
        if not any(isinstance(item, ast.Starred) for item in listed.elts):
            return spans
    return [_assigned(assigned)] * count


def _assigned(found: Assigned) -> Span:
    end = found.value.end_lineno if found.value is not None else None
    return Span(found.line, end or found.line)
