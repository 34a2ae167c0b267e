"""What the names in a Python file stand for, by scope, as far as its syntax tells."""

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_DEFINITIONS = Function | ast.ClassDef
_SCOPES = _DEFINITIONS | ast.Lambda | _COMPREHENSIONS
_IMPORTING = ("importlib.import_module", "__import__")
_MAX_DEPTH = 8
"""How many assignments are followed from a name to what it stands for."""


class Binding(NamedTuple):
    """What a name is bound to: what is imported (`pyarrow.compute`, `.rows.clean`), a value, a definition."""

    imported: str | None = None
    value: ast.expr | None = None
    definition: ast.stmt | None = None


class Scope:
    """The names that a module, a function, a class, a lambda or a comprehension binds."""

    def __init__(self, node: ast.AST, outer: "Scope | None" = None) -> None:
        self.node = node
        self.outer = outer
        self.bound: dict[str, Binding] = {}
        shared: set[str] = set()
        values: dict[ast.AST, ast.expr] = {}
        for each in _scope_nodes(_inner_nodes(node)):
            if isinstance(each, ast.Global | ast.Nonlocal):
                shared.update(each.names)
            values.update(_assigned_values(each))
            for name, binding in _bindings(each, values.get(each)):
                # Of several bindings it is not known which holds; of an import, it likely does.
                earlier = self.bound.get(name)
                self.bound[name] = binding if earlier is None else _merged(earlier, binding)
        for name in _parameters(node):
            self.bound[name] = Binding()
        for name in shared & self.bound.keys():
            del self.bound[name]

    @property
    def is_module(self) -> bool:
        """Whether this is the module's own."""
        return self.outer is None

    def lookup(self, name: str) -> "tuple[Scope, Binding] | None":
        """The scope that binds `name` as seen from here, and to what; None where none does."""
        at: Scope | None = self
        while at is not None:
            # The names of a class are no names in its functions.
            hidden = isinstance(at.node, ast.ClassDef) and at is not self
            if name in at.bound and not hidden:
                return at, at.bound[name]
            at = at.outer
        return None

    def qualified_name(self, node: ast.expr, deep: int = _MAX_DEPTH) -> str | None:
        """`datetime.datetime.now` for `dt.now`; None for what does not begin with an import or a builtin."""
        if isinstance(node, ast.Attribute):
            whole = self.qualified_name(node.value, deep)
            return f"{whole}.{node.attr}" if whole else None
        if isinstance(node, ast.Call) and self.qualified_name(node.func, deep) in _IMPORTING:
            name = node.args[0] if node.args else None
            return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None
        if not isinstance(node, ast.Name) or not deep:
            return None
        found = self.lookup(node.id)
        if found is None:
            return node.id
        scope, binding = found
        if binding.imported is not None:
            return binding.imported
        return None if binding.value is None else scope.qualified_name(binding.value, deep - 1)

    def constructor(self, node: ast.expr, deep: int = _MAX_DEPTH) -> str | None:
        """What was called to make the value of `node`: `pathlib.Path` after `RAW = Path("raw")`."""
        if isinstance(node, ast.Call):
            return self.qualified_name(node.func)
        if isinstance(node, ast.BinOp):
            return self.constructor(node.left, deep)
        if not isinstance(node, ast.Name) or not deep:
            return None
        found = self.lookup(node.id)
        if found is None or found[1].value is None:
            return None
        return found[0].constructor(found[1].value, deep - 1)

    def module_variable(self, node: ast.expr) -> str | None:
        """The name at the root of `node` (`SEEN` of `SEEN["a"].b`) where the top of the file binds it."""
        node = root(node)
        found = self.lookup(node.id) if isinstance(node, ast.Name) else None
        is_of_file = found is not None and found[0].is_module and not found[1].imported
        return node.id if isinstance(node, ast.Name) and is_of_file else None


def root(node: ast.expr) -> ast.expr:
    """The expression that an attribute or an item is taken from: `SEEN` of `SEEN["a"].b`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def walk(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """`node` and all below it, each with the scope in which its names are looked up."""
    waiting = [(node, scope)]
    while waiting:
        node, scope = waiting.pop()
        yield node, scope
        if isinstance(node, _SCOPES):
            inner = Scope(node, scope)
            below = [(child, scope) for child in _outer_nodes(node)] + [
                (child, inner) for child in _inner_nodes(node)
            ]
        else:
            below = [(child, scope) for child in ast.iter_child_nodes(node)]
        waiting += reversed(below)


def _merged(earlier: Binding, later: Binding) -> Binding:
    return next((each for each in (earlier, later) if each.imported or each.definition), Binding())


def _inner_nodes(node: ast.AST) -> list[ast.AST]:
    """What is evaluated in the scope that `node` makes."""
    if isinstance(node, _COMPREHENSIONS):
        made: list[ast.AST] = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        first, *others = node.generators
        return [*made, first.target, *first.ifs, *others]
    if isinstance(node, ast.Lambda):
        return [node.body]
    return [*node.body] if isinstance(node, ast.Module | _DEFINITIONS) else []


def _outer_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated around the scope that `node` makes: decorators, defaults, the first iterable."""
    if isinstance(node, _COMPREHENSIONS):
        yield node.generators[0].iter
        return
    inside = _inner_nodes(node)
    yield from (child for child in ast.iter_child_nodes(node) if child not in inside)


def _scope_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """`nodes` and what is below them, without what belongs to scopes of their own."""
    waiting = [*nodes][::-1]
    while waiting:
        node = waiting.pop()
        yield node
        below = _outer_nodes(node) if isinstance(node, _SCOPES) else ast.iter_child_nodes(node)
        waiting += reversed([*below])
        if isinstance(node, _COMPREHENSIONS):
            # `:=` binds around the comprehension.
            yield from (each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr))


def _assigned_values(node: ast.AST) -> dict[ast.AST, ast.expr]:
    """The targets of an assignment that are names, each with what it is given."""
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
            # Inside a package, the dots before the name say from where it is counted.
            start = "." * node.level + (f"{node.module}." if node.module else "")
            yield alias.asname or alias.name, Binding(imported=f"{start}{alias.name}")


def _parameters(node: ast.AST) -> list[str]:
    if not isinstance(node, Function | ast.Lambda):
        return []
    given = node.args
    all_of_them = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [parameter.arg for parameter in all_of_them if parameter is not None]
