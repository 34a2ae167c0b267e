"""The standing checks: the section `[checks]`, each `name = SQL` or `name = SQL => expected`."""

import json
import re
from typing import Any

from lancemig.catalog.checks import Check

SECTION = "checks"

_WORDS = {"true": True, "false": False, "null": None, "none": None, "nan": float("nan")}
_SINGLE, _DOUBLE = r"'(?:[^']|'')*'", r'"(?:[^"\\]|\\.)*"'
_WITH_EXPECTATION = re.compile(
    rf"(?P<sql>.*)=>\s*(?P<expected>{_SINGLE}|{_DOUBLE}|[^'\"()\s]+)\s*", re.DOTALL
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def read_check(name: str, text: str) -> Check:
    """Parse a check; ValueError says what is wrong with it.

    A value after the last `=>` is the expected result. An arrow within parentheses belongs to the SQL: DuckDB
    names arguments by it.
    """
    found = _WITH_EXPECTATION.fullmatch(text)
    if found is not None:
        return _check(name, found["sql"], _expected(found["expected"]))
    _, arrow, rest = text.rpartition("=>")
    if arrow and ")" not in rest:
        raise _unread(rest.strip())
    return _check(name, text, [])


def _check(name: str, sql: str, expected: Any) -> Check:
    if not sql.strip():
        raise ValueError("an SQL query is required")
    return Check(name=name, sql=sql.strip(), expect=expected)


def _expected(text: str) -> Any:
    if text == "[]":
        return []
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if text.startswith('"'):
        return _json_text(text)
    if not _NUMBER.fullmatch(text):
        raise _unread(text)
    return float(text) if set(text) & set(".eE") else int(text)


def _json_text(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise _unread(text) from None


def _unread(text: str) -> ValueError:
    return ValueError(
        f"expected a number, true, false, null, [] (no row) or quoted text after `=>`, not {text!r}"
    )
