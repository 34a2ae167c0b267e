"""The findings of `check`, `lint`, `status` and `doctor`, and the codes that name them.

A code is contract: codes are added, and never get another meaning. docs/lint.md has a section for each code
of `lint`, docs/command-line.md (under `check`) a row for each other one.
"""

from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import Field

from lancemig.catalog.value import FrozenModel


class Level(StrEnum):
    """How bad a finding is: it does harm, it probably does, or it is only worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Code(StrEnum):
    """The code of a finding. The first digit is what was examined."""

    # lint: one migration file
    DROPPED = "LM001"
    NARROWED = "LM002"
    DELETES_ALL = "LM003"
    UPDATES_ALL = "LM004"
    IRREVERSIBLE = "LM005"
    KIND_TOO_STRONG = "LM006"
    NOT_IDEMPOTENT = "LM007"
    INDEX_LOST = "LM008"
    NO_KEY = "LM009"
    NOT_DETERMINISTIC = "LM010"
    OUTSIDE = "LM011"
    GLOBAL_STATE = "LM012"
    NO_READS = "LM013"
    PERSONAL = "LM014"
    MIXED = "LM015"
    NO_MESSAGE = "LM016"
    FOLLOWED = "LM017"
    BAD_IGNORE = "LM018"
    IDLE_IGNORE = "LM019"
    SOURCE_WRITES = "LM020"
    ACROSS_ROWS = "LM021"

    # check: models against files
    MODELS_AHEAD = "LM101"

    # check: files against lineage; the sum file
    UNLOADED = "LM200"
    FILE_EDITED = "LM201"
    UNKNOWN_REVISION = "LM202"
    LINEAGE_BROKEN = "LM203"
    SUM_MISSING = "LM210"
    SUM_CHANGED = "LM211"
    SUM_REVISIONS = "LM212"
    SUM_DAMAGED = "LM213"

    # check: lineage against live catalog
    TABLE_ADDED = "LM301"
    TABLE_DROPPED = "LM302"
    COLUMN_ADDED = "LM303"
    COLUMN_DROPPED = "LM304"
    RETYPED = "LM305"
    NULLABILITY = "LM306"
    INDEX_ADDED = "LM307"
    INDEX_DROPPED = "LM308"
    INDEX_CHANGED = "LM309"
    METADATA = "LM310"
    KEY_CHANGED = "LM311"
    FOREIGN_COMMIT = "LM312"
    TABLE_RESTORED = "LM313"
    UNREADABLE = "LM314"
    ROWS_EDITED = "LM320"
    LOG_INCOMPLETE = "LM321"
    NOT_COMPARED = "LM322"
    INDEX_UNSUPPORTED = "LM323"
    TABLE_UNNAMED = "LM324"
    UNADDRESSED = "LM330"
    UNFLUSHED = "LM331"
    UNKNOWN_FILES = "LM332"
    INDEX_COVERAGE = "LM350"

    # check and status: head against pointer
    PENDING = "LM401"
    RUN_IN_PROGRESS = "LM402"
    LATE_WRITES = "LM403"
    FOREIGN_POINTER = "LM410"
    OLD_ROOT_IN_USE = "LM411"

    @property
    def level(self) -> Level:
        """The level that a finding with this code usually has."""
        return Level.WARNING if self in _WARNINGS else Level.INFO if self in _INFOS else Level.ERROR

    @property
    def of_lint(self) -> bool:
        """Whether it is about one migration file: found by `lint`, and described in docs/lint.md."""
        return self < "LM1"


_WARNINGS = frozenset(
    {
        Code.IRREVERSIBLE,
        Code.KIND_TOO_STRONG,
        Code.INDEX_LOST,
        Code.NO_KEY,
        Code.NO_READS,
        Code.PERSONAL,
        Code.MIXED,
        Code.NO_MESSAGE,
        Code.IDLE_IGNORE,
        Code.SUM_MISSING,
        Code.UNADDRESSED,
        Code.INDEX_COVERAGE,
        Code.OLD_ROOT_IN_USE,
    }
)
_INFOS = frozenset(
    {
        Code.ROWS_EDITED,
        Code.LOG_INCOMPLETE,
        Code.NOT_COMPARED,
        Code.INDEX_UNSUPPORTED,
        Code.TABLE_UNNAMED,
        Code.UNKNOWN_FILES,
    }
)


def _usual_level(fields: dict[str, Any]) -> Level:
    code: Code = fields["code"]
    return code.level


class Finding(FrozenModel):
    """One thing that is not as it should be."""

    code: Code
    message: str
    next_step: str = ""
    level: Level = Field(default_factory=_usual_level)
    path: Path | None = None
    """The file it was found in, if any."""
    line: int | None = None

    @property
    def place(self) -> str:
        """`versions/0007_x.py:12`; empty if it was not found in a file."""
        return ":".join(str(part) for part in (self.path, self.line) if part is not None)


def matches(code: str, patterns: Iterable[str]) -> bool:
    """Whether one of `patterns` selects `code`.

    A pattern is a code, the beginning of codes (`LM3`), or has `*` and `?`; or several of these, separated by
    commas.
    """
    given = [each for pattern in patterns for each in pattern.split(",")]
    wanted = [pattern.strip().upper().replace("…", "*") for pattern in given]
    return any(code.startswith(pattern) or fnmatchcase(code, pattern) for pattern in wanted if pattern)
