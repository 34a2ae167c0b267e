"""Edits of a Lance schema: what Lance itself makes of the same change, with the field ids of the table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from lance import LanceDataset, LanceOperation, Transaction

from lancemig.errors import PlanError
from lancemig.store.lance import schema_edit

TOLD = {"unit": "ms"}
COLUMNS = pa.schema(
    [
        pa.field("gone", pa.int64()),
        pa.field("b", pa.int64(), metadata=TOLD),
        pa.field("st", pa.struct([("x", pa.int64()), ("in", pa.struct([("y", pa.string())]))])),
        pa.field("v", pa.list_(pa.float32(), 2)),
        pa.field("l", pa.list_(pa.struct([("q", pa.int8())]))),
        pa.field("m", pa.map_(pa.string(), pa.int32())),
        pa.field("d", pa.dictionary(pa.int32(), pa.string())),
        pa.field('é "q"', pa.decimal128(9, 2), metadata=TOLD),
    ],
    metadata={"lancemig.key": "b"},
)


@pytest.fixture
def dataset(tmp_path: Path) -> LanceDataset:
    """A table that lost its first column, so that no id is the position of its field."""
    row = {"gone": 1, "b": 2, "st": {"x": 3, "in": {"y": "z"}}, "v": [1, 2], "l": [{"q": 1}], "m": [("k", 1)],
           "d": "w", 'é "q"': None}  # fmt: skip
    rows = pa.Table.from_pylist([row] * 3, schema=COLUMNS)
    made = lance.write_dataset(rows, tmp_path / "t.lance", max_rows_per_file=2, data_storage_version="2.2")
    made.drop_columns(["gone"])
    return lance.dataset(tmp_path / "t.lance")


def committed(dataset: LanceDataset, schema: Any) -> LanceDataset:
    operation = LanceOperation.Project(schema, preserves_nullability=True)
    LanceDataset.commit(dataset.uri, Transaction(dataset.version, operation))
    return lance.dataset(dataset.uri)


def all_ids(schema: Any) -> list[int]:
    return [id_ for field in schema.fields() for id_ in schema_edit.ids_in(field)]


EDITS: dict[str, tuple[Callable[[Any], Any], Callable[[LanceDataset], Any]]] = {
    "rename": (
        lambda s: schema_edit.renamed(s, "b", "e"),
        lambda t: t.alter_columns({"path": "b", "name": "e"}),
    ),
    "rename a field in a struct": (
        lambda s: schema_edit.renamed(s, "st.in.y", "ünï"),
        lambda t: t.alter_columns({"path": "st.in.y", "name": "ünï"}),
    ),
    "drop": (lambda s: schema_edit.without(s, "b"), lambda t: t.drop_columns(["b"])),
    "drop a struct": (lambda s: schema_edit.without(s, "st"), lambda t: t.drop_columns(["st"])),
    "drop a map": (lambda s: schema_edit.without(s, "m"), lambda t: t.drop_columns(["m"])),
    "drop a field of a struct": (
        lambda s: schema_edit.without(s, "st.x"),
        lambda t: t.drop_columns(["st.x"]),
    ),
    "drop the last field of a struct": (
        lambda s: schema_edit.without(s, "st.in.y"),
        lambda t: t.drop_columns(["st.in.y"]),
    ),
    "require": (
        lambda s: schema_edit.with_nullable(s, "b", nullable=False),
        lambda t: t.alter_columns({"path": "b", "nullable": False}),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_what_lance_makes_of_the_change(dataset: LanceDataset, edit: str) -> None:
    ours, lances = EDITS[edit]
    schema = ours(dataset.lance_schema)
    lances(dataset)
    after = lance.dataset(dataset.uri).lance_schema
    assert all_ids(schema) == all_ids(after)
    assert schema.to_pyarrow().equals(after.to_pyarrow(), check_metadata=True)


@pytest.mark.parametrize(
    "new",
    [
        pa.field("n", pa.int8(), metadata=TOLD),
        pa.field("n", pa.struct([("a", pa.list_(pa.struct([("b", pa.int8())])))])),
        pa.field("n", pa.dictionary(pa.int32(), pa.string())),
        pa.field("n", pa.map_(pa.string(), pa.int8())),
        pa.field("st.n", pa.int8(), metadata=TOLD),
        pa.field("st.in.n", pa.struct([("a", pa.int8())])),
        pa.field("gone", pa.string()),
    ],
    ids=str,
)
def test_a_new_column_is_what_lance_makes_of_it(dataset: LanceDataset, new: pa.Field) -> None:
    schema = schema_edit.with_null_column(dataset, new)
    *parents, name = new.name.split(".")
    nested = new.with_name(name)
    for parent in reversed(parents):
        nested = pa.field(parent, pa.struct([nested]))
    dataset.add_columns(nested)
    after = lance.dataset(dataset.uri).lance_schema
    assert sorted(all_ids(schema)) == sorted(all_ids(after))
    assert schema.to_pyarrow().equals(after.to_pyarrow(), check_metadata=True)


def test_a_new_column_gets_no_id_that_a_file_has_for_a_dropped_one(dataset: LanceDataset) -> None:
    dataset.drop_columns(['é "q"'])
    dataset = lance.dataset(dataset.uri)
    used = {id_ for f in dataset.get_fragments() for file in f.metadata.files for id_ in file.fields}
    schema = schema_edit.with_null_column(dataset, pa.field("n", pa.int8()))
    assert schema_edit.field_id(schema, "n") > max(used)


def test_a_renamed_column_keeps_its_values(dataset: LanceDataset) -> None:
    before = dataset.to_table()
    after = committed(dataset, schema_edit.renamed(dataset.lance_schema, "b", "e"))
    assert after.to_table()["e"].to_pylist() == before["b"].to_pylist()
    after.validate()


def test_an_edit_keeps_what_the_message_of_a_field_says_besides(dataset: LanceDataset) -> None:
    schema = schema_edit.renamed(dataset.lance_schema, 'é "q"', "e")
    found = schema.to_pyarrow()
    assert found.field("e").metadata == {b"unit": b"ms"}
    assert found.metadata == COLUMNS.metadata
    there_and_back = schema_edit.renamed(schema, "e", 'é "q"')
    assert there_and_back.to_pyarrow().equals(dataset.schema, check_metadata=True)


def test_a_column_takes_the_place_and_the_id_of_another(dataset: LanceDataset) -> None:
    of = schema_edit.with_null_column(dataset, pa.field("new", pa.string()))
    schema = schema_edit.replaced(of, "b", "new", nullable=False)
    arrow = schema.to_pyarrow()
    assert arrow.names == dataset.schema.names
    assert arrow.field("b").type == pa.string()
    assert not arrow.field("b").nullable
    assert schema_edit.field_id(schema, "b") == schema_edit.field_id(of, "new")


@pytest.mark.parametrize(("storage", "name"), [("legacy", "n"), ("2.1", "st.n"), ("2.0", "st.n")])
def test_a_storage_version_that_cannot_have_the_column_is_a_plan_error(
    tmp_path: Path, storage: str, name: str
) -> None:
    rows = pa.table({"st": [{"x": 1}]})
    dataset = lance.write_dataset(rows, tmp_path / "t.lance", data_storage_version=storage)
    with pytest.raises(PlanError, match=f"{name} without values to a table of storage version"):
        schema_edit.with_null_column(dataset, pa.field(name, pa.int8()))


def test_no_two_fields_get_one_name(tmp_path: Path) -> None:
    dataset = lance.write_dataset(
        pa.table({"a": [1], "b": [2], "st": [{"f": 1, "g": 2}]}),
        tmp_path / "t.lance",
        data_storage_version="2.2",
    )
    for name in ("a", "st.f"):
        with pytest.raises(PlanError, match="already has a field"):
            schema_edit.with_null_column(dataset, pa.field(name, pa.int64()))
    for path, to in (("a", "b"), ("st.f", "g")):
        with pytest.raises(PlanError, match="already has a field"):
            schema_edit.renamed(dataset.lance_schema, path, to)
    assert schema_edit.renamed(dataset.lance_schema, "a", "a").to_pyarrow().names == ["a", "b", "st"]
