"""A wide table costs in proportion to its columns: its schema is not read again for each of them."""

from collections import Counter
from contextlib import chdir
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner

from lancemig.cli import main
from lancemig.revisions import writer

FIELDS = ("schema", "lance_schema")


def lancemig(folder: Path, *arguments: str) -> None:
    with chdir(folder):
        done = CliRunner().invoke(main, arguments, prog_name="lancemig")
    assert done.exit_code == 0, done.output


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a schema was asked of Lance, which builds it anew each time."""
    counts: Counter[str] = Counter()
    for name in FIELDS:
        original = getattr(lance.LanceDataset, name).fget

        def counted(dataset: lance.LanceDataset, name: str = name, original=original):
            counts[name] += 1
            return original(dataset)

        monkeypatch.setattr(lance.LanceDataset, name, property(counted))
    return counts


def reads_by_verb(folder: Path, columns: int, reads: Counter[str]) -> dict[str, Counter[str]]:
    folder.mkdir()
    rows = {f"c{number}": [1, 2] for number in range(columns)}
    lance.write_dataset(pa.table(rows), str(folder / "data" / "t.lance"))
    revision = folder / "versions" / "0002_x.py"
    text = '"""A step."""\nfrom lancemig import *\nrevision = "0002"\ndown_revision = "0001"\n'
    found: dict[str, Counter[str]] = {}

    def run(verb: str, *arguments: str) -> None:
        reads.clear()
        lancemig(folder, *arguments)
        found[verb] = Counter(reads)

    run("init", "init", "--from-live", "--store", "data")
    run("check", "check")
    revision.write_text(text + 'operations = [UpdateRows(table="t", set={"c1": "7"}, where="c0 = 1")]\n')
    run("upgrade in place", "upgrade")
    run("downgrade in place", "downgrade", "0001")
    revision.write_text(text + 'operations = [RenameColumn(table="t", column="c1", to="d1")]\n')
    run("upgrade", "upgrade")
    run("verify", "verify")
    run("downgrade", "downgrade", "0001")
    return found


def test_no_verb_asks_for_a_schema_for_each_column(tmp_path: Path, reads: Counter[str]):
    few, many = (reads_by_verb(tmp_path / str(count), count, reads) for count in (4, 40))
    assert many == few


def test_the_source_of_a_wide_table_is_not_split_for_each_column(monkeypatch: pytest.MonkeyPatch):
    def split(*_: object, **__: object) -> str:
        raise AssertionError("the whole text is split for each node")

    monkeypatch.setattr(writer.ast, "get_source_segment", split)
    fields = ", ".join(f'pa.field("spalte_é_{number}", pa.int64())' for number in range(60))
    laid_out = writer.format_expression(f'CreateTable(table="t", schema=pa.schema([{fields}]))', indent=4)
    assert laid_out.count('pa.field("spalte_é_') == 60
    assert '        pa.field("spalte_é_59", pa.int64()),' in laid_out
