"""The chain of revisions: one base, one head, and each revision follows one other.

`chain_of` orders headers into a `RevisionChain` and refuses those that form none; `RevisionChain.resolve`
reads a revision given on the command line, `RevisionChain.between` finds what to apply. None is the base, the
catalog before the first revision.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from lancemig.catalog.value import FrozenModel, format_revision
from lancemig.errors import CatalogAhead, ScriptError, TwoHeads
from lancemig.revisions.header import Header, did_you_mean

Direction = Literal["up", "down"]

RESERVED = ("head", "heads", "base", "current")
"""Words with a meaning on the command line, which cannot be revision ids."""

SQUASHED = "squashed"
"""The folder in versions/ for the files of squashed revisions."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
_RELATIVE = re.compile(r"([^+-]*)([+-])([0-9]{1,9})")
_SEE = "lancemig history"


class RevisionChain(FrozenModel):
    """The headers of all migration files, from base to head."""

    headers: tuple[Header, ...] = ()

    @property
    def revisions(self) -> tuple[str, ...]:
        """The ids, from base to head."""
        return tuple(header.revision for header in self.headers)

    @property
    def head(self) -> str | None:
        """The newest revision; None where there are no files."""
        return self.headers[-1].revision if self.headers else None

    def knows(self, revision: str | None) -> bool:
        """Whether a file describes `revision`; base is always known."""
        return revision is None or revision in self.revisions

    def squashed_into(self, revision: str) -> Header | None:
        """The header of the squash that replaces `revision`; None where it has a file, or is unknown."""
        if revision in self.revisions:
            return None
        return next((header for header in self.headers if revision in header.replaces), None)

    def resolve(self, text: str, current: str | None) -> str | None:
        """The revision that `text` names; None is base.

        Args:
            text: `head`, `base`, `current`, an id or a unique prefix of one, each optionally followed by `+N`
                or `-N`. `+N` and `-N` alone count from `current`.
            current: The revision of the catalog.

        Raises:
            ScriptError: `text` names no revision, several, or one beyond the ends.
            CatalogAhead: `text` counts from `current`, but no file has this revision.
        """
        relative = _RELATIVE.fullmatch(text)
        if relative is None:
            return self._resolve_name(text, current)
        start = self._resolve_name(relative[1] or "current", current)
        steps = int(relative[3]) if relative[2] == "+" else -int(relative[3])
        return self._step(text, start, steps)

    def between(self, current: str | None, target: str | None) -> tuple[Direction, tuple[Header, ...]]:
        """The direction from `current` to `target`, and the headers between them.

        Returns:
            Going up, the headers to apply, the oldest first; going down, those to undo, the newest first.

        Raises:
            CatalogAhead: No file has the revision `current`.
            ScriptError: No file has the revision `target`.
        """
        start = self._position(current)
        if not self.knows(target):
            raise self._unknown_revision(str(target))
        end = self._position(target)
        if end >= start:
            return "up", self.headers[start:end]
        return "down", self.headers[end:start][::-1]

    def upto(self, revision: str | None) -> tuple[Header, ...]:
        """The headers from base to `revision`, included; CatalogAhead where no file has this revision."""
        return self.headers[: self._position(revision)]

    def _position(self, current: str | None) -> int:
        """The number of revisions from base to `current`."""
        if current is None:
            return 0
        header = self.squashed_into(current)
        if header is not None:
            raise CatalogAhead(
                f"the catalog is at revision {current}, which lies inside the range squashed into "
                f"{header.path}",
                next_step=before_squash_step(header),
            )
        if current not in self.revisions:
            newest = f"the newest file is {self.head}" if self.headers else "versions/ has no migration files"
            raise CatalogAhead(
                f"the catalog is at revision {current}, but no migration file has this id; {newest}",
                next_step="get the newer files (git pull), then: lancemig history",
            )
        return self.revisions.index(current) + 1

    def _resolve_name(self, text: str, current: str | None) -> str | None:
        if text == "current":
            self._position(current)
            return current
        if text in {"head", "base"}:
            return self.head if text == "head" else None
        return text if text in self.revisions else self._resolve_prefix(text)

    def _resolve_prefix(self, text: str) -> str:
        candidates = [header for header in self.headers if text and header.revision.startswith(text)]
        if len(candidates) > 1:
            message = f"{text} is ambiguous: {format_headers(candidates)}"
            raise ScriptError(
                message, next_step="give more characters of the id; lancemig history lists all ids"
            )
        if not candidates:
            raise self._unknown_revision(text)
        return candidates[0].revision

    def _unknown_revision(self, text: str) -> ScriptError:
        header = self.squashed_into(text)
        if header is not None:
            message = f"revision {text} was squashed into {header.revision} ({header.path})"
            return ScriptError(message, next_step=_SEE)
        suggestion = did_you_mean(text, [*self.revisions, "head", "base", "current"])
        return ScriptError(f"revision {text!r} does not exist{suggestion}", next_step=_SEE)

    def _step(self, text: str, start: str | None, steps: int) -> str | None:
        position = self._position(start)
        target = position + steps
        if 0 <= target <= len(self.headers):
            return self.headers[target - 1].revision if target else None
        end, distance = ("head", len(self.headers) - position) if steps > 0 else ("base", position)
        maximum = f"+{distance}" if steps > 0 else f"-{distance}"
        start_text = format_revision(start)
        reason = (
            f"from {start_text}, the maximum is {maximum}" if distance else f"{start_text} is already {end}"
        )
        raise ScriptError(f"{text} goes beyond {end}: {reason}", next_step=_SEE)


def before_squash_step(header: Header) -> str:
    """The next step for a catalog at a revision inside the range that `header` squashed."""
    squash = f"git log -1 --diff-filter=A --format=%h -- {header.path}"
    return (
        f"check out the files from before the squash (git checkout $({squash})~1), then: lancemig "
        f"upgrade {header.revision}"
    )


def chain_of(headers: Iterable[Header]) -> RevisionChain:
    """The chain that these headers form, in whatever order they are given.

    Raises:
        TwoHeads: Two revisions follow the same one.
        ScriptError: An id is repeated or invalid, a parent is missing, there are two bases, or a cycle.
    """
    ordered = sorted_headers(headers)
    for header in ordered:
        complaint = id_complaint(header.revision)
        if complaint is not None:
            raise ScriptError(
                f"{header.path}: {complaint}",
                next_step="change `revision`, then: lancemig history",
                path=header.path,
            )
    _refuse_replaced(ordered)
    _refuse_repeated(ordered)
    _refuse_missing_parents(ordered)
    children: dict[str | None, list[Header]] = {}
    for header in ordered:
        children.setdefault(header.down_revision, []).append(header)
    _refuse_cycles(ordered, children)
    _refuse_bases(children)
    _refuse_forks(ordered, children)
    chain: list[Header] = []
    revision: str | None = None
    while revision in children:
        chain += children[revision]
        revision = chain[-1].revision
    return RevisionChain(headers=tuple(chain))


def heads_of(headers: Iterable[Header]) -> tuple[Header, ...]:
    """The headers that no other header follows, by file; at most one where they form a chain."""
    ordered = sorted_headers(headers)
    parents = {header.down_revision for header in ordered}
    return tuple(header for header in ordered if header.revision not in parents)


def sorted_headers(headers: Iterable[Header]) -> list[Header]:
    """The headers by the path of their files."""
    return sorted(headers, key=lambda header: (str(header.path), header.revision))


def id_complaint(revision: str) -> str | None:
    """Why `revision` cannot be a revision id, as part of a message; None where it can."""
    if revision.lower() in RESERVED:
        return f"{revision!r} is reserved on the command line and cannot be a revision id"
    if _ID.fullmatch(revision) is None:
        return (
            f"the id {revision!r} is invalid: use only letters, digits, `_` and `.`, and do not start "
            "with `.`"
        )
    return None


def _refuse_repeated(headers: Sequence[Header]) -> None:
    first: dict[str, Header] = {}
    for header in headers:
        other = first.setdefault(header.revision, header)
        if other is header:
            continue
        message = f"two files have the id {header.revision}: {other.path} and {header.path}"
        if other.down_revision == header.down_revision and header.down_revision is not None:
            message = f"{message}; both follow {header.down_revision}"
            raise TwoHeads(message, next_step="lancemig rebase", path=header.path)
        step = "give one of them another id, then: lancemig history"
        raise ScriptError(message, next_step=step, path=header.path)


def _refuse_replaced(headers: Sequence[Header]) -> None:
    for header in headers:
        replaced = next((h for h in headers if h.revision in header.replaces and h is not header), None)
        if replaced is not None:
            raise ScriptError(
                f"{header.path} replaces {replaced.revision}, but the file of {replaced.revision} still "
                f"exists: {replaced.path}",
                next_step=f"if it was squashed, move {replaced.path} to {SQUASHED}/; if it belongs to "
                "another branch: lancemig rebase",
                path=header.path,
            )


def _refuse_missing_parents(headers: Sequence[Header]) -> None:
    known = [header.revision for header in headers]
    for header in headers:
        parent = header.down_revision
        if parent is not None and parent not in known:
            squash = next((other for other in headers if parent in other.replaces), None)
            if squash is not None:
                raise ScriptError(
                    f"{header.path}: `down_revision` is {parent}, which was squashed into {squash.path}",
                    next_step="lancemig rebase",
                )
            suggestion = did_you_mean(parent, [revision for revision in known if revision != header.revision])
            raise ScriptError(
                f"{header.path}: `down_revision` is {parent!r}, but no file has this id{suggestion}",
                next_step="get the missing file (git pull), or fix `down_revision`",
                path=header.path,
            )


def _refuse_cycles(headers: Sequence[Header], children: dict[str | None, list[Header]]) -> None:
    reached: set[str] = set()
    pending = list(children.get(None, []))
    while pending:
        header = pending.pop()
        reached.add(header.revision)
        pending += children.get(header.revision, [])
    unreachable = {header.revision: header for header in headers if header.revision not in reached}
    if not unreachable:
        return
    revision, visited = next(iter(unreachable)), list[str]()
    while revision not in visited:
        visited.append(revision)
        revision = str(unreachable[revision].down_revision)
    cycle = [unreachable[member] for member in visited[visited.index(revision) :]]
    raise ScriptError(
        f"revisions form a cycle: {format_headers(cycle)}",
        next_step="fix `down_revision` in one of them, then: lancemig history",
        path=cycle[0].path,
    )


def _refuse_bases(children: dict[str | None, list[Header]]) -> None:
    bases = children.get(None, [])
    if len(bases) > 1:
        raise ScriptError(
            f"more than one revision has down_revision = None: {format_headers(bases)}",
            next_step="set `down_revision` in all but the first, then: lancemig history",
            path=bases[-1].path,
        )


def _refuse_forks(headers: Sequence[Header], children: dict[str | None, list[Header]]) -> None:
    fork = next((h.revision for h in headers if len(children.get(h.revision, [])) > 1), None)
    if fork is None:
        return
    heads = heads_of(headers)
    tips = "" if list(heads) == children[fork] else f"; the heads are {format_headers(heads)}"
    message = f"more than one revision follows {fork}: {format_headers(children[fork])}{tips}"
    raise TwoHeads(message, next_step="lancemig rebase", path=children[fork][-1].path)


def format_headers(headers: Iterable[Header]) -> str:
    """`0003 (versions/0003_x.py), 0004 (…)`: revisions with their files, for messages."""
    return ", ".join(f"{header.revision} ({header.path})" for header in headers)
