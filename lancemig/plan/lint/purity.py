"""Rules over row functions: the same rows give the same answer, and nothing else happens.

A run asks about a row again after a conflict or a death, in another process, in other batches, and the proof
before a flip asks once more. What a function gets from elsewhere may be different then. What it uses of the
project's other files is looked at as well.
"""

import ast
from collections.abc import Callable, Iterator

from lancemig.plan.lint import chance, codes, state
from lancemig.plan.lint import outside as reaching
from lancemig.plan.lint.functions import Part, parts
from lancemig.plan.lint.scopes import Function, Scope, walked
from lancemig.plan.lint.subject import Found, Span, Subject

_Rule = Callable[[ast.AST, Scope], str | None]


def changing(subject: Subject) -> Iterator[Found]:
    """What gives something else each time: by the clock, by chance, by the process.

    Also at the top of the file, which is run by every command: operations and functions depend on it.
    """
    fix = "compute it from the columns that the function reads, or write it as a constant"
    for part in parts(subject):
        if not (part.is_own and isinstance(part.node, ast.expr)):
            yield from _told(part, subject, codes.NOT_DETERMINISTIC, chance.changing, fix)
    top = Scope(subject.tree)
    for who, run in _run_at_once(subject.tree):
        for node, scope in walked(run, top):
            said = chance.changing(node, scope)
            if said is not None:
                yield Found(codes.NOT_DETERMINISTIC, _span(node), f"{who} {said}", fix)


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


def outside(subject: Subject) -> Iterator[Found]:
    """A row function, or a variable it uses, that reaches the network, files, the environment, a terminal."""
    fix = "remove it; load the data that it reads into a table first: CreateTable, UpsertRows or BuildTable"
    for part in parts(subject):
        yield from _told(part, subject, codes.OUTSIDE, reaching.outside, fix)


def shared_state(subject: Subject) -> Iterator[Found]:
    """A row function that changes what outlives its call."""
    fix = (
        "use local variables, because each row is computed independently; cache expensive objects "
        "with functools.lru_cache"
    )
    for part in parts(subject):
        if not isinstance(part.node, ast.expr):
            yield from _told(part, subject, codes.GLOBAL_STATE, state.shared, fix)
        if isinstance(part.node, Function) and state.keeps(part.node, part.top):
            said = "has a mutable default argument, which keeps state between calls"
            yield _found(part, subject, codes.GLOBAL_STATE, part.node, said, fix)


def _told(part: Part, subject: Subject, code: str, rule: _Rule, fix: str) -> Iterator[Found]:
    for node, scope in walked(part.node, part.top):
        said = rule(node, scope)
        if said is not None:
            yield _found(part, subject, code, node, said, fix)


def _found(part: Part, subject: Subject, code: str, node: ast.AST, said: str, fix: str) -> Found:
    message = f"{part.who} {said}"
    if part.is_own:
        return Found(code, _span(node), message, fix)
    first = part.used_by[0]
    place = f"{subject.migration.header.path}:{first.span.first}"
    uses = f"used by {place} ({first.operation.table}: {first.operation.describe()})"
    used = tuple(change.span for change in part.used_by)
    return Found(code, _span(node), f"{message}; {uses}", fix, part.module, used)


def _span(node: ast.AST) -> Span:
    first = getattr(node, "lineno", 1)
    return Span(first, getattr(node, "end_lineno", None) or first)
