"""New files: what they say, what they are called, and that they load and are left alone by a formatter."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lancemig import AddColumn, RenameColumn
from lancemig.catalog.operations import Kind
from lancemig.errors import ConfigError, ScriptError
from lancemig.revisions.chain import RevisionChain, chain_of
from lancemig.revisions.header import KINDS, Header, read_header, read_headers
from lancemig.revisions.loader import load_migration
from lancemig.revisions.writer import Draft, format_expression, revision_file, slug_of

NOW = datetime(2026, 5, 20, 19, 4, 1, 250, tzinfo=UTC)
RENAME = 'RenameColumn(table="recordings", column="fs", to="sample_rate_hz")'
LONG = (
    'CreateTable(table="recordings", schema={"rec_id": "string", "fs": "int32", "duration": "int64", '
    '"embedding": "fixed_size_list<item: float32>[768]"}, key=("rec_id",))'
)
EXPECTED = '''"""Name the sample rate.

Revision ID: 0007
Revises: 0006
Create Date: 2026-05-20 19:04:01+00:00
"""

from lancemig import RenameColumn

revision = "0007"
down_revision = "0006"
kind = "rebuild"

operations = [
    RenameColumn(table="recordings", column="fs", to="sample_rate_hz"),
]

# downgrade is derived automatically; set downgrade = [...] to override.
'''


def line(*revisions: str) -> RevisionChain:
    pairs = zip([None, *revisions], revisions, strict=False)
    return chain_of(
        Header(path=Path(f"versions/{r}.py"), revision=r, down_revision=p, sha256="") for p, r in pairs
    )


def written(directory: Path, at: RevisionChain | None = None, **draft: object) -> Path:
    new = revision_file(
        directory, at or RevisionChain(), Draft(**draft), now=NOW, new_id=lambda: "9f2c3d4e5a6b7c8d"
    )
    new.path.write_bytes(new.content)
    return new.path


def test_a_file_says_what_alembic_s_says(versions):
    at = line("0005", "0006")
    path = written(versions, at, message="Name the sample rate.", kind="rebuild", operations=(RENAME,))
    assert path == versions / "0007_name_the_sample_rate.py"
    assert path.read_text() == EXPECTED


@pytest.mark.slow
@given(
    message=st.text(max_size=60)
    | st.sampled_from(['"""', '\\"""', "a\\", '"a"', "Revises: x", "{{ x }}", "{% %}"]),
    kind=st.none() | st.sampled_from(KINDS),
    ids=st.sampled_from([(), ("0001",), ("0001", "0042"), ("ae10", "0002")]),
    operations=st.lists(st.sampled_from([RENAME, 'AddColumn(table="a", column="b: int8")']), max_size=2),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_loads(tmp_path_factory, message, kind, ids, operations):
    needed = Kind.weakest([Kind.REBUILD if o == RENAME else Kind.ADDITIVE for o in operations])
    kind = kind and max(Kind(kind), needed, key=lambda word: word.rank).value
    directory = tmp_path_factory.mktemp("versions")
    path = written(directory, line(*ids), message=message, kind=kind, operations=tuple(operations))
    migration = load_migration(read_header(path))
    assert migration.header.down_revision == (ids[-1] if ids else None)
    assert migration.header.kind == kind
    assert migration.header.created == "2026-05-20 19:04:01+00:00"
    assert migration.kind == (kind or needed)
    assert [type(o) for o in migration.operations] == [
        RenameColumn if o == RENAME else AddColumn for o in operations
    ]
    if message.isascii() and message.isprintable() and message.strip():
        assert migration.header.message == " ".join(message.split())


def test_written_files_are_left_alone_by_the_formatter(versions):
    drafts = [
        {},
        {"message": '"quoted", said \\ and """thrice"""', "kind": "additive"},
        {"operations": (LONG, RENAME)},
        {
            "operations": (
                f"AddColumn(table='t', column=pa.field('{'x' * 70}', pa.int8()))".replace("'", '"'),
            )
        },
        {
            "operations": tuple(
                f'{name}(table="t", column="c")' for name in ("DropColumn", "RequireColumn", "RelaxColumn")
            )
        },
        {"operations": (LONG, RENAME, 'AddColumn(table="t", column="c: int8")', 'DropTable(table="t")')},
    ]
    for draft in drafts:
        written(versions, chain_of(read_headers(versions)), **draft)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff"]
    for width in ("88", "110"):
        done = subprocess.run(
            [*command, "--line-length", width, str(versions)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_operations_need_is_imported(versions):
    text = written(
        versions, operations=(RENAME, 'DropColumn(table="t", column=pa.field("x", pa.int8()).name)')
    ).read_text()
    assert "import pyarrow as pa\nfrom lancemig import DropColumn, RenameColumn\n" in text


def test_operations_that_are_no_python_are_not_written(versions):
    with pytest.raises(ScriptError):
        written(versions, operations=("RenameColumn(",))
    assert list(versions.iterdir()) == []


@pytest.mark.parametrize(
    ("there", "revision"),
    [
        ((), "0001"),
        (("0001", "0002"), "0003"),
        (("0009", "0004"), "0010"),
        (("9999",), "10000"),
        (("00007",), "00008"),
        (("1", "2"), "0003"),
        (("ae1027a6acf0",), "9f2c3d4e5a6b"),
        (("0001", "x"), "9f2c3d4e5a6b"),
    ],
)
def test_an_id_continues_numbers_or_is_drawn(versions, there, revision):
    assert read_header(written(versions, line(*there))).revision == revision


def test_a_given_id_is_taken(versions):
    assert read_header(written(versions, line("0001"), rev_id="add_rate")).revision == "add_rate"


@pytest.mark.parametrize(
    ("rev_id", "said"),
    [("0001", "already used by versions/0001.py"), ("head", "'head' is reserved"), ("a-1", "'a-1'")],
)
def test_an_id_that_is_taken_or_unusable_is_refused(versions, rev_id, said):
    with pytest.raises(ScriptError, match=said):
        written(versions, line("0001"), rev_id=rev_id)
    assert list(versions.iterdir()) == []


def test_an_unknown_kind_is_refused(versions):
    with pytest.raises(ScriptError, match=r"unknown kind 'additve'; kinds: .*; did you mean additive"):
        written(versions, kind="additve")


def test_a_file_that_exists_is_left_alone(versions):
    path = versions / "0001_x.py"
    path.write_text("mine")
    with pytest.raises(ScriptError, match="already exists"):
        written(versions, message="x")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{year}_{month:02}_{day:02}_{hour:02}{minute:02}-{rev}_{slug}", "2026_05_20_1904-0001_a_b.py"),
        ("{rev}.py", "0001.py"),
    ],
)
def test_the_file_s_name_follows_the_template(versions, template, name):
    assert written(versions, message="A b!", file_template=template).name == name


def test_without_a_message_the_name_is_the_id(versions):
    path = written(versions)
    assert path.name == "0001.py"
    assert read_header(path).message == "Revision 0001"


@pytest.mark.parametrize(
    "template", ["{id}", "{", "{}", "{rev.x}", "a/{rev}", "../{rev}", ".{rev}", "__{rev}", "", "{slug}"]
)
def test_a_template_that_names_no_file_is_refused(versions, template):
    with pytest.raises(ConfigError, match="file_template"):
        written(versions, file_template=template)
    assert list(versions.iterdir()) == []


@pytest.mark.parametrize(
    ("message", "slug"),
    [
        ("Größe: 3 - 4", "grosse_3_4"),
        ("naïve café", "naive_cafe"),
        ("", ""),
        ("日本", ""),
        ("name the sample rate and store durations in seconds", "name_the_sample_rate_and_store_durations"),
        ("x" * 60, "x" * 40),
    ],
)
def test_a_slug_is_short_and_ascii(message, slug):
    assert slug_of(message) == slug


def test_letters_that_take_two_columns_count_twice():
    call = 'pa.field("' + "゛" * 30 + '", pa.string())'
    assert len(call) < 60
    assert "\n" not in format_expression(call, indent=0)
    assert "\n" in format_expression(call, indent=4)
