"""The pointer, and the chain of lineage entries that explains how it came to be what it is."""

from collections.abc import Iterable
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
    """A root and the revision it is at; `revision` is `None` at base, or where none was ever stamped."""

    prefix: str
    revision: str | None = None


class Pointer(StoredModel):
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
    def active(self) -> RootRevision:
        """The live root and its revision."""
        return RootRevision(prefix=self.active_prefix, revision=self.revision)

    @property
    def previous(self) -> RootRevision | None:
        """What a rollback returns to."""
        if self.previous_prefix is None:
            return None
        return RootRevision(prefix=self.previous_prefix, revision=self.previous_revision)


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


class AppliedMigration(FrozenModel):
    """A migration as it was applied: `sha256` is the checksum of its file."""

    revision: str
    kind: Kind
    sha256: str


class TableChange(FrozenModel):
    """A table before and after: version numbers and row counts; `None` where it was not there."""

    table: str
    version_before: int | None = None
    rows_before: int | None = None
    version_after: int | None = None
    rows_after: int | None = None


class StepDone(FrozenModel):
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


class CheckResult(FrozenModel):
    """The outcome of one gate, or of one check: `when` it was made, before or after the migration."""

    check: str
    when: Literal["before", "after"] | None = None
    table: str | None = None
    ok: bool
    detail: str = ""


class Copied(FrozenModel):
    """A root that was copied elsewhere, every object compared: `to` is where, reached with `options`.

    `digest` is that of the record that lies beside the copy, and tells what it holds.
    """

    root: str
    to: str
    options: dict[str, str] = Field(default_factory=dict)
    objects: int
    bytes: int
    digest: str


class Archived(FrozenModel):
    """An old root that is kept until a moment; `copied` before that, if it was asked for."""

    root: str
    retention_seconds: int
    retain_until: str
    copied: Copied | None = None


class Collected(FrozenModel):
    """What `gc` has deleted: a `root`, a `staged` one, or the `guards` of these `versions` of a table."""

    kind: Literal["root", "staged", "guards"]
    name: str
    bytes: int
    why: str
    versions: tuple[int, ...] = ()


class LineageEntry(StoredModel):
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


def checked_entry(entry: LineageEntry, id: str) -> LineageEntry:  # noqa: A002 - the word of the format
    """The entry, as it was read under the name `id`; LineageBroken if its content has another id."""
    if entry.id != id:
        raise LineageBroken(
            f"lineage entry {id} was changed after it was written: it contains entry {entry.id}",
            next_step=FIND_OUT,
        )
    return entry


def parse_time(text: str) -> datetime:
    """A moment as the formats spell it."""
    return datetime.fromisoformat(text)


@dataclass(frozen=True)
class Standing:
    """What holds of roots, read from a lineage given newest first.

    `roots` are all that were ever live; `archives`, by root, what holds since it was live last; `deleted`, by
    root, when `gc` deleted it.
    """

    roots: tuple[str, ...]
    archives: dict[str, Archived]
    deleted: dict[str, str]


def standing(chain: Iterable[LineageEntry], pointer: Pointer | None) -> Standing:
    """What the lineage and the pointer say of every root.

    An archive ends when its root is live again: what was said of it then holds no longer.
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


def last_backup(chain: Iterable[LineageEntry]) -> Backup | None:
    """The newest verified copy of the root that is live, in a lineage given newest first.

    A copy that was made before the last change of root is none of this one.
    """
    for entry in chain:
        if entry.origin.prefix != entry.target.prefix:
            return None
        if entry.action is Action.COPY and entry.copied is not None:
            return Backup(parse_time(entry.finished), entry.target.revision, entry.copied)
    return None


REPORT_FORMAT = 1

Comparison = Literal[
    "same files", "checksum", "same files and checksum", "row by row", "sample", "not compared"
]
"""How it was found out. What was not compared says why in `detail`, and does not fail."""


class GateOutcome(FrozenModel):
    """One gate, for one table or column: `live` and `staged` are what was found on both sides, as text.

    `rows` are those that were looked at; `tolerance` is what the migration allowed, where it was needed.
    `declared` says of values that were not compared that the reason in `detail` is one that the migration or
    lancemig.ini declares; without it, the coverage gate wants another outcome that compares them.
    """

    gate: str
    table: str | None = None
    column: str | None = None
    ok: bool
    way: Comparison | None = None
    live: str | None = None
    staged: str | None = None
    rows: int | None = None
    tolerance: str | None = None
    declared: bool = False
    detail: str = ""
    seconds: float = 0.0

    @property
    def compared(self) -> bool:
        """Whether anything was found out."""
        return self.way != "not compared"


class VerificationReport(StoredModel):
    """A proof: what the root at `target` was compared with, the tables' versions, and all outcomes.

    `checks` are those of the revision, made over the staged tables.
    """

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

    @property
    def ok(self) -> bool:
        """Whether all gates were passed."""
        return all(one.ok for one in self.outcomes) and all(one.ok for one in self.checks)

    @property
    def failed(self) -> list[str]:
        """The gates that were not passed, as sentences."""
        said = [f"{_where(one)}{one.gate}: {one.detail}" for one in self.outcomes if not one.ok]
        return said + [f"{one.check}: {one.detail}" for one in self.checks if not one.ok]

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON, by which the lineage names it."""
        return digest(self.document())

    def document(self) -> dict[str, Any]:
        """The report as it is stored."""
        return self.model_dump(mode="json", exclude_unset=True)

    def summary(self) -> list[CheckResult]:
        """A line for each gate and table: what the lineage entry itself tells."""
        groups: dict[tuple[str, str | None], list[GateOutcome]] = {}
        for outcome in self.outcomes:
            groups.setdefault((outcome.gate, outcome.table), []).append(outcome)
        gates = [
            CheckResult(check=gate, table=table, ok=all(o.ok for o in found), detail=_summed(found))
            for (gate, table), found in groups.items()
        ]
        return [*gates, *self.checks]

    def text(self) -> str:
        """The report for people: a line for each outcome."""
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
