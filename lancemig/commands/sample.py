"""`upgrade --plan --sample`: old and new values of some rows of each step, before anything is written."""

from dataclasses import dataclass

from lancemig.apply.effects.replay import table_paths
from lancemig.apply.effects.sample import SampledRow, has_sample, sample
from lancemig.commands.context import Catalog
from lancemig.commands.running import on_catalog
from lancemig.commands.upgrade import Prepared
from lancemig.plan.plan import Step


@dataclass(frozen=True)
class SampledStep:
    """Sample rows of one step."""

    step: Step
    rows: tuple[SampledRow, ...]

    few: bool
    """Whether only the first rows of the table were examined."""

    sampled: bool = True
    """Whether rows were examined at all; not for operations on schemas, indices and sources."""


@on_catalog
def sample_steps(catalog: Catalog, prepared: Prepared, count: int) -> list[SampledStep]:
    """Compute up to `count` sample rows for each step that changes values. Writes nothing to live tables.

    A function is tried on a batch. Steps of which no row can be shown have no rows.
    """
    plan = prepared.plan
    steps = {step.id: step for migration in plan.migrations for step in migration.steps}
    ids = {
        id(op): one.step_id(at) for one in prepared.request.migrations for at, op in enumerate(one.operations)
    }
    found = []
    for table_path in table_paths(plan.start, prepared.request.migrations):
        live = catalog.store.tables.find(plan.origin.prefix, table_path.source) if table_path.source else None
        start = plan.start.tables.get(table_path.source or "")
        for at, step in enumerate(table_path.steps):
            rows = sample(step.operation, table_path.steps[:at], start, live, count)
            shown = live is not None and has_sample(step.operation)
            planned = steps[ids[id(step.operation)]]
            found.append(SampledStep(planned, tuple(rows), few=at > 0, sampled=shown))
    order = list(steps)
    return sorted(found, key=lambda one: order.index(one.step.id))
