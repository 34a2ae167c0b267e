"""The tokens of SQL expressions of Lance: names, text, numbers and marks. This is no parser."""

import re
from typing import NamedTuple

# Lance reads double quotes as string quotes, like single ones; identifiers are quoted by backticks.
_TOKEN = re.compile(
    r"""(?P<gap>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^']|'')*'|"[^"]*")
      | (?P<name>(?:`[^`]+`|[A-Za-z_]\w*)(?:\.(?:`[^`]+`|[A-Za-z_]\w*))*)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<mark><=|>=|<>|!=|\|\||::|.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A token of an expression: a `name` (lower case, without backticks), `text`, a `number` or a `mark`."""

    kind: str
    text: str
    quoted: bool = False

    def is_one_of(self, *words: str) -> bool:
        """Whether it is one of these keywords or marks, unquoted."""
        return not self.quoted and self.kind in ("name", "mark") and self.text in words

    @property
    def is_literal(self) -> bool:
        """Whether it is a literal: text or a number."""
        return self.kind in ("text", "number")


def tokenize(sql: str) -> list[Token]:
    """The tokens of an expression, without comments."""
    tokens = []
    for match in _TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "text":
            tokens.append(Token(kind, text[1:-1]))
        elif kind != "gap":
            tokens.append(Token(kind, text.replace("`", "").lower(), quoted="`" in text))
    return tokens


def identifiers(sql: str) -> set[str]:
    """All names in an expression, including functions and keywords, in lower case."""
    return {token.text for token in tokenize(sql) if token.kind == "name"}


def names_column(sql: str, name: str) -> bool:
    """Whether an expression may use the top-level column `name`, or a field of it.

    Lance finds a name whatever its case. A column whose name is no plain identifier may be spelled in several
    ways, so it counts as used where its text occurs, or where it has a character that needs an escape.
    """
    if name.isascii() and name.isidentifier():
        wanted = name.lower()
        return any(wanted in identifier.split(".") for identifier in identifiers(sql))
    return bool(sql) and (name.casefold() in sql.casefold() or bool(_ESCAPED & set(name)))


_ESCAPED = frozenset("`\"'\\")
"""Characters that SQL escapes inside quotes."""
