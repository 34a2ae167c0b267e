"""The name and the text of a new migration file, which nobody else's file has.

`revision_file` is the entry: a `Draft` becomes a `RevisionFile`. `format_expression`, `docstring_text`,
`text_literal` and `imports_for` lay out Python source as formatters do.
"""

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

FILE_TEMPLATE = "{rev}_{slug}"
SLUG_LENGTH = 40
WIDTH = 88
"""The line length of black and ruff, unless configured otherwise."""

MAX_WIDTH = 110
"""What nobody allows a line to have; shorter text that is in pieces would be put together by some."""

_THIRD_PARTY = {"lance": "import lance", "pa": "import pyarrow as pa"}
"""The modules that `revisions/render.py` refers to."""

_SourceOf = Callable[[ast.expr], str]
"""The source of a node of an expression."""

_BRACKETS: dict[type[ast.expr], tuple[str, str]] = {
    ast.List: ("[", "]"),
    ast.Tuple: ("(", ")"),
    ast.Set: ("{", "}"),
    ast.Dict: ("{", "}"),
}


class Draft(FrozenModel):
    """The content of a new migration file."""

    message: str = ""
    kind: str | None = None
    """The declared kind; None for one that is derived whenever the file is loaded."""
    rev_id: str | None = None
    """The id; None for the next free one."""
    operations: tuple[str, ...] = ()
    """Python expressions; their names are imported."""
    adopts: str = ""
    """The root whose tables the revision describes, for the docstring."""
    remarks: tuple[tuple[str, ...], ...] = ()
    """For each operation, the comments above it."""
    functions: tuple[str, ...] = ()
    """The source of the functions that operations use."""
    tolerances: tuple[str, ...] = ()
    """Python expressions, as for `operations`."""
    file_template: str = FILE_TEMPLATE
    """The file name, with `{rev}`, `{slug}` and the parts of the date as tokens."""


class RevisionFile(NamedTuple):
    """A new migration file that is not written yet."""

    path: Path
    revision: str
    content: bytes


def revision_file(
    directory: Path, chain: RevisionChain, draft: Draft, *, now: datetime, new_id: Callable[[], str]
) -> RevisionFile:
    """The file of a new revision that follows the head of `chain`.

    Args:
        directory: The folder with the migration files.
        chain: The chain that they form.
        draft: The content of the file.
        now: The creation date.
        new_id: Gives a random id, for chains whose ids are not all numbers.

    Returns:
        The file; its content was checked to have a valid header.

    Raises:
        ScriptError: The id is taken or invalid, or the file exists.
        ConfigError: The template gives no valid file name.
    """
    if draft.kind is not None and draft.kind not in KINDS:
        suggestion = did_you_mean(draft.kind, KINDS)
        message = f"unknown kind {draft.kind!r}; kinds: {', '.join(KINDS)}{suggestion}"
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
    """The next number, where all ids are numbers; else the first 12 characters of `new_id()`."""
    ids = chain.revisions
    return padded_number(largest_number(ids) + 1, ids) if all(map(is_number, ids)) else new_id()[:12]


def slug_of(message: str) -> str:
    """The words of a message in lower-case ASCII, joined by `_`: at most 40 characters."""
    plain = unicodedata.normalize("NFKD", message.casefold()).encode("ascii", "ignore").decode()
    slug = "_".join(re.findall(r"[a-z0-9]+", plain))
    if len(slug) <= SLUG_LENGTH:
        return slug
    whole_words, _, _ = slug[: SLUG_LENGTH + 1].rpartition("_")
    return whole_words or slug[:SLUG_LENGTH]


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
    tokens = {"rev": revision, "slug": slug_of(draft.message), **date}
    try:
        stem = draft.file_template.format(**tokens).removesuffix(".py").rstrip("_-. ")
    except (LookupError, ValueError, AttributeError) as error:
        message = f"{draft.file_template!r} cannot be filled in: {error}; its tokens are {', '.join(tokens)}"
        raise _template_error(message) from error
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
    # Jinja cannot escape for Python: everything that goes into the template is checked or quoted here.
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
        adopts=docstring_text(draft.adopts),
        imports=imports_for((*draft.operations, *draft.functions, *draft.tolerances)),
        kind=draft.kind,
        functions=[function.strip() for function in draft.functions],
        operations=list(_operations(draft)),
        tolerances=draft.tolerances,
    )


def _operations(draft: Draft) -> Iterator[dict[str, Any]]:
    """Each formatted operation, with the comments above it."""
    for index, operation in enumerate(draft.operations):
        remarks = draft.remarks[index] if index < len(draft.remarks) else ()
        yield {
            "comments": _comments(remarks),
            "call": format_expression(operation.strip().rstrip(","), indent=4),
        }


def _comments(remarks: Iterable[str]) -> list[str]:
    """Remarks as lines of comments; a remark that is a command is not wrapped."""
    return [f"# {line}" for remark in remarks for line in _comment_lines(remark)]


def _comment_lines(remark: str) -> list[str]:
    if remark.startswith("lancemig "):
        return [f"    {remark}"]
    return textwrap.wrap(remark, WIDTH - 6, break_long_words=False, break_on_hyphens=False)


def imports_for(operations: Iterable[str]) -> list[str]:
    """The import statements that these sources need."""
    used = names_used(operations)
    arrow = [text for name, text in _THIRD_PARTY.items() if name in used]
    names = sorted(used & set(lancemig.__all__))
    flat = f"from lancemig import {', '.join(names)}"
    if len(flat) > WIDTH:
        flat = "from lancemig import (\n" + "".join(f"    {name},\n" for name in names) + ")"
    return [*arrow, flat] if names else arrow


def names_used(sources: Iterable[str]) -> set[str]:
    """The names in these sources; a source that is not Python is skipped."""
    names: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names


def format_expression(expression: str, *, indent: int) -> str:
    """Lay out an expression with one argument or item a line, where it is too long for one line.

    Args:
        expression: Python source. Text with several lines, or that is no expression, is returned as it is.
        indent: The columns before it; a comma follows it.
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        return expression
    if "\n" in expression:
        return expression
    return _format_node(_source_of(expression), tree.body, indent, taken=0)


def _source_of(line: str) -> _SourceOf:
    """The source of a node of one line. `ast.get_source_segment` splits the whole text for each node."""
    encoded = line.encode()
    return lambda node: encoded[node.col_offset : node.end_col_offset].decode()


def _format_node(source: _SourceOf, node: ast.expr, indent: int, *, taken: int) -> str:
    """The source of `node`, after `taken` columns of a name and before a comma."""
    flat = source(node)
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
    """A long string as adjacent literals, split after blanks, one a line; empty where it has no blanks."""
    pieces = [""]
    for word in re.findall(r"[^ ]* +|[^ ]+", text):
        longer = pieces[-1] + word
        if pieces[-1] and indent + 4 + _text_width(text_literal(longer)) > WIDTH:
            pieces.append(word)
        else:
            pieces[-1] = longer
    lines = "".join(f"{' ' * (indent + 4)}{text_literal(piece)}\n" for piece in pieces)
    return f"(\n{lines}{' ' * indent})" if len(pieces) > 1 else ""


def _brackets(source: _SourceOf, node: ast.expr) -> tuple[str, str]:
    if isinstance(node, ast.Call):
        return f"{source(node.func)}(", ")"
    return _BRACKETS[type(node)]


def _children(source: _SourceOf, node: ast.expr, indent: int) -> Iterable[str]:
    """The arguments or items of `node`; none where it cannot be split."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_format_node(source, item, indent, taken=0) for item in node.elts]
    if isinstance(node, ast.Call):
        positional = [_format_node(source, item, indent, taken=0) for item in node.args]
        return positional + [
            _named(source, f"{k.arg}=" if k.arg else "**", k.value, indent) for k in node.keywords
        ]
    if isinstance(node, ast.Dict):
        keys = [f"{source(key)}: " if key else "**" for key in node.keys]
        return [_named(source, key, value, indent) for key, value in zip(keys, node.values, strict=True)]
    return []


def _named(source: _SourceOf, name: str, value: ast.expr, indent: int) -> str:
    return name + _format_node(source, value, indent, taken=_text_width(name))


def _text_width(text: str) -> int:
    """The width of a line for formatters: ideographs have two columns, combining characters none."""
    return sum(_character_width(character) for character in text) if not text.isascii() else len(text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def docstring_text(text: str) -> str:
    """`text` on one line, escaped for a docstring; characters that are not printable are removed."""
    line = " ".join(text.split())
    printable = "".join(character for character in line if character.isprintable()).strip()
    escaped = printable.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f" {escaped}" if escaped.startswith('"') else escaped


def text_literal(text: str, *, ascii_only: bool = False) -> str:
    """A string literal in double quotes, or in single quotes where that takes fewer backslashes."""
    literal = (ascii if ascii_only else repr)(text)
    if literal.startswith('"') or text.count('"') > text.count("'"):
        return literal
    inner = literal[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{inner}"'
