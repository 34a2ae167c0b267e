"""What `when_exists="extend"` may do to a column, and the types it can do it to."""

from typing import Literal

import pyarrow as pa

from lancemig.catalog.spelling import spell_type
from lancemig.errors import PlanError

Rule = Literal["max", "min", "union", "coalesce"]
"""The greater or the smaller value; both lists' items; the table's value unless it is null."""


def checked_rule(where: str, of: pa.DataType, rule: Rule) -> None:
    """Refuse a rule that does not fit the type of the column called `where`, with PlanError."""
    if rule in ("max", "min") and not ordered(of):
        raise PlanError(
            f"{where} is {spell_type(of)}: its values have no order, so the rule {rule!r} cannot be used",
            next_step='use "coalesce", or remove the rule of this column',
        )
    if rule == "union" and not (_list(of) and countable(of.value_type)):
        raise PlanError(
            f'{where} is {spell_type(of)}: "union" requires a list of plain values, or of structs of '
            "plain values",
            next_step='use "coalesce", or remove the rule of this column',
        )


def ordered(of: pa.DataType) -> bool:
    """Whether one value can be greater than another."""
    return countable(of) and not pa.types.is_struct(_plain(of))


def countable(of: pa.DataType) -> bool:
    """Whether equal values can be told: any type but lists, maps, and structs that hold them."""
    of = _plain(of)
    if pa.types.is_struct(of):
        return all(countable(field.type) for field in of)
    return not (pa.types.is_nested(of) or pa.types.is_null(of))


def _plain(of: pa.DataType) -> pa.DataType:
    if isinstance(of, pa.BaseExtensionType):
        return _plain(of.storage_type)
    return _plain(of.value_type) if pa.types.is_dictionary(of) else of


def _list(of: pa.DataType) -> bool:
    return bool(pa.types.is_list(of) or pa.types.is_large_list(of))
