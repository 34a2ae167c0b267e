"""A transaction that is ready to be committed, and the check of who may stage one."""

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
    """Let `stage` write files for writable tables only."""

    @wraps(stage)
    def checked(table: Table, /, *args: P.args, **options: P.kwargs) -> R:
        if not table.writable:
            raise out_of_bounds(f"{table.root}{table.name}")
        return stage(table, *args, **options)

    return checked


@dataclass(frozen=True)
class Staged:
    """A transaction that is ready to be committed; `changed`, `skipped` and `indeterminate` count rows."""

    operation: Any
    """A `LanceOperation`."""
    read_version: int
    """The version it was staged from."""
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0
    moves: Moves | None = None
    """How to follow the rows that it moves."""

    def counted(self, changed: int, skipped: int = 0, indeterminate: int = 0) -> "Staged":
        """The same transaction with these counts."""
        return replace(self, changed=changed, skipped=skipped, indeterminate=indeterminate)

    def moving(self, moves: Moves) -> "Staged":
        """The same transaction, with the way to follow its rows."""
        return replace(self, moves=moves)

    def transaction(self, properties: Mapping[str, str]) -> Transaction:
        """The transaction for Lance, with these properties."""
        return Transaction(self.read_version, self.operation, transaction_properties=dict(properties))
