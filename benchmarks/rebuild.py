"""Rebuilds: a rename by *clone* and by *copy*, a transformed *table*, copying on S3, and peak memory.

    python benchmarks/rebuild.py [--megabytes 1024] [--rounds 5] [--memory 100 500 2000] [--s3-megabytes 256]

Each way of lancemig is the whole of `lancemig upgrade`, proof and flip included; "staging alone" is what the
lineage tells of its first part: carrying or writing the table, and changing its schema. The memory is that of
a `TransformTable` over every row, in a process of its own, as VmHWM above what the imports need.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bench
import lance
import on_s3
import pyarrow as pa
import pyarrow.compute as pc

RENAME = 'RenameColumn(table="wide", column="duration", to="duration_ms")'
TRANSFORM = 'TransformTable(table="wide", using=halved, schema=WIDE)'
ABOVE = f"""
import pyarrow.compute as pc

WIDE = pa.schema([
    pa.field("id", pa.int64(), nullable=False),
    pa.field("duration", pa.float64()),
    pa.field("vector", pa.list_(pa.float32(), {bench.DIMENSIONS})),
    pa.field("text", pa.string()),
])


def halved(batch):
    at = batch.schema.get_field_index("duration")
    return batch.set_column(at, "duration", pc.divide(batch.column("duration"), 2.0))
"""
REWRITING, STREAMING = "read and rewrite", "pylance, streaming"
STAGED: dict[str, list[tuple[float, int]]] = {}
"""Seconds of staging alone, of each way and round."""


def by_lancemig(staging: str, ways: str) -> Callable[[Path], None]:
    """`lancemig upgrade` with `staging` in lancemig.ini; keeps the seconds of the lineage's `ways`."""

    def run(folder: Path) -> None:
        ini = folder / "lancemig.ini"
        ini.write_text(f"{ini.read_text()}staging = {staging}\n")
        bench.upgrade(folder)
        STAGED.setdefault(staging, []).append((staged_seconds(folder, ways), 0))

    return run


def staged_seconds(folder: Path, ways: str) -> float:
    pointer = json.loads((folder / "store" / "ACTIVE.json").read_text())
    entry = folder / "store" / "_lancemig" / "lineage" / f"{pointer['lineage']}.json"
    timings = json.loads(entry.read_text())["timings"]
    return sum(one["seconds"] for one in timings if one["phase"] == "stage" and one["way"] in ways)


def by_rewriting(folder: Path) -> None:
    dataset = lance.dataset(str(bench.table_path(folder)))
    names = ["duration_ms" if name == "duration" else name for name in dataset.schema.names]
    schema = pa.schema([field.with_name(name) for field, name in zip(dataset.schema, names, strict=True)])
    batches = (pa.record_batch(batch.columns, schema=schema) for batch in dataset.to_batches())
    write(schema, batches, folder)


def by_streaming(folder: Path) -> None:
    dataset = lance.dataset(str(bench.table_path(folder)))

    def halved() -> object:
        for batch in dataset.scanner(batch_size=8192).to_batches():
            at = batch.schema.get_field_index("duration")
            yield batch.set_column(at, "duration", pc.divide(batch.column("duration"), 2.0))

    write(dataset.schema, halved(), folder)


def write(schema: pa.Schema, batches: object, folder: Path) -> None:
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    lance.write_dataset(reader, str(folder / "store" / "new.lance"))


def by_copying(folder: Path) -> None:
    subprocess.run(["cp", "-r", bench.table_path(folder), folder / "store" / "new.lance"], check=True)


RENAMING = {
    REWRITING: by_rewriting,
    "lancemig, clone": by_lancemig("clone", "clone metadata"),
    "lancemig, copy": by_lancemig("copy", "copy metadata"),
    "cp -r": by_copying,
}
TRANSFORMING = {STREAMING: by_streaming, "lancemig, table": by_lancemig("copy", "table")}


def renaming(folder: Path, original: Path, args: argparse.Namespace) -> None:
    results = measured(RENAMING, folder, original, (RENAME, ""), args)
    title = f"rename one column of {args.megabytes} MB, {args.rounds} rounds"
    bench.report(title, results, REWRITING)
    for name, reference, target in (
        ("clone, staging alone", REWRITING, 50.0),
        ("copy, staging alone", "cp -r", 1.0),
        ("lancemig, clone", REWRITING, None),
        ("lancemig, copy", "cp -r", None),
    ):
        told(name, reference, results, target)


def transforming(folder: Path, original: Path, args: argparse.Namespace) -> None:
    results = measured(TRANSFORMING, folder, original, (TRANSFORM, ABOVE), args)
    results["table, staging alone"] = results.pop("copy, staging alone")
    title = f"transform every row of {args.megabytes} MB, {args.rounds} rounds"
    bench.report(title, results, STREAMING)
    told("table, staging alone", STREAMING, results, 1 / 1.15)


def measured(
    ways: dict[str, Callable[[Path], None]],
    folder: Path,
    original: Path,
    migration: tuple[str, str],
    args: argparse.Namespace,
) -> dict[str, list[tuple[float, int]]]:
    STAGED.clear()
    results = bench.in_turn(ways, folder / "round", original, migration, args.rounds)
    alone = {f"{name}, staging alone": rounds[1:] for name, rounds in STAGED.items()}
    return {**results, **alone}


def told(
    name: str, reference: str, results: dict[str, list[tuple[float, int]]], target: float | None
) -> None:
    """Print by how much `name` is faster than `reference`, and whether that is what is aimed at."""
    faster = 1 / max(bench.summed(results[name], results[reference]).ratio, 1e-9)
    aim = "" if target is None else f" (aim: {target:.2f}: {'met' if faster >= target else 'MISSED'})"
    print(f"\n{name}: {faster:.1f} times as fast as {reference}{aim}")


MEASURE = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import bench
import lance, lancedb, pyarrow
import lancemig.commands.upgrade, lancemig.commands.upgrade

def highest():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

imported = highest()
bench.upgrade(Path(sys.argv[2]))
print(json.dumps({"imported": imported, "highest": highest()}))
"""


def memory(folder: Path, megabytes: int) -> float:
    """MiB above what the imports need, of a TransformTable over so much."""
    place = folder / "memory"
    bench.project(place, TRANSFORM, ABOVE)
    bench.write_wide(bench.table_path(place), megabytes * 1_000_000 // bench.BYTES_A_ROW)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, here, str(place)], check=True, capture_output=True, text=True
    )
    shutil.rmtree(place)
    found = json.loads(done.stdout)
    return float(found["highest"] - found["imported"])


def memories(folder: Path, sizes: list[int]) -> None:
    print("\npeak memory of TransformTable\n")
    print("| table | above the imports |")
    print("|---|---|")
    for megabytes in sizes:
        print(f"| {megabytes:,} MB | {memory(folder, megabytes):,.0f} MiB |", flush=True)


def main() -> None:
    parser = bench.parser(__doc__.splitlines()[0])
    parser.add_argument("--memory", type=int, nargs="*", default=[100, 500, 2000], help="sizes in MB")
    parser.add_argument("--s3-megabytes", type=int, default=256, help="0 leaves S3 out")
    args = parser.parse_args()
    with bench.scratch(args) as folder:
        original = folder / "original.lance"
        bench.write_wide(original, args.megabytes * 1_000_000 // bench.BYTES_A_ROW)
        renaming(folder, original, args)
        transforming(folder, original, args)
        shutil.rmtree(original)
        memories(folder, args.memory)
        if args.s3_megabytes:
            on_s3.copying(folder, args.s3_megabytes, args.rounds)


if __name__ == "__main__":
    main()
