"""An index on a column that gets another type: built again, or refused by the plan with the way out."""

from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.commands import upgrade
from lancemig.errors import PlanError

START = """
    CreateTable(table="t", key=("id",), rows=rows,
                schema={"id": "int64", "n": "int32", "text": "string", "tags": "list<string>",
                        "vector": "fixed_size_list<float32>[16]"}),
    CreateIndex(table="t", column="n", type="BTREE"),
    CreateIndex(table="t", column="text", type="INVERTED"),
    CreateIndex(table="t", column="tags", type="LABEL_LIST"),
    CreateIndex(table="t", column="vector", type="IVF_PQ",
                params={"num_partitions": 1, "num_sub_vectors": 8}),
"""
ROWS = """
def rows():
    return [{"id": i, "n": i, "text": f"w{i % 7}", "tags": [str(i % 3)], "vector": [i * 1.0] * 16}
            for i in range(300)]

def short(batch):
    values = pa.array([1.0] * (batch.num_rows * 20), pa.float32())
    return pa.record_batch({"id": batch["id"], "vector": pa.FixedSizeListArray.from_arrays(values, 20)})
"""
SHORT = """TransformTable(table="t", using=short, reads=("id", "vector"),
                          schema=pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), 20))]))"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START, above=ROWS)
    lab.upgrade()
    return lab


@pytest.mark.parametrize(
    ("operation", "name", "why"),
    [
        ('RetypeColumn(table="t", column="vector", to="list<float32>")', "vector_idx", "does not support"),
        (SHORT, "vector_idx", "divisible by num_sub_vectors"),
        ('RetypeColumn(table="t", column="text", to="binary")', "text_idx", "does not support t.text"),
        ('BuildTable(table="t", key=("id",), schema={"id": "int64", "n": "list<int32>"}, rows=rows)',
         "n_idx", "does not support t.n"),
        ('BuildTable(table="t", key=("id",), schema={"id": "int64", "tags": "string"}, rows=rows)',
         "tags_idx", "does not support t.tags"),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_built_again_is_refused(
    lab: Lab, operation: str, name: str, why: str
) -> None:
    lab.revision(operation, above=ROWS)
    with pytest.raises(PlanError, match=f"index {name} .* cannot be built again on ") as refused:
        upgrade.prepare(lab.catalog(), "head", "up")
    assert why in refused.value.message
    assert f'DropIndex(table="t", name="{name}")' in (refused.value.next_step or "")


def test_the_way_out_leads_on(lab: Lab) -> None:
    drop = 'DropIndex(table="t", name="vector_idx")'
    create = """CreateIndex(table="t", column="vector", type="IVF_PQ",
                            params={"num_partitions": 1, "num_sub_vectors": 10})"""
    lab.revision(f"{drop}, {SHORT}, {create}", above=ROWS)
    lab.upgrade()
    assert [index.name for index in lab.dataset("t").describe_indices()] == ["vector_idx"]


def test_a_type_that_the_index_supports_keeps_it(lab: Lab) -> None:
    lab.revision('RetypeColumn(table="t", column="n", to="int64")')
    lab.upgrade()
    assert lab.dataset("t").stats.index_stats("n_idx")["num_unindexed_rows"] == 0


def test_a_vector_that_is_null_for_a_while_keeps_its_index(lab: Lab) -> None:
    lab.revision('UpdateRows(table="t", set={"vector": "null"})')
    lab.upgrade()
    assert "vector_idx" in [index.name for index in lab.dataset("t").describe_indices()]
    lab.downgrade()
    dataset = lab.dataset("t")
    assert "vector_idx" in [index.name for index in dataset.describe_indices()]
    near = {"column": "vector", "q": [7.0] * 16, "k": 1, "refine_factor": 50}
    assert dataset.to_table(nearest=near, columns=["id"])["id"].to_pylist() == [7]
