"""New values for single rows: the same as Lance's own `update_columns` gives, in files written whole."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from lancemig.store.lance import ROW_ADDRESS, ROW_ID, Stamp, Table, Tables
from lancemig.store.lance.patches import offsets_within, patch, patched
from lancemig.store.objects import open_objects

ROOT = "v1/"
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "bool": (pa.bool_(), [True, False]),
    "int64": (pa.int64(), [1, -1]),
    "float16": (pa.float16(), [np.float16(1), np.float16(2)]),
    "float64": (pa.float64(), [1.5, float("nan")]),
    "string": (pa.string(), ["a", "longer than that"]),
    "large_binary": (pa.large_binary(), [b"a", b""]),
    "fixed_binary": (pa.binary(2), [b"ab", b"cd"]),
    "decimal": (pa.decimal128(9, 2), [Decimal("1.25"), Decimal("-3.00")]),
    "date": (pa.date32(), [dt.date(2026, 5, 20), dt.date(1969, 1, 1)]),
    "duration": (pa.duration("us"), [dt.timedelta(seconds=1), dt.timedelta(days=-1)]),
    "vector": (pa.list_(pa.float32(), 3), [[1, 2, 3], [4, 5, 6]]),
    "list": (pa.list_(pa.int32()), [[1], []]),
    "struct": (pa.struct([("a", pa.int32()), ("b", pa.string())]), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", "b"]),
}


def made(folder: Path, kind: str, *, version: str = "2.1", stable: bool = False) -> tuple[Tables, Table]:
    """A table of three fragments, one with deleted rows, and an index on the column where it can have one."""
    of, values = VALUES[kind]
    rows = pa.table(
        {
            "id": pa.array(range(30), pa.int64()),
            "c": pa.array([values[i % 2] if i % 5 else None for i in range(30)], of),
            "other": [f"row {i}" for i in range(30)],
        }
    )
    uri = folder / ROOT / "catalog" / "t.lance"
    lance.write_dataset(
        rows, uri, max_rows_per_file=10, data_storage_version=version, enable_stable_row_ids=stable
    )
    lance.dataset(uri).delete("id in (3, 12, 19)")
    if kind == "int64":
        lance.dataset(uri).create_scalar_index("c", "BTREE")
    tables = Tables(open_objects(str(folder), {}), "catalog/")
    return tables, tables.open(ROOT, "t")


def changes(table: Table, kind: str) -> list[tuple[Any, pa.Table]]:
    """New values for some rows of the first two fragments: the other value, or null."""
    of, values = VALUES[kind]
    found = []
    for fragment in table.fragments[:2]:
        rows = table.read(["id"], "id % 3 != 1", [fragment], row_ids=True, addresses=True)
        new = [values[(i.as_py() + 1) % 2] if i.as_py() % 4 else None for i in rows.column("id")]
        values_of = pa.table(
            {"c": pa.array(new, of), ROW_ID: rows.column(ROW_ID), ROW_ADDRESS: rows.column(ROW_ADDRESS)}
        )
        # In another order than they lie.
        found.append((fragment, values_of.take(pa.array(range(len(new))[::-1]))))
    return found


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2"])
@pytest.mark.parametrize("kind", VALUES)
def test_a_patch_by_address_is_the_one_by_row_id(
    tmp_path: Path, kind: str, version: str, stable: bool
) -> None:
    if (version, kind) == ("2.0", "struct"):
        pytest.skip("this version has no structs that are null")
    tables, table = made(tmp_path, kind, version=version, stable=stable)
    ours = [patch(table, fragment, values) for fragment, values in changes(table, kind)]
    theirs = [
        patch(table, fragment, values.drop_columns([ROW_ADDRESS]))
        for fragment, values in changes(table, kind)
    ]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.fragment, one.fields, one.offsets) == (other.fragment, other.fields, other.offsets)
        assert [file.fields for file in one.files] == [file.fields for file in other.files]
    want = {row["id"]: row for row in table.read().to_pylist()}
    for _, values in changes(table, kind):
        ids = table.read(["id"], addresses=True)
        at = {a: i for i, a in zip(ids["id"].to_pylist(), ids[ROW_ADDRESS].to_pylist(), strict=True)}
        for row in values.to_pylist():
            want[at[row[ROW_ADDRESS]]]["c"] = row["c"]
    staged = patched(table, ours)
    assert staged is not None
    tables.commit(table, staged, Stamp("r", "", "s"))
    after = tables.open(ROOT, "t")
    assert str(after.read().to_pylist()) == str([want[id_] for id_ in sorted(want)])
    after.dataset.validate()
    assert after.columns == table.columns
    # Whatever Lance makes of these files later.
    after.dataset.optimize.compact_files()
    compacted = tables.open(ROOT, "t").read().sort_by("id")
    assert str(compacted.to_pylist()) == str([want[id_] for id_ in sorted(want)])


def test_an_index_answers_with_the_new_values(tmp_path: Path) -> None:
    tables, table = made(tmp_path, "int64")
    staged = patched(table, [patch(table, *change) for change in changes(table, "int64")])
    assert staged is not None
    tables.commit(table, staged, Stamp("r", "", "s"))
    after = tables.open(ROOT, "t")
    values = after.read(["c"])["c"].to_pylist()
    for value in (1, -1):
        assert after.count(f"c = {value}") == values.count(value)
    assert after.count("c is null") == values.count(None)


def test_a_second_patch_takes_the_place_of_the_first(tmp_path: Path) -> None:
    tables, table = made(tmp_path, "string")
    for text in ("first", "second"):
        table = tables.open(ROOT, "t")
        fragment = table.fragments[0]
        places = table.read(["id"], "id < 5", [fragment], row_ids=True, addresses=True).drop_columns(["id"])
        values = places.append_column("c", pa.array([text] * places.num_rows))
        staged = patched(table, [patch(table, fragment, values)])
        assert staged is not None
        tables.commit(table, staged, Stamp("r", "", text))
    after = tables.open(ROOT, "t")
    assert after.read(["c"], "id < 5")["c"].to_pylist() == ["second"] * 4
    assert len(after.fragments[0].metadata.files) == 2


@pytest.mark.parametrize("count", [1, 7, 4096, 4097, 65_536, 200_000])
def test_offsets_are_spelt_as_lance_spells_them(tmp_path: Path, count: int) -> None:
    step = max(200_000 // count, 1)
    rows = pa.table({"id": pa.array(range(200_000), pa.int64()), "c": pa.array(range(200_000), pa.int64())})
    dataset = lance.write_dataset(rows, tmp_path / "t.lance")
    [fragment] = dataset.get_fragments()
    some = dataset.to_table(columns=["c"], filter=f"id % {step} = 0", with_row_id=True)
    _, _, offsets = fragment.update_columns(some, left_on="_rowid", right_on="_rowid", with_offsets=True)
    assert offsets_within(some["_rowid"].to_numpy()) == offsets
