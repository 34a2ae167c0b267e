"""The peak memory and time of SetKey, against reading the key column with Lance.

    python benchmarks/keys.py [--rows 1000000 4000000 16000000]

Each measurement is a process of its own, which starts with the same imports. `read` scans the key in batches
and keeps nothing. Keys are integers, or UUIDs as text.
"""

import argparse
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

BATCH = 65_536
MEASURED = """
import resource, sys, time
import lance, lancemig.cli
from pathlib import Path
from lancemig.apply.rows.keys import key_faults
from lancemig.store.lance import Tables
from lancemig.store.objects import open_objects
way, store = sys.argv[1:]
start = time.perf_counter()
if way == "SetKey":
    assert not key_faults(Tables(open_objects(store, {}), "").open("", "t"), ("id",))
elif way == "read":
    for batch in lance.dataset(f"{store}/t.lance").to_batches(columns=["id"]):
        del batch
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def batches(rows: int, kind: str) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(3)
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        if kind == "integers":
            ids = pa.array(range(start, start + count), pa.int64())
        else:
            ids = pa.array([str(uuid.UUID(bytes=random.bytes(16))) for _ in range(count)])
        yield pa.record_batch({"id": ids})


def measured(way: str, store: Path) -> tuple[float, int]:
    """Seconds and peak MiB of one way."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, way, str(store)], capture_output=True, text=True, check=True
    )
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000, 16_000_000])
    print(f"{'keys':<10} {'rows':>11}  {'read':>18}  {'SetKey':>18}  {'nothing':>8}")
    for kind in ("integers", "uuids"):
        for rows in parser.parse_args().rows:
            with tempfile.TemporaryDirectory() as store:
                of = pa.int64() if kind == "integers" else pa.string()
                reader = pa.RecordBatchReader.from_batches(pa.schema([("id", of)]), batches(rows, kind))
                lance.write_dataset(reader, f"{store}/t.lance")
                read, key = measured("read", Path(store)), measured("SetKey", Path(store))
                nothing = measured("nothing", Path(store))[1]
            cells = [f"{seconds:6.2f} s {peak:5d} MiB" for seconds, peak in (read, key)]
            print(f"{kind:<10} {rows:>11,}  {cells[0]:>18}  {cells[1]:>18}  {nothing:>4} MiB", flush=True)


if __name__ == "__main__":
    main()
