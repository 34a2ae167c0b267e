"""From a target to orders: what is to be done, or which dead run is to be finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import pyarrow as pa

from lancemig.apply.runner import Orders, new_run_id
from lancemig.apply.sidecar import Phase, Run
from lancemig.apply.tail.appended import APPENDS
from lancemig.apply.tail.terms import ROWS_MOVE, ROWS_STAY
from lancemig.catalog.findings import Finding
from lancemig.catalog.lineage import LineageEntry, Place
from lancemig.catalog.schema import Index
from lancemig.commands.opening import Catalog
from lancemig.commands.squashing import refuse_squashed
from lancemig.commands.state import not_applied
from lancemig.commands.stragglers import stragglers
from lancemig.commands.work import applied, changed_files, changed_steps, work_of_files, work_of_plan
from lancemig.errors import ConfigError, LancemigError, LineageBroken, PlanStale, RunUnfinished
from lancemig.plan.estimates import Estimate, estimates
from lancemig.plan.plan import AS_FILED, Direction, Overrides, Plan
from lancemig.plan.planner import Situation, make_plan
from lancemig.plan.work import Work
from lancemig.store.pointer import Seen
from lancemig.store.tables import Tables, checked_index, checked_sql

LOOKED_BACK = 12
"""So many entries of the lineage are asked how long things took, and which file was applied."""

_FINISH = "finish it: lancemig recover; or undo it: lancemig recover --undo"


@dataclass(frozen=True)
class Prepared:
    """Orders for a run, under its name; `resumes` when a dead run is to be finished.

    `warnings` tell of a live revision that is not the one of the files, and of rows that only the last flip's
    reconciliation can still bring over, where the plan ends in another flip. `estimates` tell how long what
    is planned took before.
    """

    orders: Orders
    run_id: str
    resumes: Run | None = None
    warnings: tuple[Finding, ...] = ()
    estimates: tuple[Estimate, ...] = ()

    @property
    def plan(self) -> Plan:
        """What will be carried out."""
        return self.orders.plan

    @property
    def flips(self) -> bool:
        """Whether another root becomes the live one."""
        return bool(self.plan.staged) and not self.orders.no_flip


@dataclass(frozen=True)
class LiveProbe:
    """Answers a plan's questions from the live tables."""

    tables: Tables
    root: str

    def count(self, table: str, where: str | None) -> int:
        """How many rows match."""
        return self.tables.open(self.root, table).count(where)

    def sql(self, columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
        """The types of the expressions."""
        return checked_sql(columns, expressions, where)

    def index(self, columns: pa.Schema, wanted: Index) -> None:
        """Lance itself is asked."""
        checked_index(columns, wanted)


def prepare(
    catalog: Catalog,
    target: str,
    direction: Direction,
    *,
    no_flip: bool = False,
    note: str | None = None,
    overrides: Overrides = AS_FILED,
) -> Prepared:
    """Plan the way to `target`, or take up the run in flight if it goes there.

    Raises RunUnfinished when another run is in flight; nothing is written either way.
    """
    run = catalog.in_flight()
    if run is not None:
        wanted = catalog.line.resolve(target, run.plan.origin.revision)
        if (wanted, direction) != (run.plan.target, run.plan.direction):
            raise RunUnfinished(
                f"run {run.run} to {run.plan.target or 'base'} has been in progress since "
                f"{run.started} ({run.phase})",
                next_step=_FINISH,
            )
        _refuse_other_brakes(run, overrides)
        return resume(catalog, run)
    seen = catalog.seen()
    place = catalog.place(seen)
    wanted = catalog.line.resolve(target, place.revision)
    way, headers = catalog.line.between(place.revision, wanted)
    if headers and way != direction:
        other = "downgrade" if way == "down" else "upgrade"
        raise LancemigError(
            f"{wanted or 'base'} is {'before' if way == 'down' else 'after'} {place.revision or 'base'}",
            next_step=f"lancemig {other} {wanted or 'base'}",
        )
    if direction == "down" and any(header.replaces for header in headers):
        refuse_squashed(headers, list(catalog.store.pointers.chain(seen.pointer)))
    work = work_of_files(catalog, direction, headers, overrides)
    situation = Situation(
        catalog=catalog.settings.name,
        place=place,
        etag=seen.etag,
        live=catalog.store.tables.live(place.prefix),
        applied=applied(catalog, headers) if direction == "down" else {},
        overrides=overrides,
        staging=catalog.settings.staging,
        store=catalog.store.objects.uri,
    )
    plan = make_plan(situation, direction, wanted, work, LiveProbe(catalog.store.tables, place.prefix))
    late = stragglers(catalog, seen.pointer) if plan.staged else []
    prepared = _fresh(catalog, plan, work, no_flip=no_flip, note=note)
    past = _past(catalog, seen)
    unlike = not_applied(catalog, place.revision, past)
    return replace(prepared, warnings=(*unlike, *late), estimates=tuple(estimates(plan, past)))


def _past(catalog: Catalog, seen: Seen) -> list[LineageEntry]:
    """The last entries of the lineage; they are small, but each is a request."""
    try:
        return list(islice(catalog.store.pointers.chain(seen.pointer), LOOKED_BACK))
    except LineageBroken:
        # For `history --verify` to tell; a plan does not need it.
        return []


def _refuse_other_brakes(run: Run, overrides: Overrides) -> None:
    if overrides not in (AS_FILED, run.plan.overrides):
        began = run.plan.overrides.model_dump(exclude_defaults=True) or "the brakes in the migration files"
        raise RunUnfinished(
            f"run {run.run} was started with {began} and must continue with the same",
            next_step="run the same command without options",
        )


def saved(catalog: Catalog, plan: Plan, *, no_flip: bool, note: str | None) -> Prepared:
    """Orders for a saved plan; PlanStale lists what moved since, appended rows aside."""
    if plan.catalog != catalog.settings.name:
        raise ConfigError(
            f"the plan is for the catalog {plan.catalog}, not for {catalog.settings.name}",
            next_step=f"lancemig -n {plan.catalog} upgrade --from FILE",
        )
    run = catalog.in_flight()
    if run is not None:
        if run.plan_digest != plan.digest:
            raise RunUnfinished(f"run {run.run} has been in progress since {run.started}", next_step=_FINISH)
        return resume(catalog, run)
    work = work_of_plan(catalog, plan)
    moved = [*(changed_files(plan, work) or changed_steps(plan, work)), *_moved(catalog, plan)]
    if moved:
        raise PlanStale(
            "the plan is stale: " + "; ".join(moved), next_step="lancemig upgrade --plan --out FILE"
        )
    return _fresh(catalog, plan, work, no_flip=no_flip, note=note)


def resume(catalog: Catalog, run: Run) -> Prepared:
    """Orders to finish a run in flight; RunUnfinished when a file it needs was changed since."""
    if run.phase is Phase.UNDO:
        return giving_up(catalog, run)
    work = work_of_plan(catalog, run.plan)
    changed = changed_files(run.plan, work)
    if changed:
        raise RunUnfinished(
            f"run {run.run} cannot continue: {'; '.join(changed)}",
            next_step="restore the file (git checkout), or undo the run: lancemig recover --undo",
        )
    return Prepared(
        _orders(catalog, run.plan, work, run.run, no_flip=run.no_flip, note=run.note), run.run, run
    )


def giving_up(catalog: Catalog, run: Run) -> Prepared:
    """Orders to undo a run in flight; files that were changed since are left out, for few may be needed."""
    files = {header.revision: header for header in catalog.line.headers}
    wanted = [(files.get(migration.revision), migration.sha256) for migration in run.plan.migrations]
    same = tuple(header for header, sha256 in wanted if header is not None and header.sha256 == sha256)
    work = work_of_files(catalog, run.plan.direction, same, run.plan.overrides)
    return Prepared(_orders(catalog, run.plan, work, run.run, no_flip=False, note=run.note), run.run, run)


def _fresh(
    catalog: Catalog, plan: Plan, work: Sequence[Work], *, no_flip: bool, note: str | None
) -> Prepared:
    run_id = new_run_id(catalog.caller)
    return Prepared(_orders(catalog, plan, work, run_id, no_flip=no_flip, note=note), run_id)


def _orders(
    catalog: Catalog, plan: Plan, work: Sequence[Work], run_id: str, *, no_flip: bool, note: str | None
) -> Orders:
    timestamp, _, suffix = run_id.partition("-")
    return Orders(
        plan=plan,
        work=work,
        staging=catalog.settings.staged_root(timestamp=timestamp, run=suffix),
        fallback=Place(prefix=plan.origin.prefix),
        no_flip=no_flip,
        note=note,
    )


def _moved(catalog: Catalog, plan: Plan) -> list[str]:
    """What moved since the plan was made, but for rows that were appended."""
    seen = catalog.seen()
    place, moved = catalog.place(seen), []
    if place != plan.origin:
        moved.append(
            f"the pointer is at {place.revision or 'base'} in {place.prefix}, not at "
            f"{plan.origin.revision or 'base'} in {plan.origin.prefix}"
        )
    for name, version in plan.requires.versions.items():
        table = catalog.store.tables.find(place.prefix, name)
        if table is None:
            moved.append(f"table {name} is missing")
            continue
        log = catalog.store.tables.commits(table, version)
        moved += [
            f"{name}: {commit.operation} at version {commit.version}"
            for commit in log
            if commit.operation not in ROWS_STAY | APPENDS | ROWS_MOVE
        ]
    return moved
