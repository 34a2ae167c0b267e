"""`revision --autogenerate` as a user meets it: models in a module, files, remarks, refusals."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import lance
import pytest
from console import Console
from lab import Lab

HEAD = """
import pyarrow as pa
from lancedb.pydantic import LanceModel, Vector
from pydantic import BaseModel
from lancemig import Check, Index, Table

"""
RECORDINGS = 'pa.schema([pa.field("id", pa.int64()), pa.field("gain", pa.float64())])'
GOLDEN = Path(__file__).parent.parent / "golden" / "revisions"


@pytest.fixture(autouse=True)
def forgotten(lab: Lab):
    """Modules of this folder are imported anew by the next test."""
    before, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - before:
        if str(lab.folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = path


def declare(lab: Lab, tables: str, *, models: str = "catalog_models:tables") -> None:
    """Write the models, and name them in lancemig.ini."""
    sys.modules.pop("catalog_models", None)
    (lab.folder / "catalog_models.py").write_text(HEAD + dedent(tables))
    ini = lab.folder / "lancemig.ini"
    lines = [line for line in ini.read_text().splitlines() if not line.startswith("models")]
    ini.write_text("\n".join([*lines, f"models = {models}", ""]))


def newest(lab: Lab) -> str:
    return sorted((lab.folder / "versions").glob("*.py"))[-1].read_text()


def autogenerate(console: Console, *options: str) -> str:
    return console.says("revision", "--autogenerate", "-m", "models", *options)


def test_a_new_table_is_created_and_then_there_is_no_difference(lab: Lab, console: Console):
    declare(
        lab,
        f'tables = {{"recordings": Table({RECORDINGS}, key="id",'
        'indices=[Index(column="id", type="BTREE")])}',
    )
    assert "wrote " in autogenerate(console)
    console.says("upgrade")
    assert [index.name for index in lab.dataset("recordings").describe_indices()] == ["id_idx"]
    files = sorted((lab.folder / "versions").iterdir())
    for against in ("files", "live"):
        assert autogenerate(console, "--against", against).startswith("no difference: ")
    assert sorted((lab.folder / "versions").iterdir()) == files


def test_what_is_written_is_golden_and_formatted(live: Lab, console: Console, request: pytest.FixtureRequest):
    declare(
        live,
        """
        class Note(LanceModel):
            id: int
            text: str
            vector: Vector(4)

        tables = {
            "recordings": Table(
                pa.schema([
                    pa.field("id", pa.int32()),
                    pa.field("volume", pa.float64(), metadata={"unit": "dB"}),
                    pa.field("host", pa.string(), nullable=False),
                    pa.field("vector", pa.list_(pa.float32(), 768)),
                ]),
                key=("id", "host"),
                indices=[
                    Index(column="host", type="BITMAP"),
                    Index(
                        column="vector",
                        type="IVF_PQ",
                        params={"num_partitions": 64, "num_sub_vectors": 96, "metric": "cosine"},
                    ),
                ],
                metadata={"owner": "ursa"},
            ),
            "notes": Table(Note, key=("id",)),
        }
        """,
    )
    autogenerate(console)
    text = "\n".join(line for line in newest(live).splitlines() if not line.startswith("Create Date")) + "\n"
    golden = GOLDEN / "recordings.py.txt"
    assert text == golden.read_text()
    for width in ("88", "110"):
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "--line-length", width]
        done = subprocess.run([*command, str(live.folder / "versions")], capture_output=True, text=True)
        assert "_models.py" not in done.stdout, done.stdout


def test_a_rename_is_only_made_when_it_is_said(live: Lab, console: Console):
    declare(live, f'tables = {{"recordings": {RECORDINGS.replace("gain", "volume")}}}')
    autogenerate(console)
    text = newest(live)
    assert 'DropColumn(table="recordings", column="gain")' in text
    assert 'AddColumn(table="recordings", column=pa.field("volume", pa.float64()))' in text
    assert "# Renamed to volume (" in text
    assert "#     lancemig revision --autogenerate --rename recordings.gain=volume\n" in text
    next((live.folder / "versions").glob("*models.py")).unlink()
    autogenerate(console, "--rename", "recordings.gain=volume")
    assert 'operations = [\n    RenameColumn(table="recordings", column="gain", to="volume"),\n]' in newest(
        live
    )
    console.says("upgrade")
    assert [row["volume"] for row in live.rows("recordings")] == [1.0, 2.0]
    assert autogenerate(console, "--against", "live").startswith("no difference: ")


def test_a_table_is_renamed_with_a_column_in_it(live: Lab, console: Console):
    declare(live, f'tables = {{"sessions": {RECORDINGS.replace("gain", "volume")}}}')
    autogenerate(console, "--rename", "recordings=sessions", "--rename", "sessions.gain=volume")
    console.says("upgrade")
    assert live.tables() == ["sessions"]
    assert [row["volume"] for row in live.rows("sessions")] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("rename", "says"),
    [
        ("recordings.gian=volume", "recordings has no column 'gian'; did you mean gain?"),
        ("recording.gain=volume", "no such table; did you mean recordings?"),
        ("recordings.gain=loudness", "the model of 'recordings' has no column loudness"),
        ("recordings.id=volume", "the model still has 'id'"),
        ("recordings=sessions", "'recordings' is still in the models"),
        ("recordings.gain", "expected OLD=NEW"),
        ("=", "expected OLD=NEW"),
        ("recordings.gain=recordings.volume", "the model of 'recordings' has no column recordings.volume"),
        ("recordings=", "expected OLD=NEW"),
        ("sessions.gain=volume", "no such table"),
        ("recordings.=volume", "recordings has no column ''"),
        ("recordings.gain.x=volume", "recordings has no column 'gain.x'"),
    ],
)
def test_a_rename_that_fits_nothing_is_refused(live: Lab, console: Console, rename: str, says: str):
    declare(live, f'tables = {{"recordings": {RECORDINGS.replace("gain", "volume")}}}')
    assert says in console.refuses("revision", "--autogenerate", "-m", "x", "--rename", rename, status=2)


@pytest.mark.parametrize(
    "renames",
    [
        ("recordings.gain=volume", "recordings.gain=loudness"),
        ("recordings.gain=volume", "recordings.id=volume"),
    ],
)
def test_renames_that_contradict_each_other_are_refused(
    live: Lab, console: Console, renames: tuple[str, ...]
):
    columns = 'pa.schema([pa.field("volume", pa.float64()), pa.field("loudness", pa.float64())])'
    declare(live, f'tables = {{"recordings": {columns}}}')
    options = [word for rename in renames for word in ("--rename", rename)]
    said = console.refuses("revision", "--autogenerate", "-m", "x", *options, status=2)
    assert "--rename" in said
    assert not list((live.folder / "versions").glob("*_x.py"))


def test_another_dimension_is_a_rebuild_with_a_place_for_the_function(lab: Lab, console: Console):
    columns = '("id", pa.int64()), ("text", pa.string()), ("vector", pa.list_(pa.float32(), 2))'
    two = f'{{"docs": pa.schema([{columns}])}}'
    declare(lab, f"tables = {two}")
    autogenerate(console)
    console.says("upgrade")
    lab.append("docs", [{"id": 1, "text": "ab", "vector": [1.0, 2.0]}])
    declare(lab, f"tables = {two.replace(', 2)', ', 3)')}")
    autogenerate(console)
    refused = console.refuses("upgrade", status=2)
    assert "embed_docs_vector() is not implemented yet: Return vector of docs" in refused
    assert lab.catalog().in_flight() is None
    path = sorted((lab.folder / "versions").glob("*.py"))[-1]
    assert 'Tolerance(table="docs", column="vector", absolute=0.001)' in path.read_text()
    body = "return pa.array([[float(len(t.as_py()))] * 3 for t in batch['text']], pa.list_(pa.float32(), 3))"
    path.write_text(path.read_text().replace("raise NotImplementedError", body))
    console.says("upgrade")
    assert lab.rows("docs") == [{"id": 1, "text": "ab", "vector": [2.0, 2.0, 2.0]}]
    assert autogenerate(console, "--against", "live").startswith("no difference: ")


def test_json_tells_what_was_written_and_what_is_left_to_write(live: Lab, console: Console):
    columns = 'pa.schema([pa.field("id", pa.int64()), pa.field("gain", pa.float64(), nullable=False)])'
    more = columns.replace("])", ', pa.field("host", pa.string(), nullable=False)])')
    declare(live, f'tables = {{"recordings": {more}}}')
    done = console("revision", "--autogenerate", "-m", "models", "--json")
    said = json.loads(done.stdout)
    assert said["path"].endswith("0002_models.py")
    assert said["kind"] == "rebuild"
    assert [(one["table"], one["op"], one["to_write"]) for one in said["changes"]] == [
        ("recordings", "add_column", "fill_recordings_host"),
        ("recordings", "require_column", None),
        ("recordings", "require_column", None),
    ]
    assert said["changes"][1]["said"] == "require column gain (non-null)"
    assert "Refused if gain has nulls" in said["changes"][1]["remarks"][0]
    assert done.stderr == "next: write fill_recordings_host in the file, then: lancemig upgrade --plan\n"
    declare(live, f'tables = {{"recordings": {RECORDINGS}}}')
    sorted((live.folder / "versions").glob("*models.py"))[0].unlink()
    none = {"format": 1, "path": None, "kind": None, "changes": []}
    assert console.json("revision", "--autogenerate") == none
    empty = console.json("revision", "-m", "later")
    assert empty["path"].endswith("0002_later.py")


def embedded(model: str) -> str:
    return f"""
    from lancedb.embeddings import TextEmbeddingFunction, get_registry, register

    @register("lengths")
    class Lengths(TextEmbeddingFunction):
        name: str = ""
        def ndims(self):
            return 2
        def generate_embeddings(self, texts):
            return [[float(len(text)), 0.0] for text in texts]

    lengths = get_registry().get("lengths").create(name="{model}")

    class Doc(LanceModel):
        id: int
        text: str = lengths.SourceField()
        vector: Vector(2) = lengths.VectorField()

    tables = {{"docs": Doc}}
    """


def test_another_embedding_model_is_a_rebuild_though_the_type_stays(lab: Lab, console: Console):
    declare(lab, embedded("m1"))
    autogenerate(console)
    console.says("upgrade")
    assert b"m1" in lab.dataset("docs").schema.metadata[b"embedding_functions"]
    assert autogenerate(console, "--against", "live").startswith("no difference: ")
    lab.append("docs", [{"id": 1, "text": "ab", "vector": [1.0, 2.0]}])
    declare(lab, embedded("m2"))
    autogenerate(console)
    text = newest(lab)
    assert 'kind = "rebuild"' in text
    assert "LanceDB now computes it by lengths m2, previously by lengths m1" in " ".join(
        text.replace("#", "").split()
    )
    assert 'columns=("vector",)' in text
    assert 'tolerances = [\n    Tolerance(table="docs", column="vector", absolute=0.001),\n]\n' in text
    assert 'reads=("text",)' in text
    path = sorted((lab.folder / "versions").glob("*.py"))[-1]
    body = "return pa.array([[9.0, 9.0]] * batch.num_rows, pa.list_(pa.float32(), 2))"
    path.write_text(text.replace("raise NotImplementedError", body))
    root = lab.root
    console.says("upgrade")
    assert lab.root != root
    assert lab.rows("docs")[0]["vector"] == [9.0, 9.0]
    assert autogenerate(console, "--against", "live").startswith("no difference: ")


def test_a_pydantic_model_and_a_lance_model_say_nothing_of_keys_indices_and_metadata(
    lab: Lab, console: Console
):
    declare(
        lab,
        """
        class Row(BaseModel):
            id: int
            name: str | None = None
        class Other(LanceModel):
            id: int
        tables = {"rows": Row, "others": Other}
        """,
    )
    autogenerate(console)
    operations = 'SetKey(table="rows", key=("id",)), CreateIndex(table="rows", column="id", type="BTREE"),'
    operations += 'SetMetadata(table="rows", column="name", metadata={"sensitivity": "high"}),'
    operations += 'SetMetadata(table="others", metadata={"owner": "ursa"})'
    lab.written.append("0001")
    lab.revision(operations)
    console.says("upgrade")
    for against in ("files", "live"):
        assert autogenerate(console, "--against", against).startswith("no difference: ")


def test_live_is_compared_only_at_the_head(live: Lab, console: Console):
    declare(live, f'tables = {{"recordings": {RECORDINGS}}}')
    live.revision('SetKey(table="recordings", key=())')
    said = console.refuses("revision", "--autogenerate", "--against", "live", status=2)
    assert "at 0001, but the head is 0002" in said


def test_what_others_did_to_the_live_catalog_shows_against_live_alone(live: Lab, console: Console):
    declare(live, f'tables = {{"recordings": {RECORDINGS}}}')
    live.dataset("recordings").add_columns({"extra": "id * 2"})
    assert autogenerate(console).startswith("no difference: ")
    autogenerate(console, "--against", "live")
    assert 'DropColumn(table="recordings", column="extra")' in newest(live)


@pytest.mark.parametrize(
    ("tables", "models", "says"),
    [
        ("tables = {}", "nowhere:tables", "module nowhere is neither in "),
        ("tables = {}", "catalog_models:tabels", "catalog_models.py has no tabels; did you mean tables"),
        (
            "tables = [1]",
            "catalog_models:tables",
            "tables must be a mapping from table names to models, not a list",
        ),
        ("tables = {\n", "catalog_models:tables", "catalog_models.py:7: SyntaxError"),
        (
            "import nothing_such",
            "catalog_models:tables",
            "catalog_models.py:7: No module named 'nothing_such'",
        ),
        ("tables = 1 / 0", "catalog_models:tables", "catalog_models.py:7: ZeroDivisionError"),
        (
            'tables = {"t": 3}',
            "catalog_models:tables",
            "table 't': expected a pyarrow schema, a LanceModel or",
        ),
        ('tables = {"t": {"id": "int65"}}', "catalog_models:tables", "table 't': unknown type 'int65'"),
        (
            'tables = {"t": Table({"id": "int64"}, kee="id")}',
            "catalog_models:tables",
            "catalog_models.py:7: Table.kee: unknown field; did you mean key?\nnext:",
        ),
        (
            'tables = {"t": Table({"id": "int64"}, metadata={"lancemig.key": "[]"})}',
            "catalog_models:tables",
            "table 't': metadata lancemig.key is reserved for lancemig",
        ),
        (
            "class Row(BaseModel):\n    id: int\ntables = {'t': Row(id=1)}",
            "catalog_models:tables",
            "table 't': expected the class Row, not an instance",
        ),
        (
            "class Row(BaseModel):\n    id: int\n    up: 'Row | None' = None\ntables = {'t': Row}",
            "catalog_models:tables",
            "table 't': Row refers to itself; a column type cannot be recursive",
        ),
        (
            "from uuid import UUID\n"
            "class In(BaseModel):\n    ok: int\n    key: UUID\n"
            "class Row(LanceModel):\n    id: int\n    all: list[In]\ntables = {'t': Row}",
            "catalog_models:tables",
            "table 't': all.key: Converting Pydantic type to Arrow Type: unsupported type "
            "<class 'uuid.UUID'>; declare the table with a pa.Schema instead",
        ),
        (
            "tables = {'t': pa.schema([('a`b', pa.int8())])}",
            "catalog_models:tables",
            "t.a`b: Lance reserves this column name",
        ),
        (
            "two = pa.list_(pa.string(), 2)\ntables = {'t': {'id': 'int8'}, 'u': pa.schema([('v', two)])}",
            "catalog_models:tables",
            "u.v: Lance cannot store fixed_size_list<item: string>[2]",
        ),
        (
            "two = [Index(column='id', type='BTREE'), Index(column='id', type='BITMAP')]\n"
            "tables = {'t': Table({'id': 'int64'}, indices=two)}",
            "catalog_models:tables",
            "table 't': two indices are named 'id_idx': give one of them another `name`",
        ),
        ("raise SystemExit(3)", "catalog_models:tables", "catalog_models.py:7: SystemExit: 3"),
        (
            'tables = {"a b": {"id": "int64"}}',
            "catalog_models:tables",
            "table 'a b': a table name may contain letters, digits,",
        ),
        (
            'tables = {"t": pa.schema([("d", pa.decimal32(5, 2))])}',
            "catalog_models:tables",
            "t.d: Lance cannot store decimal32(5, 2)",
        ),
        (
            'tables = {"t": Table({"id": "int64"}, key="rec_id")}',
            "catalog_models:tables",
            "the key column 'rec_id' does not exist in table 't'",
        ),
        (
            'tables = {"t": Table({"id": "int64"}, indices=[Index(column="id", type="IVF_PQ")])}',
            "catalog_models:tables",
            "index type IVF_PQ does not support t.id: int64",
        ),
        ("tables = {}", "catalog_models", "is not in the form package.module:name"),
    ],
)
def test_models_that_cannot_be_loaded_are_named(
    lab: Lab, console: Console, tables: str, models: str, says: str
):
    declare(lab, tables, models=models)
    assert says in console.refuses("revision", "--autogenerate", status=2)


def test_without_models_the_key_is_named(lab: Lab, console: Console):
    assert "does not set `models`" in console.refuses("revision", "--autogenerate", status=2)


@pytest.mark.parametrize(
    "options",
    [("--autogenerate", "--empty"), ("--against", "live"), ("--rename", "a=b")],
)
def test_options_that_do_not_go_together_are_refused(lab: Lab, console: Console, options: tuple[str, ...]):
    assert console("revision", *options).exit_code == 2


def test_an_empty_revision_asks_no_models(lab: Lab, console: Console):
    declare(lab, "raise SystemError")
    assert console.says("revision", "--empty", "-m", "later").startswith("wrote ")
    assert "operations = []" in newest(lab)


def test_audit_makes_the_checks_of_the_models(live: Lab, console: Console):
    declare(
        live,
        f"""
        checks = [Check(name="loud", sql="select id from recordings where gain < 2")]
        tables = {{"recordings": Table({RECORDINGS}, checks=checks)}}
        """,
    )
    done = console("audit")
    assert done.exit_code == 1
    assert "loud" in done.stdout


def test_blobs_and_views_are_what_lance_stores(lab: Lab, console: Console):
    declare(
        lab,
        """
        import lance
        tables = {"t": pa.schema([pa.field("id", pa.int64()), lance.blob_field("video"),
            pa.field("name", pa.string_view()),
            pa.field("v", pa.list_(pa.field("x", pa.float32(), False), 4))])}
        """,
    )
    autogenerate(console)
    console.says("upgrade")
    found = lab.dataset("t").schema.field("video").type
    assert found.extension_name == lance.blob_field("video").type.extension_name
    for against in ("files", "live"):
        assert autogenerate(console, "--against", against).startswith("no difference: ")


def test_a_difference_is_told_at_the_file_of_the_models(lab: Lab, console: Console):
    declare(lab, f'tables = {{"recordings": {RECORDINGS}}}')
    [found] = console.json("check", "--offline", status=1)["findings"]
    assert (found["code"], Path(found["path"]).name) == ("LM101", "catalog_models.py")
    assert f"LM101  {found['path']}: {found['message']}" in console("check", "--offline").stdout
