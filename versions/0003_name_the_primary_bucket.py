"""Name the primary bucket: no name, `data` and `local` all meant it.

Revision ID: 0003
Revises: 0002
Create Date: 2026-02-16 14:10:00+00:00
"""

from lancemig import UpdateRows

revision = "0003"
down_revision = "0002"
kind = "data-only"

MEANT_PRIMARY = "bucket IS NULL OR bucket IN ('', 'data', 'local')"

operations = [
    UpdateRows(table="recordings", set={"bucket": "'primary'"}, where=MEANT_PRIMARY),
    UpdateRows(table="virgo_assets", set={"bucket": "'primary'"}, where=MEANT_PRIMARY),
]
