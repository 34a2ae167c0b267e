"""Which versions of tables the lineage still needs: for `--at`, undo, reconciliation and proof."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from lancemig.catalog.lineage import Action, LineageEntry, Pointer
from lancemig.catalog.retention import moment

_GUARD = re.compile(r"lancemig/[^/]+/v(\d+)(\.\d+)?")

Needed = dict[str, set[int]]
"""Versions by the table's name, in whichever root."""


def guarded_version(guard: str) -> int | None:
    """The version that a guard of lancemig's keeps; None for a branch of somebody else's."""
    found = _GUARD.fullmatch(guard)
    return int(found[1]) if found else None


def needed_versions(
    entries: Sequence[LineageEntry], pointer: Pointer | None, now: datetime, retention: timedelta
) -> dict[str, Needed]:
    """By root, the versions that entries of a lineage, newest first, name and that are to be kept.

    Entries inside the retention; and whatever their age, the one that made the live revision live, the last
    change of root, and the reconciliations since.
    """
    found: dict[str, Needed] = {}
    for entry in _kept(entries, now, retention):
        roots = {entry.origin.prefix, entry.target.prefix}
        if entry.action is Action.RECONCILE and pointer is not None and pointer.previous_prefix is not None:
            # It tells how far the old root was brought over.
            roots.add(pointer.previous_prefix)
        for root in roots:
            versions = found.setdefault(root, {})
            for table, version in _named(entry):
                versions.setdefault(table, set()).add(version)
    return found


def _kept(entries: Sequence[LineageEntry], now: datetime, retention: timedelta) -> Iterable[LineageEntry]:
    arrived = flipped = False
    for entry in entries:
        moves, changes_root = entry.origin != entry.target, entry.origin.prefix != entry.target.prefix
        always = (moves and not arrived) or (changes_root and not flipped)
        always = always or (entry.action is Action.RECONCILE and not flipped)
        # With no retention at all, nothing of the past is kept.
        if always or now - moment(entry.finished) < retention:
            yield entry
        arrived, flipped = arrived or moves, flipped or changes_root


def _named(entry: LineageEntry) -> Iterable[tuple[str, int]]:
    for change in entry.tables:
        for version in (change.version_before, change.version_after):
            if version is not None:
                yield change.table, version
    for step in entry.steps:
        for version in step.versions:
            yield step.table, version
            # What an undo compares it with.
            yield step.table, version - 1
