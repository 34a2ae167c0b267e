"""Log records of lancemig: one record for each event, with an event name and structured fields.

All loggers are below `lancemig`; a program that embeds lancemig configures them as any other loggers. Every
record has the attribute `event`, a name of `EVENTS`, and its fields as further attributes (`record.table`).
`docs/logging.md` documents the events and their fields. A field is a name, a number, a key of a row or the
key of an object; cell values of other columns, and credentials, are never logged.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

EVENTS: dict[str, int] = {
    "run_started": logging.INFO,
    "run_resumed": logging.INFO,
    "run_finished": logging.INFO,
    "phase_started": logging.INFO,
    "phase_finished": logging.INFO,
    "step_skipped": logging.INFO,
    "committed": logging.INFO,
    "already_landed": logging.INFO,
    "commit_conflict": logging.WARNING,
    "version_gone": logging.WARNING,
    "function_retried": logging.WARNING,
    "duplicates_withdrawn": logging.INFO,
    "commits_seen": logging.INFO,
    "commit_seen": logging.DEBUG,
    "replicated": logging.INFO,
    "already_replicated": logging.INFO,
    "rows_not_replicated": logging.INFO,
    "row_keys": logging.DEBUG,
    "table_not_replicated": logging.INFO,
    "commit_not_replicated": logging.WARNING,
    "reference_left": logging.WARNING,
    "writes_discarded": logging.WARNING,
    "lock_acquired": logging.INFO,
    "lock_renewed": logging.DEBUG,
    "lock_taken_over": logging.WARNING,
    "lock_refused": logging.WARNING,
    "lock_lost": logging.WARNING,
    "lock_released": logging.INFO,
    "conditional_write": logging.DEBUG,
    "write_retried": logging.WARNING,
    "read_retried": logging.WARNING,
    "written_read_back": logging.INFO,
    "pointer_updated": logging.INFO,
    "flipped": logging.INFO,
    "guard_added": logging.DEBUG,
    "guard_removed": logging.DEBUG,
    "gc_deleted": logging.INFO,
    "gc_spared": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "progress": logging.INFO,
    "error": logging.ERROR,
}
"""The name of every event, and its level."""

SAMPLE = 10
"""The number of keys that a record of single rows names."""

_STANDARD = frozenset(
    {*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "taskName", "event"}
)


def log_event(logger: logging.Logger, event: str, message: str, *args: object, **fields: object) -> None:
    """Write a record of `event` at its level: `message % args`, and the fields.

    Raises:
        KeyError: `event` is not in `EVENTS`, or the name of a field is one that every log record has.
    """
    level = EVENTS[event]
    if logger.isEnabledFor(level):
        logger.log(level, message, *args, extra={"event": event, **fields}, stacklevel=2)


def enabled(logger: logging.Logger, event: str) -> bool:
    """Whether records of `event` are written; asked before fields are computed that cost work per row."""
    return logger.isEnabledFor(EVENTS[event])


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The structured fields of a record."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, event, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; the time is UTC, with milliseconds."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": getattr(record, "event", None),
            "message": record.getMessage(),
            "fields": fields_of(record),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record as one line: time, level, event, message."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-7s %(event)s: %(message)s", "%H:%M:%S", defaults={"event": "-"}
        )


class _StderrHandler(logging.Handler):
    """Writes to the `sys.stderr` of the moment, so that records appear above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201
        except Exception:  # noqa: BLE001
            self.handleError(record)


@contextmanager
def logging_to_stderr(level: int, *, as_json: bool) -> Iterator[None]:
    """Write the records of lancemig's loggers to stderr while the body runs."""
    logger, handler = logging.getLogger("lancemig"), _StderrHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def json_on_stderr() -> bool:
    """Whether stderr takes JSON lines now, so that text for people goes there as records."""
    handlers = logging.getLogger("lancemig").handlers
    return any(isinstance(h, _StderrHandler) and isinstance(h.formatter, JsonFormatter) for h in handlers)
