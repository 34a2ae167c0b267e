"""Metadata that names columns follows them: LanceDB embeds as before, judged by LanceDB itself."""

import json
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lab import Lab
from lancedb.embeddings import TextEmbeddingFunction, get_registry, register
from lancedb.pydantic import LanceModel, Vector
from servers import Place

from lancemig.catalog.column_metadata import embeddings, with_renamed_column, without_columns
from lancemig.commands import check, upgrade


@register("lengths")
class Lengths(TextEmbeddingFunction):
    """Embeds a text as its length, four times."""

    def generate_embeddings(self, texts: Any, *_: Any, **__: Any) -> list[Any]:
        return [np.full(4, len(text), dtype=np.float32) for text in texts]

    def ndims(self) -> int:
        return 4


lengths = get_registry().get("lengths").create()


class Doc(LanceModel):
    text: str = lengths.SourceField()
    vector: Vector(4) = lengths.VectorField()  # type: ignore[valid-type]
    title: str | None = None


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision('CreateTable(table="other", schema="id: int64")')
    lab.upgrade()
    db = lancedb.connect(Path(local_place.store) / lab.root / "catalog")
    db.create_table("docs", schema=Doc).add([{"text": "ab"}, {"text": "abcd"}])
    return lab


def table(lab: Lab) -> lancedb.Table:
    return lancedb.connect(Path(lab.place.store) / lab.root / "catalog").open_table("docs")


def embeds(lab: Lab, source: str, vector: str) -> None:
    """LanceDB adds, upserts and searches by text."""
    docs = table(lab)
    docs.add([{source: "abcdefgh"}])
    rows = {row[source]: row[vector] for row in docs.to_arrow().to_pylist()}
    assert rows["abcdefgh"] == [8.0] * 4
    assert rows["ab"] == [2.0] * 4
    found = docs.search("x" * 4, vector_column_name=vector).limit(1).to_list()
    assert found[0][source] == "abcd"


@pytest.mark.parametrize(
    ("operation", "source", "vector"),
    [
        ('RenameColumn(table="docs", column="vector", to="embedding")', "text", "embedding"),
        ('RenameColumn(table="docs", column="text", to="body")', "body", "vector"),
        (
            'RenameColumn(table="docs", column="text", to="body"), '
            'RenameColumn(table="docs", column="vector", to="embedding")',
            "body",
            "embedding",
        ),
        ('DropColumn(table="docs", column="title")', "text", "vector"),
    ],
)
def test_lancedb_embeds_after_it_and_after_going_back(
    lab: Lab, operation: str, source: str, vector: str
) -> None:
    lab.revision(operation)
    lab.upgrade()
    embeds(lab, source, vector)
    codes = {finding.code for part in check.check(lab.catalog()) for finding in part.findings}
    assert codes <= {"LM320", "LM411", "LM301"}
    if "Drop" not in operation:
        lab.downgrade()
        table(lab).delete("text = 'abcdefgh'")
        embeds(lab, "text", "vector")


@pytest.mark.parametrize(
    "operation",
    [
        'DropColumn(table="docs", column="vector")',
        'DropColumn(table="docs", column="text")',
        'TransformTable(table="docs", schema={"text": "string"}, using=texts)',
    ],
)
def test_without_its_columns_the_entry_is_removed_and_the_plan_says_so(lab: Lab, operation: str) -> None:
    lab.revision(operation, above='def texts(batch): return batch.select(["text"])')
    plan = upgrade.prepare(lab.catalog(), "head", "up").plan
    notes = [note for migration in plan.migrations for step in migration.steps for note in step.notes]
    assert "LanceDB no longer embeds text into vector (lengths) when rows are added" in notes
    lab.upgrade()
    assert b"embedding_functions" not in (lab.dataset("docs").schema.metadata or {})
    values = {"text": "x", "vector": [0.0] * 4}
    table(lab).add([{name: values.get(name) for name in table(lab).schema.names}])


def test_a_new_type_of_the_vector_is_named_in_the_plan(lab: Lab) -> None:
    lab.revision('RetypeColumn(table="docs", column="vector", to="fixed_size_list<float16>[4]")')
    plan = upgrade.prepare(lab.catalog(), "head", "up").plan
    notes = [note for migration in plan.migrations for step in migration.steps for note in step.notes]
    assert "LanceDB embeds text into vector (lengths): the function must fit the new column" in notes


PANDAS = {
    "index_columns": ["at"],
    "columns": [
        {"name": "at", "field_name": "at", "pandas_type": "int64"},
        {"name": "x", "field_name": "x", "pandas_type": "float64"},
    ],
}


class TestText:
    def test_pandas_metadata_follows(self) -> None:
        found = json.loads(with_renamed_column({"pandas": json.dumps(PANDAS)}, "at", "time")["pandas"])
        assert found["index_columns"] == ["time"]
        assert [column["name"] for column in found["columns"]] == ["time", "x"]
        found = json.loads(without_columns({"pandas": json.dumps(PANDAS)}, ["at"])["pandas"])
        assert found["index_columns"] == []
        assert [column["name"] for column in found["columns"]] == ["x"]

    @pytest.mark.parametrize("text", ["", "{", "null", "7", '{"a": 1}', "[1, null]", '[{"name": "f"}]'])
    def test_text_that_is_something_else_stays(self, text: str) -> None:
        for name in ("embedding_functions", "pandas"):
            assert with_renamed_column({name: text, "a": "b"}, "a", "c") == {name: text, "a": "b"}
            assert without_columns({name: text}, ["a"]) == {name: text}
        assert list(embeddings({"embedding_functions": text})) == []

    def test_what_names_no_changed_column_keeps_its_text(self) -> None:
        text = '[ {"name":"f", "source_column":"a",  "vector_column":"b"} ]'
        assert with_renamed_column({"embedding_functions": text}, "c", "d") == {"embedding_functions": text}
