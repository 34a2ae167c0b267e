"""The header of a migration file, read from its syntax tree: nothing of the file is run."""

import ast
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from lancemig.catalog.value import FrozenModel, Kind
from lancemig.errors import ConfigError, ScriptError
from lancemig.revisions.journal import refuse_unfinished


def location(path: Path, line: int | None = None) -> str:
    """`versions/0007_x.py:12`, as editors and terminals jump to it."""
    return str(path) if line is None else f"{path}:{line}"


def close_matches(text: str, names: Iterable[str], *, likeness: float = 0.6) -> list[str]:
    """The names most like `text`, whatever the case; those that contain it last."""
    by_lower = {name.lower(): name for name in names}
    found = get_close_matches(text.lower(), by_lower, n=3, cutoff=likeness)
    found += [name for name in by_lower if text and text.lower() in name and name not in found]
    return [by_lower[name] for name in found[:3]]


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """`; did you mean column?`, or nothing where no name comes close."""
    found = close_matches(text, names)
    return f"; did you mean {' or '.join(found)}?" if found else ""


ALLOWED = "a docstring, imports, assignments to names, and functions without decorators"

_STATEMENT_NAMES: dict[type[ast.stmt], str] = {
    ast.AsyncFunctionDef: "async def",
    ast.AugAssign: "an augmented assignment",
    ast.ClassDef: "class",
    ast.Delete: "del",
    ast.Expr: "an expression",
}


FIX_STEP = "fix the file, then: lancemig check --offline"


class Assignment(NamedTuple):
    """The value of a variable at the top level; `None` where it comes out of an unpacking."""

    line: int
    value: ast.expr | None


def parse_migration(path: Path, content: bytes) -> ast.Module:
    """The syntax tree of a migration file, if its top level holds nothing that acts.

    Raises ScriptError with file and line for what is not UTF-8, not Python, or not allowed there.
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
        refused = _forbidden_statement(statement)
        if refused is not None:
            said = f"{refused} is not allowed at the top level of a migration; allowed: {ALLOWED}"
            raise _file_error(path, statement.lineno, said)
    return tree


def decode_source(path: Path, content: bytes) -> str:
    """The text of a file; ScriptError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _file_error(path, line, f"not UTF-8: {error.reason} at byte {error.start}") from error


def assignments(tree: ast.Module) -> dict[str, list[Assignment]]:
    """Every assignment to a name at the top level, by name, in the order of the file."""
    found: dict[str, list[Assignment]] = {}
    for statement in tree.body:
        for name, value in _assignments(statement):
            found.setdefault(name, []).append(Assignment(statement.lineno, value))
    return found


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
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
    """What is wrong with a statement at the top level, or None."""
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


def _file_error(path: Path, line: int | None, said: str) -> ScriptError:
    return ScriptError(f"{location(path, line)}: {said}", next_step=FIX_STEP, path=path, line=line)


KINDS = tuple(str(kind) for kind in Kind)
"""The words of `lancemig.catalog.operations.Kind`, which could not be imported without pyarrow."""

_FIELD = re.compile(r"\s*(Revision ID|Revises|Create Date)\s*:\s*(.*?)\s*")
_BASE_SPELLINGS = ("", "none", "base", "<base>")


class Header(FrozenModel):
    """Who a migration file is, and whom it follows; `down_revision` is None for the first of all.

    `sha256` is that of the file's bytes; `kind` is the word declared in it, if there is one. `replaces` are
    the revisions that were squashed into this one, in their order; the last of them had its id.
    """

    path: Path
    revision: str
    down_revision: str | None
    kind: str | None = None
    message: str = ""
    created: str | None = None
    sha256: str
    replaces: tuple[str, ...] = ()


def read_headers(directory: Path, *, unfinished: bool = False) -> tuple[Header, ...]:
    """The headers of all migration files in `directory`, by file name.

    Passed over: directories, files that do not end in .py, hidden and dunder files.
    Raises ConfigError where there is no such directory, ScriptError for the first file that is wrong; and,
    unless the caller is about to finish it, where a change of several files was left `unfinished`.
    """
    return tuple(read_header(path) for path in migration_files(directory, unfinished=unfinished))


def migration_files(directory: Path, *, unfinished: bool = False) -> tuple[Path, ...]:
    """The migration files in `directory`, by name; refused as in `read_headers`."""
    if not unfinished:
        refuse_unfinished(directory)
    try:
        return tuple(sorted(path for path in directory.iterdir() if _is_migration(path)))
    except OSError as error:
        reason = (
            "does not exist" if isinstance(error, FileNotFoundError) else f"is unreadable: {error.strerror}"
        )
        raise ConfigError(
            f"the migrations directory {directory} {reason}",
            next_step="lancemig init, or fix script_location in lancemig.ini",
        ) from error


def _is_migration(path: Path) -> bool:
    passed_over = path.name.startswith((".", "__")) or path.is_dir()
    return path.suffix == ".py" and not passed_over


def read_header(path: Path) -> Header:
    """The header of one file; ScriptError names file, line and what to change."""
    return parse_header(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a migration file; ScriptError where they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ScriptError(
            f"{path} cannot be read: {error.strerror}",
            next_step="restore the file or fix its permissions, then: lancemig history",
            path=path,
        ) from error


def parse_header(path: Path, content: bytes) -> Header:
    """The header of a file with this content; `path` is only named, not read."""
    tree = parse_migration(path, content)
    variable = _HeaderVariables(path, assignments(tree))
    docstring = _parse_docstring(tree)
    header = Header(
        path=path,
        revision=variable.revision(),
        down_revision=variable.down_revision(),
        kind=variable.kind(),
        message=docstring.message,
        created=docstring.fields.get("Create Date", (0, None))[1],
        sha256=sha256(content).hexdigest(),
        replaces=variable.replaces(),
    )
    _check_docstring(header, docstring)
    return header


class _HeaderVariables:
    """The variables of a file that make its header."""

    def __init__(self, path: Path, found: dict[str, list[Assignment]]) -> None:
        self.path = path
        self.assigned = found

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
            meant = did_you_mean(word, KINDS)
            raise self._variable_error("kind", f"must be one of {', '.join(KINDS)}, not {word!r}{meant}")
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
            meant = did_you_mean(name, others).replace("did you mean", "is it misspelled as")
            raise self._header_error(None, f"`{name}` is missing: add `{_EXAMPLES[name]}`{meant}")
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

    def _variable_error(self, name: str, said: str) -> ScriptError:
        return self._header_error(self.assigned[name][-1].line, f"`{name}` {said}")

    def _header_error(self, line: int | None, said: str) -> ScriptError:
        return ScriptError(
            f"{location(self.path, line)}: {said}",
            next_step="fix the file, then: lancemig history",
            path=self.path,
            line=line,
        )


_EXAMPLES = {
    "revision": 'revision = "0007"',
    "down_revision": 'down_revision = "0006"` (or None in the first migration), as in `down_revision = None',
}


class _Docstring(NamedTuple):
    """The first line of a docstring, and the header's fields below it, each with its line in the file."""

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
    line, said = docstring.fields.get("Revision ID", (0, header.revision))
    if said != header.revision:
        raise _contradiction_error(header.path, line, f"Revision ID: {said}", "revision", header.revision)
    line, said = docstring.fields.get("Revises", (0, header.down_revision or ""))
    parent = None if said.lower() in _BASE_SPELLINGS else said
    if parent != header.down_revision:
        raise _contradiction_error(
            header.path, line, f"Revises: {said}", "down_revision", header.down_revision
        )


def _contradiction_error(path: Path, line: int, said: str, name: str, value: str | None) -> ScriptError:
    return ScriptError(
        f"{location(path, line)}: the docstring has `{said}`, but `{name}` is {value!r}",
        next_step="make both agree, then: lancemig history",
        path=path,
        line=line,
    )


def is_number(revision: str) -> bool:
    """Whether an id is one."""
    return revision.isascii() and revision.isdecimal()


def largest_number(revisions: Iterable[str]) -> int:
    """The largest of those that are numbers; 0 where none is."""
    return max((int(revision) for revision in revisions if is_number(revision)), default=0)


def padded_number(number: int, revisions: Iterable[str]) -> str:
    """`number` as wide as the widest of those that are numbers, four digits at least."""
    width = max([4, *(len(revision) for revision in revisions if is_number(revision))])
    return f"{number:0{width}d}"
