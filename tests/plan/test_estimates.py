"""What a plan will take, told from what the like of it took."""

from dataclasses import replace

import pytest
from live import planned, situation

from lancemig import RenameColumn, RetypeColumn, TransformTable, UpdateRows
from lancemig.catalog.lineage import Action, LineageEntry, RootRevision
from lancemig.catalog.value import Timing
from lancemig.plan.estimates import estimates
from lancemig.report.plan import plan_text

RENAME = RenameColumn(table="recordings", column="fs", to="rate")
RETYPE = RetypeColumn(table="recordings", column="fs", to="int64")


def entry(revision: str, *timings: Timing) -> LineageEntry:
    place = RootRevision(prefix="v1/", revision=revision)
    return LineageEntry(
        seq=1,
        parent=None,
        parent_digest=None,
        action=Action.UPGRADE,
        origin=place,
        target=place,
        run="r",
        started="",
        finished="",
        actor="a",
        host="h",
        timings=timings,
    )


def copying(seconds: float, size: int) -> Timing:
    return Timing(phase="stage", way="copy", table="t", seconds=seconds, rows=1, bytes=size)


def test_nothing_is_told_where_nothing_is_known():
    plan = planned([RENAME])
    assert estimates(plan, []) == estimates(plan, [entry("0001")]) == []
    assert "takes" not in plan_text(plan, store="s", staging="t")


def test_bytes_take_as_long_as_bytes_took_in_the_newest_entry():
    plan = planned([RENAME])  # recordings: 80,000 bytes, hosts: 900
    past = [entry("0009", copying(2.0, 40_000)), entry("0007", copying(50.0, 40_000))]
    [found] = estimates(plan, past)
    assert found.seconds == pytest.approx(2.0 * 80_900 / 40_000)
    text = plan_text(plan, store="s", staging="t", estimates=[found])
    assert "takes    copy: about 4 s (0009 took 2 s for 40 kB)" in text


def test_the_same_operation_is_asked_before_another_of_the_same_strategy():
    plan = planned([RETYPE])
    of = Timing(phase="step", way="column", operation="add_column", seconds=100.0, rows=1000, bytes=8000)
    same = of.model_copy(update={"operation": "retype_column", "seconds": 3.0, "phase": "stage"})
    [found] = estimates(plan, [entry("0009", of), entry("0008", same)])
    assert (found.activity, found.seconds, found.revision) == ("column", 3.0, "0008")


def test_rows_are_the_measure_where_bytes_are_not_known():
    plan = planned([UpdateRows(table="recordings", set={"fs": "1"})])
    rows = Timing(phase="step", way="column", operation="update_rows", seconds=1.0, rows=100)
    [found] = estimates(plan, [entry("0009", rows)])
    assert found.seconds == pytest.approx(10.0)


def test_a_clone_takes_the_same_whatever_its_size():
    given = replace(situation(), staging="clone")
    cloning = Timing(phase="stage", way="clone", table="t", seconds=0.5, rows=1, bytes=1)
    [found] = estimates(planned([RENAME], given=given), [entry("0009", cloning)])
    assert found.seconds == 1.0  # two tables


def test_what_is_over_at_once_is_not_told_to_people():
    plan = planned([RENAME])
    found = estimates(plan, [entry("0009", copying(0.1, 80_900))])
    assert [one.activity for one in found] == ["copy"]
    assert "takes" not in plan_text(plan, store="s", staging="t", estimates=found)


def test_small_tables_are_added_up():
    past = entry("0009", copying(0.5, 100), copying(0.5, 80_800))
    [found] = estimates(planned([RENAME]), [past])
    assert found.seconds == 1.0
    assert (found.like.bytes, found.like.count) == (80_900, 2)


def test_a_proof_is_estimated_from_a_proof():
    proof = Timing(phase="verify", seconds=10.0, rows=502, bytes=40_450)
    [found] = estimates(planned([RENAME]), [entry("0009", proof)])
    assert (found.activity, found.seconds) == ("verify", 20.0)


def same(batch):
    return batch


def test_ways_that_are_not_known_are_left_out():
    transform = TransformTable(table="recordings", using=same, schema="id: int64")
    [found] = estimates(planned([transform]), [entry("0009", copying(1.0, 900))])
    assert (found.activity, found.seconds) == ("copy", 1.0)  # of hosts; the other is streamed
