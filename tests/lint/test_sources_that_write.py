"""LM020: a source of rows that writes. Reading is its work, and is no finding."""

from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.commands.lint import lint

OPERATION = 'UpsertRows(table="t", rows=rows, on=("id",), when_exists="keep")'


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    return Lab(tmp_path, local_place)


def found(lab: Lab, body: str) -> list[str]:
    above = f"""
import json, os, shutil, subprocess
from pathlib import Path
import boto3, requests
import pyarrow.parquet as pq

def rows():
    {body}
    yield pa.record_batch({{"id": [1]}})
"""
    lab.revision(OPERATION, above=above.replace("import boto3, requests\n", "boto3 = requests = None\n"))
    return [f.message for f in lint(lab.settings) if f.code == "LM020"]


@pytest.mark.parametrize(
    "body",
    [
        'Path("x").write_bytes(b"1")',
        'Path("x").unlink()',
        'Path("x").open("ab").close()',
        'open("x", "w").write("1")',
        'open("x", mode="r+").write("1")',
        'os.remove("x")',
        'shutil.rmtree("x")',
        'subprocess.run(["x"])',
        'json.dump({}, open("x"))',
        'pq.write_table(None, "x")',
        'client.put_object(Bucket="b", Key="k")',
        'frame.to_parquet("x")',
    ],
)
def test_what_writes_is_named(lab: Lab, body: str) -> None:
    [message] = found(lab, body)
    assert message.startswith("rows() writes: ")


@pytest.mark.parametrize(
    "body",
    [
        'open("x").read()',
        'open("x", "rb").read()',
        'Path("x").read_text()',
        'archive.open("wax.wav")',
        'pq.read_table("x")',
        'client.get_object(Bucket="b", Key="k")',
        "json.loads('1')",
    ],
)
def test_what_reads_is_no_finding(lab: Lab, body: str) -> None:
    assert found(lab, body) == []


def test_a_helper_that_writes_is_followed(lab: Lab) -> None:
    (lab.folder / "helper_writing.py").write_text(
        "from pathlib import Path\ndef note():\n    Path('x').touch()\n"
    )
    above = "from helper_writing import note\ndef rows():\n    note()\n    yield pa.record_batch({'id': [1]})"
    lab.revision(OPERATION, above=above)
    [finding] = [f for f in lint(lab.settings) if f.code == "LM020"]
    assert finding.path is not None
    assert finding.path.name == "helper_writing.py"


def test_a_plan_calls_no_source_without_a_sample(lab: Lab) -> None:
    from lancemig.commands import upgrade

    lab.revision('CreateTable(table="t", key=("id",), schema={"id": "int64"})')
    lab.upgrade()
    mark = lab.folder / "called"
    above = f"""
from pathlib import Path

def rows():
    Path({str(mark)!r}).touch()
    yield pa.record_batch({{"id": [1]}})
"""
    lab.revision(OPERATION, above=above)
    upgrade.prepare(lab.catalog(), "head", "up")
    assert not mark.exists()
