"""A table's own log of commits: which of our steps have landed, and what others did meanwhile."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lance

from lancemig.catalog.stamps import (
    CHANGED,
    INDETERMINATE,
    MOVES,
    READ_VERSION,
    REVISION,
    RUN,
    SKIPPED,
    STEP,
)
from lancemig.errors import OutcomeUnknown
from lancemig.store.lance.errors import Missing, translated

_COUNTS = (CHANGED, SKIPPED, INDETERMINATE)


@dataclass(frozen=True)
class Stamp:
    """What each of our commits carries, so that the table itself says that a step has landed."""

    run: str
    revision: str
    step: str

    def properties(self, read_version: int, changed: int, skipped: int, indeterminate: int) -> dict[str, str]:
        """The transaction properties: the stamp, the version it was staged from, and what the commit did."""
        counts = zip(_COUNTS, (changed, skipped, indeterminate), strict=True)
        return {
            RUN: self.run,
            REVISION: self.revision,
            STEP: self.step,
            # Lance itself keeps the version that the commit was moved onto.
            READ_VERSION: str(read_version),
            **{name: str(value) for name, value in counts},
        }


@dataclass(frozen=True)
class Origin:
    """A version of a table, wherever it lies."""

    root: str
    name: str
    version: int


@dataclass(frozen=True)
class Moves:
    """That a commit of ours put rows elsewhere that were there before.

    It `restores` the rows which the commit that made another version had deleted, or else replaced rows. `on`
    are the columns, if any, by which they were found.
    """

    on: tuple[str, ...] = ()
    restores: Origin | None = None

    @property
    def properties(self) -> dict[str, str]:
        """The transaction property that says so."""
        restores = {} if self.restores is None else {"restores": vars(self.restores)}
        return {MOVES: json.dumps({"on": self.on, **restores})}

    @classmethod
    def told(cls, properties: Mapping[str, str]) -> "Moves | None":
        """What the properties of a transaction say."""
        if MOVES not in properties:
            return None
        found = json.loads(properties[MOVES])
        restores = found.get("restores")
        return cls(tuple(found["on"]), restores and Origin(**restores))


@dataclass(frozen=True)
class Commit:
    """One version of a table: what kind of commit made it, and our stamp if it was ours.

    `properties` are what its writer put into the transaction, if it was not ours; `back_to` is the version
    that a Restore brought back.
    """

    version: int
    operation: str
    stamp: Stamp | None
    read_version: int
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0
    moves: Moves | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    back_to: int | None = None


@dataclass(frozen=True)
class Log:
    """The commits of a table after a version, oldest first; `missing` are those that were cleaned away."""

    name: str
    base: int
    commits: tuple[Commit, ...]
    missing: tuple[int, ...]

    def whole(self) -> list[Commit]:
        """All commits; OutcomeUnknown where some were cleaned away: a step may have landed in one of them."""
        if self.missing:
            raise OutcomeUnknown(
                f"version {self.missing[0]} of table {self.name!r} was removed by cleanup after "
                f"version {self.base} was pinned; it is unknown whether a step was committed in it",
                next_step="lancemig status, then compare the table with its guarded version",
            )
        return list(self.commits)

    def of(self, run: str, wanted: Callable[[str], bool]) -> list[Commit]:
        """The commits of a run with a wanted step in their stamp, as far as they are there."""
        return [
            commit
            for commit in self.commits
            if commit.stamp and commit.stamp.run == run and wanted(commit.stamp.step)
        ]


def log_since(dataset: lance.LanceDataset, base: int, name: str) -> Log:
    """The commits after version `base` up to the pinned one."""
    return log_among(dataset, base, range(base + 1, int(dataset.version) + 1), name)


def log_among(dataset: lance.LanceDataset, base: int, versions: Iterable[int], name: str) -> Log:
    """The commits that made these versions, all after `base`."""
    found, missing = [], []
    for version in versions:
        try:
            with translated(f"reading the log of {name}"):
                found.append(_commit(dataset, version))
        except Missing:
            missing.append(version)
    return Log(name, base, tuple(found), tuple(missing))


def _commit(dataset: lance.LanceDataset, version: int) -> Commit:
    try:
        transaction: Any = dataset.read_transaction(version)
    except TypeError:
        # pylance cannot read back a compaction that rewrote an index; none of our commits is one
        # (tests/surface/test_lance_log.py).
        return Commit(version, "Rewrite", None, version - 1)
    properties = transaction.transaction_properties or {}
    stamp = None
    if RUN in properties:
        stamp = Stamp(properties[RUN], properties.get(REVISION, ""), properties.get(STEP, ""))
    changed, skipped, indeterminate = (int(properties.get(name, 0)) for name in _COUNTS)
    name = type(transaction.operation).__name__
    return Commit(
        version,
        _nameless(dataset, version) if name == "BaseOperation" else name,
        stamp,
        int(properties.get(READ_VERSION, transaction.read_version)),
        changed,
        skipped,
        indeterminate,
        Moves.told(properties),
        {} if stamp else dict(properties),
        int(transaction.operation.version) if name == "Restore" else None,
    )


def _nameless(dataset: lance.LanceDataset, version: int) -> str:
    """A commit for which pylance has no class: what a compaction commits first, if no fragment changed."""
    before, after = (
        [fragment.metadata for fragment in dataset.checkout_version(at).get_fragments()]
        for at in (version - 1, version)
    )
    return "ReserveFragments" if before == after else "Unknown"
