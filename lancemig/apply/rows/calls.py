"""Calls of functions of a migration: retried as the operation says, and errors by what cures them."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lancemig.catalog.function_errors import function_failure
from lancemig.catalog.operations import FunctionCall
from lancemig.events import log_event

_log = logging.getLogger(__name__)

_QUICK, _SLOW = timedelta(seconds=0.2), timedelta(seconds=1)
"""A call below the first gets more rows the next time, one above the second gets fewer."""

_FIRST, _FEWEST = 16, 1
_RETRY = "to wait within a run, declare retries=5, pause=2.0 in the operation"


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
                raise function_failure(function.__name__, error, _RETRY, calls=retries + 1) from error
            pause = again.pause * 2**attempt
            text = "%s() raised %s: called again in %s s, attempt %d of %d"
            log_event(_log, "function_retried", text, function.__name__, type(error).__name__, pause,
                      attempt + 1, retries, function=function.__name__, cause=type(error).__name__,
                      pause=pause, attempt=attempt + 1)  # fmt: skip
            sleep(pause)
    raise AssertionError("the last attempt returns or raises")


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
