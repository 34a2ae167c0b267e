"""Keys that others insert while an upsert is under way: ours go, and theirs are met under the policy."""

from functools import partial
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from lancemig.apply.rows.context import StagingContext
from lancemig.apply.rows.upserts import repeated_insertions, retry_for, stage_removal, staged_upsert
from lancemig.catalog.operations import UpsertRows
from lancemig.errors import PlanError
from lancemig.store.lance import Staged, Stamp, Table, Tables
from lancemig.store.objects import open_objects

SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("x", pa.float64())])
ON = ("id", "part")
STABLE = pytest.mark.parametrize("stable", [False, True], ids=["addresses", "stable row ids"])


def rows(*given: tuple[int, float]) -> pa.Table:
    return pa.Table.from_pylist([{"id": id_, "part": "p", "x": x} for id_, x in given], schema=SCHEMA)


class Race:
    """A table with rows 0 to 9, an upsert of it, and whatever others do meanwhile."""

    def __init__(self, folder: Path, stable: bool) -> None:
        self.tables = Tables(open_objects(str(folder), {}), "")
        lance.write_dataset(
            rows(*((n, 0.0) for n in range(10))),
            self.tables.uri("", "t"),
            enable_stable_row_ids=stable,
            max_rows_per_file=5,
        )

    @property
    def table(self) -> Table:
        return self.tables.open("", "t")

    def at(self, version: int) -> Table:
        return self.tables.open("", "t", version)

    def commit(self, table: Table, staged: Staged | None, step: str) -> int:
        assert staged is not None
        return self.tables.commit(table, staged, Stamp("run", "", step))

    def append(self, *given: tuple[int, float]) -> None:
        lance.write_dataset(rows(*given), self.tables.uri("", "t"), mode="append")

    def merge(self, *given: tuple[int, float]) -> None:
        merge = self.table.dataset.merge_insert(list(ON))
        merge.when_matched_update_all().when_not_matched_insert_all().execute(rows(*given))

    def upserted(self, operation: UpsertRows, *meanwhile: Any) -> pa.Table:
        """Land the upsert after `meanwhile`; the rows of it that somebody else inserted first."""
        read = self.table
        staged = staged_upsert(operation, read, StagingContext())
        for other in meanwhile:
            other()
        landed = self.commit(read, staged, "upsert")
        found = repeated_insertions(read, self.at(landed - 1), self.at(landed), ON)
        # An older version finds the same, and so does none at all.
        for older in (self.at(1), None):
            again = repeated_insertions(older, self.at(landed - 1), self.at(landed), ON)
            assert again.sort_by("id").equals(found.sort_by("id"))
        return found

    def settled(self, operation: UpsertRows, repeated: pa.Table) -> None:
        """What the runner does with them: twice, as after a death."""
        table = self.table
        self.commit(table, stage_removal(repeated, ON, table), "withdrawn")
        assert stage_removal(repeated, ON, self.table) is None
        table = self.table
        staged = staged_upsert(retry_for(operation, repeated), table, StagingContext())
        if staged is not None:
            self.commit(table, staged, "again")
        assert staged_upsert(retry_for(operation, repeated), self.table, StagingContext()) is None

    def values(self) -> list[tuple[int, float]]:
        found = self.table.read().to_pylist()
        return sorted((row["id"], row["x"]) for row in found if row["id"] >= 3)


def upsert(how: str, *given: tuple[int, float], **more: Any) -> UpsertRows:
    return UpsertRows(table="t", rows=rows(*given), on=ON, when_exists=how, **more)


REST = [(n, 0.0) for n in range(4, 10)]
POLICIES = [
    ("overwrite", {}, 1.0),
    ("keep", {}, 2.0),
    ("extend", {"extend": {"x": "max"}}, 2.0),
    ("extend", {"extend": {"x": "min"}}, 1.0),
]


@STABLE
@pytest.mark.parametrize("other", ["append", "merge"])
@pytest.mark.parametrize(("how", "more", "left"), POLICIES, ids=lambda p: str(p))
def test_a_key_that_another_inserted_meanwhile_is_there_once(
    tmp_path: Path, stable: bool, other: str, how: str, more: Any, left: float
) -> None:
    race = Race(tmp_path, stable)
    operation = upsert(how, (3, 1.0), (20, 1.0), (21, 1.0), **more)
    repeated = race.upserted(operation, partial(getattr(race, other), (20, 2.0), (30, 2.0)))
    # Without more ado, the key is there twice.
    assert [row for row in race.values() if row[0] == 20] == [(20, 1.0), (20, 2.0)]
    assert repeated["id"].to_pylist() == [20]
    race.settled(operation, repeated)
    three = 0.0 if how == "keep" or more.get("extend") == {"x": "min"} else 1.0
    assert race.values() == [(3, three), *REST, (20, left), (21, 1.0), (30, 2.0)]
    race.table.dataset.validate()


@STABLE
def test_an_error_names_their_row_once_ours_is_gone(tmp_path: Path, stable: bool) -> None:
    race = Race(tmp_path, stable)
    operation = upsert("error", (20, 1.0), (21, 1.0))
    repeated = race.upserted(operation, partial(race.append, (20, 2.0), (21, 1.0)))
    table = race.table
    race.commit(table, stage_removal(repeated, ON, table), "withdrawn")
    with pytest.raises(PlanError, match=r"id=20, part='p' \(x: 2.0 in the table, 1.0 in the source\)"):
        staged_upsert(retry_for(operation, repeated), race.table, StagingContext())
    assert race.values() == [(3, 0.0), *REST, (20, 2.0), (21, 1.0)]


@STABLE
def test_of_two_identical_rows_theirs_stays(tmp_path: Path, stable: bool) -> None:
    race = Race(tmp_path, stable)
    operation = upsert("error", (20, 1.0))
    repeated = race.upserted(operation, partial(race.append, (20, 1.0)))
    theirs = [f.fragment_id for f in race.table.fragments][-2]
    race.settled(operation, repeated)
    assert race.values() == [(3, 0.0), *REST, (20, 1.0)]
    left = race.table.read(where="id = 20", addresses=True)
    assert left["_rowaddr"][0].as_py() >> 32 == theirs


@STABLE
def test_what_others_did_besides_is_no_repetition(tmp_path: Path, stable: bool) -> None:
    race = Race(tmp_path, stable)

    def inserted_and_deleted() -> None:
        race.append((20, 2.0))
        race.table.dataset.delete("id = 20")

    operation = upsert("overwrite", (3, 1.0), (20, 1.0))
    repeated = race.upserted(operation, inserted_and_deleted, partial(race.merge, (30, 1.0), (9, 5.0)))
    assert repeated.num_rows == 0
    assert race.values() == [(3, 1.0), *REST[:-1], (9, 5.0), (20, 1.0), (30, 1.0)]


@STABLE
def test_a_row_that_was_overwritten_is_not_withdrawn(tmp_path: Path, stable: bool) -> None:
    race = Race(tmp_path, stable)
    operation = upsert("overwrite", (3, 1.0), (20, 1.0))
    assert race.upserted(operation, partial(race.append, (3, 2.0))).num_rows == 0
    assert race.values()[:2] == [(3, 1.0), (3, 2.0)]
    with pytest.raises(PlanError, match="table t: 1 key occurs more than once, for example id=3, part='p'"):
        staged_upsert(operation, race.table, StagingContext())


@STABLE
@pytest.mark.parametrize("after", ["compacted", "theirs deleted", "both deleted", "changed", "column added"])
def test_what_others_do_before_ours_is_withdrawn_is_kept(tmp_path: Path, stable: bool, after: str) -> None:
    race = Race(tmp_path, stable)
    operation = upsert("overwrite", (20, 1.0), (21, 1.0))
    repeated = race.upserted(operation, partial(race.append, (20, 2.0)))
    ds = race.table.dataset
    if after == "compacted":
        ds.optimize.compact_files(target_rows_per_fragment=100)
    elif after == "theirs deleted":
        ds.delete("id = 20 and x = 2")
    elif after == "both deleted":
        ds.delete("id = 20")
    elif after == "changed":
        ds.update({"x": "7"}, where="id = 20")
    else:
        ds.add_columns({"y": "x + 1"})
    table = race.table
    staged = stage_removal(repeated, ON, table)
    if after in ("compacted", "column added"):
        race.commit(table, staged, "withdrawn")
    else:
        assert staged is None
    left = {
        "theirs deleted": [(20, 1.0)],
        "both deleted": [],
        "changed": [(20, 7.0), (20, 7.0)],
    }.get(after, [(20, 2.0)])
    assert [row for row in race.values() if row[0] == 20] == left
    assert (21, 1.0) in race.values()


@STABLE
def test_what_others_do_to_the_other_rows_is_not_undone(tmp_path: Path, stable: bool) -> None:
    race = Race(tmp_path, stable)
    operation = upsert("overwrite", (20, 1.0), (21, 1.0), max_rows=2)
    repeated = race.upserted(operation, partial(race.append, (20, 2.0)))
    race.table.dataset.delete("id = 21")
    race.settled(operation, repeated)
    assert race.values() == [(3, 0.0), *REST, (20, 1.0)]
