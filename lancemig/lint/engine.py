"""All rules, run over one migration file."""

import io
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lancemig.catalog.checks import Finding
from lancemig.catalog.operations import RenameTable
from lancemig.catalog.value import Kind
from lancemig.lint import codes, operations, purity
from lancemig.lint.codes import LEVELS
from lancemig.lint.personal_data import personal_data
from lancemig.lint.subject import Span, Subject, Violation

_COMMENT = re.compile(r"#\s*lancemig:\s*ignore\b\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>.*)", re.DOTALL)
_LAST = max(codes.LEVELS)


class Ignore(NamedTuple):
    """A comment, the line that it stands in and the one it speaks of, its codes, and its reason."""

    line: int
    target: int
    codes: tuple[str, ...]
    reason: str

    def applies_to(self, found: Violation) -> bool:
        """Whether it stands where `found` is, or, in a migration, at an operation that it is found for."""
        spans = found.used or (found.span,)
        return any(span.first <= line <= span.last for span in spans for line in (self.line, self.target))

    def silences(self, found: Violation) -> bool:
        """Whether it speaks of `found`, and says why."""
        return self.applies_to(found) and bool(self.reason) and found.code in self.codes


def ignore_comments(source: str) -> list[Ignore]:
    """The comments of a file; one in a line of its own speaks of the next line that has code."""
    # The lines that the tokens count; `splitlines` also breaks at form feeds.
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    lines = source.split("\n")
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


def apply_ignores(found: Sequence[Violation], comments: Sequence[Ignore]) -> list[Violation]:
    """What is left of `found`, and what is wrong with the comments, here and in the files that are used.

    What stands in another file is silenced there, or at the operations that it is found for. There, a comment
    that silences nothing is left alone: other revisions may use more of the file.
    """
    left = [each for each in found if not any(comment.silences(each) for comment in comments)]
    wrong = [each for comment in comments for each in _ignore_violations(comment, found)]
    for module in {each.module.path: each.module for each in left if each.module is not None}.values():
        there = {id(each): each._replace(used=()) for each in left if each.module is module}
        others = ignore_comments(module.source)
        gone = {key for key, each in there.items() if any(comment.silences(each) for comment in others)}
        left = [each for each in left if id(each) not in gone]
        spoken_of = [one for one in others if any(one.applies_to(each) for each in there.values())]
        wrong += [each._replace(module=module) for one in spoken_of for each in _malformed_ignore(one)]
    return [*left, *wrong]


def _ignore_violations(comment: Ignore, found: Sequence[Violation]) -> Iterator[Violation]:
    yield from _malformed_ignore(comment)
    if _problem(comment) is None and not any(comment.silences(each) for each in found):
        said = f"the comment has no effect: {', '.join(comment.codes)} is not reported here"
        yield Violation(codes.IDLE_IGNORE, Span(comment.line, comment.line), said, "remove the comment")


def _malformed_ignore(comment: Ignore) -> Iterator[Violation]:
    complaint = _problem(comment)
    if complaint is not None:
        known = [code for code in comment.codes if code in codes.LEVELS] or ["LM0…"]
        form = f"# lancemig: ignore[{', '.join(known)}] why"
        yield Violation(codes.BAD_IGNORE, Span(comment.line, comment.line), complaint, f"write: {form}")


def _problem(comment: Ignore) -> str | None:
    if not comment.codes:
        return "the comment does not name a finding code"
    unknown = [code for code in comment.codes if code not in codes.LEVELS]
    if unknown:
        return f"the finding code {unknown[0]} does not exist; codes are {min(codes.LEVELS)} to {_LAST}"
    return None if comment.reason else f"{', '.join(comment.codes)} is ignored without a reason"


def no_message(subject: Subject) -> Iterator[Violation]:
    """Nothing says what the revision is for."""
    header = subject.migration.header
    if header.message.rstrip(".").lower() in ("", f"revision {header.revision}".lower()):
        yield Violation(
            codes.NO_MESSAGE,
            Span(1, 1),
            "the docstring does not describe this revision",
            "describe in its first line what changes and why",
        )


def kind_too_strong(subject: Subject) -> Iterator[Violation]:
    """The declared kind promises less than the operations keep."""
    needed = Kind.weakest([change.operation.kind for change in subject.changes])
    declared = subject.migration.header.kind
    if declared is not None and Kind(declared).rank > needed.rank:
        yield Violation(
            codes.KIND_TOO_STRONG,
            subject.variable_span("kind"),
            f'kind is "{declared}", but the operations need only "{needed}"',
            f'write kind = "{needed}", or remove it to have it derived',
        )


def mixed(subject: Subject) -> Iterator[Violation]:
    """What could be applied in place waits for a rebuild of other tables."""
    rebuilt = {c.operation.table for c in subject.changes if c.operation.kind is Kind.REBUILD}
    rebuilt |= {c.operation.to for c in subject.changes if isinstance(c.operation, RenameTable)}
    if not rebuilt:
        return
    for change in subject.changes:
        operation = change.operation
        if operation.kind is not Kind.REBUILD and operation.table not in rebuilt:
            yield Violation(
                codes.MIXED,
                change.span,
                f"{operation.table}: {operation.describe()} is {operation.kind}, but waits for the "
                f"rebuild of {', '.join(sorted(rebuilt))}",
                "move it to a revision of its own before this one, which is then applied in place",
            )
            return


def followed(subject: Subject) -> Iterator[Violation]:
    """The revision is new or was changed, and revisions that others have follow it."""
    if subject.followed_by:
        yield Violation(
            codes.FOLLOWED,
            subject.variable_span("down_revision"),
            f"{', '.join(subject.followed_by)} already {_follow_verb(subject)} this revision at the base "
            "ref: catalogs at those revisions never apply it, or applied its old content",
            "add a new revision after the head: lancemig revision -m MESSAGE",
        )


def _follow_verb(subject: Subject) -> str:
    return "follows" if len(subject.followed_by) == 1 else "follow"


RULES: tuple[Callable[[Subject], Iterator[Violation]], ...] = (
    operations.dropped,
    operations.narrowed,
    operations.deletes_all,
    operations.updates_all,
    operations.irreversible,
    kind_too_strong,
    operations.not_idempotent,
    operations.index_lost,
    operations.no_key,
    operations.volatile_sql,
    purity.not_deterministic,
    purity.external_access,
    purity.shared_state,
    operations.no_reads,
    personal_data,
    mixed,
    no_message,
    followed,
)


def findings(subject: Subject) -> list[Finding]:
    """What the rules find in a file, and in what it uses, and no comments silence; by file, line and code."""
    found = list(dict.fromkeys(each for rule in RULES for each in rule(subject)))
    left = apply_ignores(found, ignore_comments(subject.source))
    own = subject.migration.header.path
    return [
        Finding(
            code=each.code,
            message=each.message,
            next_step=each.fix,
            level=LEVELS[each.code],
            path=own if each.module is None else each.module.path,
            line=each.span.first,
        )
        for each in sorted(left, key=_sort_key)
    ]


def _sort_key(found: Violation) -> tuple[str, int, str]:
    return str(found.module.path) if found.module else "", found.span.first, found.code
