"""Appended rows, brought over as a stream: no row that was there before can have changed."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.effects.replay import TablePath, replay_rows
from lancemig.apply.rows.diff import value_columns
from lancemig.apply.rows.updates import identical
from lancemig.apply.rows.upserts import existing
from lancemig.apply.rows.values import with_columns
from lancemig.catalog.keys import format_key, matches
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.sources import count_text
from lancemig.errors import VerifyFailed
from lancemig.store.lance import Commit, LanceFragment, Table, Tables

APPENDS = {"Append"}

_ROWS_AT_ONCE = 65_536

New = tuple[Table, list[LanceFragment]]
"""A version of a table, and those of its fragments that are new in it."""


def new_fragments(before: Table, source: Table) -> list[New]:
    """What came between two versions, if nothing but appends did."""
    return [(source, [f for f in source.fragments if f.fragment_id not in before.fragment_ids])]


def by_commit(tables: Tables, source: Table, log: Sequence[Commit]) -> list[New]:
    """What each append brought, from the version it made: later ones may have moved the rows."""
    found: list[New] = []
    for version in (commit.version for commit in log if commit.operation in APPENDS):
        before, after = (tables.open(source.root, source.name, at) for at in (version - 1, version))
        found += new_fragments(before, after)
    return found


def carried_over(
    new: Sequence[New], table_path: TablePath, start: TableSchema, target: Table
) -> Iterator[pa.RecordBatch]:
    """The new rows as the target has them, but for those that it has already.

    VerifyFailed where it has a row of the same key with other values.
    """
    key = table_path.key_after(start)
    for rows in _together(new, start):
        gained = replay_rows(table_path, start, rows)
        yield from with_columns(_unknown(target, gained, key), target.columns).to_batches()


def _unknown(target: Table, rows: pa.Table, key: tuple[str, ...]) -> pa.Table:
    if not key or not rows.num_rows:
        return rows
    there = existing(target, rows, key)
    matched = matches(rows, there, key)
    names = [name for name in value_columns(there) if name in rows.column_names]
    ours, theirs = rows.filter(pa.array(matched >= 0)), there.take(pa.array(matched[matched >= 0]))
    other = ours.filter(pc.invert(identical(ours, theirs, names)))
    if other.num_rows:
        raise VerifyFailed(
            f"{count_text(other.num_rows, 'new row')} of {target.name} already in {target.root} with "
            f"different values, for example {format_key(other, key, 0)}",
            next_step="keys must be unique: fix the rows in the live table, then run the same command again",
        )
    return rows.filter(pa.array(matched < 0))


def _together(new: Sequence[New], start: TableSchema) -> Iterator[pa.Table]:
    """The rows of the new fragments, many small ones at once: each pass costs, whatever its size."""
    waiting: list[pa.Table] = []
    for source, fragments in new:
        while fragments:
            count = _as_many(fragments)
            waiting.append(source.read(start.columns.names, fragments=fragments[:count]))
            fragments = fragments[count:]
            if sum(rows.num_rows for rows in waiting) >= _ROWS_AT_ONCE:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _as_many(fragments: list[LanceFragment]) -> int:
    sizes = accumulate(fragment.physical_rows for fragment in fragments)
    return next((count for count, rows in enumerate(sizes, 1) if rows >= _ROWS_AT_ONCE), len(fragments))
