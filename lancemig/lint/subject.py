"""The input of lint rules: a migration, its syntax tree, and the schema before each of its operations.

`build_subject` makes the `Subject` that `engine` gives to every rule; a rule yields a `Violation` for each
`Span` of lines that it objects to.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from lancemig.catalog.findings import Code
from lancemig.catalog.operations import Operation
from lancemig.catalog.operations.effects import ColumnEffects
from lancemig.catalog.schema import CatalogSchema, TableSchema, has_column
from lancemig.errors import PlanError
from lancemig.revisions.header import Assignment, assignments
from lancemig.revisions.loader import Migration, ProjectModules, SourceModule


class Span(NamedTuple):
    """A range of lines in a file, both ends included."""

    first: int
    last: int


class Violation(NamedTuple):
    """One violation of a rule, before ignore comments are applied."""

    code: Code
    span: Span
    message: str
    fix: str
    """What to do about it."""
    module: SourceModule | None = None
    """The file of `span`, where that is not the migration file."""
    used: tuple[Span, ...] = ()
    """For a violation in another file: the lines of the migration whose operations use that code."""


@dataclass(frozen=True)
class OperationChange:
    """An operation, its lines, and the schema before and after it, as far as the files tell."""

    operation: Operation
    span: Span
    before: CatalogSchema
    after: CatalogSchema
    created: frozenset[tuple[str, str]] = frozenset()
    """What earlier operations of the same list create: `(table, column)`, and `(table, "")` for a table."""
    is_downgrade: bool = False
    """Whether it is one of `downgrade`."""

    @property
    def table(self) -> TableSchema | None:
        """The schema of the operation's table before it; None where there is no table, or it is unknown."""
        return self.before.tables.get(self.operation.table)

    @property
    def column_effects(self) -> ColumnEffects:
        """What the operation does to the columns of its table."""
        return self.operation.column_effects(self.table)

    @property
    def never_null(self) -> frozenset[str]:
        """The columns of its table that hold no nulls: those declared non-null, and the key."""
        table = self.table
        if table is None:
            return frozenset()
        return frozenset(field.name for field in table.columns if not field.nullable) | {*table.key}

    def is_created(self, path: str) -> bool:
        """Whether the same file creates its table, or the column at `path` in it."""
        name = self.operation.table
        return {(name, ""), (name, path), (name, path.partition(".")[0])} & self.created != set()


@dataclass(frozen=True)
class Subject:
    """A migration file with everything that rules need to know about it."""

    migration: Migration
    source: str
    tree: ast.Module
    before: CatalogSchema
    """The schema that the migration is applied to."""
    changes: tuple[OperationChange, ...]
    """The operations of the upgrade."""
    downgrade_changes: tuple[OperationChange, ...]
    """The operations of `downgrade`; empty where the file declares none."""
    modules: ProjectModules
    """Finds the other files of the project."""
    followed_by: tuple[str, ...] = ()
    """Revisions after this one that exist at the base ref already."""

    @property
    def all_changes(self) -> tuple[OperationChange, ...]:
        """The operations of the upgrade, then those of `downgrade`."""
        return self.changes + self.downgrade_changes

    def loses_values(self, change: OperationChange, path: str | None) -> bool:
        """Whether dropping a column loses values from before the upgrade.

        A column that the same list of operations creates holds none, nor does, in a downgrade, a column that
        the upgrade created.

        Args:
            change: The operation that drops it.
            path: The column; None for the whole table.
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
        assigned = assignments(self.tree).get(name)
        return _assignment_span(assigned[-1]) if assigned else Span(1, 1)


def build_subject(
    migration: Migration,
    source: str,
    tree: ast.Module,
    before: CatalogSchema,
    modules: ProjectModules,
    followed_by: tuple[str, ...] = (),
) -> Subject:
    """The subject of a migration.

    Args:
        migration: The loaded migration.
        source: The text of its file.
        tree: The syntax tree of `source`.
        before: The schema that the migration is applied to.
        modules: Finds the other files of the project.
        followed_by: Revisions after this one that exist at the base ref already.
    """
    spans = _spans(tree, "operations", len(migration.operations))
    changes = tuple(_changes(migration.operations, spans, before))
    downgrade = migration.downgrade or ()
    down = _changes(
        downgrade, _spans(tree, "downgrade", len(downgrade)), schema_after(migration.operations, before)
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
    """The schema after `operations`, without the tables whose schema the files do not tell.

    Migration files need not start from an empty catalog: a table that no file creates is unknown.
    """
    catalog = before
    for operation in operations:
        catalog = _schema_after_one(operation, catalog)
    return catalog


def _schema_after_one(operation: Operation, catalog: CatalogSchema) -> CatalogSchema:
    try:
        return operation.after(catalog)
    except PlanError:
        known = {name: table for name, table in catalog.tables.items() if name != operation.table}
        return CatalogSchema(tables=known)


def _changes(
    operations: tuple[Operation, ...], spans: list[Span], before: CatalogSchema
) -> Iterator[OperationChange]:
    created: frozenset[tuple[str, str]] = frozenset()
    for operation, span in zip(operations, spans, strict=True):
        after = _schema_after_one(operation, before)
        yield OperationChange(operation, span, before, after, created)
        before, created = after, created | _created_by(operation, before)


def _created_by(operation: Operation, before: CatalogSchema) -> set[tuple[str, str]]:
    """The table or column that an operation creates, as in `OperationChange.created`."""
    table = before.tables.get(operation.table)
    added = {(operation.table, path) for path in operation.column_effects(table).added}
    is_new = operation.row_effect.from_source and table is None
    return added | ({(operation.table, "")} if is_new else set())


def _spans(tree: ast.Module, name: str, count: int) -> list[Span]:
    """The lines of each operation in the list `name`; those of the whole list where it is computed."""
    assigned = assignments(tree)[name][-1] if name in assignments(tree) else Assignment(1, None)
    value = assigned.value
    if isinstance(value, ast.List | ast.Tuple) and len(value.elts) == count:
        spans = [Span(item.lineno, item.end_lineno or item.lineno) for item in value.elts]
        if not any(isinstance(item, ast.Starred) for item in value.elts):
            return spans
    return [_assignment_span(assigned)] * count


def _assignment_span(assigned: Assignment) -> Span:
    end = assigned.value.end_lineno if assigned.value is not None else None
    return Span(assigned.line, end or assigned.line)
