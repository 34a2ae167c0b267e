"""How an index that is there differs from one that should be, as far as tables tell."""

from collections.abc import Iterator
from typing import Any

from lancemig.catalog.schema import Index

_SAME = {"euclidean": "l2"}
_LANCES_OWN = ("num_partitions",)
"""What Lance decides, whatever was asked for: fewer for few rows, and others after `optimize_indices`.

tests/surface/test_lance_indices.py holds it.
"""


def index_differences(wanted: Index, found: Index) -> Iterator[tuple[str, Any, Any]]:
    """What differs, what it is, and what it should be; of the parameters, those that both name."""
    if wanted.column != found.column:
        yield "column", found.column, wanted.column
    if wanted.type.upper() != found.type.upper():
        yield "type", found.type, wanted.type
        return
    for name in sorted(wanted.params.keys() & found.params.keys()):
        if name not in _LANCES_OWN and not same_param(wanted.params[name], found.params[name]):
            yield name, found.params[name], wanted.params[name]


def same_param(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are one; Lance takes some in more than one spelling."""
    return _spelt(one) == _spelt(other)


def _spelt(value: Any) -> str:
    text = str(value).lower()
    return _SAME.get(text, text)
