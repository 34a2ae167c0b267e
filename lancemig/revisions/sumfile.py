"""versions/lancemig.sum: which revisions there are, in which order, each with the digest of its file.

Whoever adds a revision changes the first line, so that two branches that each add one conflict when git
merges them. Each digest is chained with the one before it: no line can be taken out, moved or changed alone.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from lancemig.catalog.checks import Finding
from lancemig.errors import ConfigError
from lancemig.revisions.chain import RevisionChain
from lancemig.revisions.journal import write_atomically

NAME = "lancemig.sum"
FORMAT = 1
REHASH, REBASE = "lancemig rehash", "lancemig rebase"

_FIRST = re.compile(r"lancemig\.sum ([0-9]+) ([0-9a-f]{64})")
_ENTRY = re.compile(r"(\S+) ([0-9a-f]{64}) ([0-9a-f]{64})")
_MARKERS = ("<<<<<<< ", "||||||| ", "=======", ">>>>>>> ")
_SIDES: tuple[tuple[int, ...], ...] = ((0,), (), (1,), (0, 1))
"""To which sides belongs what follows each of the markers."""


class Entry(NamedTuple):
    """A revision, the digest of its file, and the digest of these and of the link before."""

    revision: str
    sha256: str
    link: str


class SumChanges(NamedTuple):
    """What a new sum file says that the old one did not: the revisions, in the order of the line."""

    path: Path
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def write_sum(directory: Path, chain: RevisionChain, changed: Collection[str] | None = None) -> SumChanges:
    """Write the sum file of `line`, whose files lie in `directory`, and say what is new in it.

    The digests of the revisions in `changed` are taken from their files, of all without it. The others keep
    the ones they had: what was not changed on purpose stays a finding. Of a file that git left in conflict,
    both sides count. Raises ConfigError where it cannot be written.
    """
    path = directory / NAME
    known = _recorded_digests(path)
    digests = {
        header.revision: header.sha256
        if changed is None or header.revision in changed
        else _digest_to_write(header.sha256, known.get(header.revision, []))
        for header in chain.headers
    }
    try:
        write_atomically(path, _text(_chain_entries(digests.items())).encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}",
            next_step=f"make {directory} writable, then: {REHASH}",
        ) from error
    return SumChanges(
        path=path,
        added=tuple(revision for revision in digests if revision not in known),
        changed=tuple(rev for rev, digest in digests.items() if digest not in known.get(rev, [digest])),
        removed=tuple(revision for revision in known if revision not in digests),
    )


def has_sum(directory: Path) -> bool:
    """Whether there is a sum file."""
    return (directory / NAME).exists()


def in_conflict(directory: Path) -> bool:
    """Whether git left its conflict markers in the sum file."""
    return any(line.startswith(_MARKERS) for line in _lines(directory / NAME))


def sides(directory: Path) -> list[list[tuple[str, str]]]:
    """The revisions that the sum file lists, with the digests of their files: both sides' of a conflict."""
    found: tuple[list[tuple[str, str]], ...] = ([], [])
    into: tuple[int, ...] = (0, 1)
    lines = _lines(directory / NAME)
    for text in lines:
        if text.startswith(_MARKERS):
            into = _SIDES[_MARKERS.index(next(mark for mark in _MARKERS if text.startswith(mark)))]
        elif match := _ENTRY.fullmatch(text):
            for side in into:
                found[side].append((match[1], match[2]))
    return [*found] if in_conflict(directory) else [found[0]]


def sum_findings(directory: Path, chain: RevisionChain | None) -> list[Finding]:
    """What is wrong with the sum file in `directory`, or with the files by it; none where there is none.

    Without a `line`, because the files form none, only what the sum file says of itself.
    """
    path = directory / NAME
    lines = _lines(path)
    if not lines:
        return [] if not path.exists() else [_malformed(path, 1, "the file is empty")]
    for number, text in enumerate(lines, start=1):
        if text.startswith(_MARKERS):
            return [_conflict(path, number)]
    entries, wrong = _parse(path, lines)
    if wrong is not None:
        return [wrong]
    return [] if chain is None else list(_file_findings(path, entries, chain))


def missing_sum(directory: Path, chain: RevisionChain) -> list[Finding]:
    """A finding where there are revisions, and no sum file."""
    if has_sum(directory) or not chain.headers:
        return []
    lines = (
        f"{directory / NAME} is missing: git would merge two branches that each add a revision without a "
        "conflict"
    )
    return [Finding(code="LM210", message=lines, next_step=f"{REHASH}, then commit the file")]


def _chain_entries(digests: Iterable[tuple[str, str]]) -> Iterator[Entry]:
    link = ""
    for revision, digest in digests:
        link = _link(link, revision, digest)
        yield Entry(revision, digest, link)


def _link(before: str, revision: str, digest: str) -> str:
    return sha256(f"{before}\n{revision}\n{digest}\n".encode()).hexdigest()


def _total_digest(entries: Iterable[Entry]) -> str:
    return sha256("".join(f"{entry.link}\n" for entry in entries).encode()).hexdigest()


def _text(chained: Iterable[Entry]) -> str:
    entries = list(chained)
    lines = [f"lancemig.sum {FORMAT} {_total_digest(entries)}", *(" ".join(entry) for entry in entries)]
    return "".join(f"{line}\n" for line in lines)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            next_step="fix its permissions, then run the same command again",
        ) from error


def _recorded_digests(path: Path) -> dict[str, list[str]]:
    """The digests that the file, or a side of a conflict in it, has for each revision."""
    known: dict[str, list[str]] = {}
    for match in filter(None, map(_ENTRY.fullmatch, _lines(path))):
        known.setdefault(match[1], []).append(match[2])
    return known


def _digest_to_write(found: str, known: list[str]) -> str:
    return known[0] if known and found not in known else found


def _parse(path: Path, lines: list[str]) -> tuple[list[Entry], Finding | None]:
    """The entries, and what is wrong with the file itself: nobody but a program writes it."""
    first = _FIRST.fullmatch(lines[0])
    if first is None:
        return [], _malformed(path, 1, "the first line is malformed")
    if int(first[1]) > FORMAT:
        raise ConfigError(
            f"{path} has format {first[1]}; this version of lancemig supports format {FORMAT}",
            next_step="upgrade lancemig",
        )
    entries, link = list[Entry](), ""
    for number, text in enumerate(lines[1:], start=2):
        match = _ENTRY.fullmatch(text)
        if match is None:
            return entries, _malformed(path, number, "the line is malformed")
        link = _link(link, match[1], match[2])
        if link != match[3]:
            return entries, _malformed(path, number, f"the checksum chain is broken at {match[1]}")
        entries.append(Entry(match[1], match[2], match[3]))
    whole = (
        None
        if _total_digest(entries) == first[2]
        else _malformed(path, 1, "the checksum on the first line does not match the other lines")
    )
    return entries, whole


def _file_findings(path: Path, entries: list[Entry], chain: RevisionChain) -> Iterator[Finding]:
    digests = {entry.revision: entry.sha256 for entry in entries}
    for header in chain.headers:
        if header.sha256 != digests.get(header.revision, header.sha256):
            yield Finding(
                code="LM211",
                message=f"{header.path} has changed since it was recorded in {path}",
                next_step=f"review the change (git diff {header.path}); if it is intended: {REHASH}",
                path=header.path,
            )
    summed, found = tuple(digests), chain.revisions
    if summed != found:
        yield Finding(
            code="LM212",
            message=_revision_difference(path, summed, found),
            next_step=REHASH,
            path=path,
        )


def _revision_difference(path: Path, summed: tuple[str, ...], found: tuple[str, ...]) -> str:
    new = [revision for revision in found if revision not in summed]
    removed = [revision for revision in summed if revision not in found]
    lines = [f"{', '.join(new)} {'is' if len(new) == 1 else 'are'} missing from {path}"] if new else []
    lines += (
        [f"{', '.join(removed)} in {path} {'has' if len(removed) == 1 else 'have'} no file"]
        if removed
        else []
    )
    return "; ".join(lines) or f"{path} lists the revisions in another order"


def _malformed(path: Path, number: int, lines: str) -> Finding:
    return Finding(
        code="LM213",
        message=lines,
        next_step=f"review the file (git diff {path}), then: {REHASH}",
        path=path,
        line=number,
    )


def _conflict(path: Path, number: int) -> Finding:
    return Finding(
        code="LM213",
        message="unresolved git conflict: two branches changed the revisions",
        next_step=REBASE,
        path=path,
        line=number,
    )
