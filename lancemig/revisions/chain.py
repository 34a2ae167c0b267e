"""The line of revisions: one base, one head, each revision following one other."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from lancemig.catalog.value import FrozenModel
from lancemig.errors import CatalogAhead, ScriptError, TwoHeads
from lancemig.revisions.header import Header, did_you_mean

Direction = Literal["up", "down"]

RESERVED = ("head", "heads", "base", "current")
"""Words that name a place on the line, and therefore no revision."""

SQUASHED = "squashed"
"""The folder in versions/ that has the files of revisions that were squashed."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
_RELATIVE = re.compile(r"([^+-]*)([+-])([0-9]{1,9})")
_SEE = "lancemig history"


class RevisionChain(FrozenModel):
    """The headers from base to head. Revision None is base: the catalog before the first of them."""

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
        """The header into which `revision` was squashed, if it has no file of its own any more."""
        if revision in self.revisions:
            return None
        return next((header for header in self.headers if revision in header.replaces), None)

    def resolve(self, text: str, current: str | None) -> str | None:
        """The revision that `text` names, seen from `current`; None is base.

        `text` is `head`, `base`, `current`, an id or a unique prefix of one, each with `+N` or `-N` after
        it, or `+N` and `-N` alone, which count from `current`. Raises ScriptError where that names none,
        more than one, or goes beyond the ends; CatalogAhead where it counts from a `current` unknown here.
        """
        relative = _RELATIVE.fullmatch(text)
        if relative is None:
            return self._resolve_name(text, current)
        start = self._resolve_name(relative[1] or "current", current)
        steps = int(relative[3]) if relative[2] == "+" else -int(relative[3])
        return self._step(text, start, steps)

    def between(self, current: str | None, target: str | None) -> tuple[Direction, tuple[Header, ...]]:
        """The way from `current` to `target`: its direction, and the headers in the order to apply them.

        Going down, these are the ones to take back, the newest first. Raises CatalogAhead where no file
        knows `current`, ScriptError where none knows `target`.
        """
        start = self._position(current)
        if not self.knows(target):
            raise self._unknown_revision(str(target))
        end = self._position(target)
        if end >= start:
            return "up", self.headers[start:end]
        return "down", self.headers[end:start][::-1]

    def upto(self, revision: str | None) -> tuple[Header, ...]:
        """The headers that lead from base to the catalog's `revision`; CatalogAhead where none knows it."""
        return self.headers[: self._position(revision)]

    def _position(self, current: str | None) -> int:
        """How many revisions lie at or below `current`."""
        if current is None:
            return 0
        into = self.squashed_into(current)
        if into is not None:
            raise CatalogAhead(
                f"the catalog is at revision {current}, which lies inside the range squashed into "
                f"{into.path}",
                next_step=before_squash_step(into),
            )
        if current not in self.revisions:
            here = f"the newest file is {self.head}" if self.headers else "versions/ has no migration files"
            raise CatalogAhead(
                f"the catalog is at revision {current}, but no migration file has this id; {here}",
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
            said = f"{text} is ambiguous: {format_headers(candidates)}"
            raise ScriptError(
                said, next_step="give more characters of the id; lancemig history lists all ids"
            )
        if not candidates:
            raise self._unknown_revision(text)
        return candidates[0].revision

    def _unknown_revision(self, text: str) -> ScriptError:
        into = self.squashed_into(text)
        if into is not None:
            said = f"revision {text} was squashed into {into.revision} ({into.path})"
            return ScriptError(said, next_step=_SEE)
        meant = did_you_mean(text, [*self.revisions, "head", "base", "current"])
        return ScriptError(f"revision {text!r} does not exist{meant}", next_step=_SEE)

    def _step(self, text: str, start: str | None, steps: int) -> str | None:
        position = self._position(start)
        target = position + steps
        if 0 <= target <= len(self.headers):
            return self.headers[target - 1].revision if target else None
        end, left = ("head", len(self.headers) - position) if steps > 0 else ("base", position)
        furthest = f"+{left}" if steps > 0 else f"-{left}"
        at = start or "base"
        how_far = f"from {at}, the maximum is {furthest}" if left else f"{at} is already {end}"
        raise ScriptError(f"{text} goes beyond {end}: {how_far}", next_step=_SEE)


def before_squash_step(into: Header) -> str:
    """How a catalog that is in the midst of what was squashed comes out of it."""
    squash = f"git log -1 --diff-filter=A --format=%h -- {into.path}"
    return (
        f"check out the files from before the squash (git checkout $({squash})~1), then: lancemig "
        f"upgrade {into.revision}"
    )


def chain_of(headers: Iterable[Header]) -> RevisionChain:
    """The one line that these headers form, in whatever order they are given.

    Raises TwoHeads where two follow the same one, and ScriptError, each naming the files, for a repeated or
    unusable id, a missing parent, two bases, and revisions that follow each other in a circle.
    """
    ordered = sorted(headers, key=lambda header: (str(header.path), header.revision))
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
    line: list[Header] = []
    at: str | None = None
    while at in children:
        line += children[at]
        at = line[-1].revision
    return RevisionChain(headers=tuple(line))


def heads_of(headers: Iterable[Header]) -> tuple[Header, ...]:
    """The headers that no other one follows, by file; one or none where they form a line."""
    given = sorted(headers, key=lambda header: (str(header.path), header.revision))
    parents = {header.down_revision for header in given}
    return tuple(header for header in given if header.revision not in parents)


def id_complaint(revision: str) -> str | None:
    """Why `revision` cannot be the id of a revision, or None where it can."""
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
        said = f"two files have the id {header.revision}: {other.path} and {header.path}"
        if other.down_revision == header.down_revision and header.down_revision is not None:
            said = f"{said}; both follow {header.down_revision}"
            raise TwoHeads(said, next_step="lancemig rebase", path=header.path)
        step = "give one of them another id, then: lancemig history"
        raise ScriptError(said, next_step=step, path=header.path)


def _refuse_replaced(headers: Sequence[Header]) -> None:
    for header in headers:
        left = next((h for h in headers if h.revision in header.replaces and h is not header), None)
        if left is not None:
            raise ScriptError(
                f"{header.path} replaces {left.revision}, but the file of {left.revision} still "
                f"exists: {left.path}",
                next_step=f"if it was squashed, move {left.path} to {SQUASHED}/; if it belongs to another "
                "branch: lancemig rebase",
                path=header.path,
            )


def _refuse_missing_parents(headers: Sequence[Header]) -> None:
    known = [header.revision for header in headers]
    for header in headers:
        parent = header.down_revision
        if parent is not None and parent not in known:
            into = next((other for other in headers if parent in other.replaces), None)
            if into is not None:
                raise ScriptError(
                    f"{header.path}: `down_revision` is {parent}, which was squashed into {into.path}",
                    next_step="lancemig rebase",
                )
            meant = did_you_mean(parent, [revision for revision in known if revision != header.revision])
            raise ScriptError(
                f"{header.path}: `down_revision` is {parent!r}, but no file has this id{meant}",
                next_step="get the missing file (git pull), or fix `down_revision`",
                path=header.path,
            )


def _refuse_cycles(headers: Sequence[Header], children: dict[str | None, list[Header]]) -> None:
    reached: set[str] = set()
    waiting = list(children.get(None, []))
    while waiting:
        header = waiting.pop()
        reached.add(header.revision)
        waiting += children.get(header.revision, [])
    left = {header.revision: header for header in headers if header.revision not in reached}
    if not left:
        return
    at, way = next(iter(left)), list[str]()
    while at not in way:
        way.append(at)
        at = str(left[at].down_revision)
    circle = [left[revision] for revision in way[way.index(at) :]]
    raise ScriptError(
        f"revisions form a cycle: {format_headers(circle)}",
        next_step="fix `down_revision` in one of them, then: lancemig history",
        path=circle[0].path,
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
    said = f"more than one revision follows {fork}: {format_headers(children[fork])}{tips}"
    raise TwoHeads(said, next_step="lancemig rebase", path=children[fork][-1].path)


def format_headers(headers: Iterable[Header]) -> str:
    """`0003 (versions/0003_x.py), 0004 (…)`: revisions with their files, for messages."""
    return ", ".join(f"{header.revision} ({header.path})" for header in headers)
