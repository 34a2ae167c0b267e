"""Fill start_epoch_ns for processed recordings; the others get it when they are processed.

A processed recording without a manifest has no start that could be trusted: it is left null, and counted as
indeterminate.

Revision ID: 0005
Revises: 0004
Create Date: 2026-03-03 16:20:00+00:00
"""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from lancemig import BackfillColumns

revision = "0005"
down_revision = "0004"
kind = "data-only"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_ns(started_at: str | None, utc_offset: str | None) -> int | None:
    """The start in nanoseconds; None where the texts do not tell it."""
    try:
        start = datetime.fromisoformat(started_at or "")
        if start.tzinfo is None:
            start = datetime.fromisoformat(f"{started_at}{utc_offset or ''}")
    except ValueError:
        return None
    return None if start.tzinfo is None else (start - EPOCH) // timedelta(microseconds=1) * 1000


def start_epoch_ns(batch: pa.RecordBatch) -> pa.RecordBatch:
    starts = [epoch_ns(row["started_at"], row["utc_offset"]) for row in batch.to_pylist()]
    return pa.record_batch(
        {
            "start_epoch_ns": pa.array(starts, pa.int64()),
            "__unknown__": pa.array([start is None for start in starts], pa.bool_()),
        }
    )


operations = [
    BackfillColumns(
        table="recordings",
        columns=("start_epoch_ns",),
        reads=("started_at", "utc_offset"),
        using=start_epoch_ns,
        where="status = 'processed'",
        max_indeterminate=10,
    ),
]
