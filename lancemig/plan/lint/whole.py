"""Rules over a file as a whole: its message, its kind, what it does at once, and where it stands."""

from collections.abc import Iterator

from lancemig.catalog.kind import Kind
from lancemig.catalog.operations import RenameTable
from lancemig.plan.lint import codes
from lancemig.plan.lint.subject import Found, Span, Subject


def no_message(subject: Subject) -> Iterator[Found]:
    """Nothing says what the revision is for."""
    header = subject.migration.header
    if header.message.rstrip(".").lower() in ("", f"revision {header.revision}".lower()):
        yield Found(
            codes.NO_MESSAGE,
            Span(1, 1),
            "the docstring does not describe this revision",
            "describe in its first line what changes and why",
        )


def kind_too_strong(subject: Subject) -> Iterator[Found]:
    """The declared kind promises less than the operations keep."""
    needed = Kind.weakest([change.operation.kind for change in subject.changes])
    declared = subject.migration.header.kind
    if declared is not None and Kind(declared).rank > needed.rank:
        yield Found(
            codes.KIND_TOO_STRONG,
            subject.variable("kind"),
            f'kind is "{declared}", but the operations need only "{needed}"',
            f'write kind = "{needed}", or remove it to have it derived',
        )


def mixed(subject: Subject) -> Iterator[Found]:
    """What could be applied in place waits for a rebuild of other tables."""
    rebuilt = {c.operation.table for c in subject.changes if c.operation.kind is Kind.REBUILD}
    rebuilt |= {c.operation.to for c in subject.changes if isinstance(c.operation, RenameTable)}
    if not rebuilt:
        return
    for change in subject.changes:
        operation = change.operation
        if operation.kind is not Kind.REBUILD and operation.table not in rebuilt:
            yield Found(
                codes.MIXED,
                change.span,
                f"{operation.table}: {operation.describe()} is {operation.kind}, but waits for the "
                f"rebuild of {', '.join(sorted(rebuilt))}",
                "move it to a revision of its own before this one, which is then applied in place",
            )
            return


def followed(subject: Subject) -> Iterator[Found]:
    """The revision is new or was changed, and revisions that others have follow it."""
    if subject.followed_by:
        yield Found(
            codes.FOLLOWED,
            subject.variable("down_revision"),
            f"{', '.join(subject.followed_by)} already {_follow(subject)} this revision at the base "
            "ref: catalogs at those revisions never apply it, or applied its old content",
            "add a new revision after the head: lancemig revision -m MESSAGE",
        )


def _follow(subject: Subject) -> str:
    return "follows" if len(subject.followed_by) == 1 else "follow"
