"""What can be told of an SQL expression without a table: its words, the columns it names, its functions."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

# Lance takes text between double quotes for text, as between single ones; names are quoted by backticks.
_WORD = re.compile(
    r"""(?P<gap>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^']|'')*'|"[^"]*")
      | (?P<name>(?:`[^`]+`|[A-Za-z_]\w*)(?:\.(?:`[^`]+`|[A-Za-z_]\w*))*)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<mark><=|>=|<>|!=|\|\||::|.)""",
    re.VERBOSE | re.DOTALL,
)

_CHANGING = {
    "now", "current_timestamp", "current_date", "current_time", "today", "random", "rand", "uuid",
    "gen_random_uuid", "localtimestamp", "localtime", "clock_timestamp", "getdate", "sysdate", "newid",
    "unix_timestamp",
}  # fmt: skip
_BARE = {"current_timestamp", "current_date", "current_time", "localtimestamp"}


class Word(NamedTuple):
    """A word of an expression: a `name` (lower case, without backticks), `text`, a `number` or a `mark`."""

    kind: str
    text: str
    quoted: bool = False

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or marks."""
        return not self.quoted and self.kind in ("name", "mark") and self.text in words

    @property
    def is_literal(self) -> bool:
        """Whether it is a value as it is written."""
        return self.kind in ("text", "number")


def words(sql: str) -> list[Word]:
    """The words of an expression, without comments."""
    return list(_words(sql))


def _words(sql: str) -> Iterator[Word]:
    for match in _WORD.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "text":
            yield Word(kind, text[1:-1])
        elif kind != "gap":
            yield Word(kind, text.replace("`", "").lower(), quoted="`" in text)


def names(sql: str) -> set[str]:
    """Every name in an expression, functions and keywords among them, in lower case."""
    return {word.text for word in words(sql) if word.kind == "name"}


def refers_to(sql: str, path: str) -> bool:
    """Whether an expression uses the column at `path`, or a field of it."""
    wanted = path.lower()
    return any(name == wanted or name.startswith(f"{wanted}.") for name in names(sql))


def calls(found: list[Word]) -> set[str]:
    """The functions that are called; keywords before a parenthesis among them."""
    pairs = pairwise(found)
    return {word.text for word, then in pairs if word.kind == "name" and then.says("(") and not word.quoted}


def changing_calls(sql: str) -> list[str]:
    """The functions in an expression that give something else each time."""
    found = words(sql)
    bare = {word.text for word in found if word.kind == "name" and not word.quoted} & _BARE
    return sorted((calls(found) & _CHANGING) | bare)
