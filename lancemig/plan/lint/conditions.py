"""Whether an SQL condition evidently holds for every row."""

import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any

from lancemig.plan.lint.sql import Word, words

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def always_true(where: str, never_null: Collection[str] = ()) -> bool:
    """Whether a condition evidently holds for every row, where the columns `never_null` have no null."""
    found = words(where)
    return not found or _held(found, {name.lower() for name in never_null}) is True


def conjuncts(where: str) -> list[list[Word]]:
    """What must hold together for the condition to hold; nothing where it may hold in one way or another."""
    found = _bared(words(where))
    return _split(found, "and") if len(_split(found, "or")) == 1 else []


def _held(found: list[Word], never_null: Collection[str]) -> bool | None:
    """Whether the condition holds for all rows (True), for none (False), or may for some (None)."""
    found = _bared(found)
    terms = _split(found, "or")
    if len(terms) > 1:
        held = _any([_held(term, never_null) for term in terms])
        return True if held is None and _both_ways(terms) else held
    terms = _split(found, "and")
    if len(terms) > 1:
        return _all([_held(term, never_null) for term in terms])
    if found and found[0].says("not"):
        held = _held(found[1:], never_null)
        return None if held is None else not held
    return _told(found, never_null)


def _any(held: list[bool | None]) -> bool | None:
    return True if True in held else None if None in held else False


def _all(held: list[bool | None]) -> bool | None:
    return False if False in held else None if None in held else True


def _both_ways(terms: list[list[Word]]) -> bool:
    """`a is null or a is not null`."""
    tails = [_null_test(_bared(term)) for term in terms]
    nulls = {name for name, is_null in tails if is_null is True}
    return any(name in nulls for name, is_null in tails if is_null is False)


def _null_test(found: list[Word]) -> tuple[str, bool | None]:
    """The column that is tested for null, and whether it is to be null; None where this is no such test."""
    texts = [word.text for word in found]
    if len(found) >= 3 and found[0].kind == "name":
        if texts[1:] == ["is", "null"]:
            return texts[0], True
        if texts[1:] == ["is", "not", "null"]:
            return texts[0], False
    return "", None


def _told(found: list[Word], never_null: Collection[str]) -> bool | None:
    if len(found) == 1:
        return {"true": True, "false": False}.get(found[0].text) if found[0].kind == "name" else None
    name, is_null = _null_test(found)
    if is_null is not None:
        return (not is_null) if name in never_null else None
    if len(found) != 3:
        return None
    left, how, right = found
    if left.is_literal and left.kind == right.kind and how.text in _COMPARED:
        return _COMPARED[how.text](_value(left), _value(right))
    if left.kind == "name" and left.text in never_null:
        same = left == right and how.says("=", "<=", ">=")
        return True if same or (how.says("like", "ilike") and right == Word("text", "%")) else None
    return None


def _value(word: Word) -> Any:
    return float(word.text) if word.kind == "number" else word.text


def _bared(found: list[Word]) -> list[Word]:
    """Without the parentheses around the whole."""
    while len(found) > 1 and found[0].says("(") and _closing(found) == len(found) - 1:
        found = found[1:-1]
    return found


def _closing(found: list[Word]) -> int:
    return next((at for at, depth in enumerate(_depths(found)) if at and not depth), -1)


def _depths(found: list[Word]) -> Iterator[int]:
    """How deep in parentheses and `case … end` each word stands; the closing ones as what is around them."""
    closings: list[str] = []
    for word in found:
        if closings and word.says(closings[-1]):
            closings.pop()
            yield len(closings)
            continue
        if word.says("(", "case"):
            closings.append(")" if word.text == "(" else "end")
        yield len(closings)


def _split(found: list[Word], by: str) -> list[list[Word]]:
    """The parts between the `by` that stand in no parentheses; `between a and b` is one."""
    parts: list[list[Word]] = [[]]
    between = False
    for word, depth in zip(found, _depths(found), strict=True):
        if depth == 0 and word.says(by) and not between:
            parts.append([])
            continue
        between = word.says("between") or (between and not word.says("and"))
        parts[-1].append(word)
    return parts
