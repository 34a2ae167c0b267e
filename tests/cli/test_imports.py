"""What a verb does not need, it does not load."""

import subprocess
import sys

import pytest
from lab import Lab

PROGRAM = """
import sys
try:
    exec(sys.argv[1])
except SystemExit as end:
    assert not end.code, end.code
heavy = {"pyarrow", "lance", "lancedb", "duckdb", "boto3", "obstore"}
print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def loaded(lab: Lab, program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, program], cwd=lab.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def verb(*arguments: str) -> str:
    return f"from lancemig.cli import main; main({list(arguments)!r})"


@pytest.mark.parametrize(
    "program",
    [
        "import lancemig",
        verb("--help"),
        verb("heads"),
        verb("history"),
        verb("history", "-v"),
        verb("show"),
        verb("revision", "-m", "new"),
        verb("rehash"),
        verb("revision", "--empty"),
    ],
)
def test_files_are_worked_on_without_arrow_and_without_a_store(live: Lab, program: str) -> None:
    assert loaded(live, program) == set()


def test_files_are_checked_without_a_store(live: Lab) -> None:
    file = live.folder / "versions" / "0001.py"
    # The star would load all of lancemig's names, those for consumers included.
    file.write_text(file.read_text().replace("import *", "import CreateTable"))
    assert loaded(live, verb("check", "--offline")) <= {"pyarrow"}
    assert loaded(live, verb("lint", "--ignore", "LM")) <= {"pyarrow"}


def test_models_are_compared_with_files_without_a_store(live: Lab) -> None:
    file = live.folder / "versions" / "0001.py"
    file.write_text(file.read_text().replace("import *", "import CreateTable"))
    (live.folder / "declared.py").write_text('tables = {"recordings": {"id": "int64", "gain": "float64"}}')
    with (live.folder / "lancemig.ini").open("a") as ini:
        ini.write("models = declared:tables\n")
    assert loaded(live, verb("revision", "--autogenerate")) <= {"pyarrow"}


def test_a_catalog_on_a_disk_is_looked_at_without_s3(live: Lab) -> None:
    assert not loaded(live, verb("status")) & {"boto3", "obstore", "lancedb", "duckdb"}


def test_sql_is_asked_without_lancedb(live: Lab) -> None:
    found = loaded(live, verb("query", "select count(*) from recordings"))
    assert "duckdb" in found
    assert not found & {"boto3", "obstore", "lancedb"}
