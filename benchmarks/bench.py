"""What the benchmarks share: a wide table, a project around it, clocks, and a table of results."""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

ROOT = "v1/"
DIMENSIONS = 128
BYTES_A_ROW = 8 + 8 + DIMENSIONS * 4 + 44
BATCH = 16_384

WIDE = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("duration", pa.float64()),
        pa.field("vector", pa.list_(pa.float32(), DIMENSIONS)),
        pa.field("text", pa.string()),
    ]
)


def wide_batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of a table with one narrow column, `duration`, among wide ones; the same rows every time."""
    random = np.random.default_rng(7)
    for start in range(0, rows, BATCH):
        count = min(BATCH, rows - start)
        vectors = pa.array(random.standard_normal(count * DIMENSIONS, dtype=np.float32))
        yield pa.record_batch(
            [
                pa.array(range(start, start + count), pa.int64()),
                pa.array(random.uniform(1_000, 900_000, count)),
                pa.FixedSizeListArray.from_arrays(vectors, DIMENSIONS),
                pa.array([f"recording {n:010d} of this benchmark" for n in range(start, start + count)]),
            ],
            schema=WIDE,
        )


def write_wide(uri: Path, rows: int) -> None:
    """Write the wide table with Lance alone; its key is `id`."""
    schema = WIDE.with_metadata({"lancemig.key": '["id"]'})
    batches = (batch.replace_schema_metadata(schema.metadata) for batch in wide_batches(rows))
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    lance.write_dataset(reader, str(uri), max_rows_per_file=max(rows // 8, 1))


def project(folder: Path, operations: str, above: str = "") -> None:
    """Write lancemig.ini and one migration into `folder`; its store is `folder/store`."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "lancemig.ini").write_text(f"[lancemig]\nstore = %(here)s/store\nfallback_prefix = {ROOT}\n")
    text = f'''"""The benchmark's migration."""
import pyarrow as pa
from lancemig import *

revision = "0001"
down_revision = None

{above}

operations = [{operations}]
'''
    (folder / "versions" / "0001.py").write_text(text)


def table_path(folder: Path) -> Path:
    """Where the live table of a project lies before any flip."""
    return folder / "store" / ROOT / "catalog" / "wide.lance"


def upgrade(folder: Path) -> None:
    """`lancemig upgrade`, from reading lancemig.ini to removing the sidecar, in this process."""
    from lancemig.commands import upgrade
    from lancemig.commands.context import open_catalog
    from lancemig.config import read_settings

    catalog = open_catalog(read_settings(folder / "lancemig.ini", environ={}))
    upgrade.apply_prepared(catalog, upgrade.prepare(catalog, "head", "up", no_flip=False, note=None))


def copy_links(source: Path, target: Path) -> None:
    """A private copy of a table for one round, its immutable files linked."""
    shutil.copytree(source, target, copy_function=os.link)


def inodes(folder: Path) -> set[int]:
    """The files under a folder, by inode."""
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def written(folder: Path, before: set[int]) -> int:
    """Bytes of the files under `folder` that were not among `before`: links count nothing."""
    found = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(size for inode, size in found.items() if inode not in before)


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes, with nothing left to be written back from before."""
    os.sync()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(
    ways: Mapping[str, Callable[[Path], object]],
    place: Path,
    original: Path,
    migration: tuple[str, str],
    rounds: int,
    see: Callable[[Path], object] = lambda _: None,
    others: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, list[tuple[float, int]]]:
    """Seconds and bytes written of each way, round by round, each on a fresh copy of `original` in a project.

    `migration` are the operations of its file, and what goes above them; `others` are those of single ways.
    `see` looks at what a way has done.
    The first round warms caches and lazy imports up and is not counted.
    """
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            project(place, *(others or {}).get(name, migration))
            copy_links(original, table_path(place))
            before = inodes(place)
            seconds = timed(lambda way=way: way(place))
            if number:
                results[name].append((seconds, written(place / "store", before)))
            see(place)
            shutil.rmtree(place)
    return results


@dataclass(frozen=True)
class Summary:
    """Medians of a way's rounds; the `ratio` is the median of the rounds' ratios to another way's.

    So what else the machine does weighs on both sides.
    """

    seconds: float
    fastest: float
    slowest: float
    megabytes: float
    ratio: float


def summed(rounds: Sequence[tuple[float, int]], reference: Sequence[tuple[float, int]]) -> Summary:
    """Sum up one way's seconds and bytes against another's."""
    seconds = sorted(second for second, _ in rounds)
    ratios = [mine / theirs for (mine, _), (theirs, _) in zip(rounds, reference, strict=True)]
    size = statistics.median(size for _, size in rounds) / 1e6
    middle = statistics.median(seconds)
    return Summary(middle, seconds[0], seconds[-1], size, statistics.median(ratios))


def report(title: str, results: Mapping[str, Sequence[tuple[float, int]]], reference: str) -> None:
    """Print medians, spread and ratios; `results` are seconds and bytes written, round by round."""
    print(f"\n{title}\n")
    print(f"| way | median | fastest to slowest | written | time / {reference} |")
    print("|---|---|---|---|---|")
    for name, rounds in results.items():
        found = summed(rounds, results[reference])
        print(
            f"| {name} | {found.seconds:.3f} s | {found.fastest:.3f} to {found.slowest:.3f} s "
            f"| {found.megabytes:,.1f} MB | {found.ratio:.2f} |"
        )


@contextmanager
def scratch(args: argparse.Namespace) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lancemig-bench-", dir=args.folder) as folder:
        yield Path(folder)


def parser(description: str) -> argparse.ArgumentParser:
    """The options every benchmark takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--megabytes", type=int, default=256, help="size of the table")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    return made
