"""A rebuild that only renames, against writing the table anew and against `cp -r`; and a rebuild's memory.

    python benchmarks/rebuild.py [--megabytes 256] [--rounds 5] [--memory-rows 1000000]

lancemig carries the table into the staged root (hard links on a local disk), renames there, proves that it
is the live table but for the name, and flips. The memory is that of a `TransformTable` over every row,
measured in a process of its own as VmHWM above what the imports alone need.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import bench
import lance
import pyarrow as pa

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
LIMIT = 1024


def by_lancemig(folder: Path) -> None:
    bench.upgrade(folder)


def by_rewriting(folder: Path) -> None:
    dataset = lance.dataset(str(bench.table_path(folder)))
    names = ["duration_ms" if name == "duration" else name for name in dataset.schema.names]
    schema = pa.schema([field.with_name(name) for field, name in zip(dataset.schema, names, strict=True)])
    batches = (pa.record_batch(batch.columns, schema=schema) for batch in dataset.to_batches())
    lance.write_dataset(
        pa.RecordBatchReader.from_batches(schema, batches), str(folder / "store" / "new.lance")
    )


def by_copying(folder: Path) -> None:
    table = bench.table_path(folder)
    subprocess.run(["cp", "-r", table, folder / "store" / "new.lance"], check=True)


WAYS = {"read and rewrite": by_rewriting, "lancemig": by_lancemig, "cp -r": by_copying}


def renaming(folder: Path, rows: int, args: object) -> None:
    original = folder / "original.lance"
    bench.write_wide(original, rows)
    results = bench.in_turn(WAYS, folder / "round", original, (RENAME, ""), args.rounds)
    shutil.rmtree(original)
    title = f"rename one column of {rows:,} rows, {args.megabytes} MB, {args.rounds} rounds"
    bench.report(title, results, "read and rewrite")


MEASURE = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import bench
import lance, lancedb, pyarrow
import lancemig.commands.changing, lancemig.commands.planning

def highest():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

imported = highest()
bench.upgrade(Path(sys.argv[2]))
print(json.dumps({"imported": imported, "highest": highest()}))
"""


def memory(folder: Path, rows: int) -> None:
    place = folder / "memory"
    bench.project(place, TRANSFORM, ABOVE)
    bench.write_wide(bench.table_path(place), rows)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, here, str(place)], check=True, capture_output=True, text=True
    )
    shutil.rmtree(place)
    found = json.loads(done.stdout)
    above = found["highest"] - found["imported"]
    print(f"\nmemory of TransformTable over {rows:,} rows of {bench.BYTES_A_ROW} bytes\n")
    print(f"imports {found['imported']:.0f} MiB, highest {found['highest']:.0f} MiB: {above:.0f} MiB above")
    if above >= LIMIT:
        raise SystemExit(f"more than {LIMIT} MiB")


def main() -> None:
    parser = bench.parser(__doc__.splitlines()[0])
    parser.add_argument("--memory-rows", type=int, default=1_000_000, help="0 leaves the measurement out")
    args = parser.parse_args()
    with bench.scratch(args) as folder:
        renaming(folder, args.megabytes * 1_000_000 // bench.BYTES_A_ROW, args)
        if args.memory_rows:
            memory(folder, args.memory_rows)


if __name__ == "__main__":
    main()
