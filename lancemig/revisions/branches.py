"""Which branch of a forked history `lancemig rebase` moves, and onto which revisions. Pure.

`choose_branch` is the entry. It knows two kinds of forks. In the plain one, the files tell the branches: each
follows one parent. Where branches share ids, or one began at a revision that was squashed since, the two
sides of a git conflict in the sum file tell which files belong together (`Fork`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lancemig.catalog.value import format_revision
from lancemig.errors import ScriptError, TwoHeads
from lancemig.revisions.chain import chain_of, format_headers, heads_of, sorted_headers
from lancemig.revisions.header import Header, did_you_mean, largest_number, padded_number

Branch = tuple[Header, ...]
"""Headers that follow each other, the oldest first."""

Side = Sequence[tuple[str, str]]
"""One side of a sum file: revisions with the digests of their files, in their order."""

NAME_ONE = "lancemig rebase FILE, where FILE belongs to the branch to move"
NAME_OTHER = "lancemig rebase FILE, where FILE belongs to another branch"


class BranchChoice(NamedTuple):
    """The branch to move, and what it moves onto."""

    moved: Branch
    """The branch to move, from its first revision to its head."""
    onto: Branch
    """The chain from base to the head that `moved` is to follow."""
    others: Branch
    """The headers of further branches, which stay as they are."""


class Fork(NamedTuple):
    """A fork into two branches."""

    common: Branch
    """The headers that both branches follow."""
    branches: tuple[Branch, Branch]


def choose_branch(
    headers: Iterable[Header], named: str | None, applied: Mapping[str, str], sides: Sequence[Side] = ()
) -> BranchChoice:
    """Choose the branch to move: the one that `named` is on, else the only one that was not applied.

    Of more than two branches, the one moved goes onto an applied one if there is one, else onto the first by
    file name.

    Args:
        headers: All migration files.
        named: A path, a file name, an id or a unique prefix of one. Of two files that share an id, the path
            of one asserts that the other is the applied one.
        applied: The applied revisions, with the digests of their files.
        sides: The sides of the sum file.

    Raises:
        TwoHeads: Nothing tells which branch is to move.
        ScriptError: There is no fork, the branch to move was applied, or the files do not tell which of two
            files with one id the others follow.
    """
    ordered = sorted_headers(headers)
    fork = _find_fork(ordered, sides)
    if fork is None:
        return _choose_by_files(ordered, named, applied)
    return _choose_in_fork(fork, ordered, named, applied)


def find_header(headers: Sequence[Header], text: str) -> Header:
    """The header that `text` names: by path or file name, by id, or by a prefix of an id.

    Unlike `RevisionChain.resolve`, this needs no chain. Raises ScriptError where `text` names none or
    several.
    """
    matches = (
        [h for h in headers if text == h.path.name or Path(text).resolve() == h.path.resolve()],
        [h for h in headers if text == h.revision],
        [h for h in headers if text and h.revision.startswith(text)],
    )
    best = next(filter(None, matches), [])
    if len(best) == 1:
        return best[0]
    if best:
        message = f"{text} is ambiguous: {format_headers(best)}"
        raise ScriptError(message, next_step="give the path of one of these files")
    suggestion = did_you_mean(text, [name for h in headers for name in (h.path.name, h.revision)])
    raise ScriptError(f"no file or revision is named {text!r}{suggestion}", next_step="lancemig heads")


def _find_fork(headers: Sequence[Header], sides: Sequence[Side]) -> Fork | None:
    """The two branches that all headers form; None where the files tell them, or the sides do not.

    The files do not tell them where ids are shared, or where a branch began at a revision squashed since.
    """
    known = {header.revision for header in headers}
    squashed = _squashed_ids(headers) - known
    if len(known) == len(headers) and not any(header.down_revision in squashed for header in headers):
        return None
    branches = [branch for side in sides if (branch := _branch_of_side(headers, side)) is not None]
    if len(branches) == 1:
        branches += _other_branch(headers, branches[0])
    if len(branches) != 2:
        return None
    first, second = branches
    common = _common_prefix(first, second)
    fork = Fork(common, (first[len(common) :], second[len(common) :]))
    complete = {header.path for header in (*first, *second)} == {header.path for header in headers}
    return fork if complete and all(fork.branches) and common else None


def _squashed_ids(headers: Iterable[Header]) -> set[str]:
    return {revision for header in headers for revision in header.replaces}


def _branch_of_side(headers: Sequence[Header], side: Side) -> Branch | None:
    """The files of one side, without squashed ones; None where a file is missing, or does not follow."""
    by_entry = {(header.revision, one): header for header in headers for one in header.digests}
    squashed = _squashed_ids(headers)
    branch, parent = list[Header](), None
    for entry in side:
        header = by_entry.get(entry)
        if header is None and entry[0] not in squashed:
            return None
        if header is not None:
            if header.down_revision != parent:
                return None
            branch.append(header)
        parent = entry[0]
    return tuple(branch)


def _other_branch(headers: Iterable[Header], first: Branch) -> list[Branch]:
    """The branch that the remaining files form on top of a part of `first`; empty where they form none."""
    remaining = {header.revision: header for header in headers if header not in first}
    children = {header.down_revision: header for header in remaining.values()}
    starts = [header for header in remaining.values() if header.down_revision not in remaining]
    if len(children) < len(remaining) or len(starts) != 1:
        return []
    ids = [header.revision for header in first]
    if starts[0].down_revision not in ids:
        return []
    branch = [*first[: ids.index(starts[0].down_revision) + 1], starts[0]]
    while branch[-1].revision in children:
        branch.append(children[branch[-1].revision])
    return [tuple(branch)]


def _common_prefix(first: Branch, second: Branch) -> Branch:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return first[:count]


def _choose_in_fork(
    fork: Fork, headers: Sequence[Header], named: str | None, applied: Mapping[str, str]
) -> BranchChoice:
    """Choose between the two branches of `fork`, whose applied files are identified by their digests."""
    applied_branches = [
        branch for branch in fork.branches if any(_file_was_applied(header, applied) for header in branch)
    ]
    if named is not None:
        header = find_header(headers, named)
        moved = next((branch for branch in fork.branches if header in branch), None)
        if moved is None:
            raise _below_fork_error(header)
        _refuse_applied([header for header in moved if _file_was_applied(header, applied)])
    elif len(applied_branches) == 1:
        moved = next(branch for branch in fork.branches if branch is not applied_branches[0])
    else:
        raise _undecided_error(fork.branches, unapplied=not applied_branches)
    kept = next(branch for branch in fork.branches if branch is not moved)
    return BranchChoice(moved, (*fork.common, *kept), ())


def _file_was_applied(header: Header, applied: Mapping[str, str]) -> bool:
    """Whether this very file was applied, and not another one with its id; for a squash, what it replaces."""
    if header.replaces:
        return header.revision in applied
    return header.has_digest(applied.get(header.revision))


def _choose_by_files(headers: Sequence[Header], named: str | None, applied: Collection[str]) -> BranchChoice:
    """Choose between the branches that the files form."""
    _refuse_without_fork(headers)
    moved = _unapplied_branch(headers, applied) if named is None else _named_branch(headers, named, applied)
    rest = [header for header in headers if header not in moved]
    branches = _branches(rest)
    kept = next((branch for branch in branches if _has_applied_id(branch, applied)), branches[0])
    others = tuple(header for branch in branches if branch is not kept for header in branch)
    onto = [header for header in rest if header not in others]
    for header in onto:
        if len(_with_id(rest, header.revision)) > 1:
            raise _ambiguous_parent_error(headers, moved[0], header.revision)
    return BranchChoice(moved, chain_of(onto).headers, others)


def _refuse_without_fork(headers: Sequence[Header]) -> None:
    """Only forks and shared ids can be resolved here; `chain_of` raises for everything else."""
    unique = {header.revision: header for header in reversed(headers)}
    try:
        chain = chain_of(unique.values())
    except TwoHeads:
        return
    if len(unique) == len(headers):
        message = f"nothing to rebase: the history has one head, {format_revision(chain.head)}"
        raise ScriptError(message, next_step="lancemig history")


def _branches(headers: Sequence[Header]) -> list[Branch]:
    """For each head, the revisions that lead to no other head."""
    return [_branch_below(headers, head) for head in heads_of(headers)]


def _branch_below(headers: Sequence[Header], head: Header) -> Branch:
    branch = [head]
    while True:
        parent = branch[-1].down_revision
        parents = _with_id(headers, parent)
        siblings = [header for header in headers if header.down_revision == parent]
        if len(parents) != 1 or len(siblings) > 1:
            return tuple(reversed(branch))
        branch += parents


def _with_id(headers: Iterable[Header], revision: str | None) -> list[Header]:
    return [header for header in headers if header.revision == revision]


def _has_applied_id(branch: Iterable[Header], applied: Collection[str]) -> bool:
    return any(header.revision in applied for header in branch)


def _unapplied_branch(headers: Sequence[Header], applied: Collection[str]) -> Branch:
    for header in headers:
        twins = _with_id(headers, header.revision)
        if len(twins) > 1:
            message = (
                f"{format_headers(twins)} have the same id, and lancemig cannot decide which one to move"
            )
            raise TwoHeads(message, next_step=NAME_ONE)
    branches = _branches(headers)
    unapplied = [branch for branch in branches if not _has_applied_id(branch, applied)]
    if len(unapplied) == 1:
        return unapplied[0]
    raise _undecided_error(unapplied or branches, unapplied=bool(unapplied))


def _named_branch(headers: Sequence[Header], named: str, applied: Collection[str]) -> Branch:
    header = find_header(headers, named)
    moved = next((branch for branch in _branches(headers) if header in branch), None)
    if moved is None:
        moved = _single_file_branch(headers, header, applied)
    _refuse_applied([h for h in moved if h.revision in applied and len(_with_id(headers, h.revision)) == 1])
    return moved


def _single_file_branch(headers: Sequence[Header], header: Header, applied: Collection[str]) -> Branch:
    """The branch of a file that leads to several heads, but is one of two files with the same id."""
    if len(_with_id(headers, header.revision)) == 1:
        raise _below_fork_error(header)
    followers = [follower for follower in headers if follower.down_revision == header.revision]
    # Applied followers follow the applied file, and that one is not moved.
    if not all(follower.revision in applied for follower in followers):
        raise _ambiguous_parent_error(headers, header, header.revision)
    return (header,)


def _refuse_applied(applied: Sequence[Header]) -> None:
    """Refuse to move a branch of which these headers were applied."""
    if applied:
        message = f"{format_headers(applied)} was already applied and cannot be moved"
        raise ScriptError(message, next_step=NAME_OTHER)


def _undecided_error(branches: Sequence[Branch], *, unapplied: bool) -> TwoHeads:
    listed = " and ".join(format_headers(branch) for branch in branches)
    if unapplied:
        message = f"lancemig cannot decide which branch to move: none of them was applied: {listed}"
        return TwoHeads(message, next_step=NAME_ONE)
    return TwoHeads(
        f"every branch has applied revisions, which cannot be moved: {listed}",
        next_step=f"downgrade one branch in the catalog where it was applied, then: {NAME_ONE}",
    )


def _below_fork_error(header: Header) -> ScriptError:
    message = f"{header.revision} ({header.path}) is before the fork: all branches follow it"
    return ScriptError(message, next_step=NAME_ONE)


def _ambiguous_parent_error(headers: Sequence[Header], moved: Header, shared: str) -> ScriptError:
    twins = _with_id(headers, shared)
    followers = [header for header in headers if header.down_revision == shared]
    what = format_headers(followers or [moved])
    file = moved.path if moved in twins else twins[-1].path
    ids = [header.revision for header in headers]
    free = padded_number(largest_number(ids) + 1, ids)
    return ScriptError(
        f"{format_headers(twins)} have the same id, and the files do not tell which of them {what} follows",
        next_step=f'replace "{shared}" by "{free}" in {file} and in `down_revision` of the revisions that '
        f"follow it, then: lancemig rebase {file}",
    )
