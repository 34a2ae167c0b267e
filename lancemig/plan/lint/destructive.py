"""Rules over operations: what destroys rows or values, and what nothing takes back."""

from collections.abc import Iterator

import pyarrow as pa

from lancemig.catalog.operations import (
    BuildTable,
    DeleteRows,
    DropColumn,
    DropTable,
    Operation,
    RetypeColumn,
    TransformTable,
    UpdateRows,
)
from lancemig.catalog.schema import CatalogSchema, column, has_column
from lancemig.catalog.spelling import spell_type
from lancemig.errors import Irreversible, PlanError
from lancemig.plan.lint import codes
from lancemig.plan.lint.conditions import always_true
from lancemig.plan.lint.idempotence import fills_nulls
from lancemig.plan.lint.narrowing import narrows
from lancemig.plan.lint.subject import Change, Found, Subject


def dropped(subject: Subject) -> Iterator[Found]:
    """A column or a table goes, also where a table is written anew without the column.

    What the file itself adds first is no loss, nor is what a downgrade takes away of what the upgrade added.
    """
    for change in subject.both_ways:
        for what in _what_goes(change, subject):
            yield Found(
                codes.DROPPED,
                change.span,
                f"{what}: its values remain only in the old root",
                "stop reading it in an earlier release, then state above the operation who verified "
                "that: # lancemig: ignore[LM001] why",
            )


def _what_goes(change: Change, subject: Subject) -> Iterator[str]:
    operation = change.operation
    if isinstance(operation, DropTable):
        if subject.loses(change, None):
            yield f"table {operation.table} is dropped"
    elif isinstance(operation, DropColumn):
        if subject.loses(change, operation.column):
            yield f"column {operation.table}.{operation.column} is dropped"
    elif isinstance(operation, TransformTable | BuildTable) and change.table is not None:
        missing = [path for path in _paths(change.table.columns) if not has_column(operation.columns, path)]
        topmost = [path for path in missing if path.rpartition(".")[0] not in missing]
        left_out = [path for path in topmost if subject.loses(change, path)]
        if left_out:
            yield f"{operation.table} is rewritten without {', '.join(left_out)}"


def _paths(fields: pa.Schema | pa.DataType, prefix: str = "") -> Iterator[str]:
    for field in fields:
        yield prefix + field.name
        if pa.types.is_struct(field.type):
            yield from _paths(field.type, f"{prefix}{field.name}.")


def narrowed(subject: Subject) -> Iterator[Found]:
    """A column gets a type that cannot hold all that the old one can; going down, all that it once could."""
    for change in subject.both_ways:
        table = change.operation.table
        for path, new, how in _retyped(change):
            old = _type_of(subject.before if change.is_back else change.before, table, path)
            if old is not None and _loses(change.operation, old, new):
                yield Found(
                    codes.NARROWED,
                    change.span,
                    f"{table}.{path} becomes {spell_type(new)}, which cannot hold every {spell_type(old)}: "
                    f"{how}",
                    "keep the wider type, or declare a check that counts the values that do not fit, "
                    "and state it: # lancemig: ignore[LM002] why",
                )


def _loses(operation: Operation, old: pa.DataType, new: pa.DataType) -> bool:
    both_fixed = pa.types.is_fixed_size_list(old) and pa.types.is_fixed_size_list(new)
    if both_fixed and not isinstance(operation, RetypeColumn):
        # Vectors of another length are another model's: made anew, not cut off.
        return narrows(old.value_type, new.value_type)
    return narrows(old, new)


def _retyped(change: Change) -> Iterator[tuple[str, pa.DataType, str]]:
    """The columns that an operation gives a type, and what becomes of values that do not fit it."""
    operation = change.operation
    if isinstance(operation, RetypeColumn):
        refused = f"the {'downgrade' if change.is_back else 'upgrade'} is refused if a value does not fit"
        by_sql = "its SQL decides what happens to values that do not fit"
        yield operation.column, operation.to, by_sql if operation.using else refused
    elif isinstance(operation, TransformTable):
        who = f"{operation.using.__name__}() decides what happens to values that do not fit"
        yield from ((path, of, who) for path, of in _leaves(operation.columns))
    elif isinstance(operation, BuildTable):
        yield from (
            (path, of, "the values are derived again to fit it") for path, of in _leaves(operation.columns)
        )


def _leaves(fields: pa.Schema | pa.DataType, prefix: str = "") -> Iterator[tuple[str, pa.DataType]]:
    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field.type


def _type_of(catalog: CatalogSchema, table: str, path: str) -> pa.DataType | None:
    try:
        return column(table, catalog.table(table).columns, path).type
    except PlanError:
        return None


def deletes_all(subject: Subject) -> Iterator[Found]:
    """DeleteRows whose condition holds for every row."""
    for change in subject.both_ways:
        operation = change.operation
        if isinstance(operation, DeleteRows) and always_true(operation.where, change.never_null):
            yield Found(
                codes.DELETES_ALL,
                change.span,
                f"every row of {operation.table} is deleted: the condition is {operation.where!r}",
                "select the rows with a condition, and set max_rows",
            )


def updates_all(subject: Subject) -> Iterator[Found]:
    """UpdateRows without a condition, but for columns that the same file adds, and for filling nulls."""
    for change in subject.both_ways:
        operation = change.operation
        if not isinstance(operation, UpdateRows):
            continue
        old = [
            path
            for path, sql in operation.set.items()
            if not change.is_fresh(path) and not fills_nulls(sql, path)
        ]
        if old and (operation.where is None or always_true(operation.where, change.never_null)):
            yield Found(
                codes.UPDATES_ALL,
                change.span,
                f"{', '.join(old)} {_is(old)} replaced in every row of {operation.table}",
                "select the wrong rows with `where`, and set max_rows",
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
            f"no inverse can be derived: {_spelt(change.operation)}",
            "declare `downgrade = [...]`, or state why a downgrade is not needed: # lancemig: "
            "ignore[LM005] why",
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
