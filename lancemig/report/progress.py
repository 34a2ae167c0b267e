"""How far a run is, as text."""

from lancemig.apply.caller import Progress
from lancemig.report.words import number, size, step_name


def progress_text(progress: Progress, seconds: float) -> str:
    """One line: phase, step, table, what, how much, how fast."""
    parts = [
        progress.phase,
        step_name(progress.step),
        progress.table,
        progress.text,
        amount_text(progress, seconds),
    ]
    return "  ".join(part for part in parts if part)


def amount_text(progress: Progress, seconds: float) -> str:
    """`120,000 of 320,000 rows, 14 MB, 7 MB/s`; rates only once there is a second to divide by."""
    if progress.rows is None:
        return ""
    of = f"{progress.rows:,} of {number(progress.of, 'row')}" if progress.of else number(progress.rows, "row")
    parts = [of]
    if progress.bytes:
        parts.append(size(progress.bytes))
        if seconds >= 1:
            parts.append(f"{size(int(progress.bytes / seconds))}/s")
    return ", ".join(parts)
