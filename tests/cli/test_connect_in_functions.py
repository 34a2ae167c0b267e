"""`lancemig.connect()` in a function of a migration opens the catalog that the command is at work on."""

from pathlib import Path

import lance
import pyarrow as pa
import pytest
from console import Console
from lab import Lab

import lancemig
from lancemig.commands import running
from lancemig.errors import ConfigError

MISSING = """
import lancemig

def there(*where, **named):
    return set(lancemig.connect(*where, **named).open_table("t").to_arrow().column("id").to_pylist())

def missing():
    known = there({where})
    yield pa.record_batch({{"id": pa.array([i for i in (1, 2, 3) if i not in known], pa.int64())}})

def seen(batch):
    return pa.array([str(sorted(there({where})))] * len(batch))
"""
UPSERT = 'UpsertRows(table="t", rows=missing, on=("id",))'


@pytest.fixture
def two(lab: Lab, console: Console, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Two catalogs: `lancemig`, whose table `t` has three rows, and `b`, whose table has none."""
    ini = lab.folder / "lancemig.ini"
    ini.write_text(f"{ini.read_text()}\n[b]\nfallback_prefix = b/\npointer = b/ACTIVE.json\n")
    lab.revision('CreateTable(table="t", schema=["id: int64"])')
    console.says("upgrade")
    console.says("-n", "b", "upgrade")
    lab.append("t", [{"id": 1}, {"id": 2}, {"id": 3}])
    monkeypatch.chdir(lab.folder)
    return lab


def rows_of_b(lab: Lab) -> list[int]:
    tables = lab.catalog().store.tables
    found: list[int] = lance.dataset(tables.uri("b/", "t")).to_table().column("id").to_pylist()
    return sorted(found)


@pytest.mark.parametrize(
    "where", ["", "'lancemig.ini'", "config=__file__.split('versions')[0] + 'lancemig.ini'"]
)
def test_a_source_reads_the_catalog_that_is_changed(two: Lab, console: Console, where: str) -> None:
    two.revision(UPSERT, above=MISSING.format(where=where))
    assert "3" in console.says("-n", "b", "upgrade", "--plan", "--sample", "5")
    console.says("-n", "b", "upgrade")
    assert rows_of_b(two) == [1, 2, 3]
    console.says("upgrade")
    assert len(two.rows("t")) == 3


def test_a_catalog_that_is_named_is_the_one_that_is_read(two: Lab, console: Console) -> None:
    two.revision(UPSERT, above=MISSING.format(where="name='lancemig'"))
    console.says("-n", "b", "upgrade")
    assert rows_of_b(two) == []


def test_a_row_function_reads_it_as_well_also_when_verification_calls_it(two: Lab, console: Console) -> None:
    tables = two.catalog().store.tables
    lance.write_dataset(pa.table({"id": [7]}), tables.uri("b/", "t"), mode="append")
    change = 'AddColumn(table="t", column="s: string", reads=("id",), using=seen)'
    two.revision(change + ', RenameColumn(table="t", column="id", to="no")', above=MISSING.format(where=""))
    console.says("-n", "b", "upgrade")
    live = console.json("-n", "b", "current")["prefix"]
    assert lance.dataset(tables.uri(live, "t")).to_table().to_pylist() == [{"no": 7, "s": "[7]"}]


def test_after_the_command_the_defaults_are_those_of_the_file(two: Lab, console: Console) -> None:
    two.revision(UPSERT, above=MISSING.format(where=""))
    console.says("-n", "b", "upgrade")
    assert lancemig.connect().open_table("t").count_rows() == 3
    assert not running._at_work


def test_a_thread_of_lance_between_two_catalogs_is_refused(two: Lab, tmp_path: Path) -> None:
    settings = two.settings
    running._at_work.update({1: [settings], 2: [settings.model_copy(update={"name": "b"})]})
    try:
        assert running.settings_at_work() is None
        called = {"__name__": "lancemig.apply.rows", "ask": running.settings_at_work}
        with pytest.raises(ConfigError, match="several catalogs"):
            exec("ask()", called)  # noqa: S102
    finally:
        running._at_work.clear()
