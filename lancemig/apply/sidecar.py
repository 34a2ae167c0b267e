"""The sidecar: what a run in flight intends, so that the same command can go on after any death.

It exists before the first effect and is gone after the last. A step that it calls done has been done, for it
says so after; whether any other has landed, recovery asks the store. There is one shape, and newer ones are
refused.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from lancemig.apply.stages import Phase, Stage, stage_of
from lancemig.catalog.lineage import CheckResult, StepDone
from lancemig.catalog.value import FrozenModel, Timing, checked_format
from lancemig.errors import PointerMoved, StoreError
from lancemig.plan.plan import Plan, checked_digest_version
from lancemig.store.objects import Objects, PreconditionFailed

SIDECAR_FORMAT = 1


class CommitIntent(FrozenModel):
    """A commit about to be made: the step of its `stamp`, and a version that it can only land after."""

    stamp: str
    table: str
    version: int


class Run(FrozenModel):
    """A run in flight.

    `bases` are the versions of live tables pinned before the first change, or before staging; `before`, the
    version and rows of each table when the migration `revision` began; `caught_up`, the versions up to which
    the staged root has the live tables' rows. `undoing` is why the run is being undone, once that has begun:
    it can then only be undone to the end, with `overwrite` or without as it began. `attempt` is the commit to
    the live root that was about to be made; `gone`, the versions of those that landed and were cleaned away
    before they could be guarded, by the step of their stamp. `report` is the sha256 of the report of the last
    proof that was passed; `timings`, how long things took, as the lineage will tell.
    """

    format: int = SIDECAR_FORMAT
    run: str
    plan: Plan
    plan_digest: str
    phase: Phase = Phase.IN_PLACE
    no_flip: bool = False
    started: str
    actor: str
    host: str
    note: str | None = None
    revision: str | None = None
    before: dict[str, tuple[int, int]] = Field(default_factory=dict)
    staged_prefix: str | None = None
    bases: dict[str, int] = Field(default_factory=dict)
    caught_up: dict[str, int] = Field(default_factory=dict)
    done: dict[str, StepDone] = Field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    report: str | None = None
    undoing: str | None = None
    overwrite: bool = False
    attempt: CommitIntent | None = None
    gone: dict[str, int] = Field(default_factory=dict)
    timings: tuple[Timing, ...] = ()

    @property
    def waits(self) -> bool:
        """Whether all is staged and proven, and only the flip is left."""
        return self.no_flip and self.phase is Phase.VERIFIED

    @property
    def stage(self) -> Stage:
        """The stage that the run is in, or stopped in."""
        return stage_of(self.phase, holding=self.waits)

    def changed(self, **fields: Any) -> "Run":
        """The run with other values in these fields."""
        return self.model_copy(update=fields)


class Sidecars:
    """The sidecars beside the pointer: `<folder>runs/<run>.json`."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self.objects = objects
        self.folder = f"{folder}runs/"
        self._etag: str | None = None

    def in_flight(self) -> Run | None:
        """The run in flight, if there is one; the oldest, should there ever be two."""
        keys = sorted(item.key for item in self.objects.list(self.folder))
        return next((run for key in keys if (run := self._read(key))), None)

    def write(self, run: Run) -> None:
        """Put down `run`, unless somebody else has written its sidecar since; PointerMoved then."""
        document = {**run.model_dump(mode="json", by_alias=True), "plan": run.plan.document()}
        body = json.dumps(document, indent=1).encode()
        outcome = self.objects.write_if(self._key(run.run), body, self._etag)
        if isinstance(outcome, PreconditionFailed):
            raise PointerMoved(f"another runner took over run {run.run}", next_step="lancemig status")
        self._etag = outcome.version_token

    def remove(self, run: Run) -> None:
        """The run is over: take its sidecar away."""
        self.objects.delete([self._key(run.run)])
        self._etag = None

    def _key(self, run: str) -> str:
        return f"{self.folder}{run}.json"

    def _read(self, key: str) -> Run | None:
        found = self.objects.read(key)
        if found is None:
            return None
        self._etag = found.version_token
        return read_run(_json(found.body, key), key)


def read_run(document: Any, where: str) -> Run:
    """The run in `document`; refuses a newer format and what is no sidecar."""
    checked_format(document, SIDECAR_FORMAT, where, next_step="upgrade lancemig: pip install -U lancemig")
    checked_digest_version(
        document.get("plan"), f"the plan in {where}", next_step="upgrade lancemig: pip install -U lancemig"
    )
    content: Mapping[str, Any] = {
        **document,
        "plan": {
            name: value
            for name, value in document.get("plan", {}).items()
            if name not in ("digest", "checksum")
        },
    }
    try:
        return Run.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise StoreError(
            f"{where} is not a valid sidecar: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            next_step=f"inspect {where}; remove it if no run wrote it",
        ) from error


def _json(body: bytes, key: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise StoreError(
            f"{key} is not valid JSON: {error}", next_step=f"inspect {key}; remove it if no run wrote it"
        ) from error
