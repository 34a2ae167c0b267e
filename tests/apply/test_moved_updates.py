"""A value change of few rows moves them to a new fragment: indices of a live table keep all others."""

from pathlib import Path
from typing import Any

import lance
import lancedb
import pytest
from dying import Died, Fate, dying
from lab import ROOT, Lab
from servers import Place

from lancemig.commands import upgrade
from lancemig.plan import index_upkeep
from lancemig.report.plan import plan_text

ROWS = 20_000
ABOVE = f"""
def rows():
    ids = pa.array(range({ROWS}), pa.int64())
    vectors = pa.array([float(n % 251) for n in range({ROWS} * 4)], pa.float32())
    return pa.table(
        {{"id": ids, "v": pa.array([n // 2 for n in range({ROWS})]),
          "w": [f"word n{{n}}" for n in range({ROWS})],
          "vec": pa.FixedSizeListArray.from_arrays(vectors, 4),
          "s": pa.StructArray.from_arrays([ids], ["x"])}}
    )

def shifted(batch: pa.RecordBatch) -> pa.Array:
    vectors = [[x + 1 for x in vector] for vector in batch.column("vec").to_pylist()]
    return pa.array(vectors, pa.list_(pa.float32(), 4))
"""
SCHEMA = '["id: int64", "v: int64", "w: string", "vec: fixed_size_list<float32>[4]", "s: struct<x: int64>"]'
INDICES = """
CreateIndex(table="t", column="v", type="BTREE", name="by_v"),
CreateIndex(table="t", column="w", type="INVERTED", name="by_w"),
CreateIndex(table="t", column="vec", type="IVF_FLAT", name="by_vec", params={"num_partitions": 2}),
CreateIndex(table="t", column="s.x", type="BTREE", name="by_x")
"""
CHANGES = {
    "by_v": 'UpdateRows(table="t", set={"v": "v + 100000"}, where="id % 2000 = 3")',
    "by_w": 'UpdateRows(table="t", set={"w": "concat(w, \' again\')"}, where="id % 2000 = 3")',
    "by_vec": 'BackfillColumns(table="t", columns=("vec",), reads=("vec",), using=shifted, '
    'where="id % 2000 = 3")',
    "by_x": 'UpdateRows(table="t", set={"s.x": "s.x + 100000"}, where="id % 2000 = 3")',
}


@pytest.fixture
def lab(tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(index_upkeep, "WORTH_MOVING", 1 << 10)
    return made(tmp_path, local_place)


def made(folder: Path, place: Place, key: str = 'key=("id",), ', rewrite: str = "") -> Lab:
    lab = Lab(folder, place)
    lab.revision(f'CreateTable(table="t", {key}schema={SCHEMA}, rows=rows)', above=ABOVE)
    if rewrite:
        lab.revision(rewrite)
    lab.revision(INDICES)
    lab.upgrade()
    return lab


def unindexed(lab: Lab) -> dict[str, int]:
    return lab.catalog().store.tables.open(lab.root, "t").uncovered()


def segments(lab: Lab) -> dict[str, list[str]]:
    return {i.name: sorted(str(s.uuid) for s in i.segments) for i in lab.dataset("t").describe_indices()}


def shape(lab: Lab) -> list[tuple[int, int]]:
    return [(f.metadata.num_rows, f.metadata.num_deletions) for f in lab.dataset("t").get_fragments()]


def plan(lab: Lab) -> str:
    return plan_text(upgrade.prepare(lab.catalog(), "head", "up").request.plan, store="s", staging="v2/")


@pytest.mark.parametrize("index", CHANGES)
def test_few_rows_move_and_the_index_keeps_the_others(lab: Lab, index: str) -> None:
    before, kept = lab.rows("t", by="id"), segments(lab)
    lab.revision(CHANGES[index], above=ABOVE)
    assert "10 rows" in plan(lab)
    assert f"move to a new fragment, and {index} keep all others of 20,000 rows" in plan(lab)
    lab.upgrade()
    assert shape(lab) == [(ROWS - 10, 10), (10, 0)]
    assert segments(lab) == kept
    assert set(unindexed(lab).values()) == {10}
    after = lab.rows("t", by="id")
    changed = [n for n in range(ROWS) if before[n] != after[n]]
    assert changed == list(range(3, ROWS, 2000))
    lab.downgrade()
    assert lab.rows("t", by="id") == before


def found(lab: Lab, number: int) -> dict[str, Any]:
    """The row that LanceDB alone finds by each of its values, through the indices."""
    table = lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t")
    [row] = table.search().where(f"id = {number}").to_list()
    by_v = table.search().where(f"v = {row['v']}").limit(10).to_list()
    assert number in [r["id"] for r in by_v]
    by_x = table.search().where(f"s.x = {row['s']['x']}").limit(10).to_list()
    assert [r["id"] for r in by_x] == [number]
    assert number in [r["id"] for r in table.search(f"n{number}", query_type="fts").limit(10).to_list()]
    near = table.search(row["vec"]).nprobes(2).limit(400).to_list()
    assert number in [r["id"] for r in near]
    return dict(row)


@pytest.mark.parametrize("index", CHANGES)
def test_programs_find_moved_rows_by_every_index(lab: Lab, index: str) -> None:
    lab.revision(CHANGES[index], above=ABOVE)
    lab.upgrade()
    moved = found(lab, 2003)
    if index == "by_v":
        assert moved["v"] == 101001
        assert lab.dataset("t").count_rows("v = 1001") == 1  # the other row that had this value
    lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t").optimize()
    assert set(unindexed(lab).values()) == {0}
    assert found(lab, 2003) == moved
    assert lab.dataset("t").count_rows() == ROWS


NOT_MOVED = {
    "many rows": ('key=("id",), ', "", 'UpdateRows(table="t", set={"v": "v + 9"}, where="id % 2 = 1")'),
    "no key": ("", "", CHANGES["by_v"]),
    "the key itself": (
        'key=("id",), ', "",
        'CreateIndex(table="t", column="id", type="BTREE"), '
        'UpdateRows(table="t", set={"id": "id + 100000"}, where="id % 2000 = 3")',
    ),
    "no index": (
        'key=("id",), ', "",
        'DropIndex(table="t", name="by_v"), ' + CHANGES["by_v"],
    ),
    "staged": ('key=("id",), ', "", 'RenameColumn(table="t", column="s", to="r"), ' + CHANGES["by_v"]),
}  # fmt: skip


@pytest.mark.parametrize("why", NOT_MOVED)
def test_columns_are_written_where_rows_must_stay(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(index_upkeep, "WORTH_MOVING", 1 << 10)
    key, rewrite, change = NOT_MOVED[why]
    lab = made(tmp_path, local_place, key, rewrite)
    lab.revision(change)
    assert "move to a new fragment" not in plan(lab)
    lab.upgrade()
    assert shape(lab) == [(ROWS, 0)]
    assert unindexed(lab).get("by_v", 0) == 0


def test_a_small_table_is_written_in_columns(tmp_path: Path, local_place: Place) -> None:
    lab = made(tmp_path, local_place)
    lab.revision(CHANGES["by_v"])
    assert "index by_v: built again if it covers less than 90% of 20,000 rows afterwards (160 kB)" in plan(
        lab
    )
    lab.upgrade()
    assert shape(lab) == [(ROWS, 0)]
    assert unindexed(lab) == dict.fromkeys(unindexed(lab), 0)


def test_indices_that_are_left_keep_rows_as_well(lab: Lab) -> None:
    catalog = lab.catalog()
    object.__setattr__(catalog.store, "indices", "leave")
    lab.revision(CHANGES["by_v"])
    lab.upgrade(catalog=catalog)
    assert set(unindexed(lab).values()) == {10}


def test_rows_with_stable_row_ids_need_no_key(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_upkeep, "WORTH_MOVING", 1 << 10)
    lab = made(tmp_path, local_place, "", 'RewriteTable(table="t", stable_row_ids=True)')
    before = lab.rows("t", by="id")
    ids = lab.dataset("t").scanner(columns=["id"], with_row_id=True).to_table().sort_by("id")["_rowid"]
    lab.revision(CHANGES["by_w"])
    lab.upgrade()
    assert shape(lab) == [(ROWS - 10, 10), (10, 0)]
    now = lab.dataset("t").scanner(columns=["id"], with_row_id=True).to_table().sort_by("id")["_rowid"]
    assert now == ids
    assert found(lab, 2003)["w"] == "word n2003 again"
    lab.downgrade()
    assert lab.rows("t", by="id") == before


def test_an_undo_keeps_what_others_changed_since(lab: Lab) -> None:
    before = lab.rows("t", by="id")
    lab.revision(CHANGES["by_v"])
    lab.upgrade()
    dataset = lab.dataset("t")
    dataset.update({"v": "7"}, where="id = 3")
    dataset.update({"w": "'other'"}, where="id = 2003")
    dataset.delete("id = 4003")
    dataset.optimize.compact_files()
    lab.downgrade()
    wanted = [row for row in before if row["id"] != 4003]
    wanted[3] = {**wanted[3], "v": 7}
    wanted[2003] = {**wanted[2003], "w": "other"}
    assert lab.rows("t", by="id") == wanted


def test_an_undo_finds_moved_rows_although_the_key_was_removed(lab: Lab) -> None:
    before = lab.rows("t", by="id")
    lab.revision(CHANGES["by_v"])
    lab.upgrade()
    dataset = lab.dataset("t")
    metadata = {name.decode(): text.decode() for name, text in (dataset.schema.metadata or {}).items()}
    dataset.update_schema_metadata(
        {name: t for name, t in metadata.items() if "key" not in name}, replace=True
    )
    assert lab.catalog().store.tables.open(lab.root, "t").schema().key == ()
    dataset.update({"w": "'other'"}, where="id = 2003")
    lab.downgrade()
    before[2003] = {**before[2003], "w": "other"}
    assert lab.rows("t", by="id") == before


def test_updates_of_others_meanwhile_are_kept(lab: Lab) -> None:
    lab.revision(CHANGES["by_v"])
    catalog, wrote = lab.catalog(), []
    commit = catalog.store.tables.commit

    def beside(*arguments: Any) -> int:
        if len(wrote) < 3:
            dataset = lance.dataset(lab.dataset("t").uri)
            wrote.append(dataset.update({"v": f"{len(wrote)}"}, where=f"id = {[3, 10, 4003][len(wrote)]}"))
        return commit(*arguments)

    catalog.store.tables.commit = beside  # type: ignore[method-assign]
    lab.upgrade(catalog=catalog)
    rows = {row["id"]: row["v"] for row in lab.rows("t")}
    assert len(rows) == lab.dataset("t").count_rows() == ROWS
    assert rows[3] == 100000
    assert rows[10] == 1
    assert rows[4003] == 100002
    assert rows[2003] == 101001


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_death_at_any_effect_moves_each_row_once(
    tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch, how: str, subtests: pytest.Subtests
) -> None:
    monkeypatch.setattr(index_upkeep, "WORTH_MOVING", 1 << 10)
    lab = made(tmp_path, local_place)
    number = 0
    while True:
        number += 1
        lab.revision('UpdateRows(table="t", set={"v": "v + 1"}, where="id % 2000 = 3")')
        fate = Fate(at=number, how=how)  # type: ignore[arg-type]
        try:
            lab.upgrade(catalog=dying(lab.catalog(), fate))
            break
        except Died:
            lab.outlive_the_lock()
        with subtests.test(effect=fate.effects[-1]):
            lab.upgrade()
            assert lab.dataset("t").count_rows() == ROWS
            assert lab.dataset("t").to_table(filter="id = 2003")["v"].to_pylist() == [1001 + number]
    lab.downgrade(f"-{number}")
    assert lab.dataset("t").to_table(filter="id = 2003")["v"].to_pylist() == [1001]


def test_moved_rows_come_back_with_a_rollback(lab: Lab) -> None:
    lab.revision('RenameColumn(table="t", column="s", to="r")')
    lab.upgrade()
    assert lab.root != ROOT
    lab.revision(CHANGES["by_w"])
    lab.upgrade()
    assert len(shape(lab)) == 2
    lab.downgrade("-2")
    assert "s" in lab.dataset("t").schema.names
    assert lab.dataset("t").count_rows() == ROWS
    assert lab.dataset("t").to_table(filter="id = 2003")["w"].to_pylist() == ["word n2003"]
