"""Plans and samples as text and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from lancemig.apply.effects.sample import ROWS_TRIED, SampledRow
from lancemig.apply.stages import CATCH_UP, VERIFY
from lancemig.catalog.operations import Strategy
from lancemig.catalog.value import format_revision, format_root
from lancemig.commands.sample import SampledStep
from lancemig.plan.estimates import Estimate
from lancemig.plan.plan import Carried, Plan, PlannedMigration, Step
from lancemig.report.words import columns, number, seconds, size, step_name

_MIN_SECONDS = 1.0
"""Seconds below which nobody asks how long it takes."""


def plan_text(
    plan: Plan,
    *,
    store: str,
    staging: str,
    resumes: str | None = None,
    estimates: Sequence[Estimate] = (),
    creates: str | None = None,
    staying: Sequence[str] = (),
) -> str:
    """The plan for people: steps, reasons, cost, and what happens afterwards."""
    verb = "upgrade" if plan.direction == "up" else "downgrade"
    lines = [
        f"catalog  {plan.catalog}  {store}",
        f"live     {format_root(plan.origin.prefix)}  at {format_revision(plan.origin.revision)}",
        f"target   {format_revision(plan.target)}  ({verb}, {number(len(plan.migrations), 'revision')})",
    ]
    if creates:
        lines.append(f"creates  {creates}: there is no catalog yet; it will be created")
    if resumes:
        lines.append(f"resumes  run {resumes}; completed steps are skipped")
    if not plan.migrations:
        return "\n".join([lines[0], lines[1], "nothing to do"])
    for migration in plan.migrations:
        lines += ["", *_migration_lines(migration)]
    if plan.carried:
        lines += ["", *_carried_lines(plan.carried, plan.origin.prefix)]
    long = [estimate for estimate in estimates if estimate.seconds >= _MIN_SECONDS]
    lines += ["", *(f"takes    {estimate_text(estimate)}" for estimate in long)] if long else []
    if staying:
        lines += ["", *(f"stays    in {format_root(plan.origin.prefix)}: {each}" for each in staying)]
    return "\n".join([*lines, "", *_closing_lines(plan, staging), f"digest   {plan.digest[:16]}"])


def _migration_lines(migration: PlannedMigration) -> list[str]:
    where = "in place" if migration.in_place else "staged"
    head = f"{migration.revision}  {migration.message}  [{migration.kind}, {where}]"
    if not migration.steps:
        return [head, "  no operations"]
    lines = [head, *columns([_step_cells(step) for step in migration.steps])]
    lines += [f"  note  {step.table}: {note}" for step in migration.steps for note in step.notes]
    lines += [f"  check {check}" for check in migration.checks]
    lines += [f"  allow {tolerance}" for tolerance in migration.tolerances]
    why = dict.fromkeys(f"{step.why}" for step in migration.steps if step.kind is migration.kind)
    return [*lines, *(f"  why   {reason}" for reason in why)]


def _step_cells(step: Step) -> list[str]:
    cost = ", ".join(part for part in (number(step.rows, "row"), _bytes(step)) if part)
    return [step.table, step.describe, step.strategy, cost]


def _bytes(step: Step) -> str:
    if step.strategy is Strategy.METADATA or not step.bytes:
        return ""
    return f"~{size(step.bytes)}"


def _carried_lines(carried: Sequence[Carried], old: str) -> list[str]:
    lines = ["tables of the staged root"]
    cells = [
        [
            c.table,
            _outcome(c),
            c.by if c.copied and c.staged_as else "",
            "" if c.rows is None else f"{c.rows:,} rows, {size(c.bytes)}{_borrowed(c)}",
        ]
        for c in carried
    ]
    notes = [f"  note  {c.table}: copied instead of cloned: {c.why}" for c in carried if c.why]
    lines += [*columns(cells), *notes]
    for c in carried:
        if c.references:
            names = ", ".join(c.references)
            stay = f"stay in {format_root(old)}, which gc keeps because of them"
            lines.append(f"  note  {c.table}: {names}: {'carried' if c.carries_references else stay}")
    return lines


def _borrowed(carried: Carried) -> str:
    cloned = carried.by == "clone" and carried.staged_as is not None
    return " borrowed until lancemig detach" if cloned else ""


def _outcome(carried: Carried) -> str:
    if carried.staged_as is None:
        return "dropped"
    if not carried.copied:
        return "rewritten"
    return "kept" if carried.staged_as == carried.table else f"renamed to {carried.staged_as}"


def _closing_lines(plan: Plan, staging: str) -> list[str]:
    pinned = ", ".join(f"{name}@{version}" for name, version in sorted(plan.requires.versions.items()))
    lines = [f"pinned   {pinned}"] if pinned else []
    if plan.in_place:
        lines.append(f"pointer  set to {format_revision(plan.in_place[-1].leads_to)} in the same root")
    if plan.staged:
        lines += [
            f"switch   {CATCH_UP.name}, {VERIFY.name}, then make {staging} live (one atomic write)",
            f"back     lancemig rollback; {format_root(plan.origin.prefix)} is kept intact",
        ]
        if any(c.by == "clone" and c.staged_as for c in plan.carried):
            lines.append(
                f"         the new root borrows files from {format_root(plan.origin.prefix)} "
                "until lancemig detach"
            )
    return lines


def estimate_text(estimate: Estimate) -> str:
    """`copy: about 12 s (0007 took 10.3 s for 1.1 GB)`."""
    like = estimate.like
    of = size(like.bytes) if like.bytes else number(like.rows, "row")
    how = f"{seconds(like.seconds)} for {of}" if of else seconds(like.seconds)
    return f"{estimate.activity}: about {seconds(estimate.seconds)} ({estimate.revision} took {how})"


def plan_json(
    plan: Plan,
    resumes: str | None = None,
    estimates: Sequence[Estimate] = (),
    *,
    creates: str | None = None,
    staying: Sequence[str] = (),
) -> dict[str, Any]:
    """The plan as JSON (docs/formats.md)."""
    about = [{"way": e.activity, "seconds": round(e.seconds, 3), "like": e.revision} for e in estimates]
    return {
        **plan.document(),
        "kind": plan.kind,
        "resumes": resumes,
        "estimates": about,
        "creates": creates,
        "staying": list(staying),
    }


_WIDEST = 40


def samples_text(samples: Sequence[SampledStep]) -> str:
    """One paragraph a step, one line a cell."""
    return "\n\n".join(_sample_paragraph(sample) for sample in samples) or "sample   the plan has no steps"


def _sample_paragraph(sample: SampledStep) -> str:
    few = f" (from the first {ROWS_TRIED:,} rows, after the preceding steps)" if sample.few else ""
    if not sample.sampled:
        few = "  not sampled"
    elif not sample.rows:
        few += "  none of the rows examined changes"
    lines = [f"sample   {step_name(sample.step.id)}  {sample.step.table}: {sample.step.describe}{few}"]
    return "\n".join([*lines, *columns([cells for row in sample.rows for cells in _sample_cells(row)])])


def _sample_cells(row: SampledRow) -> list[list[str]]:
    key = ", ".join(f"{name}={_shortened(value)}" for name, value in row.key.items())
    if row.old is None or row.new is None or row.old is row.new:
        values = row.new or row.old or {}
        change = "inserted" if row.old is None else "deleted" if row.new is None else "stays"
        return [
            [
                key,
                change,
                ", ".join(f"{name}={_shortened(value)}" for name, value in values.items())[:_WIDEST],
            ]
        ]
    pairs = zip(row.old.items(), row.new.items(), strict=True)
    return [
        [key, name if name == to else f"{name} → {to}", f"{_shortened(old)} → {_shortened(new)}"]
        for (name, old), (to, new) in pairs
    ]


def _shortened(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value) if isinstance(value, str | bytes | float) else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def samples_json(samples: Sequence[SampledStep]) -> list[dict[str, Any]]:
    """The sample rows of each step as JSON; values without a JSON type are text."""
    return [
        {
            "step": sample.step.id,
            "table": sample.step.table,
            **({} if sample.sampled else {"sampled": False}),
            "rows": [{"key": row.key, "old": row.old, "new": row.new} for row in sample.rows],
        }
        for sample in samples
    ]
