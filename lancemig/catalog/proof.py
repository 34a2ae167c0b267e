"""The report of a proof: each gate's outcome for each table and column, and how it came about."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, ValidationError

from lancemig.catalog.lineage import CheckResult, Place, checked_format
from lancemig.catalog.tolerances import Tolerance
from lancemig.catalog.value import Value, digest
from lancemig.errors import LineageBroken

REPORT_FORMAT = 1

Way = Literal["same files", "checksum", "same files and checksum", "row by row", "sample", "not compared"]
"""How it was found out. What was not compared says why in `detail`, and does not fail."""


class Outcome(Value):
    """One gate, for one table or column: `live` and `staged` are what was found on both sides, as text.

    `rows` are those that were looked at; `tolerance` is what the migration allowed, where it was needed.
    `declared` says of values that were not compared that the reason in `detail` is one that the migration or
    lancemig.ini declares; without it, the coverage gate wants another outcome that compares them.
    """

    gate: str
    table: str | None = None
    column: str | None = None
    ok: bool
    way: Way | None = None
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


class Report(Value):
    """A proof: what the root at `target` was compared with, the tables' versions, and all outcomes.

    `checks` are those of the revision, made over the staged tables.
    """

    format: int = REPORT_FORMAT
    run: str
    origin: Place
    target: Place
    versions_before: dict[str, int] = Field(default_factory=dict)
    versions_after: dict[str, int] = Field(default_factory=dict)
    started: str
    finished: str
    sample: int
    seed: str
    tolerances: tuple[Tolerance, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
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
        groups: dict[tuple[str, str | None], list[Outcome]] = {}
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
            f"verified {self.target.prefix or './'} at {self.target.revision or 'base'}",
            f"against  {self.origin.prefix or './'} at {self.origin.revision or 'base'}",
            f"run      {self.run}, {self.started} to {self.finished}",
            *(f"allowed  {one.describe()}" for one in self.tolerances),
            *(_line(one) for one in self.outcomes),
            *(f"{'ok' if one.ok else 'FAILED':<7}{one.check}: {one.detail}" for one in self.checks),
        ]
        return "\n".join([*lines, "passed" if self.ok else "FAILED"])


def _line(outcome: Outcome) -> str:
    state = "FAILED" if not outcome.ok else "ok" if outcome.compared else "-"
    way = f"{outcome.way}: " if outcome.way else ""
    return f"{state:<7}{_where(outcome)}{outcome.gate}: {way}{outcome.detail}"


def _where(outcome: Outcome) -> str:
    if outcome.table is None:
        return ""
    return f"{outcome.table}{f'.{outcome.column}' if outcome.column else ''}: "


def _summed(found: Iterable[Outcome]) -> str:
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


def read_report(document: Any, wanted: str) -> Report:
    """The report in `document`; LineageBroken when it is not the one whose digest is `wanted`."""
    checked_format(document, REPORT_FORMAT, f"report {wanted[:12]}", "upgrade lancemig")
    try:
        report = Report.model_validate(document)
    except ValidationError as error:
        raise LineageBroken(f"report {wanted[:12]} cannot be read") from error
    if report.digest != wanted:
        raise LineageBroken(f"report {wanted[:12]} was changed after it was written")
    return report
