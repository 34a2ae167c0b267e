"""Rules over operations: what destroys rows or values, and what nothing takes back."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from lancemig.catalog.arrow_types import format_type
from lancemig.catalog.operations import (
    BuildTable,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropColumn,
    DropTable,
    Operation,
    RetypeColumn,
    SetKey,
    TransformTable,
    UpdateRows,
)
from lancemig.catalog.operations.indices import indexable
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column, has_column
from lancemig.catalog.value import Kind
from lancemig.errors import Irreversible, PlanError
from lancemig.lint import codes
from lancemig.lint.sql import always_true, changing_calls, fills_nulls, passes_over, refers_to, settles
from lancemig.lint.subject import OperationChange, Subject, Violation

_UNITS = ("s", "ms", "us", "ns")
_MANTISSA = {16: 11, 32: 24, 64: 53}


def narrows(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether some values of `old` have no equal in `new`; text holds all but bytes, doubt counts as no."""
    old, new = _values(old), _values(new)
    if old == new or pa.types.is_null(old):
        return False
    if _is_text(new):
        return _is_binary(old)
    for applies, told in _RULES:
        if applies(old):
            return told(old, new)
    return False


def _values(of: pa.DataType) -> pa.DataType:
    if isinstance(of, pa.BaseExtensionType):
        return _values(of.storage_type)
    return of.value_type if pa.types.is_dictionary(of) else of


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of))


def _is_binary(of: pa.DataType) -> bool:
    of_one_length = pa.types.is_fixed_size_binary(of)
    return bool(of_one_length or pa.types.is_binary(of) or pa.types.is_large_binary(of))


def _text(_old: pa.DataType, new: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(new) or not _is_binary(new)


def _binary(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_fixed_size_binary(new):
        return not _is_binary(new)
    return not pa.types.is_fixed_size_binary(old) or bool(old.byte_width != new.byte_width)


def _integer(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_floating(new):
        return _bits(old) > _MANTISSA[new.bit_width]
    if pa.types.is_decimal(new):
        return bool(10 ** (new.precision - new.scale) <= 2 ** _bits(old))
    if not pa.types.is_integer(new):
        return True
    signed_lost = pa.types.is_signed_integer(old) and pa.types.is_unsigned_integer(new)
    return bool(signed_lost or _bits(new) < _bits(old))


def _bits(of: pa.DataType) -> int:
    """The bits of the largest number."""
    return int(of.bit_width) - (1 if pa.types.is_signed_integer(of) else 0)


def _floating(old: pa.DataType, new: pa.DataType) -> bool:
    return bool(not pa.types.is_floating(new) or new.bit_width < old.bit_width)


def _decimal(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_decimal(new):
        return True
    whole = old.precision - old.scale > new.precision - new.scale
    return bool(whole or new.scale < old.scale)


def _instant(old: pa.DataType, new: pa.DataType) -> bool:
    if not hasattr(new, "unit"):
        return not pa.types.is_int64(new)
    return _UNITS.index(new.unit) < _UNITS.index(old.unit)


def _list(old: pa.DataType, new: pa.DataType) -> bool:
    if not hasattr(new, "value_type"):
        return True
    fixed = pa.types.is_fixed_size_list(new)
    another_length = fixed and not (pa.types.is_fixed_size_list(old) and old.list_size == new.list_size)
    return bool(another_length or narrows(old.value_type, new.value_type))


def _struct(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_struct(new):
        return True
    now = {field.name: field.type for field in new}
    return any(field.name not in now or narrows(field.type, now[field.name]) for field in old)


def _map(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_map(new):
        return False
    return narrows(old.key_type, new.key_type) or narrows(old.item_type, new.item_type)


def _is_list(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of))


_RULES = (
    (_is_text, _text),
    (_is_binary, _binary),
    (pa.types.is_integer, _integer),
    (pa.types.is_floating, _floating),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_timestamp, _instant),
    (pa.types.is_time, _instant),
    (pa.types.is_duration, _instant),
    (pa.types.is_struct, _struct),
    (pa.types.is_map, _map),
    (_is_list, _list),
)


def dropped(subject: Subject) -> Iterator[Violation]:
    """A column or a table goes, also where a table is written anew without the column.

    What the file itself adds first is no loss, nor is what a downgrade takes away of what the upgrade added.
    """
    for change in subject.both_ways:
        for what in _what_goes(change, subject):
            yield Violation(
                codes.DROPPED,
                change.span,
                f"{what}: its values remain only in the old root",
                "stop reading it in an earlier release, then state above the operation who verified "
                "that: # lancemig: ignore[LM001] why",
            )


def _what_goes(change: OperationChange, subject: Subject) -> Iterator[str]:
    operation, effects = change.operation, change.column_effects
    if operation.table_after is None and subject.loses(change, None):
        yield f"table {operation.table} is dropped"
    for dropped_path in effects.dropped:
        if subject.loses(change, dropped_path):
            yield f"column {operation.table}.{dropped_path} is dropped"
    if effects.replaced is not None and change.table is not None:
        missing = [path for path in _paths(change.table.columns) if not has_column(effects.replaced, path)]
        topmost = [path for path in missing if path.rpartition(".")[0] not in missing]
        left_out = [path for path in topmost if subject.loses(change, path)]
        if left_out:
            yield f"{operation.table} is rewritten without {', '.join(left_out)}"


def _paths(fields: pa.Schema | pa.DataType, prefix: str = "") -> Iterator[str]:
    for field in fields:
        yield prefix + field.name
        if pa.types.is_struct(field.type):
            yield from _paths(field.type, f"{prefix}{field.name}.")


def narrowed(subject: Subject) -> Iterator[Violation]:
    """A column gets a type that cannot hold all that the old one can; going down, all that it once could."""
    for change in subject.both_ways:
        table = change.operation.table
        for path, new, how in _retyped(change):
            old = _type_of(subject.before if change.is_back else change.before, table, path)
            if old is not None and _loses(change.operation, old, new):
                yield Violation(
                    codes.NARROWED,
                    change.span,
                    f"{table}.{path} becomes {format_type(new)}, which cannot hold every {format_type(old)}: "
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


def _retyped(change: OperationChange) -> Iterator[tuple[str, pa.DataType, str]]:
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


def deletes_all(subject: Subject) -> Iterator[Violation]:
    """DeleteRows whose condition holds for every row."""
    for change in subject.both_ways:
        operation = change.operation
        if isinstance(operation, DeleteRows) and always_true(operation.where, change.never_null):
            yield Violation(
                codes.DELETES_ALL,
                change.span,
                f"every row of {operation.table} is deleted: the condition is {operation.where!r}",
                "select the rows with a condition, and set max_rows",
            )


def updates_all(subject: Subject) -> Iterator[Violation]:
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
            yield Violation(
                codes.UPDATES_ALL,
                change.span,
                f"{', '.join(old)} {_is(old)} replaced in every row of {operation.table}",
                "select the wrong rows with `where`, and set max_rows",
            )


def irreversible(subject: Subject) -> Iterator[Violation]:
    """No inverse follows from an operation, the file declares none, and nothing says why."""
    if subject.migration.downgrade is not None:
        return
    for change in subject.changes:
        # What is dropped has a finding of its own.
        is_dropped = bool(change.column_effects.dropped) or change.operation.table_after is None
        if is_dropped or not _irreversible(change):
            continue
        yield Violation(
            codes.IRREVERSIBLE,
            change.span,
            f"no inverse can be derived: {_spelt(change.operation)}",
            "declare `downgrade = [...]`, or state why a downgrade is not needed: # lancemig: "
            "ignore[LM005] why",
        )


def _irreversible(change: OperationChange) -> bool:
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


def not_idempotent(subject: Subject) -> Iterator[Violation]:
    """UpdateRows that sets a column from itself, or from another that it sets, so that twice is not once."""
    for change in subject.both_ways:
        operation = change.operation
        if not isinstance(operation, UpdateRows):
            continue
        for path, sql in operation.set.items():
            source = _changed_source(operation, path)
            if source is not None and not _leaves_a_mark(operation, path):
                of = "itself" if source == path else f"{source}, which is also set"
                yield Violation(
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


def changing_sql(subject: Subject) -> Iterator[Violation]:
    """SQL that gives something else each time it is asked."""
    for change in subject.both_ways:
        effects = change.column_effects
        for sql in (*effects.expressions.values(), *effects.conditions):
            for name in changing_calls(sql):
                yield Violation(
                    codes.NOT_DETERMINISTIC,
                    change.span,
                    f"{name}() gives a different value on every call: {sql}",
                    "write the value as a literal",
                )


def no_reads(subject: Subject) -> Iterator[Violation]:
    """A function that takes the whole table, for it declares no `reads`."""
    for change in subject.both_ways:
        operation = change.operation
        if isinstance(operation, TransformTable) and operation.reads is None:
            yield Violation(
                codes.NO_READS,
                change.span,
                f"{operation.using.__name__}() declares no `reads`, so it receives every column of "
                f"{operation.table}, including columns added later",
                "declare the columns that it uses: reads=(…,)",
            )


def index_lost(subject: Subject) -> Iterator[Violation]:
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
                yield Violation(
                    codes.INDEX_LOST,
                    change.span,
                    f"the index {index.name} ({index.type}) on {index.column} is dropped",
                    f'drop it explicitly first: DropIndex(table="{change.operation.table}", '
                    f'name="{index.name}"); then create the index that searches need: CreateIndex',
                )


def _there(index: Index, catalog: CatalogSchema, table: str) -> bool:
    there = catalog.tables.get(table)
    return there is not None and any(each.name == index.name for each in there.indices)


def _again(index: Index, change: OperationChange, later: Sequence[OperationChange]) -> bool:
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


def no_key(subject: Subject) -> Iterator[Violation]:
    """A rebuild works on a table of which nothing says what identifies a row."""
    if Kind.weakest([change.operation.kind for change in subject.changes]) is not Kind.REBUILD:
        return
    told: set[str] = set()
    for at, change in enumerate(subject.changes):
        name = change.operation.table
        if name not in told and _is_keyless(change) and not _named_later(name, subject.changes[at:]):
            told.add(name)
            yield Violation(
                codes.NO_KEY,
                change.span,
                f"table {name} has no key: the flip is refused if writers update or delete its rows",
                _naming(change.operation),
            )


def _naming(operation: Operation) -> str:
    if isinstance(operation, CreateTable | BuildTable):
        return "declare the columns that identify a row: key=(…,)"
    return f'declare the columns that identify a row: SetKey(table="{operation.table}", key=(…,))'


def _named_later(table: str, changes: Sequence[OperationChange]) -> bool:
    """Whether an operation that follows names the key: rows are followed by it all the while."""
    for operation in (change.operation for change in changes):
        if operation.table == table and operation.table_after not in (None, table):
            table = operation.table_after
        elif operation.table == table and isinstance(operation, SetKey) and operation.key:
            return True
    return False


def _is_keyless(change: OperationChange) -> bool:
    operation = change.operation
    if isinstance(operation, CreateTable | BuildTable):
        return not operation.key
    if isinstance(operation, DropTable) or change.table is None:
        return False
    table = change.after.tables.get(operation.table, change.table)
    return not (table.key or change.table.key)
