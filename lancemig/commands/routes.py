"""The routes of late writes: the operations that rows pass through from one root into the other.

The lineage records the operations of a rebuild. A migration file is read only for a table that an operation
with a function or with rows has changed, and for entries of earlier releases.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lancemig.apply.effects.replay import TablePath, table_paths
from lancemig.apply.replicate.reconcile import DERIVED_AGAIN, RootTransition, TableRoute
from lancemig.catalog.lineage import AppliedMigration, LineageEntry, RecordedOperation
from lancemig.catalog.operations import AnyOperation, Operation
from lancemig.catalog.schema import CatalogSchema
from lancemig.commands.context import Catalog
from lancemig.commands.work import migrations_of_entry
from lancemig.errors import ConfigError, Irreversible, PlanError, ScriptError
from lancemig.plan.plan import DirectedMigration, downward, upward
from lancemig.plan.tracking import Tracking
from lancemig.revisions.header import Header
from lancemig.revisions.loader import Migration

_OPERATION: TypeAdapter[Operation] = TypeAdapter(AnyOperation)


def table_routes(
    catalog: Catalog, transition: RootTransition, schema: CatalogSchema, tables: Collection[str]
) -> list[TableRoute]:
    """The routes of `tables` of the source root, whose schema is `schema`.

    Raises:
        PlanError: A route needs a migration file that is gone or was edited after it was applied.
    """
    router = Router(catalog, transition, schema)
    return [router.route(name) for name in tables if name in schema.tables]


@dataclass
class Router:
    """Finds the routes of one transition."""

    catalog: Catalog
    transition: RootTransition
    schema: CatalogSchema
    """The schema of the source root."""

    def route(self, name: str) -> TableRoute:
        """The route of one table; PlanError if it needs a migration file that is not as it was applied."""
        if self.transition.is_rollback and name in self._changed:
            revision = self._changed[name]
            return TableRoute(
                name,
                None,
                f"revision {revision} changed its rows after the flip; roll forward, downgrade that "
                "revision, and roll back again",
            )
        if self._is_untouched(name):
            path: TablePath | None = TablePath(name, name, ())
            return self._with_target(name, path) if self.transition.is_rollback else self._forward(name, [])
        work = _recorded_work(self.transition.flip, name, back=self.transition.is_rollback)
        if work is None:
            work = self._files
        return self._back(name, work) if self.transition.is_rollback else self._forward(name, work)

    def _is_untouched(self, name: str) -> bool:
        """Whether no operation of the rebuild names a table, which then has the same rows in both roots."""
        flip = self.transition.flip
        if any(migration.operations for migration in flip.migrations):
            named = [each for migration in flip.migrations for each in migration.operations]
            return not any(name in (each.table, each.table_after) for each in named)
        # An entry of an earlier release names the tables of its steps; a dropped table has no step.
        if not flip.steps or name in {step.table for step in flip.steps}:
            return False
        source, target = (schema.tables.get(name) for schema in self._schemas)
        return source == target

    @cached_property
    def _files(self) -> list[DirectedMigration]:
        try:
            return migrations_of_entry(self.catalog, self.transition.flip)
        except (ScriptError, ConfigError) as error:
            raise PlanError(error.message, next_step=error.next_step) from error

    @cached_property
    def _changed(self) -> dict[str, str]:
        """The tables that revisions changed in place after the flip, as `{table: revision}`."""
        transition, changed = self.transition, dict[str, str]()
        root = transition.source if transition.is_rollback else transition.target
        if root.revision == transition.flip.target.revision:
            return changed
        for entry in self.catalog.store.pointers.chain(self.catalog.seen().pointer):
            if entry.seq <= transition.flip.seq:
                break
            if entry.migrations and entry.origin.prefix == entry.target.prefix == root.prefix:
                revision = entry.migrations[-1].revision
                changed |= {
                    step.table: revision for step in entry.steps if step.changed or not transition.is_rollback
                }
        return changed

    def _forward(self, name: str, work: Sequence[DirectedMigration]) -> TableRoute:
        path = _path(self.schema, work, name)
        if path.target in self._changed:
            path = _path(self.schema, [*work, *self._later], name)
        return TableRoute(name, None, DERIVED_AGAIN) if path.derived else TableRoute(name, path)

    @cached_property
    def _later(self) -> list[DirectedMigration]:
        """The revisions that were applied in place after the flip, which late rows pass through as well."""
        try:
            chain, first = self.catalog.chain, self.transition.flip.target.revision
            last = self.transition.target.revision
            if not (chain.knows(first) and chain.knows(last)):
                return []
            direction, headers = chain.between(first, last)
            return upward(self.catalog.migrations(headers)) if direction == "up" else []
        except (ScriptError, ConfigError) as error:
            raise PlanError(error.message, next_step=error.next_step) from error

    def _back(self, name: str, work: Sequence[DirectedMigration]) -> TableRoute:
        try:
            path = _path(self.schema, self._inverse(work, name), name)
        except (Irreversible, PlanError) as error:
            return TableRoute(name, None, error.message)
        return self._with_target(name, path)

    def _with_target(self, name: str, path: TablePath | None) -> TableRoute:
        if path is None or path.target is None:
            return TableRoute(name, None, "the other root does not have this table")
        if path.target not in self.transition.versions()[1]:
            return TableRoute(name, None, f"the other root has no table {path.target}")
        return TableRoute(name, path)

    def _inverse(self, work: Sequence[DirectedMigration], name: str) -> list[DirectedMigration]:
        """The inverse of the migrations, for one table alone: operations on others may be irreversible."""
        if any(migration.direction == "down" for migration in work):
            return upward([directed.migration for directed in reversed(work)])
        if all(directed.migration.downgrade is not None for directed in work):
            return downward(
                [directed.migration for directed in reversed(work)],
                {directed.revision: None for directed in work},
            )
        state = self._schemas[1]
        before: dict[str, CatalogSchema | None] = {}
        tracking, owned = Tracking(state.tables), list[tuple[DirectedMigration, Operation, int]]()
        for directed in work:
            before[directed.revision] = state
            for operation in directed.operations:
                owned.append((directed, operation, tracking.follow(operation)))
                state = operation.after(state)
        migrations = [
            directed.migration.model_copy(
                update={
                    "operations": tuple(
                        operation
                        for owner, operation, id_ in owned
                        if owner is directed and tracking.finally_called(id_) == name
                    )
                }
            )
            for directed in reversed(work)
        ]
        return downward(migrations, before)

    @cached_property
    def _schemas(self) -> tuple[CatalogSchema, CatalogSchema]:
        """The schemas of the source and of the target, when both had the same rows."""
        transition, (_, after) = self.transition, self.transition.versions()
        return self.schema, _schema(self.catalog, transition.target.prefix, after)


def _schema(catalog: Catalog, prefix: str, versions: Mapping[str, int]) -> CatalogSchema:
    tables = catalog.store.tables
    return CatalogSchema(
        tables={name: tables.open(prefix, name, at).schema() for name, at in versions.items()}
    )


def _path(schema: CatalogSchema, work: Sequence[DirectedMigration], name: str) -> TablePath:
    return next(path for path in table_paths(schema, work) if path.source == name)


def _recorded_work(flip: LineageEntry, name: str, *, back: bool) -> list[DirectedMigration] | None:
    """The migrations of a flip, with the recorded operations on one table alone.

    None if the record is not complete: then only the files have the operations.

    Args:
        flip: The lineage entry.
        name: The table, in the root that rows are read from.
        back: Whether only the opposite direction is needed.
    """
    if not any(migration.operations for migration in flip.migrations):
        return None
    recorded = [each for migration in flip.migrations for each in migration.operations]
    declared = [each for migration in flip.migrations for each in migration.reverse or ()]
    names = _names_of(name, [*recorded, *declared])
    work, down_revision = [], flip.origin.revision
    for migration in flip.migrations:
        reverse = _restored(_reverse(migration, names), names) if back else None
        operations = _restored(migration.operations, names)
        if reverse is not None:
            operations = operations or ()
        elif operations is None or (migration.reverse is not None and back):
            return None
        work.append(_directed(flip, migration, down_revision, (operations, reverse)))
        down_revision = migration.revision
    return work


def _reverse(migration: AppliedMigration, names: set[str]) -> Sequence[RecordedOperation] | None:
    """The recorded operations of the opposite direction; None if an operation on these tables has none."""
    if migration.reverse is not None:
        return migration.reverse
    reverse: list[RecordedOperation] = []
    for operation in reversed(migration.operations):
        if operation.table in names:
            if operation.inverse is None:
                return None
            reverse += operation.inverse
    return reverse


def _names_of(name: str, recorded: Iterable[RecordedOperation]) -> set[str]:
    """The names that a table has in the course of these operations, and of tables that share one with it."""
    pairs = [{each.table, each.table_after or each.table} for each in recorded]
    names, size = {name}, 0
    while len(names) > size:
        size = len(names)
        names.update(*(pair for pair in pairs if pair & names))
    return names


def _restored(recorded: Iterable[RecordedOperation] | None, names: set[str]) -> tuple[Operation, ...] | None:
    """The operations on tables of these names; None if one of them is not recorded completely."""
    if recorded is None:
        return None
    operations = []
    for each in recorded:
        if each.table not in names:
            continue
        if each.fields is None:
            return None
        try:
            operation = _OPERATION.validate_python(each.fields)
        except ValidationError:
            return None
        if operation.content() != each.content:
            return None
        operations.append(operation)
    return tuple(operations)


def _directed(
    flip: LineageEntry,
    applied: AppliedMigration,
    down_revision: str | None,
    operations: tuple[tuple[Operation, ...], tuple[Operation, ...] | None],
) -> DirectedMigration:
    """A migration from its record; its header names no file."""
    header = Header(
        path=Path(f"lineage entry {flip.id}"),
        revision=applied.revision,
        down_revision=down_revision,
        sha256=applied.sha256,
    )
    ran, reverse = operations
    up = flip.direction != "down"
    migration = Migration(
        header=header,
        kind=applied.kind,
        operations=ran if up else reverse or (),
        downgrade=reverse if up else ran,
    )
    return DirectedMigration(migration, "up" if up else "down", ran, applied.revision if up else None)
