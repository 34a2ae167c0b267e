"""Models beside a catalog that was found: which operations, in which order, with which remarks."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lancemig import Index, Table
from lancemig.autogenerate.columns import convertible, widens
from lancemig.autogenerate.diff import ModelChanges, diff_models
from lancemig.autogenerate.renames import read_renames
from lancemig.catalog.arrow_types import format_type
from lancemig.catalog.models import Model, model_of
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.errors import PlanError

REQUIRED = pa.field("lat", pa.float64(), nullable=False)
LON = pa.field("lon", pa.float64())
PLACE = pa.struct([REQUIRED, LON])
VECTOR = pa.list_(pa.float32(), 2)
DOCS = TableSchema(
    columns=pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("text", pa.string(), metadata={"unit": "words"}),
            pa.field("place", pa.struct([("lat", pa.float64()), ("lon", pa.float64())])),
            pa.field("vector", VECTOR),
        ]
    ),
    key=("id",),
    indices=(
        Index(column="text", type="INVERTED", params={"with_position": True}),
        Index(column="vector", type="IVF_PQ", params={"metric": "l2", "num_partitions": 4}),
    ),
    metadata={"owner": "ursa"},
)
FOUND = CatalogSchema(tables={"docs": DOCS})


def models(**tables: Any) -> dict[str, Model]:
    declared = {n: t if isinstance(t, Table) else Table(t) for n, t in tables.items()}
    return {n: model_of(n, t, t.declared) for n, t in declared.items()}


def columns(*changed: pa.Field, without: tuple[str, ...] = ()) -> pa.Schema:
    """The columns of docs, some replaced, added or left out."""
    new = {field.name: field for field in changed}
    kept = [new.pop(field.name, field) for field in DOCS.columns if field.name not in without]
    return pa.schema([*kept, *new.values()])


def changes(table: Any, found: CatalogSchema = FOUND, **options: Any) -> ModelChanges:
    return diff_models(models(docs=table), found, **options)


def said(table: Any, **options: Any) -> list[str]:
    return [sentence.removeprefix("docs: ") for sentence in changes(table, **options).sentences]


def test_what_is_not_said_is_no_difference():
    assert said(DOCS.columns) == []
    assert said(columns(*list(DOCS.columns)[::-1])) == []


def test_what_is_said_to_be_none_is_taken_away():
    table = Table(DOCS.columns, key=(), indices=(), metadata={})
    assert said(table) == [
        "drop index text_idx",
        "drop index vector_idx",
        "remove metadata owner",
        "remove key",
    ]


@pytest.mark.parametrize(
    ("table", "does"),
    [
        (columns(pa.field("n", pa.int8())), ["add column n: int8"]),
        (columns(without=("text",)), ["drop column text"]),
        (
            columns(pa.field("text", pa.large_string(), metadata={"unit": "words"})),
            ["retype column text to large_string"],
        ),
        (columns(pa.field("id", pa.int64())), ["allow nulls in column id"]),
        (
            columns(pa.field("text", pa.string(), nullable=False, metadata={"unit": "words"})),
            ["require column text (non-null)"],
        ),
        (columns(pa.field("text", pa.string())), ["remove metadata unit on text"]),
        (
            columns(pa.field("place", pa.struct([("lon", pa.float32()), ("alt", pa.float64())]))),
            ["add column place.alt: float64", "retype column place.lon to float32", "drop column place.lat"],
        ),
        (
            columns(pa.field("place", pa.struct([("lon", pa.float64()), ("lat", pa.float64())]))),
            [],
        ),
        (
            columns(pa.field("n", pa.int8(), nullable=False)),
            ["add column n: int8 = fill_docs_n(id)", "require column n (non-null)"],
        ),
        (
            columns(pa.field("text", pa.list_(pa.string()))),
            [
                "add column text__new: list<item: string> = convert_docs_text(text)",
                "drop column text",
                "rename column text__new to text",
                "create index text_idx on text (INVERTED, with_position=True)",
            ],
        ),
        (
            columns(pa.field("vector", pa.list_(pa.float32(), 3))),
            [
                "drop column vector",
                "add column vector: fixed_size_list<item: float32>[3] = embed_docs_vector(text)",
                "create index vector_idx on vector (IVF_PQ, metric=l2, num_partitions=4)",
            ],
        ),
        (
            columns(
                pa.field("place", pa.struct([pa.field("lat", pa.float64(), False), ("lon", pa.float64())]))
            ),
            [
                f"add column place__new: {format_type(PLACE)} = convert_docs_place(place)",
                "drop column place",
                "rename column place__new to place",
            ],
        ),
        (
            columns(pa.field("uid", pa.string(), nullable=False), without=("id",)),
            [
                "remove key",
                "add column uid: string = fill_docs_uid(id)",
                "drop column id",
                "require column uid (non-null)",
            ],
        ),
        (
            columns(pa.field("text", pa.large_binary(), metadata={"lance-encoding:blob": "true"})),
            ["drop index text_idx", "build table, 4 columns, key id, rows from rows_of_docs()"],
        ),
        (pa.schema([("other", pa.int8())]), ["build table, 1 column, rows from rows_of_docs()"]),
    ],
)
def test_a_difference_becomes_the_smallest_operations(table: pa.Schema, does: list[str]):
    assert said(table) == does


def inside(entries: dict[str, str] | None) -> pa.Schema:
    """Columns with fields inside them that have metadata of their own."""
    number = pa.field("n", pa.int8(), metadata=entries)
    return pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("tags", pa.list_(number)),
            pa.field("runs", pa.large_list(pa.struct([number, pa.field("on", pa.list_(number))]))),
            pa.field("by", pa.map_(number.with_nullable(False), number)),
            pa.field("info", pa.struct([pa.field("tags", pa.list_(number))])),
        ]
    )


def test_metadata_of_what_is_inside_a_column_is_compared():
    found = CatalogSchema(tables={"docs": TableSchema(columns=inside({"unit": "m", "of": "x"}))})
    paths = ("tags.n", "runs.item.n", "runs.item.on.n", "by.key", "by.value", "info.tags.n")
    made = changes(inside({"unit": "mm"}), found)
    assert made.sentences == tuple(
        f"docs: set metadata unit = 'mm', remove metadata of on {path}" for path in paths
    )
    after = found
    for operation in made.operations:
        after = operation.after(after)
    assert not changes(inside({"unit": "mm"}), after).changes
    for operation in made.operations[::-1]:
        (back,) = operation.inverse(found)
        after = back.after(after)
    assert not changes(inside({"unit": "m", "of": "x"}), after).changes


def test_metadata_that_no_path_leads_to_is_named():
    def odd(unit: str) -> pa.Schema:
        field = pa.field("a.b", pa.int8(), metadata={"unit": unit})
        return pa.schema([("id", pa.int64()), ("runs", pa.list_(pa.struct([field])))])

    found = CatalogSchema(tables={"docs": TableSchema(columns=odd("m"))})
    assert not changes(odd("m"), found).changes
    with pytest.raises(PlanError, match=r"docs\.runs\.item\.a\.b: its metadata cannot be changed"):
        changes(odd("mm"), found)


def test_an_index_is_made_anew_where_a_parameter_that_is_given_differs():
    wanted = [
        Index(column="text", type="INVERTED", params={"with_position": True, "stem": False}),
        Index(column="vector", type="IVF_PQ", params={"metric": "L2"}),
    ]
    table = Table(DOCS.columns, indices=tuple(wanted))
    assert said(table) == [
        "drop index text_idx",
        "create index text_idx on text (INVERTED, with_position=True, stem=False)",
    ]
    assert said(table, live=True) == []


def described(model: str, **settings: Any) -> dict[str, str]:
    function = {"name": "openai", "model": {"name": model, **settings}}
    return {
        "embedding_functions": json.dumps([{**function, "source_column": "text", "vector_column": "vector"}])
    }


def test_another_embedding_model_of_lancedb_is_a_rebuild():
    found = CatalogSchema(tables={"docs": DOCS.model_copy(update={"metadata": described("small")})})
    made = changes(Table(DOCS.columns, metadata=described("large")), found)
    assert made.rebuild
    assert [text.partition(" = ")[0] for text in made.sentences] == [
        "docs: drop index vector_idx",
        "docs: backfill vector from embed_docs_vector(text)",
        "docs: set metadata embedding_functions",
        "docs: create index vector_idx on vector (IVF_PQ, metric=l2, num_partitions=4)",
    ]
    assert not changes(Table(DOCS.columns, metadata=described("small")), found).changes
    # A setting that a newer LanceDB tells besides is written down, and computes nothing.
    newer = changes(Table(DOCS.columns, metadata=described("small", max_retries=7)), found)
    assert [operation.op for operation in newer.operations] == ["set_metadata"]


def test_the_source_of_a_vector_may_be_renamed():
    found = CatalogSchema(tables={"docs": DOCS.model_copy(update={"metadata": described("small")})})
    renamed = [f.with_name({"text": "body", "vector": "vec"}.get(f.name, f.name)) for f in DOCS.columns]

    def wanted(model: str) -> dict[str, Model]:
        metadata = described(model)["embedding_functions"]
        metadata = metadata.replace('"text"', '"body"').replace('"vector"', '"vec"')
        return models(docs=Table(pa.schema(renamed), metadata={"embedding_functions": metadata}))

    def made(model: str) -> list[str]:
        said = read_renames(["docs.text=body", "docs.vector=vec"], wanted(model), found)
        return [operation.op for operation in diff_models(wanted(model), found, said).operations]

    assert made("small") == ["rename_column", "rename_column"]  # the metadata follows
    assert "backfill_columns" in made("large")


def test_what_makes_a_vector_otherwise_is_said():
    def why(old: dict[str, str], new: dict[str, str]) -> str:
        found = CatalogSchema(tables={"docs": DOCS.model_copy(update={"metadata": old})})
        made = changes(Table(DOCS.columns, metadata=new), found)
        return next(one.remarks[0] for one in made.changes if one.operation.op == "backfill_columns")

    other = {"embedding_functions": described("m")["embedding_functions"].replace('"text"', '"id"')}
    assert "LanceDB now computes it from id, previously from text." in why(described("m"), other)
    assert "it with size 4, previously with 8." in why(described("m", size=8), described("m", size=4))


def test_another_model_in_the_metadata_of_a_vector_is_a_rebuild():
    def vector(model: str) -> pa.Schema:
        return columns(pa.field("vector", VECTOR, metadata={"embedding_model": model}))

    found = CatalogSchema(tables={"docs": DOCS.model_copy(update={"columns": vector("small")})})
    made = changes(vector("large"), found)
    assert made.rebuild
    assert "its embedding_model is now 'large', previously 'small'" in made.changes[1].remarks[0]
    assert not changes(vector("small")).rebuild


def test_a_rename_is_asked_for_and_never_made():
    made = changes(columns(pa.field("body", pa.string()), without=("text",)))
    assert [operation.op for operation in made.operations] == ["add_column", "drop_column"]
    assert made.changes[1].remarks[1:] == (
        "Renamed to body (50% similar)? Then run instead:",
        "lancemig revision --autogenerate --rename docs.text=body",
    )
    made = diff_models(models(papers=DOCS.columns), FOUND)
    assert [operation.op for operation in made.operations] == ["create_table", "drop_table"]
    assert made.changes[1].remarks[2] == "lancemig revision --autogenerate --rename docs=papers"


def test_what_is_said_is_renamed():
    wanted = models(
        papers=columns(pa.field("body", pa.string(), metadata={"unit": "words"}), without=("text",))
    )
    for text in ("papers.text=body", "docs.text=body"):
        made = diff_models(wanted, FOUND, read_renames(["docs=papers", text], wanted, FOUND))
        assert made.sentences == ("docs: rename table to papers", "papers: rename column text to body")


def test_a_table_may_have_periods_in_its_name():
    found = CatalogSchema(tables={"a": DOCS, "a.text": DOCS})
    wanted = models(
        **{"a": DOCS.columns, "a.text": columns(pa.field("body", pa.string()), without=("text",))}
    )
    assert read_renames(["a.text.text=body"], wanted, found).columns == {("a.text", "text"): "body"}


def test_a_live_table_has_as_many_partitions_as_lance_finds_right():
    table = Table(DOCS.columns, indices=(DOCS.indices[0], Index(column="vector", type="IVF_PQ", params={
        "metric": "euclidean", "num_partitions": 256})))  # fmt: skip
    assert said(table, live=True) == []
    assert said(table)[0] == "drop index vector_idx"


@pytest.mark.parametrize(
    ("old", "new", "wide"),
    [
        (pa.int8(), pa.int64(), True),
        (pa.int64(), pa.int8(), False),
        (pa.uint8(), pa.int16(), True),
        (pa.uint8(), pa.int8(), False),
        (pa.int32(), pa.float64(), True),
        (pa.int64(), pa.float64(), False),
        (pa.string(), pa.large_string(), True),
        (pa.string(), pa.int64(), False),
        (pa.bool_(), pa.int8(), True),
        (pa.int64(), pa.string(), True),
        (pa.int8(), pa.bool_(), False),
        (pa.decimal128(10, 2), pa.decimal128(20, 4), True),
        (pa.decimal128(10, 2), pa.decimal128(10, 3), False),
        (pa.dictionary(pa.int8(), pa.string()), pa.large_string(), True),
        (pa.binary(4), pa.binary(), True),
        (pa.time32("ms"), pa.time64("us"), True),
        (pa.time64("ns"), pa.time64("us"), False),
        (pa.list_(pa.float32()), pa.list_(pa.float64()), True),
        (pa.list_(pa.float64()), pa.list_(pa.float32()), False),
    ],
    ids=str,
)
def test_a_remark_stands_where_a_cast_could_be_refused(old: pa.DataType, new: pa.DataType, wide: bool):
    assert convertible(old, new)
    assert widens(old, new) == wide


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (VECTOR, pa.list_(pa.float32(), 3)),
        (pa.list_(pa.float32()), VECTOR),
        (pa.int64(), pa.dictionary(pa.int8(), pa.string())),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
        (pa.string(), pa.json_()),
        (pa.int8(), pa.list_(pa.int8())),
    ],
    ids=str,
)
def test_what_arrow_casts_only_while_there_are_no_values_is_not_cast(old: pa.DataType, new: pa.DataType):
    assert not convertible(old, new)


NAMES = st.sampled_from(["a", "b", "c"])
PLAIN = st.sampled_from([pa.int8(), pa.int64(), pa.string(), pa.float64(), VECTOR, pa.list_(pa.float32(), 3)])
TYPES = st.recursive(
    PLAIN,
    lambda of: (
        st.builds(pa.list_, of)
        | st.lists(
            st.builds(pa.field, NAMES, of, st.booleans()), min_size=1, max_size=2, unique_by=lambda f: f.name
        ).map(pa.struct)
    ),
    max_leaves=4,
)
FIELDS = st.builds(
    pa.field, NAMES, TYPES, st.booleans(), st.dictionaries(NAMES, NAMES, max_size=1).map(lambda m: m or None)
)
SCHEMAS = st.lists(FIELDS, min_size=1, max_size=3, unique_by=lambda f: f.name).map(pa.schema)
CATALOGS = st.dictionaries(st.sampled_from(["t", "u", "v"]), SCHEMAS, max_size=2)


@pytest.mark.slow
@given(CATALOGS, CATALOGS)
@settings(max_examples=300, deadline=None)
def test_what_is_written_replays_to_what_the_models_say(
    first: dict[str, pa.Schema], second: dict[str, pa.Schema]
):
    catalog = CatalogSchema()
    for tables in (first, second):
        wanted = models(**tables)
        for operation in diff_models(wanted, catalog).operations:
            catalog = operation.after(catalog)
        assert catalog.tables.keys() == wanted.keys()
        assert diff_models(wanted, catalog).sentences == ()
