"""Moving one branch of a forked history onto another: the new ids, names and contents of its files.

`rebase_branch` is the entry, `journal_of` makes its result a `Journal` that changes the files. Nothing here
writes; `rewrite_branch` and `relink` do not read either.
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


class MovedFile(FrozenModel):
    """A moved file: its old and new path, and the changes of its ids as text."""

    old: Path
    new: Path
    changes: tuple[str, ...]


class Rewrite(NamedTuple):
    """The new path and content of a file, and the changes of its ids as text."""

    header: Header
    path: Path
    content: bytes
    changes: tuple[str, ...]


def rebase_branch(
    headers: Sequence[Header], named: str | None, applied: Mapping[str, str], sides: Sequence[Side] = ()
) -> tuple[Rewrite, ...]:
    """The rewrites that move the branch chosen by `choose_branch` onto the other, the first revision first.

    After them, all files form one chain.

    Args:
        headers: All migration files.
        named: What names the branch to move, as in `choose_branch`.
        applied: The applied revisions, with the digests of their files.
        sides: The sides of the sum file, which tell the branches apart where they share ids.

    Raises:
        ScriptError: As in `choose_branch`; or a file has changed since it was read, cannot be rewritten, or
            would get the name of another file.
    """
    choice = choose_branch(headers, named, applied, sides)
    rewrites = rewrite_branch(choice, {header.path: _read_unchanged(header) for header in choice.moved})
    _refuse_taken(rewrites)
    return rewrites


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


def rewrite_branch(choice: BranchChoice, contents: Mapping[Path, bytes]) -> tuple[Rewrite, ...]:
    """The rewrites after which the moved branch follows the head of the other, in its order.

    An id that is a number becomes the next number where it is taken, or not above those before it; the
    beginning of the file name changes with it. Another id changes only where it is taken.

    Args:
        choice: The branch to move, and the chain to move it onto.
        contents: The bytes of the files to move.

    Raises:
        ScriptError: The results do not form one chain.
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
    """`number` for an id that is a number; for another one, the id with the first free suffix: `a1b2_2`."""
    if is_number(header.revision):
        return number
    candidates = (f"{header.revision}_{suffix}" for suffix in range(2, len(taken) + 3))
    return next(revision for revision in candidates if revision not in taken)


def _renamed(header: Header, revision: str) -> Path:
    """The path with the new id, where the file name begins with the old id as a whole word."""
    rest = header.path.name.removeprefix(header.revision)
    if rest == header.path.name or rest[0].isalnum():
        return header.path
    return header.path.with_name(revision + rest)


def relink(header: Header, content: bytes, wanted: Header) -> bytes:
    """Replace the ids of a file in its variables and its docstring; every other byte stays.

    Args:
        header: The header of the file as it is.
        content: The bytes of the file.
        wanted: The header that the result has, apart from the digest.

    Returns:
        The new bytes; ScriptError where their header is not `wanted`.
    """
    tree = parse_migration(header.path, content)
    body = content.removeprefix(_BOM)
    starts = [0, *accumulate(map(len, body.splitlines(keepends=True)))]

    def byte_range(node: ast.expr) -> slice:
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        return slice(starts[node.lineno - 1] + node.col_offset, end)

    assigned = assignments(tree)
    fields: dict[str, str] = {}
    edits: list[Edit] = []
    for name, field in (("revision", "Revision ID"), ("down_revision", "Revises")):
        new, node = getattr(wanted, name), assigned[name][-1].value
        if new != getattr(header, name) and node is not None:
            fields[field] = new
            edits.append((byte_range(node), _literal(body[byte_range(node)], new)))
    first = tree.body[0]
    if isinstance(first, ast.Expr):
        edits += _field_edits(body, byte_range(first.value), fields)
    for span, text in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        body = body[: span.start] + text + body[span.stop :]
    result = _BOM + body if content.startswith(_BOM) else body
    _check_result(header, result, wanted)
    return result


def _literal(old: bytes, new: str) -> bytes:
    """`new` in the quotes of `old`, or in double quotes where `old` has none."""
    opening = _OPENING.match(old)
    quotes = opening[1] if opening else b'"'
    return quotes + new.encode() + quotes


def _field_edits(body: bytes, literal: slice, fields: Mapping[str, str]) -> Iterator[Edit]:
    """Edits of the first line of each field below the docstring's message, as `parse_header` reads them."""
    opening = _OPENING.match(body[literal])
    if opening is None:
        return
    offset, remaining, is_below_message = literal.start + opening.end(), dict(fields), False
    for line in body[offset : literal.stop - len(opening[1])].decode().splitlines(keepends=True):
        match = _FIELD.fullmatch(line.rstrip()) if is_below_message else None
        if match and match[1] in remaining:
            start = offset + len(line[: match.start(2)].encode())
            new = remaining.pop(match[1]).encode()
            yield slice(start, start + len(match[2].encode())), new if match[2] else b" " + new
        is_below_message = is_below_message or bool(line.strip())
        offset += len(line.encode())


def _check_result(header: Header, content: bytes, wanted: Header) -> None:
    message = f"{header.path}: its header cannot be rewritten"
    by_hand = (
        f'write `revision = "{wanted.revision}"` and `down_revision = "{wanted.down_revision}"` there '
        "and in the docstring by hand, then: lancemig history"
    )
    try:
        result = parse_header(wanted.path, content)
    except ScriptError as error:
        raise ScriptError(f"{message}; it would be refused: {error.message}", next_step=by_hand) from error
    if result != wanted.model_copy(update={"sha256": result.sha256, "digests": result.digests}):
        raise ScriptError(f"{message} without changing more than its ids", next_step=by_hand)


def journal_of(rewrites: Sequence[Rewrite], command: str) -> Journal:
    """The rewrites as a journal of changes to the files in their folder."""
    known = {rewrite.header.path.name: rewrite.header.sha256 for rewrite in rewrites}
    written = [
        PendingFile(
            name=rewrite.path.name,
            text=text_of(rewrite.content),
            like=rewrite.header.path.name,
            over=known.get(rewrite.path.name),
        )
        # The highest number first: it frees the name that the file before it may take.
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
    """The files that the rebase of a journal moves, the first revision first."""
    return [MovedFile.model_validate(rewrite) for rewrite in journal.told.get("moved", [])]


def _moved(rewrite: Rewrite) -> MovedFile:
    return MovedFile(old=rewrite.header.path, new=rewrite.path, changes=rewrite.changes)
