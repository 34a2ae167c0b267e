"""One narrow column of a wide table is changed in every row: lancemig against Lance by hand.

    python benchmarks/inplace.py [--megabytes 256] [--rounds 5]

All three ways divide `duration` by 1000 in a table whose other columns are wide. `dataset.update()` writes
whole rows anew; `update_columns`, staged by hand, writes the column alone, and so does lancemig, which also
plans, locks, guards, compares old with new values, and writes lineage and pointer.
"""

from functools import partial
from pathlib import Path

import bench
import lance
from lance import LanceOperation, Transaction

SQL = "duration / 1000.0"
OPERATION = f'UpdateRows(table="wide", set={{"duration": "{SQL}"}})'


def by_lancemig(folder: Path) -> None:
    bench.upgrade(folder)


def by_update(folder: Path) -> None:
    lance.dataset(str(bench.table_path(folder))).update({"duration": SQL})


def by_update_columns(folder: Path) -> None:
    dataset = lance.dataset(str(bench.table_path(folder)))
    fragments, modified, offsets = [], set(), {}
    for fragment in dataset.get_fragments():
        scanner = dataset.scanner(columns={"duration": SQL}, fragments=[fragment], with_row_id=True)
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


WAYS = {"staged update_columns": by_update_columns, "lancemig": by_lancemig, "dataset.update()": by_update}


def main() -> None:
    args = bench.parser(__doc__.splitlines()[0]).parse_args()
    rows = args.megabytes * 1_000_000 // bench.BYTES_A_ROW
    with bench.scratch(args) as folder:
        original = folder / "original.lance"
        bench.write_wide(original, rows)
        see = partial(expect_divided, original=original)
        results = bench.in_turn(WAYS, folder / "round", original, OPERATION, args.rounds, see)
        title = f"one float64 column of {rows:,} rows, {args.megabytes} MB, {args.rounds} rounds"
        bench.report(title, results, "staged update_columns")


def expect_divided(place: Path, original: Path) -> None:
    """Every way must have done the same."""
    query = {"columns": ["duration"], "limit": 1, "filter": "id = 5"}
    [new] = lance.dataset(str(bench.table_path(place))).to_table(**query).to_pylist()
    [old] = lance.dataset(str(original)).to_table(**query).to_pylist()
    if abs(new["duration"] * 1000 - old["duration"]) > 1e-6:
        raise SystemExit("the column was not divided")


if __name__ == "__main__":
    main()
