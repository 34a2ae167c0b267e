"""Rules over operations: lost rows and values, updates that are not idempotent, missing keys and indices.

Each public function that takes a `Subject` is a rule, in the order of the finding codes. `narrows`, at the
end, compares two Arrow types for the rule `narrowed`.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from lancemig.catalog.arrow_types import format_type
from lancemig.catalog.findings import Code
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
from lancemig.lint.sql import (
    always_true,
    excludes_updated_rows,
    fills_nulls,
    is_idempotent,
    refers_to,
    volatile_functions,
)
from lancemig.lint.subject import OperationChange, Subject, Violation


def dropped(subject: Subject) -> Iterator[Violation]:
    """A column or a table is dropped, or a table is rewritten without a column.

    Dropping what the file itself creates loses nothing, nor does a downgrade that drops what the upgrade
    added.
    """
    for change in subject.all_changes:
        for dropped_part in _dropped_parts(change, subject):
            yield Violation(
                Code.DROPPED,
                change.span,
                f"{dropped_part}: its values remain only in the old root",
                "stop reading it in an earlier release, then state above the operation who verified "
                "that: # lancemig: ignore[LM001] why",
            )


def _dropped_parts(change: OperationChange, subject: Subject) -> Iterator[str]:
    operation, effects = change.operation, change.column_effects
    if operation.table_after is None and subject.loses_values(change, None):
        yield f"table {operation.table} is dropped"
    for dropped_path in effects.dropped:
        if subject.loses_values(change, dropped_path):
            yield f"column {operation.table}.{dropped_path} is dropped"
    if effects.replaced is not None and change.table is not None:
        paths = [path for path, _ in _columns(change.table.columns)]
        missing = [path for path in paths if not has_column(effects.replaced, path)]
        topmost = [path for path in missing if path.rpartition(".")[0] not in missing]
        lost = [path for path in topmost if subject.loses_values(change, path)]
        if lost:
            yield f"{operation.table} is rewritten without {', '.join(lost)}"


def _columns(fields: pa.Schema | pa.DataType, prefix: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """All columns and fields of structs, each with its path."""
    for field in fields:
        yield prefix + field.name, field.type
        if pa.types.is_struct(field.type):
            yield from _columns(field.type, f"{prefix}{field.name}.")


def narrowed(subject: Subject) -> Iterator[Violation]:
    """A column gets a type that cannot hold every value of its old type.

    In a downgrade, the old type is the one from before the upgrade.
    """
    for change in subject.all_changes:
        table = change.operation.table
        for path, new, consequence in _new_types(change):
            old = _type_of(subject.before if change.is_downgrade else change.before, table, path)
            if old is not None and _narrows_column(change.operation, old, new):
                yield Violation(
                    Code.NARROWED,
                    change.span,
                    f"{table}.{path} becomes {format_type(new)}, which cannot hold every {format_type(old)}: "
                    f"{consequence}",
                    "keep the wider type, or declare a check that counts the values that do not fit, "
                    "and state it: # lancemig: ignore[LM002] why",
                )


def _narrows_column(operation: Operation, old: pa.DataType, new: pa.DataType) -> bool:
    both_fixed = pa.types.is_fixed_size_list(old) and pa.types.is_fixed_size_list(new)
    if both_fixed and not isinstance(operation, RetypeColumn):
        # Vectors of another length come from another model: they are computed again, not truncated.
        return narrows(old.value_type, new.value_type)
    return narrows(old, new)


def _new_types(change: OperationChange) -> Iterator[tuple[str, pa.DataType, str]]:
    """The columns that an operation gives a type, and what happens to values that do not fit the type."""
    operation = change.operation
    if isinstance(operation, RetypeColumn):
        consequence = "its SQL decides what happens to values that do not fit"
        if not operation.using:
            direction = "downgrade" if change.is_downgrade else "upgrade"
            consequence = f"the {direction} is refused if a value does not fit"
        yield operation.column, operation.to, consequence
    elif isinstance(operation, TransformTable | BuildTable):
        consequence = "the values are derived again to fit it"
        if isinstance(operation, TransformTable):
            consequence = f"{operation.using.__name__}() decides what happens to values that do not fit"
        for path, of in _columns(operation.columns):
            if not pa.types.is_struct(of):
                yield path, of, consequence


def _type_of(catalog: CatalogSchema, table: str, path: str) -> pa.DataType | None:
    try:
        return column(table, catalog.table(table).columns, path).type
    except PlanError:
        return None


def deletes_all(subject: Subject) -> Iterator[Violation]:
    """The condition of a DeleteRows holds for every row."""
    for change in subject.all_changes:
        operation = change.operation
        if isinstance(operation, DeleteRows) and always_true(operation.where, change.never_null):
            yield Violation(
                Code.DELETES_ALL,
                change.span,
                f"every row of {operation.table} is deleted: the condition is {operation.where!r}",
                "select the rows with a condition, and set max_rows",
            )


def updates_all(subject: Subject) -> Iterator[Violation]:
    """An UpdateRows replaces values in every row; not reported for new columns and for filling nulls."""
    for change in subject.all_changes:
        operation = change.operation
        if not isinstance(operation, UpdateRows):
            continue
        replaced = [
            path
            for path, sql in operation.set.items()
            if not change.is_created(path) and not fills_nulls(sql, path)
        ]
        if replaced and (operation.where is None or always_true(operation.where, change.never_null)):
            verb = "is" if len(replaced) == 1 else "are"
            yield Violation(
                Code.UPDATES_ALL,
                change.span,
                f"{', '.join(replaced)} {verb} replaced in every row of {operation.table}",
                "select the wrong rows with `where`, and set max_rows",
            )


def irreversible(subject: Subject) -> Iterator[Violation]:
    """No inverse can be derived from an operation, and the file declares none."""
    if subject.migration.downgrade is not None:
        return
    for change in subject.changes:
        # Dropped columns and tables have a finding of their own.
        is_dropped = bool(change.column_effects.dropped) or change.operation.table_after is None
        if is_dropped or not _irreversible(change):
            continue
        yield Violation(
            Code.IRREVERSIBLE,
            change.span,
            f"no inverse can be derived: {change.operation.table}: {change.operation.describe()}",
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


def not_idempotent(subject: Subject) -> Iterator[Violation]:
    """An UpdateRows gives another result if it is applied twice.

    It sets a column from itself, or from another column that it sets.
    """
    for change in subject.all_changes:
        operation = change.operation
        if not isinstance(operation, UpdateRows):
            continue
        for path, sql in operation.set.items():
            source = _changed_source(operation, path)
            if source is not None and not _marks_updated_rows(operation, path):
                source_text = "itself" if source == path else f"{source}, which is also set"
                yield Violation(
                    Code.NOT_IDEMPOTENT,
                    change.span,
                    f"{operation.table}.{path} is set from {source_text} ({path} = {sql}): applying it twice "
                    "to a row gives a different result",
                    "compute it from columns that do not change, or exclude the rows that are done "
                    "with `where`, by another column that the operation sets",
                )


def _changed_source(operation: UpdateRows, path: str) -> str | None:
    """The column that `path` is computed from and that has another value the second time, if there is one."""
    sql = operation.set[path]
    if (
        refers_to(sql, path)
        and not is_idempotent(sql, path)
        and not excludes_updated_rows(operation.where, path, sql)
    ):
        return path
    sources = ((name, new) for name, new in operation.set.items() if name != path and refers_to(sql, name))
    replaced = (name for name, new in sources if not refers_to(new, name))
    return next((name for name in replaced if not excludes_updated_rows(operation.where, name, sql)), None)


def _marks_updated_rows(operation: UpdateRows, path: str) -> bool:
    """Whether `where` tests another column that the operation sets to a new value."""
    where = operation.where or "true"
    others = ((name, sql) for name, sql in operation.set.items() if name != path)
    return any(refers_to(where, name) and not refers_to(sql, name) for name, sql in others)


def index_lost(subject: Subject) -> Iterator[Violation]:
    """An index is dropped with its column, or because its column gets a type that it does not support.

    Not reported where a later operation creates an index on that column, nor in a downgrade for an index that
    the upgrade created.
    """
    changes = subject.all_changes
    for at, change in enumerate(changes):
        if not isinstance(change.operation, RetypeColumn | DropColumn | TransformTable | BuildTable):
            continue
        before, after = change.table, change.after.tables.get(change.operation.table)
        if before is None or after is None:
            continue
        for index in before.indices:
            is_new = change.is_downgrade and not _has_index(index, subject.before, change.operation.table)
            if _survives(index, after) or is_new:
                continue
            if not _is_recreated(index, change, changes[at + 1 :]):
                yield Violation(
                    Code.INDEX_LOST,
                    change.span,
                    f"the index {index.name} ({index.type}) on {index.column} is dropped",
                    f'drop it explicitly first: DropIndex(table="{change.operation.table}", '
                    f'name="{index.name}"); then create the index that searches need: CreateIndex',
                )


def _has_index(index: Index, catalog: CatalogSchema, table: str) -> bool:
    schema = catalog.tables.get(table)
    return schema is not None and any(existing.name == index.name for existing in schema.indices)


def _is_recreated(index: Index, change: OperationChange, later: Sequence[OperationChange]) -> bool:
    return any(
        isinstance(following.operation, CreateIndex)
        and following.is_downgrade == change.is_downgrade
        and following.operation.table == change.operation.table
        and following.operation.column == index.column
        for following in later
    )


def _survives(index: Index, table: TableSchema) -> bool:
    if not has_column(table.columns, index.column):
        return False
    return indexable(index.type, column("", table.columns, index.column).type)


def no_key(subject: Subject) -> Iterator[Violation]:
    """A rebuild changes a table without a key."""
    if Kind.weakest([change.operation.kind for change in subject.changes]) is not Kind.REBUILD:
        return
    reported: set[str] = set()
    for at, change in enumerate(subject.changes):
        name = change.operation.table
        if name not in reported and _is_keyless(change) and not _gets_key_later(name, subject.changes[at:]):
            reported.add(name)
            yield Violation(
                Code.NO_KEY,
                change.span,
                f"table {name} has no key: the flip is refused if writers update or delete its rows",
                _key_fix(change.operation),
            )


def _key_fix(operation: Operation) -> str:
    if isinstance(operation, CreateTable | BuildTable):
        return "declare the columns that identify a row: key=(…,)"
    return f'declare the columns that identify a row: SetKey(table="{operation.table}", key=(…,))'


def _gets_key_later(table: str, changes: Sequence[OperationChange]) -> bool:
    """Whether a later operation sets the key: a rebuild uses that key from its start."""
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


def volatile_sql(subject: Subject) -> Iterator[Violation]:
    """An SQL expression gives another value on every call."""
    for change in subject.all_changes:
        effects = change.column_effects
        for sql in (*effects.expressions.values(), *effects.conditions):
            for name in volatile_functions(sql):
                yield Violation(
                    Code.NOT_DETERMINISTIC,
                    change.span,
                    f"{name}() gives a different value on every call: {sql}",
                    "write the value as a literal",
                )


def no_reads(subject: Subject) -> Iterator[Violation]:
    """A function declares no `reads`, and receives every column of the table."""
    for change in subject.all_changes:
        operation = change.operation
        if isinstance(operation, TransformTable) and operation.reads is None:
            yield Violation(
                Code.NO_READS,
                change.span,
                f"{operation.using.__name__}() declares no `reads`, so it receives every column of "
                f"{operation.table}, including columns added later",
                "declare the columns that it uses: reads=(…,)",
            )


_UNITS = ("s", "ms", "us", "ns")
_MANTISSA = {16: 11, 32: 24, 64: 53}


def narrows(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether some values of `old` have no equal in `new`.

    Text can hold everything but bytes. Where the types tell nothing certain, the answer is no.
    """
    old, new = _value_type(old), _value_type(new)
    if old == new or pa.types.is_null(old):
        return False
    if _is_text(new):
        return _is_binary(old)
    return next((type_narrows(old, new) for applies, type_narrows in _NARROWING if applies(old)), False)


def _value_type(of: pa.DataType) -> pa.DataType:
    if isinstance(of, pa.BaseExtensionType):
        return _value_type(of.storage_type)
    return of.value_type if pa.types.is_dictionary(of) else of


def _is_text(of: pa.DataType) -> bool:
    return bool(pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of))


def _is_binary(of: pa.DataType) -> bool:
    fixed = pa.types.is_fixed_size_binary(of)
    return bool(fixed or pa.types.is_binary(of) or pa.types.is_large_binary(of))


def _is_list(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of))


def _bits(of: pa.DataType) -> int:
    """The bits of the largest number of an integer type."""
    return int(of.bit_width) - (1 if pa.types.is_signed_integer(of) else 0)


def _text_narrows(_old: pa.DataType, new: pa.DataType) -> bool:
    return pa.types.is_fixed_size_binary(new) or not _is_binary(new)


def _binary_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_fixed_size_binary(new):
        return not _is_binary(new)
    return not pa.types.is_fixed_size_binary(old) or bool(old.byte_width != new.byte_width)


def _integer_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_floating(new):
        return _bits(old) > _MANTISSA[new.bit_width]
    if pa.types.is_decimal(new):
        return bool(10 ** (new.precision - new.scale) <= 2 ** _bits(old))
    if not pa.types.is_integer(new):
        return True
    signed_lost = pa.types.is_signed_integer(old) and pa.types.is_unsigned_integer(new)
    return bool(signed_lost or _bits(new) < _bits(old))


def _float_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    return bool(not pa.types.is_floating(new) or new.bit_width < old.bit_width)


def _decimal_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_decimal(new):
        return True
    fewer_whole_digits = old.precision - old.scale > new.precision - new.scale
    return bool(fewer_whole_digits or new.scale < old.scale)


def _time_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if not hasattr(new, "unit"):
        return not pa.types.is_int64(new)
    return _UNITS.index(new.unit) < _UNITS.index(old.unit)


def _list_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if not hasattr(new, "value_type"):
        return True
    fixed = pa.types.is_fixed_size_list(new)
    other_length = fixed and not (pa.types.is_fixed_size_list(old) and old.list_size == new.list_size)
    return bool(other_length or narrows(old.value_type, new.value_type))


def _struct_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_struct(new):
        return True
    new_types = {field.name: field.type for field in new}
    return any(field.name not in new_types or narrows(field.type, new_types[field.name]) for field in old)


def _map_narrows(old: pa.DataType, new: pa.DataType) -> bool:
    if not pa.types.is_map(new):
        return False
    return narrows(old.key_type, new.key_type) or narrows(old.item_type, new.item_type)


_NARROWING = (
    (_is_text, _text_narrows),
    (_is_binary, _binary_narrows),
    (pa.types.is_integer, _integer_narrows),
    (pa.types.is_floating, _float_narrows),
    (pa.types.is_decimal, _decimal_narrows),
    (pa.types.is_timestamp, _time_narrows),
    (pa.types.is_time, _time_narrows),
    (pa.types.is_duration, _time_narrows),
    (pa.types.is_struct, _struct_narrows),
    (pa.types.is_map, _map_narrows),
    (_is_list, _list_narrows),
)
