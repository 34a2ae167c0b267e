"""DeduplicateRows beside other writers, in plans, in rebuilds and back."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

from lancemig.commands import flip, recovery, upgrade
from lancemig.commands.sample import sample_steps
from lancemig.errors import BrakeTripped, PlanError, VerifyFailed
from lancemig.report.plan import plan_text, samples_text

SCHEMA = 'schema=["id: int64", "at: int64", "x: float64"]'


def start(*rows: tuple[object, ...]) -> str:
    listed = ", ".join(f'{{"id": {i!r}, "at": {at!r}, "x": {x!r}}}' for i, at, x in rows)
    return f'CreateTable(table="t", {SCHEMA}, rows=[{listed}])'


def row(id_: object, at: object, x: object) -> dict[str, object]:
    return {"id": id_, "at": at, "x": x}


def do(more: str = "", key: str = '("id",)') -> str:
    return f'DeduplicateRows(table="t", key={key}{more})'


THREE = start((1, 5, 1.0), (2, 5, 2.0), (1, 7, 3.0), (1, 6, 4.0))
KEY = ', SetKey(table="t", key=("id",))'


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    return Lab(tmp_path, local_place)


def begun(lab: Lab, given: str = THREE) -> None:
    lab.revision(given)
    lab.upgrade()


def found(lab: Lab) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lab.dataset("t").to_table().to_pylist()
    return rows


def meanwhile(lab: Lab, other: Callable[[], object]) -> Any:
    """A catalog whose first commit to a table is preceded by what another writer does."""
    catalog = lab.catalog()
    commit, done = catalog.store.tables.commit, []

    def late(*arguments: Any) -> int:
        if not done:
            done.append(other())
        return commit(*arguments)

    catalog.store.tables.commit = late  # type: ignore[method-assign]
    return catalog


@pytest.mark.parametrize(
    ("given", "more", "stays"),
    [
        (((1, 5, 1.0), (2, 5, 2.0), (1, 7, 3.0), (1, 6, 4.0)), ', keep="last"', [(2, 5, 2.0), (1, 6, 4.0)]),
        (((1, 5, 1.0), (1, 5, 2.0), (1, 4, 3.0)), ', order_by=("at DESC",), keep="last"', [(1, 5, 2.0)]),
        (((1, 5, 1.0), (1, 5, 2.0), (1, 4, 3.0)), ', order_by=("at DESC",)', [(1, 5, 1.0)]),
    ],
)
def test_the_order_of_the_table_decides(
    lab: Lab, given: tuple[tuple[object, ...], ...], more: str, stays: list[tuple[object, ...]]
) -> None:
    lab.revision(start(*given))
    lab.upgrade()
    lab.revision(do(more))
    lab.upgrade()
    assert lab.dataset("t").to_table().to_pylist() == [row(*cells) for cells in stays]


def test_the_order_is_that_of_the_rows_after_a_compaction_moved_some(lab: Lab) -> None:
    lab.revision(start((1, 1, 1.0), (2, 1, 1.0)))
    lab.upgrade()
    for at in range(2, 5):
        lab.append("t", [row(1, at, float(at))])
    lab.dataset("t").optimize.compact_files()
    lab.append("t", [row(1, 9, 9.0), row(2, 9, 9.0)])
    lab.revision(do())
    lab.upgrade()
    assert lab.rows("t") == [row(1, 1, 1.0), row(2, 1, 1.0)]


def test_the_refusal_of_a_key_has_the_line_that_deletes_repeated_rows(lab: Lab) -> None:
    lab.revision(THREE)
    lab.upgrade()
    lab.revision('SetKey(table="t", key=("id",))')
    with pytest.raises(PlanError) as refused:
        lab.upgrade()
    assert "1 key occurs more than once, for example id=1 (3 rows)" in refused.value.message
    assert 'DeduplicateRows(table="t", key=("id",))' in str(refused.value.next_step)


def test_rows_that_another_writer_adds_meanwhile_stay(lab: Lab) -> None:
    begun(lab)
    lab.revision(do())
    lab.upgrade(catalog=meanwhile(lab, lambda: lab.append("t", [row(1, 9, 9.0)])))
    assert found(lab) == [row(1, 5, 1.0), row(2, 5, 2.0), row(1, 9, 9.0)]


@pytest.mark.parametrize(
    ("other", "stays"),
    [
        (lambda uri: lance.dataset(uri).delete("x = 1.0"), [row(2, 5, 2.0), row(1, 7, 3.0)]),
        (
            lambda uri: lance.dataset(uri).update({"id": "3"}, where="x = 1.0"),
            [row(2, 5, 2.0), row(1, 7, 3.0), row(3, 5, 1.0)],
        ),
    ],
    ids=["deletes it", "gives it another key"],
)
def test_if_another_writer_changes_the_row_that_stays_another_one_is_chosen(
    lab: Lab, other: Callable[[str], object], stays: list[dict[str, object]]
) -> None:
    """The row that stays is in another fragment than those that are deleted."""
    begun(lab, start((1, 5, 1.0), (2, 5, 2.0)))
    lab.append("t", [row(1, 7, 3.0), row(1, 6, 4.0)])
    lab.revision(do())
    uri = lab.dataset("t").uri
    lab.upgrade(catalog=meanwhile(lab, lambda: other(uri)))
    assert found(lab) == stays


def test_the_plan_has_the_numbers_of_rows_and_keys_and_the_sample_shows_each_key(lab: Lab) -> None:
    begun(lab, start((1, 5, 1.0), (None, 5, 2.0), (1, 7, 3.0), (3, 6, 4.0), (1, 9, 5.0), (3, 1, 6.0)))
    lab.revision(do(', order_by="at desc", max_rows=3'))
    before = lab.dataset("t").version
    prepared = upgrade.prepare(lab.catalog(), "head", "up")
    text = plan_text(prepared.plan, store="", staging="")
    assert "deduplicate by id (keep the first by at desc)" in text
    assert "2 keys occur more than once" in text
    assert "1 row with a null in the key stays" in text
    [step] = [step for migration in prepared.plan.migrations for step in migration.steps]
    assert step.rows == 3
    sample = samples_text(sample_steps(lab.catalog(), prepared, 20))
    rows = [re.findall(r"id=(\d)\s+(stays|deleted).*x=(\d)", line) for line in sample.splitlines()[1:]]
    assert [each for [each] in rows] == [
        ("1", "stays", "5"),
        ("1", "deleted", "3"),
        ("1", "deleted", "1"),
        ("3", "stays", "4"),
        ("3", "deleted", "6"),
    ]
    assert lab.dataset("t").version == before


def test_a_brake_stops_it_before_anything_is_deleted(lab: Lab) -> None:
    begun(lab)
    lab.revision(do(", max_rows=1"))
    with pytest.raises(BrakeTripped, match="2 rows would change, but max_rows is 1"):
        lab.upgrade()
    assert len(found(lab)) == 4


def test_an_undo_brings_repeated_rows_back_into_a_table_with_the_key(lab: Lab) -> None:
    begun(lab, start((1, 5, 1.0), (2, 5, 2.0)).replace("schema=", 'key=("id",), schema='))
    lab.append("t", [row(1, 7, 3.0), row(1, 6, 4.0)])
    lab.revision(do())
    lab.upgrade()
    lab.append("t", [row(9, 9, 9.0)])
    lab.downgrade("0001")
    assert sorted(each["x"] for each in found(lab)) == [1.0, 2.0, 3.0, 4.0, 9.0]


REBUILD = 'RenameColumn(table="t", column="x", to="y"), '


@pytest.mark.parametrize("key", ["", KEY])
def test_rows_that_are_added_during_a_rebuild_are_carried_over(lab: Lab, key: str) -> None:
    begun(lab)
    lab.revision(REBUILD + do() + key)
    lab.upgrade(no_flip=True)
    lab.append("t", [row(8, 9, 9.0)] + ([] if key else [row(1, 9, 9.0)]))
    flip.flip(lab.catalog(), None)
    assert sorted(each["id"] for each in found(lab)) == ([1, 2, 8] if key else [1, 1, 2, 8])


def test_a_new_row_with_a_key_that_is_there_stops_a_rebuild_with_this_key(lab: Lab) -> None:
    begun(lab)
    lab.revision(REBUILD + do() + KEY)
    lab.upgrade(no_flip=True)
    lab.append("t", [row(1, 9, 9.0)])
    with pytest.raises(VerifyFailed, match="id=1"):
        flip.flip(lab.catalog(), None)


@pytest.mark.parametrize("where", ["x = 3.0", "x = 1.0"])
def test_a_change_of_a_repeated_row_during_a_rebuild_is_never_taken_for_one_of_the_row_that_stays(
    lab: Lab, where: str
) -> None:
    begun(lab, THREE.replace("3.0", "1.0"))
    lance.dataset(lab.dataset("t").uri).update({"x": "3.0"}, where="at = 7")
    lab.revision(REBUILD + do() + KEY)
    lab.upgrade(no_flip=True)
    lance.dataset(lab.dataset("t").uri).delete(where)
    with pytest.raises(VerifyFailed, match="rows of t with a repeated key were changed") as refused:
        flip.flip(lab.catalog(), None)
    assert "DeduplicateRows" in str(refused.value.next_step)
    recovery.undo(lab.catalog())
    assert len(found(lab)) == 3


def test_after_the_flip_a_late_change_of_a_repeated_row_is_a_conflict(lab: Lab) -> None:
    begun(lab)
    old = lab.dataset("t").uri
    lab.revision(REBUILD + do() + KEY)
    lab.upgrade()
    lance.dataset(old).delete("x = 3.0")
    outcome = flip.reconcile(lab.catalog())
    assert "rows of t with a repeated key were changed" in str(outcome)
    assert sorted(each["id"] for each in found(lab)) == [1, 2]


TYPES = {
    "timestamp[ns, tz=UTC]": [10**18, 10**18, 10**18 + 1],
    "timestamp[us]": [1, 1, 2],
    "time64[ns]": [5, 5, 6],
    "duration[ns]": [5, 5, 6],
    "date64": [86_400_000, 86_400_000, 0],
    "uint64": [2**64 - 1, 2**64 - 1, 2**64 - 2],
    "decimal256(60, 2)": [Decimal("1.25"), Decimal("1.25"), Decimal("1.24")],
    "float64": [0.5, 0.5, 1.5],
    "string": ["ä", "ä", "Ä"],
    "large_binary": [b"a\0", b"a\0", b"a"],
    "bool": [True, True, False],
}


@pytest.mark.parametrize("of", TYPES)
def test_keys_of_every_type_are_compared_exactly(lab: Lab, of: str) -> None:
    begun(lab, f'CreateTable(table="t", schema=["k: {of}"])')
    values, arrow = TYPES[of], lab.dataset("t").schema.field("k").type
    plain = pa.types.is_temporal(arrow)
    given = pa.array(values, pa.int64()).cast(arrow) if plain else pa.array(values, arrow)
    lance.write_dataset(pa.table({"k": given}), lab.dataset("t").uri, mode="append")
    lab.revision(do(key='("k",)'))
    lab.upgrade()
    assert lab.dataset("t").count_rows() == 2


def test_a_struct_is_a_key_and_a_field_of_one_an_order(lab: Lab) -> None:
    begun(
        lab,
        """CreateTable(table="t", schema=["s: struct<a: int64, b: float64>"],
        rows=[{"s": {"a": 1, "b": 2.0}}, {"s": {"a": 1, "b": None}}, {"s": {"a": 1, "b": None}}, {"s": None},
              {"s": None}, {"s": {"a": None, "b": None}}])""",
    )
    lab.revision(do(key='("s",)', more=', order_by="s.a"'))
    lab.upgrade()
    rows = [each["s"] for each in found(lab)]
    assert rows == [{"a": 1, "b": 2.0}, {"a": 1, "b": None}, None, None, {"a": None, "b": None}]


def blobs(lab: Lab) -> None:
    """A table that LanceDB made, with a column of blobs."""
    catalog = lab.catalog()
    fields = [
        pa.field("id", pa.int64()),
        pa.field("body", pa.large_binary(), metadata={"lance-encoding:blob": "true"}),
    ]
    rows = pa.table({"id": [1, 2, 1], "body": [b"a", b"b", b"a"]}, schema=pa.schema(fields))
    lance.write_dataset(rows, catalog.store.tables.uri(catalog.fallback.prefix, "t"))


@pytest.mark.parametrize("operation", [do(), 'DeleteRows(table="t", where="id = 2")'])
def test_the_plan_says_that_blobs_do_not_come_back(lab: Lab, operation: str) -> None:
    blobs(lab)
    lab.revision(operation)
    text = plan_text(upgrade.prepare(lab.catalog(), "head", "up").plan, store="", staging="")
    assert "the rows cannot be restored by an undo: the table has Lance blobs" in text
    lab.upgrade()
    assert lab.dataset("t").count_rows() == 2


@pytest.mark.parametrize("more", ['key=("body",)', 'key=("id",), order_by="body"'])
def test_a_blob_is_neither_key_nor_order(lab: Lab, more: str) -> None:
    blobs(lab)
    lab.revision(f'DeduplicateRows(table="t", {more})')
    with pytest.raises(PlanError, match=r"t\.body is a Lance blob"):
        lab.upgrade()


def test_the_brake_is_raised_on_the_command_line(lab: Lab) -> None:
    from lancemig.plan.plan import Overrides

    begun(lab)
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"}), ' + do(", max_rows=1"))
    with pytest.raises(BrakeTripped):
        lab.upgrade()
    catalog = lab.catalog()
    prepared = upgrade.prepare(catalog, "head", "up", overrides=Overrides(max_rows=10))
    upgrade.apply_prepared(catalog, prepared)
    assert len(found(lab)) == 2


@pytest.mark.parametrize("operations", ["", ", " + do()])
def test_an_undo_of_other_changes_does_not_mix_up_rows_with_one_key(lab: Lab, operations: str) -> None:
    begun(lab, start((1, 5, 1.0), (2, 5, 2.0)).replace("schema=", 'key=("id",), schema='))
    lab.append("t", [row(1, 7, 3.0), row(1, 6, 4.0)])
    before = sorted(each["x"] for each in found(lab))
    lab.revision('UpdateRows(table="t", set={"x": "x + 1"})' + operations)
    lab.upgrade()
    lab.append("t", [row(9, 9, 9.0)])
    lab.downgrade("0001")
    assert sorted(each["x"] for each in found(lab)) == [*before, 9.0]


def test_a_cloned_root_borrows_the_files_of_the_rows_that_stay(tmp_path: Path, local_place: Place) -> None:
    lab = Lab(tmp_path, local_place, staging="clone")
    begun(lab)
    lab.append("t", [row(2, 9, 9.0), row(3, 9, 9.0)])
    lance.dataset(lab.dataset("t").uri).delete("at = 6")
    lab.revision(REBUILD + do() + KEY)
    lab.upgrade()
    kept = [{"id": 1, "at": 5, "y": 1.0}, {"id": 2, "at": 5, "y": 2.0}, {"id": 3, "at": 9, "y": 9.0}]
    assert found(lab) == kept
    lab.downgrade("0001")
    assert sorted(each["x"] for each in found(lab)) == [1.0, 2.0, 3.0, 9.0, 9.0]
