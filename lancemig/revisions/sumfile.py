"""The sum file versions/lancemig.sum: the revisions in their order, each with the digest of its file.

`write_sum` writes it, `sum_findings` checks it against the files, `sides` reads both sides of a git conflict.

Adding a revision changes the first line, so that two branches that each add a revision conflict when git
merges them. Each digest is chained with the one before it: no line can be removed, moved or changed alone.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from lancemig.catalog.findings import Code, Finding
from lancemig.errors import ConfigError
from lancemig.revisions.chain import RevisionChain
from lancemig.revisions.header import Header
from lancemig.revisions.journal import read_regular, write_atomically

NAME = "lancemig.sum"
FORMAT = 2
"""Format 2 has digests of texts, format 1 of bytes; the digests of a file with LF are the same in both."""
REHASH, REBASE = "lancemig rehash", "lancemig rebase"

_FIRST = re.compile(r"lancemig\.sum ([0-9]+) ([0-9a-f]{64})")
_ENTRY = re.compile(r"(\S+) ([0-9a-f]{64}) ([0-9a-f]{64})")
_MARKERS = ("<<<<<<< ", "||||||| ", "=======", ">>>>>>> ")
_SIDES: tuple[tuple[int, ...], ...] = ((0,), (), (1,), (0, 1))
"""The sides that the lines after each marker belong to."""


class Entry(NamedTuple):
    """A line of the sum file; `link` is the digest of the line and of the link before it."""

    revision: str
    sha256: str
    link: str


class SumChanges(NamedTuple):
    """The revisions whose lines a new sum file adds, changes or removes, in the order of the chain."""

    path: Path
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def write_sum(directory: Path, chain: RevisionChain, changed: Collection[str] | None = None) -> SumChanges:
    """Write the sum file of a chain.

    Args:
        directory: The folder with the migration files.
        chain: The chain that the files form.
        changed: The revisions whose new digests are recorded; None for all. The others keep their recorded
            digest, so that an unintended change stays a finding. In a file with conflict markers, the digests
            of both sides count as recorded.

    Raises:
        ConfigError: The file cannot be written.
    """
    path = directory / NAME
    recorded = _recorded_digests(path)
    digests = {
        header.revision: header.sha256
        if changed is None or header.revision in changed
        else _digest_to_write(header, recorded.get(header.revision, []))
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
        added=tuple(revision for revision in digests if revision not in recorded),
        changed=tuple(
            header.revision
            for header in chain.headers
            if header.revision in recorded and not _is_recorded(header, digests, recorded)
        ),
        removed=tuple(revision for revision in recorded if revision not in digests),
    )


def has_sum(directory: Path) -> bool:
    """Whether there is a sum file."""
    return (directory / NAME).exists()


def in_conflict(directory: Path) -> bool:
    """Whether the sum file has git's conflict markers."""
    return any(line.startswith(_MARKERS) for line in _lines(directory / NAME))


def sides(directory: Path) -> list[list[tuple[str, str]]]:
    """The revisions in the sum file with their digests: one list, or the two sides of a conflict."""
    both: tuple[list[tuple[str, str]], ...] = ([], [])
    current: tuple[int, ...] = (0, 1)
    for line in _lines(directory / NAME):
        if line.startswith(_MARKERS):
            current = _SIDES[_MARKERS.index(next(mark for mark in _MARKERS if line.startswith(mark)))]
        elif match := _ENTRY.fullmatch(line):
            for side in current:
                both[side].append((match[1], match[2]))
    return [*both] if in_conflict(directory) else [both[0]]


def sum_findings(directory: Path, chain: RevisionChain | None) -> list[Finding]:
    """The findings about the sum file in `directory`; none where there is no sum file.

    Args:
        directory: The folder with the migration files.
        chain: The chain to compare it with; None where the files form none, and only the sum file is checked.
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
    """The finding that there are revisions, but no sum file."""
    if has_sum(directory) or not chain.headers:
        return []
    message = (
        f"{directory / NAME} is missing: git would merge two branches that each add a revision without a "
        "conflict"
    )
    return [Finding(code=Code.SUM_MISSING, message=message, next_step=f"{REHASH}, then commit the file")]


def _chain_entries(digests: Iterable[tuple[str, str]]) -> Iterator[Entry]:
    link = ""
    for revision, digest in digests:
        link = _link(link, revision, digest)
        yield Entry(revision, digest, link)


def _link(previous: str, revision: str, digest: str) -> str:
    return sha256(f"{previous}\n{revision}\n{digest}\n".encode()).hexdigest()


def _total_digest(entries: Iterable[Entry]) -> str:
    return sha256("".join(f"{entry.link}\n" for entry in entries).encode()).hexdigest()


def _text(chained: Iterable[Entry]) -> str:
    entries = list(chained)
    lines = [f"lancemig.sum {FORMAT} {_total_digest(entries)}", *(" ".join(entry) for entry in entries)]
    return "".join(f"{line}\n" for line in lines)


def _lines(path: Path) -> list[str]:
    try:
        return read_regular(path).decode("utf-8-sig", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}",
            next_step="restore the file or fix its permissions, then run the same command again",
        ) from error


def _recorded_digests(path: Path) -> dict[str, list[str]]:
    """The digests that the file, or a side of a conflict in it, records for each revision."""
    recorded: dict[str, list[str]] = {}
    for match in filter(None, map(_ENTRY.fullmatch, _lines(path))):
        recorded.setdefault(match[1], []).append(match[2])
    return recorded


def _is_recorded(header: Header, digests: Mapping[str, str], recorded: Mapping[str, list[str]]) -> bool:
    known = recorded[header.revision]
    return digests[header.revision] in known or any(map(header.has_digest, known))


def _digest_to_write(header: Header, recorded: list[str]) -> str:
    return header.sha256 if not recorded or any(map(header.has_digest, recorded)) else recorded[0]


def _parse(path: Path, lines: list[str]) -> tuple[list[Entry], Finding | None]:
    """The entries, and a finding where the file is damaged: only programs write it."""
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
    if _total_digest(entries) != first[2]:
        return entries, _malformed(path, 1, "the checksum on the first line does not match the other lines")
    return entries, None


def _file_findings(path: Path, entries: list[Entry], chain: RevisionChain) -> Iterator[Finding]:
    digests = {entry.revision: entry.sha256 for entry in entries}
    for header in chain.headers:
        if not header.has_digest(digests.get(header.revision, header.sha256)):
            yield Finding(
                code=Code.SUM_CHANGED,
                message=f"{header.path} has changed since it was recorded in {path}",
                next_step=f"review the change (git diff {header.path}); if it is intended: {REHASH}",
                path=header.path,
            )
    recorded = tuple(digests)
    if recorded != chain.revisions:
        yield Finding(
            code=Code.SUM_REVISIONS,
            message=_revision_difference(path, recorded, chain.revisions),
            next_step=REHASH,
            path=path,
        )


def _revision_difference(path: Path, recorded: tuple[str, ...], revisions: tuple[str, ...]) -> str:
    added = [revision for revision in revisions if revision not in recorded]
    removed = [revision for revision in recorded if revision not in revisions]
    parts = []
    if added:
        parts.append(f"{', '.join(added)} {'is' if len(added) == 1 else 'are'} missing from {path}")
    if removed:
        parts.append(f"{', '.join(removed)} in {path} {'has' if len(removed) == 1 else 'have'} no file")
    return "; ".join(parts) or f"{path} lists the revisions in another order"


def _malformed(path: Path, number: int, message: str) -> Finding:
    return Finding(
        code=Code.SUM_DAMAGED,
        message=message,
        next_step=f"review the file (git diff {path}), then: {REHASH}",
        path=path,
        line=number,
    )


def _conflict(path: Path, number: int) -> Finding:
    return Finding(
        code=Code.SUM_DAMAGED,
        message="unresolved git conflict: two branches changed the revisions",
        next_step=REBASE,
        path=path,
        line=number,
    )
