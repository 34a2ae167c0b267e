"""The log of a table: which steps of lancemig have been committed, and what other writers did."""

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
    """The step that a commit of lancemig carries out, stored in the commit (catalog/stamps.py)."""

    run: str
    revision: str
    step: str

    def properties(self, read_version: int, changed: int, skipped: int, indeterminate: int) -> dict[str, str]:
        """The transaction properties: the stamp, the version it was staged from, and row counts."""
        counts = zip(_COUNTS, (changed, skipped, indeterminate), strict=True)
        return {
            RUN: self.run,
            REVISION: self.revision,
            STEP: self.step,
            # The read version of Lance is the one that the commit was rebased onto.
            READ_VERSION: str(read_version),
            **{name: str(value) for name, value in counts},
        }


@dataclass(frozen=True)
class Origin:
    """A version of a table in a root."""

    root: str
    name: str
    version: int


@dataclass(frozen=True)
class Moves:
    """How to follow rows that a commit of lancemig moved to other row addresses."""

    on: tuple[str, ...] = ()
    """The columns by which the commit found the rows, if any."""
    restores: Origin | None = None
    """The version whose deleted rows the commit restored; None if the commit replaced rows."""

    @property
    def properties(self) -> dict[str, str]:
        """The transaction property that stores it."""
        restores = {} if self.restores is None else {"restores": vars(self.restores)}
        return {MOVES: json.dumps({"on": self.on, **restores})}

    @classmethod
    def parse(cls, properties: Mapping[str, str]) -> "Moves | None":
        """Parse the properties of a transaction; None if the commit moved no rows."""
        if MOVES not in properties:
            return None
        document = json.loads(properties[MOVES])
        restores = document.get("restores")
        return cls(tuple(document["on"]), restores and Origin(**restores))


@dataclass(frozen=True)
class Commit:
    """The commit that made one version of a table."""

    version: int
    operation: str
    """The name of Lance's operation: `Append`, `Update`, ..."""
    stamp: Stamp | None
    """None for a commit of another writer."""
    read_version: int
    """The version that the commit was staged from."""
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0
    moves: Moves | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """The transaction properties of another writer's commit."""
    back_to: int | None = None
    """The version that a Restore restored."""


@dataclass(frozen=True)
class Log:
    """The commits of a table after a version, oldest first."""

    name: str
    base: int
    """The version that the log begins after."""
    commits: tuple[Commit, ...]
    missing: tuple[int, ...]
    """The versions that cleanup removed."""

    def whole(self) -> list[Commit]:
        """All commits; OutcomeUnknown if cleanup removed a version, in which a step may have landed."""
        if self.missing:
            raise OutcomeUnknown(
                f"version {self.missing[0]} of table {self.name!r} was removed by cleanup after "
                f"version {self.base} was pinned; it is unknown whether a step was committed in it",
                next_step="lancemig status, then compare the table with its guarded version",
            )
        return list(self.commits)

    def of(self, run: str, wanted: Callable[[str], bool]) -> list[Commit]:
        """The commits of a run whose step is `wanted`, except in versions that cleanup removed."""
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
    commits, missing = [], []
    for version in versions:
        try:
            with translated(f"reading the log of {name}"):
                commits.append(_commit(dataset, version))
        except Missing:
            missing.append(version)
    return Log(name, base, tuple(commits), tuple(missing))


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
        _unnamed_operation(dataset, version) if name == "BaseOperation" else name,
        stamp,
        int(properties.get(READ_VERSION, transaction.read_version)),
        changed,
        skipped,
        indeterminate,
        Moves.parse(properties),
        {} if stamp else dict(properties),
        int(transaction.operation.version) if name == "Restore" else None,
    )


def _unnamed_operation(dataset: lance.LanceDataset, version: int) -> str:
    """The name of an operation for which pylance has no class, as of the first commit of a compaction."""
    before, after = (
        [fragment.metadata for fragment in dataset.checkout_version(at).get_fragments()]
        for at in (version - 1, version)
    )
    return "ReserveFragments" if before == after else "Unknown"
