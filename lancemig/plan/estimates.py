"""How long a plan will take, told from how long the like of it took in this catalog before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lancemig.catalog.lineage import LineageEntry
from lancemig.catalog.operations import Strategy
from lancemig.catalog.timings import Timing
from lancemig.plan.plan import Plan

_SHORTEST = 0.001
"""A phase that took no time that could be measured."""


@dataclass(frozen=True)
class Ahead:
    """A part of a plan as its costs are measured: how it is done, with which operation, and how much."""

    way: str
    operation: str | None
    rows: int | None
    bytes: int | None


@dataclass(frozen=True)
class Estimate:
    """About so many seconds for all that is done in one way, `like` one that took so long, at `revision`."""

    way: str
    seconds: float
    like: Timing
    revision: str


def estimates(plan: Plan, past: Sequence[LineageEntry]) -> list[Estimate]:
    """What can be estimated from the `past`, newest first: one for each way of which something is known."""
    found: dict[str, Estimate] = {}
    for ahead in _ahead(plan):
        known = _alike(ahead, past)
        if known is None:
            continue
        like, revision = known
        before = found.get(ahead.way)
        seconds = _scaled(ahead, like) + (before.seconds if before else 0.0)
        found[ahead.way] = Estimate(ahead.way, seconds, like, revision)
    return list(found.values())


def _ahead(plan: Plan) -> Iterator[Ahead]:
    for carried in plan.carried:
        if carried.copied and carried.staged_as is not None:
            yield Ahead(carried.by, None, carried.rows, carried.bytes)
    for migration in plan.migrations:
        for step in migration.steps:
            if step.strategy is not Strategy.METADATA:
                yield Ahead(step.strategy, step.operation, step.rows, step.bytes)
    if plan.staged:
        rows, size = ([getattr(c, name) or 0 for c in plan.carried] for name in ("rows", "bytes"))
        yield Ahead("verify", None, sum(rows), sum(size))


def _alike(ahead: Ahead, past: Sequence[LineageEntry]) -> tuple[Timing, str] | None:
    """The newest of the same operation, else of the same way, that can be set against what is ahead."""
    timings = [(timing, entry.target.revision or "base") for entry in past for timing in entry.timings]
    alike = [
        (one, at) for one, at in timings if (one.way or one.phase) == ahead.way and _comparable(ahead, one)
    ]
    same = (known for known in alike if known[0].operation == ahead.operation)
    return next(same, alike[0] if alike else None)


def _comparable(ahead: Ahead, like: Timing) -> bool:
    return ahead.way == "clone" or bool((ahead.bytes and like.bytes) or (ahead.rows and like.rows))


def _scaled(ahead: Ahead, like: Timing) -> float:
    seconds = max(like.seconds, _SHORTEST)
    if ahead.way == "clone":
        return seconds
    if ahead.bytes and like.bytes:
        return seconds * ahead.bytes / like.bytes
    return seconds * (ahead.rows or 0) / (like.rows or 1)
