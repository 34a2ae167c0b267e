"""A slow function beside writers, and across deaths: no row is asked about twice while it stays the same."""

import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lab import Appender, Lab
from servers import Place

sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))
from dying import Died, Fate, dying

from lancemig.apply.rows import results_cache
from lancemig.errors import Refused

START = """
    CreateTable(table="t", key=("id",), schema=pa.schema([("id", pa.int64()), ("x", pa.float64()),
                ("y", pa.float64()), ("z", pa.int64())]), rows=[])
"""
SLOW = """
import time
from pathlib import Path

def slow(batch: pa.RecordBatch) -> pa.Array:
    x = batch.column("x").to_pylist()
    time.sleep({pause} * len(x))
    with Path({log!r}).open("a") as log:
        log.write("".join(f"{{value}}\\n" for value in x))
    return pa.array([None if value is None else value * 10 for value in x])
"""
BACKFILL = 'BackfillColumns(table="t", columns=("y",), reads=("x",), using=slow)'


class Asked:
    """A catalog whose function keeps a log of what it was asked about."""

    def __init__(
        self, lab: Lab, folder: Path, operation: str = BACKFILL, pause: float = 0.0, *, stable: bool = False
    ) -> None:
        self.lab, self.log = lab, folder / "asked"
        lab.revision(START)
        if stable:
            lab.revision('RewriteTable(table="t", stable_row_ids=True)')
        lab.upgrade()
        for fragment in range(4):
            lab.append("t", [{"id": i, "x": float(i), "z": 0} for i in range(fragment * 5, fragment * 5 + 5)])
        lab.revision(operation, above=SLOW.format(log=str(self.log), pause=pause))

    @property
    def times(self) -> Counter[float]:
        """How often each value was asked about."""
        return Counter(float(line) for line in self.log.read_text().split())

    @property
    def ys(self) -> dict[int, float | None]:
        return {row["id"]: row["y"] for row in self.lab.rows("t")}


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    return Lab(tmp_path / "lab", local_place)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is kept at once, and worth being looked for."""
    monkeypatch.setattr(results_cache, "KEEP_EVERY", timedelta(0))
    monkeypatch.setattr(results_cache, "CHEAP", timedelta(0))


def meanwhile(lab: Lab, do: Any) -> Any:
    """A catalog in which `do` happens right before our first commit of values."""
    catalog = lab.catalog()
    real, done = catalog.store.tables.commit, []

    def commit(table: Any, staged: Any, stamp: Any) -> int:
        if not done:
            done.append(stamp)
            do(lab.dataset("t"))
        return real(table, staged, stamp)

    catalog.store.tables.commit = commit
    return catalog


def appended(table: lance.LanceDataset) -> None:
    rows = pa.Table.from_pylist([{"id": 99, "x": 99.0, "y": None, "z": 0}], schema=table.schema)
    lance.write_dataset(rows, table.uri, mode="append")


def rewritten(table: lance.LanceDataset, sets: dict[str, str]) -> None:
    """Change the first fragment where it lies: new files for these columns."""
    fragment = table.get_fragments()[0]
    values = table.scanner(columns=sets, fragments=[fragment], with_row_id=True).to_table()
    metadata, fields = fragment.update_columns(values, left_on="_rowid", right_on="_rowid")
    update = lance.LanceOperation.Update(
        updated_fragments=[metadata], fields_modified=fields, update_mode="rewrite_columns"
    )
    lance.LanceDataset.commit(table.uri, update, read_version=table.version)


WRITERS = {
    "append": (appended, 0),
    "update of another column": (lambda t: rewritten(t, {"z": "z + 1"}), 0),
    "update of what it reads": (lambda t: rewritten(t, {"x": "x + 100"}), 5),
    "update that moves a row": (lambda t: t.update({"z": "7"}, where="id = 1"), 1),
    "upsert": (lambda t: merge(t, {"id": [1, 6], "x": [100.0, 200.0]}), 2),
    "delete": (lambda t: t.delete("id = 1"), 0),
    "compaction": (lambda t: t.optimize.compact_files(), 0),
    "append and compaction": (lambda t: (appended(t), lance.dataset(t.uri).optimize.compact_files()), 1),
    "update of what it reads and compaction": (
        lambda t: (rewritten(t, {"x": "x + 100"}), lance.dataset(t.uri).optimize.compact_files()),
        5,
    ),
    "index": (lambda t: t.create_scalar_index("x", "BTREE"), 0),
    "another column": (lambda t: t.add_columns({"w": "z + 7"}), 0),
    "a column less": (lambda t: t.drop_columns(["z"]), 0),
}


def merge(table: lance.LanceDataset, columns: dict[str, list[Any]]) -> None:
    table.merge_insert("id").when_matched_update_all().execute(pa.table(columns))


@pytest.mark.parametrize("writer", WRITERS)
def test_after_a_conflict_only_what_changed_is_asked_about_again(
    tmp_path: Path, lab: Lab, eager: None, writer: str
) -> None:
    asked = Asked(lab, tmp_path)
    do, again = WRITERS[writer]
    lab.upgrade(catalog=meanwhile(lab, do))
    assert asked.times.total() == 20 + again
    there = {row["id"]: row["x"] for row in lab.rows("t")}
    expected = {id_: 10 * x for id_, x in there.items()}
    if writer == "append":
        expected[99] = None  # It came after the operation had looked.
    assert asked.ys == expected
    assert list(lab.opened.store.objects.list("_lancemig/scratch/")) == []


def test_answers_outlive_the_process(tmp_path: Path, lab: Lab, eager: None) -> None:
    asked = Asked(lab, tmp_path)
    fate = Fate(watch=lambda: None)
    effects = fate.effects

    def die() -> None:
        if sum("scratch" in effect for effect in effects) == 3:
            fate.at = len(effects) + 1

    fate.watch = die
    with pytest.raises(Died):
        lab.upgrade(catalog=dying(lab.catalog(), fate))
    lab.outlive_the_lock()
    lab.append("t", [{"id": 99, "x": 99.0, "z": 0}])
    rewritten(lab.dataset("t"), {"z": "z + 1"})
    lab.upgrade()
    # The last five were asked about right before the death, and their answers not kept yet.
    assert asked.times.total() == 20 + 5 + 1
    assert set(asked.times) == {*map(float, range(20)), 99.0}
    assert asked.ys == {**{i: 10.0 * i for i in range(20)}, 99: 990.0}


def test_a_slow_backfill_finishes_beside_a_steady_writer(tmp_path: Path, lab: Lab) -> None:
    asked = Asked(lab, tmp_path, pause=0.1)

    def row(number: int) -> dict[str, Any]:
        if number % 2:
            rewritten(lab.dataset("t"), {"z": "z + 1"})
        return {"id": 1000 + number, "x": 1.0, "y": 0.0, "z": 0}

    with Appender(lab, "t", row, pause=0.5) as appender:
        lab.upgrade()
    assert appender.told
    ys = asked.ys
    assert {i: ys[i] for i in range(20)} == {i: 10.0 * i for i in range(20)}
    assert {row["id"] for row in appender.told} <= set(ys)


def test_staged_files_that_a_cleanup_took_are_written_again(tmp_path: Path, lab: Lab, eager: None) -> None:
    asked = Asked(lab, tmp_path)

    def clean(table: lance.LanceDataset) -> None:
        table.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    lab.upgrade(catalog=meanwhile(lab, clean))
    assert asked.ys == {i: 10.0 * i for i in range(20)}
    assert asked.times.total() == 20


@pytest.mark.slow
def test_trying_again_is_bounded_and_can_be_taken_up(tmp_path: Path, lab: Lab, eager: None) -> None:
    asked = Asked(lab, tmp_path)
    catalog = lab.catalog(sleep=lambda _: None)
    real = catalog.store.tables.commit

    def commit(table: Any, staged: Any, stamp: Any) -> int:
        rewritten(lab.dataset("t"), {"z": "z + 1"})
        return real(table, staged, stamp)

    catalog.store.tables.commit = commit  # type: ignore[method-assign]
    with pytest.raises(
        Refused, match=r"step 0002/0.0 on t was not committed: other writers committed first in 100 attempts"
    ) as refused:
        lab.upgrade(catalog=catalog)
    assert refused.value.exit_status == 3
    del catalog.store.tables.commit
    lab.upgrade()
    assert asked.ys == {i: 10.0 * i for i in range(20)}
    assert asked.times.total() == 20


def test_patience_ends_in_time(tmp_path: Path, lab: Lab) -> None:
    Asked(lab, tmp_path)
    lab.opened = replace(lab.opened, store=replace(lab.opened.store, retry_seconds=0.0))
    catalog = meanwhile(lab, lambda t: rewritten(t, {"z": "z + 1"}))
    with pytest.raises(Refused, match="committed first in 1 attempts"):
        lab.upgrade(catalog=catalog)


ADDED = 'AddColumn(table="t", column=pa.field("ten", pa.float64()), reads=("x",), using=slow)'


def test_rows_that_come_while_a_column_is_filled_are_filled_or_counted(tmp_path: Path, lab: Lab) -> None:
    asked = Asked(lab, tmp_path, ADDED)
    catalog = lab.catalog()
    real = catalog.store.tables.commit
    came: list[int] = []

    def commit(table: Any, staged: Any, stamp: Any) -> int:
        version = real(table, staged, stamp)
        came.append(100 + len(came))
        lab.append("t", [{"id": came[-1], "x": float(came[-1]), "z": 0}])
        return version

    catalog.store.tables.commit = commit  # type: ignore[method-assign]
    [done] = lab.upgrade(catalog=catalog).steps
    rows = lab.rows("t")
    empty = [row["id"] for row in rows if row["ten"] is None]
    assert {row["id"] for row in rows} == {*range(20), *came}
    assert all(row["ten"] == 10 * row["x"] for row in rows if row["ten"] is not None)
    assert done.unfilled == len(empty) == 1
    assert asked.times.total() == len(rows) - 1


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("stable", [False, True], ids=["addresses", "stable row ids"])
def test_a_new_column_is_right_in_every_row_whatever_came_in_between(
    tmp_path: Path, lab: Lab, eager: None, writer: str, stable: bool
) -> None:
    asked = Asked(lab, tmp_path, ADDED, stable=stable)
    do, again = WRITERS[writer]
    lab.upgrade(catalog=meanwhile(lab, do))
    rows = lab.rows("t")
    assert [row["ten"] for row in rows] == [10 * row["x"] for row in rows]
    assert asked.times.total() <= 20 + again + (writer == "append")
    assert lab.dataset("t").count_rows("ten is null") == 0


@pytest.mark.parametrize("writer", [name for name in WRITERS if "append" not in name])
def test_so_are_values_set_by_sql(tmp_path: Path, lab: Lab, writer: str) -> None:
    Asked(lab, tmp_path, 'UpdateRows(table="t", set={"y": "x * 10"}, where="id >= 0")', stable=True)
    lab.upgrade(catalog=meanwhile(lab, WRITERS[writer][0]))
    assert [row["y"] for row in lab.rows("t")] == [10 * row["x"] for row in lab.rows("t")]
