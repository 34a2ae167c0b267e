"""Rows that come while a rebuild is staged, and after its flip: none is lost, none comes twice."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.apply.replicate.types import ReplicationResult
from lancemig.commands import flip, recovery
from lancemig.errors import VerifyFailed

START = """
    CreateTable(table="keyed", key=("id",), schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]),
                rows=[{"id": 1, "x": 1.0}, {"id": 2, "x": 2.0}]),
    CreateTable(table="plain", schema=pa.schema([("id", pa.int64()), ("x", pa.float64())]),
                rows=[{"id": 1, "x": 1.0}, {"id": 2, "x": 2.0}]),
"""
RENAME = 'RenameColumn(table="keyed", column="x", to="y"), RenameColumn(table="plain", column="x", to="y")'
OLD = "v1/"


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(RENAME)
    return lab


def append(lab: Lab, number: int, root: str | None = None) -> None:
    for table in ("keyed", "plain"):
        lab.append(table, [{"id": number, "x": float(number)}], root)


def values(lab: Lab, table: str) -> list[tuple[int, float]]:
    return [(row["id"], row["y"]) for row in lab.rows(table)]


def both(lab: Lab) -> list[tuple[int, float]]:
    keyed, plain = values(lab, "keyed"), values(lab, "plain")
    assert keyed == plain
    return keyed


def brought(lab: Lab) -> dict[str, ReplicationResult]:
    return {one.source: one for one in flip.reconcile(lab.catalog())}


CHANGES: dict[str, Callable[[Lab], object]] = {
    "append": lambda lab: append(lab, 3),
    "many appends": lambda lab: [append(lab, n) for n in range(3, 8)],
    "index": lambda lab: lab.dataset("keyed").create_scalar_index("id", "BTREE"),
    "compaction": lambda lab: (
        append(lab, 3),
        lab.dataset("keyed").optimize.compact_files(),
        lab.dataset("plain").optimize.compact_files(),
    ),
    "append between compactions": lambda lab: (
        append(lab, 3),
        lab.dataset("plain").optimize.compact_files(),
        append(lab, 4),
        lab.dataset("keyed").optimize.compact_files(),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_came_while_a_root_waited_for_its_flip_is_in_it(lab: Lab, change: str) -> None:
    lab.upgrade(no_flip=True)
    CHANGES[change](lab)
    wanted = [(row["id"], row["x"]) for row in lab.rows("plain")]
    flip.flip(lab.catalog(), None)
    assert both(lab) == wanted


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.update({"x": "x + 1"}, where="id = 1"),
        lambda table: table.delete("id = 1"),
        lambda table: (table.delete("id = 1"), table.update({"x": "0.0"})),
        lambda table: table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all(),
    ],
    ids=["update", "delete", "both", "nothing"],
)
def test_what_was_changed_by_key_while_a_root_waited_is_in_it(
    lab: Lab, change: Callable[..., object]
) -> None:
    lab.upgrade(no_flip=True)
    change(lab.dataset("keyed"))
    wanted = [(row["id"], row["x"]) for row in lab.rows("keyed")]
    flip.flip(lab.catalog(), None)
    assert values(lab, "keyed") == wanted


def test_a_change_without_a_key_stops_the_flip_and_the_run_can_be_undone(lab: Lab) -> None:
    lab.upgrade(no_flip=True)
    lab.dataset("plain").update({"x": "x + 1"})
    with pytest.raises(VerifyFailed, match=r"plain was changed by Update \(version 2\)"):
        flip.flip(lab.catalog(), None)
    assert lab.root == OLD
    recovery.undo(lab.catalog())
    lab.upgrade()
    assert values(lab, "plain") == [(1, 2.0), (2, 3.0)]


class TestAfterTheFlip:
    @pytest.fixture(autouse=True)
    def flipped(self, lab: Lab) -> None:
        lab.upgrade()

    def test_stragglers_are_brought_once(self, lab: Lab) -> None:
        append(lab, 3, OLD)
        assert {name: one.rows for name, one in brought(lab).items()} == {"keyed": 1, "plain": 1}
        assert {name: one.rows for name, one in brought(lab).items()} == {"keyed": 0, "plain": 0}
        assert both(lab) == [(1, 1.0), (2, 2.0), (3, 3.0)]

    def test_what_was_brought_may_be_changed_and_deleted_before_the_next_time(self, lab: Lab) -> None:
        for number in (3, 4):
            append(lab, number, OLD)
        brought(lab)
        for table in ("keyed", "plain"):
            lab.dataset(table).update({"y": "y * 10"}, where="id = 3")
            lab.dataset(table).delete("id = 4")
        append(lab, 5, OLD)
        brought(lab)
        assert both(lab) == [(1, 1.0), (2, 2.0), (3, 30.0), (5, 5.0)]

    def test_compaction_of_the_old_root_hides_nothing(self, lab: Lab) -> None:
        append(lab, 3, OLD)
        lab.dataset("plain", OLD).optimize.compact_files()
        lab.dataset("keyed", OLD).optimize.compact_files()
        brought(lab)
        assert both(lab) == [(1, 1.0), (2, 2.0), (3, 3.0)]

    def test_without_a_key_updates_are_told_and_rows_brought_all_the_same(self, lab: Lab) -> None:
        lab.dataset("plain", OLD).update({"x": "x + 1"}, where="id = 1")
        append(lab, 3, OLD)
        found = brought(lab)
        assert found["plain"].conflicts[0].startswith("Update (version 2) of plain in v1/ was not replicated")
        assert both(lab) == [(1, 1.0), (2, 2.0), (3, 3.0)]

    def test_they_are_brought_after_a_later_upgrade_in_place_too(self, lab: Lab) -> None:
        lab.revision('AddColumn(table="plain", column=pa.field("z", pa.int32()), sql="1")')
        lab.upgrade()
        append(lab, 3, OLD)
        brought(lab)
        assert [row["z"] for row in lab.rows("plain")] == [1, 1, 1]
