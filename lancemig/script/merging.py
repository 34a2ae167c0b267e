"""Migration files are taken apart, and what some of their operations need is put into one."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lancemig.errors import ScriptError
from lancemig.script.header import Header, read_bytes
from lancemig.script.layout import WIDTH
from lancemig.script.syntax import decoded, parsed, variables
from lancemig.script.writer import imports_for

_OWN = ("revision", "down_revision", "kind", "replaces", "operations", "downgrade", "checks", "tolerances")


def _single(statement: ast.stmt) -> Iterator[ast.Import | ast.ImportFrom]:
    """An import as imports of one name each."""
    if isinstance(statement, ast.Import):
        yield from (ast.Import([alias]) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (ast.ImportFrom(statement.module, [alias], statement.level) for alias in statement.names)


class Source:
    """The text of a file, to be taken apart."""

    def __init__(self, header: Header, count: int) -> None:
        self.header = header
        self.count = count
        content = read_bytes(header.path)
        self.tree = parsed(header.path, content)
        self.text = decoded(header.path, content)

    def operation(self, place: int) -> str:
        """The text of one operation; ScriptError where `operations` is no plain list of them."""
        value = variables(self.tree)["operations"][-1].value
        items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
        if len(items) != self.count or any(isinstance(item, ast.Starred) for item in items):
            raise ScriptError(
                f"{self.header.path}: `operations` is not a plain list, so single operations cannot "
                "be extracted",
                next_step="write every operation as an item of the list, then run the same command again",
            )
        return self._segment(items[place])

    def imports(self) -> Iterator[tuple[str, str]]:
        """Each name that is imported, and the line that does it."""
        for statement in self.tree.body:
            for only in _single(statement):
                alias = only.names[0]
                text = ast.unparse(only)
                yield (text if alias.name == "*" else alias.asname or alias.name.partition(".")[0]), text

    def definitions(self) -> Iterator[tuple[str, str]]:
        """Each name that is defined, and the text that does it; the header's and the operations' aside."""
        for statement in self.tree.body:
            if isinstance(statement, ast.FunctionDef):
                yield statement.name, self._segment(statement)
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
                if not set(names) & set(_OWN):
                    yield names[0], self._segment(statement)
            elif isinstance(statement, ast.If):
                yield f"if {statement.lineno} {self.header.path}", self._segment(statement)

    def _segment(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.text, node) or ""


def merged(sources: Sequence[Source], operations: Iterable[str]) -> tuple[list[str], list[str]]:
    """The imports and the definitions of these files, each once; and the imports of new `operations`."""
    bound: dict[str, tuple[str, Path]] = {}
    imports: dict[str, None] = dict.fromkeys(_needed(operations))
    definitions: dict[str, None] = {}
    for source in sources:
        named = [(imports, *pair) for pair in source.imports()]
        named += [(definitions, *pair) for pair in source.definitions()]
        for into, name, text in named:
            other, where = bound.setdefault(name, (text, source.header.path))
            if other != text and where != source.header.path:
                raise ScriptError(
                    f"{where} and {source.header.path} define {name!r} differently",
                    next_step="rename it in one of them, then run the same command again",
                )
            into[text] = None
    return _grouped(imports), list(definitions)


def _grouped(imports: Iterable[str]) -> list[str]:
    """The same imports, those from one module in one line; what Python wants first, first."""
    modules: dict[str, list[str]] = {}
    for line in sorted(imports):
        module, _, name = line.partition(" import ")
        modules.setdefault(f"{module} import *" if name == "*" else module, []).append(name)
    found = []
    for module, names in modules.items():
        line = module if names in ([""], ["*"]) else f"{module} import {', '.join(names)}"
        found.append(line if len(line) <= WIDTH else _wrapped(line, names))
    return sorted(found, key=lambda line: ("__future__" not in line, line.startswith("from"), line))


def _wrapped(line: str, names: Sequence[str]) -> str:
    inner = "".join(f"    {name},\n" for name in names)
    return f"{line.partition(' import ')[0]} import (\n{inner})"


def _needed(operations: Iterable[str]) -> list[str]:
    """The imports that these operations need, a name a line."""
    tree = ast.parse("\n".join(imports_for(operations)))
    return [ast.unparse(only) for statement in tree.body for only in _single(statement)]
