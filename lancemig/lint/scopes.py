"""Name resolution in a Python file by its syntax alone: the import, value or definition behind a name.

`walk` yields every node of a tree with its `Scope`; `Scope.qualified_name` gives the dotted name of a
function (`datetime.datetime.now` for `dt.now`), and `Scope.constructor` the function that made a value.
"""

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_DEFINITIONS = Function | ast.ClassDef
_SCOPES = _DEFINITIONS | ast.Lambda | _COMPREHENSIONS
_IMPORTING = ("importlib.import_module", "__import__")
_MAX_DEPTH = 8
"""The number of assignments that are followed from a name to its value."""


class Binding(NamedTuple):
    """What a name is bound to: an import (`pyarrow.compute`, `.rows.clean`), a value, or a definition.

    All three are None where that is unknown, as for a parameter.
    """

    imported: str | None = None
    value: ast.expr | None = None
    definition: ast.stmt | None = None


class Scope:
    """The names that a module, a function, a class, a lambda or a comprehension binds.

    Args:
        node: The syntax node that makes the scope.
        outer: The scope around it; None for a module.
    """

    def __init__(self, node: ast.AST, outer: "Scope | None" = None) -> None:
        self.node = node
        self.outer = outer
        self.bindings: dict[str, Binding] = {}
        shared: set[str] = set()
        values: dict[ast.AST, ast.expr] = {}
        for inner in _scope_nodes(_inner_nodes(node)):
            if isinstance(inner, ast.Global | ast.Nonlocal):
                shared.update(inner.names)
            values.update(_assigned_values(inner))
            for name, binding in _bindings(inner, values.get(inner)):
                # It is not known which of several bindings is in force; an import likely is.
                earlier = self.bindings.get(name)
                self.bindings[name] = binding if earlier is None else _merged(earlier, binding)
        for name in _parameters(node):
            self.bindings[name] = Binding()
        for name in shared & self.bindings.keys():
            del self.bindings[name]

    @property
    def is_module(self) -> bool:
        """Whether this is the scope of a module."""
        return self.outer is None

    def lookup(self, name: str) -> "tuple[Scope, Binding] | None":
        """The innermost scope that binds `name`, and the binding; None for builtins and unknown names."""
        scope: Scope | None = self
        while scope is not None:
            # The functions of a class do not see the names in its body.
            hidden = isinstance(scope.node, ast.ClassDef) and scope is not self
            if name in scope.bindings and not hidden:
                return scope, scope.bindings[name]
            scope = scope.outer
        return None

    def qualified_name(self, node: ast.expr, depth: int = _MAX_DEPTH) -> str | None:
        """The dotted name that `node` refers to: `datetime.datetime.now` for `dt.now`.

        Args:
            node: A name, an attribute, or a call of `importlib.import_module`.
            depth: The number of assignments to follow.

        Returns:
            None for what does not begin with an import or a builtin.
        """
        if isinstance(node, ast.Attribute):
            whole = self.qualified_name(node.value, depth)
            return f"{whole}.{node.attr}" if whole else None
        if isinstance(node, ast.Call) and self.qualified_name(node.func, depth) in _IMPORTING:
            name = node.args[0] if node.args else None
            return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None
        if not isinstance(node, ast.Name) or not depth:
            return None
        found = self.lookup(node.id)
        if found is None:
            return node.id
        scope, binding = found
        if binding.imported is not None:
            return binding.imported
        return None if binding.value is None else scope.qualified_name(binding.value, depth - 1)

    def constructor(self, node: ast.expr, depth: int = _MAX_DEPTH) -> str | None:
        """The dotted name of the call that made a value: `pathlib.Path` for `Path("raw") / "a"`."""
        if isinstance(node, ast.Call):
            return self.qualified_name(node.func)
        if isinstance(node, ast.BinOp):
            return self.constructor(node.left, depth)
        if not isinstance(node, ast.Name) or not depth:
            return None
        found = self.lookup(node.id)
        if found is None or found[1].value is None:
            return None
        return found[0].constructor(found[1].value, depth - 1)

    def module_variable(self, node: ast.expr) -> str | None:
        """The module variable at the root of `node`: `SEEN` of `SEEN["a"].b`; None for imports and locals."""
        node = root(node)
        found = self.lookup(node.id) if isinstance(node, ast.Name) else None
        is_variable = found is not None and found[0].is_module and not found[1].imported
        return node.id if isinstance(node, ast.Name) and is_variable else None


def root(node: ast.expr) -> ast.expr:
    """The expression that an attribute or an item is taken from: `SEEN` of `SEEN["a"].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def walk(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """`node` and all its descendants, each with the scope in which its names are looked up."""
    pending = [(node, scope)]
    while pending:
        node, scope = pending.pop()
        yield node, scope
        if isinstance(node, _SCOPES):
            inner = Scope(node, scope)
            children = [(child, scope) for child in _outer_nodes(node)]
            children += [(child, inner) for child in _inner_nodes(node)]
        else:
            children = [(child, scope) for child in ast.iter_child_nodes(node)]
        pending += reversed(children)


def _merged(earlier: Binding, later: Binding) -> Binding:
    """One binding for two of the same name: an import or a definition, else an unknown value."""
    return next((known for known in (earlier, later) if known.imported or known.definition), Binding())


def _inner_nodes(node: ast.AST) -> list[ast.AST]:
    """The child nodes that are evaluated in the scope that `node` makes."""
    if isinstance(node, _COMPREHENSIONS):
        items: list[ast.AST] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        first, *others = node.generators
        return [*items, first.target, *first.ifs, *others]
    if isinstance(node, ast.Lambda):
        return [node.body]
    return [*node.body] if isinstance(node, ast.Module | _DEFINITIONS) else []


def _outer_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The child nodes evaluated in the scope around `node`: decorators, defaults, the first iterable."""
    if isinstance(node, _COMPREHENSIONS):
        yield node.generators[0].iter
        return
    inside = _inner_nodes(node)
    yield from (child for child in ast.iter_child_nodes(node) if child not in inside)


def _scope_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """`nodes` and their descendants, without those that belong to an inner scope."""
    pending = [*nodes][::-1]
    while pending:
        node = pending.pop()
        yield node
        children = _outer_nodes(node) if isinstance(node, _SCOPES) else ast.iter_child_nodes(node)
        pending += reversed([*children])
        if isinstance(node, _COMPREHENSIONS):
            # `:=` binds in the scope around the comprehension.
            yield from (inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))


def _assigned_values(node: ast.AST) -> dict[ast.AST, ast.expr]:
    """The targets of an assignment that are names, each with the assigned expression."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) or node.value is None:
        return {}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target: node.value for target in targets if isinstance(target, ast.Name)}


def _bindings(node: ast.AST, value: ast.expr | None) -> Iterator[tuple[str, Binding]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _imports(node)
    elif isinstance(node, _DEFINITIONS):
        yield node.name, Binding(definition=node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id, Binding(value=value)
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name, Binding()


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Binding]]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            whole = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or whole, Binding(imported=whole)
        else:
            # The dots before the name are those of a relative import.
            start = "." * node.level + (f"{node.module}." if node.module else "")
            yield alias.asname or alias.name, Binding(imported=f"{start}{alias.name}")


def _parameters(node: ast.AST) -> list[str]:
    if not isinstance(node, Function | ast.Lambda):
        return []
    parameters = node.args
    declared = [*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs]
    declared += [starred for starred in (parameters.vararg, parameters.kwarg) if starred is not None]
    return [parameter.arg for parameter in declared]
