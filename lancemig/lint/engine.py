"""Runs all lint rules over one migration file, and applies its ignore comments.

`findings` is the entry. `RULES` lists the rules; those over the file as a whole are here, the others are in
`operations`, `purity` and `personal_data`.
"""

import io
import re
import tokenize
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lancemig.catalog.findings import Code, Finding
from lancemig.catalog.operations import RenameTable
from lancemig.catalog.value import Kind
from lancemig.lint import operations, purity
from lancemig.lint.across_rows import across_rows
from lancemig.lint.personal_data import personal_data
from lancemig.lint.subject import Span, Subject, Violation


def findings(subject: Subject) -> list[Finding]:
    """The violations in a migration file, and in the files that it uses, that no comment silences.

    Returns:
        The findings ordered by file (the migration first), line and code.
    """
    violations = list(dict.fromkeys(violation for rule in RULES for violation in rule(subject)))
    remaining = apply_ignores(violations, ignore_comments(subject.source))
    return [
        Finding(
            code=violation.code,
            message=violation.message,
            next_step=violation.fix,
            level=violation.code.level,
            path=violation.module.path if violation.module else subject.migration.header.path,
            line=violation.span.first,
        )
        for violation in sorted(remaining, key=_sort_key)
    ]


def _sort_key(violation: Violation) -> tuple[str, int, str]:
    return str(violation.module.path) if violation.module else "", violation.span.first, violation.code


_COMMENT = re.compile(r"#\s*lancemig:\s*ignore\b\s*(?:\[(?P<codes>[^\]]*)\])?\s*(?P<reason>.*)", re.DOTALL)
_CODES = [code for code in Code if code.of_lint]
_LAST = max(_CODES)


class Ignore(NamedTuple):
    """An ignore comment: `# lancemig: ignore[LM001] why`."""

    line: int
    """The line of the comment."""
    target: int
    """The line that it applies to: its own, or the next one with code for a comment that stands alone."""
    codes: tuple[str, ...]
    reason: str

    def applies_to(self, violation: Violation) -> bool:
        """Whether it stands at the violation, or at an operation that the violation is reported for."""
        spans = violation.used or (violation.span,)
        return any(span.first <= line <= span.last for span in spans for line in (self.line, self.target))

    def silences(self, violation: Violation) -> bool:
        """Whether it applies to the violation, names its code and gives a reason."""
        return self.applies_to(violation) and bool(self.reason) and violation.code in self.codes


def ignore_comments(source: str) -> list[Ignore]:
    """The ignore comments of a file."""
    # Lines as the tokenizer counts them; `splitlines` also breaks at form feeds.
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    lines = source.split("\n")
    comments = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        match = _COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
        if match is not None:
            line = token.start[0]
            ignored = tuple(code.strip() for code in (match["codes"] or "").split(",") if code.strip())
            comments.append(Ignore(line, _target(lines, line), ignored, match["reason"].strip(" -:")))
    return comments


def apply_ignores(violations: Sequence[Violation], comments: Sequence[Ignore]) -> list[Violation]:
    """The violations that no comment silences, and violations by the comments themselves.

    A violation in another file of the project is silenced there, or at the operations that use its code. A
    comment in another file that silences nothing is not reported: other revisions may use more of that file.
    """
    remaining = [each for each in violations if not any(comment.silences(each) for comment in comments)]
    by_comments = [each for comment in comments for each in _ignore_violations(comment, violations)]
    modules = {each.module.path: each.module for each in remaining if each.module is not None}
    for module in modules.values():
        in_module = {id(each): each._replace(used=()) for each in remaining if each.module is module}
        ignores = ignore_comments(module.source)
        silenced = {key for key, each in in_module.items() if any(one.silences(each) for one in ignores)}
        remaining = [each for each in remaining if id(each) not in silenced]
        for ignore in ignores:
            if any(ignore.applies_to(each) for each in in_module.values()):
                by_comments += [each._replace(module=module) for each in _malformed_ignore(ignore)]
    return [*remaining, *by_comments]


def _target(lines: Sequence[str], line: int) -> int:
    at = line
    while at < len(lines) and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at += 1
    return at


def _ignore_violations(comment: Ignore, violations: Sequence[Violation]) -> Iterator[Violation]:
    yield from _malformed_ignore(comment)
    if _problem(comment) is None and not any(comment.silences(each) for each in violations):
        message = f"the comment has no effect: {', '.join(comment.codes)} is not reported here"
        yield Violation(Code.IDLE_IGNORE, Span(comment.line, comment.line), message, "remove the comment")


def _malformed_ignore(comment: Ignore) -> Iterator[Violation]:
    problem = _problem(comment)
    if problem is not None:
        valid = [code for code in comment.codes if code in _CODES] or ["LM0…"]
        form = f"# lancemig: ignore[{', '.join(valid)}] why"
        yield Violation(Code.BAD_IGNORE, Span(comment.line, comment.line), problem, f"write: {form}")


def _problem(comment: Ignore) -> str | None:
    if not comment.codes:
        return "the comment does not name a finding code"
    unknown = [code for code in comment.codes if code not in _CODES]
    if unknown:
        return f"the finding code {unknown[0]} does not exist; codes are {min(_CODES)} to {_LAST}"
    return None if comment.reason else f"{', '.join(comment.codes)} is ignored without a reason"


def no_message(subject: Subject) -> Iterator[Violation]:
    """The docstring does not say what the revision is for."""
    header = subject.migration.header
    if header.message.rstrip(".").lower() in ("", f"revision {header.revision}".lower()):
        yield Violation(
            Code.NO_MESSAGE,
            Span(1, 1),
            "the docstring does not describe this revision",
            "describe in its first line what changes and why",
        )


def kind_too_strong(subject: Subject) -> Iterator[Violation]:
    """The declared kind is weaker than the kind that the operations need."""
    needed = Kind.weakest([change.operation.kind for change in subject.changes])
    declared = subject.migration.header.kind
    if declared is not None and Kind(declared).rank > needed.rank:
        yield Violation(
            Code.KIND_TOO_STRONG,
            subject.variable_span("kind"),
            f'kind is "{declared}", but the operations need only "{needed}"',
            f'write kind = "{needed}", or remove it to have it derived',
        )


def mixed(subject: Subject) -> Iterator[Violation]:
    """An operation that could be applied in place waits for the rebuild of other tables."""
    rebuilt = {c.operation.table for c in subject.changes if c.operation.kind is Kind.REBUILD}
    rebuilt |= {c.operation.to for c in subject.changes if isinstance(c.operation, RenameTable)}
    if not rebuilt:
        return
    for change in subject.changes:
        operation = change.operation
        if operation.kind is not Kind.REBUILD and operation.table not in rebuilt:
            yield Violation(
                Code.MIXED,
                change.span,
                f"{operation.table}: {operation.describe()} is {operation.kind}, but waits for the "
                f"rebuild of {', '.join(sorted(rebuilt))}",
                "move it to a revision of its own before this one, which is then applied in place",
            )
            return


def followed(subject: Subject) -> Iterator[Violation]:
    """The revision is new or changed, but revisions that others already have follow it."""
    if subject.followed_by:
        yield Violation(
            Code.FOLLOWED,
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
    purity.source_writes,
    across_rows,
    operations.no_reads,
    personal_data,
    mixed,
    no_message,
    followed,
)
