"""Upserts: what changes is decided in full before anything is written; duplicates are found afterwards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import FragmentResult, RowCounts, StagingContext, check_limits
from lancemig.apply.rows.keys import require_key_afterwards
from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.values import at_least_delta, chosen, combined_by_rule, distinct, whole
from lancemig.catalog.arrow_arrays import empty_table
from lancemig.catalog.keys import checked_keys, comparable, format_key, format_value, matches
from lancemig.catalog.operations import UpsertRows
from lancemig.catalog.sources import REASON, count_text, read_answers
from lancemig.errors import PlanError
from lancemig.store.lance import MANY, ROW_ADDRESS, ROW_ID, LanceFragment, Moves, Staged, Table, quoted
from lancemig.store.lance.staging import deleted_at, replaced_rows

_FEW = 10_000
"""The most keys that are looked up by an SQL condition."""

_SELECTIVE = 200
"""Keys are looked up by a condition where the table has this many rows for each of them."""

_BATCH = 262_144
_SHOWN = 3
"""How many divergent rows an error names."""

_SMALLEST = -(2**63)
_QUOTE = "'"


@dataclass(frozen=True)
class Decision:
    """What an upsert does to one version of a table."""

    rows: pa.Table
    """The rows to write: those that replace a row, then the new ones."""

    places: pa.Table
    """`_rowid` and `_rowaddr` of the rows that the first of `rows` replace, in the same order."""

    skipped: int
    """How many rows of the source change nothing."""

    unknown: pa.Table
    """The keys of the source's rows without an answer, and `__reason__`."""


def staged_upsert(operation: UpsertRows, table: Table, context: StagingContext) -> Staged | None:
    """Stage the upsert as one commit; None when the table has all of its rows already.

    Raises BrakeTripped when a limit is exceeded, and what `decide_upsert` raises.
    """
    decision = decide_upsert(operation, table)
    counts = RowCounts(decision.rows.num_rows, decision.skipped, decision.unknown.num_rows)
    context.done = {
        "source": FragmentResult(None, counts, (decision.unknown,) if decision.unknown.num_rows else ())
    }
    if context.check_limits:
        check_limits(operation, counts)
    if decision.rows.num_rows and context.key and set(context.key) != set(operation.on):
        require_key_afterwards(table, context.key, partial(_keys_afterwards, table, context.key, decision))
    staged = replaced_rows(table, decision.rows, decision.places)
    if staged is None:
        return None
    if decision.places.num_rows and not table.stable_row_ids:
        staged = staged.moving(Moves(on=operation.on))
    return staged.counted(counts.changed, counts.skipped, counts.indeterminate)


def _keys_afterwards(table: Table, key: Sequence[str], decision: Decision) -> Iterator[pa.RecordBatch]:
    """The keys of the whole table as they are after the upsert."""
    order = [name for name in table.columns.names if name in key]
    replaced = whole(decision.places.column(ROW_ADDRESS))
    for batch in table.batches(order, addresses=True, batch_size=MANY):
        yield batch.filter(pc.invert(pc.is_in(batch.column(ROW_ADDRESS), value_set=replaced)))
    yield from decision.rows.select(order).to_batches()


def decide_upsert(operation: UpsertRows, table: Table) -> Decision:
    """What the upsert does to the pinned table. The source and the rows with its keys are read into memory.

    Raises PlanError for null or repeated keys in the source, for a key of the source that the table repeats,
    and, with `when_exists="error"`, for rows that exist with other values, naming keys and values.
    """
    on = operation.on
    rows, unknown = read_answers(operation.rows, table.columns)
    checked_keys(rows, on, "the source")
    keep = operation.when_exists == "keep"
    present = existing(table, rows, on, on if keep else None)
    checked_keys(present, on, f"table {table.name}")
    at = matches(rows, present, on)
    new, known = rows.filter(pa.array(at < 0)), np.flatnonzero(at >= 0)
    if keep:
        changed = present.slice(0, 0)
    else:
        given, old = rows.take(pa.array(known)), present.take(pa.array(at[known]))
        changed = _changed(operation, table, given, old)
    return Decision(
        rows=pa.concat_tables([changed.select(rows.column_names), new]) if changed.num_rows else new,
        places=changed.select([ROW_ID, ROW_ADDRESS]),
        skipped=rows.num_rows - new.num_rows - changed.num_rows,
        unknown=unknown.select([*on, *({REASON} & {*unknown.column_names})]),
    )


def _changed(operation: UpsertRows, table: Table, given: pa.Table, old: pa.Table) -> pa.Table:
    """The rows that change, with their new values and where they lie.

    `old` are rows of the table, `given` the source's rows with the same keys, in the same order.
    """
    columns = {name: old.column(name) for name in old.column_names}
    differs = np.zeros(old.num_rows, dtype=bool)
    for name in (name for name in table.columns.names if name not in operation.on):
        before, after = whole(old.column(name)), whole(given.column(name))
        if operation.when_exists == "extend":
            rule = (operation.extend or {}).get(name)
            if rule is None:
                continue
            after = combined_by_rule(rule, before, after)
        differ = pc.and_(distinct(before, after), at_least_delta(before, after, operation.min_delta))
        columns[name] = chosen(differ, after, before)
        differs |= differ.to_numpy(zero_copy_only=False)
    fields = [*table.columns, *(old.schema.field(name) for name in (ROW_ID, ROW_ADDRESS))]
    changed = pa.table([columns[field.name] for field in fields], schema=pa.schema(fields))
    changed = changed.filter(pa.array(differs))
    if changed.num_rows and operation.when_exists == "error":
        raise _divergent(operation, table, changed, old.filter(pa.array(differs)))
    return changed


def existing(
    table: Table,
    rows: pa.Table,
    on: Sequence[str],
    columns: Sequence[str] | None = None,
    fragments: list[LanceFragment] | None = None,
) -> pa.Table:
    """The rows of `table` that have a key of `rows`, with their row ids and addresses.

    Keys are read first, and other columns of the matching rows only.

    Args:
        table: The pinned table.
        rows: Rows with the key columns.
        on: The key columns.
        columns: The columns to read besides the key; None for all.
        fragments: The fragments to look at; None for all.
    """
    others = [n for n in table.columns.names if n not in on and (columns is None or n in columns)]
    location = [(ROW_ID, pa.uint64()), (ROW_ADDRESS, pa.uint64())]
    fields = [*(table.columns.field(name) for name in (*on, *others)), *location]
    batches = [batch for batch in _candidates(table, rows, on, fragments) if batch.num_rows]
    if not batches:
        return empty_table(pa.schema(fields))
    keys = pa.Table.from_batches(batches)
    keys = keys.filter(pa.array(matches(keys, rows, on) >= 0))
    if not keys.num_rows:
        return empty_table(pa.schema(fields))
    if others:
        values = table.rows_of(keys.column(ROW_ID), others)
        values = values.take(pa.array(matches(keys, values, [ROW_ID])))
        for name in others:
            keys = keys.append_column(table.columns.field(name), values.column(name))
    return keys.select(pa.schema(fields).names)


def _candidates(
    table: Table, rows: pa.Table, on: Sequence[str], fragments: list[LanceFragment] | None
) -> Iterator[pa.RecordBatch]:
    """Keys, row ids and addresses of rows each of whose key columns has a value that it has in `rows` too."""
    if not rows.num_rows:
        return
    values = {name: pc.unique(comparable(whole(rows.column(name)))) for name in on}
    # An index finds few keys quickly; for many, one scan is cheaper.
    few = max(min(_FEW, table.count() // _SELECTIVE), 1)
    conditions = [_in(name, some) for name, some in values.items() if len(some) <= few and _fits_sql(some)]
    where = " and ".join(conditions) or None
    # Each batch costs as much as there are values, for they are hashed again for each.
    size = max(_BATCH, rows.num_rows)
    order = [name for name in table.columns.names if name in on]
    for batch in table.batches(order, where, fragments, row_ids=True, addresses=True, batch_size=size):
        mask = None
        for name, some in values.items():
            matching = pc.is_in(comparable(batch.column(name)), value_set=some)
            mask = matching if mask is None else pc.and_(mask, matching)
        yield batch.filter(mask)


def _fits_sql(values: pa.Array) -> bool:
    """Whether these values can be literals in SQL (tests/surface/test_lance_keys.py)."""
    if pa.types.is_signed_integer(values.type):
        return bool(pc.min(values).as_py() > _SMALLEST)
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))


def _in(name: str, values: pa.Array) -> str:
    # A condition as an Arrow expression fails where any column of the table has a type that Substrait
    # lacks (tests/surface/test_lance_keys.py).
    literals = (
        f"'{value.replace(_QUOTE, _QUOTE * 2)}'" if isinstance(value, str) else str(value)
        for value in values.to_pylist()
    )
    return f"{quoted(name)} in ({', '.join(literals)})"


def _divergent(operation: UpsertRows, table: Table, given: pa.Table, old: pa.Table) -> PlanError:
    shown = [
        f"{format_key(old, operation.on, at)} ({'; '.join(_differing(table, given, old, at))})"
        for at in range(min(given.num_rows, _SHOWN))
    ]
    more = f", and {given.num_rows - len(shown):,} more" if given.num_rows > len(shown) else ""
    return PlanError(
        f"{count_text(given.num_rows, 'row')} already in {operation.table} with different values: "
        f"{', '.join(shown)}{more}",
        next_step='set when_exists="overwrite", "keep" or "extend" in UpsertRows',
    )


def _differing(table: Table, given: pa.Table, old: pa.Table, at: int) -> Iterator[str]:
    for name in table.columns.names:
        before, after = (whole(rows.column(name).slice(at, 1)) for rows in (old, given))
        if distinct(before, after)[0].as_py():
            yield f"{name}: {format_value(before[0])} in the table, {format_value(after[0])} in the source"


def repeated_insertions(read: Table | None, before: Table, landed: Table, on: Sequence[str]) -> pa.Table:
    """The rows that a commit inserted although another commit had inserted their keys since it was staged.

    A row that overwrote another one is not among them, whoever repeats its key.

    Args:
        read: The version from which the commit was staged, or an older one; None where it was removed. Only
            keys of what is new since then are read.
        before: The version just before the commit.
        landed: The version of the commit.
        on: The key columns.

    Returns:
        The rows with all their columns, row ids and addresses.
    """
    inserted = [f for f in landed.fragments if f.fragment_id not in before.fragment_ids]
    since = read.fragment_ids if read else frozenset()
    of_others = [f for f in landed.fragments if f.fragment_id in before.fragment_ids - since]
    rows = landed.read(fragments=inserted if of_others else [], row_ids=True, addresses=True)
    if rows.num_rows:
        rows = rows.filter(pa.array(matches(rows, existing(landed, rows, on, on, of_others), on) >= 0))
    if not rows.num_rows:
        return rows
    # Where a key was overwritten, a row with it is gone.
    kept = [f for f in landed.fragments if f.fragment_id in before.fragment_ids]
    earlier, later = existing(before, rows, on, on), existing(landed, rows, on, on, kept)
    counts = [np.bincount(matches(side, rows, on), minlength=rows.num_rows) for side in (earlier, later)]
    return rows.filter(pa.array(counts[0] == counts[1]))


def stage_removal(repeated: pa.Table, on: Sequence[str], table: Table) -> Staged | None:
    """Stage the removal of `repeated` rows from the table as it is now; None where nothing is removed."""
    return deleted_at(table, rows_to_delete(repeated, on, table))


def rows_to_delete(repeated: pa.Table, on: Sequence[str], table: Table) -> list[int]:
    """The addresses of the `repeated` rows that are to be deleted from the table as it is now.

    One row of each key is deleted, as long as the key has another row: the one that was inserted, or, if that
    was moved, one with the same values. A row that another writer changed since stays.
    """
    present = existing(table, repeated, on)
    at = matches(present, repeated, on)
    inserted = repeated.take(pa.array(at))
    duplicate = np.bincount(at, minlength=repeated.num_rows)[at] > 1
    names = [name for name in table.columns.names if name in repeated.column_names]
    same = identical(inserted, present, names).to_numpy(zero_copy_only=False)
    by = ROW_ID if table.stable_row_ids else ROW_ADDRESS
    own = pc.equal(inserted.column(by), present.column(by)).to_numpy()
    candidates = np.flatnonzero(duplicate & same)
    # Our own rows first: of each key the first candidate is deleted.
    candidates = candidates[np.argsort(~own[candidates], kind="stable")]
    deleted = candidates[np.unique(at[candidates], return_index=True)[1]]
    addresses: list[int] = present.column(ROW_ADDRESS).take(pa.array(deleted)).to_pylist()
    return addresses


def retry_for(operation: UpsertRows, repeated: pa.Table) -> UpsertRows:
    """The upsert of the withdrawn rows alone: other writers may have changed the others since.

    It has no limits: they were checked for the whole upsert.
    """
    rows = repeated.drop_columns([ROW_ID, ROW_ADDRESS])
    return operation.model_copy(update={"rows": rows, "max_rows": None, "max_indeterminate": None})
