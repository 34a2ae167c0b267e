"""The rule that row functions compare no rows: a function sees only one batch of the table at a time.

What drops repeated rows in a batch leaves those of other batches. Verification does not find it: it calls the
same function again for single rows.
"""

import ast
from collections.abc import Iterator

from lancemig.catalog.findings import Code
from lancemig.lint.purity import FunctionPart, function_parts, violation_at
from lancemig.lint.scopes import Function, Scope, walk
from lancemig.lint.subject import Subject, Violation

_METHODS = {"drop_duplicates", "duplicated", "is_duplicated", "group_by", "groupby", "value_counts"}
_METHODS_BY_WORD = {"unique": {"subset", "keep", "maintain_order"}}
"""Methods that compare rows if they are called with one of these keywords: `unique` of polars."""

_FUNCTIONS = {"itertools.groupby"}
_FUNCTIONS_BY_WORD = {"numpy.unique": {"return_index"}}
_SETS = {"set", "frozenset", "dict.fromkeys"}
_QUERIES = {"sql", "query", "execute"}
_SQL = (" distinct ", " group by ", " over (", " qualify ")
_LISTS = {"to_pylist", "tolist", "to_list", "to_numpy"}

_FIX = (
    "delete repeated rows of a table with DeduplicateRows; where a row depends on other rows, derive the "
    "table from a source, which sees all of them: BuildTable"
)


def across_rows(subject: Subject) -> Iterator[Violation]:
    """A row function compares rows with each other, of which it sees only one batch."""
    for part in function_parts(subject):
        if isinstance(part.node, ast.expr):
            continue
        for node, scope in walk(part.node, part.module_scope):
            how = _comparison(node, scope)
            if how is not None:
                yield _violation(part, subject, node, how)
        if isinstance(part.node, Function) and _is_row_function(part):
            for node, how in [*_seen(part.node), *_sets_of_rows(part.node, part.module_scope)]:
                yield _violation(part, subject, node, how)


def _violation(part: FunctionPart, subject: Subject, node: ast.AST, how: str) -> Violation:
    text = f"compares the rows of one batch ({how}); rows of other batches are not compared with them"
    return violation_at(part, subject, Code.ACROSS_ROWS, node, text, _FIX)


def _is_row_function(part: FunctionPart) -> bool:
    """Whether an operation calls it with a batch: in a helper, a set may be of the items of one row."""
    functions = (getattr(change.operation, "using", None) for change in part.used_by)
    return any(getattr(function, "__name__", None) == part.name for function in functions)


def _comparison(node: ast.AST, scope: Scope) -> str | None:
    """How a call compares rows; None if it does not, as far as its syntax tells."""
    if not isinstance(node, ast.Call):
        return None
    words = {keyword.arg for keyword in node.keywords}
    function = scope.qualified_name(node.func)
    if function in _FUNCTIONS or words & _FUNCTIONS_BY_WORD.get(function or "", set()):
        return f"{function}()"
    if not isinstance(node.func, ast.Attribute):
        return None
    method = node.func.attr
    if method in _METHODS or words & _METHODS_BY_WORD.get(method, set()):
        return f"{method}()"
    return "SQL over the batch" if method in _QUERIES and _compares_in_sql(node) else None


def _compares_in_sql(node: ast.Call) -> bool:
    texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    found = [f" {' '.join(text.lower().split())} " for text in texts if isinstance(text, str)]
    return any(word in text.replace("over(", "over (") for text in found for word in _SQL)


def _seen(function: Function) -> Iterator[tuple[ast.AST, str]]:
    """Collections of rows that were seen before: `if key in seen`, or a dict by key with the rows kept."""
    for name, made in _made_outside_loops(function.body):
        inside = [node for statement in function.body for node in ast.walk(statement)]
        methods = {
            node.func.attr
            for node in inside
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _is(node.func.value, name)
        }
        tested = any(
            isinstance(node, ast.Compare)
            and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops)
            and any(_is(side, name) for side in node.comparators)
            for node in inside
        )
        stored = any(
            isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is(node.value, name)
            for node in inside
        )
        if (tested and methods & {"add", "append"}) or (
            methods & {"values", "items"} and (stored or "setdefault" in methods)
        ):
            yield made, f"`{name}` has rows that were seen before"


def _made_outside_loops(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """The empty collections that statements outside of loops make, by name."""
    for statement in body:
        if isinstance(statement, ast.If | ast.With | ast.Try):
            yield from _made_outside_loops(statement.body)
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
        if _is_empty_collection(value):
            yield from ((target.id, statement) for target in targets if isinstance(target, ast.Name))


def _is_empty_collection(value: ast.expr | None) -> bool:
    if isinstance(value, ast.List | ast.Dict):
        return not ast.dump(value).count("Constant")
    called = value.func if isinstance(value, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    return name in ("set", "list", "dict", "defaultdict", "OrderedDict")


def _sets_of_rows(function: Function, module_scope: Scope) -> Iterator[tuple[ast.AST, str]]:
    """Sets and dicts of a column's values, or of rows, the items of which are used as rows."""
    for node, scope in walk(function, module_scope):
        for child in _used_as_rows(node):
            if isinstance(child, ast.SetComp | ast.DictComp) and _is_list_of_rows(child.generators[0].iter):
                yield child, "a set or dict of the batch's rows"
            called = scope.qualified_name(child.func) if isinstance(child, ast.Call) else None
            if isinstance(child, ast.Call) and called in _SETS and any(map(_is_list_of_rows, child.args)):
                yield child, f"{called}() of the batch's values"


def _used_as_rows(node: ast.AST) -> list[ast.expr]:
    """The expressions of which `node` uses the items: arguments of calls, what a loop goes through."""
    if isinstance(node, ast.Call):
        owner = (
            [node.func.value] if isinstance(node.func, ast.Attribute) and node.func.attr == "values" else []
        )
        return [*node.args, *owner]
    loops = node.generators if isinstance(node, ast.ListComp | ast.GeneratorExp) else []
    return [node.iter] if isinstance(node, ast.For) else [loop.iter for loop in loops]


def _is_list_of_rows(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Name) and called.id == "zip" and isinstance(node, ast.Call):
        return any(map(_is_list_of_rows, node.args))
    return isinstance(called, ast.Attribute) and called.attr in _LISTS


def _is(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
