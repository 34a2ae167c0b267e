"""Operations as source text, laid out as a formatter leaves them."""

import ast
import re
import unicodedata
from collections.abc import Iterable

WIDTH = 88
"""What black and ruff take for a line, unless told otherwise."""

WIDEST = 110
"""What nobody allows a line to have; shorter text that is in pieces would be put together by some."""

_BRACKETS: dict[type[ast.expr], tuple[str, str]] = {
    ast.List: ("[", "]"),
    ast.Tuple: ("(", ")"),
    ast.Set: ("{", "}"),
    ast.Dict: ("{", "}"),
}


def laid_out(expression: str, *, indent: int) -> str:
    """`expression`, followed by a comma at `indent`, one argument or item a line where it is too long.

    Text that has several lines already, or is no expression, is left as it is.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        return expression
    return expression if "\n" in expression else _fitted(expression, tree.body, indent, taken=0)


def names_used(sources: Iterable[str]) -> set[str]:
    """The names that these expressions and functions use; those of text that is neither are unknown."""
    found: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return found


def quotable(text: str) -> str:
    """`text` on one line, as it may stand between three quotes; what cannot be printed is left out."""
    line = " ".join(text.split())
    printable = "".join(character for character in line if character.isprintable()).strip()
    escaped = printable.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f" {escaped}" if escaped.startswith('"') else escaped


def text_literal(text: str, *, ascii_only: bool = False) -> str:
    """A string in double quotes, or in single ones where that takes fewer backslashes."""
    spelt = (ascii if ascii_only else repr)(text)
    inner, quote = spelt[1:-1], spelt[0]
    if quote == '"':
        return spelt
    if text.count('"') > text.count("'"):
        return spelt
    plain = inner.replace("\\'", "'").replace('"', '\\"')
    return f'"{plain}"'


def _fitted(source: str, node: ast.expr, indent: int, *, taken: int) -> str:
    """The text of `node`, behind `taken` columns of a name and before a comma."""
    flat = ast.get_source_segment(source, node) or ""
    columns = _columns(flat)
    if indent + taken + columns + 1 <= WIDTH:
        return flat
    alone = indent + 4 + columns
    if alone > WIDEST and isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _in_pieces(node.value, indent) or flat
    parts = list(_parts(source, node, indent + 4))
    if not parts:
        return flat
    inner = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
    opening, closing = _ends(source, node)
    return f"{opening}\n{inner}{' ' * indent}{closing}"


def _in_pieces(text: str, indent: int) -> str:
    """A long text in pieces, cut behind blanks, one a line; nothing where it has none."""
    pieces = [""]
    for word in re.findall(r"[^ ]* +|[^ ]+", text):
        longer = pieces[-1] + word
        if pieces[-1] and indent + 4 + _columns(text_literal(longer)) > WIDTH:
            pieces.append(word)
        else:
            pieces[-1] = longer
    lines = "".join(f"{' ' * (indent + 4)}{text_literal(piece)}\n" for piece in pieces)
    return f"(\n{lines}{' ' * indent})" if len(pieces) > 1 else ""


def _columns(text: str) -> int:
    """How wide formatters take a line to be: two columns for an ideograph, none for what joins another."""
    return sum(_width(character) for character in text) if not text.isascii() else len(text)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _ends(source: str, node: ast.expr) -> tuple[str, str]:
    if isinstance(node, ast.Call):
        return f"{ast.get_source_segment(source, node.func)}(", ")"
    return _BRACKETS[type(node)]


def _parts(source: str, node: ast.expr, indent: int) -> Iterable[str]:
    """The arguments or items of `node`; none where it cannot be taken apart."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_fitted(source, item, indent, taken=0) for item in node.elts]
    if isinstance(node, ast.Call):
        given = [_fitted(source, item, indent, taken=0) for item in node.args]
        return given + [
            _named(source, f"{k.arg}=" if k.arg else "**", k.value, indent) for k in node.keywords
        ]
    if isinstance(node, ast.Dict):
        keys = [f"{ast.get_source_segment(source, key)}: " if key else "**" for key in node.keys]
        return [_named(source, key, value, indent) for key, value in zip(keys, node.values, strict=True)]
    return []


def _named(source: str, name: str, value: ast.expr, indent: int) -> str:
    return name + _fitted(source, value, indent, taken=_columns(name))
