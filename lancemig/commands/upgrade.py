"""`upgrade` and `downgrade`: prepare a run from a target, and apply it; a run in progress is resumed."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from lancemig.apply.environment import OnProgress, no_progress
from lancemig.apply.replicate.appends import APPENDS
from lancemig.apply.replicate.reconcile import RootTransition, TableRoute
from lancemig.apply.replicate.types import ROWS_MOVE, ROWS_STAY
from lancemig.apply.rows.duplicates import RepeatCounts, count_repeats
from lancemig.apply.rows.skipped import SkippedRow
from lancemig.apply.runner import RunOutcome, RunRequest, apply_plan, new_run_id
from lancemig.apply.sidecar import Run
from lancemig.apply.stages import Phase
from lancemig.catalog.findings import Finding
from lancemig.catalog.lineage import LineageEntry, RootRevision
from lancemig.catalog.operations import DeduplicateRows, Kind
from lancemig.catalog.schema import CatalogSchema, Index, has_column
from lancemig.catalog.value import format_revision
from lancemig.commands.context import Catalog
from lancemig.commands.routes import table_routes
from lancemig.commands.running import on_catalog
from lancemig.commands.squash import refuse_squashed
from lancemig.commands.status import first_flip, late_writes, not_applied
from lancemig.commands.work import (
    applied_commits,
    changed_files,
    changed_steps,
    live_references,
    migrations_of_files,
    migrations_of_plan,
)
from lancemig.errors import (
    ConfigError,
    LancemigError,
    LineageBroken,
    PlanStale,
    RunUnfinished,
)
from lancemig.plan.estimates import Estimate, estimates
from lancemig.plan.plan import AS_FILED, DirectedMigration, Direction, Overrides, Plan
from lancemig.plan.planner import PlannerInput, make_plan
from lancemig.store.lance import (
    Tables,
    checked_index,
    checked_sql,
    require_column,
    require_column_of,
    rewritten_sql,
)
from lancemig.store.pointer import PointerRead

RECENT_ENTRIES = 12
"""How many lineage entries are read for timings, and for the digests of applied files."""

_FINISH = "finish it: lancemig recover; or undo it: lancemig recover --undo"


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to be applied, or to be resumed."""

    request: RunRequest
    run_id: str

    resumes: Run | None = None
    """The run in progress that will be finished, if there is one."""

    warnings: tuple[Finding, ...] = ()
    """An edited live revision; late writes that only the reconciliation of the last flip can replicate."""

    estimates: tuple[Estimate, ...] = ()
    """How long comparable steps took before."""

    staying: tuple[str, ...] = ()
    """What a rebuild leaves behind in the old root."""

    creates: str | None = None
    """The address of the root that does not exist yet, and that the run creates; None if it exists."""

    @property
    def plan(self) -> Plan:
        """The plan that will be applied."""
        return self.request.plan

    @property
    def flips(self) -> bool:
        """Whether the run makes another root live; one that has flipped already does not."""
        return bool(self.plan.staged) and not self.request.no_flip and self.request.find_routes is None


@dataclass(frozen=True)
class LiveProbe:
    """Answers the questions of the planner from the live tables."""

    tables: Tables
    root: str

    def count(self, table: str, where: str | None) -> int:
        """Count the rows that match."""
        return self.tables.open(self.root, table).count(where)

    def repeats(self, table: str, operation: DeduplicateRows) -> RepeatCounts:
        """Search the key columns of the table for repeated keys."""
        return count_repeats(operation, self.tables.open(self.root, table))

    def sql(self, columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
        """Determine the types of the expressions."""
        return checked_sql(columns, expressions, where)

    def rewritten(self, columns: pa.Schema, sql: str) -> tuple[str, pa.DataType] | None:
        """Determine the form in which the expression is evaluated."""
        return rewritten_sql(columns, sql)

    def null_column(self, table: str, columns: pa.Schema, field: pa.Field, *, live: bool) -> None:
        """Read the live table as it would be with the column, or else a table of `columns` in memory."""
        if live:
            found = self.tables.open(self.root, table)
            # Another runner may have added it since the plan was begun; then the plan is stale.
            if not has_column(found.columns, field.name):
                require_column(found, field, self.tables.options())
        else:
            require_column_of(table, columns, field)

    def index(self, columns: pa.Schema, wanted: Index) -> None:
        """Let Lance check the parameters of an index."""
        checked_index(columns, wanted)


@on_catalog
def prepare(
    catalog: Catalog,
    target: str,
    direction: Direction,
    *,
    no_flip: bool = False,
    note: str | None = None,
    overrides: Overrides = AS_FILED,
    create: bool = False,
) -> Prepared:
    """Plan the way to `target`, or resume the run in progress if it has the same target. Writes nothing.

    `create` allows a new catalog even if the revisions adopt an existing one, or if the catalog is protected.

    Raises:
        RunUnfinished: Another run is in progress.
        ConfigError: There is no catalog, and it may not be created.
    """
    run = catalog.in_flight()
    if run is not None and run.has_flipped(catalog.seen().pointer):
        if direction != run.plan.direction or not _has_target(catalog, run, target):
            raise RunUnfinished(
                f"run {run.run} has flipped to {run.staged_prefix}, and has not replicated late writes yet",
                next_step="lancemig recover, then the same command again",
            )
        return _prepare_after_flip(catalog, run)
    if run is not None:
        wanted = catalog.chain.resolve(target, run.plan.origin.revision)
        if (wanted, direction) != (run.plan.target, run.plan.direction):
            raise RunUnfinished(
                f"run {run.run} to {format_revision(run.plan.target)} has been in progress since "
                f"{run.started} ({run.phase})",
                next_step=_FINISH,
            )
        _refuse_other_brakes(run, overrides)
        return resume(catalog, run)
    seen = catalog.seen()
    catalog.store.pointers.require_own(seen)
    active = catalog.active(seen)
    live = catalog.store.tables.live(active.prefix)
    is_new = seen.pointer is None and not live.tables
    creates = _created(catalog, active.prefix, create=create) if is_new else None
    wanted = catalog.chain.resolve(target, active.revision)
    needed_direction, headers = catalog.chain.between(active.revision, wanted)
    if headers and needed_direction != direction:
        other = "downgrade" if needed_direction == "down" else "upgrade"
        raise LancemigError(
            f"{format_revision(wanted)} is {'before' if needed_direction == 'down' else 'after'} "
            f"{format_revision(active.revision)}",
            next_step=f"lancemig {other} {format_revision(wanted)}",
        )
    if direction == "down" and any(header.replaces for header in headers):
        refuse_squashed(headers, list(catalog.store.pointers.chain(seen.pointer)))
    migrations = migrations_of_files(catalog, direction, headers, overrides)
    rebuilds = any(migration.kind is Kind.REBUILD for migration in migrations)
    tags, branches = live_references(catalog, live) if rebuilds else ({}, {})
    planner_input = PlannerInput(
        catalog=catalog.settings.name,
        origin=active,
        etag=seen.version_token,
        live=live,
        applied=applied_commits(catalog, headers) if direction == "down" else {},
        overrides=overrides,
        staging=catalog.settings.staging,
        refresh_indices=catalog.settings.indices == "refresh",
        store=catalog.store.objects.uri,
        tags=tags,
        branches=branches,
    )
    plan = make_plan(
        planner_input, direction, wanted, migrations, LiveProbe(catalog.store.tables, active.prefix)
    )
    staying: list[str] = []
    if plan.staged:
        inventory = catalog.inventory(seen)
        inventory.refuse_loss()
        staying = inventory.staying
    late = late_writes(catalog, seen.pointer) if plan.staged else []
    first = first_flip(catalog, seen.pointer, active.prefix) if plan.staged else None
    prepared = _new_run(catalog, plan, migrations, no_flip=no_flip, note=note)
    past = _recent_entries(catalog, seen)
    unlike = not_applied(catalog, active.revision, past)
    return replace(
        prepared,
        warnings=(*unlike, *late, *([first] if first else [])),
        estimates=tuple(estimates(plan, past)),
        creates=creates,
        staying=tuple(staying),
    )


def _has_target(catalog: Catalog, run: Run, target: str) -> bool:
    """Whether a run has this target; unless the files tell, it has."""
    try:
        return catalog.chain.resolve(target, run.plan.origin.revision) == run.plan.target
    except LancemigError:
        return True


def _created(catalog: Catalog, root: str, *, create: bool) -> str:
    """The address of the root of a catalog that does not exist yet; ConfigError if it may not be created."""
    settings, headers = catalog.settings, catalog.chain.headers
    address = f"{catalog.store.objects.uri}/{root}"
    adopts = headers[0].adopts if headers else None
    if create or (adopts is None and not settings.protected):
        return address
    why = f"{headers[0].path} adopts tables that exist" if adopts else f"catalog {settings.name} is protected"
    raise ConfigError(
        f"there is no catalog at {address}, and {why}",
        next_step=f"check `store` and `fallback_prefix` in {settings.path.name}, and that the disk is "
        "mounted; to create a new catalog there: lancemig upgrade --create",
    )


def _recent_entries(catalog: Catalog, seen: PointerRead) -> list[LineageEntry]:
    """The newest lineage entries. They are small, but each costs a request."""
    try:
        return list(islice(catalog.store.pointers.chain(seen.pointer), RECENT_ENTRIES))
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


@on_catalog
def prepare_saved(catalog: Catalog, plan: Plan, *, no_flip: bool, note: str | None) -> Prepared:
    """Prepare a run with a saved plan.

    Raises:
        PlanStale: The catalog or the files have changed; appended rows do not count.
    """
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
    migrations = migrations_of_plan(catalog, plan)
    moved = [
        *(changed_files(plan, migrations) or changed_steps(plan, migrations)),
        *_changes_since(catalog, plan),
    ]
    if moved:
        raise PlanStale(
            "the plan is stale: " + "; ".join(moved), next_step="lancemig upgrade --plan --out FILE"
        )
    return _new_run(catalog, plan, migrations, no_flip=no_flip, note=note)


def resume(catalog: Catalog, run: Run) -> Prepared:
    """Prepare to finish the run in progress.

    Raises:
        RunUnfinished: A file that it needs was edited.
    """
    if run.phase is Phase.UNDO:
        return prepare_undo(catalog, run)
    if run.has_flipped(catalog.seen().pointer):
        return _prepare_after_flip(catalog, run)
    migrations = migrations_of_plan(catalog, run.plan)
    changed = changed_files(run.plan, migrations)
    if changed:
        raise RunUnfinished(
            f"run {run.run} cannot continue: {'; '.join(changed)}",
            next_step="restore the file (git checkout), or undo the run: lancemig recover --undo",
        )
    return Prepared(
        _run_request(catalog, run.plan, migrations, run.run, no_flip=run.no_flip, note=run.note), run.run, run
    )


def _prepare_after_flip(catalog: Catalog, run: Run) -> Prepared:
    """Prepare to finish a run that has flipped: only late writes are left, and no file is needed for that."""
    request = _run_request(catalog, run.plan, (), run.run, no_flip=False, note=run.note)

    def find_routes(
        transition: RootTransition, schema: CatalogSchema, tables: Collection[str]
    ) -> list[TableRoute]:
        return table_routes(catalog, transition, schema, tables)

    return Prepared(replace(request, find_routes=find_routes), run.run, run)


def prepare_undo(catalog: Catalog, run: Run) -> Prepared:
    """Prepare to undo the run in progress. Edited files are left out, because few may be needed."""
    files = {header.revision: header for header in catalog.chain.headers}
    wanted = [(files.get(migration.revision), migration.sha256) for migration in run.plan.migrations]
    same = tuple(header for header, sha256 in wanted if header is not None and header.has_digest(sha256))
    migrations = migrations_of_files(catalog, run.plan.direction, same, run.plan.overrides)
    return Prepared(
        _run_request(catalog, run.plan, migrations, run.run, no_flip=False, note=run.note), run.run, run
    )


def _new_run(
    catalog: Catalog, plan: Plan, migrations: Sequence[DirectedMigration], *, no_flip: bool, note: str | None
) -> Prepared:
    run_id = new_run_id(catalog.environment)
    return Prepared(_run_request(catalog, plan, migrations, run_id, no_flip=no_flip, note=note), run_id)


def _run_request(
    catalog: Catalog,
    plan: Plan,
    migrations: Sequence[DirectedMigration],
    run_id: str,
    *,
    no_flip: bool,
    note: str | None,
) -> RunRequest:
    timestamp, _, suffix = run_id.partition("-")
    return RunRequest(
        plan=plan,
        migrations=migrations,
        staging=catalog.settings.staged_root(timestamp=timestamp, run=suffix),
        fallback=RootRevision(prefix=plan.origin.prefix),
        no_flip=no_flip,
        note=note,
    )


def _changes_since(catalog: Catalog, plan: Plan) -> list[str]:
    """What has changed since the plan was made, except for appended rows."""
    seen = catalog.seen()
    active, moved = catalog.active(seen), []
    if active != plan.origin:
        moved.append(
            f"the pointer is at {format_revision(active.revision)} in {active.prefix}, not at "
            f"{format_revision(plan.origin.revision)} in {plan.origin.prefix}"
        )
    for name, version in plan.requires.versions.items():
        table = catalog.store.tables.find(active.prefix, name)
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
    """The file of `--report`, complete at every moment; a resumed run keeps its earlier lines.

    Each line has `run`, `step`, `table`, `key`, `old` and `reason`.

    Raises:
        ConfigError: The file cannot be written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self._lines = self._read_lines()
        self._write()

    def put(self, step: str, lines: list[SkippedRow]) -> None:
        """Replace the skipped rows of `step`."""
        if lines or step in self._lines:
            self._lines[step] = [_json_line({"run": self.run, "step": step, **line}) for line in lines]
            self._write()

    def _read_lines(self) -> dict[str, list[str]]:
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


def _json_line(document: dict[str, Any]) -> str:
    return json.dumps(document, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


@on_catalog
def apply_prepared(
    catalog: Catalog,
    prepared: Prepared,
    on_progress: OnProgress = no_progress,
    report: Path | None = None,
    *,
    postponed_by: Path | None = None,
) -> RunOutcome:
    """Apply a prepared run; a plan without migrations changes nothing.

    Args:
        catalog: The catalog.
        prepared: What was prepared and shown.
        on_progress: Called with the progress.
        report: A file that gets a line of JSON for each skipped row.
        postponed_by: A file; a rebuild is flipped once it is removed. It is created if it does not exist.
    """
    catalog.changeable()
    prepared = with_report(prepared, report)
    if postponed_by is not None and prepared.plan.staged:
        prepared = _with_postponed_flip(prepared, postponed_by)
    if not prepared.plan.migrations:
        return RunOutcome(run="", active=prepared.plan.origin)
    if prepared.resumes is not None and prepared.resumes.no_flip:
        run = prepared.resumes
        if run.phase is Phase.VERIFIED:
            raise RunUnfinished(
                f"run {run.run} has staged {run.staged_prefix} and waits for the flip",
                next_step="lancemig flip; or abandon the run: lancemig recover --undo",
            )
    return apply_plan(catalog.store, prepared.request, catalog.environment, prepared.run_id, on_progress)


def _with_postponed_flip(prepared: Prepared, file: Path) -> Prepared:
    try:
        file.touch()
    except OSError as error:
        raise ConfigError(
            f"cannot create {file}: {error.strerror}", next_step="give a path in an existing folder"
        ) from error
    return replace(prepared, request=replace(prepared.request, postponed=file.exists))


def with_report(prepared: Prepared, report: Path | None) -> Prepared:
    """The same run, which writes a line of JSON into the file `report` for each skipped row."""
    if report is None:
        return prepared
    on_skipped = RowReport(report, prepared.run_id).put
    return replace(prepared, request=replace(prepared.request, on_skipped=on_skipped))
