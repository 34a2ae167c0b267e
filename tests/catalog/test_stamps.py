"""The names of commits and guards: literal, for those of old runs must be found; and read back as built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lancemig.catalog import stamps
from lancemig.catalog.stamps import StepId

REVISIONS = st.text("0123456789abcdef-_", min_size=1)
NUMBERS = st.integers(0, 10**6)
ROOTS = st.lists(st.text("abc-.0", min_size=1), max_size=3).map(lambda parts: "".join(f"{p}/" for p in parts))
TABLES = st.text("abc_.-0", min_size=1)


@pytest.mark.parametrize(
    ("built", "literal"),
    [
        (str(StepId("0007", 0)), "0007/0"),
        (str(StepId("0007", 2, down=True)), "0007/down.2"),
        (str(StepId("0007", 2, undo=True)), "undo/0007/2"),
        (stamps.undo_step("0007/2"), "undo/0007/2"),
        (stamps.part_stamp("0007/1", 0), "0007/1.0"),
        (stamps.null_stamp("0007/1.0"), "0007/1.0.null"),
        (stamps.fill_stamp("0007/1.0"), "0007/1.0.fill"),
        (stamps.late_fill_stamp("0007/1", 3, 12), "0007/1.late.3.12"),
        (stamps.again_stamp("0007/1.0"), "0007/1.0.again"),
        (stamps.withdrawal_stamp("0007/1.0"), "0007/1.0.withdrawn"),
        (stamps.reversal_stamp("undo/0007/1.0", 4, "cells"), "undo/0007/1.0.4.cells"),
        (stamps.replication_stamp("ursa/v1/", "t", 3, 7), "tail/ursa/v1/t/3-7"),
        (stamps.side_change_stamp("t", 7, 0), "along/t/7.0"),
        (stamps.materialization_stamp("t", 7, "files"), "own/t/7.files"),
        (stamps.guard_name("20260520T190000Z-7c1d", 12), "lancemig/20260520T190000Z-7c1d/v12"),
        (stamps.RUN, "lancemig.run"),
        (stamps.REVISION, "lancemig.revision"),
        (stamps.STEP, "lancemig.step"),
        (stamps.READ_VERSION, "lancemig.read_version"),
        (stamps.CHANGED, "lancemig.changed"),
        (stamps.SKIPPED, "lancemig.skipped"),
        (stamps.INDETERMINATE, "lancemig.indeterminate"),
        (stamps.MOVES, "lancemig.moves"),
    ],
)
def test_a_name_is_what_release_0_1_0_wrote(built: str, literal: str) -> None:
    assert built == literal


@given(REVISIONS, NUMBERS, st.booleans(), st.booleans())
def test_a_step_id_is_read_as_it_was_built(revision: str, index: int, down: bool, undo: bool) -> None:
    step = StepId(revision, index, down, undo)
    assert StepId.parse(str(step)) == step


@pytest.mark.parametrize(
    "text", ["", "0007", "/0", "0007/", "0007/x", "0007/-1", "0007/down.", "0007/0.0", "0007/²"]
)
def test_what_is_no_step_id_is_none(text: str) -> None:
    assert StepId.parse(text) is None


@given(ROOTS, TABLES, NUMBERS, NUMBERS)
def test_a_replication_is_read_as_it_was_built(root: str, table: str, after: int, upto: int) -> None:
    stamp = stamps.replication_stamp(root, table, after, upto)
    for text in (stamp, stamps.again_stamp(stamp), stamps.withdrawal_stamp(stamps.again_stamp(stamp))):
        assert stamps.replicated_window(text, root, table) == (after, upto)
        assert stamps.is_replication(text)
        assert stamps.is_withdrawal(text) == text.endswith(".withdrawn")
    assert stamps.replicated_window(stamp, f"{root}other/", table) is None
    assert not stamps.is_replication("0007/0.0")


def test_commits_of_a_step_are_not_those_of_one_with_a_longer_number() -> None:
    assert stamps.is_of_step("0007/1.0.null", "0007/1")
    assert stamps.is_of_step("0007/1.late.0.12", "0007/1")
    assert not stamps.is_of_step("0007/10.0", "0007/1")
    assert not stamps.is_of_step("undo/0007/1.0", "0007/1")
    assert stamps.is_undo("undo/0007/1")
    assert not stamps.is_undo("0007/1")


@given(st.text("0123456789TZ-abcdef", min_size=1), NUMBERS)
def test_a_guard_names_its_version(run: str, version: int) -> None:
    guard = stamps.guard_name(run, version)
    assert stamps.guarded_version(guard) == version
    assert stamps.guarded_version(f"{guard}.3") == version


@pytest.mark.parametrize(
    "branch",
    ["main", "lancemig/v3", "lancemig/run/v", "lancemig/run/v3.x", "lancemig/a/b/v3", "x/lancemig/r/v3"],
)
def test_a_branch_of_somebody_else_guards_nothing(branch: str) -> None:
    assert stamps.guarded_version(branch) is None
