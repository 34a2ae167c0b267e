"""The header of a migration file, read from its syntax tree without running the file.

`read_headers` reads all files of a folder, `read_header` one. `parse_migration` refuses what may not stand at
the top level of a migration, and `assignments` lists its variables for other readers of the tree. The rest
are helpers for ids that are numbers, for suggestions (`did_you_mean`) and for messages with a file and a
line. This module loads nothing that reads tables.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from lancemig.catalog.value import FrozenModel, Kind, text_digest, text_digests
from lancemig.errors import ConfigError, ScriptError
from lancemig.revisions.journal import read_regular, refuse_unfinished

KINDS = tuple(str(kind) for kind in Kind)
"""The words that `kind` may be."""

ALLOWED = "a docstring, imports, assignments to names, and functions without decorators"
FIX_STEP = "fix the file, then: lancemig check --offline"
_STATEMENT_NAMES: dict[type[ast.stmt], str] = {
    ast.AsyncFunctionDef: "async def",
    ast.AugAssign: "an augmented assignment",
    ast.ClassDef: "class",
    ast.Delete: "del",
    ast.Expr: "an expression",
}
_FIELD = re.compile(r"\s*(Revision ID|Revises|Create Date|Adopts)\s*:\s*(.*?)\s*")
_BASE_SPELLINGS = ("", "none", "base", "<base>")
_EXAMPLES = {
    "revision": 'revision = "0007"',
    "down_revision": 'down_revision = "0006"` (or None in the first migration), as in `down_revision = None',
}


class Header(FrozenModel):
    """The identity of a migration file, and its place in the history."""

    path: Path
    revision: str
    down_revision: str | None
    """The revision before this one; None for the first."""
    kind: str | None = None
    """The declared kind, if there is one."""
    message: str = ""
    """The first line of the docstring."""
    created: str | None = None
    adopts: str | None = None
    """The root whose tables the revision describes, if they existed before it."""
    sha256: str
    """The digest of the file's text, regardless of line ends; see `text_digest`."""
    digests: frozenset[str] = Field(default=frozenset(), exclude=True, repr=False)
    """The digests by which other checkouts and earlier releases know the same text, with `sha256`."""
    replaces: tuple[str, ...] = ()
    """For a squash: the replaced revisions in their order, the last of which has the id of this one."""

    def has_digest(self, recorded: str | None) -> bool:
        """Whether a recorded digest is that of this file, however its lines ended when it was recorded."""
        return recorded == self.sha256 or recorded in self.digests


class Assignment(NamedTuple):
    """An assignment to a variable at the top level; `value` is None for an unpacking."""

    line: int
    value: ast.expr | None


def read_headers(directory: Path, *, unfinished: bool = False) -> tuple[Header, ...]:
    """The headers of all migration files in `directory`, by file name.

    Directories, hidden files, dunder files, and files that do not end in .py are skipped.

    Args:
        directory: The folder with the migration files.
        unfinished: Whether to read the files although a change of several files was interrupted.

    Raises:
        ConfigError: The directory does not exist or is unreadable.
        ScriptError: A file is invalid, or a change of several files was interrupted.
    """
    return tuple(read_header(path) for path in migration_files(directory, unfinished=unfinished))


def migration_files(directory: Path, *, unfinished: bool = False) -> tuple[Path, ...]:
    """The migration files in `directory`, by name; refused as in `read_headers`."""
    if not unfinished:
        refuse_unfinished(directory)
    try:
        found = sorted(path for path in directory.iterdir() if _may_be_migration(path))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "does not exist" if missing else f"is unreadable: {error.strerror}"
        raise ConfigError(
            f"the migrations directory {directory} {reason}",
            next_step="lancemig init, or fix script_location in lancemig.ini",
        ) from error
    return tuple(path for path in found if not _is_helper(path))


def _may_be_migration(path: Path) -> bool:
    skipped = path.name.startswith((".", "__")) or path.name == "conftest.py" or path.is_dir()
    return path.suffix == ".py" and not skipped


_OF_MIGRATIONS = re.compile(
    rb"^(?:rev\w*|down\w*|oper\w*|replaces)[ \t]*[:=]|^[ \t]*Revis(?:ion ID|es):",
    re.MULTILINE | re.IGNORECASE,
)
"""What a migration file has in some line; one that is damaged or misspelled has some of it, too."""


def _is_helper(path: Path) -> bool:
    """Whether a file is a module that migrations import: nothing in it belongs to a migration.

    Other files are parsed, and refused where they are no migration, so that none is passed over by mistake.
    """
    try:
        content = read_regular(path)
    except OSError:
        return False  # `read_header` says why
    if _OF_MIGRATIONS.search(content.replace(b"\r", b"\n")) or b"\0" in content:
        return False
    try:
        tree = ast.parse(content, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(statement, ast.Expr) for statement in tree.body)


def read_header(path: Path) -> Header:
    """The header of one file; ScriptError names the file, the line and what to change."""
    return parse_header(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a migration file; ScriptError where they cannot be read."""
    try:
        return read_regular(path)
    except OSError as error:
        raise ScriptError(
            f"{path} cannot be read: {error.strerror}",
            next_step="restore the file or fix its permissions, then: lancemig history",
            path=path,
        ) from error


def parse_header(path: Path, content: bytes) -> Header:
    """The header of a file with this content; `path` is not read."""
    tree = parse_migration(path, content)
    variables = _HeaderVariables(path, assignments(tree))
    docstring = _parse_docstring(tree)
    header = Header(
        path=path,
        revision=variables.revision(),
        down_revision=variables.down_revision(),
        kind=variables.kind(),
        message=docstring.message,
        created=docstring.fields.get("Create Date", (0, None))[1],
        adopts=docstring.fields.get("Adopts", (0, None))[1],
        sha256=text_digest(content),
        digests=text_digests(content),
        replaces=variables.replaces(),
    )
    _check_docstring(header, docstring)
    return header


class _HeaderVariables:
    """Reads the header's variables from the assignments of a file."""

    def __init__(self, path: Path, assigned: dict[str, list[Assignment]]) -> None:
        self.path = path
        self.assigned = assigned

    def revision(self) -> str:
        text = self._required("revision")
        if not text:
            raise self._variable_error("revision", "must be a literal string, the id of this revision")
        return text

    def down_revision(self) -> str | None:
        text = self._required("down_revision")
        if text == "":
            raise self._variable_error(
                "down_revision", "must name the revision before this one; the first has None"
            )
        return text

    def kind(self) -> str | None:
        if "kind" not in self.assigned:
            self._refuse_misspelled_kind()
            return None
        word = self._literal("kind")
        if word is not None and word not in KINDS:
            suggestion = did_you_mean(word, KINDS)
            raise self._variable_error("kind", f"must be one of {', '.join(KINDS)}, not {word!r}{suggestion}")
        return word

    def replaces(self) -> tuple[str, ...]:
        if "replaces" not in self.assigned:
            return ()
        value = self.assigned["replaces"][-1].value
        items = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        ids = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        if not ids or len(ids) != len(items) or len(self.assigned["replaces"]) > 1:
            raise self._variable_error("replaces", "must be a tuple of the squashed ids, assigned once")
        if ids[-1] != self.revision() or len(set(ids)) < len(ids):
            raise self._variable_error(
                "replaces", f"must end with {self.revision()!r}, and name each revision once"
            )
        return tuple(ids)

    def _required(self, name: str) -> str | None:
        if name not in self.assigned:
            others = self.assigned.keys() - {
                "revision",
                "down_revision",
                "kind",
                "operations",
                "downgrade",
                "replaces",
            }
            suggestion = did_you_mean(name, others).replace("did you mean", "is it misspelled as")
            raise self._header_error(None, f"`{name}` is missing: add `{_EXAMPLES[name]}`{suggestion}")
        return self._literal(name)

    def _literal(self, name: str) -> str | None:
        value = self.assigned[name][-1].value
        if len(self.assigned[name]) > 1:
            raise self._variable_error(
                name, f"is assigned more than once, first on line {self.assigned[name][0].line}"
            )
        if isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, str)):
            return value.value
        if name == "down_revision" and isinstance(value, ast.Tuple | ast.List):
            raise self._variable_error(name, "must name one revision: history is linear, without merges")
        raise self._variable_error(
            name, "must be a literal string or None: lancemig reads it without running the file"
        )

    def _refuse_misspelled_kind(self) -> None:
        for name in close_matches("kind", self.assigned, likeness=0.75):
            value = self.assigned[name][-1].value
            if isinstance(value, ast.Constant) and value.value in KINDS:
                raise self._variable_error(name, "is unknown; did you mean `kind`?")

    def _variable_error(self, name: str, message: str) -> ScriptError:
        return self._header_error(self.assigned[name][-1].line, f"`{name}` {message}")

    def _header_error(self, line: int | None, message: str) -> ScriptError:
        return ScriptError(
            f"{location(self.path, line)}: {message}",
            next_step="fix the file, then: lancemig history",
            path=self.path,
            line=line,
        )


class _Docstring(NamedTuple):
    """The first line of a docstring, and the header fields below it as `{name: (line in the file, text)}`."""

    message: str
    fields: dict[str, tuple[int, str]]


def _parse_docstring(tree: ast.Module) -> _Docstring:
    first = tree.body[0] if tree.body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return _Docstring("", {})
    lines = [(first.lineno + at, text.strip()) for at, text in enumerate(str(first.value.value).splitlines())]
    filled = [(line, text) for line, text in lines if text]
    fields: dict[str, tuple[int, str]] = {}
    for line, text in filled[1:]:
        match = _FIELD.fullmatch(text)
        if match:
            fields.setdefault(match[1], (line, match[2]))
    return _Docstring(filled[0][1] if filled else "", fields)


def _check_docstring(header: Header, docstring: _Docstring) -> None:
    """Refuse a docstring whose fields differ from the variables."""
    for field, name in (("Revision ID", "revision"), ("Revises", "down_revision")):
        value = getattr(header, name)
        line, text = docstring.fields.get(field, (0, value or ""))
        is_base = name == "down_revision" and text.lower() in _BASE_SPELLINGS
        if (None if is_base else text) != value:
            contradiction = f"the docstring has `{field}: {text}`, but `{name}` is {value!r}"
            raise ScriptError(
                f"{location(header.path, line)}: {contradiction}",
                next_step="make both agree, then: lancemig history",
                path=header.path,
                line=line,
            )


def parse_migration(path: Path, content: bytes) -> ast.Module:
    """The syntax tree of a migration file.

    Args:
        path: The file, for messages; it is not read.
        content: The bytes of the file.

    Raises:
        ScriptError: The content is not UTF-8 or not Python, or its top level has statements with effects.
    """
    try:
        tree = ast.parse(decode_source(path, content), filename=str(path))
        compile(tree, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        text = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        raise _file_error(path, error.lineno, f"{error.msg}{text}") from error
    except ValueError as error:
        raise _file_error(path, None, str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise _file_error(path, None, "an expression is nested too deeply") from error
    for statement in tree.body:
        forbidden = _forbidden_statement(statement)
        if forbidden is not None:
            message = f"{forbidden} is not allowed at the top level of a migration; allowed: {ALLOWED}"
            raise _file_error(path, statement.lineno, message)
    return tree


def decode_source(path: Path, content: bytes) -> str:
    """The text of a file; ScriptError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _file_error(path, line, f"not UTF-8: {error.reason} at byte {error.start}") from error


def assignments(tree: ast.Module) -> dict[str, list[Assignment]]:
    """All assignments to names at the top level, by name, in the order of the file."""
    by_name: dict[str, list[Assignment]] = {}
    for statement in tree.body:
        for name, value in _assigned_names(statement):
            by_name.setdefault(name, []).append(Assignment(statement.lineno, value))
    return by_name


def _assigned_names(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = statement.targets
    else:
        return
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id, statement.value
        else:
            yield from ((n.id, None) for n in ast.walk(target) if isinstance(n, ast.Name))


def _forbidden_statement(statement: ast.stmt) -> str | None:
    """The name of a statement that is not allowed at the top level; None for one that is."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return None
    if isinstance(statement, ast.FunctionDef):
        return "a decorated function" if statement.decorator_list else None
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return _forbidden_target(statement)
    if isinstance(statement, ast.Expr):
        return _forbidden_expression(statement.value)
    if isinstance(statement, ast.If) and _is_type_checking_block(statement):
        return None
    return _STATEMENT_NAMES.get(type(statement), f"`{type(statement).__name__.lower()}`")


def _forbidden_target(statement: ast.Assign | ast.AnnAssign) -> str | None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    parts = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.expr)]
    if all(isinstance(part, ast.Name | ast.Tuple | ast.List | ast.Starred) for part in parts):
        return None
    return "an assignment to an attribute or an item"


def _forbidden_expression(value: ast.expr) -> str | None:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return None
    return f"a call ({ast.unparse(value.func)})" if isinstance(value, ast.Call) else "an expression"


def _is_type_checking_block(statement: ast.If) -> bool:
    only_imports = all(isinstance(inner, ast.Import | ast.ImportFrom) for inner in statement.body)
    guard = ast.unparse(statement.test)
    return guard in {"TYPE_CHECKING", "typing.TYPE_CHECKING"} and only_imports and not statement.orelse


def _file_error(path: Path, line: int | None, message: str) -> ScriptError:
    return ScriptError(f"{location(path, line)}: {message}", next_step=FIX_STEP, path=path, line=line)


def is_number(revision: str) -> bool:
    """Whether a revision id is a number."""
    return revision.isascii() and revision.isdecimal()


def largest_number(revisions: Iterable[str]) -> int:
    """The largest of the ids that are numbers; 0 where none is."""
    return max((int(revision) for revision in revisions if is_number(revision)), default=0)


def padded_number(number: int, revisions: Iterable[str]) -> str:
    """`number` padded to the widest of the ids that are numbers, and to at least four digits."""
    width = max([4, *(len(revision) for revision in revisions if is_number(revision))])
    return f"{number:0{width}d}"


def location(path: Path, line: int | None = None) -> str:
    """`versions/0007_x.py:12`, the form that editors and terminals link to."""
    return str(path) if line is None else f"{path}:{line}"


def close_matches(text: str, names: Iterable[str], *, likeness: float = 0.6) -> list[str]:
    """At most three names similar to `text`, ignoring case; names that only contain it come last.

    Args:
        text: What was given.
        names: The valid names.
        likeness: The least similarity, from 0 to 1.
    """
    by_lower = {name.lower(): name for name in names}
    matches = get_close_matches(text.lower(), by_lower, n=3, cutoff=likeness)
    matches += [name for name in by_lower if text and text.lower() in name and name not in matches]
    return [by_lower[name] for name in matches[:3]]


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """`; did you mean column?`, or an empty string where no name is similar."""
    matches = close_matches(text, names)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
