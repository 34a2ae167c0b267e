"""Two branches gave their revisions the same ids: which files belong together is in the sum file.

Each side of a conflict that git left in it lists one branch, with the digests of its files; one without
a conflict lists one of them, and the other files are the other branch. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lancemig.errors import ScriptError
from lancemig.script.header import Header

Branch = tuple[Header, ...]
Side = Sequence[tuple[str, str]]
"""Revisions with the digests of their files, in their order."""


class Fork(NamedTuple):
    """The line that both branches stand on, and what each has above it."""

    below: Branch
    tails: tuple[Branch, Branch]


def fork_of(headers: Sequence[Header], sides: Sequence[Side]) -> Fork | None:
    """The two branches that all headers are made of; None where a line tells them, or the sides do not.

    No line tells them where ids are shared, or where one began at a revision that was squashed meanwhile.
    """
    known = {header.revision for header in headers}
    gone = squashed_ids(headers) - known
    if len(known) == len(headers) and not any(header.down_revision in gone for header in headers):
        return None
    told = [branch for side in sides if (branch := _told(headers, side)) is not None]
    if len(told) == 1:
        told += _left(headers, told[0])
    if len(told) != 2:
        return None
    one, other = told
    below = _shared(one, other)
    fork = Fork(below, (one[len(below) :], other[len(below) :]))
    whole = {header.path for header in (*one, *other)} == {header.path for header in headers}
    return fork if whole and all(fork.tails) and below else None


def squashed_ids(headers: Iterable[Header]) -> set[str]:
    """The revisions that were squashed into one of these."""
    return {revision for header in headers for revision in header.replaces}


def applied_tails(fork: Fork, applied: Mapping[str, str]) -> list[Branch]:
    """The branches of which a file was applied: the very one, or what it was squashed into."""
    return [tail for tail in fork.tails if any(_was_applied(header, applied) for header in tail)]


def _was_applied(header: Header, applied: Mapping[str, str]) -> bool:
    if header.replaces:
        return header.revision in applied
    return header.sha256 == applied.get(header.revision)


def _told(headers: Sequence[Header], side: Side) -> Branch | None:
    """The files of one side, without those squashed; None where another is not there, or does not follow."""
    known = {(header.revision, header.sha256): header for header in headers}
    gone = squashed_ids(headers)
    branch, before = list[Header](), None
    for pair in side:
        header = known.get(pair)
        if header is None and pair[0] not in gone:
            return None
        if header is not None:
            if header.down_revision != before:
                return None
            branch.append(header)
        before = pair[0]
    return tuple(branch)


def _left(headers: Iterable[Header], told: Branch) -> list[Branch]:
    """The branch that the other files form on top of the one told."""
    left = {header.revision: header for header in headers if header not in told}
    children = {header.down_revision: header for header in left.values()}
    starts = [header for header in left.values() if header.down_revision not in left]
    if len(children) < len(left) or len(starts) != 1:
        return []
    ids = [header.revision for header in told]
    if starts[0].down_revision not in ids:
        return []
    branch = [*told[: ids.index(starts[0].down_revision) + 1], starts[0]]
    while branch[-1].revision in children:
        branch.append(children[branch[-1].revision])
    return [tuple(branch)]


def _shared(one: Branch, other: Branch) -> Branch:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return one[:count]


def refuse_applied(tail: Branch, applied: Mapping[str, str], *, next_step: str) -> None:
    """ScriptError where the branch that is to move was applied."""
    fixed = [header for header in tail if _was_applied(header, applied)]
    if fixed:
        said = ", ".join(f"{header.revision} ({header.path})" for header in fixed)
        raise ScriptError(f"{said} was already applied and cannot be moved", next_step=next_step)
