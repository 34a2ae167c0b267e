"""Parsing the value of each key; ValueError says what is wrong with a value."""

import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from lancemig.catalog.value import duration
from lancemig.revisions.header import did_you_mean
from lancemig.store.objects.location import BOOLEANS, KNOWN, is_url, parse_location

SHORTEST_LOCK_TTL = 5.0
SHORTEST_VERIFY_TIMEOUT = 1.0
FILE_TOKENS = ("rev", "slug", "year", "month", "day", "hour", "minute")
"""The tokens of `file_template`, such as `{rev}`; Alembic's `%%(rev)s` is supported as well."""

_ALEMBICS_TOKEN = re.compile(r"%\((\w+)\)(?:\.(\d))?[sd]")
_ATTRIBUTE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")


def readers(here: Path) -> dict[str, Callable[[str], object]]:
    """The parser of each known key."""
    return {
        "script_location": lambda text: _path(here, text),
        "prepend_sys_path": lambda text: _paths(here, text),
        "file_template": _file_template,
        "models": _models,
        "timezone": _timezone,
        "store": lambda text: _store(here, text),
        "pointer": _key,
        "catalog_dir": _prefix,
        "fallback_prefix": _prefix,
        "resolution": lambda text: _one_of(text, ("pointer", "pinned")),
        "staging_prefix": _staging_prefix,
        "staging": lambda text: _one_of(text, ("copy", "clone")),
        "protected": _boolean,
        "backup_max_age": duration,
        "lock_ttl": lambda text: _seconds(text, SHORTEST_LOCK_TTL),
        "retry_seconds": _seconds,
        "indices": lambda text: _one_of(text, ("refresh", "leave")),
        "min_index_coverage": _share,
        "catch_up_rows": _count,
        "catch_up_seconds": _seconds,
        "verify_command": _command,
        "verify_timeout": lambda text: _seconds(text, SHORTEST_VERIFY_TIMEOUT),
        "verify_sample": _count,
        "archive_retention": duration,
        "lineage_retention": duration,
        "gc_grace": duration,
        **{f"storage_options.{option}": str for option in KNOWN},
        "storage_options.path_style": lambda text: text and str(_boolean(text)).lower(),
    }


def _path(here: Path, text: str) -> Path:
    if not text:
        raise ValueError("a path is required")
    try:
        return Path(os.path.normpath(here / Path(text).expanduser()))
    except RuntimeError:
        raise ValueError(f"{text!r}: this user does not exist") from None


def _paths(here: Path, text: str) -> tuple[Path, ...]:
    """The folders of a list as in PYTHONPATH; also one a line."""
    return tuple(
        _path(here, part.strip())
        for line in text.splitlines()
        for part in line.split(os.pathsep)
        if part.strip()
    )


def _store(here: Path, text: str) -> str:
    if not is_url(text):
        return str(_path(here, text))
    parse_location(text)
    return text


def _inside(text: str) -> str:
    parts = text.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"{text!r} must be a relative path inside the store: no leading /, no //, no .. and no ."
        )
    return text


def _without_braces(text: str) -> str:
    if found := _PLACEHOLDER.search(text):
        raise ValueError(
            f"{found[0]} is not supported here; only staging_prefix accepts {{timestamp}} and {{run}}"
        )
    return text


def _key(text: str) -> str:
    if not text or text.endswith("/"):
        raise ValueError(f"{text!r} is not an object key such as ACTIVE.json")
    return _inside(_without_braces(text))


def _prefix(text: str) -> str:
    return f"{_inside(_without_braces(text).removesuffix('/'))}/" if text else ""


def _staging_prefix(text: str) -> str:
    places = _PLACEHOLDER.findall(text)
    for place in places:
        if place not in ("{timestamp}", "{run}"):
            raise ValueError(f"{place} is unknown; use {{timestamp}} and {{run}}")
    if "{run}" not in places:
        raise ValueError("it must contain {run}, so that every run has a root of its own")
    return f"{_inside(text.removesuffix('/'))}/"


def _one_of(text: str, words: Sequence[str]) -> str:
    if text not in words:
        raise ValueError(f"{text!r} is not {' or '.join(words)}")
    return text


def _boolean(text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise ValueError(f"{text!r} is not true or false")
    return BOOLEANS[text.lower()]


def _seconds(text: str, least: float = 0.0) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of seconds") from None
    if not (seconds >= least and math.isfinite(seconds)):
        raise ValueError(f"{text} s is too short; the minimum is {least:g} s")
    return seconds


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a number from 0 to 1")
    return share


def _command(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a command: {error}") from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def zone(name: str) -> tzinfo:
    """The time zone with this name."""
    # Not every machine has the time zone database, and UTC needs none.
    return UTC if name.upper() == "UTC" else ZoneInfo(name)


def _timezone(text: str) -> str:
    try:
        zone(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is not a time zone{did_you_mean(text, available_timezones())}") from None
    return text


def _models(text: str) -> str:
    if not _ATTRIBUTE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not in the form package.module:name, where name is a mapping of models"
        )
    return text


def _file_template(text: str) -> str:
    braces = _ALEMBICS_TOKEN.sub(lambda m: f"{{{m[1]}:0{m[2]}}}" if m[2] else f"{{{m[1]}}}", text)
    sample = {"rev": "\0", "slug": "a", **dict.fromkeys(FILE_TOKENS[2:], 1)}
    try:
        name = braces.format(**sample)
    except KeyError as error:
        raise ValueError(f"unknown token {error}; tokens: {', '.join(FILE_TOKENS)}") from None
    except (LookupError, ValueError, AttributeError) as error:
        raise ValueError(f"{text!r} is not a valid template: {error}") from None
    if "\0" not in name or "/" in name:
        raise ValueError("it must contain {rev}, so that file names are unique, and no /")
    return braces
