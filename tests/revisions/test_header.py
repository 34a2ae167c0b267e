"""Headers are read from the syntax tree, and what is wrong with a file is said with its line."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from lancemig.catalog.operations import Kind
from lancemig.catalog.value import text_digests
from lancemig.errors import ConfigError, ScriptError
from lancemig.revisions.header import KINDS, Header, read_header, read_headers

FULL = '''"""Name the sample rate.

Revision ID: 0007
Revises: 0006
Create Date: 2026-05-20 19:00:00+00:00
"""
from lancemig import RenameColumn

revision: str = "0007"
down_revision = "0006"
kind = "rebuild"

operations = [RenameColumn(table="recordings", column="fs", to="rate")]
'''


def refusal(path: Path) -> str:
    with pytest.raises(ScriptError) as caught:
        read_header(path)
    assert caught.value.next_step
    return caught.value.message


def test_a_header_holds_what_the_file_says_of_itself(write):
    path = write(name="0007_rate.py", text=FULL)
    assert read_header(path) == Header(
        path=path,
        revision="0007",
        down_revision="0006",
        kind="rebuild",
        message="Name the sample rate.",
        created="2026-05-20 19:00:00+00:00",
        sha256=sha256(path.read_bytes()).hexdigest(),
        digests=text_digests(path.read_bytes()),
    )


def test_kind_docstring_and_date_may_be_absent(write):
    header = read_header(write(text='revision = "a"\ndown_revision = None\n'))
    assert (header.kind, header.message, header.created, header.down_revision) == (None, "", None, None)


def test_the_words_for_kinds_are_those_of_the_operations():
    assert tuple(Kind) == KINDS


def test_headers_and_line_load_nothing_that_reads_tables(write, versions):
    write()
    code = (
        "import sys; from pathlib import Path\n"
        "from lancemig.revisions.header import read_headers; from lancemig.revisions.chain import chain_of\n"
        "line = chain_of(read_headers(Path(sys.argv[1]))); assert line.resolve('+1', None) == '0001'\n"
        "print([m for m in ('pyarrow', 'lance', 'lancedb', 'boto3', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(versions)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_reading_a_header_runs_nothing_of_the_file(write):
    write(f"import {'no_such_module'}\noperations = 1 / 0\n")
    assert read_header(write("operations = 1 / 0\n")).revision == "0001"


def test_other_files_are_passed_over(write, versions):
    write()
    for name in ("__init__.py", "__main__.py", ".hidden.py", ".#0001_first.py", "README.md", "0001.pyc"):
        (versions / name).write_bytes(b"\xff no python")
    (versions / "__pycache__").mkdir()
    (versions / "folder.py").mkdir()
    assert [header.revision for header in read_headers(versions)] == ["0001"]


def test_headers_come_in_the_order_of_their_files(write, versions):
    for name in ("c.py", "a.py", "b.py"):
        write(name=name)
    assert [header.path.name for header in read_headers(versions)] == ["a.py", "b.py", "c.py"]


def test_a_missing_directory_leads_to_init(tmp_path):
    with pytest.raises(ConfigError, match="does not exist") as caught:
        read_headers(tmp_path / "versions")
    assert "lancemig init" in (caught.value.next_step or "")


def test_a_file_in_the_place_of_the_directory_is_a_config_error(write):
    with pytest.raises(ConfigError, match="Not a directory"):
        read_headers(write())


def test_a_dangling_link_is_not_passed_over(versions):
    (versions / "0001_x.py").symlink_to(versions / "gone.py")
    with pytest.raises(ScriptError, match=r"0001_x\.py cannot be read"):
        read_headers(versions)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("print('x')", "a call (print)"),
        ("for x in []: pass", "`for`"),
        ("while False: pass", "`while`"),
        ("class A: pass", "class"),
        ("with open('x') as f: pass", "`with`"),
        ("try: import a\nexcept ImportError: pass", "`try`"),
        ("x = 1; del x", "del"),
        ("if True: x = 1", "`if`"),
        ("if TYPE_CHECKING: x = 1", "`if`"),
        ("if TYPE_CHECKING: import a\nelse: import b", "`if`"),
        ("operations += []", "an augmented assignment"),
        ("import os\nos.environ['X'] = '1'", "an assignment to an attribute or an item"),
        ("import os\nos.sep, x = '1', 2", "an assignment to an attribute or an item"),
        ("@cache\ndef f(): pass", "a decorated function"),
        ("async def f(): pass", "async def"),
        ("assert True", "`assert`"),
        ("1 + 1", "an expression"),
        ("raise ValueError", "`raise`"),
    ],
)
def test_what_acts_cannot_stand_at_the_top_level(write, statement, named):
    path = write(statement + "\n")
    said = refusal(path)
    assert said.startswith(f"{path}:")
    assert f"{named} is not allowed at the top level" in said
    assert "imports, assignments to names, and functions without decorators" in said


def test_the_refused_line_is_named(write):
    path = write("operations = []\n\nprint('x')\n")
    assert refusal(path).startswith(f"{path}:7: ")


def test_what_declares_may_stand_at_the_top_level(write):
    write(
        "import os\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pyarrow as pa\n"
        'a, (b, *c) = 1, (2, 3)\nRATE: int = 3\n"what RATE is"\ndef f(batch): return batch\noperations = []\n'
    )
    assert read_header(write()).revision == "0001"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("revision = (\n", "'(' was never closed"),
        ('revision = "a"\ndown_revision = None\nreturn 1\n', ":3: 'return' outside function: return 1"),
        ("x = 1\ny = = 2\n", ":2: invalid syntax: y = = 2"),
        ("\0", "null bytes"),
    ],
)
def test_what_is_not_python_is_said_with_its_line(write, text, said):
    assert said in refusal(write(text=text))


def test_what_is_not_utf8_is_said_with_its_line(versions):
    path = versions / "0001.py"
    path.write_bytes(b'# -*- coding: latin-1 -*-\nrevision = "\xe4"\n')
    assert refusal(path).startswith(f"{path}:2: not UTF-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('down_revision = None\nrevison = "a"', "`revision` is missing: add"),
        ('down_revision = None\nrevison = "a"', "is it misspelled as revison?"),
        ('revision = "a"\ndownrevision = "b"', "is it misspelled as downrevision?"),
        ('revision = "a"', "`down_revision` is missing"),
        ('revision = "a"\ndown_revision = "b" + "c"', ":2: `down_revision` must be a literal string"),
        ('revision = "a"\ndown_revision = ("b", "c")', "history is linear"),
        ('revision = "a"\ndown_revision = ""', "the first has None"),
        ("revision = 7\ndown_revision = None", ":1: `revision` must be a literal string"),
        ("revision = None\ndown_revision = None", ":1: `revision` must be a literal string"),
        ('revision, down_revision = "a", None', ":1: `revision` must be a literal string"),
        ('revision = "a"\nrevision = "b"\ndown_revision = None', "more than once, first on line 1"),
        ('revision = "a"\ndown_revision = None\nkind = "rebuilt"', ":3: `kind` must be one of"),
        ('revision = "a"\ndown_revision = None\nkind = "rebuilt"', "did you mean rebuild?"),
        (
            'revision = "a"\ndown_revision = None\nKind = "rebuild"',
            ":3: `Kind` is unknown; did you mean `kind`?",
        ),
    ],
)
def test_a_wrong_variable_is_said_with_the_right_one(write, text, said):
    assert said in refusal(write(text=text + "\n"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Revision ID: 0007", "Revision ID: 0008", ":3: the docstring has `Revision ID: 0008`"),
        (
            "Revises: 0006",
            "Revises: 0005",
            ":4: the docstring has `Revises: 0005`, but `down_revision` is '0006'",
        ),
        ("Revises: 0006", "Revises:", ":4: the docstring has `Revises: `"),
    ],
)
def test_a_docstring_that_contradicts_the_variables_is_refused(write, old, new, said):
    assert said in refusal(write(text=FULL.replace(old, new)))


@pytest.mark.parametrize("spelling", ["", " base", " None", " <base>"])
def test_a_docstring_may_spell_base_as_alembic_does(write, spelling):
    text = FULL.replace(" 0006\n", f"{spelling}\n").replace('"0006"', "None")
    assert read_header(write(text=text)).down_revision is None


def test_a_first_line_that_looks_like_a_field_is_the_message(write):
    text = FULL.replace("Name the sample rate.", "Revises: the naming")
    assert read_header(write(text=text)).message == "Revises: the naming"
