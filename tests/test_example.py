import importlib.util
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from lancemig.catalog.drift import drift
from lancemig.catalog.operations import Kind
from lancemig.catalog.schema import CatalogSchema
from lancemig.catalog.sources import read_source

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "example"
KINDS = {
    "0001": Kind.ADDITIVE,
    "0002": Kind.DATA_ONLY,
    "0003": Kind.DATA_ONLY,
    "0004": Kind.ADDITIVE,
    "0005": Kind.DATA_ONLY,
    "0006": Kind.REBUILD,
}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


FILES = {path.name[:4]: module(path) for path in sorted((ROOT / "versions").glob("*.py"))}


def before(revision: str) -> CatalogSchema:
    catalog = CatalogSchema()
    for file in (FILES[r] for r in FILES if r < revision):
        for operation in file.operations:
            catalog = operation.after(catalog)
    return catalog


def rows(table: str) -> list[dict]:
    create = next(o for o in FILES["0001"].operations if o.table == table)
    return read_source(create.rows, create.columns).read_all().to_pylist()


def batch(*rows: dict) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([*rows])


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_raw_data_are_what_their_script_writes(tmp_path):
    module(EXAMPLE / "make_raw.py").write(tmp_path)
    assert files_below(tmp_path) == files_below(EXAMPLE / "raw")


def test_the_raw_data_have_the_gaps_that_people_have():
    registered = json.loads((EXAMPLE / "raw" / "registered.json").read_text())
    folders = [EXAMPLE / "raw" / "recordings" / row["rec_id"] for row in registered]
    assert len(folders) == 24
    assert sum((f / "manifest.json").exists() for f in folders) == 17
    assert sum((f / "_node_manifests").exists() for f in folders) == 4
    assert sum((f / "participant.txt").exists() for f in folders) == 6


def test_the_files_form_one_line():
    assert [(f.revision, f.down_revision) for f in FILES.values()] == [
        ("0001", None),
        ("0002", "0001"),
        ("0003", "0002"),
        ("0004", "0003"),
        ("0005", "0004"),
        ("0006", "0005"),
    ]


@pytest.mark.parametrize("revision", KINDS)
def test_the_kind_of_a_file_is_what_its_operations_need(revision):
    file = FILES[revision]
    assert Kind(file.kind) == Kind.weakest([o.kind for o in file.operations]) == KINDS[revision]


@pytest.mark.parametrize("revision", KINDS)
def test_a_file_goes_up_and_down_again_on_the_schema(revision):
    start = catalog = before(revision)
    downgrade = []
    for operation in FILES[revision].operations:
        downgrade[:0] = operation.inverse(catalog)
        catalog = operation.after(catalog)
    for operation in downgrade:
        catalog = operation.after(catalog)
    assert catalog.tables.keys() == start.tables.keys()
    for name, table in start.tables.items():
        assert drift(table, catalog.tables[name]) == []
        assert drift(catalog.tables[name], table) == []


def test_the_head_has_the_promoted_and_renamed_columns():
    recordings = before("9999").table("recordings")
    assert recordings.columns.field("duration_source").type == pa.string()
    assert recordings.columns.field("sample_rate_hz").type == pa.float64()
    assert "fs" not in recordings.columns.names
    assert [index.column for index in recordings.indices] == ["start_epoch_ns"]


@pytest.mark.parametrize("table", ["participants", "recordings", "modalities", "events", "virgo_assets"])
def test_registered_rows_fit_their_table_and_have_keys_of_their_own(table):
    keys = [tuple(row[name] for name in before("0002").table(table).key) for row in rows(table)]
    assert keys
    assert len(set(keys)) == len(keys)


def test_every_participant_that_is_named_is_there():
    known = {row["participant_id"] for row in rows("participants")}
    named = [row["participant_id"] for row in rows("recordings")]
    assert set(named) - {None} == known
    assert named.count(None) == 1


def test_inflated_durations_are_put_right_and_the_rest_is_left_alone():
    old = rows("recordings")
    reads = FILES["0002"].operations[0].reads
    answer = FILES["0002"].right_durations(pa.RecordBatch.from_pylist(old).select(list(reads))).to_pylist()
    changed = [was["duration"] - now["duration"] for was, now in zip(old, answer, strict=True)]
    assert sorted(set(changed)) == [0, 5 * 3600, 8 * 3600]
    assert sum(change > 0 for change in changed) == 11
    flagged = [was for was, now in zip(old, answer, strict=True) if now["duration_known_wrong"]]
    assert len(flagged) == 6
    assert all(row["ended_at"] is None for row in flagged)


START = {"started_at": "2026-01-13T04:00:00", "ended_at": "2026-01-13T10:00:00Z", "utc_offset": "-05:00"}


@pytest.mark.parametrize(
    ("row", "duration", "known_wrong"),
    [
        ({**START, "duration": 21600.0}, 3600.0, None),
        ({**START, "duration": 3661.0}, 3600.0, None),
        ({**START, "duration": 3660.0}, 3660.0, None),
        ({**START, "duration": None}, 3600.0, None),
        ({**START, "started_at": "2026-01-13T08:30:00+00:00", "duration": 9.0}, 5400.0, None),
        ({**START, "ended_at": None, "duration": 9.0}, 9.0, True),
        ({**START, "ended_at": "soon", "duration": 9.0}, 9.0, True),
        ({**START, "utc_offset": None, "duration": 9.0}, 9.0, True),
        ({**START, "ended_at": "2026-01-13T08:59:59Z", "duration": 9.0}, 9.0, True),
    ],
)
def test_a_duration_is_put_right_where_it_can_be_derived(row, duration, known_wrong):
    using = FILES["0002"].right_durations
    [answer] = using(batch({**row, "duration_known_wrong": None})).to_pylist()
    assert answer == {"duration": duration, "duration_known_wrong": known_wrong}
    assert using(batch({**row, **answer})).to_pylist() == [answer]


def test_every_name_of_the_primary_bucket_occurs():
    for table in ("recordings", "virgo_assets"):
        assert {"", "data", "local", "primary", "archive"} <= {row["bucket"] for row in rows(table)}


@pytest.mark.parametrize(
    ("started_at", "utc_offset", "start"),
    [
        ("2026-01-13T04:00:00", "-05:00", datetime(2026, 1, 13, 9, tzinfo=UTC)),
        ("2026-01-13T04:00:00+01:00", None, datetime(2026, 1, 13, 3, tzinfo=UTC)),
        ("2026-01-13T04:00:00.000001Z", "-05:00", datetime(2026, 1, 13, 4, microsecond=1, tzinfo=UTC)),
        ("2026-01-13T04:00:00", None, None),
        ("yesterday", "-05:00", None),
        (None, None, None),
    ],
)
def test_a_start_is_known_to_the_microsecond_or_unknown(started_at, utc_offset, start):
    given = batch({"started_at": started_at, "utc_offset": utc_offset})
    [answer] = FILES["0005"].start_epoch_ns(given).to_pylist()
    expected = None if start is None else round(start.timestamp() * 1_000_000) * 1000
    assert answer == {"start_epoch_ns": expected, "__unknown__": start is None}


def test_two_processed_recordings_have_no_start():
    processed = [row for row in rows("recordings") if row["status"] == "processed"]
    assert len(processed) == 15
    assert sum(row["started_at"] is None for row in processed) == 2


@pytest.mark.parametrize(
    ("metadata", "source"),
    [
        ('{"duration_source": "manifest", "firmware": "2"}', "manifest"),
        ('{"firmware": "2"}', None),
        ('{"duration_source": 7}', None),
        ("[]", None),
        ("{", None),
        ("", None),
        (None, None),
    ],
)
def test_duration_source_is_read_from_the_metadata(metadata, source):
    given = pa.record_batch({"metadata": pa.array([metadata], pa.string())})
    assert FILES["0006"].duration_source(given).to_pylist() == [source]


def test_sources_of_durations_are_what_the_registrar_knew():
    given = pa.RecordBatch.from_pylist(rows("recordings")).select(["metadata"])
    sources = FILES["0006"].duration_source(given).to_pylist()
    assert set(sources) == {"manifest", "node-manifests", "file-times", "registration-time", "schedule", None}
    assert sources.count(None) == 3
