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
    fix = "compute it from the columns it reads, or write it as a constant"
    for part in parts(subject):
        if not (part.is_own and isinstance(part.node, ast.expr)):
            yield from _told(part, subject, codes.NOT_DETERMINISTIC, chance.changing, fix)
    top = Scope(subject.tree)
    for statement in subject.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for node, scope in walked(statement, top):
                said = chance.changing(node, scope)
                if said is not None:
                    yield Found(codes.NOT_DETERMINISTIC, _span(node), f"the file {said}", fix)


def outside(subject: Subject) -> Iterator[Found]:
    """A row function, or a variable it uses, that reaches the network, files, the environment, a terminal."""
    fix = "leave it out; what it reads, bring into a table first: CreateTable, UpsertRows or BuildTable"
    for part in parts(subject):
        yield from _told(part, subject, codes.OUTSIDE, reaching.outside, fix)


def shared_state(subject: Subject) -> Iterator[Found]:
    """A row function that changes what outlives its call."""
    fix = "keep what it needs in variables of its own: each row is answered alone"
    for part in parts(subject):
        if not isinstance(part.node, ast.expr):
            yield from _told(part, subject, codes.GLOBAL_STATE, state.shared, fix)
        if isinstance(part.node, Function) and state.keeps(part.node, part.top):
            said = "has a default that keeps what one call leaves in it for the next"
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
