"""Columns of any name go through every operation and back, as the subject and as a bystander."""

import json
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lancemig.cli import main

ODD = (
    'width "in"', "it's", "a\\b", "a\tb", "a\nb", "a/b", "V", "ID", "select", "null", "true", " lead",
    "trail ", "日本", "é", "e\u0301", "%", "%(x)s", "${x}", "{{x}}", "?", "#", "~", "*", "1", "-", "a,b",
    "a;b", "--", "/*", "emoji😀", "x" * 300, "\u00a0", '"', "'", "\\", "_distance", "set",
    "new", "__unknown__x",
)  # fmt: skip
UNREADABLE = ("`bt", "a`b", "bt`", "``", "")
LETTERS = st.sampled_from("abAB01_ '\"\\/\t\n%$#?~*-;,{}[]()<>=éΩ日😀")
NAMES = st.sampled_from(ODD) | st.text(LETTERS, min_size=1, max_size=12)
TAKEN = {"id", "v", "w", "zz"}


def quoted(name: str) -> str:
    return f"`{name}`"


OPERATIONS: dict[str, Callable[[str], str]] = {
    "update": lambda n: f'UpdateRows(table="t", set={{{n!r}: "7"}}, where={quoted(n) + " = 1"!r})',
    "update another": lambda _: 'UpdateRows(table="t", set={"v": "7"}, where="id = 2")',
    "backfill": lambda n: f'BackfillColumns(table="t", columns=({n!r},), reads=({n!r},), using=plus)',
    "delete": lambda n: f'DeleteRows(table="t", where={quoted(n) + " = 1"!r})',
    "upsert": lambda n: f'UpsertRows(table="t", rows=[{{"id": 9, {n!r}: 9}}], on=({n!r},))',
    "rename": lambda n: f'RenameColumn(table="t", column={n!r}, to="zz")',
    "rename to": lambda n: f'RenameColumn(table="t", column="v", to={n + "2"!r})',
    "retype": lambda n: f'RetypeColumn(table="t", column={n!r}, to="float64")',
    "retype by sql": lambda n: (
        f'RetypeColumn(table="t", column={n!r}, to="float64", using={quoted(n) + " * 2"!r})'
    ),
    "drop": lambda n: f'DropColumn(table="t", column={n!r})',
    "add": lambda n: (
        f'AddColumn(table="t", column=pa.field({n + "3"!r}, pa.int64()), sql={quoted(n) + " + 1"!r})'
    ),
    "add null": lambda n: f'AddColumn(table="t", column=pa.field({n + "3"!r}, pa.int64()))',
    "index": lambda n: f'CreateIndex(table="t", column={n!r}, type="BTREE")',
    "key": lambda n: f'SetKey(table="t", key=({n!r},))',
    "metadata": lambda n: f'SetMetadata(table="t", column={n!r}, metadata={{"a": "b"}})',
    "require": lambda n: f'RequireColumn(table="t", column={n!r})',
    "rewrite": lambda n: f'RewriteTable(table="t", data_storage_version="stable", order_by=({n!r},))',
    "rename table": lambda _: 'RenameTable(table="t", to="u")',
}
BYSTANDERS_ONLY = {"update another", "rename table"}
ONE_WAY = {"drop", "retype by sql"}
READS_NO_ROWS = {"rename", "rename to", "add null", "metadata"}
REVISION = '''"""A step.

Revision ID: 0002
Revises: 0001
"""
import pyarrow as pa
import pyarrow.compute as pc
from lancemig import *

revision = "0002"
down_revision = "0001"

def plus(batch):
    return pc.add(batch.column(0), 1)

operations = [{}]
'''


class Project:
    """A catalog with the table `t`, adopted, in a folder of its own."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        rows: dict[str, Any] = {"id": [1, 2], "v": [1, 2]} | {name: [1, 2] for name in names}
        lance.write_dataset(pa.table(rows), str(folder / "data" / "t.lance"))
        assert self("init", "--from-live", "--store", "data").exit_code == 0

    def __call__(self, *arguments: str) -> Result:
        with chdir(self.folder):
            done = CliRunner().invoke(main, arguments, prog_name="lancemig")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def revision(self, operation: str) -> None:
        (self.folder / "versions" / "0002_step.py").write_text(REVISION.format(operation), encoding="utf-8")
        assert self("rehash").exit_code == 0

    def rows(self) -> list[str]:
        """The rows of `t`, in no particular order."""
        found = self("query", "select * from t", "--json")
        assert found.exit_code == 0, found.output
        return sorted(map(repr, json.loads(found.stdout)["rows"]))


def there_and_back(folder: Path, operation: str, name: str) -> None:
    others = [odd for odd in ODD[:6] if odd.lower() != name.lower()]
    project = Project(folder, *dict.fromkeys([name, *others]))
    before = project.rows()
    project.revision(OPERATIONS[operation](name))
    for command in (["upgrade"], ["check"]):
        done = project(*command)
        assert done.exit_code == 0, done.output
    done = project("downgrade", "0001")
    assert done.exit_code == (2 if operation in ONE_WAY else 0), done.output
    if operation not in ONE_WAY:
        assert project.rows() == before


def drawn(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


def usable(name: str) -> bool:
    new = {name.lower(), f"{name}2".lower(), f"{name}3".lower()}
    return not new & TAKEN and (name.isprintable() or name in ODD)


@pytest.mark.parametrize("operation", OPERATIONS)
@drawn(2)
@given(name=NAMES.filter(usable))
def test_a_name_goes_through_every_operation_and_back(tmp_path: Path, operation: str, name: str):
    with TemporaryDirectory(dir=tmp_path) as folder:
        there_and_back(Path(folder), operation, name)


@pytest.mark.nightly
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_odd_name_goes_through_every_operation(tmp_path: Path, operation: str):
    for name in ODD:
        with TemporaryDirectory(dir=tmp_path) as folder:
            there_and_back(Path(folder), operation, name)


@pytest.mark.nightly
@pytest.mark.parametrize("operation", OPERATIONS)
@drawn(60)
@given(name=NAMES.filter(usable))
def test_many_names_go_through_every_operation(tmp_path: Path, operation: str, name: str):
    with TemporaryDirectory(dir=tmp_path) as folder:
        there_and_back(Path(folder), operation, name)


@pytest.mark.parametrize("name", ["`bt", ""])
@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - BYSTANDERS_ONLY - READS_NO_ROWS))
def test_what_lance_cannot_read_is_refused_while_the_plan_is_made(tmp_path: Path, operation: str, name: str):
    project = Project(tmp_path, name)
    project.revision(OPERATIONS[operation](name))
    done = project("upgrade")
    assert done.exit_code == 2, done.output
    assert "next: " in done.stderr
    assert "no run is in progress" in project("recover").stderr


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_column_that_lance_cannot_read_may_stand_beside(tmp_path: Path, name: str):
    project = Project(tmp_path, name)
    project.revision(OPERATIONS["update another"]("v"))
    assert project("upgrade").exit_code == 0
    if name:  # A table with an empty name is not described by the files, so that its downgrade is declared
        assert project("downgrade", "0001").exit_code == 0


def test_a_rename_takes_a_backtick_out_of_a_name(tmp_path: Path):
    project = Project(tmp_path, "`bt")
    project.revision(OPERATIONS["rename"]("`bt"))
    assert project("upgrade").exit_code == 0
    assert "zz" in project("query", "select zz from t").stdout


@pytest.mark.parametrize(
    "name", ["a`b", "_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "a\0b"]
)
def test_a_new_column_that_lance_could_not_read_is_refused(tmp_path: Path, name: str):
    project = Project(tmp_path)
    project.revision(f'AddColumn(table="t", column=pa.field({name!r}, pa.int64()))')
    done = project("upgrade")
    assert done.exit_code == 2, done.output
