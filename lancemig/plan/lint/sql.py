"""What can be told of an SQL expression without a table: names, functions, whether it is always true."""

import re

_STRING = re.compile(r"'(?:[^']|'')*'")
_NAME = re.compile(r"`([^`]+)`|\"([^\"]+)\"|([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_SAME = re.compile(r"('(?:[^']|'')*'|\d+)\s*(?:=|<=|>=)\s*\1")
_EITHER = re.compile(r"(\S+) is (?:not )?null or \1 is (?:not )?null")
_NEGATIVE = re.compile(r"([(,])\s*-\s*(?=\d)")

_CHANGING = {
    "now", "current_timestamp", "current_date", "current_time", "today", "random", "rand", "uuid",
    "gen_random_uuid",
}  # fmt: skip
_SETTLED = {
    "lower", "upper", "initcap", "trim", "btrim", "ltrim", "rtrim", "coalesce", "abs", "ceil", "floor",
    "round", "cast", "try_cast",
}  # fmt: skip


def always_true(where: str) -> bool:
    """Whether a condition evidently holds for every row."""
    text = " ".join(where.lower().split())
    while text.startswith("(") and text.endswith(")") and "(" not in text[1:-1]:
        text = text[1:-1].strip()
    return text in {"", "true", "not false", "1"} or bool(_SAME.fullmatch(text) or _both_ways(text))


def _both_ways(text: str) -> bool:
    match = _EITHER.fullmatch(text)
    return match is not None and text.count(" not ") == 1


def names(sql: str) -> set[str]:
    """Every name in an expression, functions and keywords among them, in lower case."""
    return {"".join(found).lower() for found in _NAME.findall(_STRING.sub("''", sql))}


def refers_to(sql: str, path: str) -> bool:
    """Whether an expression uses the column at `path`, or a field of it."""
    wanted = path.lower()
    return any(name == wanted or name.startswith(f"{wanted}.") for name in names(sql))


def changing_calls(sql: str) -> list[str]:
    """The functions in an expression that give something else each time."""
    plain = _STRING.sub("''", sql)
    called = {name.lower() for name in _CALL.findall(plain)}
    bare = names(sql) & {"current_timestamp", "current_date", "current_time"}
    return sorted((called & _CHANGING) | bare)


def settles(sql: str) -> bool:
    """Whether an expression evidently gives the same when it is applied to its own result: `lower(name)`."""
    plain = _NEGATIVE.sub(r"\1", _STRING.sub("''", sql))
    called = {name.lower() for name in _CALL.findall(plain)}
    return called <= _SETTLED and re.search(r"[-+*/%|&^]", plain) is None
