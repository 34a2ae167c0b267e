"""The planner: applies every operation to the live schema, and names the first impossible one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lancemig.catalog.checks import When
from lancemig.catalog.lineage import RootRevision
from lancemig.catalog.operations import Kind, Operation, Strategy, UndoRows
from lancemig.catalog.schema import CatalogSchema, LiveCatalog, TableSchema, TableStats, column
from lancemig.catalog.sources import known_rows
from lancemig.errors import Irreversible, PlanError
from lancemig.plan.index_upkeep import index_notes, live_column_bytes, planned_costs
from lancemig.plan.plan import (
    AS_FILED,
    DIGEST_VERSION,
    Carried,
    CommitRef,
    DirectedMigration,
    Direction,
    Overrides,
    Plan,
    PlannedMigration,
    Required,
    Staging,
    Step,
)
from lancemig.plan.preflight import Probe, brake_notes, checked, storage_notes
from lancemig.plan.tracking import Tracking


def bytes_of(
    operation: Operation, live: TableStats | None, before: TableSchema | None, after: TableSchema | None
) -> int | None:
    """How many bytes the step writes; None for rows of a source, or where the table's size is not known.

    Args:
        operation: the operation of the step.
        live: the size of its table, where no earlier step of the plan has changed its rows.
        before: the schema of the table before the operation.
        after: the schema of the table after the operation.
    """
    if operation.strategy is Strategy.METADATA:
        return 0
    if live is None or operation.strategy is Strategy.SOURCE:
        return None
    if operation.strategy is Strategy.COLUMN:
        return sum(live_column_bytes(field, live) for field in _written_columns(operation, before, after))
    return live.bytes if operation.strategy is Strategy.TABLE else None


def rows_of(operation: Operation, live: TableStats | None) -> int | None:
    """How many rows the step reads or writes, without regard to its condition."""
    if operation.strategy is Strategy.METADATA:
        return None
    if operation.strategy is Strategy.SOURCE or hasattr(operation, "rows"):
        return known_rows(getattr(operation, "rows", None))
    return None if live is None else live.rows


def _written_columns(
    operation: Operation, before: TableSchema | None, after: TableSchema | None
) -> Iterable[pa.Field]:
    written = operation.column_effects(before).written
    return (field for field in (after.columns if after else ()) if field.name in written)


@dataclass(frozen=True)
class PlannerInput:
    """The live catalog from which a plan starts, and the settings that apply."""

    catalog: str

    origin: RootRevision

    etag: str | None
    """The version token of the pointer."""

    live: LiveCatalog

    applied: Mapping[str, tuple[CommitRef, ...]] = field(default_factory=dict)
    """The commits of earlier steps by step id, for steps that undo them."""

    overrides: Overrides = AS_FILED

    staging: Staging = "copy"
    """How tables are carried into a staged root."""

    refresh_indices: bool = True
    """Whether a value change in place builds indices again that cover too little afterwards."""

    store: str = ""
    """The URI of the store; files that a table borrows from elsewhere cannot be copied."""

    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The tags of each live table that has some; only needed for a rebuild."""

    branches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The branches of each live table that are not lancemig's."""


def make_plan(
    given: PlannerInput,
    direction: Direction,
    target: str | None,
    work: Sequence[DirectedMigration],
    probe: Probe,
) -> Plan:
    """The plan of applying `work`, in order.

    From the first rebuild on, all migrations are staged in one root and go live with one flip.

    Raises:
        PlanError: names the first operation that is impossible.
        Irreversible: a step has to undo a commit that the lineage does not record.
    """
    in_place, staged = _split(work)
    planner = _Planner(given, probe)
    migrations = [planner.migration(one, in_place=True) for one in in_place]
    planner.begin_staging()
    migrations += [planner.migration(one, in_place=False) for one in staged]
    checks = {one.revision: tuple(_checks(one, staged)) for one in work if direction == "up"}
    tolerances = {one.revision: tuple(_tolerances(one, planner.schema)) for one in staged}
    return Plan(
        digest_version=DIGEST_VERSION,
        catalog=given.catalog,
        direction=direction,
        origin=given.origin,
        target=target,
        overrides=given.overrides,
        migrations=tuple(
            planner.with_final_names(m).model_copy(
                update={"checks": checks.get(m.revision, ()), "tolerances": tolerances.get(m.revision, ())}
            )
            for m in migrations
        ),
        carried=tuple(planner.carried()) if staged else (),
        requires=Required(
            etag=given.etag,
            versions={name: live.version for name, live in given.live.tables.items()},
        ),
        start=given.live.catalog,
    )


def _checks(work: DirectedMigration, staged: Sequence[DirectedMigration]) -> Iterator[str]:
    """The checks of a migration, and when they run: never between migrations that are staged together."""
    in_place = work not in staged
    runs: dict[When, bool] = {
        "before": in_place or work is staged[0],
        "after": in_place or work is staged[-1],
    }
    for check in work.migration.checks:
        moments = [when for when, possible in runs.items() if possible and check.due(when)]
        yield f"{check.title}  ({' and '.join(moments) or 'not run: staged together with other revisions'})"


def _tolerances(work: DirectedMigration, end: CatalogSchema) -> Iterator[str]:
    """The tolerances of a migration; PlanError for a table or column that does not exist after all steps."""
    for tolerance in work.migration.tolerances if work.direction == "up" else ():
        try:
            columns = end.table(tolerance.table).columns
            if tolerance.column is not None:
                column(tolerance.table, columns, tolerance.column)
        except PlanError as error:
            raise PlanError(
                f"revision {work.revision}, tolerance {tolerance.describe()}: {error.message}",
                next_step=f"fix {work.migration.header.path}: use the names after the last staged revision",
            ) from error
        yield tolerance.describe()


def _split(
    work: Sequence[DirectedMigration],
) -> tuple[Sequence[DirectedMigration], Sequence[DirectedMigration]]:
    first = next((at for at, one in enumerate(work) if one.kind is Kind.REBUILD), len(work))
    return work[:first], work[first:]


class _Planner:
    """The state while a plan is made: the schema so far, and the live tables that no step has changed."""

    def __init__(self, given: PlannerInput, probe: Probe) -> None:
        self.given = given
        self.probe = probe
        self.schema: CatalogSchema = given.live.catalog
        self.untouched = dict(given.live.tables)
        self.tracking = Tracking(())
        self.identity: dict[str, int] = {}

    def begin_staging(self) -> None:
        self.tracking = Tracking(self.schema.tables)

    def migration(self, work: DirectedMigration, *, in_place: bool) -> PlannedMigration:
        steps = [
            self.step(work, index, operation, in_place=in_place)
            for index, operation in enumerate(work.operations)
        ]
        header = work.migration.header
        return PlannedMigration(
            revision=work.revision,
            leads_to=work.leads_to,
            message=header.message,
            kind=work.kind,
            sha256=header.sha256,
            in_place=in_place,
            steps=tuple(steps),
        )

    def step(self, work: DirectedMigration, index: int, operation: Operation, *, in_place: bool) -> Step:
        live = self.untouched.get(operation.table)
        step_id, before = work.step_id(index), self.schema.tables.get(operation.table)
        try:
            notes, rows = checked(operation, self.schema, live, self.probe)
            self.schema = operation.after(self.schema)
            source: str | None = operation.table
            if not in_place:
                self.identity[step_id] = self.tracking.follow(operation)
                source = self.tracking.source[self.identity[step_id]]
            notes = (*notes, *storage_notes(operation, before, self.given.live.tables.get(source or "")))
        except PlanError as error:
            raise type(error)(
                f"revision {work.revision}, operation {index + 1} ({operation.describe()} on "
                f"{operation.table}): {error.message}",
                next_step=error.next_step
                or f"fix {work.migration.header.path}, then run the same command again",
            ) from error
        most = rows_of(operation, live) if rows is None else rows
        costs = planned_costs(operation, before, live, most) if in_place else None
        of_indices = index_notes(
            operation, before, live, costs, in_place=in_place, refresh=self.given.refresh_indices
        )
        self._touch(operation, live)
        return Step(
            id=step_id,
            revision=work.revision,
            table=operation.table,
            operation=operation.op,
            content=operation.content(),
            describe=operation.describe(),
            kind=operation.kind,
            why=operation.why,
            strategy=operation.strategy,
            rows=most,
            bytes=costs.rows
            if costs and costs.moves
            else bytes_of(operation, live, before, self.schema.tables.get(operation.table)),
            notes=(*notes, *brake_notes(operation), *of_indices),
            undoes=self._undoes(operation),
        )

    def _touch(self, operation: Operation, live: TableStats | None) -> None:
        name_after = operation.table_after
        if operation.strategy is not Strategy.METADATA or name_after != operation.table:
            self.untouched.pop(operation.table, None)
        if name_after not in (None, operation.table) and live is not None:
            self.untouched[name_after] = live

    def _undoes(self, operation: Operation) -> tuple[CommitRef, ...]:
        if not isinstance(operation, UndoRows):
            return ()
        if operation.step not in self.given.applied:
            raise Irreversible(
                f"the lineage does not record the commit of step {operation.step}; it cannot be reverted",
                next_step="declare `downgrade = [...]` in the migration",
            )
        return self.given.applied[operation.step]

    def with_final_names(self, migration: PlannedMigration) -> PlannedMigration:
        """The migration with the name that each staged step's table has after all steps."""
        if migration.in_place:
            return migration
        steps = tuple(
            step.model_copy(update={"staged_as": self.tracking.finally_called(self.identity[step.id])})
            for step in migration.steps
        )
        return migration.model_copy(update={"steps": steps})

    def carried(self) -> list[Carried]:
        carried = []
        for id_, source in self.tracking.source.items():
            if source is None:
                continue
            live = self.given.live.tables.get(source)
            copied = self.tracking.copied(id_)
            by, why = self._staging_of(live) if copied else ("copy", "")
            if live and copied and by == "copy" and self._borrows_elsewhere(live):
                raise _cannot_copy(live)
            carried.append(
                Carried(
                    table=source,
                    staged_as=self.tracking.finally_called(id_),
                    copied=copied,
                    rows=live.rows if live else None,
                    bytes=live.bytes if live else None,
                    by=by,
                    why=why,
                    tags=self.given.tags.get(source, ()),
                    branches=self.given.branches.get(source, ()),
                )
            )
        return carried

    def _staging_of(self, live: TableStats | None) -> tuple[Staging, str]:
        if self.given.staging == "clone" and live is not None and live.blobs:
            # Blobs of older storage versions are not found through a clone.
            return "copy", "it has Lance blobs, which a clone cannot always read"
        if self.given.staging == "clone" and live is not None and self._has_references(live.name):
            return "copy", "it has tags or branches, whose versions a clone would not keep"
        return self.given.staging, ""

    def _has_references(self, table: str) -> bool:
        return table in self.given.tags or table in self.given.branches

    def _borrows_elsewhere(self, live: TableStats) -> bool:
        inside = self.given.store.rstrip("/") + "/"
        return any("://" in folder and not folder.startswith(inside) for folder in live.borrows)


def _cannot_copy(live: TableStats) -> PlanError:
    # Lance's deep clone of such a table works on a disk only (tests/surface/test_lance_files.py).
    return PlanError(
        f"table {live.name} borrows files from {', '.join(live.borrows)}, which Lance cannot copy",
        next_step=f'rewrite it first: RewriteTable(table="{live.name}", data_storage_version="stable")',
    )
