"""A transaction ready to be committed, and what may stage one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from lance import Transaction

from lancemig.store.lance.log import Moves
from lancemig.store.lance.table import Table
from lancemig.store.objects import out_of_bounds

P = ParamSpec("P")
R = TypeVar("R")


def writes(stage: Callable[Concatenate[Table, P], R]) -> Callable[Concatenate[Table, P], R]:
    """Let `stage` write files into the folder of a table that is writable, and of no other."""

    @wraps(stage)
    def checked(table: Table, /, *args: P.args, **options: P.kwargs) -> R:
        if not table.writable:
            raise out_of_bounds(f"{table.root}{table.name}")
        return stage(table, *args, **options)

    return checked


@dataclass(frozen=True)
class Staged:
    """A transaction ready to be committed; `changed`, `skipped` and `indeterminate` count rows.

    `moves` says how to find the rows that it puts elsewhere.
    """

    operation: Any
    read_version: int
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0
    moves: Moves | None = None

    def counted(self, changed: int, skipped: int = 0, indeterminate: int = 0) -> "Staged":
        """The same transaction with these counts."""
        return replace(self, changed=changed, skipped=skipped, indeterminate=indeterminate)

    def moving(self, moves: Moves) -> "Staged":
        """The same transaction, which says where its rows come from."""
        return replace(self, moves=moves)

    def transaction(self, properties: Mapping[str, str]) -> Transaction:
        """What Lance commits."""
        return Transaction(self.read_version, self.operation, transaction_properties=dict(properties))
