"""Old and new values of some rows, as text and as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from lancemig.apply.steps.sample import ROWS_TRIED, Row
from lancemig.commands.sampling import Sampled
from lancemig.report.words import columns, step_name

_WIDEST = 40


def samples_text(samples: Sequence[Sampled]) -> str:
    """A paragraph a step, a line a cell."""
    return "\n\n".join(_paragraph(one) for one in samples) or "sample   no values change"


def _paragraph(one: Sampled) -> str:
    few = f" (from the first {ROWS_TRIED:,} rows, after the preceding steps)" if one.few else ""
    lines = [f"sample   {step_name(one.step.id)}  {one.step.table}: {one.step.describe}{few}"]
    return "\n".join([*lines, *columns([cells for row in one.rows for cells in _cells(row)])])


def _cells(row: Row) -> list[list[str]]:
    key = ", ".join(f"{name}={_short(value)}" for name, value in row.key.items())
    if row.old is None or row.new is None:
        values = row.new or row.old or {}
        what = "inserted" if row.old is None else "deleted"
        return [[key, what, ", ".join(f"{name}={_short(value)}" for name, value in values.items())[:_WIDEST]]]
    old = row.old
    return [[key, name, f"{_short(old[name])} → {_short(value)}"] for name, value in row.new.items()]


def _short(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value) if isinstance(value, str | bytes | float) else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def samples_json(samples: Sequence[Sampled]) -> list[dict[str, Any]]:
    """The rows of each step for programs; what JSON has no word for is text."""
    return [
        {
            "step": one.step.id,
            "table": one.step.table,
            "rows": [{"key": row.key, "old": row.old, "new": row.new} for row in one.rows],
        }
        for one in samples
    ]
