"""Casts around the literals of an SQL expression that Lance would refuse beside a column of another type."""

import re
from collections.abc import Callable

import pyarrow as pa
import sqlglot
from sqlglot import exp, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_COMPARISON = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)

TypeOf = Callable[[str], pa.DataType | None]
"""Gives the type of an SQL expression; None where Lance does not accept it."""


class LanceSql(Dialect):
    """Lance's SQL as far as it differs: backticks quote names, and double quotes quote text."""

    class Tokenizer(tokens.Tokenizer):
        """Quotes and their escapes."""

        IDENTIFIERS = ["`"]  # noqa: RUF012
        QUOTES = ["'", '"']  # noqa: RUF012
        STRING_ESCAPES = ["'"]  # noqa: RUF012


def with_casts(sql: str, type_of: TypeOf) -> str:
    """The expression with a cast around each literal that Lance refuses, and functions for its other syntax.

    Args:
        sql: An expression or condition that Lance does not accept.
        type_of: Asks Lance for the types of its parts.

    Returns:
        The expression in Lance's SQL; `sql` itself if it cannot be parsed.
    """
    try:
        tree = sqlglot.parse_one(sql, dialect=LanceSql)
    except SqlglotError:
        return sql
    for node in reversed(list(tree.walk())):
        replacement = _replaced(node, type_of)
        if replacement is not None and node is tree:
            tree = replacement
        elif replacement is not None:
            node.replace(replacement)
    return _text(tree)


def _text(tree: exp.Expr) -> str:
    return tree.sql(dialect=LanceSql)


def _replaced(node: exp.Expr, type_of: TypeOf) -> exp.Expr | None:
    if isinstance(node, exp.Interval):
        return exp.func("arrow_cast", _interval(node), exp.Literal.string("Interval(MonthDayNano)"))
    if isinstance(node, exp.Extract):
        return exp.func("date_part", exp.Literal.string(node.name.lower()), node.expression.copy())
    compared = isinstance(node, (*_COMPARISON, exp.Between, exp.In))
    if not compared and not isinstance(node, _ARITHMETIC):
        return None
    sides = [node.this, *node.expressions] if isinstance(node, exp.In) else list(node.iter_expressions())
    beside = next((side for side in sides if not _is_literal(side)), None)
    of = None if beside is None else type_of(_text(beside))
    if of is None:
        return None
    for side in sides:
        to = _cast_to(side, of, compared=compared) if _is_literal(side) else None
        if to is not None:
            side.replace(exp.Cast(this=side.copy(), to=exp.DataType.build(to)))
    return None


def _interval(node: exp.Interval) -> exp.Expr:
    unit = node.args.get("unit")
    return exp.Literal.string(" ".join(filter(None, (node.name, unit.name.lower() if unit else ""))))


def _is_literal(node: exp.Expr) -> bool:
    return isinstance(node.this if isinstance(node, exp.Neg) else node, exp.Literal)


def _cast_to(literal: exp.Expr, of: pa.DataType, *, compared: bool) -> str | None:
    """The type to which a literal beside a value of type `of` is cast, in SQL; None for no cast."""
    text = literal.name
    if _is_text(literal):
        return _text_cast(text, of) if compared else None
    whole = text.isdigit()
    if pa.types.is_boolean(of):
        return "BOOLEAN" if compared and whole and int(text) in (0, 1) else None
    if pa.types.is_integer(of) or pa.types.is_decimal(of):
        if not whole:
            return "DOUBLE"
        return "BIGINT" if pa.types.is_integer(of) and not _fits(int(text), of) else None
    return None


def _is_text(literal: exp.Expr) -> bool:
    return isinstance(literal, exp.Literal) and literal.is_string


def _text_cast(text: str, of: pa.DataType) -> str | None:
    if pa.types.is_timestamp(of):
        return "TIMESTAMP"
    if pa.types.is_date(of):
        return "DATE"
    if pa.types.is_boolean(of):
        return "BOOLEAN"
    if pa.types.is_integer(of):
        return "BIGINT" if re.fullmatch(r"\s*[+-]?\d+\s*", text) else "DOUBLE"
    return "DOUBLE" if pa.types.is_floating(of) or pa.types.is_decimal(of) else None


def _fits(value: int, of: pa.DataType) -> bool:
    try:
        pa.scalar(value, of)
    except (pa.ArrowInvalid, OverflowError):
        return False
    return True
