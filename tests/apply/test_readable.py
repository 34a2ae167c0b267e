"""A change of the schema leaves programs able to read the table, or is not committed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lab import ROOT, Appender, Lab
from servers import Place

from lancemig.apply.commit import committer
from lancemig.commands.upgrade import LiveProbe
from lancemig.errors import LancemigError, PlanError
from lancemig.store.lance import Table, staging
from lancemig.store.lance.readable import require_readable

STRUCT = pa.struct({"a": pa.string(), "b": pa.struct({"c": pa.string()})})
ROWS = [{"a": "x", "b": {"c": "y"}}, None, {"a": None, "b": None}, {"a": "z", "b": {"c": None}}]


def rows() -> pa.Table:
    return pa.table({"id": [1, 2, 3, 4], "st": pa.array(ROWS, STRUCT)})


def begun(folder: Any, place: Place, given: pa.Table | None = None, **options: Any) -> Lab:
    lab = Lab(folder, place)
    tables = lab.catalog().store.tables
    lance.write_dataset(
        rows() if given is None else given,
        tables.uri(ROOT, "t"),
        storage_options=tables.options(),
        **{"data_storage_version": "2.2", "max_rows_per_file": 2, **options},
    )
    return lab


def reads(live: lance.LanceDataset, field: str) -> Iterator[tuple[Any, str | None, str]]:
    """Every read that fails, as programs of before and after the change make them; none is right."""
    head = field.partition(".")[0]
    conditions = [None, "id >= 0", "st.a = 'x'", "st.b.c = 'y'", f"{field} is null", f"{field} is not null"]
    for columns in (None, ["id"], ["id", head], [head, "id"], [head], ["st.a"], [field]):
        for condition in conditions:
            for fragment in (None, *([one] for one in live.get_fragments())):
                try:
                    live.scanner(columns=columns, filter=condition, fragments=fragment).to_table()
                except Exception as error:  # noqa: BLE001 - whatever a reader gets
                    yield columns, condition, str(error)


@pytest.mark.parametrize("version", ["2.2", "2.3"])
@pytest.mark.parametrize(
    "column",
    [
        "st.f: float64", "st.b.f: float64", "st.b.f: string", "st.f: list<struct<x: int8>>",
        "st.f: map<string, int32>", "st.f: struct<x: struct<y: string>>", "st.f: dictionary<int32, string>",
    ],
)  # fmt: skip
def test_programs_read_a_struct_with_a_new_field(tmp_path, local_place, column, version):
    lab = begun(tmp_path, local_place, data_storage_version=version)
    lab.dataset("t").create_scalar_index("st.a", "BTREE")
    lab.dataset("t").delete("id = 4")
    before = lab.dataset("t")
    lab.revision(f'AddColumn(table="t", column="{column}")', kind="additive")
    lab.upgrade()
    live, field = lab.dataset("t"), column.partition(":")[0]
    assert not list(reads(live, field))
    assert live.to_table(filter="st.a = 'x'").num_rows == 1
    assert live.to_table(filter=f"{field} is not null").num_rows == 0
    live.validate()
    for old, new in zip(before.to_table().to_pylist(), live.to_table().to_pylist(), strict=True):
        assert (old["st"] is None) == (new["st"] is None)
        assert old["st"] is None or old["st"]["a"] == new["st"]["a"]
    lab.downgrade()
    assert lab.dataset("t").to_table().sort_by("id").to_pylist() == rows().slice(0, 3).to_pylist()


def test_fields_are_added_one_after_the_other_and_again(tmp_path, local_place):
    lab = begun(tmp_path, local_place)
    lab.revision('AddColumn(table="t", column="st.f: int8"), AddColumn(table="t", column="st.b.f: string")')
    lab.revision(
        'AddColumn(table="t", column="n: struct<a: int8>"), AddColumn(table="t", column="n.b: string")'
    )
    lab.upgrade()
    assert not list(reads(lab.dataset("t"), "n.b"))
    lab.revision('DropColumn(table="t", column="st.b.f"), AddColumn(table="t", column="st.b.f: int64")')
    lab.upgrade()
    assert not list(reads(lab.dataset("t"), "st.b.f"))


def test_a_field_that_is_filled_afterwards(tmp_path, local_place):
    lab = begun(tmp_path, local_place)
    lab.revision('AddColumn(table="t", column="st.b.f: string")')
    lab.revision('UpdateRows(table="t", set={"st.b.f": "st.a"}, where="id = 1")', kind="data-only")
    lab.upgrade()
    assert lab.rows("t")[0]["st"] == {"a": "x", "b": {"c": "y", "f": "x"}}


def test_a_table_without_rows(tmp_path, local_place):
    lab = begun(tmp_path, local_place, rows().slice(0, 0))
    lab.revision('AddColumn(table="t", column="st.b.f: float64")')
    lab.upgrade()
    lab.append("t", [{"id": 1, "st": {"a": "x", "b": {"c": "y", "f": 1.0}}}])
    assert lab.dataset("t").to_table(filter="st.b.f = 1.0").num_rows == 1


def test_rows_are_appended_meanwhile(tmp_path, local_place):
    lab = begun(tmp_path, local_place)
    lab.revision('AddColumn(table="t", column="st.b.f: float64")')
    # An append makes the commit stage again, so a writer without a pause could keep it from landing for long.
    with Appender(lab, "t", lambda number: {"id": 10 + number, "st": {"a": "w"}}, pause=0.5) as writer:
        writer.over.wait(0.6)
        lab.upgrade()
    assert lab.dataset("t").count_rows() == 4 + len(writer.told)


def test_a_column_that_is_dropped_and_added_again_beside_one_other(tmp_path, local_place):
    lab = begun(tmp_path, local_place, pa.table({"id": [1, 2], "f": [1, 2]}))
    lab.revision('DropColumn(table="t", column="f"), AddColumn(table="t", column="f: int64")')
    lab.upgrade()
    assert lab.rows("t") == [{"id": 1, "f": None}, {"id": 2, "f": None}]


def without_nulls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "null_field", lambda table, *_: [one.metadata for one in table.fragments])


def test_what_lance_cannot_read_is_not_committed(tmp_path, local_place, monkeypatch):
    without_nulls(monkeypatch)
    lab = begun(tmp_path, local_place)
    before = lab.dataset("t").version
    lab.revision('AddColumn(table="t", column="st.b.f: float64")')
    with pytest.raises(LancemigError, match="programs could not read t afterwards"):
        lab.upgrade()
    live = lab.dataset("t")
    assert live.version == before
    assert live.to_table(filter="id = 1").num_rows == 1
    assert lab.catalog().in_flight() is None
    monkeypatch.undo()
    lab.upgrade()
    assert not list(reads(lab.dataset("t"), "st.b.f"))


def test_each_layout_of_files_is_read(tmp_path, local_place, monkeypatch):
    """The first fragment holds the field, the second does not."""
    lab = begun(tmp_path, local_place)
    lab.revision('AddColumn(table="t", column="n: int8")')
    lab.upgrade()
    real = staging.null_field

    def half(table: Table, field: pa.Field, schema: Any) -> Any:
        first = real(table, field, schema)[0]
        return [first, *(one.metadata for one in table.fragments[1:])]

    monkeypatch.setattr(staging, "null_field", half)
    lab.revision('AddColumn(table="t", column="st.b.f: float64")')
    with pytest.raises(LancemigError, match="programs could not read t afterwards"):
        lab.upgrade()


def test_a_table_that_cannot_be_read_before_is_not_blamed_on_the_change(tmp_path, local_place):
    lab = begun(tmp_path, local_place)
    table = lab.catalog().store.tables.open(ROOT, "t")
    staged = staging.renamed_column(table, "st", "s")
    for file in Path(table.uri).glob("data/*"):
        file.unlink()
    with pytest.raises(LancemigError) as failed:
        require_readable(table, staged, {})
    assert not isinstance(failed.value, PlanError)


def test_a_transaction_that_keeps_the_schema_is_not_read(tmp_path, local_place, monkeypatch):
    lab = begun(tmp_path, local_place)
    table = lab.catalog().store.tables.open(ROOT, "t")
    staged = staging.deleted_rows(table, "id = 1")
    assert staged is not None
    monkeypatch.setattr(lance.LanceDataset, "commit", None)
    require_readable(table, staged, {})


@pytest.mark.parametrize("name", ["`st", "s t", "st%", "st?", "größe", "select", "a/b"])
def test_names_do_not_matter(tmp_path, local_place, name):
    lab = begun(tmp_path, local_place, pa.table({name: pa.array(ROWS, STRUCT), "id": [1, 2, 3, 4]}))
    table = lab.catalog().store.tables.open(ROOT, "t")
    require_readable(table, staging.null_column(table, pa.field("n", pa.int8()), {}), {})
    require_readable(table, staging.null_column(table, pa.field(f"{name}.n", pa.int8()), {}), {})


def test_a_bucket_is_read_too(tmp_path, s3_place, monkeypatch):
    lab = begun(tmp_path, s3_place)
    lab.revision('AddColumn(table="t", column="st.b.f: float64"), AddColumn(table="t", column="n: int8")')
    with monkeypatch.context() as broken:
        without_nulls(broken)
        with pytest.raises(LancemigError, match="programs could not read t afterwards"):
            lab.upgrade()
    lab.upgrade()
    assert not list(reads(lab.dataset("t"), "st.b.f"))


@pytest.mark.parametrize("path", ["folder with space", "50%", "a#b", "ü"])
def test_the_place_of_the_table_does_not_matter(tmp_path, new_place: Callable[[str], Place], path):
    folder = tmp_path / path
    uri = str(folder / "t.lance")
    dataset = lance.write_dataset(rows(), uri, data_storage_version="2.2")
    table = Table("t", ROOT, dataset)
    require_readable(table, staging.null_column(table, pa.field("n", pa.int8()), {}), {})


def test_the_plan_names_the_way_out_for_storage_version_0_1(tmp_path, local_place):
    lab = begun(tmp_path, local_place, pa.table({"id": [1, 2]}), data_storage_version="legacy")
    lab.revision('AddColumn(table="t", column="n: string")')
    with pytest.raises(PlanError) as refused:
        lab.upgrade()
    assert 'RewriteTable(table="t", data_storage_version="stable")' in str(refused.value.next_step)
    (tmp_path / "versions" / "0001.py").unlink()
    lab.written.clear()
    lab.revision(
        'RewriteTable(table="t", data_storage_version="stable"), AddColumn(table="t", column="n: string")'
    )
    lab.upgrade()
    assert lab.rows("t") == [{"id": 1, "n": None}, {"id": 2, "n": None}]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ('AddColumn(table="t", column="n: int64", sql="id * 2")', {"n": 2}),
        ('UpdateRows(table="t", set={"x": "x + 1"})', {"x": 2}),
        ('RetypeColumn(table="t", column="x", to="float64")', {"x": 1.0}),
        ('RenameColumn(table="t", column="x", to="y")', {"y": 1}),
    ],
)
def test_other_operations_on_storage_version_0_1(tmp_path, local_place, operation, expected):
    lab = begun(tmp_path, local_place, pa.table({"id": [1, 2], "x": [1, 1]}), data_storage_version="legacy")
    lab.revision(operation)
    lab.upgrade()
    assert lab.rows("t")[0].items() >= expected.items()


def test_a_plan_reads_and_writes_nothing(tmp_path, local_place):
    lab = begun(tmp_path, local_place)
    files = sorted((tmp_path / "v1").rglob("*"))
    probe = LiveProbe(lab.catalog().store.tables, ROOT)
    probe.null_column("t", lab.dataset("t").schema, pa.field("n", pa.int8()), live=True)
    probe.null_column("other", lab.dataset("t").schema, pa.field("st.b.n", pa.int8()), live=False)
    assert sorted((tmp_path / "v1").rglob("*")) == files
    assert committer.require_readable is require_readable
