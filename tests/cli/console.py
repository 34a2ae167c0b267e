"""The command line on a lab's catalog, called as a user calls it."""

import json
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner, Result
from lab import Lab

from lancemig.cli import main

CREATE = """
    CreateTable(
        table="recordings", key=("id",),
        schema=pa.schema([("id", pa.int64()), ("gain", pa.float64())]),
        rows=[{"id": 1, "gain": 1.0}, {"id": 2, "gain": 2.0}],
    ),
"""
DOUBLE = 'UpdateRows(table="recordings", set={"gain": "gain * 2"})'
RENAME = 'RenameColumn(table="recordings", column="gain", to="volume")'

BOOM = """
def boom(batch: pa.RecordBatch) -> pa.Array:
    raise ValueError("no")
"""
RAISES = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=boom)'


@dataclass
class Console:
    """`console("upgrade", "--plan")`; `says` where it must succeed, `json` where it prints JSON."""

    lab: Lab

    def __call__(self, *arguments: str, **environ: str | None) -> Result:
        config = str(self.lab.folder / "lancemig.ini")
        env = {"LANCEMIG_CONFIG": config, **environ}
        return CliRunner().invoke(main, arguments, env=env, prog_name="lancemig")

    def says(self, *arguments: str) -> str:
        done = self(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def json(self, *arguments: str, status: int = 0) -> Any:
        done = self(*arguments, "--json")
        assert done.exit_code == status, done.output
        document = json.loads(done.stdout)
        assert document["format"] == 1
        return document

    def refuses(self, *arguments: str, status: int) -> str:
        """What stderr says: one message, the next command, no traceback; stdout has the plan at most."""
        done = self(*arguments)
        assert done.stdout.startswith("catalog  ") or done.stdout == "", done.stdout
        assert done.exit_code == status, done.output
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "Traceback" not in done.output
        assert f"\n{done.stderr}".count("\nlancemig: ") == 1, done.stderr
        assert done.stderr.count("\nnext: ") == 1, done.stderr
        return done.stderr
