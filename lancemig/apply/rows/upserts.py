"""Upserts: what a source makes of a table is decided in full before anything is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.rows.context import FragmentResult, RowCounts, StagingContext, checked_brakes
from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.values import big_enough, chosen, distinct, extended, whole
from lancemig.catalog.keys import Positions, checked_keys, comparable, format_key, format_value, matches
from lancemig.catalog.operations import UpsertRows
from lancemig.catalog.sources import REASON, count_text, read_answers
from lancemig.errors import PlanError
from lancemig.store.lance import ROW_ADDRESS, ROW_ID, LanceFragment, Moves, Staged, Table, quoted
from lancemig.store.lance.staging import deleted_at, replaced_rows

_FEW = 10_000
_SELECTIVE = 200
_BATCH = 262_144
_SHOWN = 3
_SMALLEST = -(2**63)
_QUOTE = "'"


@dataclass(frozen=True)
class Decision:
    """What an upsert does to one version of a table: rows to write, and the places of those they replace.

    The first of `rows` replace those at `places` (`_rowid`, `_rowaddr`), one for one; the others are new.
    `unknown` are the source's rows without an answer: their keys, and `__reason__`.
    """

    rows: pa.Table
    places: pa.Table
    skipped: int
    unknown: pa.Table


def staged_upsert(operation: UpsertRows, table: Table, context: StagingContext) -> Staged | None:
    """Stage the upsert, as one commit; None when the table holds all of it already.

    Raises what `decided` raises, and BrakeTripped.
    """
    decision = decided(operation, table)
    counts = RowCounts(decision.rows.num_rows, decision.skipped, decision.unknown.num_rows)
    context.done = {
        "source": FragmentResult(None, counts, (decision.unknown,) if decision.unknown.num_rows else ())
    }
    if context.braked:
        checked_brakes(operation, counts)
    staged = replaced_rows(table, decision.rows, decision.places)
    if staged is None:
        return None
    if decision.places.num_rows and not table.stable_row_ids:
        staged = staged.moving(Moves(on=operation.on))
    return staged.counted(counts.changed, counts.skipped, counts.indeterminate)


def decided(operation: UpsertRows, table: Table) -> Decision:
    """What the upsert does to the pinned table. The source is read into memory, and the rows it may meet.

    Raises PlanError for null or repeated keys in the source, for a key of it that the table has repeatedly,
    and, with `when_exists="error"`, for rows that are there with other values, naming keys and values.
    """
    on = operation.on
    rows, unknown = read_answers(operation.rows, table.columns)
    checked_keys(rows, on, "the source")
    keep = operation.when_exists == "keep"
    there = existing(table, rows, on, on if keep else None)
    checked_keys(there, on, f"table {table.name}")
    at = matches(rows, there, on)
    new, known = rows.filter(pa.array(at < 0)), np.flatnonzero(at >= 0)
    changed = there.slice(0, 0) if keep else _changed(operation, table, rows, there, (known, at[known]))
    return Decision(
        rows=pa.concat_tables([changed.select(rows.column_names), new]) if changed.num_rows else new,
        places=changed.select([ROW_ID, ROW_ADDRESS]),
        skipped=rows.num_rows - new.num_rows - changed.num_rows,
        unknown=unknown.select([*on, *({REASON} & {*unknown.column_names})]),
    )


def _changed(
    operation: UpsertRows, table: Table, rows: pa.Table, there: pa.Table, pairs: tuple[Positions, Positions]
) -> pa.Table:
    """The rows of `there` that become others, as they become, with their places."""
    given, old = rows.take(pa.array(pairs[0])), there.take(pa.array(pairs[1]))
    columns = {name: old.column(name) for name in old.column_names}
    differs = np.zeros(old.num_rows, dtype=bool)
    for name in (name for name in table.columns.names if name not in operation.on):
        was, is_ = whole(old.column(name)), whole(given.column(name))
        if operation.when_exists == "extend":
            rule = (operation.extend or {}).get(name)
            if rule is None:
                continue
            is_ = extended(rule, was, is_)
        differ = pc.and_(distinct(was, is_), big_enough(was, is_, operation.min_delta))
        columns[name] = chosen(differ, is_, was)
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
    """The rows of `table` whose key is among those of `rows`, with `columns` (all) and where they lie.

    Of `fragments` (all). Keys are read first, and other columns only of the rows that are found.
    """
    others = [n for n in table.columns.names if n not in on and (columns is None or n in columns)]
    places = [(ROW_ID, pa.uint64()), (ROW_ADDRESS, pa.uint64())]
    fields = [*(table.columns.field(name) for name in (*on, *others)), *places]
    found = [batch for batch in _candidates(table, rows, on, fragments) if batch.num_rows]
    if not found:
        return pa.schema(fields).empty_table()
    keys = pa.Table.from_batches(found)
    keys = keys.filter(pa.array(matches(keys, rows, on) >= 0))
    if not keys.num_rows:
        return pa.schema(fields).empty_table()
    if others:
        values = table.rows_of(keys.column(ROW_ID), others)
        values = values.take(pa.array(matches(keys, values, [ROW_ID])))
        for name in others:
            keys = keys.append_column(table.columns.field(name), values.column(name))
    return keys.select(pa.schema(fields).names)


def _candidates(
    table: Table, rows: pa.Table, on: Sequence[str], fragments: list[LanceFragment] | None
) -> Iterator[pa.RecordBatch]:
    """Keys and places of rows each of whose key columns has a value that it has in `rows` too."""
    if not rows.num_rows:
        return
    values = {name: pc.unique(comparable(whole(rows.column(name)))) for name in on}
    few = _few(table)
    asked = [_in(name, some) for name, some in values.items() if len(some) <= few and _askable(some)]
    where = " and ".join(asked) or None
    # A batch costs as much as the values are, for they are hashed again for each.
    size = max(_BATCH, rows.num_rows)
    order = [name for name in table.columns.names if name in on]
    for batch in table.batches(order, where, fragments, row_ids=True, addresses=True, batch_size=size):
        mask = None
        for name, some in values.items():
            one = pc.is_in(comparable(batch.column(name)), value_set=some)
            mask = one if mask is None else pc.and_(mask, one)
        yield batch.filter(mask)


def _few(table: Table) -> int:
    """How many keys are better asked for than looked for: an index answers for few, one reading for many."""
    return max(min(_FEW, table.count() // _SELECTIVE), 1)


def _askable(values: pa.Array) -> bool:
    """Whether SQL takes these values as they are (tests/surface/test_lance_keys.py)."""
    if pa.types.is_signed_integer(values.type):
        return bool(pc.min(values).as_py() > _SMALLEST)
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))


def _in(name: str, values: pa.Array) -> str:
    # A condition as an Arrow expression fails where a column of the table, any column, has a type
    # that Substrait lacks (tests/surface/test_lance_keys.py).
    plain = values.to_pylist()
    spelt = (f"'{v.replace(_QUOTE, _QUOTE * 2)}'" if isinstance(v, str) else str(v) for v in plain)
    return f"{quoted(name)} in ({', '.join(spelt)})"


def _divergent(operation: UpsertRows, table: Table, given: pa.Table, found: pa.Table) -> PlanError:
    shown = [
        f"{format_key(found, operation.on, at)} ({'; '.join(_differing(table, given, found, at))})"
        for at in range(min(given.num_rows, _SHOWN))
    ]
    more = f", and {given.num_rows - len(shown):,} more" if given.num_rows > len(shown) else ""
    return PlanError(
        f"{count_text(given.num_rows, 'row')} already in {operation.table} with different values: "
        f"{', '.join(shown)}{more}",
        next_step='set when_exists="overwrite", "keep" or "extend" in UpsertRows',
    )


def _differing(table: Table, given: pa.Table, found: pa.Table, at: int) -> Iterator[str]:
    for name in table.columns.names:
        old, new = (whole(rows.column(name).slice(at, 1)) for rows in (found, given))
        if distinct(old, new)[0].as_py():
            yield f"{name}: {format_value(old[0])} in the table, {format_value(new[0])} in the source"


def repeated_insertions(read: Table | None, before: Table, landed: Table, on: Sequence[str]) -> pa.Table:
    """The rows that a commit inserted although another one had inserted their key since it was staged.

    `landed` is the version it made, `before` the one just before that, and `read` the one it was staged from,
    or any older one; of what is new since `read`, keys are read. Where that version is gone (None), all keys
    are. A row it overwrote is not among them, whoever repeats its key. The rows say where they lie.
    """
    mine = [f for f in landed.fragments if f.fragment_id not in before.fragment_ids]
    since = read.fragment_ids if read else frozenset()
    theirs = [f for f in landed.fragments if f.fragment_id in before.fragment_ids - since]
    rows = landed.read(fragments=mine, row_ids=True, addresses=True) if mine and theirs else _none(landed)
    rows = _among(rows, existing(landed, rows, on, on, theirs), on) if rows.num_rows else rows
    if not rows.num_rows:
        return rows
    # Of a key that was overwritten, a row that was there before is gone.
    stayed = [f for f in landed.fragments if f.fragment_id in before.fragment_ids]
    there, left = existing(before, rows, on, on), existing(landed, rows, on, on, stayed)
    counts = [np.bincount(matches(side, rows, on), minlength=rows.num_rows) for side in (there, left)]
    return rows.filter(pa.array(counts[0] == counts[1]))


def withdrawn(repeated: pa.Table, on: Sequence[str], table: Table) -> Staged | None:
    """Stage the removal of `repeated` rows from the table as it is now; None where there is nothing to do."""
    return deleted_at(table, rows_to_delete(repeated, on, table))


def rows_to_delete(repeated: pa.Table, on: Sequence[str], table: Table) -> list[int]:
    """Where those of the `repeated` rows lie that are to go from the table as it is now.

    Of each key one row goes, and only while the key has another one. It is the one that was inserted, or,
    once that was moved, one with the same values. A row that somebody changed since stays.
    """
    there = existing(table, repeated, on)
    at = matches(there, repeated, on)
    wrote = repeated.take(pa.array(at))
    again = np.bincount(at, minlength=repeated.num_rows)[at] > 1
    names = [name for name in table.columns.names if name in repeated.column_names]
    same = identical(wrote, there, names).to_numpy(zero_copy_only=False)
    by = ROW_ID if table.stable_row_ids else ROW_ADDRESS
    own = pc.equal(wrote.column(by), there.column(by)).to_numpy()
    going = np.flatnonzero(again & same)
    # Our own row first: its key's first place is the one that goes.
    going = going[np.argsort(~own[going], kind="stable")]
    going = going[np.unique(at[going], return_index=True)[1]]
    addresses: list[int] = there.column(ROW_ADDRESS).take(pa.array(going)).to_pylist()
    return addresses


def retry_for(operation: UpsertRows, repeated: pa.Table) -> UpsertRows:
    """The upsert, of the withdrawn rows alone: of the others somebody may have made something since.

    Its brakes have been looked at.
    """
    rows = repeated.drop_columns([ROW_ID, ROW_ADDRESS])
    return operation.model_copy(update={"rows": rows, "max_rows": None, "max_indeterminate": None})


def _among(rows: pa.Table, others: pa.Table, on: Sequence[str]) -> pa.Table:
    return rows.filter(pa.array(matches(rows, others, on) >= 0))


def _none(table: Table) -> pa.Table:
    return table.read(fragments=[], row_ids=True, addresses=True)
