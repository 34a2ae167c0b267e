"""How long a plan will take, told from how long the like of it took in this catalog before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lancemig.catalog.lineage import LineageEntry
from lancemig.catalog.operations import Strategy
from lancemig.catalog.value import format_revision
from lancemig.plan.plan import Plan

_SHORTEST = 0.001
"""A phase that took no time that could be measured."""


@dataclass(frozen=True)
class Amount:
    """How much is done in one way, by one operation if it is a step: tables or steps, rows and bytes.

    Rows and bytes are None where those of a part are not known; so are the `seconds` of what is ahead.
    """

    way: str
    operation: str | None
    rows: int | None
    bytes: int | None
    parts: int = 1
    seconds: float = 0.0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.way,
            self.operation,
            _sum(self.rows, other.rows),
            _sum(self.bytes, other.bytes),
            self.parts + other.parts,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Estimate:
    """About so many seconds for all that is done in one way, `like` what took so long, at `revision`."""

    way: str
    seconds: float
    like: Amount
    revision: str


def estimates(plan: Plan, past: Sequence[LineageEntry]) -> list[Estimate]:
    """What can be estimated from the `past`, newest first: one for each way of which something is known."""
    known = [(format_revision(entry.target.revision), _added(_done(entry))) for entry in past]
    found: dict[str, Estimate] = {}
    for ahead in _added(_ahead(plan)):
        like = _alike(ahead, known)
        if like is not None:
            revision, amount = like
            before = found[ahead.way].seconds if ahead.way in found else 0.0
            seconds = before + _scaled(ahead, amount)
            found[ahead.way] = Estimate(ahead.way, seconds, amount, revision)
    return list(found.values())


def _ahead(plan: Plan) -> Iterator[Amount]:
    for carried in plan.carried:
        if carried.copied and carried.staged_as is not None:
            yield Amount(carried.by, None, carried.rows, carried.bytes)
    for migration in plan.migrations:
        for step in migration.steps:
            if step.strategy is not Strategy.METADATA:
                yield Amount(step.strategy.value, step.operation, step.rows, step.bytes)
    if plan.staged:
        rows, size = ([getattr(c, name) or 0 for c in plan.carried] for name in ("rows", "bytes"))
        yield Amount("verify", None, sum(rows), sum(size))


def _done(entry: LineageEntry) -> Iterator[Amount]:
    for one in entry.timings:
        way = one.way or one.phase
        yield Amount(way, one.operation, one.rows, one.bytes, seconds=max(one.seconds, _SHORTEST))


def _added(amounts: Iterable[Amount]) -> list[Amount]:
    """One amount for each way and operation."""
    found: dict[tuple[str, str | None], Amount] = {}
    for one in amounts:
        key = (one.way, one.operation)
        found[key] = found[key] + one if key in found else one
    return list(found.values())


def _alike(ahead: Amount, known: Sequence[tuple[str, Sequence[Amount]]]) -> tuple[str, Amount] | None:
    """The newest of the same operation, else of the same way, that can be set against what is ahead."""
    alike = [
        (revision, one)
        for revision, amounts in known
        for one in amounts
        if one.way == ahead.way and _comparable(ahead, one)
    ]
    same = (one for one in alike if one[1].operation == ahead.operation)
    return next(same, alike[0] if alike else None)


def _comparable(ahead: Amount, like: Amount) -> bool:
    return ahead.way == "clone" or bool((ahead.bytes and like.bytes) or (ahead.rows and like.rows))


def _scaled(ahead: Amount, like: Amount) -> float:
    if ahead.way == "clone":
        return like.seconds * ahead.parts / like.parts
    if ahead.bytes and like.bytes:
        return like.seconds * ahead.bytes / like.bytes
    return like.seconds * (ahead.rows or 0) / (like.rows or 1)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
