"""What the machine found, each at its smallest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dying import Died, Fate, How, dying
from lab import Lab
from moments import Moments, watched
from others import Deed
from ours import pool
from servers import Place
from test_machine import Catalogs, Event

from lancemig.commands import flip, recovery
from lancemig.commands.context import Catalog
from lancemig.errors import LockHeld, OutcomeUnknown, Refused, RunUnfinished, StoreError

START = """
    CreateTable(table="t", key=("id",), schema=["id: int64", "x: int64", "y: int64"],
                rows=[{"id": n, "x": n, "y": n} for n in range(4)]),
"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    return lab


@dataclass
class Doomed(Fate):
    """Dies at the first effect that is called so, or so many later."""

    word: str = ""
    later: int = 0

    def take(self, what: str, do: Any, half: Any = lambda: None) -> Any:
        if self.word in what and self.at is None:
            self.at = len(self.effects) + 1 + self.later
        return super().take(what, do, half)


def died_at(
    lab: Lab, word: str, verb: Callable[[Catalog], object], how: How = "before", later: int = 0
) -> list[str]:
    """Run `verb` in a process that dies there; its effects."""
    fate = Doomed(how=how, word=word, later=later)
    with pytest.raises(Died):
        verb(dying(lab.catalog(), fate))
    lab.outlive_the_lock()
    return fate.effects


def xs(lab: Lab) -> dict[int, tuple[int, int]]:
    return {row["id"]: (row["x"], row["y"]) for row in lab.rows("t")}


def test_a_step_that_had_nothing_to_do_is_not_done_after_later_ones_by_a_resumed_run(lab: Lab) -> None:
    lab.revision(
        """UpsertRows(table="t", on=("id",), when_exists="keep", rows=[{"id": 3, "x": 3, "y": 3}]),
        DeleteRows(table="t", where="id = 3")"""
    )
    died_at(lab, "ACTIVE.json", lambda catalog: lab.upgrade(catalog=catalog))
    assert sorted(xs(lab)) == [0, 1, 2]
    lab.upgrade()
    assert sorted(xs(lab)) == [0, 1, 2]


def test_a_run_that_was_undone_in_part_is_not_finished(lab: Lab) -> None:
    lab.revision(
        """UpdateRows(table="t", set={"x": "x + 1"}),
        UpdateRows(table="t", set={"x": "x * 10"})"""
    )
    died_at(lab, "ACTIVE.json", lambda catalog: lab.upgrade(catalog=catalog))
    died_at(lab, "commit", lambda catalog: recovery.undo(catalog), "after")
    with pytest.raises(RunUnfinished, match=r"was being undone .* the undo is now complete"):
        lab.upgrade()
    assert xs(lab) == {n: (n, n) for n in range(4)}
    lab.upgrade()
    assert xs(lab) == {n: ((n + 1) * 10, n) for n in range(4)}


def test_a_runner_that_was_replaced_does_not_end_the_run_of_its_successor(lab: Lab) -> None:
    """It sleeps before it stages; its successor adds the column, and dies. The run is still there."""
    lab.revision('AddColumn(table="t", column="c: int64"), UpdateRows(table="t", set={"c": "id"})')
    met: list[str] = []

    def happen(what: str) -> None:
        met.append(what)
        # Its sidecar is written; now it looks at the table to stage.
        if what == "look at t" and any("runs/" in one for one in met) and "slept" not in met:
            met.append("slept")
            lab.outlive_the_lock()
            died_at(lab, "commit 0002/1", lambda catalog: lab.upgrade(catalog=catalog))

    with pytest.raises(LockHeld):
        lab.upgrade(catalog=watched(lab.catalog(), Moments(happen=happen)))
    assert "slept" in met
    lab.outlive_the_lock()
    assert lab.catalog().in_flight() is not None
    lab.upgrade()
    assert [row["c"] for row in lab.rows("t")] == [0, 1, 2, 3]


def test_an_update_during_a_downgrade_by_rebuild_leaves_what_was_put_back(lab: Lab) -> None:
    lab.revision('UpdateRows(table="t", set={"x": "x + 100"}), AddColumn(table="t", column="c: int64")')
    lab.upgrade()
    updated = []

    def watch() -> None:
        if "commit 0002/down.1.0.0.cells to t" in fate.effects and not updated:
            updated.append(lab.dataset("t").update({"y": "y + 1"}, where="id = 1"))

    fate = Fate(watch=watch)
    lab.downgrade(catalog=dying(lab.catalog(), fate))
    assert updated
    assert xs(lab) == {0: (0, 0), 1: (1, 2), 2: (2, 2), 3: (3, 3)}


def appending(lab: Lab, id_: int, **more: Any) -> Moments:
    """A fate in which somebody appends a row between the staging of the first commit and the commit."""
    told: list[str] = []

    def happen(what: str) -> None:
        if what.startswith("before commit") and not told:
            told.append(what)
            lab.append("t", [{"id": id_, "x": 9, "y": 9, **more}])

    return Moments(happen=happen)


def test_a_row_that_comes_while_it_is_upserted_is_there_once(lab: Lab) -> None:
    lab.revision('UpsertRows(table="t", on=("id",), when_exists="keep", rows=[{"id": 9, "x": 1, "y": 1}])')
    lab.upgrade(catalog=watched(lab.catalog(), appending(lab, 9)))
    assert [row["id"] for row in lab.rows("t")] == [0, 1, 2, 3, 9]


def died_after(lab: Lab, word: str, id_: int) -> None:
    """Upgrade while somebody appends that row, in a process that dies after a commit that is called so."""
    fate = appending(lab, id_)
    fate.landed = lambda what: setattr(fate, "at", 0) if what.startswith(f"commit {word} ") else None
    with pytest.raises(Died):
        lab.upgrade(catalog=watched(lab.catalog(), fate))
    lab.outlive_the_lock()


NINE = 'UpsertRows(table="t", on=("id",), when_exists="keep", rows=[{"id": 9, "x": 1, "y": 1}])'


def test_a_row_that_a_dead_run_inserted_twice_is_there_once_when_it_is_undone(lab: Lab) -> None:
    """It died between its upsert and the withdrawal."""
    lab.revision(NINE)
    died_after(lab, "0002/0.0", 9)
    assert [row["id"] for row in lab.rows("t")] == [0, 1, 2, 3, 9, 9]
    recovery.undo(lab.catalog())
    assert xs(lab) == {**{n: (n, n) for n in range(4)}, 9: (9, 9)}


def test_a_row_that_was_withdrawn_does_not_come_back_when_the_run_is_undone(lab: Lab) -> None:
    lab.revision(NINE)
    died_after(lab, "0002/0.0.withdrawn", 9)
    lab.dataset("t").delete("id = 9")
    recovery.undo(lab.catalog())
    assert [row["id"] for row in lab.rows("t")] == [0, 1, 2, 3]


def test_the_commit_that_withdraws_is_guarded(lab: Lab) -> None:
    """Unguarded, a cleanup beside a run that died after it would leave unknown whether it landed."""
    lab.revision(NINE)
    died_after(lab, "0002/0.0.withdrawn", 9)
    made = lab.dataset("t").version
    lab.append("t", [{"id": 10, "x": 0, "y": 0}])
    lab.upgrade()
    lab.dataset("t").cleanup_old_versions(older_than=timedelta(0))
    properties = lab.dataset("t").checkout_version(made).read_transaction(made).transaction_properties
    assert properties["lancemig.step"] == "0002/0.0.withdrawn"


def test_the_commit_that_makes_a_table_is_guarded(lab: Lab) -> None:
    lab.revision('CreateTable(table="w", schema=["id: int64"], rows=[{"id": 1}])')

    def landed(what: str) -> None:
        if what == "create w":
            lab.append("w", [{"id": 2}])

    lab.upgrade(catalog=watched(lab.catalog(), Moments(landed=landed)))
    lab.append("w", [{"id": 3}])
    lab.dataset("w").cleanup_old_versions(older_than=timedelta(0))
    assert [version["version"] for version in lab.dataset("w").versions()] == [1, 2, 3]


def test_an_upsert_of_which_all_was_withdrawn_can_be_put_back(lab: Lab) -> None:
    lab.revision(NINE)
    lab.upgrade(catalog=watched(lab.catalog(), appending(lab, 9)))
    lab.downgrade()
    assert xs(lab) == {**{n: (n, n) for n in range(4)}, 9: (9, 9)}


def test_an_overwriting_undo_that_died_is_finished_as_one(lab: Lab) -> None:
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"}), UpdateRows(table="t", set={"y": "y * 10"})')
    died_at(lab, "ACTIVE.json", lambda catalog: lab.upgrade(catalog=catalog))
    lab.dataset("t").update({"x": "x + 50"}, where="id = 1")
    died_at(lab, "commit", lambda catalog: recovery.undo(catalog, overwrite=True), "after")
    with pytest.raises(RunUnfinished):
        lab.upgrade()
    assert xs(lab) == {n: (n, n) for n in range(4)}


def test_a_row_that_comes_again_while_it_is_brought_back_is_there_once(lab: Lab) -> None:
    lab.revision('DeleteRows(table="t", where="id = 3")')
    lab.upgrade()
    lab.downgrade(catalog=watched(lab.catalog(), appending(lab, 3)))
    assert [row["id"] for row in lab.rows("t")] == [0, 1, 2, 3]


def test_a_row_that_comes_again_while_it_is_brought_back_in_a_staged_root_stays_as_it_came(lab: Lab) -> None:
    lab.revision('DeleteRows(table="t", where="id = 3"), AddColumn(table="t", column="c: int64")')
    lab.upgrade()
    live = lab.dataset("t")
    lab.downgrade(catalog=watched(lab.catalog(), appending(lab, 3, c=None)))
    assert lab.dataset("t").uri != live.uri
    assert sorted(row["id"] for row in lab.rows("t")) == [0, 1, 2, 3]
    assert xs(lab)[3] == (9, 9)


def test_without_a_key_what_an_upsert_overwrote_and_others_changed_since_is_there_once(
    tmp_path: Path, local_place: Place
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START.replace('key=("id",), ', ""))
    lab.revision(
        """UpsertRows(table="t", on=("id",), when_exists="overwrite",
                      rows=[{"id": 1, "x": 100, "y": 1}, {"id": 2, "x": 100, "y": 1}])"""
    )
    lab.upgrade()
    lab.dataset("t").update({"y": "y + 1"}, where="id = 1")
    lab.downgrade()
    assert [row["id"] for row in lab.rows("t")] == [0, 1, 2, 3]


TWICE = 'UpdateRows(table="t", set={"x": "x + 1"}), UpdateRows(table="t", set={"x": "x * 10"})'


def written_and_cleaned(lab: Lab) -> None:
    for number in (8, 9):
        lab.append("t", [{"id": number, "x": 0, "y": 0}])
    lab.dataset("t").cleanup_old_versions(older_than=timedelta(0))


@pytest.mark.parametrize("later", [3, 4])
@pytest.mark.parametrize("verb", ["recover", "undo"])
def test_a_cleanup_beside_a_run_that_died_between_two_commits_leaves_no_doubt(
    lab: Lab, verb: str, later: int
) -> None:
    """Once the first is guarded, until the second is announced."""
    lab.revision(TWICE)
    effects = died_at(lab, "commit 0002/0", lambda catalog: lab.upgrade(catalog=catalog), later=later)
    assert effects[-1].startswith("write _lancemig/runs/")
    written_and_cleaned(lab)
    getattr(recovery, verb)(lab.catalog())
    assert lab.catalog().in_flight() is None
    if verb == "recover":
        assert xs(lab) == {n: ((n + 1) * 10, n) for n in range(4)} | {8: (0, 0), 9: (0, 0)}
    else:
        assert xs(lab) == {n: (n, n) for n in range(4)} | {8: (0, 0), 9: (0, 0)}


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("verb", ["recover", "undo"])
def test_of_a_commit_that_a_cleanup_may_have_taken_a_person_tells_what_came(
    lab: Lab, verb: str, how: How
) -> None:
    lab.revision(TWICE)
    died_at(lab, "commit 0002/1", lambda catalog: lab.upgrade(catalog=catalog), how)
    written_and_cleaned(lab)
    end = getattr(recovery, verb)
    with pytest.raises(OutcomeUnknown, match=r"step 0002/1\.0 to t.* was removed by cleanup") as told:
        end(lab.catalog())
    assert "--assume landed" in (told.value.next_step or "")
    said = end(lab.catalog(), assumption="lost" if how == "before" else "landed")
    assert lab.catalog().in_flight() is None
    first = {n: (n, n) for n in range(4)} | {8: (0, 0), 9: (0, 0)}
    if verb == "recover":
        both = {n: ((n + 1) * 10, n) for n in range(4)}
        assert xs(lab) == first | both | ({8: (0, 0), 9: (0, 0)} if how == "before" else {})
    elif how == "before":
        assert xs(lab) == first
    else:
        assert "NOT undone, because its version" in said[0]


def test_where_the_log_tells_there_is_nothing_to_assume(lab: Lab) -> None:
    lab.revision(TWICE)
    died_at(lab, "commit 0002/1", lambda catalog: lab.upgrade(catalog=catalog))
    with pytest.raises(Refused, match="--assume is not needed"):
        recovery.recover(lab.catalog(), assumption="landed")
    recovery.recover(lab.catalog())


def test_a_cleanup_beside_a_living_run_does_not_stop_it(lab: Lab) -> None:
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"}), UpdateRows(table="t", set={"x": "x * 10"})')
    told: list[str] = []

    def happen(what: str) -> None:
        done = "commit 0002/0.0 to t" in fate.effects
        if done and what.startswith("after write") and "/runs/" in what and not told:
            told.append(what)
            for number in (8, 9):
                lab.append("t", [{"id": number, "x": 0, "y": 0}])
            lab.dataset("t").cleanup_old_versions(older_than=timedelta(0))

    fate = Moments(happen=happen)
    lab.upgrade(catalog=watched(lab.catalog(), fate))
    assert told
    assert xs(lab)[3] == (40, 3)


@pytest.mark.parametrize(
    "later",
    [
        'DeleteRows(table="t", where="id = 3")',
        """UpsertRows(table="t", on=("id",), when_exists="overwrite", rows=[{"id": 3, "x": 0, "y": 0}])""",
    ],
)
def test_without_a_key_rows_that_came_back_are_found_again_by_the_undo_of_earlier_steps(
    tmp_path: Path, local_place: Place, later: str
) -> None:
    lab = Lab(tmp_path, local_place)
    lab.revision(START.replace('key=("id",), ', ""))
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"})')
    lab.revision(later)
    lab.upgrade()
    lab.downgrade("0001")
    assert xs(lab) == {n: (n, n) for n in range(4)}


def test_rows_that_came_while_a_column_was_filled_are_filled_by_a_resumed_run(lab: Lab) -> None:
    lab.revision('AddColumn(table="t", column="c: int64", sql="x + 1")')
    told: list[str] = []

    def happen(what: str) -> None:
        # An append each time: the column cannot be added in one commit, and is filled after it was added.
        if what.startswith("before commit 0002/0.0") and not what.startswith("before commit 0002/0.0.null"):
            told.append(what)
            lab.append("t", [{"id": 8 + len(told), "x": 9, "y": 9}])

    fate = Moments(happen=happen, landed=lambda what: setattr(fate, "at", 0) if "fill to t" in what else None)
    with pytest.raises(Died):
        lab.upgrade(catalog=watched(lab.catalog(), fate))
    lab.outlive_the_lock()
    lab.upgrade()
    assert [row["c"] for row in lab.rows("t")] == [1, 2, 3, 4, *[10] * len(told)]
    assert told[-1] == "before commit 0002/0.0.fill to t"


@pytest.mark.parametrize("version", [2, 3])
def test_a_cleanup_just_before_a_version_is_guarded_is_no_crash(lab: Lab, version: int) -> None:
    lab.append("t", [{"id": 8, "x": 8, "y": 8}])
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"})')
    told: list[str] = []

    def happen(what: str) -> None:
        if what == f"before guard t {version}" and not told:
            told.append(what)
            lab.append("t", [{"id": 9, "x": 9, "y": 9}])
            lab.dataset("t").cleanup_old_versions(older_than=timedelta(0))

    catalog = watched(lab.catalog(), Moments(happen=happen))
    if version == 2:
        with pytest.raises(StoreError, match="removed by cleanup before it was guarded"):
            lab.upgrade(catalog=catalog)
        lab.upgrade()
        assert xs(lab) == {0: (1, 0), 1: (2, 1), 2: (3, 2), 3: (4, 3), 8: (9, 8), 9: (10, 9)}
    else:
        lab.upgrade(catalog=catalog)
        assert xs(lab) == {0: (1, 0), 1: (2, 1), 2: (3, 2), 3: (4, 3), 8: (9, 8), 9: (9, 9)}


def test_a_version_that_was_brought_before_a_death_is_compared_with_after_a_cleanup(lab: Lab) -> None:
    """The run died between what it brought and the guard of the version that it came from."""
    lab.revision('RenameColumn(table="t", column="y", to="z")')
    lab.upgrade(no_flip=True)
    live = lab.root
    lab.append("t", [{"id": 8, "x": 8, "y": 8}])
    died_at(lab, "commit tail/", lambda catalog: flip.flip(catalog, None), "after")
    flip.flip(lab.catalog(), None)
    lab.dataset("t", live).update({"x": "x + 1"}, where="id = 8")
    lab.dataset("t", live).cleanup_old_versions(older_than=timedelta(0))
    *_, brought = flip.reconcile(lab.catalog())
    assert (brought.rows, brought.conflicts) == (1, ())
    assert {row["id"]: row["x"] for row in lab.rows("t")} == {0: 0, 1: 1, 2: 2, 3: 3, 8: 9}


@pytest.fixture
def machine() -> Iterator[Catalogs]:
    """The machine after a revision that changes t and adds a column: to take it back is a rebuild."""
    state = Catalogs()
    names = [operation.name for operation in pool(1)]
    choices = [[names.index("add one"), names.index("add an empty column")]]
    state.begin(stable=False, indexed=False, without_key=False, choices=choices, checks=[None])
    state.go(verb="upgrade +1", events=[], death=None)
    yield state
    state.teardown()


@pytest.mark.parametrize("kind", ["append", "index"])
def test_the_model_knows_what_others_did_to_a_root_while_another_was_staged(
    machine: Catalogs, kind: str
) -> None:
    """What is brought has stamps of its own, which name the root that it comes from."""
    machine.go(verb="downgrade", events=[Event(-1, Deed(kind, "t", 0))], death=None)
    machine.all_is_well()
    assert machine.revision == "0001"


def test_the_model_knows_of_rows_that_came_to_the_old_root_and_to_the_new_one(
    machine: Catalogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are brought over after the flip, while they come to the new root, too; ours are withdrawn."""
    happen, awaited = machine.happen, ["before write ACTIVE.json", "before commit tail/"]

    def coming(what: str) -> None:
        happen(what)
        if awaited and what.startswith(awaited[0]):
            del awaited[0]
            machine.done_by_others(Deed("append what is upserted", "t", 0))

    monkeypatch.setattr(machine, "happen", coming)
    machine.go(verb="downgrade", events=[], death=None)
    machine.all_is_well()
    table = machine.model.tables[machine.root, "t"]
    assert ".withdrawn from" in table.story[-1]
