"""What late writers did to rows of the old root, done to the same rows of the new one: cell by cell."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dying import Died
from lab import Lab
from servers import Place

from lancemig.apply.replicate.types import ReplicationResult
from lancemig.commands import flip, upgrade
from lancemig.errors import RunUnfinished, VerifyFailed

START = """
    CreateTable(table="t", key=("id",), schema=["id: int64", "ms: float64", "note: string"],
                rows=[{"id": n, "ms": 1000.0 * n, "note": "n"} for n in range(5)]),
"""
REBUILD = """
    RenameColumn(table="t", column="ms", to="seconds"),
    RetypeColumn(table="t", column="seconds", to="float32", using="seconds / 1000"),
"""


@pytest.fixture(params=["addresses", "stable row ids"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    if request.param == "stable row ids":
        lab.revision('RewriteTable(table="t", stable_row_ids=True)')
    lab.upgrade()
    assert lab.dataset("t").has_stable_row_ids == (request.param == "stable row ids")
    (tmp_path / "old").write_text(lab.root)
    lab.revision(REBUILD)
    return lab


def old(lab: Lab) -> str:
    """The root that the rebuild leaves."""
    return (lab.folder / "old").read_text()


def rows(lab: Lab) -> dict[int, tuple[float, str]]:
    return {row["id"]: (row["seconds"], row["note"]) for row in lab.rows("t")}


def reconciled(lab: Lab, **options: Any) -> ReplicationResult:
    *_, one = flip.reconcile(lab.catalog(), **options)
    return one


WAS = {n: (float(n), "n") for n in range(5)}

Write = Callable[[Any], object]
LATE: dict[str, tuple[Write, dict[int, tuple[float, str] | None]]] = {
    "update": (lambda t: t.update({"ms": "ms + 500"}, where="id = 1"), {1: (1.5, "n")}),
    "delete": (lambda t: t.delete("id = 2"), {2: None}),
    "key changed": (lambda t: t.update({"id": "9"}, where="id = 3"), {3: None, 9: (3.0, "n")}),
    "update and compaction": (
        lambda t: (t.update({"ms": "0.0"}, where="id = 1"), t.optimize.compact_files()),
        {1: (0.0, "n")},
    ),
    "restored": (
        lambda t: (t.update({"ms": "7000.0"}, where="id > 2"), t.delete("id = 0"), _restore(t)),
        {},
    ),
    "delete, and the same key again": (
        lambda t: (t.delete("id = 4"), _merge(t, [{"id": 4, "ms": 1.0, "note": "again"}])),
        {4: (0.001, "again")},
    ),
    "upsert": (
        lambda t: _merge(t, [{"id": 0, "ms": 2.0, "note": None}, {"id": 7, "ms": None, "note": "new"}]),
        {0: (0.002, None), 7: (None, "new")},  # type: ignore[dict-item]
    ),
    "overwritten": (
        lambda t: _overwrite(t, [{"id": 1, "ms": 9000.0, "note": "o"}]),
        {0: None, 1: (9.0, "o"), 2: None, 3: None, 4: None},
    ),
}


def _restore(table: Any) -> None:
    table.checkout_version(min(version["version"] for version in table.versions())).restore()


def _merge(table: Any, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    given = pa.Table.from_pylist(rows, schema=table.schema.remove_metadata())
    table.checkout_version(table.latest_version).merge_insert(
        "id"
    ).when_matched_update_all().when_not_matched_insert_all().execute(given)


def _overwrite(table: Any, rows: list[dict[str, Any]]) -> None:
    import lance
    import pyarrow as pa

    lance.write_dataset(pa.Table.from_pylist(rows, schema=table.schema), table.uri, mode="overwrite")


def after(changes: dict[int, tuple[float, str] | None]) -> dict[int, tuple[float, str]]:
    found = {**WAS, **changes}
    return {id_: pytest.approx(row) if row[0] else row for id_, row in found.items() if row is not None}  # type: ignore[misc]


@pytest.mark.parametrize("late", LATE)
def test_while_a_root_waits_for_its_flip(lab: Lab, late: str) -> None:
    write, changes = LATE[late]
    lab.upgrade(no_flip=True)
    write(lab.dataset("t"))
    flip.flip(lab.catalog(), None)
    assert rows(lab) == after(changes)


@pytest.mark.parametrize("late", LATE)
def test_after_the_flip(lab: Lab, late: str) -> None:
    write, changes = LATE[late]
    lab.upgrade()
    write(lab.dataset("t", old(lab)))
    one = reconciled(lab)
    assert rows(lab) == after(changes)
    assert one.conflicts == ()
    again = reconciled(lab)
    assert (again.rows, again.conflicts) == (0, ())


class TestBothSidesWrote:
    @pytest.fixture(autouse=True)
    def flipped(self, lab: Lab) -> None:
        lab.upgrade()

    def test_other_cells_of_a_row_are_no_conflict(self, lab: Lab) -> None:
        lab.dataset("t", old(lab)).update({"ms": "ms + 500"}, where="id = 1")
        lab.dataset("t").update({"note": "'mine'"}, where="id = 1")
        assert reconciled(lab).conflicts == ()
        assert rows(lab)[1] == (1.5, "mine")

    def test_the_same_change_on_both_sides_is_no_conflict(self, lab: Lab) -> None:
        lab.dataset("t", old(lab)).update({"note": "'b'"}, where="id = 1")
        lab.dataset("t").update({"note": "'b'"}, where="id = 1")
        lab.dataset("t", old(lab)).delete("id = 2")
        lab.dataset("t").delete("id = 2")
        assert reconciled(lab).conflicts == ()
        assert rows(lab) == {id_: (row[0], "b" if id_ == 1 else "n") for id_, row in WAS.items() if id_ != 2}

    CONFLICTS: tuple[tuple[Write, Write, str], ...] = (
        (
            lambda t: t.update({"note": "'old'"}, where="id = 1"),
            lambda t: t.update({"note": "'new'"}, where="id = 1"),
            "t: id=1 was changed in both roots",
        ),
        (
            lambda t: t.update({"note": "'old'"}, where="id = 1"),
            lambda t: t.delete("id = 1"),
            "t: id=1 was changed in the source root, but deleted in the target root",
        ),
        (
            lambda t: t.delete("id = 1"),
            lambda t: t.update({"note": "'new'"}, where="id = 1"),
            "t: id=1 was deleted in the source root, but changed in the target root",
        ),
    )

    @pytest.mark.slow
    @pytest.mark.parametrize("number", range(3))
    def test_a_conflict_is_told_until_somebody_decides(self, lab: Lab, number: int) -> None:
        theirs, ours, said = self.CONFLICTS[number]
        theirs(lab.dataset("t", old(lab)))
        ours(lab.dataset("t"))
        lab.dataset("t", old(lab)).update({"note": "'fine'"}, where="id = 3")
        before = rows(lab)
        for _ in range(2):
            one = reconciled(lab)
            assert one.conflicts == (said,)
            assert rows(lab) == before
        kept = reconciled(lab, when_exists="keep")
        assert (kept.kept, kept.conflicts) == (1, ())
        assert rows(lab) == {**before, 3: (3.0, "fine")}
        assert reconciled(lab).conflicts == ()

    @pytest.mark.parametrize("number", range(3))
    def test_the_old_root_wins_where_it_is_told_to(self, lab: Lab, number: int) -> None:
        theirs, ours, _ = self.CONFLICTS[number]
        theirs(lab.dataset("t", old(lab)))
        ours(lab.dataset("t"))
        assert reconciled(lab, when_exists="overwrite").conflicts == ()
        assert rows(lab).get(1) == (None if number == 2 else (1.0, "old"))

    def test_a_row_that_both_inserted_with_other_values_is_a_conflict(self, lab: Lab) -> None:
        lab.append("t", [{"id": 8, "seconds": 1.0, "note": "new"}])
        lab.append("t", [{"id": 8, "ms": 2000.0, "note": "old"}], old(lab))
        assert reconciled(lab).conflicts == ("t: id=8 was changed in both roots",)
        assert reconciled(lab, when_exists="overwrite").conflicts == ()
        assert rows(lab)[8] == (2.0, "old")

    def test_late_rows_go_through_later_revisions_too(self, lab: Lab) -> None:
        lab.revision('AddColumn(table="t", column="z: int32", sql="cast(id as int)")')
        lab.upgrade()
        lab.dataset("t", old(lab)).update({"note": "'x'"}, where="id = 1")
        lab.append("t", [{"id": 8, "ms": 0.0, "note": "late"}], old(lab))
        assert reconciled(lab).rows == 2
        assert {row["id"]: (row["note"], row["z"]) for row in lab.rows("t")} == {
            **{n: ("n", n) for n in range(5)},
            1: ("x", 1),
            8: ("late", 8),
        }


def test_rows_with_one_key_are_refused_by_name(lab: Lab) -> None:
    lab.upgrade(no_flip=True)
    lab.dataset("t").update({"id": "1"}, where="id = 2")
    with pytest.raises(VerifyFailed, match="keys of t were duplicated during the rebuild: id=1"):
        flip.flip(lab.catalog(), None)


def test_a_version_that_a_compaction_made_is_compared_with_after_a_cleanup(lab: Lab) -> None:
    lab.upgrade()
    lab.append("t", [{"id": 8, "ms": 0.0, "note": "late"}], old(lab))
    assert reconciled(lab).rows == 1
    lab.dataset("t", old(lab)).optimize.compact_files()
    assert reconciled(lab).rows == 0
    lab.dataset("t", old(lab)).update({"note": "'x'"}, where="id = 1")
    lab.dataset("t", old(lab)).cleanup_old_versions(older_than=timedelta(0))
    assert reconciled(lab).rows == 1
    assert rows(lab) == {**WAS, 1: (1.0, "x"), 8: (0.0, "late")}


@pytest.mark.parametrize("how", ["appended", "changed"])
def test_where_rows_may_go_a_row_with_the_key_of_another_overwrites_none(lab: Lab, how: str) -> None:
    """Which of the two is meant nobody can tell, and the other one would not be in the new root."""
    lab.revision('DeleteRows(table="t", where="id = 4")')
    lab.upgrade(no_flip=True)
    if how == "appended":
        lab.append("t", [{"id": 1, "ms": 7.0, "note": "another"}])
        lab.dataset("t").update({"note": "'x'"}, where="id = 3")
    else:
        lab.dataset("t").update({"id": "1"}, where="id = 2")
    with pytest.raises(VerifyFailed, match="t: 1 key occurs more than once, for example id=1") as refused:
        flip.flip(lab.catalog(), None)
    assert "fix the rows in the live table" in (refused.value.next_step or "")
    lab.dataset("t").delete("note = 'another'" if how == "appended" else "id = 1")
    flip.flip(lab.catalog(), None)
    assert sorted(rows(lab)) == ([0, 1, 2, 3] if how == "appended" else [0, 3])


def test_columns_that_somebody_changed_meanwhile_are_refused_by_name(lab: Lab) -> None:
    lab.upgrade(no_flip=True)
    lab.dataset("t").add_columns({"w": "id + 1"})
    with pytest.raises(VerifyFailed, match="the columns of t were changed by another writer"):
        flip.flip(lab.catalog(), None)


class TestPostponed:
    def test_the_flip_waits_for_the_file_and_the_tail_is_followed(self, lab: Lab, tmp_path: Path) -> None:
        flag, naps = tmp_path / "not-yet", list[int]()

        def sleep(_seconds: float) -> None:
            naps.append(len(naps))
            assert lab.root == old(lab)
            assert flag.exists()
            lab.late += timedelta(seconds=6)
            lab.append("t", [{"id": 10 + len(naps), "ms": 1000.0, "note": "late"}])
            if len(naps) == 5:
                flag.unlink()

        catalog = lab.catalog(sleep=sleep)
        prepared = upgrade.prepare(catalog, "head", "up")
        upgrade.apply_prepared(catalog, prepared, postponed_by=flag)
        assert len(naps) == 5
        assert lab.root != old(lab)
        assert set(rows(lab)) == {*WAS, 11, 12, 13, 14, 15}

    def test_a_run_that_dies_waiting_waits_for_a_person(self, lab: Lab, tmp_path: Path) -> None:
        def sleep(_seconds: float) -> None:
            raise Died

        catalog = lab.catalog(sleep=sleep)
        prepared = upgrade.prepare(catalog, "head", "up")
        with pytest.raises(Died):
            upgrade.apply_prepared(catalog, prepared, postponed_by=tmp_path / "not-yet")
        lab.outlive_the_lock()
        with pytest.raises(RunUnfinished, match="waits for the flip"):
            lab.upgrade()
        flip.flip(lab.catalog(), None)
        assert lab.root != old(lab)


class TestWhatIsNoRow:
    @pytest.fixture(autouse=True)
    def waiting(self, lab: Lab) -> None:
        lab.dataset("t").create_scalar_index("note", "BTREE", name="notes")
        lab.upgrade(no_flip=True)

    def flipped(self, lab: Lab) -> dict[str, str]:
        self.messages = flip.flip(lab.catalog(), None).messages
        return {index.name: index.field_names[0] for index in lab.dataset("t").describe_indices()}

    def test_an_index_that_others_built_meanwhile_is_built_on_the_column_as_it_is_called_now(
        self, lab: Lab
    ) -> None:
        lab.dataset("t").create_scalar_index("ms", "BTREE", name="fast")
        lab.append("t", [{"id": 8, "ms": 8000.0, "note": "late"}])
        assert self.flipped(lab) == {"notes": "note", "fast": "seconds"}
        assert any("as another writer did to t" in message for message in self.messages)
        statistics = lab.dataset("t").stats.index_stats("fast")
        assert (statistics["num_indexed_rows"], statistics["num_unindexed_rows"]) == (6, 0)

    def test_an_index_that_others_dropped_meanwhile_stays(self, lab: Lab) -> None:
        lab.dataset("t").drop_index("notes")
        assert self.flipped(lab) == {"notes": "note"}

    def test_metadata_that_others_set_meanwhile_is_there(self, lab: Lab) -> None:
        lab.dataset("t").update_schema_metadata({"calibrated": "yes"})
        self.flipped(lab)
        assert (lab.dataset("t").schema.metadata or {})[b"calibrated"] == b"yes"


def test_what_reached_a_root_that_was_left_two_flips_ago_goes_through_both(lab: Lab) -> None:
    lab.upgrade()
    lab.revision('RenameColumn(table="t", column="note", to="remark")')
    lab.upgrade()
    lab.dataset("t", old(lab)).update({"ms": "ms + 500"}, where="id = 1")
    lab.append("t", [{"id": 8, "ms": 8000.0, "note": "late"}], old(lab))
    *_, first, second = flip.reconcile(lab.catalog())
    assert (first.rows, second.rows) == (2, 2)
    found = {row["id"]: (row["seconds"], row["remark"]) for row in lab.rows("t")}
    assert found == {**WAS, 1: (1.5, "n"), 8: (8.0, "late")}
    assert {one.rows for one in flip.reconcile(lab.catalog())} == {0}


def test_what_reached_a_table_that_is_derived_anew_is_told_until_it_is_let_be(
    tmp_path: Path, local_place: Place
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    build = 'BuildTable(table="t", key=("id",), schema=["id: int64"], rows=[{"id": 1}], max_gone=None)'
    lab.revision(build)
    lab.upgrade()
    lab.append("t", [{"id": 8, "ms": 0.0, "note": "late"}], "v1/")
    for _ in range(2):
        assert reconciled(lab).conflicts == (
            "t: rows cannot be replicated: it is derived again from its source",
        )
    assert reconciled(lab, when_exists="keep").conflicts == ()
    assert [(result.rows, result.conflicts) for result in flip.reconcile(lab.catalog())] == [(0, ())]
    assert [row["id"] for row in lab.rows("t")] == [1]
