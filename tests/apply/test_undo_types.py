"""A change of values, and its undoing, for columns of every type, with and without a key."""

import pyarrow as pa
import pytest
from lab import Lab
from values_matrix import CHANGED, TABLES

from lancemig.apply.rows.values import distinct

KEYS = {"key": 'key=("id",), ', "none": "", "stable": ""}


def begun(tmp_path, place, name: str, identity: str) -> Lab:
    lab = Lab(tmp_path, place)
    lab.revision(
        f'CreateTable(table="t", {KEYS[identity]}schema=TABLES["{name}"].schema, rows=TABLES["{name}"])',
        above="from values_matrix import TABLES",
    )
    if identity == "stable":
        lab.revision('RewriteTable(table="t", stable_row_ids=True)')
    lab.upgrade()
    return lab


def column(lab: Lab, name: str = "c") -> pa.Array:
    return lab.dataset("t").to_table().sort_by("id").column(name).combine_chunks()


def same(left: pa.Array, right: pa.Array) -> bool:
    return not any(distinct(left, right).to_pylist())


@pytest.mark.slow
@pytest.mark.parametrize("identity", KEYS)
@pytest.mark.parametrize("name", TABLES)
def test_values_of_every_type_change_and_come_back(tmp_path, local_place, name, identity):
    lab = begun(tmp_path, local_place, name, identity)
    old, new = column(lab), column(lab, "new")
    lab.revision('UpdateRows(table="t", set={"c": "`new`"})')
    outcome = lab.upgrade()
    assert outcome.steps[0].changed == CHANGED[name]
    assert same(column(lab), new)
    lab.downgrade()
    assert same(column(lab), old)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_rows_of_every_type_are_deleted_inserted_and_overwritten_and_come_back(tmp_path, local_place, name):
    lab = begun(tmp_path, local_place, name, "key")
    old = column(lab)
    lab.revision(
        'DeleteRows(table="t", where="id = 0"), '
        'UpsertRows(table="t", on=("id",), rows=CHANGED.slice(0, 3), when_exists="overwrite"), '
        'UpsertRows(table="t", on=("id",), rows=CHANGED, when_exists="error")',
        above=f"""
        from values_matrix import TABLES

        OLD = TABLES["{name}"]
        MORE = OLD.set_column(0, "id", pa.array([4, 5, 6, 7]))
        CHANGED = pa.concat_tables([OLD.set_column(1, "c", OLD.column("new")).slice(0, 3), MORE])
        """,
    )
    lab.upgrade()
    assert lab.dataset("t").count_rows() == 8
    lab.downgrade()
    assert same(column(lab), old)
