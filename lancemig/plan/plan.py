"""The plan of an upgrade or downgrade, as a value that is shown, saved, compared and then applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field
from pydantic_core import to_json

from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.catalog.lineage import RootRevision
from lancemig.catalog.operations import CreateTable, Kind, Operation, Strategy, UndoRows
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.stamps import StepId
from lancemig.catalog.value import FrozenModel, digest
from lancemig.errors import ConfigError, Irreversible, LancemigError, PlanError
from lancemig.revisions.loader import Migration

PLAN_FORMAT = 1
DIGEST_VERSION = 2
"""How the digest of a new plan is computed: 2 is the list in `_done`, 1 is how release 0.1.0 did it."""

Direction = Literal["up", "down"]


class CommitRef(FrozenModel):
    """A commit of an earlier step: the table, its version, and the root in which it was made."""

    prefix: str
    table: str
    version: int


class Step(FrozenModel):
    """One operation on one table: how it is carried out, and what it costs."""

    id: str

    revision: str

    table: str

    staged_as: str | None = None
    """The table's name in the staged root after all steps; None in place, and for a dropped table."""

    operation: str

    content: str | None = None
    """The sha256 of the operation's fields; None in plans of release 0.1.0."""

    describe: str

    kind: Kind

    why: str

    strategy: Strategy

    rows: int | None = None
    """The number of rows that are read or written; None where it is not known."""

    bytes: int | None = None
    """The number of bytes that are written; None where it is not known."""

    notes: tuple[str, ...] = ()

    undoes: tuple[CommitRef, ...] = ()
    """The commits that the step reverts."""


class PlannedMigration(FrozenModel):
    """One revision of a plan."""

    revision: str
    """The revision that is applied or reverted."""

    leads_to: str | None
    """The revision of the catalog afterwards."""

    message: str

    kind: Kind

    sha256: str
    """The checksum of the migration file."""

    in_place: bool
    """Whether the steps run on the live root; else on the staged one."""

    steps: tuple[Step, ...]

    checks: tuple[str, ...] = ()
    """The checks of the revision, in words."""

    tolerances: tuple[str, ...] = ()
    """Where the verification before the flip need not be exact, in words."""


Staging = Literal["copy", "clone"]
"""How a table's files come into a staged root: copied by the store, or borrowed from the old root."""


class Carried(FrozenModel):
    """A live table, and how it comes into the staged root."""

    table: str

    staged_as: str | None
    """Its name in the staged root after all steps; None for a dropped table."""

    copied: bool
    """Whether its files are in the staged root before the first step; else a step writes the whole table."""

    rows: int | None

    bytes: int | None

    by: Staging = "copy"

    why: str = ""
    """The reason why `by` is not what lancemig.ini says; empty if it is."""

    tags: tuple[str, ...] = ()
    """The tags of the live table: carried where `copied`, else they stay in the old root."""

    branches: tuple[str, ...] = ()
    """The branches of the live table that are not lancemig's: carried like tags."""

    @property
    def references(self) -> tuple[str, ...]:
        """The tags and branches, in words."""
        return (*(f"tag {tag}" for tag in self.tags), *(f"branch {branch}" for branch in self.branches))

    @property
    def carries_references(self) -> bool:
        """Whether the staged root gets the tags and branches."""
        return self.copied and self.staged_as is not None


class Overrides(FrozenModel):
    """Options of the command line that override the files; None leaves a brake as the files have it."""

    max_rows: int | None = None

    max_indeterminate: int | None = None

    overwrite: bool = False
    """Whether a reverted cell gets its old value even where another program has changed it since."""

    def of(self, operation: Operation) -> Operation:
        """The operation with the brakes of this run."""
        given = self.model_dump(include={"max_rows", "max_indeterminate"}, exclude_none=True)
        known = {name: value for name, value in given.items() if name in type(operation).model_fields}
        if isinstance(operation, UndoRows):
            known = {"overwrite": self.overwrite}
        return operation.model_copy(update=known) if known else operation


AS_FILED = Overrides()
"""No overrides."""


class Required(FrozenModel):
    """The state of the live catalog from which a plan was made, and which must not have changed."""

    etag: str | None
    versions: dict[str, int]


class Plan(StoredModel):
    """Everything an upgrade or a downgrade will do.

    `start` is the live catalog's schema; with it the operations' pure faces give every state in between.
    `digest_version` says how the digest is computed; a plan without it was saved by release 0.1.0.
    """

    format: int = PLAN_FORMAT
    digest_version: int = 1
    catalog: str
    direction: Direction
    origin: RootRevision
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
        """The identity of what will be done: the steps and files, not the counts of the day, and no prose."""
        return _digest_of_0_1_0(self) if self.digest_version == 1 else digest(_done(self))

    @cached_property
    def encoded(self) -> bytes:
        """The plan as it is saved, as JSON text with an indent of one: a run saves it with every step."""
        return to_json(self.document(), indent=1)

    def document(self) -> dict[str, Any]:
        """The plan as it is saved: `digest` says what will be done, `checksum` covers the whole document."""
        content = {**self.model_dump(mode="json", by_alias=True), "digest": self.digest}
        return {**content, "checksum": digest(content)}


_PLACE = ("prefix", "revision")
_STEP = ("id", "revision", "table", "staged_as", "operation", "content", "kind", "strategy")
_MIGRATION = ("revision", "leads_to", "kind", "sha256", "in_place")
_CARRIED = ("table", "staged_as", "copied", "by")
_LANDED = ("prefix", "table", "version")


def _done(plan: Plan) -> dict[str, Any]:
    """What the digest covers, field by field: a field that is not listed here is no part of it.

    Sentences are left out, so that a release may word them otherwise. So are counts, and what must still be
    true of the live catalog (`requires`, `start`), which is compared with the catalog itself.
    """
    return {
        "digest_version": plan.digest_version,
        "catalog": plan.catalog,
        "direction": plan.direction,
        "origin": _some(plan.origin, _PLACE),
        "target": plan.target,
        "overrides": plan.overrides.model_dump(mode="json", exclude_defaults=True),
        "migrations": [
            {
                **_some(migration, _MIGRATION),
                "steps": [
                    {**_some(step, _STEP), "undoes": [_some(landed, _LANDED) for landed in step.undoes]}
                    for step in migration.steps
                ],
            }
            for migration in plan.migrations
        ],
        "carried": [_some(carried, _CARRIED) for carried in plan.carried],
    }


def _some(value: FrozenModel, names: tuple[str, ...]) -> dict[str, Any]:
    return value.model_dump(mode="json", include=set(names))


def _digest_of_0_1_0(plan: Plan) -> str:
    """The digest as release 0.1.0 computed it, sentences included; only to read what that release wrote."""
    step_fields = (*_STEP, "describe", "why", "undoes")
    known = {"max_rows", "max_indeterminate", "overwrite"}
    overrides = plan.overrides.model_dump(include=known, exclude_defaults=True)
    migrations = []
    for migration in plan.migrations:
        document = _some(migration, (*_MIGRATION, "message", "checks", "tolerances"))
        for name in ("checks", "tolerances"):
            if not document[name]:
                del document[name]
        steps = [_some(step, step_fields) for step in migration.steps]
        document["steps"] = [{n: v for n, v in step.items() if n != "content"} for step in steps]
        migrations.append(document)
    carried = [{n: v for n, v in _some(one, _CARRIED).items() if (n, v) != ("by", "copy")}
               for one in plan.carried]  # fmt: skip
    return digest(
        {
            **({"overrides": overrides} if overrides else {}),
            "direction": plan.direction,
            "origin": _some(plan.origin, _PLACE),
            "target": plan.target,
            "migrations": migrations,
            "carried": carried,
        }
    )


def checked_digest_version(document: Any, where: str, next_step: str) -> None:
    """Refuse a plan whose digest this program cannot compute, as one of a newer release."""
    found = document.get("digest_version", 1) if isinstance(document, Mapping) else 1
    if not isinstance(found, int) or not 1 <= found <= DIGEST_VERSION:
        raise ConfigError(
            f"{where} has digest_version {found}; this lancemig knows up to {DIGEST_VERSION}",
            next_step=next_step,
        )


class _PlanType(DocumentType[Plan]):
    def parse(self, document: Any, where: str) -> Plan:
        """Read the document and compare it with its digests; see `read_plan`."""
        return read_plan(document, where)


_PLAN_AGAIN = "lancemig upgrade --plan --out FILE"
PLAN = _PlanType(Plan, "plan", PLAN_FORMAT, next_step=_PLAN_AGAIN, newer=_PLAN_AGAIN, error=ConfigError)


def read_plan(document: Any, where: str) -> Plan:
    """The saved plan in a JSON document, called `where` in errors.

    Raises:
        ConfigError: It is not a plan, has a newer format, or was changed after it was saved.
    """
    PLAN.check_format(document, where)
    checked_digest_version(document, where, next_step=PLAN.newer)
    content = dict(document)
    vouched = content.pop("checksum", None)
    whole = digest(content)
    claimed = content.pop("digest", None)
    plan = PLAN.validate(content, where)
    # What 0.1.0 saved has no checksum; its digest covers the sentences as well.
    vouched_for = vouched == whole or (vouched is None and plan.digest_version == 1)
    if plan.digest != claimed or not vouched_for:
        what = "digest" if plan.digest != claimed else "checksum"
        raise PLAN.damaged(where, f"was changed after it was saved: its {what} does not match")
    return plan


@dataclass(frozen=True)
class DirectedMigration:
    """One migration in one direction, with its operations in the order in which they run."""

    migration: Migration
    direction: Direction
    operations: tuple[Operation, ...]
    leads_to: str | None

    @property
    def revision(self) -> str:
        """The revision that is applied or reverted."""
        return self.migration.header.revision

    @property
    def kind(self) -> Kind:
        """The declared kind upwards; the kind that the operations need downwards."""
        if self.direction == "up":
            return self.migration.kind
        return Kind.weakest([operation.kind for operation in self.operations])

    def step_id(self, index: int) -> str:
        """The id of a step in plans, stamps and lineage: `0007/0`, downwards `0007/down.0`."""
        return str(StepId(self.revision, index, down=self.direction == "down"))


def upward(migrations: Sequence[Migration], overrides: Overrides = AS_FILED) -> list[DirectedMigration]:
    """The work of applying `migrations`, given in that order."""
    return [
        DirectedMigration(
            m, "up", tuple(overrides.of(operation) for operation in m.operations), m.header.revision
        )
        for m in migrations
    ]


def downward(
    migrations: Sequence[Migration],
    before: Mapping[str, CatalogSchema | None],
    overrides: Overrides = AS_FILED,
) -> list[DirectedMigration]:
    """The work of reverting `migrations`.

    Args:
        migrations: the migrations, newest first.
        before: the schema before each of them by revision, as the files define it; None where they do not
            reach back to an empty catalog.
        overrides: options of the command line.

    Raises:
        Irreversible: names the migration and the operation that has no inverse.
    """
    return [
        DirectedMigration(
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
            if before is not None and not _is_unknown_table(operation, states):
                states = operation.after(states)
        except Irreversible as error:
            raise Irreversible(
                f"revision {migration.header.revision}, operation {index + 1} on {operation.table}: "
                f"{error.message}",
                next_step=error.next_step,
            ) from error
        except PlanError as error:
            raise _unknown_past(migration, index, error) from error
        inverses.append([_with_step(op, migration, index) for op in inverse])
    return tuple(operation for inverse in reversed(inverses) for operation in inverse)


def _with_step(operation: Operation, migration: Migration, index: int) -> Operation:
    if isinstance(operation, UndoRows):
        return operation.model_copy(update={"step": str(StepId(migration.header.revision, index))})
    return operation


def _is_unknown_table(operation: Operation, states: CatalogSchema) -> bool:
    """Whether no file creates the operation's table, so that its schema is not known."""
    return operation.table not in states.tables and not isinstance(operation, CreateTable)


def _unknown_past(migration: Migration, index: int, error: LancemigError) -> Irreversible:
    return Irreversible(
        f"revision {migration.header.revision}, operation {index + 1}: the files do not define the schema "
        f"before it: {error.message}",
        next_step="declare `downgrade = [...]` in the migration",
    )
