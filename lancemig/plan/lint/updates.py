"""Rules over operations that compute: the same answer each time, from what is declared."""

from collections.abc import Iterator

from lancemig.catalog.operations import (
    AddColumn,
    DeleteRows,
    Operation,
    Recomputation,
    RetypeColumn,
    TransformTable,
    UpdateRows,
)
from lancemig.plan.lint import codes
from lancemig.plan.lint.idempotence import passes_over, settles
from lancemig.plan.lint.sql import changing_calls, refers_to
from lancemig.plan.lint.subject import Found, Subject


def not_idempotent(subject: Subject) -> Iterator[Found]:
    """UpdateRows that sets a column from itself, or from another that it sets, so that twice is not once."""
    for change in subject.both_ways:
        operation = change.operation
        if not isinstance(operation, UpdateRows):
            continue
        for path, sql in operation.set.items():
            source = _changed_source(operation, path)
            if source is not None and not _leaves_a_mark(operation, path):
                of = "itself" if source == path else f"{source}, which is also set"
                yield Found(
                    codes.NOT_IDEMPOTENT,
                    change.span,
                    f"{operation.table}.{path} is set from {of} ({path} = {sql}): applying it twice "
                    "to a row gives a different result",
                    "compute it from columns that do not change, or exclude the rows that are done "
                    "with `where`, by another column that the operation sets",
                )


def _changed_source(operation: UpdateRows, path: str) -> str | None:
    """The column that `path` is computed from, and that is something else the second time."""
    sql = operation.set[path]
    if refers_to(sql, path) and not settles(sql, path) and not passes_over(operation.where, path, sql):
        return path
    others = ((name, what) for name, what in operation.set.items() if name != path and refers_to(sql, name))
    replaced = (name for name, what in others if not refers_to(what, name))
    return next((name for name in replaced if not passes_over(operation.where, name, sql)), None)


def _leaves_a_mark(operation: UpdateRows, path: str) -> bool:
    """Whether `where` looks at another column, which the operation sets to something of its own."""
    where = operation.where or "true"
    others = ((name, sql) for name, sql in operation.set.items() if name != path)
    return any(refers_to(where, name) and not refers_to(sql, name) for name, sql in others)


def changing_sql(subject: Subject) -> Iterator[Found]:
    """SQL that gives something else each time it is asked."""
    for change in subject.both_ways:
        for sql in _expressions(change.operation):
            for name in changing_calls(sql):
                yield Found(
                    codes.NOT_DETERMINISTIC,
                    change.span,
                    f"{name}() gives a different value on every call: {sql}",
                    "write the value as a literal",
                )


def _expressions(operation: Operation) -> list[str]:
    given: list[str | None] = []
    if isinstance(operation, UpdateRows):
        given += [*operation.set.values(), operation.unknown]
    if isinstance(operation, Recomputation | DeleteRows):
        given.append(operation.where)
    if isinstance(operation, AddColumn):
        given.append(operation.sql)
    if isinstance(operation, RetypeColumn):
        given.append(operation.using)
    return [sql for sql in given if sql]


def no_reads(subject: Subject) -> Iterator[Found]:
    """A function that takes the whole table, for it declares no `reads`."""
    for change in subject.both_ways:
        operation = change.operation
        if isinstance(operation, TransformTable) and operation.reads is None:
            yield Found(
                codes.NO_READS,
                change.span,
                f"{operation.using.__name__}() declares no `reads`, so it receives every column of "
                f"{operation.table}, including columns added later",
                "declare the columns that it uses: reads=(…,)",
            )
