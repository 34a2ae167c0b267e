"""Progress of a slow function: rows with an answer, rate and time left, without a terminal as well."""

import re

import pytest

from lancemig import console
from lancemig.apply.environment import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def report(rows: int | None) -> Progress:
    return Progress("step", "t", "0002/0", "backfill y", rows=rows, of=1000, bytes=None)


def test_lines_have_the_rate_and_the_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress() as show:
        show(report(None))
        for done in range(1, 11):
            clock[0] += 1
            show(report(done * 20))
    lines = capsys.readouterr().err.splitlines()
    assert "rows/s" not in lines[0]
    assert len(lines) == 6
    assert re.search(r"40 of 1,000 rows, 20 rows/s, 48(\.0)? s left", lines[1]), lines
    assert re.search(r"200 of 1,000 rows, 20 rows/s, 40(\.0)? s left", lines[-1]), lines


def test_rows_of_an_earlier_process_do_not_count_for_long(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress() as show:
        show(report(None))
        show(report(900))
        for done in range(1, 61):
            clock[0] += 1
            show(report(900 + done))
    assert "960 of 1,000 rows, 1.0 rows/s, 40" in capsys.readouterr().err.splitlines()[-1]


def test_a_function_that_answers_nothing_for_long_has_no_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with console.progress() as show:
        show(report(None))
        clock[0] += 60
        show(report(0))
    assert "/s" not in capsys.readouterr().err
