"""The file of `--report`: a line of JSON for each row that a run left as it was."""

import json
from pathlib import Path
from typing import Any

from lancemig.apply.rows.left import Line
from lancemig.errors import ConfigError


class RowReport:
    """Keeps the file whole at every moment; a run that goes on after a death keeps the lines it wrote before.

    Each line holds `run`, `step`, `table`, `key`, `old` and `reason`. Raises ConfigError when the file cannot
    be written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self._lines = self._earlier()
        self._write()

    def put(self, step: str, lines: list[Line]) -> None:
        """The rows that `step` leaves are these now."""
        if lines or step in self._lines:
            self._lines[step] = [_spelt({"run": self.run, "step": step, **line}) for line in lines]
            self._write()

    def _earlier(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            for line in text.splitlines():
                document = json.loads(line)
                if document["run"] == self.run:
                    found.setdefault(document["step"], []).append(line)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{self.path} exists and is not a row report: {error}",
                next_step="choose another --report FILE",
            ) from error
        return found

    def _write(self) -> None:
        text = "".join(f"{line}\n" for lines in self._lines.values() for line in lines)
        beside = self.path.with_name(f".{self.path.name}.part")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}", next_step="choose another --report FILE"
            ) from error


def _spelt(document: dict[str, Any]) -> str:
    return json.dumps(document, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
