"""One branch of a forked history is put on top of another: what its files say then.

`rewritten` is pure; `put_on_top` reads. Nothing here writes.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lancemig.catalog.value import Value
from lancemig.errors import ScriptError
from lancemig.script.choice import Choice, choose, chosen
from lancemig.script.header import Header, header_of, read_bytes
from lancemig.script.journal import Journal, Written, text_of
from lancemig.script.line import line_of
from lancemig.script.numbers import is_number, largest, numbered
from lancemig.script.relink import relinked
from lancemig.script.twins import Side, fork_of


class Moved(Value):
    """A file that was moved: its path before and after, and what it says now, as people read it."""

    old: Path
    new: Path
    changes: tuple[str, ...]


class Rewrite(NamedTuple):
    """A file, and the name and the bytes that it is to have."""

    header: Header
    path: Path
    content: bytes
    changes: tuple[str, ...]


def put_on_top(
    headers: Sequence[Header], named: str | None, applied: Mapping[str, str], sides: Sequence[Side] = ()
) -> tuple[Rewrite, ...]:
    """What it takes to put the branch that `choose` finds on top of the other, its first revision first.

    What all files will say is one line. Where branches share ids, `sides` of the sum file tell which files
    belong together, and the digests in `applied` which of them were applied. Raises ScriptError where
    `choose` does, and for a file that changed meanwhile, cannot be rewritten, or would get the name of
    another.
    """
    fork = fork_of(headers, sides)
    choice = choose(headers, named, applied) if fork is None else chosen(fork, headers, named, applied)
    rewrites = rewritten(choice, {header.path: _unchanged(header) for header in choice.moved})
    _refuse_taken(rewrites)
    return rewrites


def journal_of(rewrites: Sequence[Rewrite], command: str) -> Journal:
    """The rewrites as changes to the files in their folder."""
    known = {each.header.path.name: each.header.sha256 for each in rewrites}
    written = [
        Written(
            name=each.path.name,
            text=text_of(each.content),
            like=each.header.path.name,
            over=known.get(each.path.name),
        )
        # The later number first: it frees the name that the one below it may take.
        for each in reversed(rewrites)
    ]
    names = {each.name for each in written}
    return Journal(
        command=command,
        written=tuple(written),
        removed={name: digest for name, digest in known.items() if name not in names},
        told={"moved": [_moved(each).model_dump(mode="json") for each in rewrites]},
    )


def moves_told(journal: Journal) -> list[Moved]:
    """The files that a rebase moved, the first revision first."""
    return [Moved.model_validate(each) for each in journal.told.get("moved", [])]


def _moved(each: Rewrite) -> Moved:
    return Moved(old=each.header.path, new=each.path, changes=each.changes)


def rewritten(choice: Choice, contents: Mapping[Path, bytes]) -> tuple[Rewrite, ...]:
    """What changes in the files of the moved branch, in its order, so that it follows the line's head.

    A number that is taken or not above those below it becomes the next one, and with it the beginning of
    the file's name; another id changes only if it is taken. Raises ScriptError where the results do not
    form one line.
    """
    parent = choice.line[-1].revision
    rewrites, after = list[Rewrite](), list[Header]()
    for header, revision in zip(choice.moved, _new_ids(choice), strict=True):
        path = _renamed(header, revision)
        wanted = header.model_copy(update={"path": path, "revision": revision, "down_revision": parent})
        changes = tuple(_changes(header, wanted))
        if changes:
            content = relinked(header, contents[header.path], wanted)
            wanted = header_of(path, content)
            rewrites.append(Rewrite(header, path, content, changes))
        after.append(wanted)
        parent = revision
    line_of([*choice.line, *after])
    return tuple(rewrites)


def _changes(header: Header, wanted: Header) -> Iterator[str]:
    for name in ("revision", "down_revision"):
        old, new = getattr(header, name), getattr(wanted, name)
        if old != new:
            yield f"{name} {old or 'None'} -> {new}"


def _new_ids(choice: Choice) -> list[str]:
    rest = [*choice.line, *choice.others]
    taken = {header.revision for header in rest}
    ordered = all(map(is_number, taken))
    numbers = [header.revision for header in (*rest, *choice.moved)]
    top, ids = largest(taken), list[str]()
    for header in choice.moved:
        revision = header.revision
        if revision in taken or (ordered and is_number(revision) and int(revision) <= top):
            revision = _next(header, taken, numbered(top + 1, numbers))
        if is_number(revision):
            top = max(top, int(revision))
        taken.add(revision)
        ids.append(revision)
    return ids


def _next(header: Header, taken: set[str], number: str) -> str:
    """`number` for a number; for another id that is taken, the id with the first free number behind it."""
    if is_number(header.revision):
        return number
    tries = (f"{header.revision}_{n}" for n in range(2, len(taken) + 3))
    return next(revision for revision in tries if revision not in taken)


def _renamed(header: Header, revision: str) -> Path:
    """The path with the new id where the name begins with the old one, as a word of its own."""
    rest = header.path.name.removeprefix(header.revision)
    if rest == header.path.name or rest[0].isalnum():
        return header.path
    return header.path.with_name(revision + rest)


def _unchanged(header: Header) -> bytes:
    content = read_bytes(header.path)
    if header_of(header.path, content) != header:
        raise ScriptError(
            f"{header.path} was changed while lancemig read it", next_step="run the command again"
        )
    return content


def _refuse_taken(rewrites: Sequence[Rewrite]) -> None:
    left = {each.header.path for each in rewrites if each.path != each.header.path}
    for each in rewrites:
        if each.path != each.header.path and each.path not in left and os.path.lexists(each.path):
            said = f"{each.header.path} would be renamed to {each.path}, which already exists"
            raise ScriptError(said, next_step="rename one of the two files, then: lancemig rebase")
