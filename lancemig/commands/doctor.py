"""`doctor`: check that a store supports what lancemig needs, with real races on scratch objects."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa

from lancemig.catalog.lineage import CheckResult
from lancemig.catalog.schema import TableSchema
from lancemig.catalog.value import format_revision
from lancemig.commands.context import Catalog
from lancemig.commands.lance_versions import require_supported, versions_text
from lancemig.errors import LancemigError
from lancemig.store.lance import Conflict, Layout, Stamp, writing
from lancemig.store.objects import Objects, PreconditionFailed, WriteOk

RACERS = 8
ROUNDS = 3


def doctor(catalog: Catalog) -> list[CheckResult]:
    """Try conditional writes, copies and Lance commits in the store, then read the lineage and the tables.

    All scratch objects are under `doctor-…` beside the pointer, and are removed afterwards.
    """
    folder = f"{catalog.store.pointers.folder}doctor-{catalog.environment.new_id()}/"
    objects = catalog.store.objects
    trials: dict[str, Callable[[], str]] = {
        "lancedb and pylance are a tested pair": _releases,
        "create-only writes: exactly one writer wins": lambda: _race_to_create(objects, folder),
        "conditional writes: exactly one writer wins": lambda: _race_to_replace(objects, folder),
        "a stale ETag is refused": lambda: _refuse_stale_etag(objects, folder),
        "copies inside the store": lambda: _copy_objects(objects, folder),
        "Lance: racing appends lose no row": lambda: _race_to_append(catalog, folder),
        "the pointer and its lineage": lambda: _lineage(catalog),
    }
    with _removing(objects, folder):
        results = [_run_trial(name, trial) for name, trial in trials.items()]
    return [*results, *_tables(catalog)]


def _run_trial(name: str, trial: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(check=name, ok=True, detail=trial())
    except (LancemigError, _Unsupported) as error:
        return CheckResult(check=name, ok=False, detail=str(error).splitlines()[0])


class _Unsupported(Exception):
    """The store does not support something that lancemig needs."""


@contextmanager
def _removing(objects: Objects, folder: str) -> Iterator[None]:
    try:
        yield
    finally:
        objects.delete([item.key for item in objects.list(folder)])


def _race(objects: Objects, key: str, expected: str | None) -> str:
    bodies = [f"racer {number}".encode() for number in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as threads:
        outcomes = list(threads.map(lambda body: objects.write_if(key, body, expected), bodies))
    winners = [(o, b) for o, b in zip(outcomes, bodies, strict=True) if isinstance(o, WriteOk)]
    found = objects.read(key)
    if len(winners) != 1 or found is None or found.body != winners[0][1]:
        raise _Unsupported(f"{len(winners)} of {RACERS} concurrent writers succeeded, expected 1")
    return winners[0][0].version_token


def _race_to_create(objects: Objects, folder: str) -> str:
    for number in range(ROUNDS):
        _race(objects, f"{folder}create-{number}", None)
    return f"{ROUNDS} rounds of {RACERS}"


def _race_to_replace(objects: Objects, folder: str) -> str:
    etag = _race(objects, f"{folder}replace", None)
    for _ in range(ROUNDS):
        objects.delete([f"{folder}replace"])
        first = objects.write_if(f"{folder}replace", b"first", None)
        if isinstance(first, PreconditionFailed):
            raise _Unsupported("a deleted object still exists")
        etag = _race(objects, f"{folder}replace", first.version_token)
    return f"{ROUNDS} rounds of {RACERS}, last ETag {etag[:8]}"


def _refuse_stale_etag(objects: Objects, folder: str) -> str:
    first = objects.write_if(f"{folder}stale", b"first", None)
    if isinstance(first, PreconditionFailed):
        raise _Unsupported("the store reports that a new object already exists")
    objects.write_if(f"{folder}stale", b"second", first.version_token)
    if isinstance(objects.write_if(f"{folder}stale", b"third", first.version_token), WriteOk):
        raise _Unsupported("a write with a stale ETag was accepted")
    if isinstance(objects.write_if(f"{folder}absent", b"x", first.version_token), WriteOk):
        raise _Unsupported("a write with an ETag was accepted for a missing object")
    return ""


def _copy_objects(objects: Objects, folder: str) -> str:
    objects.write_if(f"{folder}source", b"copied", None)
    objects.copy([(f"{folder}source", f"{folder}copies/{n}") for n in range(RACERS)])
    keys = [item.key for item in objects.list(f"{folder}copies/")]
    found = [objects.read(key) for key in keys]
    if len(keys) != RACERS or any(one is None or one.body != b"copied" for one in found):
        raise _Unsupported(f"{len(keys)} of {RACERS} copies exist")
    return f"{RACERS} copies"


def _releases() -> str:
    require_supported()
    return versions_text()


def _race_to_append(catalog: Catalog, folder: str) -> str:
    require_supported()
    tables, schema = catalog.store.tables, TableSchema(columns=pa.schema([("id", pa.int64())]))
    first = writing.written_table(tables.uri(folder, "race"), schema, [], Layout(), tables.options())
    tables.create(folder, "race", first, Layout(), Stamp("doctor", "", "create"))

    def append(number: int) -> None:
        batch = pa.record_batch([pa.array([number], pa.int64())], names=["id"])
        for _ in range(2 * RACERS):
            table = tables.open(folder, "race")
            staged = writing.appended_rows(table, [batch], tables.options())
            try:
                if staged is not None:
                    tables.commit(table, staged, Stamp("doctor", "", f"{number}"))
            except Conflict:
                continue
            return

    with ThreadPoolExecutor(RACERS) as threads:
        list(threads.map(append, range(RACERS)))
    rows = sorted(tables.open(folder, "race").read().column("id").to_pylist())
    if rows != list(range(RACERS)):
        raise _Unsupported(f"{RACERS} rows were appended, but the table has: {rows}")
    return f"{RACERS} concurrent appends"


def _lineage(catalog: Catalog) -> str:
    seen = catalog.seen()
    catalog.store.pointers.require_own(seen)
    entries = len(list(catalog.store.pointers.chain(seen.pointer)))
    if seen.pointer is None:
        return "no pointer yet"
    return f"revision {format_revision(seen.pointer.revision)}, {entries} entries in one chain"


def _tables(catalog: Catalog) -> Iterator[CheckResult]:
    for name, live in catalog.store.tables.live(catalog.active(catalog.seen()).prefix).tables.items():
        key = (
            f"key {', '.join(live.table.key)}" if live.table.key else "no key: only appends can be replicated"
        )
        ids = "stable row ids" if live.stable_row_ids else "no stable row ids"
        yield CheckResult(check="table", table=name, ok=True, detail=f"{key}; {ids}")
