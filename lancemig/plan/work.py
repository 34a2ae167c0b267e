"""The operations a plan is made of, for each migration and direction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lancemig.catalog.operations import CreateTable, Kind, Operation, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.errors import Irreversible, LancemigError, PlanError
from lancemig.plan.plan import AS_FILED, Direction, Overrides
from lancemig.script.loader import Migration


@dataclass(frozen=True)
class Work:
    """One migration in one direction, as operations in the order in which they are carried out."""

    migration: Migration
    direction: Direction
    operations: tuple[Operation, ...]
    leads_to: str | None

    @property
    def revision(self) -> str:
        """The revision that is applied, or taken back."""
        return self.migration.header.revision

    @property
    def kind(self) -> Kind:
        """What the migration declares, upwards; what its operations need, downwards."""
        if self.direction == "up":
            return self.migration.kind
        return Kind.weakest([operation.kind for operation in self.operations])

    def step_id(self, index: int) -> str:
        """The name of a step, in plans, stamps and lineage: `0007/0`, downwards `0007/down.0`."""
        return f"{self.revision}/{'' if self.direction == 'up' else 'down.'}{index}"


def upward(migrations: Sequence[Migration], overrides: Overrides = AS_FILED) -> list[Work]:
    """The work of applying `migrations`, given in that order."""
    return [
        Work(m, "up", tuple(overrides.of(operation) for operation in m.operations), m.header.revision)
        for m in migrations
    ]


def downward(
    migrations: Sequence[Migration],
    before: Mapping[str, CatalogSchema | None],
    overrides: Overrides = AS_FILED,
) -> list[Work]:
    """The work of taking `migrations` back, given newest first.

    `before` holds the schema before each of them, as the files tell it (None where they do not reach back to
    an empty catalog). Raises Irreversible, naming migration and operation, where there is no way back.
    """
    return [
        Work(
            m,
            "down",
            tuple(overrides.of(operation) for operation in _reversed(m, before[m.header.revision])),
            m.header.down_revision,
        )
        for m in migrations
    ]


def _reversed(migration: Migration, before: CatalogSchema | None) -> tuple[Operation, ...]:
    if migration.downgrade is not None:
        return migration.downgrade
    states, inverses = before or CatalogSchema(), []
    for index, operation in enumerate(migration.operations):
        try:
            inverse = operation.inverse(states)
            if before is not None and not _unheard_of(operation, states):
                states = operation.after(states)
        except Irreversible as error:
            raise Irreversible(
                f"{migration.header.revision}, operation {index + 1} on {operation.table}: {error.message}",
                next_step=error.next_step,
            ) from error
        except PlanError as error:
            raise _unknown_past(migration, index, error) from error
        inverses.append([_named(op, migration, index) for op in inverse])
    return tuple(operation for inverse in reversed(inverses) for operation in inverse)


def _named(operation: Operation, migration: Migration, index: int) -> Operation:
    if isinstance(operation, UndoRows):
        return operation.model_copy(update={"step": f"{migration.header.revision}/{index}"})
    return operation


def _unheard_of(operation: Operation, states: CatalogSchema) -> bool:
    """Whether the operation changes a table that no file made: what needs no schema can be taken back."""
    return operation.table not in states.tables and not isinstance(operation, CreateTable)


def _unknown_past(migration: Migration, index: int, error: LancemigError) -> Irreversible:
    return Irreversible(
        f"{migration.header.revision}, operation {index + 1}: the files do not define the schema before it: "
        f"{error.message}",
        next_step="declare `downgrade = [...]` in the migration",
    )
