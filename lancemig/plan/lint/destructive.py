"""Rules over operations: what destroys rows or values, and what nothing takes back."""

from collections.abc import Iterator

import pyarrow as pa

from lancemig.catalog.operations import (
    AddColumn,
    BuildTable,
    DeleteRows,
    DropColumn,
    DropTable,
    Operation,
    RetypeColumn,
    TransformTable,
    UpdateRows,
)
from lancemig.catalog.schema import column, has_column
from lancemig.catalog.spelling import spell_type
from lancemig.errors import Irreversible, PlanError
from lancemig.plan.lint import codes
from lancemig.plan.lint.narrowing import narrows
from lancemig.plan.lint.sql import always_true
from lancemig.plan.lint.subject import Change, Found, Subject


def dropped(subject: Subject) -> Iterator[Found]:
    """A column or a table goes, also where a table is written anew without the column."""
    for change in subject.changes:
        for what in _what_goes(change):
            yield Found(
                codes.DROPPED,
                change.span,
                f"{what}: its values are left in the old root only",
                "stop reading it first, in an earlier release; then say above it who made sure of that: "
                "# lancemig: ignore[LM001] why",
            )


def _what_goes(change: Change) -> Iterator[str]:
    operation = change.operation
    if isinstance(operation, DropTable):
        yield f"table {operation.table} is dropped"
    elif isinstance(operation, DropColumn):
        yield f"column {operation.table}.{operation.column} is dropped"
    elif isinstance(operation, TransformTable | BuildTable) and change.table is not None:
        left_out = [name for name in change.table.columns.names if not has_column(operation.columns, name)]
        if left_out:
            yield f"{operation.table} is written anew without {', '.join(left_out)}"


def narrowed(subject: Subject) -> Iterator[Found]:
    """A column gets a type that cannot hold all that the old one can."""
    for change in subject.changes:
        operation = change.operation
        if not isinstance(operation, RetypeColumn):
            continue
        old = _type_of(change, operation.column)
        if old is None or not narrows(old, operation.to):
            continue
        how = (
            "its SQL decides what becomes of values that do not fit"
            if operation.using
            else "the upgrade is refused where a value does not fit"
        )
        yield Found(
            codes.NARROWED,
            change.span,
            f"{operation.table}.{operation.column} becomes {spell_type(operation.to)}, which cannot hold "
            f"every {spell_type(old)}: {how}",
            "keep the wider type, or declare a check that counts the values that do not fit, and say so: "
            "# lancemig: ignore[LM002] why",
        )


def _type_of(change: Change, path: str) -> pa.DataType | None:
    try:
        return None if change.table is None else column("", change.table.columns, path).type
    except PlanError:
        return None


def deletes_all(subject: Subject) -> Iterator[Found]:
    """DeleteRows whose condition holds for every row."""
    for change in subject.changes:
        operation = change.operation
        if isinstance(operation, DeleteRows) and always_true(operation.where):
            yield Found(
                codes.DELETES_ALL,
                change.span,
                f"every row of {operation.table} is deleted: its condition is {operation.where!r}",
                "name the rows by a condition, and set max_rows",
            )


def updates_all(subject: Subject) -> Iterator[Found]:
    """UpdateRows without a condition, but for columns that the same file adds."""
    fresh: set[tuple[str, str]] = set()
    for change in subject.changes:
        operation = change.operation
        if isinstance(operation, AddColumn):
            fresh.add((operation.table, operation.column.name))
        if not isinstance(operation, UpdateRows):
            continue
        old = [path for path in operation.set if (operation.table, path) not in fresh]
        if old and (operation.where is None or always_true(operation.where)):
            yield Found(
                codes.UPDATES_ALL,
                change.span,
                f"{', '.join(old)} of every row of {operation.table} {_is(old)} replaced",
                "name the rows that are wrong by `where`, and set max_rows",
            )


def irreversible(subject: Subject) -> Iterator[Found]:
    """No inverse follows from an operation, the file declares none, and nothing says why."""
    if subject.migration.downgrade is not None:
        return
    for change in subject.changes:
        # What is dropped has a finding of its own.
        if isinstance(change.operation, DropColumn | DropTable) or not _irreversible(change):
            continue
        yield Found(
            codes.IRREVERSIBLE,
            change.span,
            f"nothing takes this back: {_spelt(change.operation)}",
            "declare `downgrade = [...]`, or say why there is no way back: # lancemig: ignore[LM005] why",
        )


def _irreversible(change: Change) -> bool:
    try:
        change.operation.inverse(change.before)
    except Irreversible:
        return True
    except PlanError:
        return False
    return False


def _spelt(operation: Operation) -> str:
    return f"{operation.table}: {operation.describe()}"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
