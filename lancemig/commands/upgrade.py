"""From a target to orders: what is to be done, or which dead run is to be finished."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from lancemig.apply.commit.intents import OutcomeRuling
from lancemig.apply.effects.replay import table_paths
from lancemig.apply.effects.sample import SampledRow, sample
from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.exclusive import exclusive
from lancemig.apply.lock import locks
from lancemig.apply.replicate.appends import APPENDS
from lancemig.apply.replicate.types import ROWS_MOVE, ROWS_STAY
from lancemig.apply.rows.skipped import SkippedRow
from lancemig.apply.run import facts as flight_facts
from lancemig.apply.run import table_changes
from lancemig.apply.runner import RunOutcome, RunRequest, apply_plan, new_run_id, undo_in_flight
from lancemig.apply.sidecar import Run
from lancemig.apply.stages import Phase
from lancemig.catalog.drift import catalog_drift
from lancemig.catalog.findings import Finding
from lancemig.catalog.lineage import Action, AppliedMigration, LineageEntry, RootRevision
from lancemig.catalog.schema import Index, LiveCatalog
from lancemig.commands.context import Catalog
from lancemig.commands.squash import refuse_squashed
from lancemig.commands.status import late_writes, not_applied
from lancemig.commands.work import (
    applied,
    changed_files,
    changed_steps,
    migrations_of_files,
    migrations_of_plan,
)
from lancemig.errors import (
    ConfigError,
    LancemigError,
    LineageBroken,
    LockHeld,
    PlanError,
    PlanStale,
    Refused,
    RunUnfinished,
)
from lancemig.plan.estimates import Estimate, estimates
from lancemig.plan.plan import AS_FILED, DirectedMigration, Direction, Overrides, Plan, Step
from lancemig.plan.planner import PlannerInput, make_plan
from lancemig.revisions.loader import Migration, replay
from lancemig.store.lance import Tables, checked_index, checked_sql
from lancemig.store.pointer import PointerRead

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

    orders: RunRequest
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
        wanted = catalog.chain.resolve(target, run.plan.origin.revision)
        if (wanted, direction) != (run.plan.target, run.plan.direction):
            raise RunUnfinished(
                f"run {run.run} to {run.plan.target or 'base'} has been in progress since "
                f"{run.started} ({run.phase})",
                next_step=_FINISH,
            )
        _refuse_other_brakes(run, overrides)
        return resume(catalog, run)
    seen = catalog.seen()
    place = catalog.active(seen)
    wanted = catalog.chain.resolve(target, place.revision)
    way, headers = catalog.chain.between(place.revision, wanted)
    if headers and way != direction:
        other = "downgrade" if way == "down" else "upgrade"
        raise LancemigError(
            f"{wanted or 'base'} is {'before' if way == 'down' else 'after'} {place.revision or 'base'}",
            next_step=f"lancemig {other} {wanted or 'base'}",
        )
    if direction == "down" and any(header.replaces for header in headers):
        refuse_squashed(headers, list(catalog.store.pointers.chain(seen.pointer)))
    work = migrations_of_files(catalog, direction, headers, overrides)
    situation = PlannerInput(
        catalog=catalog.settings.name,
        origin=place,
        etag=seen.version_token,
        live=catalog.store.tables.live(place.prefix),
        applied=applied(catalog, headers) if direction == "down" else {},
        overrides=overrides,
        staging=catalog.settings.staging,
        store=catalog.store.objects.uri,
    )
    plan = make_plan(situation, direction, wanted, work, LiveProbe(catalog.store.tables, place.prefix))
    late = late_writes(catalog, seen.pointer) if plan.staged else []
    prepared = _fresh(catalog, plan, work, no_flip=no_flip, note=note)
    past = _past(catalog, seen)
    unlike = not_applied(catalog, place.revision, past)
    return replace(prepared, warnings=(*unlike, *late), estimates=tuple(estimates(plan, past)))


def _past(catalog: Catalog, seen: PointerRead) -> list[LineageEntry]:
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
    work = migrations_of_plan(catalog, plan)
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
    work = migrations_of_plan(catalog, run.plan)
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
    files = {header.revision: header for header in catalog.chain.headers}
    wanted = [(files.get(migration.revision), migration.sha256) for migration in run.plan.migrations]
    same = tuple(header for header, sha256 in wanted if header is not None and header.sha256 == sha256)
    work = migrations_of_files(catalog, run.plan.direction, same, run.plan.overrides)
    return Prepared(_orders(catalog, run.plan, work, run.run, no_flip=False, note=run.note), run.run, run)


def _fresh(
    catalog: Catalog, plan: Plan, work: Sequence[DirectedMigration], *, no_flip: bool, note: str | None
) -> Prepared:
    run_id = new_run_id(catalog.environment)
    return Prepared(_orders(catalog, plan, work, run_id, no_flip=no_flip, note=note), run_id)


def _orders(
    catalog: Catalog,
    plan: Plan,
    work: Sequence[DirectedMigration],
    run_id: str,
    *,
    no_flip: bool,
    note: str | None,
) -> RunRequest:
    timestamp, _, suffix = run_id.partition("-")
    return RunRequest(
        plan=plan,
        migrations=work,
        staging=catalog.settings.staged_root(timestamp=timestamp, run=suffix),
        fallback=RootRevision(prefix=plan.origin.prefix),
        no_flip=no_flip,
        note=note,
    )


def _moved(catalog: Catalog, plan: Plan) -> list[str]:
    """What moved since the plan was made, but for rows that were appended."""
    seen = catalog.seen()
    place, moved = catalog.active(seen), []
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


class RowReport:
    """Keeps the file whole at every moment; a run that goes on after a death keeps the lines it wrote before.

    Each line holds `run`, `step`, `table`, `key`, `old` and `reason`. Raises ConfigError when the file cannot
    be written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self._lines = self._earlier()
        self._write()

    def put(self, step: str, lines: list[SkippedRow]) -> None:
        """The rows that `step` leaves are these now."""
        if lines or step in self._lines:
            self._lines[step] = [_spelt({"run": self.run, "step": step, **line}) for line in lines]
            self._write()

    def _earlier(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            for line in text.splitlines():
                document = json.loads(line)
                if document["run"] == self.run:
                    found.setdefault(document["step"], []).append(line)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{self.path} exists and is not a row report: {error}",
                next_step="choose another --report FILE",
            ) from error
        return found

    def _write(self) -> None:
        text = "".join(f"{line}\n" for lines in self._lines.values() for line in lines)
        beside = self.path.with_name(f".{self.path.name}.part")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}", next_step="choose another --report FILE"
            ) from error


def _spelt(document: dict[str, Any]) -> str:
    return json.dumps(document, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def apply_prepared(
    catalog: Catalog,
    prepared: Prepared,
    on_progress: OnProgress = no_progress,
    report: Path | None = None,
    *,
    postponed_by: Path | None = None,
) -> RunOutcome:
    """Carry out what was prepared and shown; a plan without migrations changes nothing.

    The file `report` gets a line of JSON for each row that a step leaves as it is. A rebuild is flipped to
    once the file `postponed_by` is gone; it is made if it is not there.
    """
    catalog.changeable()
    prepared = _reporting(prepared, report)
    if postponed_by is not None and prepared.plan.staged:
        prepared = _postponed(prepared, postponed_by)
    if not prepared.plan.migrations:
        return RunOutcome(run="", place=prepared.plan.origin)
    if prepared.resumes is not None and prepared.resumes.no_flip:
        run = prepared.resumes
        if run.phase is Phase.VERIFIED:
            raise RunUnfinished(
                f"run {run.run} has staged {run.staged_prefix} and waits for the flip",
                next_step="lancemig flip; or abandon the run: lancemig recover --undo",
            )
    return apply_plan(catalog.store, prepared.orders, catalog.environment, prepared.run_id, on_progress)


def stamp(catalog: Catalog, target: str, note: str | None = None) -> tuple[RootRevision, list[str]]:
    """Say that the live catalog is at `target`, changing no table; makes a pointer if there is none.

    The lineage gets the digests of the files up to there: from then on they are what was applied. Returns
    where the catalog is now, and how it differs from what the files say of that revision: it is stamped all
    the same, for files need not reach back to an empty catalog.
    """
    catalog.changeable()
    with exclusive(catalog.store, catalog.environment) as solo:
        here = catalog.active(solo.seen)
        revision = catalog.chain.resolve(target, here.revision)
        there = RootRevision(prefix=here.prefix, revision=revision)
        migrations = catalog.migrations(catalog.chain.upto(revision))
        live = catalog.store.tables.live(here.prefix)
        facts = flight_facts(live)
        solo.committer.guard_catalog(here.prefix, {name: version for name, (version, _) in facts.items()})
        change = solo.pointer_update(Action.STAMP, here, there, note)
        solo.publish(
            replace(change, tables=table_changes(facts, facts), migrations=tuple(map(_vouched, migrations)))
        )
    return there, _differing(migrations, live)


def _vouched(migration: Migration) -> AppliedMigration:
    header = migration.header
    return AppliedMigration(revision=header.revision, kind=migration.kind, sha256=header.sha256)


def _differing(migrations: Sequence[Migration], live: LiveCatalog) -> list[str]:
    try:
        wanted = replay(migrations)
    except PlanError as error:
        said = f"revision {migrations[-1].header.revision}" if migrations else "base"
        return [f"the schema of {said} cannot be derived from the files: {error.message}"]
    return [one.message for one in catalog_drift(wanted, live.catalog) if not one.harmless]


def recover(
    catalog: Catalog,
    on_progress: OnProgress = no_progress,
    report: Path | None = None,
    *,
    assumption: str | None = None,
) -> RunOutcome:
    """Finish the run in flight; `assumption` tells what its log does not tell any more."""
    prepared = _assuming(resume(catalog, _in_flight(catalog)), assumption)
    return apply_prepared(catalog, prepared, on_progress, report)


def undo(
    catalog: Catalog,
    on_progress: OnProgress = no_progress,
    report: Path | None = None,
    *,
    overwrite: bool = False,
    assumption: str | None = None,
) -> list[str]:
    """Give up the run in flight: put back what it did and did not publish, keeping what came since.

    A cell that somebody changed since stays as it is, unless `overwrite`. `assumption` tells what the run's
    log does not tell any more.
    """
    catalog.changeable()
    prepared = _assuming(_reporting(giving_up(catalog, _in_flight(catalog)), report), assumption)
    return undo_in_flight(
        catalog.store, prepared.orders, catalog.environment, prepared.run_id, on_progress, overwrite=overwrite
    )


def _postponed(prepared: Prepared, file: Path) -> Prepared:
    try:
        file.touch()
    except OSError as error:
        raise ConfigError(
            f"cannot create {file}: {error.strerror}", next_step="give a path in an existing folder"
        ) from error
    return replace(prepared, orders=replace(prepared.orders, postponed=file.exists))


def would_flip(catalog: Catalog) -> bool:
    """Whether to finish the run in flight makes another root the live one."""
    run = catalog.in_flight()
    return run is not None and bool(run.plan.staged) and not run.no_flip


def _assuming(prepared: Prepared, assumption: str | None) -> Prepared:
    seen = OutcomeRuling(assumption) if assumption else None
    return replace(prepared, orders=replace(prepared.orders, ruling=seen))


def _reporting(prepared: Prepared, report: Path | None) -> Prepared:
    if report is None:
        return prepared
    on_skipped = RowReport(report, prepared.run_id).put
    return replace(prepared, orders=replace(prepared.orders, on_skipped=on_skipped))


def unlock(catalog: Catalog, *, force: bool) -> str:
    """Remove the lock, whoever holds it; says whose it was."""
    key = catalog.store.lock_key
    try:
        stored = locks(catalog.store.objects).read(key)
    except LockHeld:
        if not force:
            raise
        catalog.store.objects.delete([key])
        return f"removed the lock {key}, which this version of lancemig could not read"
    if stored is None:
        return "no lock is held"
    lock = stored.value
    now = catalog.environment.now()
    if not force and not lock.expired(now):
        raise Refused(f"the lock is held by {lock.describe(now)}", next_step="lancemig unlock --force")
    catalog.store.objects.delete([key])
    return f"removed the lock of {lock.describe(now)}"


def _in_flight(catalog: Catalog) -> Run:
    run = catalog.in_flight()
    if run is None:
        raise LancemigError("no run is in progress; nothing to recover", next_step="lancemig status")
    return run


@dataclass(frozen=True)
class Sampled:
    """Some rows of one step; `few` when only the table's first rows were looked at."""

    step: Step
    rows: tuple[SampledRow, ...]
    few: bool


def sampled(catalog: Catalog, prepared: Prepared, count: int) -> list[Sampled]:
    """Up to `count` rows for each step that changes values; reads the live tables, writes nothing there."""
    plan = prepared.plan
    steps = {step.id: step for migration in plan.migrations for step in migration.steps}
    ids = {
        id(op): one.step_id(at) for one in prepared.orders.migrations for at, op in enumerate(one.operations)
    }
    found = []
    for table_path in table_paths(plan.start, prepared.orders.migrations):
        live = catalog.store.tables.find(plan.origin.prefix, table_path.source) if table_path.source else None
        start = plan.start.tables.get(table_path.source or "")
        for at, step in enumerate(table_path.steps):
            rows = sample(step.operation, table_path.steps[:at], start, live, count)
            if rows:
                found.append(Sampled(steps[ids[id(step.operation)]], tuple(rows), few=at > 0))
    order = list(steps)
    return sorted(found, key=lambda one: order.index(one.step.id))
