"""OptimizeIndices and Compact: how a table is stored changes; rows, values and answers stay."""

from pathlib import Path

import lancedb
import pytest
from dying import Died, Fate, dying
from lab import Appender, Lab
from servers import Place
from there_and_back import Case, Refusal

from lancemig.commands import status, upgrade
from lancemig.errors import PlanError
from lancemig.report.plan import plan_text
from lancemig.report.status import status_json, status_text

START = """
    CreateTable(table="t", key=("id",), rows=rows,
                schema={"id": "int64 not null", "x": "float64", "text": "string",
                        "vec": "fixed_size_list<float32>[4]"}),
    CreateIndex(table="t", column="x", type="BTREE"),
    CreateIndex(table="t", column="text", type="INVERTED"),
    CreateIndex(table="t", column="vec", type="IVF_FLAT", params={"num_partitions": 1}),
"""
ABOVE = """
def rows():
    return [{"id": i, "x": i * 1.0, "text": f"word n{i}", "vec": [i, i % 7, 1.0, 0.5]} for i in range(400)]
"""


def row(number: int) -> dict[str, object]:
    return {"id": number, "x": number * 1.0, "text": f"word n{number}", "vec": [number, 1.0, 1.0, 0.5]}


def scattered(lab: Lab) -> None:
    """Ten small fragments of other writers, which no index covers, and deleted rows."""
    for number in range(400, 410):
        lab.append("t", [row(number)])
    lab.dataset("t").delete("id < 100")


def unindexed(lab: Lab) -> dict[str, int]:
    dataset = lab.dataset("t")
    names = [index.name for index in dataset.describe_indices()]
    return {name: dataset.stats.index_stats(name)["num_unindexed_rows"] for name in names}


def answers(lab: Lab) -> None:
    """LanceDB alone finds an old and a new row by each index."""
    table = lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t")
    assert table.count_rows() == 310
    for number in (250, 405):
        assert [r["id"] for r in table.search().where(f"x = {number}.0").to_list()] == [number]
        assert table.search(f"n{number}", query_type="fts").to_list()[0]["id"] == number
        found = table.search([float(number), 1.0, 1.0, 0.5]).nprobes(2).limit(8).to_list()
        assert number in [r["id"] for r in found]


def covered(lab: Lab) -> None:
    assert set(unindexed(lab).values()) == {0}
    answers(lab)


def covered_by_one(lab: Lab) -> None:
    found = unindexed(lab)
    assert found["x_idx"] == 0
    assert found["text_idx"] > 0
    answers(lab)


def compacted(lab: Lab) -> None:
    fragments = lab.dataset("t").get_fragments()
    # Lance does not merge a fragment that an index covers with one that it does not.
    assert len(fragments) <= 2
    assert sum(fragment.num_deletions for fragment in fragments) == 0
    answers(lab)


CASES = [
    Case(
        "OptimizeIndices", start=START, above=ABOVE, before=scattered, do='OptimizeIndices(table="t")',
        look=covered, changed=0,
    ),
    Case(
        "OptimizeIndices of one", start=START, above=ABOVE, before=scattered, look=covered_by_one,
        do='OptimizeIndices(table="t", indices=("x_idx",))',
    ),
    Case(
        "OptimizeIndices without indices", start='CreateTable(table="t", schema="id: int64")',
        do='OptimizeIndices(table="t")', then={"t": []},
    ),
    Case(
        "Compact", start=START, above=ABOVE, before=scattered, do='Compact(table="t")', look=compacted,
        changed=0,
    ),
    Case(
        "both beside a value change", start=START, above=ABOVE, before=scattered, look=covered,
        do='UpdateRows(table="t", set={"x": "x + 0"}), Compact(table="t"), OptimizeIndices(table="t")',
    ),
    Case(
        "both in a rebuild", start=START, above=ABOVE, before=scattered, look=covered,
        do='Compact(table="t"), OptimizeIndices(table="t"), RelaxColumn(table="t", column="id")',
    ),
    Refusal(
        "an unknown index", start=START, above=ABOVE, do='OptimizeIndices(table="t", indices=("nope",))',
        error=PlanError, says=["no index 'nope'; its indices: text_idx, vec_idx, x_idx"],
    ),
    Refusal(
        "an unknown table", start=START, above=ABOVE, do='Compact(table="nope")', error=PlanError,
        says=["table 'nope' does not exist"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_maintenance(run, case):
    run(case)


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START, above=ABOVE)
    lab.upgrade()
    scattered(lab)
    return lab


def test_a_value_change_before_a_compaction_can_be_undone(lab: Lab) -> None:
    before = lab.rows("t")
    lab.revision('UpdateRows(table="t", set={"text": "\'new\'"}, where="id >= 395"), Compact(table="t")')
    lab.upgrade()
    assert len(lab.dataset("t").get_fragments()) < 11
    assert lab.dataset("t").count_rows("text = 'new'") == 15
    lab.downgrade()
    assert lab.rows("t") == before


def test_others_write_meanwhile(lab: Lab) -> None:
    lab.revision('Compact(table="t"), OptimizeIndices(table="t")')
    with Appender(lab, "t", lambda number: row(1000 + number), pause=0.001) as appender:
        lab.upgrade()
    assert {r["id"] for r in lab.rows("t")} >= {r["id"] for r in appender.told}
    assert appender.refused == []


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_death_at_any_effect_is_finished_by_the_same_command(
    tmp_path: Path, local_place: Place, how: str, subtests: pytest.Subtests
) -> None:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START, above=ABOVE)
    lab.upgrade()
    scattered(lab)
    number = 0
    while True:
        number += 1
        lab.revision('Compact(table="t"), OptimizeIndices(table="t")')
        fate = Fate(at=number, how=how)  # type: ignore[arg-type]
        try:
            lab.upgrade(catalog=dying(lab.catalog(), fate))
            break
        except Died:
            lab.outlive_the_lock()
        with subtests.test(effect=fate.effects[-1]):
            lab.upgrade()
            compacted(lab)
            covered(lab)
    assert {"compact t", "optimize indices of t"} <= set(fate.effects)


def test_status_shows_what_indices_cover(lab: Lab) -> None:
    text = status_text(status.status(lab.catalog()))
    assert "text_idx covers 300 of 310 rows (96 %); vec_idx covers" in text
    lab.revision('OptimizeIndices(table="t")')
    lab.upgrade()
    found = status.status(lab.catalog())
    assert "3 indices cover all rows" in status_text(found)
    assert status_json(found)["tables"]["t"]["unindexed"] == {"text_idx": 0, "vec_idx": 0, "x_idx": 0}


NULLS = """
    CreateTable(table="t", schema={"id": "int64", "x": "float64", "vec": "fixed_size_list<float32>[4]"},
                rows=[{"id": n, "x": n * 1.0, "vec": [n, 1.0, 2.0, 3.0]} for n in range(300)]),
    CreateIndex(table="t", column="vec", type="IVF_FLAT", params={"num_partitions": 2}),
    CreateIndex(table="t", column="x", type="BTREE")
"""


def without_vectors(tmp_path: Path, local_place: Place) -> Lab:
    """Rows of another writer without a vector, which Lance cannot add to the index."""
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(NULLS)
    lab.upgrade()
    lab.append("t", [{"id": n, "x": n * 1.0, "vec": None} for n in range(300, 320)])
    return lab


def test_rows_without_vectors_are_covered(tmp_path: Path, local_place: Place) -> None:
    lab = without_vectors(tmp_path, local_place)
    lab.revision('OptimizeIndices(table="t")')
    lab.upgrade()
    assert unindexed(lab) == {"x_idx": 0, "vec_idx": 0}
    table = lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t")
    near = table.search([250.0, 1.0, 2.0, 3.0]).nprobes(2).limit(1).to_list()
    assert [row["id"] for row in near] == [250]
    lab.append("t", [{"id": 400, "x": 400.0, "vec": [1000.0, 1.0, 2.0, 3.0]}])
    table = lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t")
    table.update(where="id = 310", values={"vec": [2000.0, 1.0, 2.0, 3.0]})
    table.optimize()
    assert set(unindexed(lab).values()) == {0}
    for vector, number in ((1000.0, 400), (2000.0, 310), (250.0, 250)):
        near = table.search([vector, 1.0, 2.0, 3.0]).nprobes(2).limit(1).to_list()
        assert [row["id"] for row in near] == [number]
    assert table.count_rows("x = 310.0") == 1


def test_rows_without_vectors_beside_others_are_covered(tmp_path: Path, local_place: Place) -> None:
    lab = without_vectors(tmp_path, local_place)
    lab.append("t", [{"id": 400, "x": 400.0, "vec": [1000.0, 1.0, 2.0, 3.0]}])
    lab.revision('OptimizeIndices(table="t", indices=("vec_idx",))')
    lab.upgrade()
    assert unindexed(lab) == {"x_idx": 21, "vec_idx": 0}


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_death_while_nulls_are_covered(
    tmp_path: Path, local_place: Place, how: str, subtests: pytest.Subtests
) -> None:
    lab = without_vectors(tmp_path, local_place)
    number, seen = 0, set[str]()
    while True:
        number += 1
        lab.append("t", [{"id": 1000 + number, "x": 1.0, "vec": None}])
        lab.revision('OptimizeIndices(table="t")')
        fate = Fate(at=number, how=how)  # type: ignore[arg-type]
        try:
            lab.upgrade(catalog=dying(lab.catalog(), fate))
            break
        except Died:
            lab.outlive_the_lock()
        with subtests.test(effect=fate.effects[-1]):
            lab.upgrade()
            assert set(unindexed(lab).values()) == {0}
            assert lab.dataset("t").count_rows() == 320 + number
        seen |= set(fate.effects)
    assert any(effect.endswith(".indices.vec_idx to t") for effect in seen)
    table = lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("t")
    near = table.search([250.0, 1.0, 2.0, 3.0]).nprobes(2).limit(300).to_list()
    assert near[0]["id"] == 250
    assert len(near) == 300


@pytest.mark.parametrize(
    ("start", "warned"),
    [
        ('CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}])', True),
        ('CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}], key=("id",))', False),
        (
            'CreateTable(table="t", schema={"id": "int64"}, rows=[{"id": 1}]), '
            'RewriteTable(table="t", stable_row_ids=True)',
            False,
        ),
    ],
)
@pytest.mark.parametrize("before", ["", 'UpdateRows(table="t", set={"id": "id"}), '])
def test_the_plan_says_that_undos_become_impossible(
    tmp_path: Path, local_place: Place, start: str, warned: bool, before: str
) -> None:
    lab = Lab(tmp_path / "lab", local_place)
    for operation in start.split("), "):
        lab.revision(operation if operation.endswith(")") else operation + ")")
    lab.upgrade()
    lab.revision(before + 'Compact(table="t")')
    text = plan_text(upgrade.prepare(lab.catalog(), "head", "up").request.plan, store="s", staging="v2/")
    assert ("earlier value changes cannot be undone afterwards" in text) is warned
