"""What will be done, as a value: shown, saved, compared, and then carried out as it stands."""

from typing import Any, Literal

from pydantic import Field, ValidationError

from lancemig.catalog.lineage import Place, checked_format
from lancemig.catalog.operations import Kind, Operation, Strategy, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.value import Value, digest
from lancemig.errors import ConfigError

PLAN_FORMAT = 1

Direction = Literal["up", "down"]


class Landed(Value):
    """Where a step took effect earlier: the version of the table, under the root it had then."""

    prefix: str
    table: str
    version: int


class Step(Value):
    """One operation on one table: how it is carried out, and what it costs.

    `staged_as` is the table's name in the staged root when all is done; None in place, and for a table that
    the plan leaves behind. `rows` and `bytes` are None where they cannot be told without doing it. `undoes`
    are the commits whose effect is put back.
    """

    id: str
    revision: str
    table: str
    staged_as: str | None = None
    operation: str
    describe: str
    kind: Kind
    why: str
    strategy: Strategy
    rows: int | None = None
    bytes: int | None = None
    notes: tuple[str, ...] = ()
    undoes: tuple[Landed, ...] = ()


class PlannedMigration(Value):
    """One revision: `leads_to` is the catalog's once it has been applied, `checks` are what must hold.

    `tolerances` are where the proof before the flip need not be exact.
    """

    revision: str
    leads_to: str | None
    message: str
    kind: Kind
    sha256: str
    in_place: bool
    steps: tuple[Step, ...]
    checks: tuple[str, ...] = ()
    tolerances: tuple[str, ...] = ()


Staging = Literal["copy", "clone"]
"""How a table's files come into a staged root: copied by the store, or borrowed from the old root."""


class Carried(Value):
    """A live table taken into the staged root as `staged_as`; None leaves it behind.

    With `copied` it is there before the first step, `by` copying its files or borrowing them; otherwise a
    step writes it anew. `why` tells of a table that is not carried as lancemig.ini has it.
    """

    table: str
    staged_as: str | None
    copied: bool
    rows: int | None
    bytes: int | None
    by: Staging = "copy"
    why: str = ""


class Overrides(Value):
    """What the command line says otherwise than the files; `None` leaves a brake as the files have it.

    `overwrite`: what is put back gets its old values even where others have changed them since.
    """

    max_rows: int | None = None
    max_indeterminate: int | None = None
    overwrite: bool = False

    def of(self, operation: Operation) -> Operation:
        """The operation with the brakes that hold for this run."""
        given = self.model_dump(include={"max_rows", "max_indeterminate"}, exclude_none=True)
        known = {name: value for name, value in given.items() if name in type(operation).model_fields}
        if isinstance(operation, UndoRows):
            known = {"overwrite": self.overwrite}
        return operation.model_copy(update=known) if known else operation


AS_FILED = Overrides()
"""Nothing is overridden."""


class Required(Value):
    """What a plan was made from, and what must still be true of it: `versions` by table."""

    etag: str | None
    versions: dict[str, int]


class Plan(Value):
    """Everything an upgrade or a downgrade will do.

    `start` is the live catalog's schema; with it the operations' pure faces give every state in between.
    """

    format: int = PLAN_FORMAT
    catalog: str
    direction: Direction
    origin: Place
    target: str | None
    overrides: Overrides = AS_FILED
    migrations: tuple[PlannedMigration, ...] = ()
    carried: tuple[Carried, ...] = ()
    requires: Required
    start: CatalogSchema = Field(repr=False)

    @property
    def in_place(self) -> tuple[PlannedMigration, ...]:
        """The migrations applied to the live root."""
        return tuple(migration for migration in self.migrations if migration.in_place)

    @property
    def staged(self) -> tuple[PlannedMigration, ...]:
        """The migrations applied to one staged root, and flipped to together."""
        return tuple(migration for migration in self.migrations if not migration.in_place)

    @property
    def kind(self) -> Kind:
        """The weakest promise among the migrations."""
        return Kind.weakest([migration.kind for migration in self.migrations])

    @property
    def digest(self) -> str:
        """The identity of what will be done: the steps and files, not the counts of the day."""
        overrides = self.overrides.model_dump(exclude_defaults=True)
        return digest(
            {
                **({"overrides": overrides} if overrides else {}),
                "direction": self.direction,
                "origin": self.origin.model_dump(mode="json"),
                "target": self.target,
                "migrations": [_essence(migration) for migration in self.migrations],
                "carried": [_way(carried) for carried in self.carried],
            }
        )

    def document(self) -> dict[str, Any]:
        """The plan as it is saved."""
        return {**self.model_dump(mode="json", by_alias=True), "digest": self.digest}


def _way(carried: Carried) -> dict[str, Any]:
    # Plans that were saved when all tables were copied keep their digest.
    by = {"by"} if carried.by != "copy" else set()
    return carried.model_dump(mode="json", include={"table", "staged_as", "copied", *by})


def _essence(migration: PlannedMigration) -> dict[str, Any]:
    document = migration.model_dump(mode="json")
    for name in ("checks", "tolerances"):
        # Plans that were saved before there were any keep their digest.
        if not document[name]:
            del document[name]
    for step in document["steps"]:
        for name in ("rows", "bytes", "notes"):
            del step[name]
    return document


def read_plan(document: Any, where: str) -> Plan:
    """The plan in `document`; ConfigError when it is none, is newer, or does not match its digest."""
    checked_format(document, PLAN_FORMAT, where, next_step="lancemig upgrade --plan --out FILE")
    content = dict(document)
    claimed = content.pop("digest", None)
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            f"{where} is not a valid plan: {error.errors()[0]['msg']}",
            next_step="lancemig upgrade --plan --out FILE",
        ) from error
    if plan.digest != claimed:
        raise ConfigError(
            f"{where} was changed after it was saved: its digest does not match",
            next_step="lancemig upgrade --plan --out FILE",
        )
    return plan
