"""What a tail is, and what bringing it came to."""

from dataclasses import dataclass
from functools import cached_property

from lancemig.apply.effects.replay import TablePath, column_lineage
from lancemig.apply.replicate.merge import WhenExists
from lancemig.catalog.schema import TableSchema

ROWS_STAY = {"CreateIndex", "UpdateConfig"}
ROWS_MOVE = {"Rewrite", "ReserveFragments"}
"""A compaction: the rows are the same, in other fragments."""


@dataclass(frozen=True)
class ReplicationTask:
    """One table's way from the root `origin` at version `since` to the root `target`.

    `start` is the table's schema in `origin`; `base`, the version from which the target's log tells what was
    brought over before. Nobody else writes to a `private` target, so what is there is never a conflict;
    elsewhere `when_exists` says what is done about one. The source may have got `more_columns` since; what
    they hold is not brought.
    """

    path: TablePath
    origin: str
    target: str
    start: TableSchema
    since: int
    base: int
    private: bool = False
    when_exists: WhenExists = "error"
    more_columns: bool = False

    @property
    def source(self) -> str:
        """The table's name in the root it comes from."""
        return self.path.source or ""

    @property
    def name(self) -> str:
        """Its name in the root it goes to."""
        return self.path.target or ""

    @cached_property
    def keys(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What identifies a row in the source, and in the target; empty where nobody can tell.

        A key that one side alone has, as where the way names it, serves for both if its values are the same.
        """
        start, end = self.start.key, self.path.key_after(self.start)
        came = column_lineage(self.path, self.start).value_preserving
        went = {old: new for new, old in came.items()}
        if end and not start and set(end) <= set(came):
            start = tuple(came[name] for name in end)
        elif start and not end and set(start) <= set(went):
            end = tuple(went[name] for name in start)
        return start, end

    @property
    def keyed(self) -> bool:
        """Whether a row is known by its key in both roots."""
        return all(self.keys)

    @property
    def policy(self) -> WhenExists:
        """What is done about a row that is there as the source does not know it.

        In a private target an operation put it there (an upsert, an undo) and has met the new values on their
        way; where none did, the source has a key twice.
        """
        if not self.private:
            return self.when_exists
        return "error" if self.path.keeps_rows else "overwrite"


@dataclass(frozen=True)
class ReplicationResult:
    """What one round brought: rows, and the version of the source up to which all is there now.

    `left` names what was not brought, `kept` counts what was left to the target on purpose.
    """

    source: str
    rows: int
    upto: int
    conflicts: tuple[str, ...] = ()
    kept: int = 0
