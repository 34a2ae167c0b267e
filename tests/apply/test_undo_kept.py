"""Undoing keeps what came since: cells and rows that somebody else changed are theirs."""

from datetime import timedelta

import lance
import pyarrow as pa
import pytest
from lab import Lab

from lancemig.errors import Irreversible

START = """
CreateTable(table="t", {key}schema=["id: int64", "x: int64", "y: int64"],
    rows=[{{"id": i, "x": i, "y": i}} for i in range(4)])
"""


@pytest.fixture
def lab(tmp_path, local_place):
    return Lab(tmp_path, local_place)


def begun(lab: Lab, operation: str, *, key: str = 'key=("id",), ', stable: bool = False) -> None:
    lab.revision(START.format(key=key))
    if stable:
        lab.revision('RewriteTable(table="t", stable_row_ids=True)')
    lab.revision(operation)
    lab.upgrade()


def xs(lab: Lab) -> dict[int, tuple[int, int]]:
    return {row["id"]: (row["x"], row["y"]) for row in lab.rows("t")}


IDENTITIES = pytest.mark.parametrize(
    "identity",
    [{}, {"key": ""}, {"key": "", "stable": True}],
    ids=["key", "no key", "stable row ids"],
)


@IDENTITIES
def test_a_cell_that_somebody_changed_since_is_kept(lab, identity):
    begun(lab, 'UpdateRows(table="t", set={"x": "100 + id", "y": "200 + id"}, where="id < 3")', **identity)
    lab.dataset("t").update({"x": "-1"}, where="id = 1")
    if identity == {"key": ""}:
        # Without a key and stable row ids, a row that Lance's own update moved is not found again.
        lab.downgrade()
        assert xs(lab) == {0: (0, 0), 1: (-1, 201), 2: (2, 2), 3: (3, 3)}
        return
    outcome = lab.downgrade()
    assert xs(lab) == {0: (0, 0), 1: (-1, 1), 2: (2, 2), 3: (3, 3)}
    assert outcome.steps[0].skipped == 1


@IDENTITIES
def test_rows_appended_since_stay(lab, identity):
    begun(lab, 'UpdateRows(table="t", set={"x": "100"})', **identity)
    lab.append("t", [{"id": 9, "x": 100, "y": 9}])
    lab.downgrade()
    assert xs(lab) == {**{i: (i, i) for i in range(4)}, 9: (100, 9)}


@IDENTITIES
def test_a_row_that_was_deleted_since_stays_deleted(lab, identity):
    begun(lab, 'UpdateRows(table="t", set={"x": "100"})', **identity)
    lab.dataset("t").delete("id = 2")
    lab.downgrade()
    assert xs(lab) == {i: (i, i) for i in (0, 1, 3)}


@IDENTITIES
def test_inserted_rows_go_unless_somebody_changed_them(lab, identity):
    rows = '[{"id": 7, "x": 7}, {"id": 8, "x": 8}]'
    begun(lab, f'UpsertRows(table="t", on=("id",), rows={rows})', **identity)
    lab.dataset("t").update({"y": "5"}, where="id = 8")
    lab.downgrade()
    assert xs(lab) == {**{i: (i, i) for i in range(4)}, 8: (8, 5)}


def test_deleted_rows_come_back_unless_their_key_is_there_again(lab):
    begun(lab, 'DeleteRows(table="t", where="id > 1")')
    lab.append("t", [{"id": 3, "x": 33, "y": 33}])
    lab.downgrade()
    assert xs(lab) == {0: (0, 0), 1: (1, 1), 2: (2, 2), 3: (33, 33)}


def test_with_a_key_rows_are_found_again_after_compaction(lab):
    begun(lab, 'UpdateRows(table="t", set={"x": "100"}, where="id > 1")')
    lab.append("t", [{"id": 9, "x": 9, "y": 9}])
    lab.dataset("t").optimize.compact_files()
    lab.downgrade()
    assert xs(lab) == {i: (i, i) for i in (0, 1, 2, 3, 9)}


def test_without_a_key_compaction_makes_it_irreversible(lab):
    begun(lab, 'UpdateRows(table="t", set={"x": "100"}, where="id > 1")', key="")
    lab.append("t", [{"id": 9, "x": 9, "y": 9}])
    lab.dataset("t").optimize.compact_files()
    before = xs(lab)
    with pytest.raises(Irreversible, match="compaction"):
        lab.downgrade()
    assert xs(lab) == before


@pytest.mark.parametrize("stable", [False, True])
def test_without_a_key_rows_that_were_written_anew_are_not_taken_for_others(lab, stable):
    begun(lab, 'UpdateRows(table="t", set={"x": "3"}, where="id = 0")', key="", stable=stable)
    lab.revision('RewriteTable(table="t", order_by=("y",), stable_row_ids=True)')
    lab.upgrade()
    lab.downgrade()
    before = xs(lab)
    with pytest.raises(Irreversible, match="rewritten since"):
        lab.downgrade()
    assert xs(lab) == before == {0: (3, 0), 1: (1, 1), 2: (2, 2), 3: (3, 3)}


def test_with_a_key_rows_that_were_written_anew_are_found(lab):
    begun(lab, 'UpdateRows(table="t", set={"x": "3"}, where="id = 0")')
    lab.revision('RewriteTable(table="t", order_by=("y",))')
    lab.upgrade()
    lab.downgrade("0001")
    assert xs(lab) == {i: (i, i) for i in range(4)}


def test_values_are_put_back_through_a_later_rename(lab):
    begun(lab, 'UpdateRows(table="t", set={"x": "9"}, where="id = 0")', key="")
    lab.revision('RenameColumn(table="t", column="x", to="z"), RenameTable(table="t", to="u")')
    lab.upgrade()
    lab.downgrade("0001")
    assert xs(lab) == {i: (i, i) for i in range(4)}


def test_two_changes_of_one_cell_are_undone_in_turn(lab):
    begun(lab, 'UpdateRows(table="t", set={"x": "x + 1"}), UpdateRows(table="t", set={"x": "x * 10"})')
    lab.downgrade()
    assert xs(lab) == {i: (i, i) for i in range(4)}


def test_what_is_undone_is_a_sound_table(lab):
    begun(lab, 'UpdateRows(table="t", set={"x": "x + 1"}), DeleteRows(table="t", where="id = 1")')
    lab.downgrade()
    dataset = lance.dataset(lab.dataset("t").uri)
    dataset.validate()
    assert dataset.count_rows() == 4


def test_what_was_changed_in_a_table_that_no_file_made_is_put_back(lab):
    tables = lab.catalog().store.tables
    rows = pa.table({"id": [0, 1], "x": [0, 1]})
    lance.write_dataset(rows, tables.uri("v1/", "t"))
    lab.revision('UpdateRows(table="t", set={"x": "x + 100"})')
    lab.upgrade()
    assert [row["x"] for row in lab.rows("t")] == [100, 101]
    lab.downgrade("base")
    assert lab.rows("t") == [{"id": 0, "x": 0}, {"id": 1, "x": 1}]


def test_all_rows_come_back_also_after_a_cleanup(lab):
    """Lance cleans a version without rows away although it is guarded."""
    begun(lab, 'DeleteRows(table="t", where="id >= 0")')
    for id_ in (8, 9):
        lab.append("t", [{"id": id_, "x": 0, "y": 0}])
    lab.dataset("t").cleanup_old_versions(older_than=timedelta(0))
    lab.downgrade()
    assert xs(lab) == {**{n: (n, n) for n in range(4)}, 8: (0, 0), 9: (0, 0)}


def test_rows_that_come_back_have_no_value_in_a_column_that_others_added_since(lab):
    begun(lab, 'DeleteRows(table="t", where="id > 1")')
    lab.dataset("t").add_columns({"z": "id * 2"})
    lab.downgrade()
    assert [(row["id"], row["y"], row["z"]) for row in lab.rows("t")] == [
        (0, 0, 0),
        (1, 1, 2),
        (2, 2, None),
        (3, 3, None),
    ]
