"""The pointer, the chain of lineage entries that is its history, and verification reports."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field

from lancemig.catalog.checks import Tolerance
from lancemig.catalog.documents import DocumentType, StoredModel
from lancemig.catalog.value import FrozenModel, Kind, Timing, digest, format_revision, format_root
from lancemig.errors import ConfigError, LineageBroken

POINTER_FORMAT = 1
LINEAGE_FORMAT = 1
FIND_OUT = (
    "find out who changed the store; restore the entry from a backup or from the bucket's object versions"
)


class RootRevision(FrozenModel):
    """A root and the revision it is at; None at base, or if the root was never stamped."""

    prefix: str
    revision: str | None = None


class Pointer(StoredModel):
    """Which root is live. Unknown keys are kept as they are."""

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
    def active(self) -> RootRevision:
        """The live root and its revision."""
        return RootRevision(prefix=self.active_prefix, revision=self.revision)

    @property
    def previous(self) -> RootRevision | None:
        """The root that a rollback returns to."""
        if self.previous_prefix is None:
            return None
        return RootRevision(prefix=self.previous_prefix, revision=self.previous_revision)


class Action(StrEnum):
    """The command that changed the pointer."""

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


class RecordedOperation(FrozenModel):
    """An operation of a rebuild, so that late writes can be replicated without the migration file."""

    table: str
    table_after: str | None = None
    """The name of the table after the operation; None for a dropped table."""
    content: str
    """The sha256 of what the operation says, as in the plan."""
    fields: dict[str, Any] | None = None
    """The operation as JSON; None if it has a function or rows, which only the file has."""
    inverse: "tuple[RecordedOperation, ...] | None" = None
    """The operations that revert it; None if none do, or if the migration declares its `reverse`."""


class AppliedMigration(FrozenModel):
    """A migration as it was applied: `sha256` is the checksum of its file."""

    revision: str
    kind: Kind
    sha256: str
    operations: tuple[RecordedOperation, ...] = ()
    """The operations of a rebuild, in the order in which they ran; other migrations have none recorded."""
    reverse: tuple[RecordedOperation, ...] | None = None
    """The declared operations of the opposite direction; None if they are derived."""


class TableChange(FrozenModel):
    """The version and row count of a table before and after; None if it did not exist."""

    table: str
    version_before: int | None = None
    rows_before: int | None = None
    version_after: int | None = None
    rows_after: int | None = None


class StepDone(FrozenModel):
    """What one step did, with counts of rows."""

    step: str
    table: str
    versions: tuple[int, ...] = ()
    """The versions of the table that the step made."""
    changed: int = 0
    skipped: int = 0
    indeterminate: int = 0
    matched_before: int | None = None
    """Rows that matched the operation's `where` before the step."""
    matched_after: int | None = None
    unfilled: int = 0
    """Rows that were appended while a column was filled, and stay null."""

    @property
    def counts(self) -> bool:
        """Whether any count is to be reported."""
        return any((self.changed, self.skipped, self.indeterminate, self.unfilled, self.matched_before))


class CheckResult(FrozenModel):
    """The outcome of a gate or of a check; a check runs before or after the migration."""

    check: str
    when: Literal["before", "after"] | None = None
    table: str | None = None
    ok: bool
    detail: str = ""


class Copied(FrozenModel):
    """A verified copy of a root: every object was compared."""

    root: str
    to: str
    """The address of the copy."""
    options: dict[str, str] = Field(default_factory=dict)
    """The storage options of that address."""
    objects: int
    bytes: int
    digest: str
    """The digest of the record beside the copy, which lists its objects."""


class Archived(FrozenModel):
    """An old root with a retention, and its copy, if one was made."""

    root: str
    retention_seconds: int
    retain_until: str
    copied: Copied | None = None


class Collected(FrozenModel):
    """What `gc` deleted: a `root`, a `staged` root, or the `guards` of these `versions` of a table."""

    kind: Literal["root", "staged", "guards"]
    name: str
    bytes: int
    why: str
    versions: tuple[int, ...] = ()


class ForeignWrite(FrozenModel):
    """The pointer as another program wrote it, from which a stamp continued the lineage."""

    active_prefix: str | None = None
    """The root that it named; None if the pointer did not exist."""
    previous_prefix: str | None = None
    revision: str | None = None
    lineage: str | None = None
    why: str
    """How it differed from the lineage."""
    written_at: str | None = None
    written_by: str | None = None
    """The owner of the object, if the store says so."""


class LineageEntry(StoredModel):
    """One change of the pointer."""

    format: int = LINEAGE_FORMAT
    seq: int
    parent: str | None
    parent_digest: str | None
    action: Action
    origin: RootRevision
    target: RootRevision
    run: str
    migrations: tuple[AppliedMigration, ...] = ()
    direction: Literal["up", "down"] | None = None
    plan_digest: str | None = None
    tables: tuple[TableChange, ...] = ()
    steps: tuple[StepDone, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    report: str | None = None
    """The sha256 of the report of the verification before a flip."""
    started: str
    finished: str
    actor: str
    host: str
    git_commit: str | None = None
    note: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    """The versions of lancemig and of its libraries."""
    reconciled: str | None = None
    """The old root whose late rows were replicated, up to the versions in `tables`."""
    archived: Archived | None = None
    copied: Copied | None = None
    collected: tuple[Collected, ...] = ()
    reads: tuple[str, ...] = ()
    """The other roots that the live root borrows files from; they must not be deleted."""
    timings: tuple[Timing, ...] = ()
    begun_by: str | None = None
    """Who began the run, as `actor@host`, if somebody else finished it."""
    foreign: ForeignWrite | None = None
    """The change of the pointer by another program that this entry acknowledges."""

    def document(self) -> dict[str, Any]:
        """The entry as it is stored and digested: fields that were never given are left out.

        So an entry that was written before a field existed keeps its digest.
        """
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def vouches(self) -> tuple[AppliedMigration, ...]:
        """The files that the catalog was made with: those applied, or those it was stamped with."""
        return self.migrations if self.direction == "up" or self.action is Action.STAMP else ()

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON."""
        return digest(self.document())

    @property
    def id(self) -> str:
        """`000042-3f9c1d7a52be`: the sequence number and the head of the digest."""
        return f"{self.seq:06d}-{self.digest[:12]}"


POINTER = DocumentType(
    Pointer,
    "pointer",
    POINTER_FORMAT,
    next_step="fix the pointer, or set another with `pointer` in lancemig.ini",
    error=ConfigError,
)
"""A pointer that has only the two prefixes is valid, too."""

LINEAGE_ENTRY = DocumentType(
    LineageEntry, "lineage entry", LINEAGE_FORMAT, next_step=FIND_OUT, error=LineageBroken
)


def foreign_write(pointer: Pointer | None, entry: LineageEntry | None, newest: str | None) -> str | None:
    """How a pointer that lancemig did not write differs from the lineage; None for one that it wrote.

    Root and revision of a pointer are believed only if the lineage entry that it names says the same. A
    pointer without a lineage is another program's own, and valid, as long as the store has no lineage.

    Args:
        pointer: The pointer; None if there is none.
        entry: The lineage entry that it names; None if it names none, or one that does not exist.
        newest: The id of the newest entry in the store; None if there is none.
    """
    if pointer is None:
        return None if newest is None else f"it does not exist, but the lineage has entry {newest}"
    if pointer.lineage is None:
        return None if newest is None else f"it names no lineage entry, but the lineage has {newest}"
    if entry is None:
        return f"it names the lineage entry {pointer.lineage}, which does not exist"
    if entry.target == pointer.active:
        return None
    return (
        f"it names {format_root(pointer.active_prefix)} at {format_revision(pointer.revision)}, but its "
        f"lineage entry {entry.id} says {format_root(entry.target.prefix)} at "
        f"{format_revision(entry.target.revision)}"
    )


def checked_entry(entry: LineageEntry, id: str) -> LineageEntry:  # noqa: A002 - the word of the format
    """The entry, as it was read under the name `id`; LineageBroken if its content has another id."""
    if entry.id != id:
        raise LineageBroken(
            f"lineage entry {id} was changed after it was written: it contains entry {entry.id}",
            next_step=FIND_OUT,
        )
    return entry


def parse_time(text: str) -> datetime:
    """Parse a time of a stored document."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True)
class Standing:
    """The state of all roots, from the lineage."""

    roots: tuple[str, ...]
    """All roots that were ever live."""
    archives: dict[str, Archived]
    """By root, its retention since it was live last."""
    deleted: dict[str, str]
    """By root, when `gc` deleted it."""


def standing(chain: Iterable[LineageEntry], pointer: Pointer | None) -> Standing:
    """The state of all roots, from a lineage given newest first.

    The retention of a root ends once the root is live again.
    """
    roots, live = _of_pointer(pointer), set[str]()
    archives: dict[str, Archived] = {}
    deleted: dict[str, str] = {}
    for entry in chain:
        if entry.archived is not None and entry.archived.root not in live:
            archives.setdefault(entry.archived.root, entry.archived)
        for one in entry.collected:
            if one.kind == "root" and one.name not in live:
                deleted.setdefault(one.name, entry.finished)
        for prefix in (entry.target.prefix, entry.origin.prefix):
            roots.setdefault(prefix)
            live.add(prefix)
    return Standing(tuple(roots), archives, deleted)


def _of_pointer(pointer: Pointer | None) -> dict[str, None]:
    if pointer is None:
        return {}
    named = (pointer.active_prefix, pointer.previous_prefix)
    return {prefix: None for prefix in named if prefix is not None}


@dataclass(frozen=True)
class Backup:
    """A verified copy of the live root: when it was finished, of which revision, and where it is."""

    at: datetime
    revision: str | None
    copied: Copied


def backups(chain: Iterable[LineageEntry]) -> Iterator[Backup]:
    """The recorded copies of the live root, newest first, in a lineage given newest first.

    A copy from before the last change of root is not a copy of the live root. Whether a copy still exists is
    not known here.
    """
    for entry in chain:
        if entry.origin.prefix != entry.target.prefix:
            return
        if entry.action is Action.COPY and entry.copied is not None:
            yield Backup(parse_time(entry.finished), entry.target.revision, entry.copied)


REPORT_FORMAT = 1

Comparison = Literal[
    "same files", "checksum", "same files and checksum", "row by row", "sample", "not compared"
]
"""How a gate compared. `detail` says why something was not compared; that does not fail."""


class GateOutcome(FrozenModel):
    """The outcome of one gate for one table or column."""

    gate: str
    table: str | None = None
    column: str | None = None
    ok: bool
    way: Comparison | None = None
    live: str | None = None
    """What the live table has, as text."""
    staged: str | None = None
    rows: int | None = None
    """The number of compared rows."""
    tolerance: str | None = None
    """The tolerance that the outcome needed."""
    declared: bool = False
    """Whether the migration or lancemig.ini declares the reason why values were not compared.

    If not, the coverage gate requires another outcome that compares them.
    """
    detail: str = ""
    seconds: float = 0.0

    @property
    def compared(self) -> bool:
        """Whether anything was compared."""
        return self.way != "not compared"


class VerificationReport(StoredModel):
    """The verification of the root `target` against `origin`: versions, and the outcome of every gate."""

    format: int = REPORT_FORMAT
    run: str
    origin: RootRevision
    target: RootRevision
    versions_before: dict[str, int] = Field(default_factory=dict)
    versions_after: dict[str, int] = Field(default_factory=dict)
    started: str
    finished: str
    sample: int
    seed: str
    tolerances: tuple[Tolerance, ...] = ()
    outcomes: tuple[GateOutcome, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    """The revision's own checks, over the staged tables."""

    @property
    def ok(self) -> bool:
        """Whether all gates and checks passed."""
        return all(one.ok for one in self.outcomes) and all(one.ok for one in self.checks)

    @property
    def failed(self) -> list[str]:
        """The gates and checks that failed, as sentences."""
        gates = [f"{_where(gate)}{gate.gate}: {gate.detail}" for gate in self.outcomes if not gate.ok]
        return gates + [f"{check.check}: {check.detail}" for check in self.checks if not check.ok]

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON, by which the lineage names it."""
        return digest(self.document())

    def document(self) -> dict[str, Any]:
        """The report as it is stored."""
        return self.model_dump(mode="json", exclude_unset=True)

    def summary(self) -> list[CheckResult]:
        """One result for each gate and table, as the lineage entry stores it."""
        groups: dict[tuple[str, str | None], list[GateOutcome]] = {}
        for outcome in self.outcomes:
            groups.setdefault((outcome.gate, outcome.table), []).append(outcome)
        gates = [
            CheckResult(check=gate, table=table, ok=all(o.ok for o in found), detail=_summed(found))
            for (gate, table), found in groups.items()
        ]
        return [*gates, *self.checks]

    def text(self) -> str:
        """The report as text: a line for each outcome."""
        lines = [
            f"verified {format_root(self.target.prefix)} at {format_revision(self.target.revision)}",
            f"against  {format_root(self.origin.prefix)} at {format_revision(self.origin.revision)}",
            f"run      {self.run}, {self.started} to {self.finished}",
            *(f"allowed  {one.describe()}" for one in self.tolerances),
            *(_line(one) for one in self.outcomes),
            *(f"{'ok' if one.ok else 'FAILED':<7}{one.check}: {one.detail}" for one in self.checks),
        ]
        return "\n".join([*lines, "passed" if self.ok else "FAILED"])


def _line(outcome: GateOutcome) -> str:
    state = "FAILED" if not outcome.ok else "ok" if outcome.compared else "-"
    way = f"{outcome.way}: " if outcome.way else ""
    return f"{state:<7}{_where(outcome)}{outcome.gate}: {way}{outcome.detail}"


def _where(outcome: GateOutcome) -> str:
    if outcome.table is None:
        return ""
    return f"{outcome.table}{f'.{outcome.column}' if outcome.column else ''}: "


def _summed(found: Iterable[GateOutcome]) -> str:
    found = list(found)
    failed = [f"{f'{o.column}: ' if o.column else ''}{o.detail}" for o in found if not o.ok]
    if failed:
        return "; ".join(failed)
    if len(found) == 1:
        [one] = found
        return f"{one.column}: {one.detail}" if one.column else one.detail
    ways = [outcome.way or "compared" for outcome in found]
    return ", ".join(
        f"{ways.count(way)} {'' if way.endswith('compared') else 'by '}{way}" for way in dict.fromkeys(ways)
    )


VERIFICATION_REPORT = DocumentType(
    VerificationReport,
    "verification report",
    REPORT_FORMAT,
    next_step="verify again: lancemig verify",
    error=LineageBroken,
)


def checked_report(report: VerificationReport, wanted: str) -> VerificationReport:
    """The report, as it was read; LineageBroken if its content does not have the digest `wanted`."""
    if report.digest != wanted:
        raise LineageBroken(
            f"verification report {wanted[:12]} was changed after it was written",
            next_step=VERIFICATION_REPORT.next_step,
        )
    return report
