"""The sidecar: the state of a run in progress, from which the same command continues after a crash.

It is written before the first effect of the run and deleted after the last. A step is recorded as done only
after it is done; whether any other step has landed, recovery reads from the tables' logs and the pointer.
"""

from typing import Any

from pydantic import Field
from pydantic_core import to_json

from lancemig.apply.stages import Phase, Stage, stage_of
from lancemig.catalog.documents import UPGRADE, DocumentType, StoredModel
from lancemig.catalog.lineage import CheckResult, Pointer, StepDone
from lancemig.catalog.value import FrozenModel, Timing
from lancemig.errors import PointerMoved
from lancemig.plan.plan import Plan, checked_digest_version
from lancemig.store.documents import Documents
from lancemig.store.objects import Objects, PreconditionFailed

SIDECAR_FORMAT = 1


class CommitIntent(FrozenModel):
    """A commit that is about to be made, recorded before it is tried."""

    stamp: str
    """The step of the commit's stamp."""
    table: str
    version: int
    """The commit can only land as a later version of the table."""


class Run(StoredModel):
    """The state of a run in progress."""

    format: int = SIDECAR_FORMAT
    run: str
    plan: Plan
    plan_digest: str
    phase: Phase = Phase.IN_PLACE
    no_flip: bool = False
    """Whether the run stops before the flip and waits for `lancemig flip`."""
    started: str
    actor: str
    host: str
    note: str | None = None
    revision: str | None = None
    """The in-place migration in progress."""
    before: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Version and number of rows of each table when `revision` began."""
    staged_prefix: str | None = None
    bases: dict[str, int] = Field(default_factory=dict)
    """The versions of live tables that were pinned before the first change, or before staging."""
    caught_up: dict[str, int] = Field(default_factory=dict)
    """The version of each live table up to which the staged root has its rows."""
    done: dict[str, StepDone] = Field(default_factory=dict)
    """The completed steps, by id."""
    checks: tuple[CheckResult, ...] = ()
    report: str | None = None
    """The sha256 of the report of the last verification that passed."""
    undoing: str | None = None
    """Why the run is being undone; the undo has then begun, and can only be completed."""
    overwrite: bool = False
    """Whether the undo overwrites values that others have changed since."""
    attempt: CommitIntent | None = None
    """The commit to the live root that was about to be made."""
    gone: dict[str, int] = Field(default_factory=dict)
    """Versions of commits that cleanup removed before they were guarded, by the step of their stamp."""
    timings: tuple[Timing, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether the staged root is complete and verified, and only the flip is left."""
        return self.no_flip and self.phase is Phase.VERIFIED

    def has_flipped(self, pointer: Pointer | None) -> bool:
        """Whether the pointer names the staged root of this run."""
        return pointer is not None and pointer.active_prefix == self.staged_prefix

    @property
    def stage(self) -> Stage:
        """The stage that the run is in, or stopped in."""
        return stage_of(self.phase, holding=self.waits)

    def changed(self, **fields: Any) -> "Run":
        """The run with other values in these fields."""
        return self.model_copy(update=fields)

    def document(self) -> dict[str, Any]:
        """The run as it is stored: the plan as it is saved, with its digests."""
        return {**self.model_dump(mode="json", exclude={"plan"}), "plan": self.plan.document()}


_PLAN = b"\x00plan"
"""Stands for the plan in the text of a sidecar; it is no text of any field."""


class _SidecarType(DocumentType[Run]):
    def encode(self, value: Run) -> bytes:
        """The text that is stored; the text of the plan, most of it, is made once for a run."""
        fields = {**value.model_dump(mode="json", exclude={"plan"}), "plan": _PLAN.decode()}
        before, after = to_json(fields, indent=1).split(to_json(_PLAN.decode()))
        return before + value.plan.encoded.replace(b"\n", b"\n ") + after

    def parse(self, document: Any, where: str) -> Run:
        """The run in `document`; its plan may not have a digest of a newer release."""
        self.check_format(document, where)
        plan = document.get("plan")
        checked_digest_version(plan, f"the plan in {where}", next_step=UPGRADE)
        if isinstance(plan, dict):
            plan = {name: value for name, value in plan.items() if name not in ("digest", "checksum")}
            document = {**document, "plan": plan}
        return self.validate(document, where)


SIDECAR = _SidecarType(
    Run, "sidecar", SIDECAR_FORMAT, next_step="inspect {where}; remove it if no run wrote it"
)


class Sidecars:
    """The sidecars beside the pointer: `<folder>runs/<run>.json`.

    Remembers the version token of what it read or wrote last, so use one instance for each run.
    """

    def __init__(self, objects: Objects, folder: str) -> None:
        self.folder = f"{folder}runs/"
        self._documents = Documents(objects, SIDECAR)
        self._version_token: str | None = None

    def in_flight(self) -> Run | None:
        """The run in progress, if there is one; the oldest, should there ever be two."""
        for _, stored in self._documents.read_all(self.folder):
            self._version_token = stored.version_token
            return stored.value
        return None

    def write(self, run: Run) -> None:
        """Write the state of `run`; PointerMoved if another process has written its sidecar since."""
        outcome = self._documents.write_if(self._key(run.run), run, self._version_token)
        if isinstance(outcome, PreconditionFailed):
            raise PointerMoved(f"another runner took over run {run.run}", next_step="lancemig status")
        self._version_token = outcome.version_token

    def remove(self, run: Run) -> None:
        """Delete the sidecar of a run that has ended."""
        self._documents.delete(self._key(run.run))
        self._version_token = None

    def _key(self, run: str) -> str:
        return f"{self.folder}{run}.json"
