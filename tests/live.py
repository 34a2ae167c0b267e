"""A live catalog and a line of revisions as values: what the planner is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from lancemig.catalog.lineage import RootRevision
from lancemig.catalog.operations import Kind, Operation
from lancemig.catalog.schema import Index, LiveCatalog, TableSchema, TableStats
from lancemig.errors import PlanError
from lancemig.plan.plan import CommitRef, DirectedMigration, Plan, downward, upward
from lancemig.plan.planner import PlannerInput, make_plan
from lancemig.revisions.header import Header
from lancemig.revisions.loader import Migration, replay

RECORDINGS = TableSchema(
    columns=pa.schema(
        [("id", pa.int64()), ("fs", pa.int32()), ("note", pa.string()), ("p", pa.struct([("a", pa.int8())]))]
    ),
    key=("id",),
    indices=(Index(name="fs_idx", column="fs", type="BTREE"),),
)
HOSTS = TableSchema(columns=pa.schema([("name", pa.string())]))


@dataclass
class Answers:
    """A probe that knows its answers, and keeps what it was asked."""

    rows: Mapping[tuple[str, str | None], int] = field(default_factory=dict)
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def count(self, table: str, where: str | None) -> int:
        self.asked.append((table, where))
        return self.rows.get((table, where), 0)

    def sql(self, columns: pa.Schema, expressions: Mapping[str, str], where: str | None) -> pa.Schema:
        for text in [*expressions.values(), *([where] if where else [])]:
            if text == "wrong":
                raise PlanError("SQL 'wrong': no field named wrong")
        return pa.schema([(name, self.types.get(text, pa.int64())) for name, text in expressions.items()])

    def rewritten(self, columns: pa.Schema, sql: str) -> tuple[str, pa.DataType] | None:
        return None

    def null_column(self, table: str, columns: pa.Schema, field: pa.Field, *, live: bool) -> None:
        if field.name == "unreadable":
            raise PlanError(f"programs could not read {table} afterwards")

    def index(self, columns: pa.Schema, wanted: Index) -> None:
        pass


def table(name: str, schema: TableSchema, **facts: Any) -> TableStats:
    given = {
        "version": 3,
        "rows": 1000,
        "bytes": 80_000,
        "stable_row_ids": False,
        "data_storage_version": "2.2",
    }
    return TableStats(name=name, table=schema, **{**given, **facts})


def situation(applied: Mapping[str, tuple[CommitRef, ...]] | None = None, **facts: Any) -> PlannerInput:
    tables = {
        "recordings": table("recordings", RECORDINGS, **facts),
        "hosts": table("hosts", HOSTS, version=1, rows=4, bytes=900),
    }
    return PlannerInput(
        catalog="ursa",
        origin=RootRevision(prefix="v1/", revision="0001"),
        etag='"abc"',
        live=LiveCatalog(prefix="v1/", tables=tables),
        applied=applied or {},
    )


def migrations(
    *revisions: list[Operation], downgrade: tuple[Operation, ...] | None = None
) -> list[Migration]:
    """Revisions 0002, 0003, … after the one that the catalog is at."""
    return [
        Migration(
            header=Header(
                path=Path(f"versions/{number:04d}.py"),
                revision=f"{number:04d}",
                down_revision=f"{number - 1:04d}",
                message=f"Revision {number}.",
                sha256=sha256("".join(operation.describe() for operation in operations).encode()).hexdigest(),
            ),
            kind=Kind.weakest([operation.kind for operation in operations]),
            operations=tuple(operations),
            downgrade=downgrade,
        )
        for number, operations in enumerate(revisions, start=2)
    ]


def planned(
    *revisions: list[Operation], probe: Answers | None = None, given: PlannerInput | None = None, **facts: Any
) -> Plan:
    """The plan of going up through `revisions`."""
    work = upward(migrations(*revisions))
    return make_plan(given or situation(**facts), "up", f"{len(revisions) + 1:04d}", work, probe or Answers())


def taken_back(line: list[Migration], applied: Mapping[str, tuple[CommitRef, ...]] | None = None) -> Plan:
    """The plan of going back down through all of `line`, from the catalog it leads to."""
    start, before = situation().live.catalog, {}
    for migration in line:
        before[migration.header.revision] = start
        start = replay([migration], start)
    live = LiveCatalog(prefix="v1/", tables={n: table(n, schema) for n, schema in start.tables.items()})
    given = situation(applied)
    now = PlannerInput(
        given.catalog, RootRevision(prefix="v1/", revision="0009"), given.etag, live, given.applied
    )
    work: list[DirectedMigration] = downward(line[::-1], before)
    return make_plan(now, "down", "0001", work, Answers())
