"""Revisions whose ids are numbers: which is the largest, and how another one is written."""

from collections.abc import Iterable


def is_number(revision: str) -> bool:
    """Whether an id is one."""
    return revision.isascii() and revision.isdecimal()


def largest(revisions: Iterable[str]) -> int:
    """The largest of those that are numbers; 0 where none is."""
    return max((int(revision) for revision in revisions if is_number(revision)), default=0)


def numbered(number: int, revisions: Iterable[str]) -> str:
    """`number` as wide as the widest of those that are numbers, four digits at least."""
    width = max([4, *(len(revision) for revision in revisions if is_number(revision))])
    return f"{number:0{width}d}"
