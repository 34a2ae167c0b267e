"""What a row function leaves behind for its next call: variables of a file, defaults, generators."""

import ast
from collections.abc import Iterator

from lancemig.plan.lint.chance import GENERATORS, SEEDS
from lancemig.plan.lint.scopes import Function, Scope

_CHANGING = {
    "append", "extend", "insert", "add", "update", "setdefault", "pop", "popitem", "remove", "discard",
    "clear", "appendleft", "extendleft", "popleft", "rotate", "sort", "reverse", "move_to_end",
    "subtract", "intersection_update", "difference_update", "symmetric_difference_update",
}  # fmt: skip
_CHANGING_FIRST = {
    "next", "setattr", "delattr", "heapq.heappush", "heapq.heappop", "heapq.heapify", "heapq.heapreplace",
    "heapq.heappushpop", "bisect.insort", "bisect.insort_left", "bisect.insort_right", "random.shuffle",
    "numpy.random.shuffle", "operator.setitem", "operator.delitem",
}  # fmt: skip
_GROWING = {"list", "dict", "set", "collections.defaultdict", "collections.Counter",
            "collections.OrderedDict", "collections.deque"}  # fmt: skip
_NEW_EACH_TIME = ("pyarrow.",)
"""Whose `append`, `insert` and `remove` leave the value as it is, and return another."""


def shared(node: ast.AST, scope: Scope) -> str | None:
    """What `node` changes that outlives the call, in words; None where nothing, or nobody can tell."""
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return _assigned(node, scope) if isinstance(node.ctx, ast.Store | ast.Del) else None
    if not isinstance(node, ast.Call):
        return None
    called = scope.meant(node.func)
    if called in SEEDS:
        return f"changes the shared random generator: {called}()"
    if called in _CHANGING_FIRST and node.args:
        outer = scope.of_file(node.args[0])
        return f"changes the module variable {outer}: {called}()" if outer else None
    return _method(node.func, scope)


def keeps(function: Function, scope: Scope) -> bool:
    """Whether a default of `function` is changed by it, or is empty and therefore there to be filled."""
    return any(_is_kept(function, name, default, scope) for name, default in _defaults(function))


def _assigned(node: ast.Name | ast.Attribute | ast.Subscript, scope: Scope) -> str | None:
    if isinstance(node, ast.Name):
        found = scope.find(node.id)
        is_global = not scope.is_top and (found is None or found[0].is_top)
        return f"changes the module variable {node.id} (global)" if is_global else None
    root: ast.expr = node
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    if isinstance(root, ast.Call) and scope.meant(root.func) == "globals":
        return "changes module variables: globals()"
    outer = scope.of_file(node) or _imported(root, scope)
    return f"changes the module variable {outer}" if outer else None


def _method(function: ast.expr, scope: Scope) -> str | None:
    if not isinstance(function, ast.Attribute):
        return None
    of = function.value
    name = scope.of_file(of)
    maker = scope.maker(of)
    if name and maker in GENERATORS:
        return f"consumes the module variable {name}, whose position depends on earlier calls"
    if function.attr not in _CHANGING or (maker or "").startswith(_NEW_EACH_TIME) or _is_defined(of, scope):
        return None
    outer = name or (_imported(of, scope) if isinstance(of, ast.Name) and of.id.isupper() else None)
    return f"changes the module variable {outer}: .{function.attr}()" if outer else None


def _imported(node: ast.expr, scope: Scope) -> str | None:
    found = scope.find(node.id) if isinstance(node, ast.Name) else None
    return found[1].imported if found is not None else None


def _is_defined(node: ast.expr, scope: Scope) -> bool:
    """Whether this names a function or a class of the file: `Registry.add()` is its own affair."""
    found = scope.find(node.id) if isinstance(node, ast.Name) else None
    return found is not None and found[1].definition is not None


def _defaults(function: Function) -> Iterator[tuple[str, ast.expr]]:
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    for parameter, value in zip(reversed(positional), reversed(given.defaults), strict=False):
        yield parameter.arg, value
    for parameter, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        if default is not None:
            yield parameter.arg, default


def _is_kept(function: Function, name: str, default: ast.expr, scope: Scope) -> bool:
    if isinstance(default, ast.Call):
        made = scope.meant(default.func)
        empty = not default.args or made == "collections.defaultdict"
        mutable = made in _GROWING
    else:
        empty = ast.unparse(default) in ("[]", "{}")
        mutable = isinstance(
            default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
        )
    return mutable and (empty or any(_changes(node, name) for node in ast.walk(function)))


def _changes(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return _root(node) == name
    if isinstance(node, ast.AugAssign):
        return isinstance(node.target, ast.Name) and node.target.id == name
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _CHANGING and _root(node.func.value) == name
    return False


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
