"""The pointer, and the chain of lineage entries that explains how it came to be what it is."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from lancemig.catalog.kind import Kind
from lancemig.catalog.timings import Timing
from lancemig.catalog.value import Value, digest
from lancemig.errors import ConfigError, LancemigError, LineageBroken

POINTER_FORMAT = 1
LINEAGE_FORMAT = 1
FIND_OUT = (
    "find out who changed the store; restore the entry from a backup or from the bucket's object versions"
)


class Place(Value):
    """A root and the revision it is at; `revision` is `None` at base, or where none was ever stamped."""

    prefix: str
    revision: str | None = None


class Pointer(Value):
    """Which root is live. Keys that lancemig does not know are kept as they are."""

    model_config = ConfigDict(extra="allow")

    format: int = POINTER_FORMAT
    active_prefix: str
    previous_prefix: str | None = None
    revision: str | None = None
    previous_revision: str | None = None
    lineage: str | None = None
    flip_id: str | None = None
    updated_at: str | None = None
    updated_by: str | None = None
    note: str | None = None

    @property
    def place(self) -> Place:
        """The live root and its revision."""
        return Place(prefix=self.active_prefix, revision=self.revision)

    @property
    def previous(self) -> Place | None:
        """What a rollback returns to."""
        if self.previous_prefix is None:
            return None
        return Place(prefix=self.previous_prefix, revision=self.previous_revision)


class Action(StrEnum):
    """What changed the pointer."""

    INIT = "init"
    STAMP = "stamp"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    FLIP = "flip"
    ROLLBACK = "rollback"
    RECONCILE = "reconcile"
    ARCHIVE = "archive"
    RECOVER = "recover"
    COPY = "copy"
    GC = "gc"
    DETACH = "detach"


class AppliedMigration(Value):
    """A migration as it was applied: `sha256` is the checksum of its file."""

    revision: str
    kind: Kind
    sha256: str


class TableChange(Value):
    """A table before and after: version numbers and row counts; `None` where it was not there."""

    table: str
    version_before: int | None = None
    rows_before: int | None = None
    version_after: int | None = None
    rows_after: int | None = None


class StepDone(Value):
    """What one step did: the versions of the table it landed as, and counts of rows.

    `matched_before` and `matched_after` are the rows that the operation's `where` held for; `unfilled`, those
    that came while a column was filled, and were left null.
    """

    step: str
    table: str
    versions: tuple[int, ...] = ()
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0
    matched_before: int | None = None
    matched_after: int | None = None
    unfilled: int = 0

    @property
    def counts(self) -> bool:
        """Whether there is anything to tell of it."""
        return any((self.changed, self.skipped, self.indeterminate, self.unfilled, self.matched_before))


class CheckResult(Value):
    """The outcome of one gate, or of one check: `when` it was made, before or after the migration."""

    check: str
    when: Literal["before", "after"] | None = None
    table: str | None = None
    ok: bool
    detail: str = ""


class Copied(Value):
    """A root that was copied elsewhere, every object compared: `to` is where, reached with `options`.

    `digest` is that of the record that lies beside the copy, and tells what it holds.
    """

    root: str
    to: str
    options: dict[str, str] = Field(default_factory=dict)
    objects: int
    bytes: int
    digest: str


class Archived(Value):
    """An old root that is kept until a moment; `copied` before that, if it was asked for."""

    root: str
    retention_seconds: int
    retain_until: str
    copied: Copied | None = None


class Collected(Value):
    """What `gc` has deleted: a `root`, a `staged` one, or the `guards` of these `versions` of a table."""

    kind: Literal["root", "staged", "guards"]
    name: str
    bytes: int
    why: str
    versions: tuple[int, ...] = ()


class LineageEntry(Value):
    """One change of the pointer: who, what, from where to where, and how it was proven.

    `reconciled` is the old root whose rows were brought over, up to the versions in `tables`. `report` is the
    sha256 of the report of the proof before a flip. `reads` are the other roots in which files of the live
    one lie: they must not be deleted. `timings` are how long its phases took.
    """

    format: int = LINEAGE_FORMAT
    seq: int
    parent: str | None
    parent_digest: str | None
    action: Action
    origin: Place
    target: Place
    run: str
    migrations: tuple[AppliedMigration, ...] = ()
    direction: Literal["up", "down"] | None = None
    plan_digest: str | None = None
    tables: tuple[TableChange, ...] = ()
    steps: tuple[StepDone, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    report: str | None = None
    started: str
    finished: str
    actor: str
    host: str
    git_commit: str | None = None
    note: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    reconciled: str | None = None
    archived: Archived | None = None
    copied: Copied | None = None
    collected: tuple[Collected, ...] = ()
    reads: tuple[str, ...] = ()
    timings: tuple[Timing, ...] = ()

    def document(self) -> dict[str, Any]:
        """The entry as it is stored, and as its digest is made: fields that were never given are left out.

        So an entry that was written before a field existed keeps its digest.
        """
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def vouches(self) -> tuple[AppliedMigration, ...]:
        """The files that the catalog is made of: those applied, or those a person stamped it with."""
        return self.migrations if self.direction == "up" or self.action is Action.STAMP else ()

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON."""
        return digest(self.document())

    @property
    def id(self) -> str:
        """`000042-3f9c1d7a52be`: the sequence number and the head of the digest."""
        return f"{self.seq:06d}-{self.digest[:12]}"


def read_pointer(document: Any, where: str) -> Pointer:
    """The pointer in `document`, one that holds only the two prefixes included.

    Raises ConfigError for anything that is no pointer, or of a newer format.
    """
    newest = "upgrade lancemig: pip install -U lancemig"
    checked_format(document, POINTER_FORMAT, where, next_step=newest)
    try:
        return Pointer.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"{where} is not a valid pointer: {problems}",
            next_step="fix the pointer, or set another in lancemig.ini, then: lancemig status",
        ) from error


def checked_format(document: Any, newest: int, where: str, next_step: str) -> None:
    """Refuse what is no JSON object, and formats newer than this program."""
    if not isinstance(document, Mapping):
        raise ConfigError(f"{where} is not a JSON object", next_step="lancemig status")
    found = document.get("format", 1)
    if not isinstance(found, int) or found > newest:
        raise ConfigError(
            f"{where} has format {found}; this version of lancemig supports formats up to {newest}",
            next_step=next_step,
        )


def read_entry(document: Any, id: str) -> LineageEntry:  # noqa: A002 - the word of the format
    """The lineage entry in `document`; LineageBroken when it is not the one that `id` names."""
    checked_format(document, LINEAGE_FORMAT, f"lineage entry {id}", "upgrade lancemig")
    try:
        entry = LineageEntry.model_validate(document)
    except ValidationError as error:
        raise _broken(id, "it cannot be read") from error
    if entry.id != id:
        raise _broken(id, f"it contains entry {entry.id}")
    return entry


def _broken(id: str, why: str) -> LancemigError:  # noqa: A002
    return LineageBroken(
        f"lineage entry {id} was changed after it was written: {why}",
        next_step=FIND_OUT,
    )
