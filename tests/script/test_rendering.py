"""Operations become text that loads as equal operations, whatever their fields hold."""

import lance
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lancemig
from lancemig.catalog.operations import (
    AddColumn,
    CreateIndex,
    CreateTable,
    DropColumn,
    Operation,
    RetypeColumn,
    SetMetadata,
    UpsertRows,
)
from lancemig.errors import PlanError
from lancemig.script.layout import laid_out
from lancemig.script.rendering import rendered

LEAVES = [
    pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(),
    pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary(16), pa.date32(),
    pa.date64(), pa.time32("ms"), pa.time64("ns"), pa.timestamp("us"), pa.timestamp("ns", "Europe/Berlin"),
    pa.duration("s"), pa.decimal128(10, 3), pa.decimal256(40, -2), pa.null(), pa.uuid(), pa.json_(),
    pa.bool8(), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int16(), pa.int64(), ordered=True),
]  # fmt: skip
NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="."), min_size=1, max_size=6)
METADATA = st.none() | st.dictionaries(NAMES, NAMES, min_size=1, max_size=2)


def named(types: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.Field]:
    return st.builds(
        lambda name, of, null, metadata: pa.field(name, of, null or of == pa.null(), metadata),
        NAMES, types, st.booleans(), METADATA,
    )  # fmt: skip


def nested(types: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    fields = named(types)
    return (
        types.map(pa.list_)
        | fields.map(pa.list_)
        | fields.map(pa.large_list)
        | st.tuples(fields, st.integers(1, 9)).map(lambda pair: pa.list_(*pair))
        | st.lists(fields, max_size=3).map(pa.struct)
        | st.tuples(types, st.booleans()).map(
            lambda p: pa.map_(pa.string(), pa.field("value", p[0], p[1] or p[0] == pa.null()))
        )
    )


TYPES = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=5)
FIELDS = named(TYPES)


def loaded(text: str) -> Operation:
    names = {name: getattr(lancemig, name) for name in lancemig.__all__}
    found = eval(text, {"pa": pa, "lance": lance, **names})  # noqa: S307
    assert isinstance(found, Operation)
    return found


@settings(deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=4), METADATA)
def test_any_table_loads_as_it_was_rendered(fields: list[pa.Field], metadata: dict[str, str] | None) -> None:
    table = CreateTable(table="t", schema=pa.schema(fields, metadata=metadata))
    found = loaded(laid_out(rendered(table), indent=4))
    assert isinstance(found, CreateTable)
    assert found.columns.equals(table.columns, check_metadata=True)


@pytest.mark.parametrize(
    "operation",
    [
        AddColumn(table="t", column=pa.field("a.b", pa.string()), sql=None),
        CreateIndex(table="t", column="v", type="IVF_PQ", params={"num_partitions": 4, "metric": "cosine"}),
        DropColumn(table="t", column='odd "name"'),
        RetypeColumn(table="t", column="x", to=pa.float32(), using="x / 2.5"),
        SetMetadata(table="t", metadata={"a": "it's", "b": None}, column="c"),
        UpsertRows(table="t", rows=[{"id": 1, "x": float("nan")}, {"id": 2, "x": 1e-9}], on=("id",)),
    ],
    ids=lambda operation: operation.op,
)
def test_an_operation_loads_as_it_was_rendered(operation: Operation) -> None:
    assert repr(loaded(rendered(operation))) == repr(operation)


def test_a_blob_is_made_by_lance() -> None:
    table = CreateTable(table="t", schema=pa.schema([lance.blob_field("b")]))
    found = loaded(rendered(table))
    assert isinstance(found, CreateTable)
    assert found.columns == table.columns


def test_what_no_text_makes_is_refused() -> None:
    rows = pa.table({"id": [1]})
    with pytest.raises(PlanError, match="Table cannot be written"):
        rendered(UpsertRows(table="t", rows=rows, on=("id",)))
    with pytest.raises(PlanError, match="fixed_shape_tensor"):
        tensor = pa.fixed_shape_tensor(pa.int8(), [2, 2])
        rendered(CreateTable(table="t", schema=pa.schema([("a", tensor)])))
