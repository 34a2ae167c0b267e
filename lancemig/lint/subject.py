"""What rules look at: a migration, its syntax tree, and the schema before each of its operations."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from lancemig.catalog.operations import Operation
from lancemig.catalog.operations.effects import ColumnEffects
from lancemig.catalog.schema import CatalogSchema, TableSchema, has_column
from lancemig.errors import PlanError
from lancemig.revisions.header import Assigned, variables
from lancemig.revisions.loader import Migration, Module, Modules


class Span(NamedTuple):
    """The lines that something takes up in its file."""

    first: int
    last: int


class Violation(NamedTuple):
    """What a rule found: where, in words, and what to do.

    `module` is the file where it stands, if that is not the migration; `used` are then the lines of the
    migration that it is found for.
    """

    code: str
    span: Span
    message: str
    fix: str
    module: Module | None = None
    used: tuple[Span, ...] = ()


@dataclass(frozen=True)
class OperationChange:
    """An operation, where it stands, and the schema before and after it, as far as the files tell.

    `fresh` are the tables, and the columns of tables, that operations before it in its list have made.
    `is_back`: it is one of `downgrade`.
    """

    operation: Operation
    span: Span
    before: CatalogSchema
    after: CatalogSchema
    fresh: frozenset[tuple[str, str]] = frozenset()
    is_back: bool = False

    @property
    def table(self) -> TableSchema | None:
        """The operation's table before it; None where there is none, or the files do not tell."""
        return self.before.tables.get(self.operation.table)

    @property
    def column_effects(self) -> ColumnEffects:
        """What the operation does to the columns of its table."""
        return self.operation.column_effects(self.table)

    @property
    def never_null(self) -> frozenset[str]:
        """The columns of its table that hold no null: what says so, and the key."""
        table = self.table
        if table is None:
            return frozenset()
        return frozenset(field.name for field in table.columns if not field.nullable) | {*table.key}

    def is_fresh(self, path: str) -> bool:
        """Whether its table, or the column at `path` in it, was made by its file."""
        name = self.operation.table
        return {(name, ""), (name, path), (name, path.partition(".")[0])} & self.fresh != set()


@dataclass(frozen=True)
class Subject:
    """A migration as it is linted, on a catalog that looks like `before`.

    `changes` are its operations, `back` those of `downgrade`. `modules` finds the project's other files.
    `followed_by` are revisions above it that others have already.
    """

    migration: Migration
    source: str
    tree: ast.Module
    before: CatalogSchema
    changes: tuple[OperationChange, ...]
    back: tuple[OperationChange, ...]
    modules: Modules
    followed_by: tuple[str, ...] = ()

    @property
    def both_ways(self) -> tuple[OperationChange, ...]:
        """The operations, and those of `downgrade`."""
        return self.changes + self.back

    def loses(self, change: OperationChange, path: str | None) -> bool:
        """Whether values that were there before the upgrade go with a column, or a table, that goes.

        Not with one that the same list has made; nor, in a downgrade, with one that the upgrade brought.
        """
        name = change.operation.table
        if change.is_fresh(path or ""):
            return False
        if not change.is_back:
            return True
        table = self.before.tables.get(name)
        return table is not None and (path is None or has_column(table.columns, path))

    def variable(self, name: str) -> Span:
        """The lines where the variable `name` is assigned; the first line of the file if it is not."""
        found = variables(self.tree).get(name)
        return _assigned(found[-1]) if found else Span(1, 1)


def subject(
    migration: Migration,
    source: str,
    tree: ast.Module,
    before: CatalogSchema,
    modules: Modules,
    followed_by: tuple[str, ...] = (),
) -> Subject:
    """The subject that a migration is, on a catalog that looks like `before`."""
    spans = _spans(tree, "operations", len(migration.operations))
    changes = tuple(_changes(migration.operations, spans, before))
    declared = migration.downgrade or ()
    down = _changes(declared, _spans(tree, "downgrade", len(declared)), after(migration.operations, before))
    return Subject(
        migration=migration,
        source=source,
        tree=tree,
        before=before,
        changes=changes,
        back=tuple(replace(change, is_back=True) for change in down),
        modules=modules,
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


def _changes(
    operations: tuple[Operation, ...], spans: list[Span], before: CatalogSchema
) -> Iterator[OperationChange]:
    fresh: frozenset[tuple[str, str]] = frozenset()
    for operation, span in zip(operations, spans, strict=True):
        result = _after(operation, before)
        yield OperationChange(operation, span, before, result, fresh)
        before, fresh = result, fresh | _made(operation, before)


def _made(operation: Operation, before: CatalogSchema) -> set[tuple[str, str]]:
    """The table or column that an operation makes; of a table, as its column `""`."""
    table = before.tables.get(operation.table)
    added = {(operation.table, path) for path in operation.column_effects(table).added}
    is_new = operation.row_effect.from_source and table is None
    return added | ({(operation.table, "")} if is_new else set())


def _spans(tree: ast.Module, name: str, count: int) -> list[Span]:
    """The lines of each operation in the list called `name`; of the whole list, where it is computed."""
    assigned = variables(tree)[name][-1] if name in variables(tree) else Assigned(1, None)
    listed = assigned.value
    if isinstance(listed, ast.List | ast.Tuple) and len(listed.elts) == count:
        spans = [Span(item.lineno, item.end_lineno or item.lineno) for item in listed.elts]
        if not any(isinstance(item, ast.Starred) for item in listed.elts):
            return spans
    return [_assigned(assigned)] * count


def _assigned(found: Assigned) -> Span:
    end = found.value.end_lineno if found.value is not None else None
    return Span(found.line, end or found.line)
