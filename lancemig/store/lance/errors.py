"""Lance's exceptions, translated to a conflict, a missing table, a wrong expression or a store error.

Lance raises the same error as different classes (a conflict is a `CommitConflictError`, `OSError` or
`RuntimeError`), so the text decides if the class does not.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lance.commit import CommitConflictError

from lancemig.errors import LancemigError, PlanError, Refused, StoreError

_CONFLICTS = (
    "commit conflict",
    "incompatible transaction",
    "too many concurrent writers",
    # A Merge that lost the race is refused by validation instead (tests/surface/test_lance_conflicts.py).
    "merge operation",
)
_EXPRESSIONS = (
    "schema error",
    "sql parser",
    "parsererror",
    "no field named",
    "not supported sql",
    "error during planning",
    "invalid function",
    "could not be parsed",
    "invalid user input",
    "expression is not valid",
    "error parsing statement",
    "could not convert to literal",
    "does not return a boolean",
    "cast error",
)


_DAMAGED = (
    "does not have sufficient data",
    "file size is too small",
    "failed to decode protobuf",
    "for object of size 0",
)


class Damaged(StoreError):
    """The files of a table are damaged; trying again does not help."""


class Conflict(Refused):
    """Another writer committed first. Nothing landed; stage again from the newest version.

    A user sees it only if no caller stages again.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, next_step="run the same command again")


class FilesGone(Conflict):
    """Cleanup removed staged files. Nothing landed; write them again."""


class Missing(StoreError):
    """The table, the version or a file of it does not exist: a writer's cleanup may have removed it.

    A user sees it only if no caller reads a newer version instead.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            next_step="run the same command again; if it fails again and a run is in progress: lancemig "
            "recover --undo; if not, the table is damaged: lancemig check",
        )


class VersionGone(Missing):
    """A data file of a version that exists was removed: the version is being cleaned up, or damaged."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what Lance raises as Conflict, Missing, PlanError or StoreError; `doing` begins the message."""
    try:
        yield
    except (LancemigError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        raise _translation(doing, error) from error
    except BaseException as error:
        # A panic in Lance derives from BaseException.
        if type(error).__name__ != "PanicException":
            raise
        raise StoreError(
            f"{doing}: Lance failed internally: {first_line(error)}", next_step="lancemig status"
        ) from error


def _translation(doing: str, error: Exception) -> Exception:
    text = str(error).lower()
    if isinstance(error, CommitConflictError) or any(word in text for word in _CONFLICTS):
        return Conflict(first_line(error))
    if _is_missing(text):
        return Missing(f"{doing}: {first_line(error)}")
    if "not found" in text and ("/data/" in text or "/_deletions/" in text):
        return VersionGone(f"{doing}: {first_line(error)}")
    if any(word in text for word in _DAMAGED) or ("not found" in text and "/_indices/" in text):
        return damaged(doing, first_line(error))
    if any(word in text for word in _EXPRESSIONS):
        return PlanError(f"{doing}: {first_line(error)}")
    return StoreError(f"{doing}: {first_line(error)}", next_step="run the same command again later")


def is_of_null_vectors(error: BaseException) -> bool:
    """Whether Lance failed to add rows to a vector index because all of their vectors are null."""
    return re.search(r"not found: .*/ivf_\d+\.lance", str(error), re.IGNORECASE) is not None


def damaged(doing: str, said: str) -> Damaged:
    """The error for damaged files."""
    return Damaged(
        f"{doing}: the files are damaged: {said}",
        next_step="restore the table from a backup, or move its folder away",
    )


def _is_missing(text: str) -> bool:
    gone = "was not found" in text or "not found:" in text
    return gone and ("dataset at path" in text or ".manifest" in text)


def first_line(error: BaseException) -> str:
    """The message of an exception, without the backtrace that Lance appends."""
    text = str(error).strip().splitlines()
    if not text:
        return type(error).__name__
    return re.split(r", (?:rust/|/rustc|/home/runner/)", text[0])[0]
