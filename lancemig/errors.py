"""The errors a user can act on, by what they would do about them.

    LancemigError                          exit   the operator ...
    ├── ConfigError      config            2      mends lancemig.ini
    ├── ScriptError      script            2      mends a file in versions/
    │   └── TwoHeads     two-heads         2      rebases one of two revisions
    ├── PlanError        plan              2      changes the operation, or the catalog
    │   └── Irreversible irreversible      2      declares `downgrade`, or rolls back
    ├── BrakeTripped     brake             1      looks at the rows, raises the brake
    ├── CheckFailed      check-failed      1      looks at the rows, mends data or migration
    ├── LineageBroken    lineage-broken    1      finds out who changed the history
    ├── Refused          refused           3      looks at what moved, plans again
    │   ├── LockHeld     lock-held         3      waits for the other runner
    │   ├── PointerMoved pointer-moved     3      runs again: another run won
    │   ├── RunUnfinished run-unfinished   3      finishes the named run, or undoes it
    │   ├── PlanStale    plan-stale        3      plans again
    │   └── CatalogAhead catalog-ahead     3      gets the newer files
    ├── VerifyFailed     verify-failed     4      reads the report; nothing was flipped
    ├── OutcomeUnknown   outcome-unknown   5      looks before touching anything
    └── StoreError       store             6      tries again later

`code` is contract and only ever added to; messages are not. A class exists where somebody handles it
differently. Every message says what, where, and (`next_step`) the command to type next.
"""

from pathlib import Path
from typing import ClassVar


class LancemigError(Exception):
    """Whatever lancemig refuses or cannot do; carries the exit status and the next command."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 2

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message if self.next_step is None else f"{self.message}\nnext: {self.next_step}"


class ConfigError(LancemigError):
    """lancemig.ini, its section, a key or an environment variable it names is missing or wrong."""

    code = "config"


class ScriptError(LancemigError):
    """A file in versions/ is wrong, or the files form no line; `path` and `line` say where, if known."""

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
    """Two revisions follow the same one."""

    code = "two-heads"


class PlanError(LancemigError):
    """An operation is impossible on this catalog; found before anything was touched."""

    code = "plan"


class Irreversible(PlanError):
    """No inverse follows from the operation, and the file declares no `downgrade`."""

    code = "irreversible"


class BrakeTripped(LancemigError):
    """An operation would change more than its brakes allow; stopped before its first commit."""

    code = "brake"
    exit_status = 1


class CheckFailed(LancemigError):
    """A check that a revision declares does not hold; nothing was changed, or it was put back."""

    code = "check-failed"
    exit_status = 1


class LineageBroken(LancemigError):
    """The lineage is not the chain that was written: an entry is missing, or was changed since."""

    code = "lineage-broken"
    exit_status = 1


class Refused(LancemigError):
    """The catalog is not as it was when this was decided, or somebody else is at work on it."""

    code = "refused"
    exit_status = 3


class LockHeld(Refused):
    """Another runner holds the lease."""

    code = "lock-held"


class PointerMoved(Refused):
    """Another run changed the pointer first."""

    code = "pointer-moved"


class RunUnfinished(Refused):
    """A run is in flight, and what was asked for is not its continuation."""

    code = "run-unfinished"


class PlanStale(Refused):
    """What a plan requires is no longer true."""

    code = "plan-stale"


class CatalogAhead(Refused):
    """The pointer names a revision that no file describes."""

    code = "catalog-ahead"


class VerifyFailed(LancemigError):
    """A gate failed; the live catalog is as it was."""

    code = "verify-failed"
    exit_status = 4


class OutcomeUnknown(LancemigError):
    """A write may or may not have landed, and it could not be read back."""

    code = "outcome-unknown"
    exit_status = 5


class StoreError(LancemigError):
    """The store refused, failed or could not be reached."""

    code = "store"
    exit_status = 6
