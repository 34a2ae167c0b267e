"""Rules over operations: what a table loses beside its rows, and what a rebuild cannot do without."""

from collections.abc import Iterator, Sequence

from lancemig.catalog.kind import Kind
from lancemig.catalog.operations import (
    BuildTable,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropTable,
    Operation,
    RenameTable,
    RetypeColumn,
    SetKey,
    TransformTable,
)
from lancemig.catalog.operations.additive import indexable
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column, has_column
from lancemig.plan.lint import codes
from lancemig.plan.lint.subject import Change, Found, Subject


def index_lost(subject: Subject) -> Iterator[Found]:
    """An index goes with its column, or its column gets a type that it is not for.

    Where one is made on that column again, nothing is lost; nor in a downgrade, of one that the upgrade made.
    """
    changes = subject.both_ways
    for at, change in enumerate(changes):
        if not isinstance(change.operation, RetypeColumn | DropColumn | TransformTable | BuildTable):
            continue
        table, now = change.table, change.after.tables.get(change.operation.table)
        if table is None or now is None:
            continue
        for index in table.indices:
            is_new = change.is_back and not _there(index, subject.before, change.operation.table)
            if not _lives(index, now) and not is_new and not _again(index, change, changes[at + 1 :]):
                yield Found(
                    codes.INDEX_LOST,
                    change.span,
                    f"the index {index.name} ({index.type}) on {index.column} is dropped",
                    f'drop it explicitly first: DropIndex(table="{change.operation.table}", '
                    f'name="{index.name}"); then create the index that searches need: CreateIndex',
                )


def _there(index: Index, catalog: CatalogSchema, table: str) -> bool:
    there = catalog.tables.get(table)
    return there is not None and any(each.name == index.name for each in there.indices)


def _again(index: Index, change: Change, later: Sequence[Change]) -> bool:
    return any(
        isinstance(one.operation, CreateIndex)
        and one.is_back == change.is_back
        and (one.operation.table, one.operation.column) == (change.operation.table, index.column)
        for one in later
    )


def _lives(index: Index, table: TableSchema) -> bool:
    if not has_column(table.columns, index.column):
        return False
    return indexable(index.type, column("", table.columns, index.column).type)


def no_key(subject: Subject) -> Iterator[Found]:
    """A rebuild works on a table of which nothing says what identifies a row."""
    if Kind.weakest([change.operation.kind for change in subject.changes]) is not Kind.REBUILD:
        return
    told: set[str] = set()
    for at, change in enumerate(subject.changes):
        name = change.operation.table
        if name not in told and _is_keyless(change) and not _named_later(name, subject.changes[at:]):
            told.add(name)
            yield Found(
                codes.NO_KEY,
                change.span,
                f"table {name} has no key: the flip is refused if writers update or delete its rows",
                _naming(change.operation),
            )


def _naming(operation: Operation) -> str:
    if isinstance(operation, CreateTable | BuildTable):
        return "declare the columns that identify a row: key=(…,)"
    return f'declare the columns that identify a row: SetKey(table="{operation.table}", key=(…,))'


def _named_later(table: str, changes: Sequence[Change]) -> bool:
    """Whether an operation that follows names the key: rows are followed by it all the while."""
    for operation in (change.operation for change in changes):
        if operation.table == table and isinstance(operation, RenameTable):
            table = operation.to
        elif operation.table == table and isinstance(operation, SetKey) and operation.key:
            return True
    return False


def _is_keyless(change: Change) -> bool:
    operation = change.operation
    if isinstance(operation, CreateTable | BuildTable):
        return not operation.key
    if isinstance(operation, DropTable) or change.table is None:
        return False
    table = change.after.tables.get(operation.table, change.table)
    return not (table.key or change.table.key)
