"""Every operation in place, against the call of Lance that does the same by hand.

    python benchmarks/operations.py [--megabytes 256] [--rounds 5] [--only UpdateRows]

lancemig also plans, locks, guards, compares old with new values, counts what matches afterwards, and writes
lineage and pointer. That costs the same whatever the table holds. So in each round a run is timed as well
that only sets an entry of metadata: `a run` is its time, `the rest` what lancemig takes beyond it.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench
import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance import LanceOperation, Transaction

HAND, OURS, RUN = "by hand", "lancemig", "a run"
HEADS = (
    *("operation", HAND, OURS, f"time / {HAND}"),
    *(RUN, f"the rest / {HAND}", f"written {HAND}", f"by {OURS}"),
)
ALONE = 'SetMetadata(table="wide", metadata={"owner": "acoustics"})'
HALF = "duration / 2.0"
SOME = "id % 100 = 7"
ABOVE = """
import lance
import pyarrow.compute as pc


def halved(batch):
    return pc.divide(batch.column("duration"), 2.0)


def narrow():
    yield lance.dataset({original!r}).to_table(columns=["id", "duration", "text"])


def given():
    yield lance.dataset({source!r}).to_table()
"""


@dataclass(frozen=True)
class Case:
    """An operation as a migration has it, and by hand; `before` prepares the table for both."""

    title: str
    operation: str
    by_hand: Callable[[lance.LanceDataset], object]
    before: Callable[[lance.LanceDataset], object] = lambda _: None
    upserts: bool = False


def update_columns(dataset: lance.LanceDataset) -> None:
    """`update_columns`, staged by hand: what writes the column alone."""
    fragments, modified, offsets = [], set(), {}
    for fragment in dataset.get_fragments():
        scanner = dataset.scanner(columns={"duration": HALF}, fragments=[fragment], with_row_id=True)
        metadata, fields, changed = fragment.update_columns(
            scanner.to_table(), left_on="_rowid", right_on="_rowid", with_offsets=True
        )
        fragments.append(metadata)
        modified.update(fields)
        offsets[fragment.fragment_id] = changed
    operation = LanceOperation.Update(
        updated_fragments=fragments,
        fields_modified=sorted(modified),
        update_mode="rewrite_columns",
        updated_fragment_offsets=offsets,
    )
    lance.LanceDataset.commit(dataset.uri, Transaction(dataset.version, operation))


def backfill(dataset: lance.LanceDataset) -> None:
    rows = dataset.to_table(columns=["id", "duration"])
    rows = rows.set_column(1, "duration", pc.divide(rows.column("duration"), 2.0))
    dataset.merge_insert("id").when_matched_update_all().execute(rows)


def write_source(original: Path, source: Path) -> None:
    """Rows to upsert: one in fifty of the table's, every other one under a new key."""
    dataset = lance.dataset(str(original))
    rows = dataset.to_table(filter="id % 50 = 3")
    odd = pc.equal(pc.bit_wise_and(rows.column("id"), 1), 1)
    ids = pc.if_else(odd, pc.add(rows.column("id"), 10**9), rows.column("id"))
    rows = rows.set_column(0, dataset.schema.field("id"), ids)
    halves = pc.divide(rows.column("duration"), 2.0)
    lance.write_dataset(rows.set_column(1, "duration", halves), str(source))


@lance.batch_udf(output_schema=pa.schema([("half", pa.float64())]))
def half(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"half": pc.divide(batch.column("duration"), 2.0)})


def new_table(dataset: lance.LanceDataset) -> None:
    rows = dataset.scanner(columns=["id", "duration", "text"]).to_table()
    lance.write_dataset(rows, str(Path(dataset.uri).parent / "narrow.lance"))


CASES = [
    Case(
        "UpdateRows of all rows, against update_columns",
        f'UpdateRows(table="wide", set={{"duration": "{HALF}"}})',
        update_columns,
    ),
    Case(
        "UpdateRows of all rows, against dataset.update()",
        f'UpdateRows(table="wide", set={{"duration": "{HALF}"}})',
        lambda dataset: dataset.update({"duration": HALF}),
    ),
    Case(
        "UpdateRows of 1 %, against dataset.update()",
        f'UpdateRows(table="wide", set={{"duration": "{HALF}"}}, where="{SOME}")',
        lambda dataset: dataset.update({"duration": HALF}, where=SOME),
    ),
    Case(
        "BackfillColumns of all rows, against merge_insert",
        'BackfillColumns(table="wide", columns=("duration",), reads=("duration",), using=halved)',
        backfill,
    ),
    Case(
        "UpsertRows of 2 %, half of them new, against merge_insert",
        'UpsertRows(table="wide", rows=given, on=("id",), when_exists="overwrite")',
        lambda _: None,
        upserts=True,
    ),
    Case(
        "DeleteRows of 1 %, against dataset.delete()",
        f'DeleteRows(table="wide", where="{SOME}")',
        lambda dataset: dataset.delete(SOME),
    ),
    Case(
        "AddColumn by SQL, against add_columns",
        f'AddColumn(table="wide", column=pa.field("half", pa.float64()), sql="{HALF}")',
        lambda dataset: dataset.add_columns({"half": HALF}),
    ),
    Case(
        "AddColumn by a function, against add_columns with batch_udf",
        'AddColumn(table="wide", column=pa.field("half", pa.float64()), reads=("duration",), using=halved)',
        lambda dataset: dataset.add_columns(half, read_columns=["duration"]),
    ),
    Case(
        "CreateIndex BTREE, against create_scalar_index",
        'CreateIndex(table="wide", column="duration", type="BTREE")',
        lambda dataset: dataset.create_scalar_index("duration", "BTREE"),
    ),
    Case(
        "CreateIndex INVERTED, against create_scalar_index",
        'CreateIndex(table="wide", column="text", type="INVERTED")',
        lambda dataset: dataset.create_scalar_index("text", "INVERTED"),
    ),
    Case(
        "CreateIndex IVF_FLAT, against create_index",
        'CreateIndex(table="wide", column="vector", type="IVF_FLAT", params={"num_partitions": 16})',
        lambda dataset: dataset.create_index("vector", "IVF_FLAT", num_partitions=16),
    ),
    Case(
        "CreateTable with rows, against write_dataset",
        'CreateTable(table="narrow", schema=["id: int64", "duration: float64", "text: string"], rows=narrow)',
        new_table,
    ),
    Case(
        "AddColumn null, against add_columns",
        'AddColumn(table="wide", column=pa.field("half", pa.float64()))',
        lambda dataset: dataset.add_columns(pa.field("half", pa.float64())),
    ),
    Case(
        "SetMetadata, against update_metadata",
        ALONE,
        lambda dataset: dataset.update_schema_metadata({"owner": "acoustics"}),
    ),
    Case(
        "DropIndex, against drop_index",
        'DropIndex(table="wide", name="id_idx")',
        lambda dataset: dataset.drop_index("id_idx"),
        lambda dataset: dataset.create_scalar_index("id", "BTREE"),
    ),
]


def main() -> None:
    options = bench.parser(__doc__.splitlines()[0])
    options.add_argument("--only", default="", help="the cases whose title begins with this")
    args = options.parse_args()
    rows = args.megabytes * 1_000_000 // bench.BYTES_A_ROW
    print(f"{rows:,} rows, {args.megabytes} MB, {args.rounds} rounds\n")
    print(f"| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|")
    with bench.scratch(args) as folder:
        bench.write_wide(folder / "original.lance", rows)
        write_source(folder / "original.lance", folder / "source.lance")
        for case in CASES:
            if case.title.startswith(args.only):
                print(line(case, folder, args.rounds), flush=True)


def line(case: Case, folder: Path, rounds: int) -> str:
    source, prepared = folder / "source.lance", folder / "prepared.lance"
    bench.copy_links(folder / "original.lance", prepared)
    case.before(lance.dataset(str(prepared)))

    def by_hand(place: Path) -> None:
        dataset = lance.dataset(str(bench.table_path(place)))
        if case.upserts:
            merge = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(lance.dataset(str(source)).to_table())
        else:
            case.by_hand(dataset)

    above = ABOVE.format(original=str(folder / "original.lance"), source=str(source))
    ways = {HAND: by_hand, OURS: bench.upgrade, RUN: bench.upgrade}
    migration, alone = (case.operation, above), {RUN: (ALONE, "")}
    results = bench.in_turn(ways, folder / "round", prepared, migration, rounds, others=alone)
    shutil.rmtree(prepared)
    return table_row(case.title, results)


def table_row(title: str, results: Mapping[str, Sequence[tuple[float, int]]]) -> str:
    hand, ours, run = (bench.summed(results[way], results[HAND]) for way in (HAND, OURS, RUN))
    rest = [(whole - alone, 0) for (whole, _), (alone, _) in zip(results[OURS], results[RUN], strict=True)]
    cells = [
        title,
        f"{hand.seconds:.3f} s",
        f"{ours.seconds:.3f} s",
        f"{ours.ratio:.2f}",
        f"{run.seconds:.3f} s",
        f"{bench.summed(rest, results[HAND]).ratio:.2f}",
        f"{hand.megabytes:,.1f} MB",
        f"{ours.megabytes:,.1f} MB",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
