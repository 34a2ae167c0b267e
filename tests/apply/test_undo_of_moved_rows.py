"""Without a key, rows that our own commits moved are found by the undo of what was done to them before."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from dying import Died, Fate, dying
from lab import Lab
from servers import Place

from lancemig.commands import recovery
from lancemig.errors import Irreversible

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.int64()), ("y", pa.int64())])
START = 'CreateTable(table="t", schema=["id: int64", "x: int64", "y: int64"])'
FIRST = [[{"id": n, "x": n, "y": n} for n in ids] for ids in (range(4), range(4, 6))]
ADD = 'UpdateRows(table="t", set={"x": "x + 1"})'
DELETE = 'DeleteRows(table="t", where="id = 3 or id = 1")'
DELETE_ALL = 'DeleteRows(table="t", where="id >= 0")'
OVERWRITE = """UpsertRows(table="t", on=("id",), when_exists="overwrite",
    rows=[{"id": 3, "x": 0, "y": 0}, {"id": 0, "x": 7, "y": 7}, {"id": 9, "x": 0, "y": 0}])"""
EXTEND = """UpsertRows(table="t", on=("id",), when_exists="extend", extend={"y": "max"},
    rows=[{"id": 5, "x": 0, "y": 90}, {"id": 2, "x": 7, "y": 90}])"""
LATER = {"delete": DELETE, "delete all": DELETE_ALL, "overwrite": OVERWRITE, "extend": EXTEND}


@pytest.fixture(params=["addresses", "stable row ids"])
def lab(request: pytest.FixtureRequest, tmp_path: Path, local_place: Place) -> Lab:
    """A table without a key, of two fragments."""
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    made(lab, FIRST, stable=request.param == "stable row ids")
    return lab


def made(lab: Lab, rows: list[list[dict[str, Any]]], *, stable: bool, schema: pa.Schema = SCHEMA) -> None:
    """Put these rows into the place of the table, a fragment each."""
    uri = lab.dataset("t").uri
    shutil.rmtree(uri)
    lance.write_dataset(schema.empty_table(), uri, enable_stable_row_ids=stable)
    for some in rows:
        lance.write_dataset(pa.Table.from_pylist(some, schema=schema), uri, mode="append")


def xs(lab: Lab) -> dict[int, tuple[int, int]]:
    found = lab.rows("t")
    there = {row["id"]: (row["x"], row["y"]) for row in found}
    assert len(there) == len(found)
    return there


BEFORE = {n: (n, n) for n in range(6)}


def appended(lab: Lab, id_: int) -> None:
    lab.append("t", [{"id": id_, "x": id_, "y": id_}])


def cleaned_up(lab: Lab) -> None:
    """All versions go that nothing keeps; so do those that have no rows, whoever guards them."""
    lab.dataset("t").cleanup_old_versions(older_than=timedelta(0))


@pytest.mark.parametrize("later", LATER)
def test_they_are_found_by_two_revisions_taken_back_at_once(lab: Lab, later: str) -> None:
    lab.revision(ADD)
    lab.revision(LATER[later])
    lab.upgrade()
    appended(lab, 20)
    lab.downgrade("0001")
    assert xs(lab) == {**BEFORE, 20: (20, 20)}


@pytest.mark.parametrize("later", LATER)
def test_they_are_found_by_two_revisions_taken_back_one_by_one(lab: Lab, later: str) -> None:
    lab.revision(ADD)
    lab.revision(LATER[later])
    lab.upgrade()
    appended(lab, 20)
    lab.downgrade()
    appended(lab, 21)
    appended(lab, 22)
    cleaned_up(lab)
    lab.downgrade()
    assert xs(lab) == {**BEFORE, **{n: (n, n) for n in (20, 21, 22)}}


@pytest.mark.parametrize("later", LATER)
def test_they_are_found_when_a_run_is_undone(lab: Lab, later: str) -> None:
    lab.revision(f"{ADD}, {LATER[later]}")
    died_before(lab, "ACTIVE.json")
    appended(lab, 20)
    recovery.undo(lab.catalog())
    assert xs(lab) == {**BEFORE, 20: (20, 20)}


@pytest.mark.parametrize("later", LATER)
def test_they_are_found_when_the_run_that_moved_them_died_before_it_guarded_that(
    lab: Lab, later: str
) -> None:
    lab.revision(ADD)
    lab.revision(f'{LATER[later]}, UpdateRows(table="t", set={{"y": "y + 1"}})')
    died_before(lab, "guard", after="commit 0003/0")
    appended(lab, 20)
    recovery.undo(lab.catalog())
    assert xs(lab) == {**{n: (x + 1, y) for n, (x, y) in BEFORE.items()}, 20: (20, 20)}
    appended(lab, 21)
    appended(lab, 22)
    cleaned_up(lab)
    lab.downgrade()
    assert xs(lab) == {**BEFORE, **{n: (n, n) for n in (20, 21, 22)}}


def died_before(lab: Lab, word: str, after: str = "") -> None:
    """Upgrade, and die before the first effect that is called so, once there was one called `after`."""

    class Doomed(Fate):
        def take(self, what: str, do: Any, half: Any = lambda: None) -> Any:
            if word in what and any(after in one for one in self.effects) and self.at is None:
                self.at = len(self.effects) + 1
            return super().take(what, do, half)

    with pytest.raises(Died):
        lab.upgrade(catalog=dying(lab.catalog(), Doomed()))
    lab.outlive_the_lock()


@pytest.mark.slow
@pytest.mark.parametrize("later", LATER)
def test_they_are_found_after_they_came_and_went_more_than_once(lab: Lab, later: str) -> None:
    lab.revision(ADD)
    lab.revision(LATER[later])
    for _ in range(2):
        lab.upgrade()
        lab.downgrade()
    lab.upgrade()
    lab.downgrade("0001")
    assert xs(lab) == BEFORE


@pytest.mark.slow
@pytest.mark.parametrize("later", LATER)
def test_they_are_found_after_a_downgrade_was_given_up_and_made_again(lab: Lab, later: str) -> None:
    """What came back goes again, and comes back once more, from where it went first."""
    lab.revision(ADD)
    lab.revision(LATER[later])
    lab.upgrade()
    there = xs(lab)
    with pytest.raises(Died):
        lab.downgrade(catalog=dying(lab.catalog(), Before("ACTIVE.json")))
    lab.outlive_the_lock()
    recovery.undo(lab.catalog())
    assert xs(lab) == there
    lab.downgrade("0001")
    assert xs(lab) == BEFORE


class Before(Fate):
    """Dies before the first effect that is called so."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    def take(self, what: str, do: Any, half: Any = lambda: None) -> Any:
        if self.word in what and self.at is None:
            self.at = len(self.effects) + 1
        return super().take(what, do, half)


@pytest.mark.slow
def test_they_are_found_through_upserts_and_deletions_of_the_same_rows(lab: Lab) -> None:
    for operations in (ADD, OVERWRITE, ADD, DELETE, f"{EXTEND}, {ADD}, {DELETE_ALL}"):
        lab.revision(operations)
    lab.upgrade()
    appended(lab, 20)
    lab.downgrade("0001")
    assert xs(lab) == {**BEFORE, 20: (20, 20)}


def test_rows_that_are_alike_are_told_apart(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision('CreateTable(table="t", schema=["x: int64"])')
    lab.upgrade()
    made(lab, [[{"x": 1}, {"x": 2}], [{"x": 3}]], stable=False, schema=pa.schema([("x", pa.int64())]))
    lab.revision('UpdateRows(table="t", set={"x": "0"})')
    lab.revision('DeleteRows(table="t", where="x = 0")')
    lab.upgrade()
    lab.downgrade("0001")
    assert [row["x"] for row in lab.rows("t")] == [1, 2, 3]


@pytest.mark.parametrize("later", ["delete", "overwrite"])
def test_what_others_made_of_them_since_stays(lab: Lab, later: str) -> None:
    lab.revision(ADD)
    lab.revision(LATER[later])
    lab.upgrade()
    lab.downgrade()
    dataset = lab.dataset("t")
    row = dataset.to_table(filter="id = 3")
    # In place: it is where it came back to.
    [fragment] = [f for f in dataset.get_fragments() if f.count_rows("id = 3")]
    new = row.select(["id"]).append_column("x", pa.array([70]))
    metadata, fields = fragment.update_columns(new, left_on="id", right_on="id")
    operation = lance.LanceOperation.Update(
        updated_fragments=[metadata], fields_modified=fields, update_mode="rewrite_columns"
    )
    lance.LanceDataset.commit(dataset.uri, operation, read_version=dataset.version)
    outcome = lab.downgrade()
    assert xs(lab) == {**BEFORE, 3: (70, 3)}
    assert [step.skipped for step in outcome.steps] == [1]


def test_one_that_others_deleted_since_is_not_found(lab: Lab) -> None:
    lab.revision(ADD)
    lab.revision(DELETE)
    lab.upgrade()
    lab.downgrade()
    lab.dataset("t").delete("id = 3")
    outcome = lab.downgrade()
    assert xs(lab) == {n: v for n, v in BEFORE.items() if n != 3}
    assert [(step.changed, step.skipped) for step in outcome.steps] == [(5, 1)]


@pytest.mark.parametrize("later", ["delete", "overwrite"])
def test_once_compacted_the_undo_is_refused(tmp_path: Path, local_place: Place, later: str) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    made(lab, FIRST, stable=False)
    lab.revision(ADD)
    lab.revision(LATER[later])
    lab.upgrade()
    lab.downgrade()
    there = xs(lab)
    lab.dataset("t").optimize.compact_files()
    with pytest.raises(Irreversible, match="compaction"):
        lab.downgrade()
    assert xs(lab) == there


def test_where_a_version_was_cleaned_away_they_are_not_found_and_no_other_row_is_taken(lab: Lab) -> None:
    lab.revision(ADD)
    lab.revision(DELETE)
    lab.upgrade()
    before = lab.dataset("t").version
    lab.downgrade()
    appended(lab, 20)
    appended(lab, 21)
    dataset = lab.dataset("t")
    for name, branch in dataset.branches.list().items():
        if branch["parent_version"] == before:
            dataset.branches.delete(name)
    cleaned_up(lab)
    outcome = lab.downgrade()
    assert xs(lab) == {**BEFORE, 1: (2, 1), 3: (4, 3), 20: (20, 20), 21: (21, 21)}
    assert [(step.changed, step.skipped) for step in outcome.steps] == [(4, 2)]


@pytest.mark.slow
def test_they_are_found_in_another_root(lab: Lab) -> None:
    """The root that a rebuild of another table made, and the one that taking it back makes."""
    lab.revision(ADD)
    lab.revision(OVERWRITE)
    lab.revision(DELETE)
    lab.revision('CreateTable(table="u", schema=["a: int64"])')
    lab.revision('RenameColumn(table="u", column="a", to="b")')
    lab.upgrade()
    lab.downgrade("0003")
    appended(lab, 20)
    lab.downgrade("0001")
    assert xs(lab) == {**BEFORE, 20: (20, 20)}
