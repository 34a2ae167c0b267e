"""What a new migration file says, and what it is called: never as another one."""

import ast
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

import lancemig
from lancemig.catalog.value import FrozenModel
from lancemig.errors import ConfigError, ScriptError
from lancemig.revisions.chain import RevisionChain, id_complaint
from lancemig.revisions.header import (
    KINDS,
    did_you_mean,
    is_number,
    largest_number,
    padded_number,
    parse_header,
)

WIDTH = 88
"""What black and ruff take for a line, unless told otherwise."""

MAX_WIDTH = 110
"""What nobody allows a line to have; shorter text that is in pieces would be put together by some."""

_BRACKETS: dict[type[ast.expr], tuple[str, str]] = {
    ast.List: ("[", "]"),
    ast.Tuple: ("(", ")"),
    ast.Set: ("{", "}"),
    ast.Dict: ("{", "}"),
}


def format_expression(expression: str, *, indent: int) -> str:
    """`expression`, followed by a comma at `indent`, one argument or item a line where it is too long.

    Text that has several lines already, or is no expression, is left as it is.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        return expression
    return expression if "\n" in expression else _format_node(expression, tree.body, indent, taken=0)


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


def docstring_text(text: str) -> str:
    """`text` on one line, as it may stand between three quotes; what cannot be printed is left out."""
    chain = " ".join(text.split())
    printable = "".join(character for character in chain if character.isprintable()).strip()
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


def _format_node(source: str, node: ast.expr, indent: int, *, taken: int) -> str:
    """The text of `node`, behind `taken` columns of a name and before a comma."""
    flat = ast.get_source_segment(source, node) or ""
    columns = _text_width(flat)
    if indent + taken + columns + 1 <= WIDTH:
        return flat
    alone = indent + 4 + columns
    if alone > MAX_WIDTH and isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _split_text(node.value, indent) or flat
    parts = list(_children(source, node, indent + 4))
    if not parts:
        return flat
    inner = "".join(f"{' ' * (indent + 4)}{part},\n" for part in parts)
    opening, closing = _brackets(source, node)
    return f"{opening}\n{inner}{' ' * indent}{closing}"


def _split_text(text: str, indent: int) -> str:
    """A long text in pieces, cut behind blanks, one a line; nothing where it has none."""
    pieces = [""]
    for word in re.findall(r"[^ ]* +|[^ ]+", text):
        longer = pieces[-1] + word
        if pieces[-1] and indent + 4 + _text_width(text_literal(longer)) > WIDTH:
            pieces.append(word)
        else:
            pieces[-1] = longer
    lines = "".join(f"{' ' * (indent + 4)}{text_literal(piece)}\n" for piece in pieces)
    return f"(\n{lines}{' ' * indent})" if len(pieces) > 1 else ""


def _text_width(text: str) -> int:
    """How wide formatters take a line to be: two columns for an ideograph, none for what joins another."""
    return sum(_character_width(character) for character in text) if not text.isascii() else len(text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _brackets(source: str, node: ast.expr) -> tuple[str, str]:
    if isinstance(node, ast.Call):
        return f"{ast.get_source_segment(source, node.func)}(", ")"
    return _BRACKETS[type(node)]


def _children(source: str, node: ast.expr, indent: int) -> Iterable[str]:
    """The arguments or items of `node`; none where it cannot be taken apart."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_format_node(source, item, indent, taken=0) for item in node.elts]
    if isinstance(node, ast.Call):
        given = [_format_node(source, item, indent, taken=0) for item in node.args]
        return given + [
            _named(source, f"{k.arg}=" if k.arg else "**", k.value, indent) for k in node.keywords
        ]
    if isinstance(node, ast.Dict):
        keys = [f"{ast.get_source_segment(source, key)}: " if key else "**" for key in node.keys]
        return [_named(source, key, value, indent) for key, value in zip(keys, node.values, strict=True)]
    return []


def _named(source: str, name: str, value: ast.expr, indent: int) -> str:
    return name + _format_node(source, value, indent, taken=_text_width(name))


FILE_TEMPLATE = "{rev}_{slug}"
SLUG_LENGTH = 40

_THIRD_PARTY = {"lance": "import lance", "pa": "import pyarrow as pa"}
"""What `revisions/render.py` may name beside lancemig's own words."""


class Draft(FrozenModel):
    """What a new file is to say. `operations` are expressions; what they need of lancemig is imported.

    `remarks` are comments above each of them; `functions`, the source of those that they name.
    `rev_id` is found if not given; without `kind`, it is computed whenever the file is loaded.
    """

    message: str = ""
    kind: str | None = None
    rev_id: str | None = None
    operations: tuple[str, ...] = ()
    remarks: tuple[tuple[str, ...], ...] = ()
    functions: tuple[str, ...] = ()
    file_template: str = FILE_TEMPLATE


class RevisionFile(NamedTuple):
    """A new migration file, not written yet."""

    path: Path
    revision: str
    content: bytes


def revision_file(
    directory: Path, chain: RevisionChain, draft: Draft, *, now: datetime, new_id: Callable[[], str]
) -> RevisionFile:
    """The migration that follows the head of `line`, as a file for `directory`.

    Its id is the next number where all ids are numbers, otherwise the first 12 characters of `new_id()`.
    The text has been read back as a header. Raises ScriptError for an id that is taken or unusable and for a
    file that exists, ConfigError for an impossible template.
    """
    if draft.kind is not None and draft.kind not in KINDS:
        meant = did_you_mean(draft.kind, KINDS)
        message = f"unknown kind {draft.kind!r}; kinds: {', '.join(KINDS)}{meant}"
        raise ScriptError(message, next_step="choose one of these kinds, or omit --kind")
    revision = _checked_id(chain, draft.rev_id or next_id(chain, new_id))
    path = directory / f"{_stem(draft, revision, now)}.py"
    content = _render(chain, draft, revision, now).encode()
    parse_header(path, content)
    if os.path.lexists(path):
        raise ScriptError(
            f"{path} already exists; it was not overwritten",
            next_step="use {rev} in file_template of lancemig.ini, or give another --rev-id",
        )
    return RevisionFile(path, revision, content)


def next_id(chain: RevisionChain, new_id: Callable[[], str]) -> str:
    """The number after the largest, in four digits or more; 12 characters of `new_id` after other ids."""
    ids = chain.revisions
    return padded_number(largest_number(ids) + 1, ids) if all(map(is_number, ids)) else new_id()[:12]


def slug_of(message: str) -> str:
    """The words of a message in ASCII, small and joined by `_`: 40 characters at most."""
    plain = unicodedata.normalize("NFKD", message.casefold()).encode("ascii", "ignore").decode()
    words = "_".join(re.findall(r"[a-z0-9]+", plain))
    if len(words) <= SLUG_LENGTH:
        return words
    whole, _, _ = words[: SLUG_LENGTH + 1].rpartition("_")
    return whole or words[:SLUG_LENGTH]


def _checked_id(chain: RevisionChain, revision: str) -> str:
    complaint = id_complaint(revision)
    taken = next((header for header in chain.headers if header.revision == revision), None)
    if taken is not None:
        complaint = f"the id {revision} is already used by {taken.path}"
    if complaint is not None:
        raise ScriptError(complaint, next_step="choose another --rev-id, or omit it")
    return revision


def _stem(draft: Draft, revision: str, now: datetime) -> str:
    date = {name: getattr(now, name) for name in ("year", "month", "day", "hour", "minute")}
    keys = {"rev": revision, "slug": slug_of(draft.message), **date}
    try:
        stem = draft.file_template.format(**keys).removesuffix(".py").rstrip("_-. ")
    except (LookupError, ValueError, AttributeError) as error:
        wrong = f"{draft.file_template!r} cannot be filled in: {error}; its tokens are {', '.join(keys)}"
        raise _template_error(wrong) from error
    if not stem or stem.startswith((".", "__")) or Path(stem).name != stem or "\\" in stem:
        raise _template_error(
            f"{draft.file_template!r} gives {stem!r}, which is not a valid migration file name"
        )
    return stem


def _template_error(message: str) -> ConfigError:
    return ConfigError(
        f"file_template {message}", next_step=f"write in lancemig.ini: file_template = {FILE_TEMPLATE}"
    )


def _render(chain: RevisionChain, draft: Draft, revision: str, now: datetime) -> str:
    # The template makes Python, which nothing escapes: what goes into it is checked or spelt here.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("migration.py.j2").render(
        message=docstring_text(draft.message) or f"Revision {revision}",
        revision=revision,
        down_revision=chain.head,
        created=now.isoformat(sep=" ", timespec="seconds"),
        imports=imports_for((*draft.operations, *draft.functions)),
        kind=draft.kind,
        functions=[function.strip() for function in draft.functions],
        operations=list(_operations(draft)),
    )


def _operations(draft: Draft) -> Iterator[dict[str, Any]]:
    """Each operation, laid out, and the comments above it."""
    for at, operation in enumerate(draft.operations):
        remarks = draft.remarks[at] if at < len(draft.remarks) else ()
        yield {
            "comments": _comments(remarks),
            "call": format_expression(operation.strip().rstrip(","), indent=4),
        }


def _comments(remarks: Iterable[str]) -> list[str]:
    """Remarks as lines of comments; one that is a command is not broken."""
    return [f"# {chain}" for remark in remarks for chain in _comment_lines(remark)]


def _comment_lines(remark: str) -> list[str]:
    if remark.startswith("lancemig "):
        return [f"    {remark}"]
    return textwrap.wrap(remark, WIDTH - 6, break_long_words=False, break_on_hyphens=False)


def imports_for(operations: Iterable[str]) -> list[str]:
    """The imports that these operations need."""
    used = names_used(operations)
    arrow = [text for name, text in _THIRD_PARTY.items() if name in used]
    names = sorted(used & set(lancemig.__all__))
    flat = f"from lancemig import {', '.join(names)}"
    if len(flat) > WIDTH:
        flat = "from lancemig import (\n" + "".join(f"    {name},\n" for name in names) + ")"
    return [*arrow, flat] if names else arrow
