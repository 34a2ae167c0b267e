"""Calls of functions of a migration: retried as the operation says, and errors by what cures them."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from lancemig.catalog.operations import FunctionCall
from lancemig.errors import FunctionFailed, FunctionUnavailable
from lancemig.events import log_event

_log = logging.getLogger(__name__)

_UNAVAILABLE_TYPES = (TimeoutError, ConnectionError)
_UNAVAILABLE_NAMES = re.compile(
    "timeout|timedout|ratelimit|throttl|toomanyrequests|serviceunavailable|connect|overload|deadlineexceeded"
    "|resourceexhausted|quota",
    re.IGNORECASE,
)
_UNAVAILABLE_STATUSES = {408, 425, 429, 500, 502, 503, 504, 529}
_UNAVAILABLE_TEXT = re.compile(
    r"\b(429|502|503|504|529)\b|too many requests|rate.?limit|throttl|timed? ?-?out\b|temporarily|try again"
    r"|overloaded|connection (was )?(reset|refused|aborted|closed)|slow ?down|quota exceeded",
    re.IGNORECASE,
)
_CAUSES = 5

_QUICK, _SLOW = timedelta(seconds=0.2), timedelta(seconds=1)
"""A call below the first gets more rows the next time, one above the second gets fewer."""

_FIRST, _FEWEST = 16, 1


def called(
    function: Callable[[Any], Any],
    batch: Any,
    again: FunctionCall | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """What `function` returns for `batch`.

    Args:
        function: A function of a migration.
        batch: Its argument.
        again: How often it is called again after an exception; None for never.
        sleep: Waits some seconds before it is called again.

    Raises:
        FunctionUnavailable: The function raised what a later call may not raise: a time-out, throttling.
        FunctionFailed: It raised anything else.
    """
    retries = 0 if again is None else again.retries
    for attempt in range(retries + 1):
        try:
            return function(batch)
        except Exception as error:
            if attempt == retries or again is None:
                raise _failure(function.__name__, error, retries) from error
            pause = again.pause * 2**attempt
            text = "%s() raised %s: called again in %s s, attempt %d of %d"
            log_event(_log, "function_retried", text, function.__name__, type(error).__name__, pause,
                      attempt + 1, retries, function=function.__name__, cause=type(error).__name__,
                      pause=pause, attempt=attempt + 1)  # fmt: skip
            sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _failure(name: str, error: Exception, retries: int) -> FunctionFailed:
    times = f" (in each of {retries + 1} calls)" if retries else ""
    message = f"{name}() raised {type(error).__name__}: {error}".rstrip(": ") + times
    if is_unavailable(error):
        return FunctionUnavailable(
            message,
            next_step="run the same command again later; to wait within a run, declare retries=5, pause=2.0 "
            "in the operation",
        )
    return FunctionFailed(
        message, next_step=f"fix {name}() in the migration, then run the same command again"
    )


def is_unavailable(error: BaseException) -> bool:
    """Whether the cause is a service that may answer later: a time-out, throttling, a lost connection."""
    return any(map(_is_unavailable, _causes(error)))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__


def _is_unavailable(error: BaseException) -> bool:
    if isinstance(error, _UNAVAILABLE_TYPES):
        return True
    response = getattr(error, "response", None)
    statuses = [getattr(error, name, None) for name in ("status_code", "status", "code", "http_status")]
    statuses.append(getattr(response, "status_code", None))
    if any(isinstance(status, int) and status in _UNAVAILABLE_STATUSES for status in statuses):
        return True
    names = " ".join(base.__name__ for base in type(error).__mro__ if base.__module__ != "builtins")
    return bool(_UNAVAILABLE_NAMES.search(names) or _UNAVAILABLE_TEXT.search(str(error)))


class CallSize:
    """The number of rows in a call: more the quicker the function is."""

    def __init__(self, now: Callable[[], Any], most: int) -> None:
        self.now = now
        self.most = most
        self.rows = _FIRST

    def timed(self, call: Callable[[], Any]) -> tuple[Any, timedelta]:
        """The result of a call with `rows` rows, and how long it took."""
        began = self.now()
        result = call()
        took: timedelta = self.now() - began
        if took < _QUICK:
            self.rows = min(self.rows * 2, self.most)
        elif took > _SLOW:
            self.rows = max(self.rows // 2, _FEWEST)
        return result, took
