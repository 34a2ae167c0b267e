"""Of a forked history, which branch is to move on top of the other. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lancemig.errors import ScriptError, TwoHeads
from lancemig.revisions.chain import chain_of, heads_of
from lancemig.revisions.header import Header, did_you_mean, largest_number, padded_number

Branch = tuple[Header, ...]
Side = Sequence[tuple[str, str]]
"""Revisions with the digests of their files, in their order."""


class Fork(NamedTuple):
    """The line that both branches stand on, and what each has above it."""

    common: Branch
    branches: tuple[Branch, Branch]


def find_fork(headers: Sequence[Header], sides: Sequence[Side]) -> Fork | None:
    """The two branches that all headers are made of; None where a line tells them, or the sides do not.

    No line tells them where ids are shared, or where one began at a revision that was squashed meanwhile.
    """
    known = {header.revision for header in headers}
    gone = squashed_ids(headers) - known
    if len(known) == len(headers) and not any(header.down_revision in gone for header in headers):
        return None
    told = [branch for side in sides if (branch := _branch_of_side(headers, side)) is not None]
    if len(told) == 1:
        told += _other_branch(headers, told[0])
    if len(told) != 2:
        return None
    one, other = told
    below = _common_prefix(one, other)
    fork = Fork(below, (one[len(below) :], other[len(below) :]))
    whole = {header.path for header in (*one, *other)} == {header.path for header in headers}
    return fork if whole and all(fork.branches) and below else None


def squashed_ids(headers: Iterable[Header]) -> set[str]:
    """The revisions that were squashed into one of these."""
    return {revision for header in headers for revision in header.replaces}


def applied_tails(fork: Fork, applied: Mapping[str, str]) -> list[Branch]:
    """The branches of which a file was applied: the very one, or what it was squashed into."""
    return [tail for tail in fork.branches if any(_file_was_applied(header, applied) for header in tail)]


def _file_was_applied(header: Header, applied: Mapping[str, str]) -> bool:
    if header.replaces:
        return header.revision in applied
    return header.sha256 == applied.get(header.revision)


def _branch_of_side(headers: Sequence[Header], side: Side) -> Branch | None:
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


def _other_branch(headers: Iterable[Header], told: Branch) -> list[Branch]:
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


def _common_prefix(one: Branch, other: Branch) -> Branch:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return one[:count]


def refuse_applied(tail: Branch, applied: Mapping[str, str], *, next_step: str) -> None:
    """ScriptError where the branch that is to move was applied."""
    fixed = [header for header in tail if _file_was_applied(header, applied)]
    if fixed:
        said = ", ".join(f"{header.revision} ({header.path})" for header in fixed)
        raise ScriptError(f"{said} was already applied and cannot be moved", next_step=next_step)


NAME_ONE = "lancemig rebase FILE, where FILE belongs to the branch to move"
NAME_OTHER = "lancemig rebase FILE, where FILE belongs to another branch"


class BranchChoice(NamedTuple):
    """The branch to move, from its first revision to its head; the line that it goes on top of; the rest."""

    moved: Branch
    onto: Branch
    others: Branch


def choose_in_fork(
    fork: Fork, headers: Sequence[Header], named: str | None, applied: Mapping[str, str]
) -> BranchChoice:
    """The branch of the fork that is to move: the one that `named` is on, else the one not applied."""
    done = applied_tails(fork, applied)
    if named is not None:
        header = find_header(headers, named)
        moved = next((tail for tail in fork.branches if header in tail), None)
        if moved is None:
            raise _below_fork_error(header)
        refuse_applied(moved, applied, next_step=NAME_OTHER)
    elif len(done) == 1:
        moved = next(tail for tail in fork.branches if tail is not done[0])
    else:
        raise _undecided_error(fork.branches, free=not done)
    kept = next(tail for tail in fork.branches if tail is not moved)
    return BranchChoice(moved, (*fork.common, *kept), ())


def choose_branch(headers: Iterable[Header], named: str | None, applied: Collection[str]) -> BranchChoice:
    """The branch to move: the one that `named` is on, else the only one with no revision in `applied`.

    `named` is a path, a file's name, an id or the beginning of one; of files that share an id, one is
    named by path, and vouches that the other is the applied one. Of more than two branches, the one moved
    goes on top of an applied one if there is one, else of the first by file name.
    Raises TwoHeads where nothing tells which branch is to move; ScriptError where there is but one line,
    where what would move was applied, and where it is not written which of two files with one id the
    others follow.
    """
    given = sorted(headers, key=lambda header: (str(header.path), header.revision))
    _refuse_without_fork(given)
    moved = _unapplied_branch(given, applied) if named is None else _named_branch(given, named, applied)
    rest = [header for header in given if header not in moved]
    tails = _tails(rest)
    under = next((tail for tail in tails if _has_applied_id(tail, applied)), tails[0])
    others = tuple(header for tail in tails if tail is not under for header in tail)
    line = [header for header in rest if header not in others]
    for header in line:
        if len(_with_id(rest, header.revision)) > 1:
            raise _ambiguous_parent_error(given, moved[0], header.revision)
    return BranchChoice(moved, chain_of(line).headers, others)


def find_header(headers: Sequence[Header], text: str) -> Header:
    """The header that `text` names: by path or file name, by id, by the beginning of one id.

    Unlike `Line.resolve`, this needs no line. Raises ScriptError where it names none or several.
    """
    ways = (
        [h for h in headers if text == h.path.name or Path(text).resolve() == h.path.resolve()],
        [h for h in headers if text == h.revision],
        [h for h in headers if text and h.revision.startswith(text)],
    )
    found = next(filter(None, ways), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise ScriptError(
            f"{text} is ambiguous: {_listed(found)}", next_step="give the path of one of these files"
        )
    meant = did_you_mean(text, [name for h in headers for name in (h.path.name, h.revision)])
    raise ScriptError(f"no file or revision is named {text!r}{meant}", next_step="lancemig heads")


def _refuse_without_fork(headers: Sequence[Header]) -> None:
    """Only forks and shared ids can be mended here; `line_of` says what else is wrong."""
    unique = {header.revision: header for header in reversed(headers)}
    try:
        line = chain_of(unique.values())
    except TwoHeads:
        return
    if len(unique) == len(headers):
        said = f"nothing to rebase: the history has one head, {line.head or 'base'}"
        raise ScriptError(said, next_step="lancemig history")


def _tails(headers: Sequence[Header]) -> list[Branch]:
    """For each head, the revisions that lead to no other one."""
    return [_tail(headers, head) for head in heads_of(headers)]


def _tail(headers: Sequence[Header], head: Header) -> Branch:
    tail = [head]
    while True:
        below = tail[-1].down_revision
        parents = [header for header in headers if header.revision == below]
        siblings = [header for header in headers if header.down_revision == below]
        if len(parents) != 1 or len(siblings) > 1:
            return tuple(reversed(tail))
        tail += parents


def _with_id(headers: Iterable[Header], revision: str) -> list[Header]:
    return [header for header in headers if header.revision == revision]


def _has_applied_id(branch: Iterable[Header], applied: Collection[str]) -> bool:
    return any(header.revision in applied for header in branch)


def _unapplied_branch(headers: Sequence[Header], applied: Collection[str]) -> Branch:
    for header in headers:
        twins = _with_id(headers, header.revision)
        if len(twins) > 1:
            said = f"{_listed(twins)} have the same id, and lancemig cannot decide which one to move"
            raise TwoHeads(said, next_step=NAME_ONE)
    tails = _tails(headers)
    free = [tail for tail in tails if not _has_applied_id(tail, applied)]
    if len(free) == 1:
        return free[0]
    raise _undecided_error(free or tails, free=bool(free))


def _undecided_error(tails: Sequence[Branch], *, free: bool) -> TwoHeads:
    branches = " and ".join(_listed(tail) for tail in tails)
    if free:
        said = f"lancemig cannot decide which branch to move: none of them was applied: {branches}"
        return TwoHeads(said, next_step=NAME_ONE)
    return TwoHeads(
        f"every branch has applied revisions, which cannot be moved: {branches}",
        next_step=f"downgrade one branch in the catalog where it was applied, then: {NAME_ONE}",
    )


def _named_branch(headers: Sequence[Header], named: str, applied: Collection[str]) -> Branch:
    header = find_header(headers, named)
    moved = next((tail for tail in _tails(headers) if header in tail), None)
    if moved is None:
        moved = _single_file_branch(headers, header, applied)
    fixed = [h for h in moved if h.revision in applied and len(_with_id(headers, h.revision)) == 1]
    if fixed:
        raise ScriptError(
            f"{_listed(fixed)} was already applied and cannot be moved",
            next_step=NAME_OTHER,
        )
    return moved


def _single_file_branch(headers: Sequence[Header], header: Header, applied: Collection[str]) -> Branch:
    """A file that is not on the way to one head alone, but may be one of two with the same id."""
    if len(_with_id(headers, header.revision)) == 1:
        raise _below_fork_error(header)
    followers = [each for each in headers if each.down_revision == header.revision]
    # What was applied stands on the file that was applied, and that one is not moved.
    if not all(each.revision in applied for each in followers):
        raise _ambiguous_parent_error(headers, header, header.revision)
    return (header,)


def _below_fork_error(header: Header) -> ScriptError:
    said = f"{header.revision} ({header.path}) is before the fork: all branches follow it"
    return ScriptError(said, next_step=NAME_ONE)


def _ambiguous_parent_error(headers: Sequence[Header], moved: Header, shared: str) -> ScriptError:
    twins = _with_id(headers, shared)
    followers = [each for each in headers if each.down_revision == shared]
    what = _listed(followers) or f"{moved.revision} ({moved.path})"
    file = moved.path if moved in twins else twins[-1].path
    ids = [header.revision for header in headers]
    free = padded_number(largest_number(ids) + 1, ids)
    return ScriptError(
        f"{_listed(twins)} have the same id, and the files do not tell which of them {what} follows",
        next_step=f'replace "{shared}" by "{free}" in {file} and in `down_revision` of the revisions that '
        f"follow it, then: lancemig rebase {file}",
    )


def _listed(headers: Iterable[Header]) -> str:
    return ", ".join(f"{header.revision} ({header.path})" for header in headers)
