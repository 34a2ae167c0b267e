"""The lineage as text and as JSON."""

from collections.abc import Sequence
from typing import Any

from lancemig.catalog.lineage import LineageEntry

JSON_FORMAT = 1


def lineage_text(entries: Sequence[LineageEntry], *, verbose: bool) -> str:
    """The lineage, newest first."""
    lines = []
    for entry in entries:
        revisions = ", ".join(m.revision for m in entry.migrations)
        lines.append(
            f"{entry.id}  {entry.finished}  {entry.action:<9} {entry.origin.revision or 'base'} -> "
            f"{entry.target.revision or 'base'}  {entry.target.prefix or './'}  {entry.actor}@{entry.host}"
            + (f"  {entry.note}" if entry.note else "")
        )
        if verbose:
            lines += _details(entry, revisions)
    return "\n".join(lines) or "no lineage yet"


def _details(entry: LineageEntry, revisions: str) -> list[str]:
    plan, commit = (entry.plan_digest or "-")[:16], (entry.git_commit or "-")[:12]
    lines = [f"    run {entry.run}  plan {plan}  commit {commit}"]
    if revisions:
        lines.append(f"    migrations {revisions} ({entry.direction})")
    for t in entry.tables:
        before = f"v{t.version_before} {t.rows_before:,}" if t.rows_before is not None else "-"
        after = f"v{t.version_after} {t.rows_after:,}" if t.rows_after is not None else f"v{t.version_after}"
        lines.append(f"    {t.table}: {before} -> {after} rows")
    return [
        *lines,
        *(f"    {c.check} {c.table}: {'ok' if c.ok else 'FAILED'} {c.detail}" for c in entry.checks),
    ]


def lineage_json(entries: Sequence[LineageEntry]) -> dict[str, Any]:
    """The lineage for programs, newest first."""
    return {"format": JSON_FORMAT, "entries": [{"id": e.id, **e.document()} for e in entries]}
