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
from lancemig.plan.preflight import Probe, brake_notes, checked
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
        return sum(column_bytes(field, live) for field in _written_columns(operation, before, after))
    return live.bytes if operation.strategy is Strategy.TABLE else None


def rows_of(operation: Operation, live: TableStats | None) -> int | None:
    """How many rows the step reads or writes, without regard to its condition."""
    if operation.strategy is Strategy.METADATA:
        return None
    if operation.strategy is Strategy.SOURCE or hasattr(operation, "rows"):
        return known_rows(getattr(operation, "rows", None))
    return None if live is None else live.rows


def column_bytes(field: pa.Field, live: TableStats) -> int:
    """The bytes of a column over all rows: exact for fixed widths, an even share of the table otherwise."""
    try:
        return int(max(field.type.bit_width, 8) * live.rows // 8)
    except ValueError:
        return live.bytes // max(len(live.table.columns), 1)


def _written_columns(
    operation: Operation, before: TableSchema | None, after: TableSchema | None
) -> Iterable[pa.Field]:
    written = operation.column_effects(before).written
    return (field for field in (after.columns if after else ()) if field.name in written)


@dataclass(frozen=True)
class PlannerInput:
    """Where a plan starts from. `applied` tells where earlier steps landed, for those that are undone.

    `staging` is how tables are to be carried into a staged root; `store` is what lies in reach of the store.
    """

    catalog: str
    origin: RootRevision
    etag: str | None
    live: LiveCatalog
    applied: Mapping[str, tuple[CommitRef, ...]] = field(default_factory=dict)
    overrides: Overrides = AS_FILED
    staging: Staging = "copy"
    store: str = ""


def make_plan(
    situation: PlannerInput,
    direction: Direction,
    target: str | None,
    work: Sequence[DirectedMigration],
    probe: Probe,
) -> Plan:
    """The plan of doing `work`; PlanError names the first operation that is impossible.

    From the first rebuild on, everything is staged: one root, one flip, all or nothing.
    """
    in_place, staged = _split(work)
    planner = _Planner(situation, probe)
    migrations = [planner.migration(one, in_place=True) for one in in_place]
    planner.begin_staging()
    migrations += [planner.migration(one, in_place=False) for one in staged]
    checks = {one.revision: tuple(_checks(one, staged)) for one in work if direction == "up"}
    tolerances = {one.revision: tuple(_tolerances(one, planner.schema)) for one in staged}
    return Plan(
        digest_version=DIGEST_VERSION,
        catalog=situation.catalog,
        direction=direction,
        origin=situation.origin,
        target=target,
        overrides=situation.overrides,
        migrations=tuple(
            planner.placed(m).model_copy(
                update={"checks": checks.get(m.revision, ()), "tolerances": tolerances.get(m.revision, ())}
            )
            for m in migrations
        ),
        carried=tuple(planner.carried()) if staged else (),
        requires=Required(
            etag=situation.etag,
            versions={name: live.version for name, live in situation.live.tables.items()},
        ),
        start=situation.live.catalog,
    )


def _checks(one: DirectedMigration, staged: Sequence[DirectedMigration]) -> Iterator[str]:
    """The checks of a migration, and when they are made: between two that are staged together, never."""
    alone = one not in staged
    possible: dict[When, bool] = {"before": alone or one is staged[0], "after": alone or one is staged[-1]}
    for check in one.migration.checks:
        moments = [when for when, made in possible.items() if made and check.due(when)]
        yield f"{check.title}  ({' and '.join(moments) or 'not run: staged together with other revisions'})"


def _tolerances(one: DirectedMigration, end: CatalogSchema) -> Iterator[str]:
    """What a migration tolerates; PlanError where that names what is not there in the end."""
    for tolerance in one.migration.tolerances if one.direction == "up" else ():
        try:
            columns = end.table(tolerance.table).columns
            if tolerance.column is not None:
                column(tolerance.table, columns, tolerance.column)
        except PlanError as error:
            raise PlanError(
                f"revision {one.revision}, tolerance {tolerance.describe()}: {error.message}",
                next_step=f"fix {one.migration.header.path}: use the names after the last staged revision",
            ) from error
        yield tolerance.describe()


def _split(
    work: Sequence[DirectedMigration],
) -> tuple[Sequence[DirectedMigration], Sequence[DirectedMigration]]:
    first = next((at for at, one in enumerate(work) if one.kind is Kind.REBUILD), len(work))
    return work[:first], work[first:]


class _Planner:
    """The state of a planning: the schema so far, and which live tables are still as they were."""

    def __init__(self, situation: PlannerInput, probe: Probe) -> None:
        self.situation = situation
        self.probe = probe
        self.schema: CatalogSchema = situation.live.catalog
        self.untouched = dict(situation.live.tables)
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
            if not in_place:
                self.identity[step_id] = self.tracking.follow(operation)
        except PlanError as error:
            raise type(error)(
                f"revision {work.revision}, operation {index + 1} ({operation.describe()} on "
                f"{operation.table}): {error.message}",
                next_step=error.next_step
                or f"fix {work.migration.header.path}, then run the same command again",
            ) from error
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
            rows=rows_of(operation, live) if rows is None else rows,
            bytes=bytes_of(operation, live, before, self.schema.tables.get(operation.table)),
            notes=(*notes, *brake_notes(operation)),
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
        if operation.step not in self.situation.applied:
            raise Irreversible(
                f"the lineage does not record the commit of step {operation.step}; it cannot be reverted",
                next_step="declare `downgrade = [...]` in the migration",
            )
        return self.situation.applied[operation.step]

    def placed(self, migration: PlannedMigration) -> PlannedMigration:
        """The migration with each staged step told what its table is called in the end."""
        if migration.in_place:
            return migration
        steps = tuple(
            step.model_copy(update={"staged_as": self.tracking.finally_called(self.identity[step.id])})
            for step in migration.steps
        )
        return migration.model_copy(update={"steps": steps})

    def carried(self) -> list[Carried]:
        found = []
        for id_, source in self.tracking.source.items():
            if source is None:
                continue
            live = self.situation.live.tables.get(source)
            copied = self.tracking.copied(id_)
            by, why = self._way(live) if copied else ("copy", "")
            if live and copied and by == "copy" and self._out_of_reach(live):
                raise _borrowing(live)
            found.append(
                Carried(
                    table=source,
                    staged_as=self.tracking.finally_called(id_),
                    copied=copied,
                    rows=live.rows if live else None,
                    bytes=live.bytes if live else None,
                    by=by,
                    why=why,
                )
            )
        return found

    def _way(self, live: TableStats | None) -> tuple[Staging, str]:
        if self.situation.staging == "clone" and live is not None and live.blobs:
            # Blobs of older storage versions are not found through a clone.
            return "copy", "it has Lance blobs, which a clone cannot always read"
        return self.situation.staging, ""

    def _out_of_reach(self, live: TableStats) -> bool:
        inside = self.situation.store.rstrip("/") + "/"
        return any("://" in place and not place.startswith(inside) for place in live.borrows)


def _borrowing(live: TableStats) -> PlanError:
    # Lance's deep clone of such a table works on a disk only (tests/surface/test_lance_files.py).
    return PlanError(
        f"table {live.name} borrows files from {', '.join(live.borrows)}, which Lance cannot copy",
        next_step=f'rewrite it first: RewriteTable(table="{live.name}", data_storage_version="stable")',
    )
