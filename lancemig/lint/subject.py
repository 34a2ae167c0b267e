"""What rules look at: a migration, its syntax tree, and the schema before each of its operations."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from lancemig.catalog.operations import AddColumn, BuildTable, CreateTable, Operation
from lancemig.catalog.schema import CatalogSchema, TableSchema, has_column
from lancemig.errors import PlanError
from lancemig.revisions.header import Assignment, assignments
from lancemig.revisions.loader import Migration, ProjectModules, SourceModule


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
    module: SourceModule | None = None
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
    created: frozenset[tuple[str, str]] = frozenset()
    is_downgrade: bool = False

    @property
    def table(self) -> TableSchema | None:
        """The operation's table before it; None where there is none, or the files do not tell."""
        return self.before.tables.get(self.operation.table)

    @property
    def never_null(self) -> frozenset[str]:
        """The columns of its table that hold no null: what says so, and the key."""
        table = self.table
        if table is None:
            return frozenset()
        return frozenset(field.name for field in table.columns if not field.nullable) | {*table.key}

    def is_created(self, path: str) -> bool:
        """Whether its table, or the column at `path` in it, was made by its file."""
        name = self.operation.table
        return {(name, ""), (name, path), (name, path.partition(".")[0])} & self.created != set()


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
    downgrade_changes: tuple[OperationChange, ...]
    modules: ProjectModules
    followed_by: tuple[str, ...] = ()

    @property
    def all_changes(self) -> tuple[OperationChange, ...]:
        """The operations, and those of `downgrade`."""
        return self.changes + self.downgrade_changes

    def loses_values(self, change: OperationChange, path: str | None) -> bool:
        """Whether values that were there before the upgrade go with a column, or a table, that goes.

        Not with one that the same list has made; nor, in a downgrade, with one that the upgrade brought.
        """
        name = change.operation.table
        if change.is_created(path or ""):
            return False
        if not change.is_downgrade:
            return True
        table = self.before.tables.get(name)
        return table is not None and (path is None or has_column(table.columns, path))

    def variable_span(self, name: str) -> Span:
        """The lines where the variable `name` is assigned; the first line of the file if it is not."""
        found = assignments(self.tree).get(name)
        return _assignment_span(found[-1]) if found else Span(1, 1)


def build_subject(
    migration: Migration,
    source: str,
    tree: ast.Module,
    before: CatalogSchema,
    modules: ProjectModules,
    followed_by: tuple[str, ...] = (),
) -> Subject:
    """The subject that a migration is, on a catalog that looks like `before`."""
    spans = _spans(tree, "operations", len(migration.operations))
    changes = tuple(_changes(migration.operations, spans, before))
    declared = migration.downgrade or ()
    down = _changes(
        declared, _spans(tree, "downgrade", len(declared)), schema_after(migration.operations, before)
    )
    return Subject(
        migration=migration,
        source=source,
        tree=tree,
        before=before,
        changes=changes,
        downgrade_changes=tuple(replace(change, is_downgrade=True) for change in down),
        modules=modules,
        followed_by=followed_by,
    )


def schema_after(operations: Iterable[Operation], before: CatalogSchema) -> CatalogSchema:
    """The schema after `operations`, without the tables of which the files do not tell how they look.

    Files need not reach back to an empty catalog: a table that they never make is unknown.
    """
    catalog = before
    for operation in operations:
        catalog = _schema_after_one(operation, catalog)
    return catalog


def _schema_after_one(operation: Operation, catalog: CatalogSchema) -> CatalogSchema:
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
        result = _schema_after_one(operation, before)
        yield OperationChange(operation, span, before, result, fresh)
        before, fresh = result, fresh | _created_by(operation, before)


def _created_by(operation: Operation, before: CatalogSchema) -> set[tuple[str, str]]:
    """The table or column that an operation makes; of a table, as its column `""`."""
    if isinstance(operation, AddColumn):
        return {(operation.table, operation.column.name)}
    is_new = isinstance(operation, CreateTable | BuildTable) and operation.table not in before.tables
    return {(operation.table, "")} if is_new else set()


def _spans(tree: ast.Module, name: str, count: int) -> list[Span]:
    """The lines of each operation in the list called `name`; of the whole list, where it is computed."""
    assigned = assignments(tree)[name][-1] if name in assignments(tree) else Assignment(1, None)
    listed = assigned.value
    if isinstance(listed, ast.List | ast.Tuple) and len(listed.elts) == count:
        spans = [Span(item.lineno, item.end_lineno or item.lineno) for item in listed.elts]
        if not any(isinstance(item, ast.Starred) for item in listed.elts):
            return spans
    return [_assignment_span(assigned)] * count


def _assignment_span(found: Assignment) -> Span:
    end = found.value.end_lineno if found.value is not None else None
    return Span(found.line, end or found.line)
