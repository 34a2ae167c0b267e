"""Promote duration_source to a column, and name the sample rate for what it is.

`duration_source` stays in the metadata too, so that a downgrade loses nothing. Sample rates become float64:
newer devices have fractional ones.

Revision ID: 0006
Revises: 0005
Create Date: 2026-03-16 11:05:00+00:00
"""

import json

import pyarrow as pa

from lancemig import AddColumn, RenameColumn, RetypeColumn

revision = "0006"
down_revision = "0005"
kind = "rebuild"


def source_in(metadata: str | None) -> str | None:
    """The `duration_source` that the JSON text has; None where it has none."""
    try:
        found = json.loads(metadata or "null")
    except ValueError:
        return None
    source = found.get("duration_source") if isinstance(found, dict) else None
    return source if isinstance(source, str) else None


def duration_source(batch: pa.RecordBatch) -> pa.Array:
    return pa.array([source_in(text) for text in batch.column("metadata").to_pylist()], pa.string())


operations = [
    AddColumn(
        table="recordings",
        column=pa.field("duration_source", pa.string()),
        using=duration_source,
        reads=("metadata",),
    ),
    RenameColumn(table="recordings", column="fs", to="sample_rate_hz"),
    RetypeColumn(table="recordings", column="sample_rate_hz", to=pa.float64()),
]
