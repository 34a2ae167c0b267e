"""What `check` and `lint` find, as values."""

from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

from lancemig.catalog.value import Value


class Level(StrEnum):
    """How bad a finding is: it would do harm, it probably would, or it is only worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(Value):
    """One thing that is not as it should be; `code` is contract.

    `path` and `line` say where in a file it was found, if it was in one.
    """

    code: str
    message: str
    next_step: str = ""
    level: Level = Level.ERROR
    path: Path | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """`versions/0007_x.py:12`; empty where it was found in no file."""
        return ":".join(str(part) for part in (self.path, self.line) if part is not None)


def matches(code: str, patterns: Iterable[str]) -> bool:
    """Whether `code` is meant by one of `patterns`: itself, its beginning (`LM3`), or with `*` and `?`.

    One may be several, with commas between them.
    """
    given = [one for pattern in patterns for one in pattern.split(",")]
    wanted = [pattern.strip().upper().replace("…", "*") for pattern in given]
    return any(code.startswith(pattern) or fnmatchcase(code, pattern) for pattern in wanted if pattern)
