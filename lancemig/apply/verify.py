"""The gates before a flip: what a staged root must be, compared with the live one it was made from."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest

import pyarrow as pa

from lancemig.apply.transform import Passage
from lancemig.catalog.lineage import CheckResult
from lancemig.catalog.operations import RenameColumn
from lancemig.catalog.schema import CatalogSchema, TableSchema, differences
from lancemig.store.tables import Table, Tables


def verified(
    tables: Tables,
    origin: str,
    staged: str,
    start: CatalogSchema,
    passages: list[Passage],
    versions: Mapping[str, int],
) -> list[CheckResult]:
    """All gates, each with its outcome; `versions` are those of the live tables that were caught up with."""
    results: list[CheckResult] = []
    for passage in passages:
        if passage.target is None:
            continue
        found = tables.find(staged, passage.target)
        if found is None:
            results.append(
                CheckResult(check="present", table=passage.target, ok=False, detail="it is missing")
            )
            continue
        results += _schema(passage, start, found)
        if passage.source is not None and not passage.derived:
            live = tables.open(origin, passage.source, versions[passage.source])
            results += _rows(passage, live, found)
    return [*results, *_strangers(tables, staged, passages)]


def failures(results: list[CheckResult]) -> list[str]:
    """The failed gates as sentences."""
    return [f"{f'{r.table}: ' if r.table else ''}{r.check}: {r.detail}" for r in results if not r.ok]


def _schema(passage: Passage, start: CatalogSchema, found: Table) -> Iterator[CheckResult]:
    wanted = expected(passage, start)
    said = differences(found.name, wanted, found.schema()) if wanted else ["no schema was planned"]
    yield CheckResult(check="schema", table=found.name, ok=not said, detail="; ".join(said))


def expected(passage: Passage, start: CatalogSchema) -> TableSchema | None:
    """The schema a table should have at the end of its way."""
    if passage.steps:
        return passage.steps[-1].after
    return start.tables.get(passage.source or "")


def _rows(passage: Passage, live: Table, found: Table) -> Iterator[CheckResult]:
    if not passage.keeps_rows:
        detail = f"{live.count():,} rows became {found.count():,}: the migration decides which stay"
        yield CheckResult(check="rows", table=found.name, ok=True, detail=detail)
        return
    rows, staged = live.count(), found.count()
    detail = f"{staged:,} rows" if rows == staged else f"{staged:,} rows, not {rows:,}"
    yield CheckResult(check="rows", table=found.name, ok=rows == staged, detail=detail)
    key = live.schema().key
    if key:
        yield _keys(passage, live, found, key)


def _keys(passage: Passage, live: Table, found: Table, key: tuple[str, ...]) -> CheckResult:
    names = [_renamed(passage, name) for name in key]
    if _same_in_order(live, list(key), found, names):
        return CheckResult(check="keys", table=found.name, ok=True, detail=f"{found.count():,} keys")
    new = found.read(names)
    # A key may have been retyped, by a cast that loses nothing.
    old = live.read(list(key)).rename_columns(names).cast(new.schema)
    lost, extra = _without(old, new, names), _without(new, old, names)
    ok = not lost.num_rows and not extra.num_rows
    detail = f"{new.num_rows:,} keys" if ok else _spelt(lost, extra, names)
    return CheckResult(check="keys", table=found.name, ok=ok, detail=detail)


def _same_in_order(live: Table, key: list[str], found: Table, names: list[str]) -> bool:
    """Whether the keys are the same ones in the same order, as they are in a copy; reads them streaming."""
    for old, new in zip_longest(live.batches(key), found.batches(names)):
        if old is None or new is None or old.num_rows != new.num_rows or old.columns != new.columns:
            return False
    return True


def _renamed(passage: Passage, name: str) -> str:
    for step in passage.steps:
        if isinstance(step.operation, RenameColumn) and step.operation.column == name:
            name = step.operation.to
    return name


def _without(left: pa.Table, right: pa.Table, names: list[str]) -> pa.Table:
    return left.join(right, keys=names, join_type="left anti")


def _spelt(lost: pa.Table, extra: pa.Table, names: list[str]) -> str:
    parts = []
    for rows, what in ((lost, "missing"), (extra, "too many")):
        if rows.num_rows:
            example = ", ".join(f"{name}={rows.column(name)[0].as_py()!r}" for name in names)
            parts.append(f"{rows.num_rows:,} keys are {what}, such as {example}")
    return "; ".join(parts)


def _strangers(tables: Tables, staged: str, passages: list[Passage]) -> Iterator[CheckResult]:
    known = {passage.target for passage in passages}
    for name in tables.names(staged):
        if name not in known:
            yield CheckResult(check="unknown table", table=name, ok=False, detail="no step made it")
