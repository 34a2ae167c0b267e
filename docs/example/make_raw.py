"""Write the raw data of the example, the same bytes every time: `python docs/example/make_raw.py [FOLDER]`.

Four nodes recorded 24 sessions. Old firmware wrote the start as local time without an offset, and the end in
UTC. The first registrar took both for UTC, so that its durations are too long by the node's distance from
Greenwich; what it wrote down is in `registered.json`.
"""

import json
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

RECORDINGS = 24
SEED = 20260112
FIRST = datetime(2026, 1, 12, 14, 0, tzinfo=UTC)

TWO_NODES = {3, 8, 15, 22}
"""Recorded by two nodes, each of which left a manifest of its own."""
NO_MANIFEST = {5, 13, 20}
NO_END = {6, 11, 18}
"""The node died before it wrote the end."""
PARTICIPANT_TXT = {1, 5, 8, 11, 16, 20}
ONLY_IN_TXT = {1, 16}
NO_METADATA = {9}
NO_SOURCE = {2, 17}
RAW, FAILED = {0, 4, 6, 12, 19, 23}, {10, 18, 20}

BUCKETS = ("", "data", "local", "primary", "archive")
EVENTS = (("stimulus", "tone"), ("stimulus", "flash"), ("state", "eyes-open"), ("state", "eyes-closed"))


class Node(NamedTuple):
    """A recording machine; `naive` firmware leaves the offset out of the start."""

    host: str
    hours: int
    naive: bool
    firmware: str

    @property
    def offset(self) -> str:
        """Its distance from UTC as ISO 8601 has it."""
        return f"{'-' if self.hours < 0 else '+'}{abs(self.hours):02d}:00"


NODES = (
    Node("lyra-01", -5, True, "1.4.2"),
    Node("lyra-02", -5, False, "2.0.1"),
    Node("mira-01", -8, True, "1.4.0"),
    Node("vega-01", 0, True, "1.4.2"),
)


class Numbers:
    """Numbers from a seed; of `random`, only `random()` promises the same ones in every Python."""

    def __init__(self, seed: int) -> None:
        self.source = random.Random(seed)  # noqa: S311 - nothing secret

    def below(self, end: int) -> int:
        """A whole number from 0 to `end`, without `end`."""
        return int(self.source.random() * end)

    def one_of(self, choices: tuple[Any, ...]) -> Any:
        """One of `choices`."""
        return choices[self.below(len(choices))]


class Session(NamedTuple):
    """What really happened: in UTC, to the second."""

    at: int
    nodes: tuple[Node, ...]
    participant: str
    start: datetime
    seconds: int

    @property
    def rec_id(self) -> str:
        """The name of its folder: the local start and the first node."""
        local = self.start + timedelta(hours=self.nodes[0].hours)
        return f"{local:%Y%m%dT%H%M%S}-{self.nodes[0].host}"


def sessions(numbers: Numbers) -> list[Session]:
    """All sessions, in the order of their starts."""
    made, start = [], FIRST
    for at in range(RECORDINGS):
        start += timedelta(hours=17, minutes=numbers.below(300), seconds=numbers.below(60))
        nodes = (NODES[0], NODES[1]) if at in TWO_NODES else (NODES[at % len(NODES)],)
        participant = f"P-{1 + numbers.below(7):02d}"
        made.append(Session(at, nodes, participant, start, 600 + numbers.below(5400)))
    return made


def manifest(session: Session, node: Node, numbers: Numbers) -> dict[str, Any]:
    """What one node wrote of a session."""
    late = timedelta(seconds=session.nodes.index(node) * 7)
    local = session.start + late + timedelta(hours=node.hours)
    end = session.start + late + timedelta(seconds=session.seconds)
    wrote: dict[str, Any] = {
        "rec_id": session.rec_id,
        "host": node.host,
        "firmware": node.firmware,
        "utc_offset": node.offset,
        "participant": session.participant,
        "started_at": f"{local:%Y-%m-%dT%H:%M:%S}{'' if node.naive else node.offset}",
        "ended_at": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "modalities": modalities(node, numbers),
        "events": events(session, numbers),
        "assets": assets(session, node, numbers),
    }
    if session.at in ONLY_IN_TXT:
        del wrote["participant"]
    if session.at in NO_END:
        del wrote["ended_at"]
    return wrote


def modalities(node: Node, numbers: Numbers) -> list[dict[str, Any]]:
    """What was measured; the first one gives the recording its sample rate."""
    eeg = {"name": "eeg", "channels": numbers.one_of((32, 64)), "fs": numbers.one_of((512, 1024))}
    audio = {"name": "audio", "channels": 1, "fs": numbers.one_of((16000, 44100))}
    return [eeg, audio] if node.naive else [eeg, audio, {"name": "imu", "channels": 6, "fs": 100}]


def events(session: Session, numbers: Numbers) -> list[dict[str, Any]]:
    """What happened meanwhile, by seconds from the start."""
    seconds = sorted(numbers.below(session.seconds * 10) / 10 for _ in range(1 + numbers.below(3)))
    chosen = [numbers.one_of(EVENTS) for _ in seconds]
    return [
        {"at_s": at, "kind": kind, "label": label} for at, (kind, label) in zip(seconds, chosen, strict=True)
    ]


def assets(session: Session, node: Node, numbers: Numbers) -> list[dict[str, Any]]:
    """The files of a node, and the bucket it believed to write to; one of them did not say."""
    found: list[dict[str, Any]] = [
        {
            "object": f"recordings/{session.rec_id}/{node.host}/{name}",
            "bucket": numbers.one_of(BUCKETS),
            "bytes": 1000 + numbers.below(90000) * 1000,
        }
        for name in ("eeg.bin", "audio.flac")
    ]
    if session.at == 14:
        del found[1]["bucket"]
    return found


def registered(session: Session, fs: int | None, numbers: Numbers) -> dict[str, Any]:
    """What the first registrar wrote down of a session."""
    node, duration, source = session.nodes[0], float(session.seconds), "manifest"
    if node.naive:
        duration -= node.hours * 3600
    if len(session.nodes) > 1:
        source, duration = "node-manifests", duration + 7
    elif session.at in NO_MANIFEST:
        source, duration = "file-times", float(3600 * (6 + numbers.below(12)))
    elif session.at in NO_END:
        source, duration = "registration-time", float(3600 * (6 + numbers.below(12)) + numbers.below(3600))
    elif not node.naive:
        source, duration = "schedule", -(-duration // 60) * 60
    metadata = {"duration_source": source, "firmware": node.firmware, "registrar": "0.4.1"}
    if session.at in NO_SOURCE:
        del metadata["duration_source"]
    return {
        "rec_id": session.rec_id,
        "host": node.host,
        "bucket": numbers.one_of(BUCKETS),
        "status": "raw" if session.at in RAW else "failed" if session.at in FAILED else "processed",
        "duration": duration,
        "fs": fs,
        "metadata": None if session.at in NO_METADATA else metadata,
    }


def write(folder: Path) -> None:
    """Write everything into `folder`, which need not exist."""
    numbers = Numbers(SEED)
    rows = []
    for session in sessions(numbers):
        place, fs = folder / "recordings" / session.rec_id, None
        for node in () if session.at in NO_MANIFEST else session.nodes:
            wrote = manifest(session, node, numbers)
            fs = fs or wrote["modalities"][0]["fs"]
            several = len(session.nodes) > 1
            write_json(place / (f"_node_manifests/{node.host}.json" if several else "manifest.json"), wrote)
        if session.at in PARTICIPANT_TXT:
            place.mkdir(parents=True, exist_ok=True)
            (place / "participant.txt").write_bytes(f"{session.participant}\n".encode())
        rows.append(registered(session, fs, numbers))
    write_json(folder / "registered.json", rows)


def write_json(path: Path, document: object) -> None:
    """Write `document`, with the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"{json.dumps(document, indent=2)}\n".encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent / "raw")
