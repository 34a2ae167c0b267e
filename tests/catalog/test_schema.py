"""Catalog schemas as values: finding and editing columns."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, column, has_column, replace_field
from lancemig.errors import PlanError

COLUMNS = pa.schema(
    [("id", pa.int64()), ("p", pa.struct([("x", pa.int8()), ("q", pa.struct([("y", pa.string())]))]))]
)
TABLE = TableSchema(columns=COLUMNS, key=("id",), indices=(Index(name="i", column="id", type="BTREE"),))


def test_a_path_leads_to_a_field():
    assert column("t", COLUMNS, "p.q.y").type == pa.string()
    assert has_column(COLUMNS, "p.x")
    assert not has_column(COLUMNS, "p.z")


@pytest.mark.parametrize(
    ("path", "there"), [("nope", "id, p"), ("p.nope", "x, q"), ("p.q.nope", "y"), ("id.x", "id, p")]
)
def test_an_unknown_path_names_what_there_is(path, there):
    with pytest.raises(PlanError, match=f"'t' has no column '{path}'; columns: {there}$"):
        column("t", COLUMNS, path)


def test_a_field_is_edited_in_its_place():
    assert pa.schema(replace_field(COLUMNS, "p.q.y", [pa.field("z", pa.int8())])) == pa.schema(
        [("id", pa.int64()), ("p", pa.struct([("x", pa.int8()), ("q", pa.struct([("z", pa.int8())]))]))]
    )
    assert pa.schema(replace_field(COLUMNS, "p", [])) == pa.schema([("id", pa.int64())])


def test_editing_keeps_metadata_and_nullability():
    field = pa.field(
        "p", pa.struct([("x", pa.int8()), ("y", pa.int8())]), nullable=False, metadata={"a": "b"}
    )
    (found,) = replace_field([field], "p.x", [])
    assert not found.nullable
    assert found.metadata == {b"a": b"b"}


def test_an_unknown_table_names_those_there_are():
    catalog = CatalogSchema(tables={"b": TABLE, "a": TABLE})
    with pytest.raises(PlanError, match="table 'c' does not exist; tables: a, b"):
        catalog.table("c")
    with pytest.raises(PlanError, match="tables: no tables"):
        CatalogSchema().without_table("c")
    with pytest.raises(PlanError, match="already exists"):
        catalog.require_absent("a")


def test_schemas_are_frozen_and_refuse_unknown_fields():
    with pytest.raises(ValidationError, match="frozen"):
        TABLE.key = ()
    with pytest.raises(ValidationError, match="Extra inputs"):
        TableSchema(columns=COLUMNS, colour="red")
