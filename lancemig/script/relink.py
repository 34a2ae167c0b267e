"""The text of a migration file with other ids: what is replaced is found in its syntax tree."""

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate

from lancemig.errors import ScriptError
from lancemig.script.header import Header, header_of
from lancemig.script.syntax import parsed, variables

_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(r"\s*(Revision ID|Revises)\s*:\s*(.*?)")
_OPENING = re.compile(rb"[rRuU]?(\"\"\"|'''|\"|')")

Edit = tuple[slice, bytes]


def relinked(header: Header, content: bytes, wanted: Header) -> bytes:
    """`content` with the ids of `wanted` in its variables and docstring; every other byte as it was.

    What comes out reads as `wanted` does, but for the checksum; ScriptError where it would not.
    """
    tree = parsed(header.path, content)
    body = content.removeprefix(_BOM)
    starts = [0, *accumulate(map(len, body.splitlines(keepends=True)))]

    def place(node: ast.expr) -> slice:
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        return slice(starts[node.lineno - 1] + node.col_offset, end)

    found = variables(tree)
    fields: dict[str, str] = {}
    edits: list[Edit] = []
    for name, field in (("revision", "Revision ID"), ("down_revision", "Revises")):
        new, node = getattr(wanted, name), found[name][-1].value
        if new != getattr(header, name) and node is not None:
            fields[field] = new
            edits.append((place(node), _literal(body[place(node)], new)))
    first = tree.body[0]
    if isinstance(first, ast.Expr):
        edits += _field_edits(body, place(first.value), fields)
    for where, text in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        body = body[: where.start] + text + body[where.stop :]
    result = _BOM + body if content.startswith(_BOM) else body
    _refuse_other(header, result, wanted)
    return result


def _literal(old: bytes, new: str) -> bytes:
    """`new` in the quotes of `old`, in double ones where it has none."""
    opening = _OPENING.match(old)
    quotes = opening[1] if opening else b'"'
    return quotes + new.encode() + quotes


def _field_edits(body: bytes, literal: slice, fields: Mapping[str, str]) -> Iterator[Edit]:
    """The first line of each field below the docstring's message, as `header_of` reads them."""
    opening = _OPENING.match(body[literal])
    if opening is None:
        return
    at, left, below = literal.start + opening.end(), dict(fields), False
    for line in body[at : literal.stop - len(opening[1])].decode().splitlines(keepends=True):
        match = _FIELD.fullmatch(line.rstrip()) if below else None
        if match and match[1] in left:
            start = at + len(line[: match.start(2)].encode())
            new = left.pop(match[1]).encode()
            yield slice(start, start + len(match[2].encode())), new if match[2] else b" " + new
        below = below or bool(line.strip())
        at += len(line.encode())


def _refuse_other(header: Header, content: bytes, wanted: Header) -> None:
    said = f"{header.path}: its header cannot be rewritten"
    by_hand = (
        f'write `revision = "{wanted.revision}"` and `down_revision = "{wanted.down_revision}"` there '
        "and in the docstring by hand, then: lancemig history"
    )
    try:
        found = header_of(wanted.path, content)
    except ScriptError as error:
        raise ScriptError(f"{said}; it would be refused: {error.message}", next_step=by_hand) from error
    if found != wanted.model_copy(update={"sha256": found.sha256}):
        raise ScriptError(f"{said} without changing more than its ids", next_step=by_hand)
