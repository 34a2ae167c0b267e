"""Carrying a table within a bucket: lancemig's copies, rclone's if it is there, and bytes through Lance.

The server is SeaweedFS on this machine, as the tests run it: figures tell of requests and their overlap, not
of anybody's network.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bench
import lance

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

FILES = 200
"""So many data files: one is a request."""


def copying(folder: Path, megabytes: int, rounds: int) -> None:
    """Print how long each way takes."""
    import servers

    os.environ.update(AWS_ACCESS_KEY_ID=servers.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=servers.SECRET_KEY)
    place = folder / "seaweedfs"
    place.mkdir()
    with servers.seaweedfs(place) as endpoint:
        bucket = servers.bucket_at("seaweedfs", endpoint)
        print_figures(bucket.store, endpoint, megabytes, rounds)


def print_figures(store: str, endpoint: str, megabytes: int, rounds: int) -> None:
    from lancemig.store.lance import Tables
    from lancemig.store.objects import open_objects

    tables = Tables(open_objects(store, {"endpoint": endpoint}), "catalog/")
    rows = megabytes * 1_000_000 // bench.BYTES_A_ROW
    write(tables.uri("v1/", "wide"), rows, tables.options())
    live = tables.open("v1/", "wide")
    ways: dict[str, Callable[[str], object]] = {
        "through the client, by pylance": lambda root: live.dataset.deep_clone(
            tables.uri(root, "wide"), live.version, storage_options=tables.options()
        ),
        "lancemig, copy": lambda root: tables.carry(live, root, "wide"),
        "lancemig, clone": lambda root: tables.clone(live, root, "wide"),
    }
    if shutil.which("rclone"):
        ways["rclone"] = lambda root: rclone(
            store, endpoint, tables.folder("v1/", "wide"), tables.folder(root, "wide")
        )
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            root = f"staged-{number}-{len(name)}/"
            seconds = bench.timed(lambda way=way, root=root: way(root))
            if number:
                results[name].append((seconds, 0))
    reference = "rclone" if "rclone" in ways else next(iter(ways))
    bench.report(
        f"carry {megabytes} MB in {FILES} files within a bucket, {rounds} rounds", results, reference
    )
    if "rclone" not in ways:
        print("\nrclone is not on PATH: not compared")


def write(uri: str, rows: int, options: dict[str, str]) -> None:
    import pyarrow as pa

    reader = pa.RecordBatchReader.from_batches(bench.WIDE, bench.wide_batches(rows))
    lance.write_dataset(reader, uri, max_rows_per_file=max(rows // FILES, 1), storage_options=options)


def rclone(store: str, endpoint: str, source: str, target: str) -> None:
    """A server-side copy, as rclone does it: with the requests in flight that lancemig has."""
    remote = f":s3,provider=Other,env_auth=true,endpoint='{endpoint}':{store.removeprefix('s3://')}"
    flags = ["--transfers", "64", "--checkers", "64"]
    # rclone refuses to start where the AWS tools are told of certificates of their own.
    environment = {name: text for name, text in os.environ.items() if name != "AWS_CA_BUNDLE"}
    command = ["rclone", "copy", f"{remote}/{source}", f"{remote}/{target}", *flags]
    subprocess.run(command, check=True, env=environment)
