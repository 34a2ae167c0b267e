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
    """The two branches that all headers are made of; None where no id is shared, or the sides do not tell."""
    if len({header.revision for header in headers}) == len(headers):
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


def applied_tails(fork: Fork, applied: Mapping[str, str]) -> list[Branch]:
    """The branches of which a file was applied: the very one, not just another with its id."""
    return [
        tail for tail in fork.tails if any(header.sha256 == applied.get(header.revision) for header in tail)
    ]


def _told(headers: Iterable[Header], side: Side) -> Branch | None:
    """The files of one side; None where one is not there, or does not follow the one before."""
    known = {(header.revision, header.sha256): header for header in headers}
    found = [known.get(pair) for pair in side]
    branch = tuple(header for header in found if header is not None)
    return branch if len(branch) == len(found) and _follow(branch) else None


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


def _follow(branch: Branch) -> bool:
    parents = [None, *(header.revision for header in branch)]
    return all(header.down_revision == parent for header, parent in zip(branch, parents, strict=False))


def _shared(one: Branch, other: Branch) -> Branch:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return one[:count]


def refuse_applied(tail: Branch, applied: Mapping[str, str], *, next_step: str) -> None:
    """ScriptError where the branch that is to move was applied."""
    fixed = [header for header in tail if header.sha256 == applied.get(header.revision)]
    if fixed:
        said = ", ".join(f"{header.revision} ({header.path})" for header in fixed)
        raise ScriptError(f"{said}: was applied, and what was applied is not moved", next_step=next_step)
