"""Rules over row functions: they must be deterministic and free of side effects.

A run calls a function again for the same row: after a conflict, after a crash in another process, in batches
of another size, and once more to verify the result before a flip. Anything that the function gets from
elsewhere may be different then. `function_parts` finds what the functions use, also in other files of the
project; the rules `not_deterministic`, `external_access` and `shared_state` judge each part with `calls`.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

from lancemig.catalog.findings import Code
from lancemig.lint import calls
from lancemig.lint.scopes import Binding, Function, Scope, walk
from lancemig.lint.subject import OperationChange, Span, Subject, Violation
from lancemig.revisions.loader import SourceModule


class FunctionPart(NamedTuple):
    """Code that row functions use: a function, a class, or the value of a variable."""

    name: str
    node: ast.AST
    module: SourceModule
    module_scope: Scope
    is_own: bool
    """Whether it is in the migration file itself."""
    used_by: tuple[OperationChange, ...]
    """The operations that compute rows with it."""

    @property
    def label(self) -> str:
        """The subject of a message about it: `clean()`, `LIMITS`."""
        return f"{self.name}()" if isinstance(self.node, Function) else self.name


def function_parts(subject: Subject, field: str = "using") -> list[FunctionPart]:
    """All code that the operations' functions use, each part once; the migration's own first, by line.

    Args:
        subject: The migration.
        field: The field that has the function: `using` for row functions, `rows` for sources.
    """
    return sorted(_DependencySearch(subject).run(field), key=_sort_key)


def _sort_key(part: FunctionPart) -> tuple[bool, Path, int]:
    return not part.is_own, part.module.path, getattr(part.node, "lineno", 0)


class _DependencySearch:
    """Follows names from the row functions through the modules of the project."""

    def __init__(self, subject: Subject) -> None:
        self.changes = subject.all_changes
        self.modules = subject.modules
        self.own = SourceModule(subject.migration.header.path, subject.source, subject.tree)
        self.module_scopes: dict[Path, Scope] = {}
        self.seen: dict[tuple[Path, str], FunctionPart] = {}

    def run(self, field: str) -> list[FunctionPart]:
        for change in self.changes:
            function = getattr(change.operation, field, None)
            if isinstance(function, FunctionType):
                self._from_function(function, change)
        return list(self.seen.values())

    def _from_function(self, function: FunctionType, change: OperationChange) -> None:
        # functools.wraps keeps the decorated function there.
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        path = Path(function.__code__.co_filename)
        is_own = path == self.own.path.absolute()
        module = self.own if is_own else self.modules.at(path)
        if module is not None:
            self._follow([(module, function.__name__)], change)

    def _follow(self, pending: list[tuple[SourceModule, str]], change: OperationChange) -> None:
        done: set[tuple[Path, str]] = set()
        while pending:
            module, name = pending.pop()
            if (module.path, name) in done:
                continue
            done.add((module.path, name))
            binding = self._module_scope(module).bindings.get(name)
            if binding is None:
                continue
            if binding.imported is not None:
                pending += self._imported(binding.imported, module)
                continue
            part = self._add_part(module, name, binding, change)
            pending += self._references(part) if part is not None else []

    def _add_part(
        self, module: SourceModule, name: str, binding: Binding, change: OperationChange
    ) -> FunctionPart | None:
        node = binding.definition or binding.value
        if node is None:
            return None
        earlier = self.seen.get((module.path, name))
        used_by = (*earlier.used_by, change) if earlier else (change,)
        part = FunctionPart(name, node, module, self._module_scope(module), module is self.own, used_by)
        self.seen[module.path, name] = part
        return part

    def _module_scope(self, module: SourceModule) -> Scope:
        if module.path not in self.module_scopes:
            self.module_scopes[module.path] = Scope(module.tree)
        return self.module_scopes[module.path]

    def _references(self, part: FunctionPart) -> Iterator[tuple[SourceModule, str]]:
        """The names that a part uses, of its own module and of other modules of the project."""
        for node, scope in walk(part.node, part.module_scope):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found = scope.lookup(node.id)
                if found is not None and found[0].is_module:
                    yield part.module, node.id
            if isinstance(node, ast.Attribute | ast.Name):
                qualified = scope.qualified_name(node)
                yield from self._imported(qualified, part.module) if qualified and "." in qualified else ()

    def _imported(self, qualified: str, by: SourceModule) -> Iterator[tuple[SourceModule, str]]:
        """The project's module in a dotted name, and the name inside it: `mypackage.rows`, `clean`."""
        dots = len(qualified) - len(qualified.lstrip("."))
        names = qualified[dots:].split(".")
        for length in range(len(names) - 1, -1 if dots else 0, -1):
            module = self.modules.imported("." * dots + ".".join(names[:length]), by.path)
            if module is not None:
                yield module, names[length]
                return


_Rule = Callable[[ast.AST, Scope], str | None]


def not_deterministic(subject: Subject) -> Iterator[Violation]:
    """Code that gives another value on every call: clocks, randomness, state of the process.

    Also reported at the top level of the file: every command runs it, and the operations depend on it.
    """
    fix = "compute it from the columns that the function reads, or write it as a constant"
    for part in function_parts(subject):
        if not (part.is_own and isinstance(part.node, ast.expr)):
            yield from _violations(part, subject, Code.NOT_DETERMINISTIC, calls.nondeterminism, fix)
    module_scope = Scope(subject.tree)
    for label, code in _import_time_code(subject.tree, module_scope):
        for node, scope in walk(code, module_scope):
            message = calls.nondeterminism(node, scope)
            if message is not None:
                yield Violation(Code.NOT_DETERMINISTIC, _span(node), f"{label} {message}", fix)


def _import_time_code(tree: ast.Module, module_scope: Scope) -> Iterator[tuple[str, ast.AST]]:
    """The code that runs when the file is loaded: its assignments, and the functions of it that they call."""
    assignments = (node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    pending: list[tuple[str, ast.AST]] = [("the file", statement) for statement in assignments]
    seen: set[ast.AST] = set()
    while pending:
        label, code = pending.pop(0)
        if code in seen:
            continue
        seen.add(code)
        yield label, code
        called = (_called_function(node, scope) for node, scope in walk(code, module_scope))
        pending += [(f"{function.name}()", function) for function in called if function is not None]


def _called_function(node: ast.AST, scope: Scope) -> Function | None:
    """The function at the top level of the file that `node` calls."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    found = scope.lookup(node.func.id)
    definition = found[1].definition if found is not None and found[0].is_module else None
    return definition if isinstance(definition, Function) else None


def external_access(subject: Subject) -> Iterator[Violation]:
    """A row function, or a variable it uses, accesses the network, files, the environment or the terminal."""
    fix = "remove it; load the data that it reads into a table first: CreateTable, UpsertRows or BuildTable"
    for part in function_parts(subject):
        yield from _violations(part, subject, Code.OUTSIDE, calls.external_access, fix)


def source_writes(subject: Subject) -> Iterator[Violation]:
    """A source of rows, or what it uses, writes outside: a dry run with `--sample` calls it as well."""
    fix = "read only; write the data in a separate program, before the migration"
    for part in function_parts(subject, "rows"):
        yield from _violations(part, subject, Code.SOURCE_WRITES, calls.external_write, fix)


def shared_state(subject: Subject) -> Iterator[Violation]:
    """A row function changes state that outlives the call."""
    fix = (
        "use local variables, because each row is computed independently; cache expensive objects "
        "with functools.lru_cache"
    )
    for part in function_parts(subject):
        if not isinstance(part.node, ast.expr):
            yield from _violations(part, subject, Code.GLOBAL_STATE, calls.shared_state_change, fix)
        if isinstance(part.node, Function) and calls.has_stateful_default(part.node, part.module_scope):
            message = "has a mutable default argument, which keeps state between calls"
            yield violation_at(part, subject, Code.GLOBAL_STATE, part.node, message, fix)


def _violations(
    part: FunctionPart, subject: Subject, code: Code, rule: _Rule, fix: str
) -> Iterator[Violation]:
    for node, scope in walk(part.node, part.module_scope):
        message = rule(node, scope)
        if message is not None:
            yield violation_at(part, subject, code, node, message, fix)


def violation_at(
    part: FunctionPart, subject: Subject, code: Code, node: ast.AST, predicate: str, fix: str
) -> Violation:
    """The finding that a part, at `node`, does what `predicate` says."""
    message = f"{part.label} {predicate}"
    if part.is_own:
        return Violation(code, _span(node), message, fix)
    first = part.used_by[0]
    location = f"{subject.migration.header.path}:{first.span.first}"
    use = f"used by {location} ({first.operation.table}: {first.operation.describe()})"
    spans = tuple(change.span for change in part.used_by)
    return Violation(code, _span(node), f"{message}; {use}", fix, part.module, spans)


def _span(node: ast.AST) -> Span:
    first = getattr(node, "lineno", 1)
    return Span(first, getattr(node, "end_lineno", None) or first)
