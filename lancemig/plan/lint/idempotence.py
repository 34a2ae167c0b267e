"""Whether setting a column to an SQL expression twice is the same as once; doubt counts as yes."""

from lancemig.plan.lint.conditions import conjuncts
from lancemig.plan.lint.sql import Word, calls, words

_OPERATORS = ("+", "-", "*", "/", "%", "|", "||", "&", "^")
_KEYWORDS = {"case", "when", "then", "else", "and", "or", "not", "in", "between", "like", "ilike", "is"}
_SETTLED = _KEYWORDS | {
    "lower", "upper", "initcap", "trim", "btrim", "ltrim", "rtrim", "coalesce", "ifnull", "nvl", "nvl2",
    "nullif", "nanvl", "isnan", "iszero", "greatest", "least", "abs", "signum", "ceil", "floor", "round",
    "trunc", "cast", "try_cast", "arrow_cast", "date_trunc", "to_date", "to_timestamp", "left", "right",
    "substr", "substring", "lpad", "rpad", "length", "char_length", "character_length", "octet_length",
    "starts_with", "ends_with", "contains", "regexp_like", "regexp_replace", "replace", "decimal",
    "varchar", "char", "array_sort", "array_distinct", "array_has",
}  # fmt: skip


def settles(sql: str, path: str) -> bool:
    """Whether an expression over the column at `path` may give the same for its own result: `lower(name)`."""
    found = _without_signs(words(sql))
    known = calls(found) <= _SETTLED and not any(word.says(*_OPERATORS) for word in found)
    return known and not _grows(found) and not _swaps(found, path.lower())


def fills_nulls(sql: str, path: str) -> bool:
    """Whether an expression leaves every value of the column at `path` that is there: `coalesce(a, 0)`."""
    texts = [word.text for word in words(sql)]
    return texts[:1] in (["coalesce"], ["ifnull"], ["nvl"]) and texts[1:4] == ["(", path.lower(), ","]


def passes_over(where: str | None, path: str, sql: str) -> bool:
    """Whether `where` evidently passes over rows whose column at `path` was set to `sql` already."""
    return any(_passes(each, path.lower(), words(sql)) for each in conjuncts(where or "true"))


def _passes(found: list[Word], path: str, sql: list[Word]) -> bool:
    at = [word.text for word in found if word.kind in ("name", "mark")]
    named = Word("name", path) in [word._replace(quoted=False) for word in found]
    if not named:
        return False
    if "not" in at and {"like", "ilike", "starts_with", "ends_with", "regexp_like", "contains"} & {*at}:
        return True
    rest = [word for word in found if word.text != path]
    if len(rest) == 2 and rest[0].says("<") and rest[1].kind == "number" and float(rest[1].text) == 0:
        return _turns_sign(sql, path)
    literal = all(word.is_literal or word.says("(", ")", ",", "=", "in", "-") for word in rest)
    return literal and any(word.says("=", "in") for word in rest)


def _turns_sign(sql: list[Word], path: str) -> bool:
    texts = ("1" if word.kind == "number" and float(word.text) == 1 else word.text for word in sql)
    return " ".join(texts) in (
        f"- {path}", f"{path} * - 1", f"- 1 * {path}", f"0 - {path}",
    )  # fmt: skip


def _without_signs(found: list[Word]) -> list[Word]:
    """Without the minus of a negative number."""
    kept: list[Word] = []
    for at, word in enumerate(found):
        before = found[at - 1] if at else Word("mark", "(")
        begins = before.says("(", ",", "=", "<", ">", "<=", ">=", "<>", "!=", *_KEYWORDS)
        is_sign = word.says("-") and begins and at + 1 < len(found) and found[at + 1].kind == "number"
        kept += [] if is_sign else [word]
    return kept


def _grows(found: list[Word]) -> bool:
    """`replace(path, 'data/', 'data/v2/')`: what is put in is replaced again."""
    for at, word in enumerate(found):
        if word.says("replace"):
            given = [each.text for each in found[at:] if each.kind == "text"][:2]
            if len(given) == 2 and given[0] and given[0] in given[1]:
                return True
    return False


def _swaps(found: list[Word], path: str) -> bool:
    """`case a when 'x' then 'y' when 'y' then 'x' end`: what is put in becomes something else again."""
    turned: dict[str, str] = {}
    operand = ""
    for at, word in enumerate(found[:-1]):
        if word.says("case"):
            operand = found[at + 1].text
        if word.says("then") and at and found[at - 1].is_literal and found[at + 1].is_literal:
            compared = found[at - 3].text if at > 2 and found[at - 2].says("=") else operand
            if compared == path:
                turned[found[at - 1].text] = found[at + 1].text
    return any(turned.get(after, after) != after for after in turned.values())
