"""Estimates how long a plan will take, from how long similar work took in this catalog before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lancemig.catalog.lineage import LineageEntry
from lancemig.catalog.operations import Strategy
from lancemig.catalog.value import format_revision
from lancemig.plan.plan import Plan

_SHORTEST = 0.001
"""The time of a phase that was too short to measure."""


@dataclass(frozen=True)
class Amount:
    """An amount of work of one kind, planned or done."""

    activity: str
    """The strategy of steps, `copy` or `clone` of tables, or a phase such as `verify`."""

    operation: str | None
    """The operation of steps; None for other work."""

    rows: int | None
    """None where the number of a part is not known."""

    bytes: int | None
    """None where the number of a part is not known."""

    count: int = 1
    """The number of tables or steps."""

    seconds: float = 0.0
    """How long it took; 0 for planned work."""

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.activity,
            self.operation,
            _sum(self.rows, other.rows),
            _sum(self.bytes, other.bytes),
            self.count + other.count,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class Estimate:
    """The expected time of all planned work of one kind."""

    activity: str

    seconds: float

    like: Amount
    """The earlier work from which the time follows."""

    revision: str
    """The revision to which the earlier work led."""


def estimates(plan: Plan, past: Sequence[LineageEntry]) -> list[Estimate]:
    """One estimate for each kind of work in the plan that the lineage `past`, newest first, has times of."""
    known = [(format_revision(entry.target.revision), _by_activity(_done(entry))) for entry in past]
    found: dict[str, Estimate] = {}
    for ahead in _by_activity(_planned(plan)):
        like = _most_similar(ahead, known)
        if like is not None:
            revision, amount = like
            before = found[ahead.activity].seconds if ahead.activity in found else 0.0
            seconds = before + _scaled(ahead, amount)
            found[ahead.activity] = Estimate(ahead.activity, seconds, amount, revision)
    return list(found.values())


def _planned(plan: Plan) -> Iterator[Amount]:
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
    for timing in entry.timings:
        activity = timing.way or timing.phase
        yield Amount(
            activity, timing.operation, timing.rows, timing.bytes, seconds=max(timing.seconds, _SHORTEST)
        )


def _by_activity(amounts: Iterable[Amount]) -> list[Amount]:
    """The sums by kind of work and operation."""
    found: dict[tuple[str, str | None], Amount] = {}
    for one in amounts:
        key = (one.activity, one.operation)
        found[key] = found[key] + one if key in found else one
    return list(found.values())


def _most_similar(ahead: Amount, known: Sequence[tuple[str, Sequence[Amount]]]) -> tuple[str, Amount] | None:
    """The newest comparable work of the same operation, else of the same kind, and its revision."""
    similar = [
        (revision, one)
        for revision, amounts in known
        for one in amounts
        if one.activity == ahead.activity and _comparable(ahead, one)
    ]
    same = (one for one in similar if one[1].operation == ahead.operation)
    return next(same, similar[0] if similar else None)


def _comparable(ahead: Amount, like: Amount) -> bool:
    return ahead.activity == "clone" or bool((ahead.bytes and like.bytes) or (ahead.rows and like.rows))


def _scaled(ahead: Amount, like: Amount) -> float:
    if ahead.activity == "clone":
        return like.seconds * ahead.count / like.count
    if ahead.bytes and like.bytes:
        return like.seconds * ahead.bytes / like.bytes
    return like.seconds * (ahead.rows or 0) / (like.rows or 1)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
