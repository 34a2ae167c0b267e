"""Operations written into a file load as equal ones, and a formatter leaves the file alone."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from arrow_types import FIELDS, NAMES, SCHEMAS, TYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from lancemig import (
    AddColumn,
    BackfillColumns,
    CreateIndex,
    CreateTable,
    DeduplicateRows,
    DeleteRows,
    DropColumn,
    DropIndex,
    DropTable,
    RelaxColumn,
    RenameColumn,
    RenameTable,
    RequireColumn,
    RetypeColumn,
    RewriteTable,
    SetKey,
    SetMetadata,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.operations import Operation
from lancemig.catalog.sources import rows_stub, values_stub
from lancemig.errors import PlanError
from lancemig.revisions.chain import RevisionChain
from lancemig.revisions.header import read_header
from lancemig.revisions.loader import load_migration
from lancemig.revisions.render import function_source, literal, render_operation
from lancemig.revisions.writer import Draft, revision_file

NOW = datetime(2026, 5, 20, 19, 4, 1, tzinfo=UTC)
TABLES = st.sampled_from(["t", "a-b", "robots.arms", "_9"])
TEXTS = st.text(max_size=20) | st.sampled_from(
    ['"', "'", "\"'", "\\", '"""', "{{ x }}", "{% raw %}", "\n", "ä"]
)
KEYS = st.lists(NAMES, max_size=3).map(tuple)
METADATA = st.dictionaries(NAMES.filter(lambda n: not n.startswith("lancemig.")), TEXTS, max_size=2)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.binary(max_size=6),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(TEXTS, of, max_size=3),
    max_leaves=5,
)
DESCRIBED = st.builds(lambda f, m: f.with_metadata(m or None), FIELDS, METADATA)
COLUMNS = st.builds(
    lambda fields, m: pa.schema(fields, metadata=m or None),
    st.lists(DESCRIBED, min_size=1, max_size=4, unique_by=lambda field: field.name),
    METADATA,
)
READS = KEYS.filter(len)
PLACE = values_stub("fill_t", "Return x.")
ROWS = rows_stub("rows_of_t", 'Yield "rows" \\ of t.')

INDICES = [
    ("BTREE", {}),
    ("BTREE", {"zone_size": 4096}),
    ("IVF_PQ", {"num_partitions": 2, "metric": "cosine"}),
    ("INVERTED", {"with_position": True, "language": "English"}),
]

OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    st.builds(AddColumn, table=TABLES, column=DESCRIBED.map(lambda f: f.with_nullable(True))),
    st.builds(AddColumn, table=TABLES, column=st.just("x: int8"), sql=TEXTS),
    st.builds(AddColumn, table=TABLES, column=st.just("x: int8"), using=st.just(PLACE), reads=READS),
    st.builds(BackfillColumns, table=TABLES, columns=READS, reads=READS, using=st.just(PLACE)),
    st.builds(CreateTable, table=TABLES, schema=COLUMNS, key=KEYS, rows=st.none() | st.just(ROWS)),
    st.builds(
        lambda how, **fields: CreateIndex(type=how[0], params=how[1], **fields),
        how=st.sampled_from(INDICES),
        table=TABLES,
        column=NAMES,
        name=st.none() | NAMES,
    ),
    st.builds(DropIndex, table=TABLES, name=NAMES),
    st.builds(DropColumn, table=TABLES, column=NAMES),
    st.builds(DropTable, table=TABLES),
    st.builds(RenameColumn, table=TABLES, column=NAMES, to=NAMES.filter(lambda name: "`" not in name)),
    st.builds(RenameTable, table=TABLES, to=TABLES),
    st.builds(RequireColumn, table=TABLES, column=NAMES),
    st.builds(RelaxColumn, table=TABLES, column=NAMES),
    st.builds(RetypeColumn, table=TABLES, column=NAMES, to=TYPES, using=st.none() | TEXTS),
    st.builds(RewriteTable, table=TABLES, stable_row_ids=st.booleans(), order_by=KEYS),
    st.builds(SetKey, table=TABLES, key=KEYS),
    st.builds(
        SetMetadata,
        table=TABLES,
        column=st.none() | NAMES,
        metadata=st.dictionaries(NAMES, st.none() | TEXTS, min_size=1, max_size=2),
    ),
    st.builds(UpdateRows, table=TABLES, set=st.dictionaries(NAMES, TEXTS, min_size=1), where=TEXTS),
    st.builds(DeleteRows, table=TABLES, where=TEXTS, max_rows=st.none() | st.integers(0, 9)),
    st.builds(
        DeduplicateRows,
        table=TABLES,
        key=st.just(("a", "b")),
        keep=st.sampled_from(["first", "last"]),
        order_by=st.sampled_from([(), ("a desc", "b")]),
    ),
    st.builds(UpsertRows, table=TABLES, rows=st.lists(st.dictionaries(NAMES, PLAIN), max_size=2), on=READS),
)  # fmt: skip


def written(folder: str | Path, operations: list[Operation], **draft: Any) -> Path:
    draft = {"operations": tuple(map(render_operation, operations)), **draft}
    new = revision_file(Path(folder), RevisionChain(), Draft(**draft), now=NOW, new_id=lambda: "0")
    new.path.write_bytes(new.content)
    return new.path


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, pa.Field | pa.Schema):
        return bool(one.equals(other, check_metadata=True))
    if isinstance(one, pa.DataType):
        return bool(pa.field("x", one).equals(pa.field("x", other), check_metadata=True))
    return one.__name__ == other.__name__ if callable(one) else one == other


def same(one: Operation, other: Operation) -> bool:
    return type(one) is type(other) and all(
        alike(getattr(one, name), getattr(other, name)) for name in type(one).model_fields
    )


@pytest.mark.slow
@given(st.lists(OPERATIONS, min_size=1, max_size=4))
@settings(deadline=None, max_examples=150)
def test_what_is_rendered_loads_as_equal_operations(operations: list[Operation]) -> None:
    with TemporaryDirectory() as folder:
        path = written(folder, operations, functions=(function_source(PLACE), function_source(ROWS)))
        loaded = load_migration(read_header(path)).operations
        assert len(loaded) == len(operations)
        for one, other in zip(loaded, operations, strict=True):
            assert same(one, other)


@given(TYPES)
def test_a_type_is_spelt_by_pyarrows_functions(of: pa.DataType) -> None:
    assert alike(eval(literal(of), {"pa": pa}), of)  # noqa: S307


@pytest.mark.slow
@given(SCHEMAS)
@settings(deadline=None, max_examples=25)
def test_a_formatter_leaves_any_schema_alone(schema: pa.Schema) -> None:
    with TemporaryDirectory() as folder:
        written(folder, [CreateTable(table="t", schema=schema)])
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff"]
        for width in ("88", "110"):
            done = subprocess.run([*command, "--line-length", width, folder], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["🌀🏸", "漢字", "e\u0301", "ä", "한\u200d글", "✔\ufe0f", "ｶﾅ"])
def test_a_line_is_as_wide_as_a_formatter_takes_it_to_be(tmp_path: Path, name: str) -> None:
    names = [name + "x" * more for more in range(24)]
    columns = [pa.field(each, pa.list_(pa.bool_(), 1000), nullable=False) for each in names]
    written(tmp_path, [CreateTable(table="t", schema=[column]) for column in columns])
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "--line-length", "88"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# Formatters and Python agree on how wide these are, whatever edition of Unicode each knows.
WORDS = st.text(st.characters(max_codepoint=0x24F), max_size=30)
ODD = st.sampled_from(["it's", 'say "a"', "x" * 120, "漢字" * 9, "🌀"])
LONG = st.lists(WORDS | ODD, max_size=30).map(" ".join)


@pytest.mark.slow
@given(LONG, LONG)
@settings(deadline=None, max_examples=25)
def test_long_text_is_put_in_pieces_that_a_formatter_leaves_alone(one: str, other: str) -> None:
    operations = [
        SetMetadata(table="t", metadata={"a": one, other: None}),
        RetypeColumn(table="t", column="c", to="int8", using=other),
        UpsertRows(table="t", on=("id",), rows=[{"id": one}]),
    ]
    with TemporaryDirectory() as folder:
        loaded = load_migration(read_header(written(folder, operations))).operations
        assert all(same(*pair) for pair in zip(loaded, operations, strict=True))
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff"]
        for width in ("88", "110"):
            done = subprocess.run([*command, "--line-length", width, folder], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout


def test_no_line_is_longer_than_it_must_be(tmp_path: Path) -> None:
    told = '[{"name": "openai", "model": {"name": "text-embedding-3-small"}, "source_column": "text"}]'
    text = written(tmp_path, [SetMetadata(table="t", metadata={"embedding_functions": told * 2})]).read_text()
    assert max(map(len, text.splitlines())) <= 88


def test_fields_that_are_as_usual_are_left_out() -> None:
    assert render_operation(DropTable(table="t")) == 'DropTable(table="t")'
    assert (
        render_operation(AddColumn(table="t", column=pa.field("gain", pa.float64(), metadata={"unit": "dB"})))
        == 'AddColumn(table="t", column=pa.field("gain", pa.float64(), metadata={"unit": "dB"}))'
    )


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("a", '"a"'),
        ("it's", '"it\'s"'),
        ('say "a"', "'say \"a\"'"),
        ("\"'", '"\\"\'"'),
        ("\\", '"\\\\"'),
        ("a\nb", '"a\\nb"'),
    ],
)
def test_text_is_quoted_as_formatters_do(text: str, spelt: str) -> None:
    assert literal(text) == spelt


def test_a_value_without_a_literal_is_refused() -> None:
    with pytest.raises(PlanError, match="a Table cannot be written to a migration file"):
        render_operation(CreateTable(table="t", schema={"id": "int64"}, rows=pa.table({"id": [1]})))
