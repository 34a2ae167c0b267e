"""Row functions that a migration imports from other files of its project."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from lancemig.catalog.findings import Finding
from lancemig.commands.lint import lint
from lancemig.config import read_settings

Write = Callable[..., None]
Lint = Callable[..., list[Finding]]

FIRST = '''
"""Create the recordings."""
import pyarrow as pa
from lancemig import CreateTable

revision = "0001"
down_revision = None
operations = [CreateTable(table="recordings", schema={"id": "int64", "gain": "float64"}, key=("id",))]
'''
NEXT = '''
"""Put the gain right."""
from lancemig import BackfillColumns
{imports}

revision = "{revision}"
down_revision = "{before}"
operations = [
    {comment}
    BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using={using}),
]
'''
CLOCK = """
import time
import pyarrow as pa

def clean(batch):
    return pa.array([time.time()])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose folder the application's modules are imported from."""
    folder = tmp_path / "project"
    (folder / "versions").mkdir(parents=True)
    (folder / "lancemig.ini").write_text("[lancemig]\nstore = store\n")
    (folder / "versions" / "0001_first.py").write_text(FIRST.lstrip())
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shop", "theirs", "elsewhere")]:
        del sys.modules[name]


@pytest.fixture
def module(project: Path) -> Write:
    def write(path: str, text: str, folder: Path = project) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(dedent(text).lstrip())

    return write


@pytest.fixture
def linted(project: Path) -> Lint:
    """What lint finds where revision 0002 computes with `using`, which it imports."""

    def found(
        imports: str = "from shop.rows import clean", using: str = "clean", comment: str = ""
    ) -> list[Finding]:
        text = NEXT.format(imports=imports, using=using, comment=comment, revision="0002", before="0001")
        (project / "versions" / "0002_next.py").write_text(text.lstrip())
        return lint(read_settings(project / "lancemig.ini", environ={}), ignored=["LM210"])

    return found


def places(found: list[Finding]) -> list[str]:
    return [f"{each.code} {each.place}" for each in found]


def test_a_finding_is_at_its_own_line_and_names_the_operation(module: Write, linted: Lint):
    module("shop/rows.py", CLOCK)
    [found] = linted()
    assert (found.code, found.path, found.line) == ("LM010", Path("shop/rows.py"), 5)
    assert found.message == (
        "clean() reads the clock: time.time(); used by versions/0002_next.py:9 "
        "(recordings: backfill gain from clean(gain))"
    )


@pytest.mark.parametrize(
    ("imports", "using"),
    [
        ("from shop.rows import clean as rows", "rows"),
        ("import shop.rows", "shop.rows.clean"),
        ("from shop import rows", "rows.clean"),
        ("from shop import clean", "clean"),
        ("import shop.rows\nours = shop.rows.clean", "ours"),
    ],
)
def test_however_it_is_imported(module: Write, linted: Lint, imports: str, using: str):
    module("shop/__init__.py", "from shop.rows import clean")
    module("shop/rows.py", CLOCK)
    assert places(linted(imports, using)) == ["LM010 shop/rows.py:5"]


@pytest.mark.parametrize(
    "imports",
    ["from shop.parts import value", "from .parts import value", "from . import parts", "import shop.parts"],
)
def test_what_it_uses_of_other_modules_is_looked_at(module: Write, linted: Lint, imports: str):
    module("shop/__init__.py", "")
    module("shop/parts.py", "import random\n\ndef value():\n    return random.random()\n")
    call = {"from . import parts": "parts.value()", "import shop.parts": "shop.parts.value()"}.get(
        imports, "value()"
    )
    module(
        "shop/rows.py",
        f"{imports}\nimport pyarrow as pa\n\ndef clean(batch):\n    return pa.array([{call}])\n",
    )
    assert places(linted()) == ["LM010 shop/parts.py:4"]


def test_a_module_that_is_imported_when_the_function_is_called_is_found_and_not_run(
    module: Write, linted: Lint
):
    module("shop/late.py", "raise SystemExit\n\ndef value():\n    print(1)\n")
    module("shop/rows.py", "def clean(batch):\n    from shop.late import value\n    return value()\n")
    assert places(linted()) == ["LM011 shop/late.py:4"]
    assert "shop.late" not in sys.modules


def test_what_a_module_has_beside_it_is_not_looked_at(module: Write, linted: Lint):
    module(
        "shop/rows.py",
        """
        import os
        import time

        STARTED = time.time()
        TOKEN = os.environ.get("TOKEN")

        def clean(batch):
            return batch.column(0)

        def other(batch):
            print(batch)
        """,
    )
    assert linted() == []


def test_variables_classes_and_decorators_are(module: Write, linted: Lint):
    module(
        "shop/rows.py",
        """
        import functools
        import os
        import time

        TOKEN = os.environ.get("TOKEN")
        SEEN = {}

        def kept(function):
            @functools.wraps(function)
            def inner(batch):
                SEEN[len(SEEN)] = batch
                return function(batch)
            return inner

        class Cleaner:
            @staticmethod
            def clean(batch):
                print(TOKEN)
                return batch

        @kept
        def clean(batch):
            return Cleaner.clean(batch)
        """,
    )
    assert places(linted()) == ["LM011 shop/rows.py:5", "LM012 shop/rows.py:11", "LM011 shop/rows.py:18"]


def test_what_is_installed_is_no_part_of_the_project(
    module: Write, linted: Lint, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(".venv/lib/python3/site-packages").absolute()
    module("theirs.py", CLOCK, folder)
    monkeypatch.syspath_prepend(folder)
    assert linted("from theirs import clean") == []


def test_nor_is_what_lies_elsewhere(
    module: Write, linted: Lint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module("elsewhere.py", CLOCK, tmp_path / "other")
    monkeypatch.syspath_prepend(tmp_path / "other")
    assert linted("from elsewhere import clean") == []


def test_a_folder_of_sources_is_one_of_the_project(
    module: Write, linted: Lint, monkeypatch: pytest.MonkeyPatch
):
    module("src/shop/rows.py", CLOCK)
    monkeypatch.syspath_prepend("src")
    assert places(linted()) == ["LM010 src/shop/rows.py:5"]


IGNORED = CLOCK.replace("time.time()])", "time.time()])  # lancemig: ignore[LM010]{}")


def test_a_comment_beside_it_silences_it_for_all_revisions(module: Write, linted: Lint):
    module("shop/rows.py", IGNORED.format(" a model that is asked once"))
    assert linted() == []


def test_one_without_a_reason_is_found_there(module: Write, linted: Lint):
    module("shop/rows.py", IGNORED.format(""))
    assert places(linted()) == ["LM010 shop/rows.py:5", "LM018 shop/rows.py:5"]


def test_a_comment_at_the_operation_silences_it_for_this_one(module: Write, linted: Lint):
    module("shop/rows.py", CLOCK)
    assert linted(comment="# lancemig: ignore[LM010] the time of the cleaning is meant") == []


def test_an_idle_comment_is_told_of_in_the_migration_only(module: Write, linted: Lint):
    module(
        "shop/rows.py", "def clean(batch):\n    return batch  # lancemig: ignore[LM010] it was a clock once\n"
    )
    assert linted() == []
    assert places(linted(comment="# lancemig: ignore[LM010] it was a clock once")) == [
        "LM019 versions/0002_next.py:8"
    ]


def test_what_two_revisions_use_is_told_once(module: Write, linted: Lint, project: Path):
    module("shop/rows.py", CLOCK)
    text = NEXT.format(
        imports="from shop.rows import clean", using="clean", comment="", revision="0003", before="0002"
    )
    (project / "versions" / "0003_again.py").write_text(text.lstrip())
    assert places(linted()) == ["LM010 shop/rows.py:5"]


def test_a_module_that_cannot_be_parsed_is_left_alone(module: Write, linted: Lint):
    module("shop/late.py", "def value(:\n")
    module("shop/rows.py", "def clean(batch):\n    from shop.late import value\n    return value()\n")
    assert linted() == []


def test_two_modules_that_import_each_other_come_to_an_end(module: Write, linted: Lint):
    module("shop/__init__.py", "")
    module("shop/rows.py", "from shop import more\n\ndef clean(batch):\n    return more.again(batch)\n")
    module(
        "shop/more.py",
        "from shop import rows\n\ndef again(batch):\n    print(1)\n    return rows.clean(batch)\n",
    )
    assert places(linted()) == ["LM011 shop/more.py:4"]
