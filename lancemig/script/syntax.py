"""What a migration file may hold, checked on its syntax tree before anything of it runs."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lancemig.errors import ScriptError
from lancemig.script.wording import located

ALLOWED = "a docstring, imports, assignments to names, and functions without decorators"

_WORDS: dict[type[ast.stmt], str] = {
    ast.AsyncFunctionDef: "async def",
    ast.AugAssign: "an augmented assignment",
    ast.ClassDef: "class",
    ast.Delete: "del",
    ast.Expr: "an expression",
}


MEND = "fix the file, then: lancemig check --offline"


class Assigned(NamedTuple):
    """The value of a variable at the top level; `None` where it comes out of an unpacking."""

    line: int
    value: ast.expr | None


def parsed(path: Path, content: bytes) -> ast.Module:
    """The syntax tree of a migration file, if its top level holds nothing that acts.

    Raises ScriptError with file and line for what is not UTF-8, not Python, or not allowed there.
    """
    try:
        tree = ast.parse(decoded(path, content), filename=str(path))
        compile(tree, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        text = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        raise _unfit(path, error.lineno, f"{error.msg}{text}") from error
    except ValueError as error:
        raise _unfit(path, None, str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise _unfit(path, None, "an expression is nested too deeply") from error
    for statement in tree.body:
        refused = _refused(statement)
        if refused is not None:
            said = f"{refused} is not allowed at the top level of a migration; allowed: {ALLOWED}"
            raise _unfit(path, statement.lineno, said)
    return tree


def decoded(path: Path, content: bytes) -> str:
    """The text of a file; ScriptError where it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _unfit(path, line, f"not UTF-8: {error.reason} at byte {error.start}") from error


def variables(tree: ast.Module) -> dict[str, list[Assigned]]:
    """Every assignment to a name at the top level, by name, in the order of the file."""
    found: dict[str, list[Assigned]] = {}
    for statement in tree.body:
        for name, value in _assignments(statement):
            found.setdefault(name, []).append(Assigned(statement.lineno, value))
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


def _refused(statement: ast.stmt) -> str | None:
    """What is wrong with a statement at the top level, or None."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return None
    if isinstance(statement, ast.FunctionDef):
        return "a decorated function" if statement.decorator_list else None
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        return _refused_target(statement)
    if isinstance(statement, ast.Expr):
        return _refused_expression(statement.value)
    if isinstance(statement, ast.If) and _imports_for_types(statement):
        return None
    return _WORDS.get(type(statement), f"`{type(statement).__name__.lower()}`")


def _refused_target(statement: ast.Assign | ast.AnnAssign) -> str | None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    parts = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.expr)]
    if all(isinstance(part, ast.Name | ast.Tuple | ast.List | ast.Starred) for part in parts):
        return None
    return "an assignment to an attribute or an item"


def _refused_expression(value: ast.expr) -> str | None:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return None
    return f"a call ({ast.unparse(value.func)})" if isinstance(value, ast.Call) else "an expression"


def _imports_for_types(statement: ast.If) -> bool:
    only_imports = all(isinstance(inner, ast.Import | ast.ImportFrom) for inner in statement.body)
    guard = ast.unparse(statement.test)
    return guard in {"TYPE_CHECKING", "typing.TYPE_CHECKING"} and only_imports and not statement.orelse


def _unfit(path: Path, line: int | None, said: str) -> ScriptError:
    return ScriptError(f"{located(path, line)}: {said}", next_step=MEND, path=path, line=line)
