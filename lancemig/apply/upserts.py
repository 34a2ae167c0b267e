"""Upserts: keys are checked against each other and against the table before anything is written."""

import pyarrow as pa
import pyarrow.compute as pc

from lancemig.apply.changes import identical
from lancemig.apply.diff import keys_of, positions
from lancemig.catalog.operations import UpsertRows
from lancemig.catalog.sources import read_source
from lancemig.errors import PlanError
from lancemig.store.tables import Staged, Table
from lancemig.store.tables.staging import upserted_rows

_CHUNK = 1000


def staged_upsert(operation: UpsertRows, table: Table) -> Staged | None:
    """Stage the upsert; None when the table holds all of it already.

    The source is read into memory. Raises PlanError for null or repeated keys in it, and, with
    `when_exists="error"`, for a row that is there with other values, naming its key and columns.
    """
    rows = read_source(operation.rows, table.columns).read_all()
    checked_keys(rows, operation.on, "the source")
    there = existing(table, rows, operation.on)
    matched = positions(rows, there, operation.on)
    old = [at for at, other in enumerate(matched) if other is not None]
    given = rows.take(pa.array(old, pa.int64()))
    found = there.take(pa.array([matched[at] for at in old], pa.int64()))
    names = [name for name in rows.column_names if name not in operation.on]
    same = identical(given, found, names)
    differing = [at for at, alike in zip(old, same.to_pylist(), strict=True) if not alike]
    if differing and operation.when_exists == "error":
        raise _divergent(operation, given.filter(pc.invert(same)), found.filter(pc.invert(same)), names)
    new = [at for at, other in enumerate(matched) if other is None]
    overwrite = operation.when_exists == "overwrite"
    wanted = sorted([*new, *(differing if overwrite else [])])
    staged = upserted_rows(table, rows.take(pa.array(wanted, pa.int64())), operation.on, overwrite=overwrite)
    return None if staged is None else staged.counted(len(wanted), rows.num_rows - len(wanted))


def existing(table: Table, rows: pa.Table, on: tuple[str, ...]) -> pa.Table:
    """The rows of `table` whose key may be among those of `rows`."""
    first = pc.unique(rows.column(on[0]).combine_chunks())
    found = [
        table.read(where=pc.field(on[0]).isin(first.slice(start, _CHUNK)))
        for start in range(0, len(first), _CHUNK)
    ]
    return pa.concat_tables(found) if found else table.columns.empty_table()


def checked_keys(rows: pa.Table, on: tuple[str, ...], whose: str) -> None:
    """Refuse null and repeated keys with PlanError, naming one."""
    for name in on:
        if rows.column(name).null_count:
            raise PlanError(f"{whose} has {rows.column(name).null_count} null keys in {name!r}")
    counts = rows.select(on).group_by(list(on)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts.column("count_all"), 1))
    if repeated.num_rows:
        raise PlanError(f"{whose} has the key {_spelled(repeated, on)} more than once")


def _divergent(operation: UpsertRows, given: pa.Table, found: pa.Table, names: list[str]) -> PlanError:
    first, other = given.slice(0, 1), found.slice(0, 1)
    differ = [name for name in names if not identical(first, other, [name])[0].as_py()]
    return PlanError(
        f"{given.num_rows} rows of {operation.table} are there with other values; "
        f"{_spelled(first, operation.on)} differs in {', '.join(differ)}",
        next_step='choose: UpsertRows(…, when_exists="overwrite" or "keep")',
    )


def _spelled(rows: pa.Table, on: tuple[str, ...]) -> str:
    first = keys_of(rows.slice(0, 1), on)[0]
    return ", ".join(f"{name}={value!r}" for name, value in zip(on, first, strict=True))
