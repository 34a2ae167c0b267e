"""Exceptions of a migration's functions, by what cures them: another try, or a change of the function."""

import re
from collections.abc import Iterator

from lancemig.errors import FunctionFailed, FunctionUnavailable, LancemigError

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


def function_failure(name: str, error: Exception, advice: str = "", *, calls: int = 1) -> FunctionFailed:
    """The error for an exception of the function `name`.

    Args:
        name: The name of the function.
        error: What it raised.
        advice: What else helps if a service did not answer, as text.
        calls: How often the function was called, and raised.
    """
    text = error.message if isinstance(error, LancemigError) else str(error)
    times = f" (in each of {calls} calls)" if calls > 1 else ""
    message = f"{name}() raised {type(error).__name__}: {text}".removesuffix(": ") + times
    if is_unavailable(error):
        later = "run the same command again later"
        return FunctionUnavailable(message, next_step=f"{later}; {advice}" if advice else later)
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
