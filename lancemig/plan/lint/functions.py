"""What row functions consist of: functions, classes and variables, in any of the project's files."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

from lancemig.catalog.operations import AddColumn, BackfillColumns, TransformTable
from lancemig.plan.lint.scopes import Binding, Function, Scope, walked
from lancemig.plan.lint.subject import Change, Subject
from lancemig.script.modules import Module


class Part(NamedTuple):
    """What row functions use: a function, a class, or the value of a variable; with the module around it.

    `top` is the scope of the module. `used_by` are the operations that compute rows with it.
    """

    name: str
    node: ast.AST
    module: Module
    top: Scope
    is_own: bool
    used_by: tuple[Change, ...]

    @property
    def who(self) -> str:
        """How a message begins that tells what it does."""
        return f"{self.name}()" if isinstance(self.node, Function) else self.name


def parts(subject: Subject) -> list[Part]:
    """All that the functions of the operations use, each once; the file itself first, by line."""
    return sorted(_Search(subject).found(), key=_order)


def _order(part: Part) -> tuple[bool, Path, int]:
    return not part.is_own, part.module.path, getattr(part.node, "lineno", 0)


class _Search:
    """Follows names from the row functions, over the imports of the project's own modules."""

    def __init__(self, subject: Subject) -> None:
        self.changes = subject.both_ways
        self.modules = subject.modules
        self.own = Module(subject.migration.header.path, subject.source, subject.tree)
        self.tops: dict[Path, Scope] = {}
        self.seen: dict[tuple[Path, str], Part] = {}

    def found(self) -> list[Part]:
        for change in self.changes:
            operation = change.operation
            if isinstance(operation, AddColumn | BackfillColumns | TransformTable) and operation.using:
                self._from_function(operation.using, change)
        return list(self.seen.values())

    def _from_function(self, function: FunctionType, change: Change) -> None:
        # A decorator that wraps has left what it wraps.
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        path = Path(function.__code__.co_filename)
        is_own = path == self.own.path.absolute()
        module = self.own if is_own else self.modules.at(path)
        if module is not None:
            self._follow([(module, function.__name__)], change)

    def _follow(self, waiting: list[tuple[Module, str]], change: Change) -> None:
        done: set[tuple[Path, str]] = set()
        while waiting:
            module, name = waiting.pop()
            if (module.path, name) in done:
                continue
            done.add((module.path, name))
            binding = self._top(module).bound.get(name)
            if binding is None:
                continue
            if binding.imported is not None:
                waiting += self._imported(binding.imported, module)
                continue
            part = self._part(module, name, binding, change)
            waiting += self._names(part) if part is not None else []

    def _part(self, module: Module, name: str, binding: Binding, change: Change) -> Part | None:
        node = binding.definition or binding.value
        if node is None:
            return None
        known = self.seen.get((module.path, name))
        used = (*known.used_by, change) if known else (change,)
        part = Part(name, node, module, self._top(module), module is self.own, used)
        self.seen[module.path, name] = part
        return part

    def _top(self, module: Module) -> Scope:
        if module.path not in self.tops:
            self.tops[module.path] = Scope(module.tree)
        return self.tops[module.path]

    def _names(self, part: Part) -> Iterator[tuple[Module, str]]:
        """What a part uses of its own module, and of other modules of the project."""
        for node, scope in walked(part.node, part.top):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found = scope.find(node.id)
                if found is not None and found[0].is_top:
                    yield part.module, node.id
            if isinstance(node, ast.Attribute | ast.Name):
                meant = scope.meant(node)
                yield from self._imported(meant, part.module) if meant and "." in meant else ()

    def _imported(self, meant: str, by: Module) -> Iterator[tuple[Module, str]]:
        """`mypackage.rows.clean`: the module `mypackage.rows`, and its `clean`."""
        dots = len(meant) - len(meant.lstrip("."))
        names = meant[dots:].split(".")
        for length in range(len(names) - 1, -1 if dots else 0, -1):
            module = self.modules.imported("." * dots + ".".join(names[:length]), by.path)
            if module is not None:
                yield module, names[length]
                return
