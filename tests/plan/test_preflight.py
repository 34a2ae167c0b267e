"""What would fail is refused by the plan, and what a person should know is noted."""

import pyarrow as pa
import pytest
from live import HOSTS, Answers, planned

from lancemig import (
    AddColumn,
    BuildTable,
    CreateIndex,
    CreateTable,
    DeleteRows,
    DropColumn,
    DropTable,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    TransformTable,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.operations import Operation
from lancemig.errors import PlanError

REQUIRE = RequireColumn(table="recordings", column="fs")
NULLS = Answers({("recordings", "`fs` is null"): 12})


def transformed(batch):
    return batch


def refusal(*operations: Operation, probe: Answers | None = None, **facts: object) -> PlanError:
    with pytest.raises(PlanError) as refused:
        planned(list(operations), probe=probe, **facts)
    assert refused.value.next_step
    return refused.value


def notes(*operations: Operation) -> tuple[str, ...]:
    return planned(list(operations)).migrations[0].steps[-1].notes


@pytest.mark.parametrize(
    "operation",
    [
        UpdateRows(table="recordings", set={"fs": "wrong"}),
        UpdateRows(table="recordings", set={"fs": "1"}, where="wrong"),
        DeleteRows(table="recordings", where="wrong"),
        AddColumn(table="recordings", column="y: int8", sql="wrong"),
        RetypeColumn(table="recordings", column="fs", to="int8", using="wrong"),
    ],
    ids=lambda operation: operation.describe(),
)
def test_wrong_sql_is_refused(operation):
    assert "no field named wrong" in refusal(operation).message


@pytest.mark.parametrize(
    "operation",
    [
        CreateTable(table="t", schema=pa.schema([("c", pa.month_day_nano_interval())])),
        BuildTable(table="t", schema=pa.schema([("c", pa.list_(pa.decimal32(5, 2)))]), rows=[]),
        TransformTable(table="recordings", using=transformed, schema=pa.schema([("c", pa.struct([]))])),
        AddColumn(table="recordings", column=pa.field("c", pa.list_(pa.string(), 3))),
        RetypeColumn(table="recordings", column="fs", to=pa.dense_union([pa.field("a", pa.int8())])),
    ],
    ids=lambda operation: operation.op,
)
def test_a_type_that_lance_does_not_store_is_refused(operation):
    found = refusal(operation)
    assert f"{operation.table}.{'fs' if isinstance(operation, RetypeColumn) else 'c'}: " in found.message
    assert "Lance cannot store" in found.message


def test_sql_of_a_type_that_never_fits_is_refused():
    text = Answers(types={"x": pa.list_(pa.int8())})
    error = refusal(UpdateRows(table="recordings", set={"fs": "x"}), probe=text)
    assert "recordings.fs is int32, but the expression gives list<item: int8>" in error.message
    assert "cast" in error.next_step


def test_nulls_in_a_column_to_be_required_are_counted():
    error = refusal(REQUIRE, probe=NULLS)
    assert "recordings.fs is null in 12 of 1,000 rows" in error.message
    assert "fill the nulls" in error.next_step


def test_nulls_that_an_earlier_step_may_fill_are_looked_for_later():
    fill = UpdateRows(table="recordings", set={"fs": "1"}, where="fs is null")
    plan = planned([fill, REQUIRE], probe=NULLS)
    assert plan.migrations[0].steps[1].notes == ("checked for nulls after the preceding steps",)


def test_live_tables_are_not_asked_about_columns_that_are_yet_to_come():
    probe = Answers()
    planned(
        [
            RenameColumn(table="recordings", column="fs", to="rate"),
            RequireColumn(table="recordings", column="rate"),
            UpdateRows(table="recordings", set={"rate": "1"}, where="rate = 0"),
        ],
        probe=probe,
    )
    assert probe.asked == []


def test_renamed_tables_are_asked_by_the_name_they_have_now():
    probe = Answers({("recordings", "fs = 0"): 3})
    plan = planned(
        [
            RenameTable(table="hosts", to="x"),
            RenameTable(table="recordings", to="hosts"),
            UpdateRows(table="hosts", set={"fs": "1"}, where="fs = 0"),
        ],
        probe=probe,
    )
    assert probe.asked == [("recordings", "fs = 0")]
    assert plan.migrations[0].steps[2].rows == 3
    assert HOSTS.columns.names == ["name"]


@pytest.mark.parametrize(("column", "kind"), [("p", "BTREE"), ("id", "INVERTED"), ("note", "IVF_PQ")])
def test_an_index_that_cannot_be_built_is_refused(column, kind):
    error = refusal(CreateIndex(table="recordings", column=column, type=kind))
    assert f"index type {kind} does not support recordings.{column}" in error.message


def test_storage_version_0_1_takes_no_column_without_values():
    add = AddColumn(table="recordings", column="c: int8")
    refused = refusal(add, data_storage_version="0.1")
    assert "storage version 0.1" in refused.message
    assert 'RewriteTable(table="recordings", data_storage_version="stable")' in refused.next_step
    rewrite = RewriteTable(table="recordings", data_storage_version="stable")
    assert planned([rewrite, add], data_storage_version="0.1")
    computed = AddColumn(table="recordings", column="c: int64", sql="1")
    assert planned([computed], data_storage_version="0.1")


def test_a_column_with_which_the_table_could_not_be_read_is_refused():
    refused = refusal(AddColumn(table="recordings", column="unreadable: int8"))
    assert "could not read recordings" in refused.message
    assert 'AddColumn(table="recordings", column="unreadable: int8", sql="null")' in refused.next_step


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_a_struct_takes_no_field_in_old_storage(version):
    add = AddColumn(table="recordings", column="p.b: int8")
    assert "RewriteTable" in refusal(add, data_storage_version=version).next_step
    assert planned([add])


@pytest.mark.parametrize(
    "operation",
    [
        RewriteTable(table="recordings", order_by=("id",)),
        TransformTable(table="recordings", using=transformed, schema="id: int64"),
    ],
    ids=lambda operation: operation.op,
)
def test_blobs_are_not_streamed(operation):
    assert "blobs" in refusal(operation, blobs=True).message


def test_blobs_are_not_compared_with_a_source():
    upsert = UpsertRows(table="recordings", rows=[], on=("id",), when_exists="keep")
    assert "blobs" in refusal(upsert, blobs=True).message


def test_rows_of_a_source_without_an_answer_are_noted():
    source = [{"id": 1}, {"id": 2, "__unknown__": True}]
    upsert = UpsertRows(table="recordings", rows=source, on=("id",))
    source_note, index_note = notes(upsert)
    assert source_note == "1 row of the source without an answer"
    assert index_note == "index fs_idx: built again if it covers less than 90% of 1,000 rows afterwards"


def test_indices_that_are_rebuilt_or_lost_are_noted():
    assert notes(RetypeColumn(table="recordings", column="fs", to="int64")) == (
        "index fs_idx is dropped and rebuilt",
    )
    assert notes(DropColumn(table="recordings", column="fs")) == ("also drops index fs_idx",)
    assert notes(DropTable(table="hosts")) == ("its rows remain only in the old root",)


def test_a_computed_column_notes_that_later_rows_are_filled_too():
    assert "filled too" in notes(AddColumn(table="recordings", column="y: int64", sql="fs"))[0]
    assert notes(AddColumn(table="recordings", column="y: int64")) == ()
