"""What can be told of an SQL expression without a table: its words, the columns it names, its functions."""

import operator
import re
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

# Lance takes text between double quotes for text, as between single ones; names are quoted by backticks.
_WORD = re.compile(
    r"""(?P<gap>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>'(?:[^']|'')*'|"[^"]*")
      | (?P<name>(?:`[^`]+`|[A-Za-z_]\w*)(?:\.(?:`[^`]+`|[A-Za-z_]\w*))*)
      | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
      | (?P<mark><=|>=|<>|!=|\|\||::|.)""",
    re.VERBOSE | re.DOTALL,
)

_VOLATILE = {
    "now", "current_timestamp", "current_date", "current_time", "today", "random", "rand", "uuid",
    "gen_random_uuid", "localtimestamp", "localtime", "clock_timestamp", "getdate", "sysdate", "newid",
    "unix_timestamp",
}  # fmt: skip
_VOLATILE_WITHOUT_PARENTHESES = {"current_timestamp", "current_date", "current_time", "localtimestamp"}


class Token(NamedTuple):
    """A word of an expression: a `name` (lower case, without backticks), `text`, a `number` or a `mark`."""

    kind: str
    text: str
    quoted: bool = False

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or marks."""
        return not self.quoted and self.kind in ("name", "mark") and self.text in words

    @property
    def is_literal(self) -> bool:
        """Whether it is a value as it is written."""
        return self.kind in ("text", "number")


def tokenize(sql: str) -> list[Token]:
    """The words of an expression, without comments."""
    return list(_tokens(sql))


def _tokens(sql: str) -> Iterator[Token]:
    for match in _WORD.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "text":
            yield Token(kind, text[1:-1])
        elif kind != "gap":
            yield Token(kind, text.replace("`", "").lower(), quoted="`" in text)


def identifiers(sql: str) -> set[str]:
    """Every name in an expression, functions and keywords among them, in lower case."""
    return {word.text for word in tokenize(sql) if word.kind == "name"}


def refers_to(sql: str, path: str) -> bool:
    """Whether an expression uses the column at `path`, or a field of it."""
    wanted = path.lower()
    return any(name == wanted or name.startswith(f"{wanted}.") for name in identifiers(sql))


def called_functions(tokens: list[Token]) -> set[str]:
    """The functions that are called; keywords before a parenthesis among them."""
    pairs = pairwise(tokens)
    return {word.text for word, then in pairs if word.kind == "name" and then.says("(") and not word.quoted}


def volatile_functions(sql: str) -> list[str]:
    """The functions in an expression that give something else each time."""
    tokens = tokenize(sql)
    bare = {
        word.text for word in tokens if word.kind == "name" and not word.quoted
    } & _VOLATILE_WITHOUT_PARENTHESES
    return sorted((called_functions(tokens) & _VOLATILE) | bare)


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "<>": operator.ne, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def always_true(where: str, never_null: Collection[str] = ()) -> bool:
    """Whether a condition evidently holds for every row, where the columns `never_null` have no null."""
    tokens = tokenize(where)
    return not tokens or _truth(tokens, {name.lower() for name in never_null}) is True


def conjuncts(where: str) -> list[list[Token]]:
    """What must hold together for the condition to hold; nothing where it may hold in one way or another."""
    tokens = _without_outer_parentheses(tokenize(where))
    return _split_by(tokens, "and") if len(_split_by(tokens, "or")) == 1 else []


def _truth(tokens: list[Token], never_null: Collection[str]) -> bool | None:
    """Whether the condition holds for all rows (True), for none (False), or may for some (None)."""
    tokens = _without_outer_parentheses(tokens)
    terms = _split_by(tokens, "or")
    if len(terms) > 1:
        held = _or([_truth(term, never_null) for term in terms])
        return True if held is None and _covers_null_and_not_null(terms) else held
    terms = _split_by(tokens, "and")
    if len(terms) > 1:
        return _and([_truth(term, never_null) for term in terms])
    if tokens and tokens[0].says("not"):
        held = _truth(tokens[1:], never_null)
        return None if held is None else not held
    return _predicate_truth(tokens, never_null)


def _or(held: list[bool | None]) -> bool | None:
    return True if True in held else None if None in held else False


def _and(held: list[bool | None]) -> bool | None:
    return False if False in held else None if None in held else True


def _covers_null_and_not_null(terms: list[list[Token]]) -> bool:
    """`a is null or a is not null`."""
    tails = [_null_test(_without_outer_parentheses(term)) for term in terms]
    nulls = {name for name, is_null in tails if is_null is True}
    return any(name in nulls for name, is_null in tails if is_null is False)


def _null_test(tokens: list[Token]) -> tuple[str, bool | None]:
    """The column that is tested for null, and whether it is to be null; None where this is no such test."""
    texts = [word.text for word in tokens]
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
    left, how, right = tokens
    if left.is_literal and left.kind == right.kind and how.text in _COMPARISONS:
        return _COMPARISONS[how.text](_value(left), _value(right))
    if left.kind == "name" and left.text in never_null:
        same = left == right and how.says("=", "<=", ">=")
        return True if same or (how.says("like", "ilike") and right == Token("text", "%")) else None
    return None


def _value(word: Token) -> Any:
    return float(word.text) if word.kind == "number" else word.text


def _without_outer_parentheses(tokens: list[Token]) -> list[Token]:
    """Without the parentheses around the whole."""
    while len(tokens) > 1 and tokens[0].says("(") and _closing_index(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _closing_index(tokens: list[Token]) -> int:
    return next((at for at, depth in enumerate(_depths(tokens)) if at and not depth), -1)


def _depths(tokens: list[Token]) -> Iterator[int]:
    """How deep in parentheses and `case … end` each word stands; the closing ones as what is around them."""
    closings: list[str] = []
    for word in tokens:
        if closings and word.says(closings[-1]):
            closings.pop()
            yield len(closings)
            continue
        if word.says("(", "case"):
            closings.append(")" if word.text == "(" else "end")
        yield len(closings)


def _split_by(tokens: list[Token], by: str) -> list[list[Token]]:
    """The parts between the `by` that stand in no parentheses; `between a and b` is one."""
    parts: list[list[Token]] = [[]]
    between = False
    for word, depth in zip(tokens, _depths(tokens), strict=True):
        if depth == 0 and word.says(by) and not between:
            parts.append([])
            continue
        between = word.says("between") or (between and not word.says("and"))
        parts[-1].append(word)
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


def is_idempotent(sql: str, path: str) -> bool:
    """Whether an expression over the column at `path` may give the same for its own result: `lower(name)`."""
    tokens = _without_signs(tokenize(sql))
    known = called_functions(tokens) <= _IDEMPOTENT and not any(word.says(*_OPERATORS) for word in tokens)
    return known and not _replaces_its_own_result(tokens) and not _maps_results_further(tokens, path.lower())


def fills_nulls(sql: str, path: str) -> bool:
    """Whether an expression leaves every value of the column at `path` that is there: `coalesce(a, 0)`."""
    texts = [word.text for word in tokenize(sql)]
    return texts[:1] in (["coalesce"], ["ifnull"], ["nvl"]) and texts[1:4] == ["(", path.lower(), ","]


def excludes_updated_rows(where: str | None, path: str, sql: str) -> bool:
    """Whether `where` evidently passes over rows whose column at `path` was set to `sql` already."""
    return any(_conjunct_excludes(each, path.lower(), tokenize(sql)) for each in conjuncts(where or "true"))


def _conjunct_excludes(tokens: list[Token], path: str, sql: list[Token]) -> bool:
    at = [word.text for word in tokens if word.kind in ("name", "mark")]
    named = Token("name", path) in [word._replace(quoted=False) for word in tokens]
    if not named:
        return False
    if "not" in at and {"like", "ilike", "starts_with", "ends_with", "regexp_like", "contains"} & {*at}:
        return True
    rest = [word for word in tokens if word.text != path]
    if len(rest) == 2 and rest[0].says("<") and rest[1].kind == "number" and float(rest[1].text) == 0:
        return _negates(sql, path)
    literal = all(word.is_literal or word.says("(", ")", ",", "=", "in", "-") for word in rest)
    return literal and any(word.says("=", "in") for word in rest)


def _negates(sql: list[Token], path: str) -> bool:
    texts = ("1" if word.kind == "number" and float(word.text) == 1 else word.text for word in sql)
    return " ".join(texts) in (
        f"- {path}", f"{path} * - 1", f"- 1 * {path}", f"0 - {path}",
    )  # fmt: skip


def _without_signs(tokens: list[Token]) -> list[Token]:
    """Without the minus of a negative number."""
    kept: list[Token] = []
    for at, word in enumerate(tokens):
        before = tokens[at - 1] if at else Token("mark", "(")
        begins = before.says("(", ",", "=", "<", ">", "<=", ">=", "<>", "!=", *_KEYWORDS)
        is_sign = word.says("-") and begins and at + 1 < len(tokens) and tokens[at + 1].kind == "number"
        kept += [] if is_sign else [word]
    return kept


def _replaces_its_own_result(tokens: list[Token]) -> bool:
    """`replace(path, 'data/', 'data/v2/')`: what is put in is replaced again."""
    for at, word in enumerate(tokens):
        if word.says("replace"):
            given = [each.text for each in tokens[at:] if each.kind == "text"][:2]
            if len(given) == 2 and given[0] and given[0] in given[1]:
                return True
    return False


def _maps_results_further(tokens: list[Token], path: str) -> bool:
    """`case a when 'x' then 'y' when 'y' then 'x' end`: what is put in becomes something else again."""
    turned: dict[str, str] = {}
    operand = ""
    for at, word in enumerate(tokens[:-1]):
        if word.says("case"):
            operand = tokens[at + 1].text
        if word.says("then") and at and tokens[at - 1].is_literal and tokens[at + 1].is_literal:
            compared = tokens[at - 3].text if at > 2 and tokens[at - 2].says("=") else operand
            if compared == path:
                turned[tokens[at - 1].text] = tokens[at + 1].text
    return any(turned.get(after, after) != after for after in turned.values())
