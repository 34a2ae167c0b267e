"""How commits and guards of lancemig are named. Old runs are found by these names: they never change.

Every commit of lancemig carries a stamp in its transaction properties: the run, the revision, and a step.

    step id     <revision>/<index>                     an operation of a revision, counted from 0
                <revision>/down.<index>                the same, downwards
                undo/<step id>                         the undo of a step of an unfinished run
    stamp       <step id>.<part>                       a commit of a step; parts are counted from 0
                <stamp>.null                           a column added without values, since writers append
                <stamp>.fill                           and then filled
                <step id>.late.<round>.<version>       rows filled that were appended after that
                <step id>.indices.<name>               an index built again after the step changed rows
                <stamp>.again                          an upsert or replication repeated for rows that raced
                <stamp>.withdrawn                      duplicates of <stamp> that were deleted again
                <stamp>.<commit>.<cells|inserted|deleted>   one kind of change of an undone commit, reverted
                tail/<root><table>/<after>-<upto>      rows replicated from those versions of the table
                along/<table>/<version>.<number>       a schema change of another writer, repeated
                along/<table>/<version>.settings           the configuration of the live table, repeated
    own/<table>/<version>.<files|indices>  a table made independent of the files that it borrows
    guard       lancemig/<run>/v<version>[.<attempt>]  a branch that keeps a version of a table

A root ends in a slash, or is empty. A guard has an attempt if a crash left the shorter name half-made.
"""

import re
from dataclasses import dataclass

RUN = "lancemig.run"
REVISION = "lancemig.revision"
STEP = "lancemig.step"
READ_VERSION = "lancemig.read_version"
CHANGED, SKIPPED, INDETERMINATE = "lancemig.changed", "lancemig.skipped", "lancemig.indeterminate"
MOVES = "lancemig.moves"
"""The transaction properties of a commit."""

UNDO = "undo/"
REPLICATION = "tail/"
WITHDRAWN = ".withdrawn"
AGAIN = ".again"

_DOWN = "down."
_GUARD = re.compile(r"lancemig/[^/]+/v(\d+)(\.\d+)?")


@dataclass(frozen=True)
class StepId:
    """The operation that a step carries out: `0007/0`, `0007/down.0`, `undo/0007/0`."""

    revision: str
    index: int
    """Counted from 0."""
    down: bool = False
    undo: bool = False

    def __str__(self) -> str:
        undo, down = UNDO if self.undo else "", _DOWN if self.down else ""
        return f"{undo}{self.revision}/{down}{self.index}"

    @classmethod
    def parse(cls, text: str) -> "StepId | None":
        """The operation that a step id names; None for any other text."""
        revision, _, index = text.removeprefix(UNDO).rpartition("/")
        if not revision or not index.removeprefix(_DOWN).isdecimal():
            return None
        return cls(revision, int(index.removeprefix(_DOWN)), index.startswith(_DOWN), text.startswith(UNDO))


def part_stamp(step_id: str, part: int) -> str:
    """The stamp of a commit of a step: `0007/0.0`."""
    return f"{step_id}.{part}"


def is_of_step(stamp: str, step_id: str) -> bool:
    """Whether a commit with this stamp is one of the step."""
    return stamp.startswith(f"{step_id}.")


def null_stamp(stamp: str) -> str:
    """The stamp of the commit that adds a column without values."""
    return f"{stamp}.null"


def fill_stamp(stamp: str) -> str:
    """The stamp of the commit that fills a column which was added without values."""
    return f"{stamp}.fill"


def late_fill_stamp(step_id: str, number: int, version: int) -> str:
    """The stamp of a commit that fills rows appended until `version` of the table, in round `number`."""
    return f"{step_id}.late.{number}.{version}"


def index_stamp(step_id: str, index: str) -> str:
    """The stamp of the commit that builds an index again after a step: `0007/0.indices.by_v`."""
    return f"{step_id}.indices.{index}"


def again_stamp(stamp: str) -> str:
    """The stamp of the commit that repeats `stamp` for the rows whose keys others inserted meanwhile."""
    return f"{stamp}{AGAIN}"


def withdrawal_stamp(stamp: str) -> str:
    """The stamp of the commit that deletes duplicates which `stamp` inserted."""
    return f"{stamp}{WITHDRAWN}"


def is_withdrawal(stamp: str) -> bool:
    """Whether a commit with this stamp deletes duplicates of another commit."""
    return stamp.endswith(WITHDRAWN)


def reversal_stamp(stamp: str, commit: int, change: str) -> str:
    """The stamp of the commit that reverts one kind of change of an undone commit."""
    return f"{stamp}.{commit}.{change}"


def undo_step(step_id: str) -> str:
    """The id of the step that undoes a step of the same run."""
    return f"{UNDO}{step_id}"


def is_undo(step_id: str) -> bool:
    """Whether the step undoes a step of the same run."""
    return step_id.startswith(UNDO)


def _replication_prefix(root: str, table: str) -> str:
    """How the stamps of commits begin that replicate rows of a table in `root` into another root."""
    return f"{REPLICATION}{root}{table}/"


def replication_stamp(root: str, table: str, after: int, upto: int) -> str:
    """The stamp of the commit that replicates what versions `after + 1` to `upto` of a table changed."""
    return f"{_replication_prefix(root, table)}{after}-{upto}"


def replicated_window(stamp: str, root: str, table: str) -> tuple[int, int] | None:
    """The versions `(after, upto)` that a commit replicated; None if it is not a replication of the table."""
    prefix = _replication_prefix(root, table)
    window = re.match(r"(\d+)-(\d+)(?:\.|$)", stamp.removeprefix(prefix))
    if not stamp.startswith(prefix) or window is None:
        return None
    return int(window[1]), int(window[2])


def is_replication(stamp: str) -> bool:
    """Whether a commit with this stamp replicated rows from another root."""
    return stamp.startswith(REPLICATION)


def side_change_stamp(table: str, version: int, number: int) -> str:
    """The stamp of a schema change of another writer, repeated in the staged root."""
    return f"along/{table}/{version}.{number}"


def settings_stamp(table: str, version: int) -> str:
    """The stamp of the commit that gives a staged table the configuration that a live version has."""
    return f"along/{table}/{version}.settings"


def materialization_stamp(table: str, version: int, part: str) -> str:
    """The stamp of a commit that makes a table name its own copies of `part`: `files` or `indices`."""
    return f"own/{table}/{version}.{part}"


def guard_name(run: str, version: int) -> str:
    """The name of the branch by which a run guards a version of a table."""
    return f"lancemig/{run}/v{version}"


def guarded_version(branch: str) -> int | None:
    """The version that a branch guards; None for a branch that is not lancemig's."""
    guard = _GUARD.fullmatch(branch)
    return None if guard is None else int(guard[1])
