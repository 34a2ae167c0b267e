"""The stages of a run, in order: what the runner executes, the sidecar stores, and people read."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """How far a run has come, as its sidecar stores it."""

    IN_PLACE = "in-place"
    STAGE = "stage"
    CATCH_UP = "catch-up"
    VERIFY = "verify"
    VERIFIED = "verified"
    RECONCILE = "reconcile"
    UNDO = "undo"


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str
    """What plans and people call the stage."""

    phase: Phase
    """What the sidecar stores while the run is in the stage."""

    text: str
    """What happens in the stage, for people."""

    next_step: str = "lancemig recover"
    """The command that completes a run which stopped in the stage."""


IN_PLACE = Stage("in place", Phase.IN_PLACE, "applying revisions to the live root")
STAGE = Stage("stage", Phase.STAGE, "building the staged root")
CATCH_UP = Stage("catch up", Phase.CATCH_UP, "replicating new commits into the staged root")
VERIFY = Stage("verify", Phase.VERIFY, "comparing the staged root with the live one")
HOLD = Stage("hold", Phase.VERIFIED, "waiting for lancemig flip", next_step="lancemig flip")
FLIP = Stage("flip", Phase.VERIFIED, "making the staged root live")
RECONCILE = Stage("reconcile", Phase.RECONCILE, "replicating late writes from the old root")

STAGES = (IN_PLACE, STAGE, CATCH_UP, VERIFY, HOLD, FLIP, RECONCILE)
"""Every stage, in the order of execution. All but the first are for the plan's staged migrations."""

UNDO = Stage("undo", Phase.UNDO, "undoing the changes of the run", next_step="lancemig recover --undo")
"""Replaces the other stages once it has begun."""


def stage_of(phase: Phase, *, holding: bool) -> Stage:
    """The stage of a run in `phase`.

    Args:
        phase: What the sidecar stores.
        holding: Whether a verified run waits for its flip.
    """
    if phase is Phase.VERIFIED:
        return HOLD if holding else FLIP
    return next(stage for stage in (*STAGES, UNDO) if stage.phase is phase)
