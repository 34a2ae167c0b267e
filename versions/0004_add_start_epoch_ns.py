"""Add the start as nanoseconds since 1970, and an index to search it.

Revision ID: 0004
Revises: 0003
Create Date: 2026-03-02 09:45:00+00:00
"""

import pyarrow as pa

from lancemig import AddColumn, CreateIndex

revision = "0004"
down_revision = "0003"
kind = "additive"

operations = [
    AddColumn(table="recordings", column=pa.field("start_epoch_ns", pa.int64())),
    CreateIndex(table="recordings", column="start_epoch_ns", type="BTREE"),
]
