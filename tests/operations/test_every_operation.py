"""Every operation has an answer wherever operations are asked for one, and its answers agree with its schema.

The examples of docs/operations.md are the operations that are looked at, on the catalog of that page.
"""

import ast
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pyarrow as pa
import pytest
from there_and_back import Case

import lancemig
from lancemig.apply.commit.executor import commit_strategy, maintain
from lancemig.apply.effects import replay, sample
from lancemig.apply.effects.replay import AppliedOperation, TablePath, columns_needed, replay_rows
from lancemig.apply.effects.rewrite import TableWrite, rewrite_source
from lancemig.apply.effects.stage import StoreKey, parts, stage
from lancemig.catalog.findings import Code
from lancemig.catalog.operations import (
    AddColumn,
    AnyOperation,
    BuildTable,
    CreateTable,
    DeleteRows,
    DropColumn,
    Kind,
    Maintenance,
    Operation,
    RenameColumn,
    RewriteTable,
    SetKey,
    Strategy,
    TransformTable,
    UndoRows,
    UpdateRows,
    UpsertRows,
)
from lancemig.catalog.operations.base import TableChange
from lancemig.catalog.operations.effects import ROWS_STAY, ColumnEffects, RowEffect
from lancemig.catalog.schema import CatalogSchema, Index, TableSchema, TableStats
from lancemig.catalog.sources import read_source
from lancemig.lint import engine
from lancemig.lint.subject import build_subject
from lancemig.plan.planner import bytes_of, rows_of
from lancemig.plan.preflight import checked
from lancemig.plan.tracking import Tracking
from lancemig.revisions import squash
from lancemig.revisions.header import Header
from lancemig.revisions.loader import Migration, ProjectModules
from lancemig.store.lance import checked_sql

PAGE = Path(__file__).parent.parent.parent / "docs" / "operations.md"
UNION: tuple[type[Operation], ...] = get_args(get_args(AnyOperation)[0])
INTERNAL = (UndoRows,)
"""Operations that no file declares: they are derived as an inverse."""


@dataclass(frozen=True)
class Example:
    """An operation on a catalog: the schema before and after it, and rows of its table."""

    operation: Operation
    catalog: CatalogSchema
    rows: pa.Table | None = None
    source: str = "operations = [None]"

    @property
    def table(self) -> TableSchema | None:
        return self.catalog.tables.get(self.operation.table)

    @property
    def after(self) -> CatalogSchema:
        return self.operation.after(self.catalog)

    @property
    def table_after(self) -> TableSchema | None:
        return self.after.tables.get(self.operation.table_after or "")

    @property
    def effects(self) -> ColumnEffects:
        return self.operation.column_effects(self.table)

    @property
    def path(self) -> TablePath:
        step = AppliedOperation(self.operation, self.table, self.table_after)
        return TablePath(self.operation.table, self.operation.table_after, (step,))


def migration(text: str) -> list[Operation]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, str(PAGE), "exec"), names)  # noqa: S102
    found: list[Operation] = names["operations"]
    return found


def page_blocks(mark: str) -> list[str]:
    return re.findall(rf"^```python {mark}[^\n]*\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@cache
def start() -> tuple[CatalogSchema, dict[str, pa.Table]]:
    catalog, rows = CatalogSchema(), {}
    for operation in migration(page_blocks("file=")[0]):
        catalog = operation.after(catalog)
        if isinstance(operation, CreateTable):
            rows[operation.table] = read_source(operation.rows or [], operation.columns).read_all()
    return catalog, rows


@cache
def examples() -> dict[type[Operation], list[Example]]:
    """The operations of the page by type; of a block with several, each after those before it."""
    found: dict[type[Operation], list[Example]] = {}
    for block in page_blocks("operation"):
        catalog, rows = start()
        for number, operation in enumerate(migration(block)):
            given = rows.get(operation.table) if number == 0 else None
            found.setdefault(type(operation), []).append(Example(operation, catalog, given, block))
            if isinstance(operation, UpdateRows):
                [undo] = operation.inverse(catalog)
                found.setdefault(UndoRows, []).append(Example(undo, catalog, given))
            catalog = operation.after(catalog)
    return found


@cache
def harness_cases() -> str:
    """The operations of all cases in this folder, as text."""
    modules = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    found = []
    for value in (value for module in modules for value in vars(module).values()):
        if isinstance(value, list):
            found += [case.do for case in value if isinstance(case, Case)]
    return "\n".join(found)


class Probe:
    """Lance's own answers, and the SQL that it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def count(self, table: str, where: str | None) -> int:
        return 0

    def sql(self, columns: pa.Schema, expressions: dict[str, str], where: str | None) -> pa.Schema:
        self.asked |= {*expressions.values(), *([where] if where is not None else [])}
        return checked_sql(columns, expressions, where)

    def rewritten(self, columns: pa.Schema, sql: str) -> tuple[str, pa.DataType] | None:
        return None

    def null_column(self, table: str, columns: pa.Schema, field: pa.Field, *, live: bool) -> None:
        pass

    def index(self, columns: pa.Schema, wanted: Index) -> None:
        pass


def in_union(example: Example) -> Iterator[str]:
    if type(example.operation) not in UNION:
        yield "not in AnyOperation"


def exported(example: Example) -> Iterator[str]:
    name = type(example.operation).__name__
    if type(example.operation) not in INTERNAL and getattr(lancemig, name, None) is not type(
        example.operation
    ):
        yield "not exported"


def documented(example: Example) -> Iterator[str]:
    name = type(example.operation).__name__
    if type(example.operation) not in INTERNAL and f"\n### {name}\n" not in PAGE.read_text():
        yield "no section"


def in_harness(example: Example) -> Iterator[str]:
    name = type(example.operation).__name__
    if type(example.operation) not in INTERNAL and f"{name}(" not in harness_cases():
        yield "no case in tests/operations"


def preflight(example: Example) -> Iterator[str]:
    """Each text of SQL is stated, and tried before anything is written."""
    probe = Probe()
    checked(example.operation, example.catalog, None, probe)
    given = [getattr(example.operation, name, None) for name in ("sql", "where", "unknown", "using")]
    given += list(getattr(example.operation, "set", {}).values())
    for sql in given:
        if isinstance(sql, str) and sql not in probe.asked:
            yield f"the SQL {sql!r} is not checked"


def cost(example: Example) -> Iterator[str]:
    operation, table = example.operation, example.table
    live = TableStats(
        name=operation.table, table=table or TableSchema(columns=pa.schema([])), version=1, rows=1000,
        bytes=80_000, stable_row_ids=False, data_storage_version="2.2",
    )  # fmt: skip
    written = bytes_of(operation, live, table, example.table_after)
    if operation.strategy in (Strategy.COLUMN, Strategy.TABLE) and not written:
        yield f"strategy {operation.strategy}, but nothing is written"
    if operation.strategy not in (Strategy.METADATA, Strategy.SOURCE) and not rows_of(operation, live):
        yield "no number of rows"


def effect(example: Example) -> Iterator[str]:
    """Something carries the operation out: an effect of its own, or that of its parts."""
    operation, effect = example.operation, example.operation.row_effect
    if operation.table_after != operation.table or effect.restores:
        return
    for part in parts(operation, (example.table, example.table_after)):
        if isinstance(part, Maintenance):
            if commit_strategy(part) is not maintain:
                yield f"nothing carries {part.op} out"
            continue
        by = rewrite_source if isinstance(part, TableWrite) else stage
        if by.dispatch(type(part)) is by.dispatch(object):
            yield f"nothing stages {part.op}"


def column_effects(example: Example) -> Iterator[str]:
    """What is stated of columns makes of the table before what the operation makes of it."""
    effects, after = example.effects, example.table_after
    if after is None:
        return
    wanted = {field.name: field.type for field in effects.replaced or ()}
    if effects.replaced is None and example.table is not None:
        wanted = {field.name: field.type for field in example.table.columns}
        for path in effects.dropped:
            wanted.pop(path, None)
        wanted = {effects.renamed.get(name, name): of for name, of in wanted.items()}
        wanted |= {path: field.type for path, field in effects.added.items() if "." not in path}
        wanted |= {path: of for path, of in effects.types.items() if "." not in path}
    nested = {path.partition(".")[0] for path in (*effects.dropped, *effects.added, *effects.types,
                                                  *effects.renamed) if "." in path}  # fmt: skip
    found = {field.name: field.type for field in after.columns}
    for name in sorted(wanted.keys() ^ found.keys()):
        yield f"column {name} is {'missing' if name in wanted else 'not stated'}"
    for name in wanted.keys() & found.keys() - nested:
        if wanted[name] != found[name]:
            yield f"column {name} is {found[name]}, stated as {wanted[name]}"


def row_effect(example: Example) -> Iterator[str]:
    operation, effect = example.operation, example.operation.row_effect
    if effect.writes_table != isinstance(operation, TableWrite):
        yield "writes_table does not agree with TableWrite"
    if effect.from_source and (effect.replayed or example.effects.replaced is None):
        yield "from_source, but later rows of the live table go through it"
    if operation.table_after is not None and operation.table_after not in example.after.tables:
        yield f"no table {operation.table_after} after it"
    if operation.table_after != operation.table and operation.table in example.after.tables:
        yield f"the table {operation.table} is still there after it"


def tracking(example: Example) -> Iterator[str]:
    tracked = Tracking(example.catalog.tables)
    if tracked.finally_called(tracked.follow(example.operation)) != example.operation.table_after:
        yield "the table is not tracked"


def replayed(example: Example) -> Iterator[str]:
    """Later rows go through it, and need no more columns than it states."""
    operation, table, after = example.operation, example.table, example.table_after
    if not operation.row_effect.replayed or table is None or after is None or example.rows is None:
        return
    needed = columns_needed(example.path, table) | {*table.key}
    few = table.with_columns([field for field in table.columns if field.name in needed])
    few = few.model_copy(update={"indices": ()})
    for schema in (table, few):
        rows = replay_rows(example.path, schema, example.rows.select(schema.columns.names))
        if schema is table and set(rows.column_names) != set(after.columns.names):
            yield f"gives the columns {rows.column_names}"
        if not operation.row_effect.removes and rows.num_rows != example.rows.num_rows:
            yield f"gives {rows.num_rows} of {example.rows.num_rows} rows"


def previewed(example: Example) -> Iterator[str]:
    """A change of cells or rows in place has a preview."""
    operation, dispatch = example.operation, sample.sampled_rows.dispatch
    in_place = operation.kind is not Kind.REBUILD and operation.strategy in (Strategy.COLUMN, Strategy.ROWS)
    changes = not (operation.row_effect.restores or isinstance(operation, Maintenance))
    if in_place and changes and dispatch(type(operation)) is dispatch(object):
        yield "no preview"


def squashed(example: Example) -> Iterator[str]:
    """What is left out for a table without rows gives it none."""
    operation, table, after = example.operation, example.table, example.table_after
    if not squash._is_rowless(operation, is_first=False):
        return
    if operation.row_effect.from_source or operation.row_effect.restores:
        yield "gives rows to a table without rows"
    if not operation.row_effect.replayed or table is None or after is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        scratch = replay._scratch(folder, table, table.columns.empty_table())
        replay._apply(scratch, AppliedOperation(operation, table, after), 0)
        if scratch.open("", replay._SCRATCH).count():
            yield "gives rows to a table without rows"


def linted(example: Example) -> Iterator[str]:
    """Rules take it, and find the columns and the table that it drops."""
    header = Header(path=PAGE, revision="0002", down_revision="0001", message="", sha256="")
    given = Migration.model_construct(
        header=header, kind=example.operation.kind, operations=(example.operation,), downgrade=None,
        checks=(), tolerances=(),
    )  # fmt: skip
    seen = build_subject(
        given, example.source, ast.parse(example.source), example.catalog, ProjectModules(())
    )
    found = {violation.code for rule in engine.RULES for violation in rule(seen)}
    before, after = (set(t.columns.names) if t else set() for t in (example.table, example.table_after))
    if before - after - example.effects.renamed.keys() and Code.DROPPED not in found:
        yield "drops a column without a finding"


REGISTRIES: dict[str, Callable[[Example], Iterator[str]]] = {
    "AnyOperation": in_union,
    "lancemig.__all__": exported,
    "docs/operations.md": documented,
    "harness": in_harness,
    "preflight": preflight,
    "cost": cost,
    "effect": effect,
    "column_effects": column_effects,
    "row_effect": row_effect,
    "tracking": tracking,
    "replay": replayed,
    "preview": previewed,
    "squash": squashed,
    "lint": linted,
}


def gaps(example: Example) -> list[str]:
    """What is missing or contradicts itself, as `AddColumn: registry: what`."""
    name, found = type(example.operation).__name__, []
    for registry, look in REGISTRIES.items():
        try:
            found += [f"{name}: {registry}: {gap}" for gap in look(example)]
        except Exception as error:  # noqa: BLE001 a registry that fails has a gap as well
            found.append(f"{name}: {registry}: {type(error).__name__}: {error}")
    return found


def registries_of(found: list[str]) -> set[str]:
    return {gap.split(": ")[1] for gap in found}


@pytest.mark.parametrize("operation", UNION, ids=lambda operation: operation.__name__)
def test_an_operation_has_no_gap(operation: type[Operation]) -> None:
    assert operation in examples(), f"{operation.__name__}: docs/operations.md: no example"
    assert [gap for example in examples()[operation] for gap in gaps(example)] == []


class Forgotten(TableChange):
    """Copies a column with SQL and drops it, and states none of that."""

    kind: ClassVar[Kind] = Kind.ADDITIVE
    strategy: ClassVar[Strategy] = Strategy.COLUMN
    why: ClassVar[str] = "a test"

    op: Literal["forgotten"] = "forgotten"
    sql: str

    def _after(self, table: TableSchema) -> TableSchema:
        kept = [field for field in table.columns if field.name != "fs"]
        return table.with_columns([*kept, table.columns.field("fs").with_name("copied")])

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        raise self.irreversible()

    def describe(self) -> str:
        return "forget"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        return ColumnEffects()

    @property
    def row_effect(self) -> RowEffect:
        return ROWS_STAY


class SecretInsert(Forgotten):
    """Inserts rows, and states that every row stays."""

    @property
    def row_effect(self) -> RowEffect:
        return RowEffect(writes_table=self.sql == "write", table_renamed_to=self.sql or None)


@parts.register
def _(operation: SecretInsert, schemas: Any) -> tuple[Operation, ...]:
    return (UpsertRows(table=operation.table, on=("rec_id",), rows=[{"rec_id": "new"}]),)


def example_of(operation: Operation) -> Example:
    catalog, rows = start()
    return Example(operation, catalog, rows[operation.table])


def test_a_forgotten_answer_is_named_with_its_operation_and_registry() -> None:
    found = gaps(example_of(Forgotten(table="recordings", sql="fs")))
    assert registries_of(found) == {
        "AnyOperation", "lancemig.__all__", "docs/operations.md", "harness", "preflight", "cost", "effect",
        "column_effects", "replay", "preview", "squash", "lint",
    }  # fmt: skip
    assert "Forgotten: column_effects: column copied is not stated" in found
    assert "Forgotten: preflight: the SQL 'fs' is not checked" in found


def test_a_false_statement_about_rows_is_found() -> None:
    inserts = gaps(example_of(SecretInsert(table="recordings", sql="")))
    assert "SecretInsert: squash: gives rows to a table without rows" in inserts
    assert "SecretInsert: replay: gives 4 of 3 rows" in inserts
    renames = gaps(example_of(SecretInsert(table="recordings", sql="elsewhere")))
    assert "SecretInsert: row_effect: no table elsewhere after it" in renames
    assert "SecretInsert: row_effect: the table recordings is still there after it" in renames
    writes = gaps(example_of(SecretInsert(table="recordings", sql="write")))
    assert "SecretInsert: row_effect: writes_table does not agree with TableWrite" in writes


@pytest.mark.parametrize(
    ("operation", "effects", "registries"),
    [
        (UpdateRows, ColumnEffects(), {"preflight", "cost"}),
        (AddColumn, ColumnEffects(), {"preflight", "cost", "column_effects"}),
        (BuildTable, ColumnEffects(), {"column_effects", "row_effect"}),
    ],
)
def test_an_operation_that_states_too_little_has_a_gap(
    monkeypatch: pytest.MonkeyPatch,
    operation: type[Operation],
    effects: ColumnEffects,
    registries: set[str],
) -> None:
    known = [Example(e.operation, e.catalog, e.rows, e.source) for e in examples()[operation]]
    monkeypatch.setattr(operation, "column_effects", lambda _self, _before: effects)
    assert registries <= registries_of([gap for example in known for gap in gaps(example)])


@pytest.mark.parametrize(
    ("operations", "needed"),
    [
        (
            [RenameColumn(table="t", column="a", to="x"), UpdateRows(table="t", set={"x": "x + 1"})],
            {"a", "it`s"},
        ),
        ([UpdateRows(table="t", set={"a": "1"}, where="B > 1")], {"a", "b", "it`s"}),
        ([UpdateRows(table="t", set={"a": "1"}), SetKey(table="t", key=("b",))], {"a", "it`s"}),
        ([DropColumn(table="t", column="b"), DeleteRows(table="t", where="a > 1")], {"a", "b", "it`s"}),
        (
            [
                RewriteTable(table="t", order_by=("b",)),
                TransformTable(table="t", using=read_source, schema="b: int64", reads=("a",)),
                UpdateRows(table="t", set={"b": "1"}),
            ],
            {"a"},
        ),
        ([UpsertRows(table="t", on=("a",), rows=[])], {"a", "b", "c", "it`s"}),
    ],
    ids=lambda given: given[-1].op if isinstance(given, list) else "",
)
def test_the_columns_that_a_replay_needs(operations: list[Operation], needed: set[str]) -> None:
    table = TableSchema(columns=pa.schema([(name, pa.int64()) for name in ("a", "b", "c", "it`s")]))
    catalog, steps = CatalogSchema(tables={"t": table}), []
    for operation in operations:
        before, catalog = catalog.table("t"), operation.after(catalog)
        steps.append(AppliedOperation(operation, before, catalog.table("t")))
    # SQL escapes the name of the last column, which is needed wherever there is SQL.
    assert columns_needed(TablePath("t", "t", tuple(steps)), table) == needed


@pytest.mark.parametrize("missing", ["after", "inverse", "describe", "column_effects", "row_effect"])
def test_an_operation_without_an_answer_cannot_be_made(missing: str) -> None:
    body = {missing: vars(Operation)[missing], "__module__": __name__}
    incomplete = type("Incomplete", (StoreKey,), body)
    with pytest.raises(TypeError, match=f"abstract method.* {missing}"):
        incomplete(table="t", key=())
