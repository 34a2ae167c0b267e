"""A value change under indices, against raw `dataset.update()` and `optimize_indices()`.

    python benchmarks/indices.py [--rows 400000] [--share 0.0001 0.01] [--runs 3]

The table has a BTREE index on `price`, a full-text index on `text` and an IVF_PQ index on `vec`; `price`
changes, or `text`. Both ways start from copies of the same table and are measured alternately, each in a
separate process.
"""

import argparse
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

DIMENSION = 32
CHANGES = {"price": "price + 1", "text": "concat(text, ' again')"}
RAW = """
import sys, time, lance
store, condition, column, value = sys.argv[1:]
start = time.perf_counter()
dataset = lance.dataset(f"{store}/v1/catalog/t.lance")
dataset.update({column: value}, where=condition)
dataset.optimize.optimize_indices()
print(time.perf_counter() - start)
"""
LANCEMIG = """
import sys, time
from pathlib import Path
from lancemig.commands.context import open_catalog
from lancemig.commands import upgrade
from lancemig.config import read_settings
import lance
store = Path(sys.argv[1])
start = time.perf_counter()
catalog = open_catalog(read_settings(store / "lancemig.ini", environ={}))
upgrade.apply_prepared(catalog, upgrade.prepare(catalog, "head", "up"))
print(time.perf_counter() - start)
"""
REVISION = '''"""Change prices.

Revision ID: 0001
"""
from lancemig import UpdateRows

revision = "0001"
down_revision = None
operations = [UpdateRows(table="t", set={"COLUMN": "VALUE"}, where="CONDITION")]
'''


def made(folder: Path, rows: int) -> Path:
    """A catalog of one table with three indices."""
    random = np.random.default_rng(1)
    vectors = pa.FixedSizeListArray.from_arrays(
        pa.array(random.random(rows * DIMENSION, np.float32)), DIMENSION
    )
    words = [f"item {n % 997} of group {n % 31}" for n in range(rows)]
    table = pa.table({"id": np.arange(rows), "price": random.random(rows), "text": words, "vec": vectors})
    dataset = lance.write_dataset(table, folder / "v1" / "catalog" / "t.lance")
    dataset.create_scalar_index("price", "BTREE")
    dataset.create_scalar_index("text", "INVERTED")
    dataset.create_index("vec", "IVF_PQ", num_partitions=16, num_sub_vectors=8)
    return folder


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def measured(start: Path, condition: str, column: str, code: str) -> dict[str, float]:
    """Seconds, bytes written, and the share of the rows that each index covers afterwards."""
    with tempfile.TemporaryDirectory(prefix="lancemig-bench-") as name:
        store = Path(name) / "store"
        shutil.copytree(start, store)
        (store / "versions").mkdir()
        text = REVISION.replace("CONDITION", condition).replace("COLUMN", column)
        (store / "versions" / "0001.py").write_text(text.replace("VALUE", CHANGES[column]))
        (store / "lancemig.ini").write_text(f"[lancemig]\nstore = {store}\nfallback_prefix = v1/\n")
        before = size(store / "v1")
        done = subprocess.run(
            [sys.executable, "-c", code, str(store), condition, column, CHANGES[column]],
            capture_output=True,
            text=True,
            check=True,
        )
        dataset = lance.dataset(store / "v1" / "catalog" / "t.lance")
        rows = dataset.count_rows()
        covered = {
            index.name: 1 - dataset.stats.index_stats(index.name)["num_unindexed_rows"] / rows
            for index in dataset.describe_indices()
        }
        seconds = float(done.stdout.split()[-1])
        return {"seconds": seconds, "megabytes": (size(store / "v1") - before) / 1e6, **covered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--share", type=float, nargs="*", default=[0.0001, 0.01])
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lancemig-bench-") as name:
        start = made(Path(name), given.rows)
        for column, share in itertools.product(CHANGES, given.share):
            condition = f"id % {round(1 / share)} = 0"
            runs: dict[str, list[dict[str, float]]] = {"raw": [], "lancemig": []}
            for _ in range(given.runs):
                for way, code in (("raw", RAW), ("lancemig", LANCEMIG)):
                    runs[way].append(measured(start, condition, column, code))
            for way, found in runs.items():
                medians = {key: round(statistics.median(one[key] for one in found), 3) for key in found[0]}
                print(json.dumps({"column": column, "share": share, "way": way, **medians}))


if __name__ == "__main__":
    main()
