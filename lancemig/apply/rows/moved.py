"""Rows that a compaction moved, found again by what a function read of them.

A compaction gives all rows of small fragments new addresses, and with them the answers that were kept by
address would be lost: a function of hours would never end in a table that is compacted every few minutes.
While the version that was asked about is there, what was read of each row is read there once more.
"""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from lancemig.catalog.keys import matches
from lancemig.store.tables import ROW_ADDRESS, LanceFragment, Table, quoted

Known = Callable[[int, str], pa.Table | None]
"""The answers that were kept for a fragment in a state."""


def comparable(columns: pa.Schema) -> bool:
    """Whether rows can be found by these columns."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_map)
    return not any(is_(of) for of in columns.types for is_ in lists)


def moved_answers(earlier: Table, table: Table, reads: Sequence[str], known: Known) -> pa.Table | None:
    """The answers to rows of fragments that `earlier` has and `table` has not, and what was read of them.

    None where there are none, or where rows cannot be found by what was read.
    """
    gone = [fragment for fragment in earlier.fragments if fragment.fragment_id not in table.fragment_ids]
    found = [rows for fragment in gone for rows in _answers(earlier, fragment, reads, known)]
    return pa.concat_tables(found) if found else None


def _answers(
    earlier: Table, fragment: LanceFragment, reads: Sequence[str], known: Known
) -> Iterator[pa.Table]:
    answers = known(fragment.fragment_id, place_of(earlier, fragment, reads))
    if answers is None:
        return
    asked = {path: quoted(path) for path in reads}
    for batch in earlier.batches(asked, fragments=[fragment], addresses=True):
        if not comparable(batch.schema):
            return
        rows = pa.Table.from_batches([batch])
        at = matches(rows, answers, [ROW_ADDRESS])
        there = answers.take(pa.array(at[at >= 0])).drop_columns([ROW_ADDRESS])
        given = (
            rows.filter(pa.array(at >= 0)).select(list(reads)).rename_columns([f"read:{p}" for p in reads])
        )
        for name in given.column_names:
            there = there.append_column(name, given.column(name))
        yield there


def place_of(table: Table, fragment: LanceFragment, reads: Sequence[str]) -> str:
    """What names a fragment in the state of what is read of it."""
    return f"{fragment.fragment_id}:{table.state_of(fragment, reads)}"


def answered_elsewhere(pool: pa.Table, given: pa.RecordBatch, reads: Sequence[str]) -> pa.Table:
    """The answers in `pool` to rows of `given` that read the same, at the addresses that they have now."""
    rows = pa.Table.from_batches([given])
    read = pool.select([f"read:{path}" for path in reads]).rename_columns(list(reads))
    at = matches(rows, read, reads)
    found = pool.drop_columns([f"read:{path}" for path in reads]).take(pa.array(at[at >= 0]))
    return found.append_column(ROW_ADDRESS, rows.column(ROW_ADDRESS).filter(pa.array(at >= 0)))
