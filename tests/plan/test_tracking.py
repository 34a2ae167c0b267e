"""Tables under their names in turn: who is who in a staged root."""

import pytest
from live import planned

from lancemig import (
    BuildTable,
    CreateTable,
    DropTable,
    RenameColumn,
    RenameTable,
    RewriteTable,
    UpdateRows,
)
from lancemig.catalog.operations import Operation
from lancemig.errors import PlanError

ORDER = RewriteTable(table="recordings", order_by=("id",))
STABLE = RewriteTable(table="recordings", stable_row_ids=True)
RENAME = RenameColumn(table="recordings", column="fs", to="rate")
NEW = CreateTable(table="new", schema="a: int8")


def carried(*operations: Operation) -> dict[str, tuple[str | None, bool]]:
    return {c.table: (c.staged_as, c.copied) for c in planned(list(operations)).carried}


def staged_as(*operations: Operation) -> list[str | None]:
    return [step.staged_as for step in planned(list(operations)).migrations[0].steps]


def rename(old: str, new: str) -> RenameTable:
    return RenameTable(table=old, to=new)


def test_a_renamed_table_is_carried_under_its_last_name():
    operations = rename("hosts", "a"), rename("a", "b")
    assert carried(*operations)["hosts"] == ("b", True)
    assert staged_as(*operations) == ["b", "b"]


def test_two_tables_exchange_their_names():
    operations = rename("hosts", "x"), rename("recordings", "hosts"), rename("x", "recordings")
    assert carried(*operations) == {"recordings": ("hosts", True), "hosts": ("recordings", True)}
    assert staged_as(*operations) == ["recordings", "hosts", "recordings"]


def test_a_dropped_table_is_left_behind_with_the_steps_before():
    operations = RENAME, DropTable(table="recordings")
    assert carried(*operations)["recordings"] == (None, False)
    assert staged_as(*operations) == [None, None]


def test_a_table_of_a_dropped_ones_name_is_another():
    operations = DropTable(table="hosts"), CreateTable(table="hosts", schema="a: int8")
    assert carried(*operations)["hosts"] == (None, False)
    assert staged_as(*operations) == [None, "hosts"]


def test_a_new_table_is_not_carried():
    assert set(carried(RENAME, NEW)) == {"recordings", "hosts"}
    assert staged_as(NEW, rename("new", "newer")) == ["newer", "newer"]


def test_a_table_that_is_written_anew_first_is_not_copied():
    assert carried(ORDER)["recordings"] == ("recordings", False)
    assert carried(rename("recordings", "r"), ORDER.model_copy(update={"table": "r"}))["recordings"] == (
        "r",
        False,
    )
    build = BuildTable(table="recordings", rows=[], schema="id: int64")
    assert carried(build)["recordings"] == ("recordings", False)


def test_a_table_that_is_changed_before_it_is_written_anew_is_copied():
    assert carried(RENAME, ORDER)["recordings"] == ("recordings", True)


@pytest.mark.parametrize("before", [[RENAME], [RENAME, UpdateRows(table="recordings", set={"id": "1"})]])
def test_a_copied_table_gets_no_other_layout(before):
    with pytest.raises(PlanError, match="layout of recordings cannot be changed") as refused:
        planned([*before, STABLE])
    assert "a revision of its own" in refused.value.next_step


def test_a_table_that_is_written_here_gets_any_layout():
    build = BuildTable(table="new", rows=[], schema="id: int64")
    for table, before in (("recordings", ORDER), ("new", NEW), ("new", build)):
        layout = STABLE.model_copy(update={"table": table})
        assert [step.staged_as for step in planned([before, layout]).staged[0].steps] == [table, table]


def test_another_layout_may_follow_changes_in_place():
    plan = planned([UpdateRows(table="recordings", set={"fs": "1"})], [STABLE])
    assert [m.in_place for m in plan.migrations] == [True, False]
