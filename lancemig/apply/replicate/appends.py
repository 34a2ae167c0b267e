"""Replication of appended rows as a stream: no row that was in the source before can have changed."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.effects.replay import replay_rows
from lancemig.apply.replicate.merge import MergeResult
from lancemig.apply.replicate.types import ReplicationTask
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

NewFragments = tuple[Table, list[LanceFragment]]
"""A version of a table, and those of its fragments that are new in it."""


def new_fragments(before: Table, source: Table) -> list[NewFragments]:
    """The fragments that are new between two versions, if all commits between them are appends."""
    return [(source, [f for f in source.fragments if f.fragment_id not in before.fragment_ids])]


def fragments_by_commit(tables: Tables, source: Table, log: Sequence[Commit]) -> list[NewFragments]:
    """The new fragments of each append, in the version that it made: later commits may move the rows."""
    appended: list[NewFragments] = []
    for version in (commit.version for commit in log if commit.operation in APPENDS):
        before, after = (tables.open(source.root, source.name, at) for at in (version - 1, version))
        appended += new_fragments(before, after)
    return appended


def appended_batches(
    new: Sequence[NewFragments], task: ReplicationTask, target: Table, merge: MergeResult
) -> Iterator[pa.RecordBatch]:
    """The new rows in the target's columns, except those that the target has; `merge` counts the latter.

    Raises:
        VerifyFailed: the target has a row with the same key and other values.
    """
    key = task.path.key_after(task.schema)
    for rows in _in_chunks(new, task.schema):
        replayed = replay_rows(task.path, task.schema, rows)
        yield from with_columns(_unknown(target, replayed, key, merge), target.columns).to_batches()


def _unknown(target: Table, rows: pa.Table, key: tuple[str, ...], merge: MergeResult) -> pa.Table:
    if not key or not rows.num_rows:
        return rows
    current = existing(target, rows, key)
    matched = matches(rows, current, key)
    names = [name for name in value_columns(current) if name in rows.column_names]
    ours, theirs = rows.filter(pa.array(matched >= 0)), current.take(pa.array(matched[matched >= 0]))
    other = ours.filter(pc.invert(identical(ours, theirs, names)))
    if other.num_rows:
        all_rows = np.ones(other.num_rows, dtype=bool)
        merge.leave("conflict", "the target has a row with this key and other values", other, key, all_rows)
        raise VerifyFailed(
            f"{count_text(other.num_rows, 'new row')} of {target.name} already in {target.root} with "
            f"different values, for example {format_key(other, key, 0)}",
            next_step="keys must be unique: fix the rows in the live table, then run the same command again",
        )
    merge.leave("unchanged", "the target has the same row", rows, key, matched >= 0)
    return rows.filter(pa.array(matched < 0))


def _in_chunks(new: Sequence[NewFragments], schema: TableSchema) -> Iterator[pa.Table]:
    """The rows of the new fragments, many small ones at once: each pass costs, whatever its size."""
    waiting: list[pa.Table] = []
    for source, fragments in new:
        while fragments:
            count = _fragments_of_a_chunk(fragments)
            waiting.append(source.read(schema.columns.names, fragments=fragments[:count]))
            fragments = fragments[count:]
            if sum(rows.num_rows for rows in waiting) >= _ROWS_AT_ONCE:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _fragments_of_a_chunk(fragments: list[LanceFragment]) -> int:
    sizes = accumulate(fragment.physical_rows for fragment in fragments)
    return next((count for count, rows in enumerate(sizes, 1) if rows >= _ROWS_AT_ONCE), len(fragments))
