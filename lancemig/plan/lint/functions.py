"""The row functions of a migration file, and what the names in them mean; read from the syntax tree."""

import ast
from collections.abc import Iterator

from lancemig.catalog.operations import AddColumn, BackfillColumns, TransformTable
from lancemig.plan.lint.subject import Subject
from lancemig.script.syntax import variables

Function = ast.FunctionDef


def row_functions(subject: Subject) -> list[Function]:
    """The functions of the file that operations compute rows with, and those of the file that they use."""
    defined = {node.name: node for node in subject.tree.body if isinstance(node, Function)}
    waiting = [
        change.operation.using.__name__
        for change in subject.changes
        if isinstance(change.operation, AddColumn | BackfillColumns | TransformTable)
        and change.operation.using
    ]
    found: dict[str, Function] = {}
    while waiting:
        name = waiting.pop()
        if name in defined and name not in found:
            found[name] = defined[name]
            waiting += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return sorted(found.values(), key=lambda function: function.lineno)


class Names:
    """What the names in a function, or at the top of the file, stand for."""

    def __init__(self, tree: ast.Module, function: Function | None = None) -> None:
        self.imported = dict(_imports(tree.body))
        self.defined = {node.name for node in tree.body if isinstance(node, Function)} | variables(
            tree
        ).keys()
        self.local: set[str] = set()
        if function is not None:
            self.imported |= dict(_imports(ast.walk(function)))
            self.local = _locals(function)

    def meant(self, node: ast.expr) -> str | None:
        """`datetime.datetime.now` for `dt.now`; None for what does not begin with an import or a builtin."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        if node.id in self.imported:
            return ".".join([self.imported[node.id], *reversed(parts)])
        is_builtin = not parts and node.id not in self.local | self.defined
        return node.id if is_builtin else None

    def outer(self, node: ast.expr) -> str | None:
        """The name at the root of `node` (`SEEN` of `SEEN["a"].b`) where it is the file's own."""
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.local or node.id in self.imported:
            return None
        return node.id


def _imports(nodes: "Iterator[ast.AST] | list[ast.stmt]") -> Iterator[tuple[str, str]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or whole, whole
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module or ''}.{alias.name}"


def _locals(function: Function) -> set[str]:
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = {parameter.arg for parameter in parameters if parameter is not None}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ExceptHandler) and node is not function and node.name:
            names.add(node.name)
    shared = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
    return names - shared
