"""Put durations right that a timezone bug inflated.

The registrar took the local start of old firmware for UTC. Where the duration differs by more than a minute
from what start, end and offset of the manifest say, it is replaced. A recording whose end cannot be derived
keeps its duration, and is flagged `duration_known_wrong`.

Revision ID: 0002
Revises: 0001
Create Date: 2026-02-09 10:30:00+00:00
"""

from datetime import datetime

import pyarrow as pa

from lancemig import BackfillColumns

revision = "0002"
down_revision = "0001"
kind = "data-only"

TOLERATED_SECONDS = 60.0


def instant(text: str | None, utc_offset: str | None) -> datetime | None:
    """The moment that `text` names, at `utc_offset` where it has none of its own; None if that is open."""
    try:
        moment = datetime.fromisoformat(text or "")
        if moment.tzinfo is None:
            moment = datetime.fromisoformat(f"{text}{utc_offset or ''}")
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def seconds(started_at: str | None, ended_at: str | None, utc_offset: str | None) -> float | None:
    """The time between the two; None where it cannot be told, or would be negative."""
    start, end = instant(started_at, utc_offset), instant(ended_at, utc_offset)
    if start is None or end is None or end < start:
        return None
    return (end - start).total_seconds()


def right_durations(batch: pa.RecordBatch) -> pa.RecordBatch:
    durations, known_wrong = [], []
    for row in batch.to_pylist():
        right = seconds(row["started_at"], row["ended_at"], row["utc_offset"])
        duration, wrong = row["duration"], row["duration_known_wrong"]
        if right is None:
            wrong = True
        elif duration is None or abs(duration - right) > TOLERATED_SECONDS:
            duration = right
        durations.append(duration)
        known_wrong.append(wrong)
    return pa.record_batch(
        {
            "duration": pa.array(durations, pa.float64()),
            "duration_known_wrong": pa.array(known_wrong, pa.bool_()),
        }
    )


operations = [
    BackfillColumns(
        table="recordings",
        columns=("duration", "duration_known_wrong"),
        reads=("started_at", "ended_at", "utc_offset", "duration", "duration_known_wrong"),
        using=right_durations,
    ),
]
