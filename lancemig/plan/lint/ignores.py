"""Comments that silence a finding: `# lancemig: ignore[LM012] why`, on its lines or in a line above them."""

import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lancemig.plan.lint import codes
from lancemig.plan.lint.subject import Found, Span

_COMMENT = re.compile(r"#\s*lancemig:\s*ignore\b\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>.*)", re.DOTALL)
_LAST = max(codes.LEVELS)


class Ignore(NamedTuple):
    """A comment, the line that it stands in and the one it speaks of, its codes, and its reason."""

    line: int
    target: int
    codes: tuple[str, ...]
    reason: str

    def silences(self, found: Found) -> bool:
        """Whether it speaks of `found`, and says why."""
        here = any(found.span.first <= line <= found.span.last for line in (self.line, self.target))
        return here and bool(self.reason) and found.code in self.codes


def ignores(source: str) -> list[Ignore]:
    """The comments of a file; one in a line of its own speaks of the next line that has code."""
    lines = source.splitlines()
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match = _COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            line = token.start[0]
            given = tuple(code.strip() for code in (match["codes"] or "").split(",") if code.strip())
            found.append(Ignore(line, _target(lines, line), given, match["reason"].strip(" -:")))
    return found


def _target(lines: Sequence[str], line: int) -> int:
    at = line
    while at < len(lines) and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at += 1
    return at


def silenced(found: Sequence[Found], comments: Sequence[Ignore]) -> list[Found]:
    """What is left of `found`, and what is wrong with the comments themselves."""
    left = [each for each in found if not any(comment.silences(each) for comment in comments)]
    return [*left, *_wrong(found, comments)]


def _wrong(found: Sequence[Found], comments: Sequence[Ignore]) -> Iterator[Found]:
    for comment in comments:
        span = Span(comment.line, comment.line)
        complaint = _complaint(comment)
        if complaint is not None:
            known = [code for code in comment.codes if code in codes.LEVELS] or ["LM0…"]
            form = f"# lancemig: ignore[{', '.join(known)}] why"
            yield Found(codes.BAD_IGNORE, span, complaint, f"write: {form}")
        elif not any(comment.silences(each) for each in found):
            said = f"the comment silences nothing: {', '.join(comment.codes)} is not found here"
            yield Found(codes.IDLE_IGNORE, span, said, "remove it")


def _complaint(comment: Ignore) -> str | None:
    if not comment.codes:
        return "the comment does not say which finding it is about"
    unknown = [code for code in comment.codes if code not in codes.LEVELS]
    if unknown:
        return f"there is no finding {unknown[0]} to ignore; there are {min(codes.LEVELS)} to {_LAST}"
    return None if comment.reason else f"{', '.join(comment.codes)} is ignored without a reason"
