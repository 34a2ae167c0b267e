"""What others do to a table, with Lance or LanceDB: done to the table, and told as plain Python."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import lance
import lancedb
import pyarrow as pa
from model import TableModel
from ours import Change, Row, above, deleting, plus, updating

Effect = Callable[[Mapping[int, Row], Sequence[str]], Change]

KINDS = (
    "append",
    "append without the new columns",
    "append what is upserted",
    "update by lancedb",
    "update by lance",
    "upsert",
    "delete",
    "delete the big",
    "compact",
    "optimize indices",
    "index",
)
AWAITING = "what is upserted"
AWAITED = (3, 6, *range(50, 60))
IDS = (1, 2, 3, 6, *range(50, 60), *range(70, 100))
"""What is appended: ids that upserts of ours insert, or that come back when a deletion is undone, too."""


@dataclass(frozen=True)
class Deed:
    """What somebody does to one of the tables; `seed` chooses rows and values."""

    kind: str
    table: str
    seed: int


def do(deed: Deed, table: TableModel) -> Effect:
    """Do it, and say what it did."""
    dataset = lance.dataset(table.uri)
    return _DO[deed.kind](deed, table, dataset)


def nothing(*_: Any) -> Change:
    return Change()


def _rows(deed: Deed, table: TableModel, *, free: bool) -> list[Row]:
    """New rows whose ids are not there, or are."""
    state = table.now
    there = {row["id"] for row in state.rows.values()}
    ids = [n for n in IDS if (n in there) != free]
    ids = (
        [n for n in ids if n in AWAITED]
        if AWAITING in deed.kind
        else ids[deed.seed % 4 :][: 1 + deed.seed % 3]
    )
    values = {"x": 10 * (deed.seed % 5), "y": deed.seed % 7}
    added = {name: deed.seed for name in state.columns if name not in ("id", "x", "y")}
    return [{"id": n, **values, **added} for n in ids]


def _table(dataset: lance.LanceDataset, rows: list[Row], names: Sequence[str]) -> pa.Table:
    schema = pa.schema([dataset.schema.field(name) for name in names])
    return pa.Table.from_pylist(rows, schema=schema)


def _append(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    names = ("id", "x", "y") if deed.kind == "append without the new columns" else table.now.columns
    rows = [{name: row[name] for name in names} for row in _rows(deed, table, free=True)]
    lance.write_dataset(_table(dataset, rows, names), table.uri, mode="append")
    whole = tuple({name: row.get(name) for name in table.now.columns} for row in rows)
    return lambda *_: Change(inserted=whole)


def _upsert(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    old, new = _rows(deed, table, free=False), _rows(deed, table, free=True)[:1]
    merge = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    merge.execute(_table(dataset, [*old, *new], table.now.columns))
    by_id = {row["id"]: row for row in old}

    def effect(rows: Mapping[int, Row], _: Sequence[str]) -> Change:
        return Change({n: by_id[row["id"]] for n, row in rows.items() if row["id"] in by_id}, tuple(new))

    return effect


def _update(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    parity = deed.seed % 2
    where, sql = f"id % 2 = {parity}", {"x": f"x + {deed.seed % 3 + 1}"}
    if deed.kind == "update by lance":
        dataset.update(sql, where=where)
    else:
        folder, _, name = table.uri.rpartition("/")
        lancedb.connect(folder).open_table(name.removesuffix(".lance")).update(where=where, values_sql=sql)
    effect: Effect = updating(
        lambda row: {"x": plus(row["x"], deed.seed % 3 + 1)}, lambda row: row["id"] % 2 == parity
    )
    return effect


def _delete(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    effect: Effect
    if deed.kind == "delete the big":
        dataset.delete("x > 30")
        effect = deleting(lambda row: above(row["x"], 30))
    else:
        doomed = IDS[deed.seed % len(IDS)] if deed.seed % 2 else deed.seed % 6
        dataset.delete(f"id = {doomed}")
        effect = deleting(lambda row: row["id"] == doomed)
    return effect


def _compact(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    dataset.optimize.compact_files()
    return nothing


def _optimize(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    dataset.optimize.optimize_indices()
    return nothing


def _index(deed: Deed, table: TableModel, dataset: lance.LanceDataset) -> Effect:
    column = ("id", "y")[deed.seed % 2]
    if any(index.field_names == [column] for index in dataset.describe_indices()):
        return nothing
    dataset.create_scalar_index(column, "BTREE", name=f"theirs_{column}")
    return nothing


def clean_up(table: TableModel) -> None:
    """Remove all versions that nothing keeps."""
    lance.dataset(table.uri).cleanup_old_versions(older_than=timedelta(0))


_DO: dict[str, Callable[[Deed, TableModel, lance.LanceDataset], Effect]] = {
    "append": _append,
    "append without the new columns": _append,
    "append what is upserted": _append,
    "update by lancedb": _update,
    "update by lance": _update,
    "upsert": _upsert,
    "delete": _delete,
    "delete the big": _delete,
    "compact": _compact,
    "optimize indices": _optimize,
    "index": _index,
}
