"""Questions about SQL expressions of Lance, answered from their tokens alone, without a table.

- `volatile_functions`: functions that give another value on every call.
- `refers_to`: whether an expression uses a column.
- `always_true`: whether a condition holds for every row.
- `is_idempotent`, `fills_nulls`, `excludes_updated_rows`: whether applying an update twice changes nothing.

Where an answer needs more than tokens and parentheses, it is the cautious one.
"""

import operator
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any

from lancemig.catalog.sql_tokens import Token, identifiers, tokenize

_VOLATILE = {
    "now", "current_timestamp", "current_date", "current_time", "today", "random", "rand", "uuid",
    "gen_random_uuid", "localtimestamp", "localtime", "clock_timestamp", "getdate", "sysdate", "newid",
    "unix_timestamp",
}  # fmt: skip
_VOLATILE_WITHOUT_PARENTHESES = {"current_timestamp", "current_date", "current_time", "localtimestamp"}


def refers_to(sql: str, path: str) -> bool:
    """Whether an expression uses the column at `path`, or a field of it."""
    wanted = path.lower()
    return any(name == wanted or name.startswith(f"{wanted}.") for name in identifiers(sql))


def called_functions(tokens: list[Token]) -> set[str]:
    """The names before a parenthesis: functions, and some keywords."""
    pairs = pairwise(tokens)
    return {
        token.text
        for token, following in pairs
        if token.kind == "name" and following.is_one_of("(") and not token.quoted
    }


def volatile_functions(sql: str) -> list[str]:
    """The functions in an expression that give another value on every call, sorted."""
    tokens = tokenize(sql)
    bare = {
        token.text for token in tokens if token.kind == "name" and not token.quoted
    } & _VOLATILE_WITHOUT_PARENTHESES
    return sorted((called_functions(tokens) & _VOLATILE) | bare)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def always_true(where: str, never_null: Collection[str] = ()) -> bool:
    """Whether a condition evidently holds for every row.

    Args:
        where: The condition; an empty one holds.
        never_null: The columns that hold no nulls.
    """
    tokens = tokenize(where)
    return not tokens or _truth(tokens, {name.lower() for name in never_null}) is True


def conjuncts(where: str) -> list[list[Token]]:
    """The terms of a condition that is a conjunction; empty for a disjunction."""
    tokens = _without_outer_parentheses(tokenize(where))
    return _split_by(tokens, "and") if len(_split_by(tokens, "or")) == 1 else []


def _truth(tokens: list[Token], never_null: Collection[str]) -> bool | None:
    """The value of a condition: True for all rows, False for no row, None where that depends on the row."""
    tokens = _without_outer_parentheses(tokens)
    terms = _split_by(tokens, "or")
    if len(terms) > 1:
        value = _or([_truth(term, never_null) for term in terms])
        return True if value is None and _covers_null_and_not_null(terms) else value
    terms = _split_by(tokens, "and")
    if len(terms) > 1:
        return _and([_truth(term, never_null) for term in terms])
    if tokens and tokens[0].is_one_of("not"):
        value = _truth(tokens[1:], never_null)
        return None if value is None else not value
    return _predicate_truth(tokens, never_null)


def _or(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def _and(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _covers_null_and_not_null(terms: list[list[Token]]) -> bool:
    """`a is null or a is not null`."""
    tests = [_null_test(_without_outer_parentheses(term)) for term in terms]
    nulls = {name for name, is_null in tests if is_null is True}
    return any(name in nulls for name, is_null in tests if is_null is False)


def _null_test(tokens: list[Token]) -> tuple[str, bool | None]:
    """The column of `c is [not] null`, and whether null passes; `("", None)` for another condition."""
    texts = [token.text for token in tokens]
    if len(tokens) >= 3 and tokens[0].kind == "name":
        if texts[1:] == ["is", "null"]:
            return texts[0], True
        if texts[1:] == ["is", "not", "null"]:
            return texts[0], False
    return "", None


def _predicate_truth(tokens: list[Token], never_null: Collection[str]) -> bool | None:
    if len(tokens) == 1:
        return {"true": True, "false": False}.get(tokens[0].text) if tokens[0].kind == "name" else None
    name, is_null = _null_test(tokens)
    if is_null is not None:
        return (not is_null) if name in never_null else None
    if len(tokens) != 3:
        return None
    left, comparison, right = tokens
    if left.is_literal and left.kind == right.kind and comparison.text in _COMPARISONS:
        return _COMPARISONS[comparison.text](_value(left), _value(right))
    if left.kind == "name" and left.text in never_null:
        equal = left == right and comparison.is_one_of("=", "<=", ">=")
        any_text = comparison.is_one_of("like", "ilike") and right == Token("text", "%")
        return True if equal or any_text else None
    return None


def _value(literal: Token) -> Any:
    return float(literal.text) if literal.kind == "number" else literal.text


def _without_outer_parentheses(tokens: list[Token]) -> list[Token]:
    """The tokens without parentheses around the whole expression."""
    while len(tokens) > 1 and tokens[0].is_one_of("(") and _closing_index(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _closing_index(tokens: list[Token]) -> int:
    return next((at for at, depth in enumerate(_depths(tokens)) if at and not depth), -1)


def _depths(tokens: list[Token]) -> Iterator[int]:
    """The nesting depth of each token in parentheses and `case … end`; a closing token counts as outside."""
    closings: list[str] = []
    for token in tokens:
        if closings and token.is_one_of(closings[-1]):
            closings.pop()
            yield len(closings)
            continue
        if token.is_one_of("(", "case"):
            closings.append(")" if token.text == "(" else "end")
        yield len(closings)


def _split_by(tokens: list[Token], by: str) -> list[list[Token]]:
    """The parts between the outermost tokens `by`; `between a and b` is not split at its `and`."""
    parts: list[list[Token]] = [[]]
    between = False
    for token, depth in zip(tokens, _depths(tokens), strict=True):
        if depth == 0 and token.is_one_of(by) and not between:
            parts.append([])
            continue
        between = token.is_one_of("between") or (between and not token.is_one_of("and"))
        parts[-1].append(token)
    return parts


_OPERATORS = ("+", "-", "*", "/", "%", "|", "||", "&", "^")
_KEYWORDS = {"case", "when", "then", "else", "and", "or", "not", "in", "between", "like", "ilike", "is"}
_IDEMPOTENT = _KEYWORDS | {
    "lower", "upper", "initcap", "trim", "btrim", "ltrim", "rtrim", "coalesce", "ifnull", "nvl", "nvl2",
    "nullif", "nanvl", "isnan", "iszero", "greatest", "least", "abs", "signum", "ceil", "floor", "round",
    "trunc", "cast", "try_cast", "arrow_cast", "date_trunc", "to_date", "to_timestamp", "left", "right",
    "substr", "substring", "lpad", "rpad", "length", "char_length", "character_length", "octet_length",
    "starts_with", "ends_with", "contains", "regexp_like", "regexp_replace", "replace", "decimal",
    "varchar", "char", "array_sort", "array_distinct", "array_has",
}  # fmt: skip
_TEXT_TESTS = {"like", "ilike", "starts_with", "ends_with", "regexp_like", "contains"}


def is_idempotent(sql: str, path: str) -> bool:
    """Whether an expression over the column at `path` keeps its own result as it is: `lower(name)`."""
    tokens = _without_signs(tokenize(sql))
    if not called_functions(tokens) <= _IDEMPOTENT or any(token.is_one_of(*_OPERATORS) for token in tokens):
        return False
    return not _replaces_its_own_result(tokens) and not _maps_results_further(tokens, path.lower())


def fills_nulls(sql: str, path: str) -> bool:
    """Whether an expression changes only the nulls of the column at `path`: `coalesce(a, 0)`."""
    texts = [token.text for token in tokenize(sql)]
    return texts[:1] in (["coalesce"], ["ifnull"], ["nvl"]) and texts[1:4] == ["(", path.lower(), ","]


def excludes_updated_rows(where: str | None, path: str, sql: str) -> bool:
    """Whether `where` evidently excludes rows whose column at `path` was set to `sql` already."""
    terms = conjuncts(where or "true")
    return any(_conjunct_excludes(term, path.lower(), tokenize(sql)) for term in terms)


def _conjunct_excludes(tokens: list[Token], path: str, sql: list[Token]) -> bool:
    if Token("name", path) not in [token._replace(quoted=False) for token in tokens]:
        return False
    names = {token.text for token in tokens if token.kind in ("name", "mark")}
    if "not" in names and names & _TEXT_TESTS:
        return True
    rest = [token for token in tokens if token.text != path]
    if len(rest) == 2 and rest[0].is_one_of("<") and rest[1].kind == "number" and float(rest[1].text) == 0:
        return _negates(sql, path)
    literal = all(token.is_literal or token.is_one_of("(", ")", ",", "=", "in", "-") for token in rest)
    return literal and any(token.is_one_of("=", "in") for token in rest)


def _negates(sql: list[Token], path: str) -> bool:
    texts = ("1" if token.kind == "number" and float(token.text) == 1 else token.text for token in sql)
    return " ".join(texts) in (
        f"- {path}", f"{path} * - 1", f"- 1 * {path}", f"0 - {path}",
    )  # fmt: skip


def _without_signs(tokens: list[Token]) -> list[Token]:
    """The tokens without the minus sign of negative numbers."""
    kept: list[Token] = []
    for at, token in enumerate(tokens):
        before = tokens[at - 1] if at else Token("mark", "(")
        is_prefix = before.is_one_of("(", ",", "=", "<", ">", "<=", ">=", "<>", "!=", *_KEYWORDS)
        is_minus = token.is_one_of("-") and is_prefix
        if not (is_minus and at + 1 < len(tokens) and tokens[at + 1].kind == "number"):
            kept.append(token)
    return kept


def _replaces_its_own_result(tokens: list[Token]) -> bool:
    """`replace(path, 'data/', 'data/v2/')`: a second run replaces the inserted text again."""
    for at, token in enumerate(tokens):
        if token.is_one_of("replace"):
            texts = [following.text for following in tokens[at:] if following.kind == "text"][:2]
            if len(texts) == 2 and texts[0] and texts[0] in texts[1]:
                return True
    return False


def _maps_results_further(tokens: list[Token], path: str) -> bool:
    """`case a when 'x' then 'y' when 'y' then 'x' end`: a second run maps the result to another value."""
    turned: dict[str, str] = {}
    operand = ""
    for at, token in enumerate(tokens[:-1]):
        if token.is_one_of("case"):
            operand = tokens[at + 1].text
        if token.is_one_of("then") and at and tokens[at - 1].is_literal and tokens[at + 1].is_literal:
            compared = tokens[at - 3].text if at > 2 and tokens[at - 2].is_one_of("=") else operand
            if compared == path:
                turned[tokens[at - 1].text] = tokens[at + 1].text
    return any(turned.get(after, after) != after for after in turned.values())
