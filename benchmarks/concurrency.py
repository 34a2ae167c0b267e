"""Every operation in place beside every kind of writer: rows lost, attempts, and time against a quiet table.

    python benchmarks/concurrency.py [--rows 200000] [--rounds 3] [--write]

A writer is a process of its own that commits all the while, before, during and after the upgrade, and notes
what it was told is committed. Afterwards all of that must be there, and every row that no writer touched
must be as the operation makes it, once. With --write the table goes into docs/concurrency.md.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bench
import lance
import pyarrow as pa

PAGE = Path(__file__).parent.parent / "docs" / "concurrency.md"
BEGIN, END = "<!-- made by benchmarks/concurrency.py -->", "<!-- end -->"
PAUSE = 0.05
UPDATED, UPSERTED, DELETED = range(1000), range(1000, 2000), range(2000, 12_000)
TOUCHED = 12_000
NEW = 10**9

ABOVE = """
import time

import pyarrow.compute as pc


def slow(batch):
    time.sleep(batch.num_rows / 100_000)
    return pc.multiply(batch.column("x"), 2.0)
"""
GIVEN = '[{"id": i, "x": -5.0, "n": 0, "text": "given"} for i in [*range(20_000, 20_500), *range(-500, 0)]]'


@dataclass(frozen=True)
class Operation:
    """An operation, and what it makes of the row with this id: its values, or None where it goes."""

    name: str
    text: str
    made: Callable[[int], dict[str, Any] | None]


def doubled(id_: int) -> dict[str, Any]:
    return {"x": 2.0 * id_}


def added(id_: int) -> dict[str, Any]:
    return {"x": float(id_), "y": 2.0 * id_}


def same(id_: int) -> dict[str, Any]:
    return {"x": float(id_)}


OPERATIONS = [
    Operation("UpdateRows", 'UpdateRows(table="wide", set={"x": "x * 2"})', doubled),
    Operation(
        "UpdateRows, 1 %",
        'UpdateRows(table="wide", set={"x": "x * 2"}, where="id % 100 = 7")',
        lambda id_: doubled(id_) if id_ % 100 == 7 else same(id_),
    ),
    Operation(
        "BackfillColumns, 2 s",
        'BackfillColumns(table="wide", columns=("x",), reads=("x",), using=slow)',
        doubled,
    ),
    Operation(
        "UpsertRows",
        f'UpsertRows(table="wide", rows={GIVEN}, on=("id",), when_exists="overwrite")',
        lambda id_: {"x": -5.0} if 20_000 <= id_ < 20_500 else same(id_),
    ),
    Operation(
        "DeleteRows",
        'DeleteRows(table="wide", where="id >= 30000 and id < 31000")',
        lambda id_: None if 30_000 <= id_ < 31_000 else same(id_),
    ),
    Operation(
        "AddColumn by SQL", 'AddColumn(table="wide", column=pa.field("y", pa.float64()), sql="x * 2")', added
    ),
    Operation(
        "AddColumn, 2 s",
        'AddColumn(table="wide", column=pa.field("y", pa.float64()), reads=("x",), using=slow)',
        added,
    ),
    Operation("CreateIndex", 'CreateIndex(table="wide", column="x", type="BTREE")', same),
    Operation("SetMetadata", 'SetMetadata(table="wide", metadata={"owner": "acoustics"})', same),
]


def rows(ids: list[int], n: int) -> pa.Table:
    return pa.table({"id": ids, "x": [-1.0] * len(ids), "n": [n] * len(ids), "text": ["theirs"] * len(ids)})


def write(kind: str, uri: str, number: int) -> dict[str, Any]:
    """One commit of a writer of this kind; what it was told then."""
    dataset = lance.dataset(uri)
    if kind in ("append", "compact"):
        given = rows([NEW + number], number)
        lance.write_dataset(given.cast(dataset_schema(dataset, given)), uri, mode="append")
        if kind == "compact" and not number % 50:
            with suppress(OSError):
                lance.dataset(uri).optimize.compact_files()
        return {"there": NEW + number, "n": number}
    if kind == "update":
        id_ = UPDATED[number % len(UPDATED)]
        dataset.update({"n": str(number)}, where=f"id = {id_}")
        return {"there": id_, "n": number}
    if kind == "upsert":
        ids = [UPSERTED[number % len(UPSERTED)], NEW + number]
        merge = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        given = rows(ids, number)
        merge.execute(with_null_columns(dataset, given))
        return {"there": ids[0], "n": number, "also": ids[1]}
    if kind == "delete":
        id_ = DELETED[number % len(DELETED)]
        dataset.delete(f"id = {id_}")
        return {"gone": id_}
    dataset.create_scalar_index("n", "BTREE", name="theirs", replace=True)
    return {}


def dataset_schema(dataset: lance.LanceDataset, given: pa.Table) -> pa.Schema:
    return pa.schema([dataset.schema.field(name) for name in given.column_names])


def with_null_columns(dataset: lance.LanceDataset, given: pa.Table) -> pa.Table:
    for name in dataset.schema.names:
        if name not in given.column_names:
            given = given.append_column(name, pa.nulls(given.num_rows, dataset.schema.field(name).type))
    return given.select(dataset.schema.names)


def writing(kind: str, uri: str, log: Path, stop: Path) -> None:
    """Commit until `stop` is there; a commit that was refused is told to nobody."""
    number = 0
    with log.open("a") as told:
        while not stop.exists():
            number += 1
            try:
                done = write(kind, uri, number)
            except (OSError, RuntimeError, ValueError):
                done = None
            print(json.dumps(done), file=told, flush=True)
            time.sleep(PAUSE)


KINDS = ["append", "update", "upsert", "delete", "compact", "index build"]


@dataclass
class Cell:
    """What came of an operation beside a writer, over the rounds."""

    seconds: list[float] = field(default_factory=list)
    conflicts: int = 0
    lost: int = 0
    wrong: int = 0
    commits: int = 0


def run(operation: Operation, kind: str | None, original: Path, cell: Cell) -> None:
    place = Path(tempfile.mkdtemp(dir=original.parent))
    bench.project(place, operation.text, ABOVE)
    uri, stop, log = bench.table_path(place), place / "stop", place / "told"
    bench.copy_links(original, uri)
    writer = None
    if kind is not None:
        command = [sys.executable, __file__, "--writer", kind, str(uri), str(log), str(stop)]
        writer = subprocess.Popen(command)
        while not log.exists() or log.read_text().count("\n") < 3:
            time.sleep(0.02)
    conflicts: list[Any] = []
    try:
        cell.seconds.append(bench.timed(lambda: upgrade(place, conflicts)))
    finally:
        cell.conflicts += len(conflicts)
        stop.touch()
        if writer is not None:
            writer.wait()
    told = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    cell.commits += sum(one is not None for one in told)
    compare(operation, lance.dataset(str(uri)), [one for one in told if one], cell)
    shutil.rmtree(place, ignore_errors=True)


def upgrade(folder: Path, conflicts: list[Any]) -> None:
    """`bench.upgrade`, counting the commits that others made impossible."""
    from lancemig.store.lance import Conflict, Tables

    real = Tables.commit

    def commit(self: Tables, *arguments: Any) -> int:
        try:
            return real(self, *arguments)
        except Conflict as conflict:
            conflicts.append(conflict)
            raise

    Tables.commit = commit  # type: ignore[method-assign]
    try:
        bench.upgrade(folder)
    finally:
        Tables.commit = real  # type: ignore[method-assign]


def compare(operation: Operation, table: lance.LanceDataset, told: list[dict[str, Any]], cell: Cell) -> None:
    found = {row["id"]: row for row in table.to_table().to_pylist()}
    cell.wrong += table.count_rows() - len(found)
    last = {one["there"]: one["n"] for one in told if "there" in one}
    last |= {one["also"]: one["n"] for one in told if "also" in one}
    cell.lost += sum(id_ not in found or found[id_]["n"] != n for id_, n in last.items())
    cell.lost += sum(one["gone"] in found for one in told if "gone" in one)
    for id_ in range(TOUCHED, ROWS):
        wanted, row = operation.made(id_), found.get(id_)
        right = row is None if wanted is None else row is not None and wanted.items() <= row.items()
        cell.wrong += not right


ROWS = 0


def main() -> None:
    global ROWS
    if sys.argv[1:2] == ["--writer"]:
        kind, uri, log, stop = sys.argv[2:]
        writing(kind, uri, Path(log), Path(stop))
        return
    options = bench.parser(__doc__.splitlines()[0])
    options.set_defaults(rounds=3)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--only", default="", help="the operations whose name begins with this")
    options.add_argument("--write", action="store_true", help="write the table into docs/concurrency.md")
    args = options.parse_args()
    ROWS = args.rows
    lines = [f"| | quiet | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 2) + "|"]
    with bench.scratch(args) as folder:
        original = folder / "original.lance"
        ids = pa.array(range(ROWS), pa.int64())
        columns = {"id": ids, "x": ids.cast(pa.float64()), "n": [0] * ROWS, "text": ["text " * 20] * ROWS}
        schema = pa.schema(
            [("id", pa.int64()), ("x", pa.float64()), ("n", pa.int64()), ("text", pa.string())]
        )
        table = pa.table(columns, schema=schema.with_metadata({"lancemig.key": '["id"]'}))
        lance.write_dataset(table, str(original), max_rows_per_file=ROWS // 8)
        run(OPERATIONS[0], None, original, Cell())
        total = Cell()
        for operation in (one for one in OPERATIONS if one.name.startswith(args.only)):
            cells = []
            for kind in (None, *KINDS):
                cell = Cell()
                for _ in range(args.rounds):
                    run(operation, kind, original, cell)
                cells.append(cell)
                total.lost, total.wrong = total.lost + cell.lost, total.wrong + cell.wrong
                total.commits += cell.commits
            lines.append(line(operation, cells, args.rounds))
            print(lines[-1], flush=True)
    said = f"{total.commits:,} commits of writers: {total.lost} lost; {total.wrong} other rows wrong."
    print("\n".join([*lines, "", said]))
    if args.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", said, "", f"{END}{after}"]))
    if total.lost or total.wrong:
        raise SystemExit("rows were lost, or are wrong")


def line(operation: Operation, cells: list[Cell], rounds: int) -> str:
    quiet = statistics.median(cells[0].seconds)
    beside = [
        f"{one.lost} lost, {one.conflicts / rounds:.1f} again, {statistics.median(one.seconds) / quiet:.1f} x"
        for one in cells[1:]
    ]
    return f"| {operation.name} | {quiet:.2f} s | {' | '.join(beside)} |"


if __name__ == "__main__":
    main()
