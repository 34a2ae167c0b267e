"""`-v`, `-vv` and `--log-json`: lancemig's log on stderr."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from console import DOUBLE, RENAME, Console
from lab import Lab

import lancemig
from lancemig.events import EVENTS


def objects(text: str) -> list[dict[str, Any]]:
    """Each line is one JSON object."""
    return [json.loads(line) for line in text.splitlines()]


def test_without_options_stderr_has_no_log(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    done = console("upgrade")
    assert "lock_acquired" not in done.stderr
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("lancemig").handlers)
    assert lancemig.__doc__


def test_v_shows_what_happens_and_vv_more(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    done = console("-v", "upgrade")
    assert re.search(r"^\d\d:\d\d:\d\d INFO +lock_acquired: lock acquired by run", done.stderr, re.M)
    assert "conditional_write" not in done.stderr
    live.revision(DOUBLE)
    assert " DEBUG   conditional_write: " in console("-vv", "upgrade").stderr
    assert "conditional_write" not in console("status").stderr, "the options are those of one command"


def test_every_line_of_the_json_log_is_an_object(live: Lab, console: Console) -> None:
    live.revision(RENAME)
    done = console("--log-json", "-vv", "upgrade")
    assert done.exit_code == 0
    records = objects(done.stderr)
    assert {frozenset(record) for record in records} == {
        frozenset({"time", "level", "logger", "event", "message", "fields"})
    }
    events = {record["event"] for record in records}
    assert {
        "run_started",
        "phase_finished",
        "committed",
        "conditional_write",
        "flipped",
        "progress",
    } <= events
    assert events <= EVENTS.keys()
    assert all(logging.getLevelName(EVENTS[record["event"]]) == record["level"] for record in records)
    assert all(record["logger"].startswith("lancemig.") for record in records)
    assert done.stdout.splitlines()[-1].startswith("done ")


def test_an_error_is_a_record_of_the_json_log(live: Lab, console: Console) -> None:
    done = console("--log-json", "upgrade", "nowhere")
    assert done.exit_code == 2
    *_, error = objects(done.stderr)
    assert (error["level"], error["event"]) == ("ERROR", "error")
    assert error["fields"]["exit_status"] == 2
    assert error["fields"]["next_step"]


def test_history_keeps_its_own_v(live: Lab, console: Console) -> None:
    assert "INFO" not in console("history", "-v").stderr
    assert live.written[0] in console.says("history", "-v")


def test_every_event_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.M)
    assert {name: logging.getLevelName(level) for name, level in EVENTS.items()} == dict(rows)


def test_every_event_of_the_code_is_known() -> None:
    package = Path(lancemig.__file__).parent
    code = "\n".join(path.read_text() for path in package.rglob("*.py"))
    used = set(re.findall(r'log_event\(\s*_log,\s*"(\w+)"', code))
    elsewhere = {"run_resumed", "run_started", "flipped", "pointer_updated"}
    assert used | elsewhere == EVENTS.keys()
