"""A value change leaves the declared indices of its table covering the rows."""

import re
from pathlib import Path
from typing import Any

import lance
import pytest
from lab import Lab
from servers import Place

from lancemig.commands.check import check
from lancemig.commands.upgrade import prepare

ROWS = 1000
START = """
CreateTable(table="t", key=("id",),
    schema=["id: int64", "v: int64", "w: string", "vec: fixed_size_list<float32>[4]", "s: struct<x: int64>"],
    rows=[{{"id": n, "v": n // 2, "w": f"word {{n % 7}}", "vec": [float(n % 13), n / 3, 1.0, 2.0],
           "s": {{"x": n}}}} for n in range({rows})])
"""
INDICES = """
CreateIndex(table="t", column="v", type="BTREE", name="by_v"),
CreateIndex(table="t", column="id", type="BTREE", name="by_id"),
CreateIndex(table="t", column="w", type="INVERTED", name="by_w"),
CreateIndex(table="t", column="vec", type="IVF_FLAT", name="by_vec", params={"num_partitions": 2})
"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START.format(rows=ROWS))
    lab.revision(INDICES)
    lab.upgrade()
    return lab


def unindexed(lab: Lab) -> dict[str, int]:
    dataset = lab.dataset("t")
    return {
        index.name: dataset.stats.index_stats(index.name)["num_unindexed_rows"]
        for index in dataset.describe_indices()
        if not index.name.startswith("__lance")
    }


CHANGES = {
    "by_v": 'UpdateRows(table="t", set={"v": "v + 100000"}, where="v < 3")',
    "by_w": 'UpdateRows(table="t", set={"w": "\'other\'"}, where="id = 5")',
    "by_vec": 'BackfillColumns(table="t", columns=("vec",), reads=("vec",), using=same, where="id < 4")',
}
SAME = """
def same(batch: pa.RecordBatch) -> pa.Array:
    vectors = [[x + 1 for x in vector] for vector in batch.column("vec").to_pylist()]
    return pa.array(vectors, pa.list_(pa.float32(), 4))
"""
RENAME = 'RenameColumn(table="t", column="s", to="r"), '


@pytest.mark.parametrize("index", CHANGES)
@pytest.mark.parametrize("before", ["", RENAME], ids=["in place", "staged"])
def test_a_few_changed_values_leave_the_index_whole(lab: Lab, index: str, before: str) -> None:
    lab.revision(before + CHANGES[index], above=SAME)
    lab.upgrade()
    assert unindexed(lab)[index] == 0


def test_indices_in_place_are_left_on_request(lab: Lab) -> None:
    catalog = lab.catalog()
    object.__setattr__(catalog.store, "indices", "leave")
    lab.revision(CHANGES["by_v"])
    lab.upgrade(catalog=catalog)
    assert unindexed(lab)["by_v"] == ROWS


def test_a_few_inserted_rows_do_not_build_a_live_index_again(lab: Lab) -> None:
    segments = segments_of(lab.dataset("t"))
    lab.revision('UpsertRows(table="t", rows=[{"id": 5000, "v": 1}], on=("id",))')
    lab.upgrade()
    assert segments_of(lab.dataset("t")) == segments
    assert lab.dataset("t").count_rows("v = 1") == 3


def segments_of(dataset: lance.LanceDataset) -> dict[str, Any]:
    return {i.name: sorted(str(s.uuid) for s in i.segments) for i in dataset.describe_indices()}


def test_an_undone_change_leaves_the_index_whole(lab: Lab) -> None:
    lab.revision(CHANGES["by_v"])
    before = lab.rows("t", by="id")
    lab.upgrade()
    lab.downgrade()
    assert unindexed(lab)["by_v"] == 0
    assert lab.rows("t", by="id") == before


def test_a_staged_upsert_is_indexed(lab: Lab) -> None:
    lab.revision(RENAME + 'UpsertRows(table="t", rows=[{"id": 5000, "v": 1}], on=("id",))')
    lab.upgrade()
    assert set(unindexed(lab).values()) == {0}


def test_check_reports_an_index_that_covers_too_little(lab: Lab) -> None:
    assert "LM350" not in codes(lab)
    lab.append("t", [{"id": 10_000 + n, "v": n} for n in range(999)])
    assert "LM350" not in codes(lab)
    lab.append("t", [{"id": 20_000, "v": 1}])
    assert codes(lab).count("LM350") == len(unindexed(lab))
    dataset = lance.dataset(lab.dataset("t").uri)
    dataset.delete("id = 20000")
    assert "LM350" not in codes(lab)


def test_the_manifest_says_what_the_statistics_say(lab: Lab) -> None:
    lab.append("t", [{"id": 10_000 + n, "v": n} for n in range(50)])
    lance.dataset(lab.dataset("t").uri).delete("id % 10 = 0")
    table = lab.catalog().store.tables.open(lab.root, "t")
    assert (
        table.uncovered()
        == unindexed(lab)
        == {name: cover.unindexed for name, cover in table.covers().items()}
    )


def codes(lab: Lab) -> list[str]:
    return [finding.code for part in check(lab.catalog()) for finding in part.findings]


def test_the_plan_names_the_indices_that_are_built_again(lab: Lab) -> None:
    lab.revision(CHANGES["by_v"])
    assert notes(lab) == [
        "index by_v: built again if it covers less than 90% of 1,000 rows afterwards (8.0 kB)"
    ]
    lab.upgrade()
    lab.revision(RENAME + CHANGES["by_w"])
    [note] = notes(lab)
    assert re.fullmatch(
        r"index by_w: built again if it leaves out any of 1,000 rows afterwards \([\d.]+ kB\)", note
    )


def notes(lab: Lab) -> list[str]:
    plan = prepare(lab.catalog(), "head", "up").request.plan
    return [
        note
        for migration in (*plan.in_place, *plan.staged)
        for step in migration.steps
        for note in step.notes
        if note.startswith("index ")
    ]


SIBLINGS = """
CreateIndex(table="t", column="v", type="BITMAP", name="by_v_bits"),
CreateIndex(table="t", column="s.x", type="BTREE", name="by_x")
"""


@pytest.mark.parametrize(
    "before", ["", 'RenameColumn(table="t", column="w", to="word"), '], ids=["in place", "staged"]
)
def test_a_bitmap_and_an_index_of_a_struct_field_stay_whole(lab: Lab, before: str) -> None:
    lab.revision(SIBLINGS)
    lab.upgrade()
    lab.revision(
        before + 'UpdateRows(table="t", set={"v": "v + 9"}, where="id < 3"), '
        'UpdateRows(table="t", set={"s.x": "s.x + 9000"}, where="id < 3")'
    )
    lab.upgrade()
    assert set(unindexed(lab).values()) == {0}
    assert lab.dataset("t").count_rows("s.x >= 9000") == 3


def test_a_table_with_stable_row_ids_is_found_by_its_index_afterwards(lab: Lab) -> None:
    lab.revision('RewriteTable(table="t", stable_row_ids=True)')
    lab.upgrade()
    assert lab.dataset("t").has_stable_row_ids
    lab.revision(CHANGES["by_v"])
    lab.upgrade()
    assert unindexed(lab)["by_v"] == 0
    assert lab.dataset("t").count_rows("v >= 100000") == 6
    lab.downgrade()
    assert unindexed(lab)["by_v"] == 0
    assert lab.dataset("t").count_rows("v < 3") == 6


def test_updates_that_arrive_during_a_rebuild_do_not_fail_it(lab: Lab) -> None:
    lab.revision(RENAME + CHANGES["by_v"])
    catalog, wrote = lab.catalog(), []
    commit = catalog.store.tables.commit

    def beside(*arguments: Any) -> int:
        version = commit(*arguments)
        if not wrote:
            wrote.append(lance.dataset(lab.dataset("t").uri).update({"v": "v + 7"}, where="id in (500, 501)"))
        return version

    catalog.store.tables.commit = beside  # type: ignore[method-assign]
    lab.upgrade(catalog=catalog)
    assert wrote
    assert lab.dataset("t").count_rows("id in (500, 501) and v = 257") == 2
    assert unindexed(lab)["by_v"] <= 2


def test_an_index_on_another_column_is_left_alone(lab: Lab) -> None:
    lab.append("t", [{"id": 10_000 + n, "v": 7} for n in range(500)])
    lab.revision(CHANGES["by_v"])
    lab.upgrade()
    assert unindexed(lab) == {"by_v": 0, "by_id": 500, "by_w": 500, "by_vec": 500}
