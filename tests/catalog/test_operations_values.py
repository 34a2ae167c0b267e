"""Operations as values: what they make of a schema, and what takes them back."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lancemig import (
    AddColumn,
    CreateIndex,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    SetMetadata,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.operations import AnyOperation, Kind, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.errors import Irreversible, PlanError

START = CatalogSchema(
    tables={
        "t": TableSchema(
            columns=pa.schema(
                [
                    pa.field("id", pa.int64(), nullable=False),
                    pa.field("x", pa.float64(), metadata={"unit": "m"}),
                    pa.field("s", pa.string()),
                    pa.field("p", pa.struct([("a", pa.int32()), ("b", pa.string())])),
                ]
            ),
            key=("id",),
            metadata={"owner": "ursa"},
        ),
        "u": TableSchema(columns=pa.schema([("n", pa.int8()), ("m", pa.int8())])),
    }
)
TABLES = st.sampled_from(["t", "u", "v"])
COLUMNS = st.sampled_from(["id", "x", "s", "p", "p.a", "p.b", "n", "m", "y"])
NAMES = st.sampled_from(["x", "y", "z", "a", "c"])
KINDS = st.sampled_from(["BTREE", "BITMAP", "ZONEMAP"])
SQL = st.just("null")

OPERATIONS = st.one_of(
    st.builds(
        AddColumn,
        table=TABLES,
        column=st.builds(pa.field, st.sampled_from(["y", "z", "p.c"]), st.just(pa.int8())),
    ),
    st.builds(CreateIndex, table=TABLES, column=COLUMNS, type=KINDS),
    st.builds(DropIndex, table=TABLES, name=st.sampled_from(["x_idx", "p.a_idx"])),
    st.builds(RenameColumn, table=TABLES, column=COLUMNS, to=NAMES),
    st.builds(RetypeColumn, table=TABLES, column=COLUMNS, to=st.sampled_from([pa.int64(), pa.string()])),
    st.builds(RequireColumn, table=TABLES, column=st.sampled_from(["id", "x", "n"])),
    st.builds(RelaxColumn, table=TABLES, column=st.sampled_from(["id", "x", "n"])),
    st.builds(RenameTable, table=TABLES, to=TABLES),
    st.builds(CreateTable, table=TABLES, schema=st.just({"id": "int64"})),
    st.builds(RewriteTable, table=TABLES, order_by=st.just(("id",))),
    st.builds(SetMetadata, table=TABLES, metadata=st.dictionaries(NAMES, st.none() | NAMES, min_size=1)),
    st.builds(
        SetMetadata,
        table=TABLES,
        column=COLUMNS,
        metadata=st.dictionaries(st.sampled_from(["unit", "note"]), st.none() | NAMES, min_size=1),
    ),
    st.builds(UpdateRows, table=TABLES, set=st.dictionaries(COLUMNS, SQL, min_size=1, max_size=2)),
    st.builds(UpsertRows, table=TABLES, rows=st.just([]), on=st.just(("id",))),
    st.builds(
        UpsertRows,
        table=TABLES,
        rows=st.just([]),
        on=st.just(("id",)),
        when_exists=st.just("extend"),
        extend=st.dictionaries(
            st.sampled_from(["a", "b", "c"]), st.sampled_from(["max", "min", "union", "coalesce"]), min_size=1
        ),
    ),
)


def seen(catalog: CatalogSchema) -> dict[str, Any]:
    return {
        name: (
            [(f.name, f.type, f.nullable, f.metadata or {}) for f in table.columns],
            table.key,
            table.metadata,
            {index.name: index for index in table.indices},
        )
        for name, table in catalog.tables.items()
    }


@given(st.lists(OPERATIONS, max_size=8))
def test_inverses_in_reverse_order_lead_back(operations):
    catalog, undo = START, []
    for operation in operations:
        try:
            after = operation.after(catalog)
        except PlanError:
            continue
        undo = [*operation.inverse(catalog), *undo]
        catalog = after
    for operation in undo:
        catalog = operation.after(catalog)
    assert seen(catalog) == seen(START)


@given(OPERATIONS)
def test_after_leaves_the_given_catalog_alone(operation):
    before = seen(START)
    try:
        operation.after(START)
    except PlanError:
        return
    assert seen(START) == before


@given(OPERATIONS)
def test_every_operation_says_what_it_does_in_one_line(operation):
    assert operation.describe()
    assert "\n" not in operation.describe()
    assert isinstance(operation.kind, Kind)
    assert operation.why


@given(OPERATIONS)
def test_an_operation_reads_back_from_its_document(operation):
    if isinstance(operation, UpsertRows | CreateTable):
        return
    document = operation.model_dump(mode="json", by_alias=True)
    assert seen_operation(TypeAdapter(AnyOperation).validate_python(document)) == seen_operation(operation)


def seen_operation(operation: Operation) -> tuple[type, dict[str, Any]]:
    return type(operation), operation.model_dump(mode="json", by_alias=True)


def test_operations_are_frozen_keyword_only_and_refuse_unknown_fields():
    operation = DropTable(table="t")
    with pytest.raises(ValidationError, match="frozen"):
        operation.table = "u"
    with pytest.raises(ValidationError, match="Extra inputs"):
        DropTable(table="t", cascade=True)
    with pytest.raises(TypeError):
        DropTable("t")


@pytest.mark.parametrize(
    "operation",
    [
        DropTable(table="t"),
        DropColumn(table="t", column="x"),
        RetypeColumn(table="t", column="x", to="int8", using="1"),
    ],
    ids=lambda operation: operation.op,
)
def test_what_loses_data_is_irreversible_with_a_next_step(operation):
    with pytest.raises(Irreversible) as refused:
        operation.inverse(START)
    assert "downgrade = [...]" in refused.value.next_step


def test_a_value_change_is_undone_by_a_step_that_is_named_later():
    operation = UpdateRows(table="t", set={"x": "1"})
    assert operation.inverse(START) == (UndoRows(table="t"),)
    assert operation.kind is Kind.DATA_ONLY


def test_an_indexed_column_is_followed_through_renames():
    operations = [
        CreateIndex(table="t", column="p.a", type="BTREE", name="i"),
        RenameColumn(table="t", column="p.a", to="c"),
        RenameColumn(table="t", column="p", to="q"),
        RenameColumn(table="t", column="id", to="rec_id"),
    ]
    catalog = START
    for operation in operations:
        catalog = operation.after(catalog)
    assert catalog.table("t").indices[0].column == "q.c"
    assert catalog.table("t").key == ("rec_id",)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a b", "../x"])
def test_a_table_is_named_as_lancedb_allows(name):
    with pytest.raises(ValidationError):
        DropTable(table=name)
