"""A table's own log of commits: which of our steps have landed, and what others did meanwhile."""

from dataclasses import dataclass
from typing import Any

import lance

from lancemig.errors import OutcomeUnknown
from lancemig.store.tables.failures import Missing, translated

RUN, REVISION, STEP = "lancemig.run", "lancemig.revision", "lancemig.step"
# What Lance keeps as a read version is the one it rebased onto (tests/surface/test_lance_rebase.py).
READ_VERSION = "lancemig.read_version"
_COUNTS = "lancemig.changed", "lancemig.skipped", "lancemig.indeterminate"


@dataclass(frozen=True)
class Stamp:
    """What each of our commits carries, so that the table itself says that a step has landed."""

    run: str
    revision: str
    step: str

    def properties(self, changed: int, skipped: int, indeterminate: int) -> dict[str, str]:
        """The transaction properties: the stamp, and what the commit did."""
        counts = zip(_COUNTS, (changed, skipped, indeterminate), strict=True)
        return {
            RUN: self.run,
            REVISION: self.revision,
            STEP: self.step,
            **{name: str(value) for name, value in counts},
        }


@dataclass(frozen=True)
class Commit:
    """One version of a table: what kind of commit made it, and our stamp if it was ours.

    `read_version` is what one of ours was staged from; others came in between it and `version`.
    """

    version: int
    operation: str
    stamp: Stamp | None
    read_version: int
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0


def commits_since(dataset: lance.LanceDataset, base: int, name: str) -> list[Commit]:
    """The commits after version `base` up to the pinned one, oldest first.

    Raises OutcomeUnknown where that part of the log has been cleaned away: a step in it may have landed.
    """
    found = []
    for version in range(base + 1, int(dataset.version) + 1):
        try:
            with translated(f"reading the log of {name}"):
                found.append(_commit(dataset, version))
        except Missing as error:
            raise OutcomeUnknown(
                f"version {version} of table {name!r} was cleaned away since version {base} was pinned; "
                "whether a step landed in it cannot be told",
                next_step="lancemig status, and compare the table with its guarded version",
            ) from error
    return found


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
    )


def _nameless(dataset: lance.LanceDataset, version: int) -> str:
    """A commit for which pylance has no class: what a compaction commits first, if no fragment changed."""
    before, after = (
        [fragment.metadata for fragment in dataset.checkout_version(at).get_fragments()]
        for at in (version - 1, version)
    )
    return "ReserveFragments" if before == after else "Unknown"
