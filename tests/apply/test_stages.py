"""The list of stages: what is read from it agrees with what is executed and stored."""

import pytest

from lancemig.apply import runner
from lancemig.apply.stages import FLIP, HOLD, STAGES, UNDO, Phase, Stage, stage_of


def test_every_stage_is_executed_by_something() -> None:
    assert tuple(runner._EXECUTE) == STAGES


def test_every_phase_that_a_sidecar_may_have_is_that_of_a_stage() -> None:
    assert {stage.phase for stage in (*STAGES, UNDO)} == set(Phase)
    for phase in Phase:
        assert stage_of(phase, holding=False).phase is phase


def test_phases_come_in_the_order_of_the_stages() -> None:
    assert list(dict.fromkeys(stage.phase for stage in (*STAGES, UNDO))) == list(Phase)


def test_a_verified_run_waits_or_flips() -> None:
    assert stage_of(Phase.VERIFIED, holding=True) is HOLD
    assert stage_of(Phase.VERIFIED, holding=False) is FLIP


@pytest.mark.parametrize("stage", [*STAGES, UNDO], ids=lambda stage: stage.name)
def test_a_stage_names_a_command_that_continues_it(stage: Stage) -> None:
    assert stage.next_step.startswith("lancemig ")
    assert stage.text
