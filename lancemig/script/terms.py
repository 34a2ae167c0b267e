"""Which checks and tolerances of several revisions still hold when the revisions are one.

A check is made of one state: of those, only the one before the first revision and the one after the last are
left. A tolerance is about a table, and maybe a column, as they are called in the end: it is left out where a
later one of the revisions renames or drops them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lancemig.catalog.checks import Check
from lancemig.catalog.operations import (
    DropColumn,
    DropTable,
    Operation,
    RenameColumn,
    RenameTable,
)
from lancemig.catalog.tolerances import Tolerance
from lancemig.catalog.value import Value
from lancemig.script.loader import Migration


@dataclass(frozen=True)
class Terms:
    """Checks and tolerances as source text; and what is left out, in words."""

    checks: tuple[str, ...]
    tolerances: tuple[str, ...]
    left_out: tuple[str, ...]


def terms_of(old: Sequence[Migration]) -> Terms:
    """What of these revisions goes into the one that replaces them."""
    before = [check.model_copy(update={"when": "before"}) for check in old[0].checks if check.due("before")]
    after = [check.model_copy(update={"when": "after"}) for check in old[-1].checks if check.due("after")]
    tolerances, left = [], list[str]()
    for at, migration in enumerate(old):
        later = [operation for one in old[at + 1 :] for operation in one.operations]
        for tolerance in migration.tolerances:
            if any(_concerns(operation, tolerance) for operation in later):
                left.append(f"tolerance of {migration.header.revision}: {tolerance.describe()}")
            else:
                tolerances.append(tolerance)
        left += [
            f"check of {migration.header.revision}: {check.title}"
            for check in migration.checks
            if not (at == 0 and check.due("before")) and not (at == len(old) - 1 and check.due("after"))
        ]
        left += [f"`downgrade` of {migration.header.revision}"] if migration.downgrade is not None else []
    return Terms(_spelt([*before, *after]), _spelt(tolerances), tuple(left))


def _concerns(operation: Operation, tolerance: Tolerance) -> bool:
    """Whether what the tolerance names has another name after the operation, or is gone."""
    if isinstance(operation, RenameTable | DropTable):
        return operation.table == tolerance.table
    gone = isinstance(operation, RenameColumn | DropColumn) and operation.table == tolerance.table
    return gone and getattr(operation, "column", None) == tolerance.column


def _spelt(values: Iterable[Value]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{type(value).__name__}({', '.join(_fields(value))})" for value in values))


def _fields(value: Check | Tolerance | Value) -> Iterator[str]:
    for name, given in value.model_dump(exclude_defaults=True).items():
        yield f"{name}={_literal(given)}"


def _literal(given: Any) -> str:
    plain = isinstance(given, str) and given.isprintable() and not set('"\\') & set(given)
    return f'"{given}"' if plain else repr(given)
