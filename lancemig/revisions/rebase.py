"""One branch of a forked history is put on top of another: what its files say then.

`rewritten` is pure; `put_on_top` reads. Nothing here writes.
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from lancemig.catalog.value import FrozenModel
from lancemig.errors import ScriptError
from lancemig.revisions.branches import BranchChoice, Side, choose_branch
from lancemig.revisions.chain import chain_of
from lancemig.revisions.header import (
    Header,
    assignments,
    is_number,
    largest_number,
    padded_number,
    parse_header,
    parse_migration,
    read_bytes,
)
from lancemig.revisions.journal import Journal, PendingFile, text_of

_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(r"\s*(Revision ID|Revises)\s*:\s*(.*?)")
_OPENING = re.compile(rb"[rRuU]?(\"\"\"|'''|\"|')")

Edit = tuple[slice, bytes]


def relink(header: Header, content: bytes, wanted: Header) -> bytes:
    """`content` with the ids of `wanted` in its variables and docstring; every other byte as it was.

    What comes out reads as `wanted` does, but for the checksum; ScriptError where it would not.
    """
    tree = parse_migration(header.path, content)
    body = content.removeprefix(_BOM)
    starts = [0, *accumulate(map(len, body.splitlines(keepends=True)))]

    def place(node: ast.expr) -> slice:
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        return slice(starts[node.lineno - 1] + node.col_offset, end)

    found = assignments(tree)
    fields: dict[str, str] = {}
    edits: list[Edit] = []
    for name, field in (("revision", "Revision ID"), ("down_revision", "Revises")):
        new, node = getattr(wanted, name), found[name][-1].value
        if new != getattr(header, name) and node is not None:
            fields[field] = new
            edits.append((place(node), _literal(body[place(node)], new)))
    first = tree.body[0]
    if isinstance(first, ast.Expr):
        edits += _field_edits(body, place(first.value), fields)
    for where, text in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        body = body[: where.start] + text + body[where.stop :]
    result = _BOM + body if content.startswith(_BOM) else body
    _check_result(header, result, wanted)
    return result


def _literal(old: bytes, new: str) -> bytes:
    """`new` in the quotes of `old`, in double ones where it has none."""
    opening = _OPENING.match(old)
    quotes = opening[1] if opening else b'"'
    return quotes + new.encode() + quotes


def _field_edits(body: bytes, literal: slice, fields: Mapping[str, str]) -> Iterator[Edit]:
    """The first line of each field below the docstring's message, as `header_of` reads them."""
    opening = _OPENING.match(body[literal])
    if opening is None:
        return
    at, left, below = literal.start + opening.end(), dict(fields), False
    for line in body[at : literal.stop - len(opening[1])].decode().splitlines(keepends=True):
        match = _FIELD.fullmatch(line.rstrip()) if below else None
        if match and match[1] in left:
            start = at + len(line[: match.start(2)].encode())
            new = left.pop(match[1]).encode()
            yield slice(start, start + len(match[2].encode())), new if match[2] else b" " + new
        below = below or bool(line.strip())
        at += len(line.encode())


def _check_result(header: Header, content: bytes, wanted: Header) -> None:
    message = f"{header.path}: its header cannot be rewritten"
    by_hand = (
        f'write `revision = "{wanted.revision}"` and `down_revision = "{wanted.down_revision}"` there '
        "and in the docstring by hand, then: lancemig history"
    )
    try:
        found = parse_header(wanted.path, content)
    except ScriptError as error:
        raise ScriptError(f"{message}; it would be refused: {error.message}", next_step=by_hand) from error
    if found != wanted.model_copy(update={"sha256": found.sha256}):
        raise ScriptError(f"{message} without changing more than its ids", next_step=by_hand)


class MovedFile(FrozenModel):
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


def rebase_branch(
    headers: Sequence[Header], named: str | None, applied: Mapping[str, str], sides: Sequence[Side] = ()
) -> tuple[Rewrite, ...]:
    """What it takes to put the branch that `choose` finds on top of the other, its first revision first.

    What all files will say is one line. Where branches share ids, `sides` of the sum file tell which files
    belong together, and the digests in `applied` which of them were applied. Raises ScriptError where
    `choose` does, and for a file that changed meanwhile, cannot be rewritten, or would get the name of
    another.
    """
    choice = choose_branch(headers, named, applied, sides)
    rewrites = rewrite_branch(choice, {header.path: _read_unchanged(header) for header in choice.moved})
    _refuse_taken(rewrites)
    return rewrites


def journal_of(rewrites: Sequence[Rewrite], command: str) -> Journal:
    """The rewrites as changes to the files in their folder."""
    known = {rewrite.header.path.name: rewrite.header.sha256 for rewrite in rewrites}
    written = [
        PendingFile(
            name=rewrite.path.name,
            text=text_of(rewrite.content),
            like=rewrite.header.path.name,
            over=known.get(rewrite.path.name),
        )
        # The later number first: it frees the name that the one below it may take.
        for rewrite in reversed(rewrites)
    ]
    names = {rewrite.name for rewrite in written}
    return Journal(
        command=command,
        written=tuple(written),
        removed={name: digest for name, digest in known.items() if name not in names},
        told={"moved": [_moved(rewrite).model_dump(mode="json") for rewrite in rewrites]},
    )


def moved_files(journal: Journal) -> list[MovedFile]:
    """The files that a rebase moved, the first revision first."""
    return [MovedFile.model_validate(rewrite) for rewrite in journal.told.get("moved", [])]


def _moved(rewrite: Rewrite) -> MovedFile:
    return MovedFile(old=rewrite.header.path, new=rewrite.path, changes=rewrite.changes)


def rewrite_branch(choice: BranchChoice, contents: Mapping[Path, bytes]) -> tuple[Rewrite, ...]:
    """What changes in the files of the moved branch, in its order, so that it follows the line's head.

    A number that is taken or not above those below it becomes the next one, and with it the beginning of
    the file's name; another id changes only if it is taken. Raises ScriptError where the results do not
    form one line.
    """
    parent = choice.onto[-1].revision
    rewrites, after = list[Rewrite](), list[Header]()
    for header, revision in zip(choice.moved, _new_ids(choice), strict=True):
        path = _renamed(header, revision)
        wanted = header.model_copy(update={"path": path, "revision": revision, "down_revision": parent})
        changes = tuple(_changes(header, wanted))
        if changes:
            content = relink(header, contents[header.path], wanted)
            wanted = parse_header(path, content)
            rewrites.append(Rewrite(header, path, content, changes))
        after.append(wanted)
        parent = revision
    chain_of([*choice.onto, *after])
    return tuple(rewrites)


def _changes(header: Header, wanted: Header) -> Iterator[str]:
    for name in ("revision", "down_revision"):
        old, new = getattr(header, name), getattr(wanted, name)
        if old != new:
            yield f"{name} {old or 'None'} -> {new}"


def _new_ids(choice: BranchChoice) -> list[str]:
    rest = [*choice.onto, *choice.others]
    taken = {header.revision for header in rest}
    ordered = all(map(is_number, taken))
    numbers = [header.revision for header in (*rest, *choice.moved)]
    top, ids = largest_number(taken), list[str]()
    for header in choice.moved:
        revision = header.revision
        if revision in taken or (ordered and is_number(revision) and int(revision) <= top):
            revision = _next_id(header, taken, padded_number(top + 1, numbers))
        if is_number(revision):
            top = max(top, int(revision))
        taken.add(revision)
        ids.append(revision)
    return ids


def _next_id(header: Header, taken: set[str], number: str) -> str:
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


def _read_unchanged(header: Header) -> bytes:
    content = read_bytes(header.path)
    if parse_header(header.path, content) != header:
        raise ScriptError(
            f"{header.path} was changed while lancemig read it", next_step="run the command again"
        )
    return content


def _refuse_taken(rewrites: Sequence[Rewrite]) -> None:
    left = {rewrite.header.path for rewrite in rewrites if rewrite.path != rewrite.header.path}
    for rewrite in rewrites:
        if rewrite.path != rewrite.header.path and rewrite.path not in left and os.path.lexists(rewrite.path):
            message = f"{rewrite.header.path} would be renamed to {rewrite.path}, which already exists"
            raise ScriptError(message, next_step="rename one of the two files, then: lancemig rebase")
