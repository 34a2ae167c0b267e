"""The proof of one root against another, of the same files and of rows written anew; against reading them.

    python benchmarks/proof.py [--megabytes 256] [--rounds 5]

`lancemig verify --against` makes all gates over a table and its copy. Reading is Lance's scan of both tables,
all columns, nothing done with the rows.
"""

from pathlib import Path

import bench
import lance

COPY = Path("store") / "v2" / "catalog" / "wide.lance"


def verified(folder: Path) -> None:
    from lancemig.commands import verify
    from lancemig.commands.context import open_catalog
    from lancemig.config import read_settings

    catalog = open_catalog(read_settings(folder / "lancemig.ini", environ={}))
    if not verify.verify_against(catalog, "v2/").ok:
        raise SystemExit("the proof failed")


def read(folder: Path) -> None:
    for path in (bench.table_path(folder), folder / COPY):
        for batch in lance.dataset(str(path)).to_batches():
            del batch


def main() -> None:
    args = bench.parser(__doc__.splitlines()[0]).parse_args()
    rows = args.megabytes * 1_000_000 // bench.BYTES_A_ROW
    with bench.scratch(args) as folder:
        bench.project(folder, "")
        bench.write_wide(bench.table_path(folder), rows)
        for title, made in (
            ("the same files", lambda: bench.copy_links(bench.table_path(folder), folder / COPY)),
            ("all rows written anew", lambda: bench.write_wide(folder / COPY, rows)),
        ):
            (folder / COPY).parent.mkdir(parents=True, exist_ok=True)
            made()
            ways = {"read": read, "verify": verified}
            results: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
            for number in range(args.rounds + 1):
                for name, way in ways.items():
                    seconds = bench.timed(lambda way=way: way(folder))
                    if number:
                        results[name].append((seconds, 0))
            bench.report(f"{title}: {rows:,} rows, {args.megabytes} MB a side", results, "read")
            bench.shutil.rmtree(folder / COPY)


if __name__ == "__main__":
    main()
