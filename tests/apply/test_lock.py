"""The lock: who gets it, who is refused, and what stops a runner that lost it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import Place

from lancemig.apply.environment import Environment, Progress
from lancemig.apply.lock import LOCK, hold_lock
from lancemig.commands.context import current_environment
from lancemig.errors import LockHeld
from lancemig.report.status import progress_text
from lancemig.store.objects import Objects, WriteOk, open_objects

KEY = "_lancemig/lock.json"
NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)


@pytest.fixture
def objects(place: Place) -> Objects:
    return open_objects(place.store, place.options)


def at(moment: datetime, **fields: object) -> Environment:
    return replace(current_environment(Path()), now=lambda: moment, **fields)  # type: ignore[arg-type]


def test_a_live_lock_is_refused_and_its_owner_named(objects: Objects) -> None:
    with (
        hold_lock(objects, KEY, "r1", at(NOON, actor="ada", host="lab", pid=77, machine="m1"), 60),
        pytest.raises(LockHeld, match=r"run r1 of ada@lab \(pid 77\), last heartbeat 59 s ago") as refused,
        hold_lock(objects, KEY, "r2", at(NOON + timedelta(seconds=59), machine="m2"), 60),
    ):
        pass
    assert refused.value.exit_status == 3
    assert "12:01:00 UTC" in refused.value.message
    assert objects.read(KEY) is None


def test_an_expired_lock_is_taken(objects: Objects) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(hold_lock(objects, KEY, "r1", at(NOON, machine="m1"), 60))
        later = at(NOON + timedelta(seconds=61), machine="m2")
        new = stack.enter_context(hold_lock(objects, KEY, "r2", later, 60))
        new.renew()
        old.heartbeat()
        with pytest.raises(LockHeld, match="another runner took over the lock of run r1: run r2"):
            old.renew()


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(objects: Objects) -> None:
    with hold_lock(objects, KEY, "r1", at(NOON, machine="m", pid=4), 60):
        with (
            pytest.raises(LockHeld),
            hold_lock(objects, KEY, "r2", at(NOON, machine="m", alive=lambda _: True), 60),
        ):
            pass
        with hold_lock(objects, KEY, "r3", at(NOON, machine="m", alive=lambda pid: pid != 4), 60) as lease:
            lease.renew()


def test_the_lock_of_another_machine_is_not_judged_by_this_one(objects: Objects) -> None:
    with (
        hold_lock(objects, KEY, "r1", at(NOON, machine="m1"), 60),
        pytest.raises(LockHeld),
        hold_lock(objects, KEY, "r2", at(NOON, machine="m2", alive=lambda _: False), 60),
    ):
        pass


def test_a_runner_that_slept_past_its_promise_finds_out_before_its_next_effect(objects: Objects) -> None:
    now = [NOON]
    with ExitStack() as stack:
        sleeper = replace(current_environment(Path()), now=lambda: now[0], machine="m1")
        asleep = stack.enter_context(hold_lock(objects, KEY, "r1", sleeper, 3600))
        now[0] += timedelta(hours=2)
        awake = stack.enter_context(hold_lock(objects, KEY, "r2", at(now[0], machine="m2"), 3600))
        with pytest.raises(LockHeld, match="run r2"):
            asleep.renew()
        awake.renew()


def test_a_runner_that_slept_goes_on_where_nobody_came(objects: Objects) -> None:
    now = [NOON]
    with hold_lock(
        objects, KEY, "r1", replace(current_environment(Path()), now=lambda: now[0]), 3600
    ) as lease:
        now[0] += timedelta(hours=2)
        lease.renew()
        assert lease.lock.heartbeat_at == now[0]


def test_a_lock_that_was_removed_stops_its_runner_and_is_not_given_back(objects: Objects) -> None:
    with hold_lock(objects, KEY, "r1", at(NOON), 60) as lease:
        objects.delete([KEY])
        assert isinstance(objects.write_if(KEY, b"somebody's", None), WriteOk)
        lease.heartbeat()
        with pytest.raises(LockHeld, match=f"the lock {KEY} is not valid JSON"):
            lease.renew()
    assert objects.read(KEY) is not None


def test_a_lock_is_kept_alive_while_work_goes_on(local_place: Place) -> None:
    objects = open_objects(local_place.store, {})
    beaten = threading.Event()
    ticks = iter(range(10**6))

    def now() -> datetime:
        number = next(ticks)
        if number > 4:
            beaten.set()
        return NOON + timedelta(seconds=number)

    with hold_lock(objects, KEY, "r1", replace(current_environment(Path()), now=now), 0.06) as lease:
        assert beaten.wait(5)
        assert lease.lost is None
        assert lease.lock.heartbeat_at > NOON


@pytest.mark.parametrize("left", ["nothing", "an expired one"])
def test_of_many_takers_one_gets_it(objects: Objects, left: str) -> None:
    moment = NOON
    stack = ExitStack()
    if left == "an expired one":
        stack.enter_context(hold_lock(objects, KEY, "r0", at(NOON, machine="m0"), 60))
        moment += timedelta(hours=1)
    start, done = threading.Barrier(6, timeout=30), threading.Barrier(6, timeout=30)

    def take(number: int) -> bool:
        start.wait()
        try:
            with hold_lock(objects, KEY, f"r{number + 1}", at(moment, machine=f"m{number + 1}"), 60):
                done.wait()
        except LockHeld:
            done.wait()
            return False
        return True

    with stack, ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(take, range(6))) == [False] * 5 + [True]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}'])
def test_what_is_no_lock_is_never_taken(objects: Objects, body: bytes) -> None:
    objects.write_if(KEY, body, None)
    with pytest.raises(LockHeld, match=f"the lock {KEY} (is not|has format)") as refused:  # noqa: SIM117
        with hold_lock(objects, KEY, "r", at(NOON), 60):
            pass
    assert refused.value.next_step
    found = objects.read(KEY)
    assert found
    assert found.body == body


def test_a_heartbeat_tells_how_far_the_run_is(objects: Objects) -> None:
    with hold_lock(objects, KEY, "r1", at(NOON), 60) as lease:
        lease.doing = Progress("step", "recordings", "0007/0", "halve", rows=10, of=20)
        lease.heartbeat()
        found = objects.read(KEY)
        assert found is not None
        lock = LOCK.decode(found.body, KEY)
        assert lock.doing == lease.doing
        assert progress_text(lock.doing, 0) == "step  0007 operation 1  recordings  halve  10 of 20 rows"
