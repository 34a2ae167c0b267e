"""A project whose second revision is written by a test, and what `lint` finds in it."""

from pathlib import Path
from textwrap import dedent

from lancemig.catalog.findings import Finding
from lancemig.commands.lint import lint
from lancemig.config import read_settings

FIRST = '''
"""Create the recordings."""
import pyarrow as pa
from lancemig import CreateIndex, CreateTable

revision = "0001"
down_revision = None
operations = [
    CreateTable(
        table="rec",
        schema=pa.schema(
            [
                pa.field("id", pa.int64(), nullable=False),
                pa.field("host", pa.string()),
                pa.field("gain", pa.float64()),
                pa.field("samples", pa.int64()),
                pa.field("at", pa.timestamp("us")),
                pa.field("audio", pa.binary()),
                pa.field("unit", pa.string()),
                pa.field("device", pa.struct([("serial", pa.string()), ("channels", pa.int32())])),
            ]
        ),
        key=("id",),
    ),
    CreateIndex(table="rec", column="host", type="BTREE"),
]
'''
BACKFILL = 'BackfillColumns(table="rec", columns=("gain",), reads=("gain",), using=f)'


def linted(folder: Path, body: str) -> list[Finding]:
    """What lint finds in a second revision in `folder`, of which `body` is the text below the header."""
    versions = folder / "versions"
    versions.mkdir(exist_ok=True)
    (folder / "lancemig.ini").write_text("[lancemig]\nstore = store\n")
    (versions / "0001_first.py").write_text(FIRST.lstrip())
    header = '"""What it does."""\nimport pyarrow as pa\nfrom lancemig import *\n'
    header += 'revision = "0002"\ndown_revision = "0001"\n'
    (versions / "0002_next.py").write_text(header + dedent(body))
    return lint(read_settings(folder / "lancemig.ini", environ={}), ignored=["LM210"])
