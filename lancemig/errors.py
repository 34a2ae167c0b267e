"""The errors a user can act on, by what they would do about them.

    LancemigError                          exit   the operator ...
    ├── ConfigError      config            2      fixes lancemig.ini
    ├── ScriptError      script            2      fixes a file in versions/
    │   └── TwoHeads     two-heads         2      rebases one of two revisions
    ├── PlanError        plan              2      changes the operation, or the catalog
    │   ├── Irreversible irreversible      2      declares `downgrade`, or rolls back
    │   └── FunctionFailed plan            2      fixes a function of the migration
    │       └── FunctionUnavailable plan   2      tries again later: a time-out, throttling
    ├── BrakeTripped     brake             1      looks at the rows, raises the brake
    ├── CheckFailed      check-failed      1      looks at the rows, fixes data or migration
    ├── LineageBroken    lineage-broken    1      finds out who changed the history
    ├── Incomplete       incomplete        1      reads what was done, runs the named command
    ├── Refused          refused           3      looks at what changed, plans again
    │   ├── LockHeld     lock-held         3      waits for the other runner
    │   ├── PointerMoved pointer-moved     3      runs again: another run won
    │   ├── ForeignPointer foreign-pointer 3      finds out who wrote it, then stamps
    │   ├── RunUnfinished run-unfinished   3      finishes the named run, or undoes it
    │   ├── PlanStale    plan-stale        3      plans again
    │   └── CatalogAhead catalog-ahead     3      gets the newer files
    ├── VerifyFailed     verify-failed     4      reads the report; nothing was flipped
    ├── OutcomeUnknown   outcome-unknown   5      looks before changing anything
    └── StoreError       store             6      tries again later

`code` is contract and only ever added to; messages are not. A class exists where somebody handles it
differently. Every message says what, where, and (`next_step`) the command to type next.
"""

from pathlib import Path
from typing import ClassVar


class LancemigError(Exception):
    """The base of all errors; has the exit status and the next step."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 2

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message if self.next_step is None else f"{self.message}\nnext: {self.next_step}"


class ConfigError(LancemigError):
    """lancemig.ini, a section, a key or an environment variable is missing or not valid."""

    code = "config"


class ScriptError(LancemigError):
    """A file in versions/ is wrong, or the files do not form one chain; at `path` and `line`, if known."""

    code = "script"

    def __init__(
        self,
        message: str,
        *,
        next_step: str | None = None,
        path: Path | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.path = path
        self.line = line


class TwoHeads(ScriptError):
    """Two revisions have the same parent."""

    code = "two-heads"


class PlanError(LancemigError):
    """An operation is impossible on this catalog; nothing was changed."""

    code = "plan"


class Irreversible(PlanError):
    """An operation has no inverse, and the file declares no `downgrade`."""

    code = "irreversible"


class FunctionFailed(PlanError):
    """A function of a migration raised an exception; earlier results of the function are kept."""


class FunctionUnavailable(FunctionFailed):
    """The exception says that a service did not answer in time, or throttled the function."""


class BrakeTripped(LancemigError):
    """An operation would change more rows than its brakes allow; stopped before its first commit."""

    code = "brake"
    exit_status = 1


class CheckFailed(LancemigError):
    """A check of a revision failed; nothing was changed, or the changes were undone."""

    code = "check-failed"
    exit_status = 1


class LineageBroken(LancemigError):
    """An entry of the lineage is missing, or was changed after it was written."""

    code = "lineage-broken"
    exit_status = 1


class Incomplete(LancemigError):
    """The command passed its commit point, and a later part of it failed; the message names both.

    The error of the later part is `__cause__`.
    """

    code = "incomplete"
    exit_status = 1


class Interrupted(KeyboardInterrupt):
    """The user interrupted a command after its commit point: the same command does not continue it."""

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class Refused(LancemigError):
    """The catalog has changed since the decision, or another runner is at work on it."""

    code = "refused"
    exit_status = 3


class LockHeld(Refused):
    """Another runner holds the lock."""

    code = "lock-held"


class PointerMoved(Refused):
    """Another run changed the pointer first."""

    code = "pointer-moved"


class ForeignPointer(Refused):
    """Another program wrote the pointer: it is not what the lineage says."""

    code = "foreign-pointer"


class RunUnfinished(Refused):
    """A run is in progress, and the command is not its continuation."""

    code = "run-unfinished"


class PlanStale(Refused):
    """A requirement of the plan no longer holds."""

    code = "plan-stale"


class CatalogAhead(Refused):
    """The pointer names a revision for which there is no file."""

    code = "catalog-ahead"


class VerifyFailed(LancemigError):
    """A gate of the verification failed; the live catalog is unchanged."""

    code = "verify-failed"
    exit_status = 4


class OutcomeUnknown(LancemigError):
    """A write may or may not have landed, and the object could not be read back."""

    code = "outcome-unknown"
    exit_status = 5


class StoreError(LancemigError):
    """The store refused a request, failed or could not be reached."""

    code = "store"
    exit_status = 6
