"""Create the recordings catalog, and register what the nodes wrote.

The values are taken over as the first registrar and the nodes wrote them, mistakes included: later revisions
put them right. What a recording has no manifest for is null.

Revision ID: 0001
Revises:
Create Date: 2026-02-02 09:00:00+00:00
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from lancemig import CreateTable

revision = "0001"
down_revision = None
kind = "additive"

RAW = Path(__file__).parent.parent / "docs" / "example" / "raw"


def registered() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RAW / "registered.json").read_text())
    return rows


def manifests(rec_id: str) -> list[dict[str, Any]]:
    """The manifests of a recording: one, one of every node, or none."""
    place = RAW / "recordings" / rec_id
    paths = [place / "manifest.json", *sorted(place.glob("_node_manifests/*.json"))]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def participant(rec_id: str) -> str | None:
    """Who was recorded: as a manifest says, or else participant.txt."""
    said = [manifest["participant"] for manifest in manifests(rec_id) if "participant" in manifest]
    text = RAW / "recordings" / rec_id / "participant.txt"
    if not said and text.exists():
        return text.read_text().strip()
    return said[0] if said else None


def participants() -> list[dict[str, Any]]:
    first: dict[str, str] = {}
    for row in registered():
        who = participant(row["rec_id"])
        if who is not None:
            first.setdefault(who, row["rec_id"])
    return [{"participant_id": who, "first_rec_id": rec_id} for who, rec_id in sorted(first.items())]


def recordings() -> list[dict[str, Any]]:
    return [recording(row) for row in registered()]


def recording(row: dict[str, Any]) -> dict[str, Any]:
    """A row as registered, with the times of the first and the last node."""
    nodes = sorted(manifests(row["rec_id"]), key=lambda node: node["host"])
    metadata = row["metadata"]
    return {
        **row,
        "participant_id": participant(row["rec_id"]),
        "started_at": nodes[0]["started_at"] if nodes else None,
        "ended_at": nodes[-1].get("ended_at") if nodes else None,
        "utc_offset": nodes[0]["utc_offset"] if nodes else None,
        "metadata": None if metadata is None else json.dumps(metadata, sort_keys=True),
    }


def parts(name: str) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """Recording, host, position and content of everything that manifests list under `name`."""
    for row in registered():
        for manifest in manifests(row["rec_id"]):
            for at, part in enumerate(manifest[name]):
                yield row["rec_id"], manifest["host"], at, part


def modalities() -> list[dict[str, Any]]:
    return [{"rec_id": rec_id, "host": host, **part} for rec_id, host, _, part in parts("modalities")]


def events() -> list[dict[str, Any]]:
    return [
        {"event_id": f"{rec_id}/{host}/{at}", "rec_id": rec_id, "host": host, **part}
        for rec_id, host, at, part in parts("events")
    ]


def virgo_assets() -> list[dict[str, Any]]:
    return [
        {
            "asset_id": part["object"].removeprefix("recordings/"),
            "rec_id": rec_id,
            "bucket": part.get("bucket"),
            "object_key": part["object"],
            "bytes": part["bytes"],
        }
        for rec_id, _, _, part in parts("assets")
    ]


operations = [
    CreateTable(
        table="participants",
        schema=pa.schema(
            [
                pa.field("participant_id", pa.string(), nullable=False),
                pa.field("first_rec_id", pa.string()),
            ]
        ),
        key=("participant_id",),
        rows=participants,
    ),
    CreateTable(
        table="recordings",
        schema=pa.schema(
            [
                pa.field("rec_id", pa.string(), nullable=False),
                pa.field("participant_id", pa.string()),
                pa.field("host", pa.string()),
                pa.field("bucket", pa.string()),
                pa.field("status", pa.string()),
                pa.field("started_at", pa.string()),
                pa.field("ended_at", pa.string()),
                pa.field("utc_offset", pa.string()),
                pa.field("duration", pa.float64()),
                pa.field("duration_known_wrong", pa.bool_()),
                pa.field("fs", pa.int32()),
                pa.field("metadata", pa.string()),
            ]
        ),
        key=("rec_id",),
        rows=recordings,
    ),
    CreateTable(
        table="modalities",
        schema=pa.schema(
            [
                pa.field("rec_id", pa.string(), nullable=False),
                pa.field("host", pa.string(), nullable=False),
                pa.field("name", pa.string(), nullable=False),
                pa.field("channels", pa.int32()),
                pa.field("fs", pa.int32()),
            ]
        ),
        key=("rec_id", "host", "name"),
        rows=modalities,
    ),
    CreateTable(
        table="events",
        schema=pa.schema(
            [
                pa.field("event_id", pa.string(), nullable=False),
                pa.field("rec_id", pa.string()),
                pa.field("host", pa.string()),
                pa.field("at_s", pa.float64()),
                pa.field("kind", pa.string()),
                pa.field("label", pa.string()),
            ]
        ),
        key=("event_id",),
        rows=events,
    ),
    CreateTable(
        table="virgo_assets",
        schema=pa.schema(
            [
                pa.field("asset_id", pa.string(), nullable=False),
                pa.field("rec_id", pa.string()),
                pa.field("bucket", pa.string()),
                pa.field("object_key", pa.string()),
                pa.field("bytes", pa.int64()),
            ]
        ),
        key=("asset_id",),
        rows=virgo_assets,
    ),
]
