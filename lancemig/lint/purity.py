"""Rules over row functions: the same rows give the same answer, and nothing else happens.

A run asks about a row again after a conflict or a death, in another process, in other batches, and the proof
before a flip asks once more. What a function gets from elsewhere may be different then. What it uses of the
project's other files is looked at as well.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

from lancemig.lint import calls, codes
from lancemig.lint import calls as reaching
from lancemig.lint.scopes import Binding, Function, Scope, walked
from lancemig.lint.subject import OperationChange, Span, Subject, Violation
from lancemig.revisions.loader import Module


class FunctionPart(NamedTuple):
    """What row functions use: a function, a class, or the value of a variable; with the module around it.

    `top` is the scope of the module. `used_by` are the operations that compute rows with it.
    """

    name: str
    node: ast.AST
    module: Module
    top: Scope
    is_own: bool
    used_by: tuple[OperationChange, ...]

    @property
    def who(self) -> str:
        """How a message begins that tells what it does."""
        return f"{self.name}()" if isinstance(self.node, Function) else self.name


def parts(subject: Subject) -> list[FunctionPart]:
    """All that the functions of the operations use, each once; the file itself first, by line."""
    return sorted(_Search(subject).found(), key=_order)


def _order(part: FunctionPart) -> tuple[bool, Path, int]:
    return not part.is_own, part.module.path, getattr(part.node, "lineno", 0)


class _Search:
    """Follows names from the row functions, over the imports of the project's own modules."""

    def __init__(self, subject: Subject) -> None:
        self.changes = subject.both_ways
        self.modules = subject.modules
        self.own = Module(subject.migration.header.path, subject.source, subject.tree)
        self.tops: dict[Path, Scope] = {}
        self.seen: dict[tuple[Path, str], FunctionPart] = {}

    def found(self) -> list[FunctionPart]:
        for change in self.changes:
            function = getattr(change.operation, "using", None)
            if isinstance(function, FunctionType):
                self._from_function(function, change)
        return list(self.seen.values())

    def _from_function(self, function: FunctionType, change: OperationChange) -> None:
        # A decorator that wraps has left what it wraps.
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        path = Path(function.__code__.co_filename)
        is_own = path == self.own.path.absolute()
        module = self.own if is_own else self.modules.at(path)
        if module is not None:
            self._follow([(module, function.__name__)], change)

    def _follow(self, waiting: list[tuple[Module, str]], change: OperationChange) -> None:
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

    def _part(
        self, module: Module, name: str, binding: Binding, change: OperationChange
    ) -> FunctionPart | None:
        node = binding.definition or binding.value
        if node is None:
            return None
        known = self.seen.get((module.path, name))
        used = (*known.used_by, change) if known else (change,)
        part = FunctionPart(name, node, module, self._top(module), module is self.own, used)
        self.seen[module.path, name] = part
        return part

    def _top(self, module: Module) -> Scope:
        if module.path not in self.tops:
            self.tops[module.path] = Scope(module.tree)
        return self.tops[module.path]

    def _names(self, part: FunctionPart) -> Iterator[tuple[Module, str]]:
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


_Rule = Callable[[ast.AST, Scope], str | None]


def changing(subject: Subject) -> Iterator[Violation]:
    """What gives something else each time: by the clock, by chance, by the process.

    Also at the top of the file, which is run by every command: operations and functions depend on it.
    """
    fix = "compute it from the columns that the function reads, or write it as a constant"
    for part in parts(subject):
        if not (part.is_own and isinstance(part.node, ast.expr)):
            yield from _told(part, subject, codes.NOT_DETERMINISTIC, calls.changing, fix)
    top = Scope(subject.tree)
    for who, run in _run_at_once(subject.tree):
        for node, scope in walked(run, top):
            said = calls.changing(node, scope)
            if said is not None:
                yield Violation(codes.NOT_DETERMINISTIC, _span(node), f"{who} {said}", fix)


def _run_at_once(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """What runs whenever the file is loaded: its assignments, and the functions of it that they call."""
    top = Scope(tree)
    assigned = (each for each in tree.body if isinstance(each, ast.Assign | ast.AnnAssign))
    waiting: list[tuple[str, ast.AST]] = [("the file", statement) for statement in assigned]
    seen: set[ast.AST] = set()
    while waiting:
        who, run = waiting.pop(0)
        if run in seen:
            continue
        seen.add(run)
        yield who, run
        called = (_called(node, scope) for node, scope in walked(run, top))
        waiting += [(f"{function.name}()", function) for function in called if function is not None]


def _called(node: ast.AST, scope: Scope) -> Function | None:
    """The function at the top of the file that `node` calls."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    found = scope.find(node.func.id)
    definition = found[1].definition if found is not None and found[0].is_top else None
    return definition if isinstance(definition, Function) else None


def outside(subject: Subject) -> Iterator[Violation]:
    """A row function, or a variable it uses, that reaches the network, files, the environment, a terminal."""
    fix = "remove it; load the data that it reads into a table first: CreateTable, UpsertRows or BuildTable"
    for part in parts(subject):
        yield from _told(part, subject, codes.OUTSIDE, reaching.outside, fix)


def shared_state(subject: Subject) -> Iterator[Violation]:
    """A row function that changes what outlives its call."""
    fix = (
        "use local variables, because each row is computed independently; cache expensive objects "
        "with functools.lru_cache"
    )
    for part in parts(subject):
        if not isinstance(part.node, ast.expr):
            yield from _told(part, subject, codes.GLOBAL_STATE, calls.shared, fix)
        if isinstance(part.node, Function) and calls.keeps(part.node, part.top):
            said = "has a mutable default argument, which keeps state between calls"
            yield _found(part, subject, codes.GLOBAL_STATE, part.node, said, fix)


def _told(part: FunctionPart, subject: Subject, code: str, rule: _Rule, fix: str) -> Iterator[Violation]:
    for node, scope in walked(part.node, part.top):
        said = rule(node, scope)
        if said is not None:
            yield _found(part, subject, code, node, said, fix)


def _found(part: FunctionPart, subject: Subject, code: str, node: ast.AST, said: str, fix: str) -> Violation:
    message = f"{part.who} {said}"
    if part.is_own:
        return Violation(code, _span(node), message, fix)
    first = part.used_by[0]
    place = f"{subject.migration.header.path}:{first.span.first}"
    uses = f"used by {place} ({first.operation.table}: {first.operation.describe()})"
    used = tuple(change.span for change in part.used_by)
    return Violation(code, _span(node), f"{message}; {uses}", fix, part.module, used)


def _span(node: ast.AST) -> Span:
    first = getattr(node, "lineno", 1)
    return Span(first, getattr(node, "end_lineno", None) or first)
