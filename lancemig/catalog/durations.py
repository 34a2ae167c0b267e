"""Lengths of time as people write them: `30d`, `12h`, `90m`, `45s`."""

import re
from datetime import timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 36_500 * _UNITS["d"]
_DURATION = re.compile(r"(\d+)\s*([smhdw])")


def duration(text: str) -> timedelta:
    """The length of time that `text` tells; ValueError for anything else."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a duration; write for example 30d, 12h, 90m or 45s")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than 100 years")
    return timedelta(seconds=seconds)


def duration_text(length: timedelta) -> str:
    """The length in its largest whole unit."""
    seconds = int(length.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
