"""How a table differs from another: what is told, and what operations would trip over."""

import pyarrow as pa
import pytest

from lancemig.catalog.drift import catalog_drift, drift
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema

COLUMNS = pa.schema([("id", pa.int64()), ("p", pa.struct([("x", pa.int8()), ("y", pa.string())]))])
INDEX = Index(name="i", column="id", type="BTREE")
TABLE = TableSchema(columns=COLUMNS, key=("id",), indices=(INDEX,), metadata={"a": "b"})


def with_columns(*fields: pa.Field) -> dict[str, pa.Schema]:
    return {"columns": pa.schema(fields)}


def test_equal_schemas_do_not_differ():
    assert drift(TABLE, TABLE) == []


def test_the_order_of_columns_is_no_difference():
    assert drift(TABLE, TABLE.model_copy(update=with_columns(*list(COLUMNS)[::-1]))) == []


def test_what_lance_makes_of_a_type_is_no_difference():
    views = TABLE.model_copy(update=with_columns(pa.field("v", pa.string_view())))
    assert drift(views, TABLE.model_copy(update=with_columns(pa.field("v", pa.string())))) == []


ID, P = COLUMNS
STRUCTURAL = {
    "column id was dropped": with_columns(P),
    "column z was added: int8": with_columns(ID, P, pa.field("z", pa.int8())),
    "column p.y was dropped": with_columns(ID, pa.field("p", pa.struct([("x", pa.int8())]))),
    "column id is int32, not int64": with_columns(ID.with_type(pa.int32()), P),
    "column id is not nullable, but should be": with_columns(ID.with_nullable(False), P),
    "the key is unknown, not id": {"key": ()},
    "index i was dropped": {"indices": ()},
}
BESIDE = {
    "metadata 'unit' of column id is 's', but was not declared": with_columns(
        ID.with_metadata({"unit": "s"}), P
    ),
    "metadata 'a' of the table is missing, expected 'b'": {"metadata": {}},
    "index j on id was added (BITMAP)": {"indices": (INDEX, Index(name="j", column="id", type="BITMAP"))},
    "index i: type is BITMAP, not BTREE": {"indices": (INDEX.model_copy(update={"type": "BITMAP"}),)},
}


@pytest.mark.parametrize(("said", "change"), [*STRUCTURAL.items(), *BESIDE.items()])
def test_a_difference_is_a_sentence(said, change):
    (found,) = drift(TABLE, TABLE.model_copy(update=change))
    assert found.message == said
    assert found.structural == (said in STRUCTURAL)


def test_metadata_inside_lists_and_maps_is_told_by_its_path():
    def table(unit: str) -> TableSchema:
        field = pa.field("x", pa.int8(), metadata={"unit": unit})
        of = pa.map_(pa.string(), pa.list_(pa.field("element", pa.struct([field]))))
        return TABLE.model_copy(update=with_columns(pa.field("m", of)))

    (found,) = drift(table("s"), table("ms"))
    assert found.message == "metadata 'unit' of column m.value.item.x is 'ms', not 's'"
    assert found.code == "LM310"


def test_of_catalogs_the_tables_are_told_too():
    found = catalog_drift(
        CatalogSchema(tables={"a": TABLE, "b": TABLE}),
        CatalogSchema(tables={"b": TABLE.model_copy(update={"key": ()}), "c": TABLE}),
    )
    assert [one.message for one in found] == [
        "a: the table is missing",
        "b: the key is unknown, not id",
        "c: the table was added",
    ]
    assert all(one.structural for one in found)


def test_how_many_partitions_lance_makes_is_its_own_affair():
    vectors = Index(name="v", column="v", type="IVF_PQ", params={"num_partitions": 64, "num_sub_vectors": 4})
    there = vectors.model_copy(update={"params": {"num_partitions": 1, "num_sub_vectors": 8}})
    table = TABLE.model_copy(update={"indices": (vectors,)})
    found = drift(table, table.model_copy(update={"indices": (there,)}))
    assert [one.message for one in found] == ["index v: num_sub_vectors is 8, not 4"]
