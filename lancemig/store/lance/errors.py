"""What Lance raises, translated to a LancemigError by a table of kinds.

Lance raises the same error as different classes (a conflict is a `CommitConflictError`, `OSError` or
`RuntimeError`), so the text decides. The table is `KINDS`, and docs/errors.md shows it
(tests/store/test_errors.py). What no kind names is permanent: the same command would fail again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lance.commit import CommitConflictError

from lancemig.errors import LancemigError, PlanError, Refused, StoreError


class Damaged(StoreError):
    """The files of a table are damaged; trying again does not help."""


class Conflict(Refused):
    """Another writer committed first. Nothing landed; stage again from the newest version.

    A user sees it only if no caller stages again.
    """

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message, next_step=next_step or _AGAIN)


class FilesGone(Conflict):
    """Cleanup removed staged files. Nothing landed; write them again."""


class Missing(StoreError):
    """The table, the version or a file of it does not exist: a writer's cleanup may have removed it.

    A user sees it only if no caller reads a newer version instead.
    """

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message, next_step=next_step or _MISSING)


class VersionGone(Missing):
    """A data file of a version that exists was removed: the version is being cleaned up, or damaged."""


class LanceRefused(PlanError):
    """Lance refuses what lancemig asked for, for a reason that no other kind names, or it panicked.

    Unlike after another PlanError, results of functions are kept.
    """

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message, next_step=next_step or _CHANGE)


@dataclass(frozen=True)
class Kind:
    """A kind of errors: how it is recognized, and what it becomes."""

    name: str
    """What happened, as docs/errors.md calls it."""

    pattern: str
    """A regular expression for Lance's text, in lower case and without what it quotes."""

    raises: type[LancemigError]
    next_step: str | None
    classes: tuple[type[BaseException], ...] = ()
    """Exceptions that are of this kind whatever their text is."""

    def includes(self, error: BaseException, text: str) -> bool:
        """Whether an error with this text is of the kind."""
        return isinstance(error, self.classes) or re.search(self.pattern, text) is not None


_AGAIN = "run the same command again"
_LATER = "run the same command again later"
_CHANGE = "the same command fails again: change the operation, or the table; then: lancemig upgrade --plan"
_MISSING = (
    "run the same command again; if it fails again and a run is in progress: lancemig recover --undo; "
    "if not, the table is damaged: lancemig check"
)

KINDS = (
    Kind(
        "another writer committed first",
        # A Merge that lost the race is refused by validation (tests/surface/test_lance_conflicts.py).
        "commit conflict|incompatible transaction|too many concurrent writers|merge operation",
        Conflict,
        _AGAIN,
        (CommitConflictError,),
    ),
    Kind(
        "a table or a version does not exist",
        r"(?s)^(?=.*(was not found|not found:))(?=.*(dataset at path|\.manifest))",
        Missing,
        _MISSING,
    ),
    Kind(
        "a data file of a version does not exist",
        "(?s)^(?=.*not found)(?=.*(/data/|/_deletions/))",
        VersionGone,
        _MISSING,
    ),
    Kind(
        "files of a table are damaged",
        "does not have sufficient data|file size is too small|failed to decode protobuf|for object of size 0"
        "|failed to fill whole buffer|does not appear to be a lance file|corrupt file|is not aligned to"
        "|(?s:not found.*/_indices/)",
        Damaged,
        "restore the table from a backup, or move its folder away",
    ),
    Kind(
        "Lance cannot evaluate an expression",
        "schema error|sql parser|parsererror|no field named|not supported sql|error during planning"
        "|invalid function|could not be parsed|invalid user input|expression is not valid"
        "|error parsing statement|could not convert to literal|does not return a boolean|cast error"
        "|divide by zero|regex parse error|arithmetic overflow",
        PlanError,
        None,
    ),
    Kind(
        "Lance refuses a schema, a type or an index",
        r"^(external error: )?lanceerror\((schema|index)\)(?!.*(lanceerror\(io\)|generic|os error))"
        "|append with different schema|^not supported:",
        LanceRefused,
        _CHANGE,
    ),
    Kind(
        "the store refuses access",
        "permission denied|read-only file system|operation not permitted|access ?denied"
        r"|status (code:? )?40[13]\b|forbidden|unauthorized|unauthenticated|credential|lacked the necessary"
        "|expired ?token|invalidaccesskeyid|signaturedoesnotmatch",
        StoreError,
        "check credentials and rights, then run the same command again: it continues",
        (PermissionError,),
    ),
    Kind(
        "the machine has no space, memory or file handles left",
        "no space left on device|quota exceeded|too many open files|file too large|cannot allocate memory"
        "|out of memory|resources exhausted|memory allocation of",
        StoreError,
        "free disk space or memory, or raise the limit, then run the same command again: it continues",
        (MemoryError,),
    ),
    Kind(
        "the store did not answer in time, throttled the request, or the connection was lost",
        r"timed? ?out\b|timeout|throttl|slow ?down|too many requests|status (code:? )?(429|5\d\d)"
        "|internalerror|service ?unavailable|server error|temporarily unavailable"
        "|connection (was )?(refused|reset|closed|aborted)|connection error|broken pipe"
        "|error sending request|dns error|incomplete message|error decoding response body|unexpected eof"
        "|end of file before message|stale file handle"
        "|input/output error|transport endpoint|network is unreachable|no route to host|resource busy",
        StoreError,
        _LATER,
        (TimeoutError, ConnectionError),
    ),
    Kind(
        "a remote store failed otherwise",
        r"generic (s3|gcs|http|microsoftazure|oss|cos|tos|\w+ ?store) error|nosuchbucket",
        StoreError,
        "lancemig doctor",
    ),
)
"""The kinds in the order in which they are tried."""

REFUSED = Kind(
    "Lance refuses it otherwise, or panics",
    "",
    LanceRefused,
    _CHANGE,
)
"""The kind of every other error."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise what Lance raises as the error of its kind; `doing` begins the message."""
    try:
        yield
    except (LancemigError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        raise translation(doing, error) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise translation(doing, error) from error


@contextmanager
def panics_translated(doing: str) -> Iterator[None]:
    """Raise a panic in Lance as LanceRefused, wherever it comes from; `doing` begins the message."""
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise translation(doing, error) from error


def is_panic(error: BaseException) -> bool:
    """Whether Lance panicked; the class of such an error derives from BaseException alone."""
    return type(error).__name__ == "PanicException"


def translation(doing: str, error: BaseException) -> LancemigError:
    """The error of the kind of `error`; `doing` begins the message."""
    said = first_line(error)
    kind = kind_of(error)
    if is_panic(error):
        said = f"Lance failed internally: {said}"
    if kind.raises is Conflict:
        return Conflict(said)
    if kind.raises is Damaged:
        return damaged(doing, said)
    return kind.raises(f"{doing}: {said}", next_step=kind.next_step)


def kind_of(error: BaseException) -> Kind:
    """The kind of an error of Lance. Names and values that the text quotes do not count."""
    if is_panic(error):
        return REFUSED
    text = _QUOTED.sub("''", str(error).lower())
    return next((kind for kind in KINDS if kind.includes(error, text)), REFUSED)


_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`")


def is_of_null_vectors(error: BaseException) -> bool:
    """Whether Lance failed to add rows to a vector index because all of their vectors are null."""
    return re.search(r"not found: .*/ivf_\d+\.lance", str(error), re.IGNORECASE) is not None


def damaged(doing: str, said: str) -> Damaged:
    """The error for damaged files."""
    return Damaged(
        f"{doing}: the files are damaged: {said}",
        next_step="restore the table from a backup, or move its folder away",
    )


def first_line(error: BaseException) -> str:
    """The message of an exception, without the backtrace that Lance appends."""
    # A KeyError quotes its message; some errors of pylance have it in several arguments.
    plain = all(isinstance(part, str) for part in error.args) and not isinstance(error, OSError)
    whole = "".join(error.args) if plain else str(error)
    text = whole.strip().splitlines()
    if not text:
        return type(error).__name__
    return re.split(r", (?:rust/|/rustc|/home/runner/)", text[0])[0]
