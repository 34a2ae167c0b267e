"""`--plan --sample N`: what the steps of a plan would do to some rows."""

from dataclasses import dataclass

from lancemig.apply.steps.sample import Row, sample
from lancemig.apply.steps.transform import passages
from lancemig.commands.opening import Catalog
from lancemig.commands.planning import Prepared
from lancemig.plan.plan import Step


@dataclass(frozen=True)
class Sampled:
    """Some rows of one step; `few` when only the table's first rows were looked at."""

    step: Step
    rows: tuple[Row, ...]
    few: bool


def sampled(catalog: Catalog, prepared: Prepared, count: int) -> list[Sampled]:
    """Up to `count` rows for each step that changes values; reads the live tables, writes nothing there."""
    plan = prepared.plan
    steps = {step.id: step for migration in plan.migrations for step in migration.steps}
    ids = {id(op): one.step_id(at) for one in prepared.orders.work for at, op in enumerate(one.operations)}
    found = []
    for passage in passages(plan.start, prepared.orders.work):
        live = catalog.store.tables.find(plan.origin.prefix, passage.source) if passage.source else None
        start = plan.start.tables.get(passage.source or "")
        for at, applied in enumerate(passage.steps):
            rows = sample(applied.operation, passage.steps[:at], start, live, count)
            if rows:
                found.append(Sampled(steps[ids[id(applied.operation)]], tuple(rows), few=at > 0))
    order = list(steps)
    return sorted(found, key=lambda one: order.index(one.step.id))
