"""No column goes live that no gate looked at, whatever operation made it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from lab import Lab
from servers import Place

import lancemig
from lancemig.apply.effects.stage import stage
from lancemig.apply.rows.context import StagingContext
from lancemig.apply.verify import gates
from lancemig.apply.verify.coverage import coverage_gate
from lancemig.catalog.lineage import GateOutcome, VerificationReport
from lancemig.catalog.operations import (
    AddColumn,
    AnyOperation,
    BuildTable,
    CreateTable,
    DeleteRows,
    Kind,
    Operation,
    RenameColumn,
    RetypeColumn,
    Strategy,
    TransformTable,
)
from lancemig.catalog.operations.base import TableChange
from lancemig.catalog.operations.effects import ROWS_STAY, ColumnEffects, RowEffect
from lancemig.catalog.schema import CatalogSchema, TableSchema
from lancemig.commands import flip, status, verify
from lancemig.errors import VerifyFailed
from lancemig.revisions import loader
from lancemig.store.lance import Staged, Table

START = """
    CreateTable(table="t", key=("id",), schema=pa.schema([
        ("id", pa.int64()), ("gain", pa.float64()), ("fs", pa.int32()),
        ("info", pa.struct([("serial", pa.string()), ("rate", pa.int64())])),
    ]), rows=[{"id": n, "gain": n / 2, "fs": n % 7, "info": {"serial": f"s{n}", "rate": n}}
              for n in range(60)]),
    CreateTable(table="notes", schema=pa.schema([("at", pa.int64()), ("text", pa.string())]),
                rows=[{"at": n, "text": f"note {n}"} for n in range(20)]),
    CreateTable(table="empty", key=("id",), schema=pa.schema([("id", pa.int64()), ("text", pa.string())])),
"""
REBUILD = 'RenameColumn(table="notes", column="text", to="words")'
ABOVE = """
SMALL = pa.schema([("id", pa.int64()), ("fs", pa.int32())])
ROWS = [{"id": 1, "fs": 2}]

def fewer(batch):
    rows = batch.filter(pc.greater(batch.column("id"), 57))
    return pa.record_batch([rows.column("id"), rows.column("fs")], names=["id", "fs"])

def moved(batch):
    return pa.record_batch([pc.add(batch.column("id"), 1000), batch.column("fs")], names=["id", "fs"])
"""


class CopyColumn(TableChange):
    """Copies a column under another name, and forgets to state that it adds one."""

    kind: ClassVar[Kind] = Kind.REBUILD
    strategy: ClassVar[Strategy] = Strategy.COLUMN
    why: ClassVar[str] = "a test"

    op: Literal["copy_column"] = "copy_column"
    column: str
    to: str

    def _after(self, table: TableSchema) -> TableSchema:
        return table.with_columns([*table.columns, table.columns.field(self.column).with_name(self.to)])

    def inverse(self, before: CatalogSchema) -> tuple[Operation, ...]:
        raise self.irreversible()

    def describe(self) -> str:
        return f"copy column {self.column} to {self.to}"

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        return ColumnEffects(reads=frozenset({self.column}))

    @property
    def row_effect(self) -> RowEffect:
        return ROWS_STAY


@stage.register
def _(operation: CopyColumn, table: Table, scope: StagingContext) -> Staged | None:
    field = table.columns.field(operation.column).with_name(operation.to)
    return stage(AddColumn(table=operation.table, column=field, sql=operation.column), table, scope)


class Loudness(AddColumn):
    """A kind of AddColumn that states no effect on columns."""

    def column_effects(self, before: TableSchema | None) -> ColumnEffects:
        return ColumnEffects()


class Extended(loader.Migration):
    """A migration whose union of operations has the one of this test as well."""

    operations: tuple[AnyOperation | CopyColumn, ...]  # type: ignore[assignment]


@pytest.fixture
def lab(tmp_path: Path, local_place: Place, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(loader, "_OPERATION_TYPES", (*loader._OPERATION_TYPES, CopyColumn))
    monkeypatch.setattr(loader, "Migration", Extended)
    for operation in (CopyColumn, Loudness):
        monkeypatch.setattr(lancemig, operation.__name__, operation, raising=False)
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START)
    lab.upgrade()
    return lab


def revise(lab: Lab, operations: str) -> None:
    lab.revision(operations, above=f"from lancemig import CopyColumn, Loudness\n{ABOVE}")


def configured(lab: Lab, name: str, value: str) -> None:
    """Another value in lancemig.ini, for what comes after."""
    path = lab.folder / "lancemig.ini"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name} =")]
    path.write_text("\n".join([*lines, f"{name} = {value}", ""]))
    vars(lab).pop("opened", None)


def refused(lab: Lab) -> VerificationReport:
    """The report of an upgrade that no gate but that of coverage refuses; the live root stays."""
    live = lab.root
    with pytest.raises(VerifyFailed) as error:
        lab.upgrade()
    assert error.value.exit_status == 4
    assert lab.root == live
    assert "coverage" in error.value.message
    keys = [item.key for item in lab.catalog().store.objects.list("_lancemig/reports/")]
    [key] = [key for key in keys if key in error.value.message]
    body = lab.catalog().store.objects.read(key)
    assert body
    report = VerificationReport.model_validate_json(body.body)
    assert {one.gate for one in report.outcomes if not one.ok} == {"coverage"}
    return report


def flipped(lab: Lab) -> VerificationReport:
    """The report of an upgrade that is flipped."""
    assert lab.upgrade().flipped
    entry = status.history(lab.catalog())[0]
    assert entry.report
    return lab.catalog().store.reports.read(entry.report)


def uncovered(report: VerificationReport) -> list[tuple[str | None, str | None]]:
    return [(one.table, one.column) for one in report.outcomes if one.gate == "coverage" and not one.ok]


@pytest.mark.parametrize(
    "operations",
    [
        'CopyColumn(table="t", column="gain", to="copied")',
        'CopyColumn(table="t", column="gain", to="copied"), RenameColumn(table="t", column="fs", to="rate")',
        f'Loudness(table="t", column="copied: float64", sql="gain"), {REBUILD}',
        'AddColumn(table="t", column="a: int64", sql="fs"), CopyColumn(table="t", column="a", to="copied")',
    ],
)
def test_a_column_that_its_operation_does_not_state_is_not_flipped_to(lab: Lab, operations: str) -> None:
    revise(lab, operations)
    report = refused(lab)
    assert uncovered(report) == [("t", "copied")]
    [failed] = report.failed
    assert failed.startswith("t.copied: coverage: no gate compared it")


def test_a_reason_for_other_columns_does_not_cover_one_that_is_not_stated(lab: Lab) -> None:
    """The key is computed, so that columns left alone cannot be compared; a new column is not one of them."""
    revise(
        lab,
        'AddColumn(table="t", column="n: int64", sql="id + 1"), SetKey(table="t", key=("n",)), '
        'CopyColumn(table="t", column="gain", to="copied")',
    )
    assert uncovered(refused(lab)) == [("t", "copied")]


def test_a_table_without_rows_is_no_way_around(lab: Lab) -> None:
    revise(lab, 'CopyColumn(table="empty", column="text", to="copied")')
    assert uncovered(refused(lab)) == [("empty", "copied")]


def test_a_declared_reason_covers_its_own_column_alone() -> None:
    outcome = GateOutcome(
        gate="recomputed", table="t", column="a", ok=True, way="not compared", declared=True
    )
    tolerated = outcome.model_copy(update={"tolerance": "recompute=False"})
    assert [one.ok for one in coverage_gate("t", ["a"], (), [outcome])] == [True]
    assert [one.ok for one in coverage_gate("t", ["a"], (), [tolerated])] == [True]
    assert [(one.column, one.ok) for one in coverage_gate("t", ["a", "b"], (), [outcome])] == [("b", False)]


def test_an_outcome_that_only_says_that_a_column_is_changed_covers_nothing() -> None:
    said = GateOutcome(gate="columns", table="t", column="a", ok=True, way="not compared", detail="changed")
    indexed = GateOutcome(gate="indices", table="t", column="a", ok=True)
    found = list(coverage_gate("t", ["a", "k"], ["k"], [said, indexed, _keys("row by row")]))
    assert [(one.column, one.ok) for one in found] == [("a", False)]
    found = list(coverage_gate("t", ["k"], ["k"], [_keys("not compared")]))
    assert [(one.column, one.ok) for one in found] == [("k", False)]


def _keys(way: Any) -> GateOutcome:
    return GateOutcome(gate="keys", table="t", ok=True, way=way)


@pytest.mark.parametrize("gate", ["columns_gate", "recomputed_gate"])
def test_a_gate_that_overlooks_its_columns_is_noticed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, gate: str
) -> None:
    revise(lab, 'AddColumn(table="t", column="loud: float64", sql="gain * 2"), ' + REBUILD)
    monkeypatch.setattr(gates, gate, lambda _pair: iter(()))
    columns = {column for _, column in uncovered(refused(lab))}
    assert columns == (
        {"loud"} if gate == "recomputed_gate" else {"id", "gain", "fs", "info", "at", "words", "text"}
    )


def test_a_staged_column_from_nowhere_is_not_flipped_to(lab: Lab) -> None:
    revise(lab, REBUILD)
    staged = lab.upgrade(no_flip=True).staged_prefix
    assert staged
    lab.dataset("t", staged).add_columns({"stray": "gain + 1"})
    live = lab.root
    with pytest.raises(VerifyFailed, match=r"t: .*stray") as error:
        flip.flip(lab.catalog(), None)
    assert error.value.exit_status == 4
    assert lab.root == live


def test_a_staged_column_that_the_schema_gate_misses_is_not_flipped_to(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    revise(lab, REBUILD)
    staged = lab.upgrade(no_flip=True).staged_prefix
    assert staged
    lab.dataset("t", staged).add_columns({"stray": "gain + 1"})
    passed = GateOutcome(gate="schema", table="t", ok=True)
    monkeypatch.setattr(gates, "schema_gate", lambda _wanted, _table, _sides: passed)
    with pytest.raises(VerifyFailed, match=r"t\.stray: coverage: no gate compared it"):
        flip.flip(lab.catalog(), None)


@pytest.mark.parametrize(
    ("missing", "operations", "columns"),
    [
        (AddColumn, 'AddColumn(table="t", column="new: float64", sql="gain")', {"new"}),
        (AddColumn, 'AddColumn(table="t", column="new: float64")', {"new"}),
        (RenameColumn, 'RenameColumn(table="t", column="fs", to="rate")', {"rate"}),
        (TransformTable, 'TransformTable(table="t", using=moved, schema=SMALL)', set()),
        (BuildTable, 'BuildTable(table="b", schema=SMALL, rows=ROWS)', {"id", "fs"}),
        (CreateTable, 'CreateTable(table="b", schema=SMALL, rows=ROWS)', {"id", "fs"}),
        (DeleteRows, 'DeleteRows(table="notes", where="at < 5")', set()),
        (RetypeColumn, 'RetypeColumn(table="t", column="fs", to="int64", using="fs + 1")', {"fs"}),
    ],
    ids=lambda given: given.__name__ if isinstance(given, type) else "",
)
def test_an_operation_that_states_no_effect_never_passes(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    missing: type[Operation],
    operations: str,
    columns: set[str],
) -> None:
    """Any operation may state less than it does: what it does to a table is then refused, by whichever gate.

    A column that it does not state counts as left alone. It passes only if it is equal in all rows.
    """
    monkeypatch.setattr(missing, "column_effects", lambda _self, _before: ColumnEffects())
    if missing in (BuildTable, CreateTable):
        # Without `from_source` no plan can be made: only the verification does not see it.
        compare = gates._derived

        def without_source(*given: Any) -> Iterator[GateOutcome]:
            with monkeypatch.context() as patch:
                patch.setattr(missing, "row_effect", RowEffect())
                yield from compare(*given)

        monkeypatch.setattr(gates, "_derived", without_source)
    else:
        monkeypatch.setattr(missing, "row_effect", RowEffect(writes_table=missing is TransformTable))
    revise(lab, f"{operations}, RenameTable(table='empty', to='none')")
    live = lab.root
    with pytest.raises(VerifyFailed) as error:
        lab.upgrade()
    assert lab.root == live
    for column in columns:
        assert f".{column}: " in error.value.message
    if missing is DeleteRows:
        assert "notes: rows: 15 rows, expected 20" in error.value.message
    if missing is TransformTable:
        assert "t: keys: 60 keys are missing" in error.value.message


WAYS: dict[str, tuple[str, set[str]]] = {
    "left alone": (REBUILD, set()),
    "changed": (
        """UpdateRows(table="t", set={"gain": "gain + 1", "info.serial": "'x'"}, where="id > 3"),
        AddColumn(table="t", column="info.more: int64"),
        RenameColumn(table="t", column="info.rate", to="r"),
        AddColumn(table="t", column="n: int64"), RetypeColumn(table="t", column="fs", to="int64")""",
        set(),
    ),
    "renamed in a struct": ('RenameColumn(table="t", column="info.rate", to="r")', set()),
    "cast key": ('RetypeColumn(table="t", column="id", to="string")', set()),
    "computed key": (
        """AddColumn(table="t", column="n: int64", sql="id + 1000"), SetKey(table="t", key=("n",)),
        RenameColumn(table="t", column="fs", to="rate")""",
        {"id", "gain", "rate", "info"},
    ),
    "empty table": (
        """AddColumn(table="empty", column="n: int64", sql="id"),
        RenameColumn(table="empty", column="text", to="w")""",
        set(),
    ),
    "rows into an empty table": (
        f"""UpsertRows(table="empty", on=("id",), when_exists="overwrite",
        rows=[{{"id": 1, "text": "x"}}]), {REBUILD}""",
        {"text"},
    ),
    "all rows go": (
        f"""DeleteRows(table="t", where="true"), AddColumn(table="t", column="n: int64", sql="id"),
        {REBUILD}""",
        set(),
    ),
    "nearly all rows go": ('TransformTable(table="t", using=fewer, schema=SMALL)', set()),
    "the key moves": ('TransformTable(table="t", using=moved, schema=SMALL)', set()),
    "without a key": (
        """UpdateRows(table="notes", set={"text": "upper(text)"}, where="at > 3"),
        RetypeColumn(table="notes", column="at", to="int32")""",
        set(),
    ),
    "rows go without a key": (
        f"""DeleteRows(table="notes", where="at < 5"),
        AddColumn(table="notes", column="n: int64", sql="at"), {REBUILD}""",
        {"at", "words"},
    ),
    "from a source": (f'BuildTable(table="b", schema=SMALL, rows=ROWS), {REBUILD}', {"id", "fs"}),
    "built, then changed": (
        """BuildTable(table="b", schema=SMALL, key=("id",), rows=ROWS),
        AddColumn(table="b", column="n: int64", sql="id"), RenameColumn(table="b", column="fs", to="rate")""",
        {"id", "rate", "n"},
    ),
    "new and empty": (f'CreateTable(table="b", schema=SMALL), {REBUILD}', {"id", "fs"}),
    "written anew": (
        """RewriteTable(table="t", order_by=("fs",)), RewriteTable(table="notes", stable_row_ids=True)""",
        set(),
    ),
    "dropped and added": (
        """DropColumn(table="t", column="fs"), AddColumn(table="t", column="fs: int64", sql="id"),
        DropColumn(table="t", column="info.rate")""",
        set(),
    ),
}


@pytest.mark.parametrize(
    ("way", "staging"), [*((way, "copy") for way in WAYS), ("left alone", "clone"), ("changed", "clone")]
)
def test_what_is_rightly_flipped_is_covered_and_each_reason_is_named(
    lab: Lab, way: str, staging: str
) -> None:
    operations, excused = WAYS[way]
    configured(lab, "staging", staging)
    revise(lab, operations)
    report = flipped(lab)
    assert excused_columns(report) == excused, report.text()
    assert all(one.detail for one in report.outcomes if one.declared)
    again = verify.verify(lab.catalog())
    assert again.ok and excused_columns(again) == excused


def excused_columns(report: VerificationReport) -> set[str | None]:
    values = [one for one in report.outcomes if one.gate in ("columns", "recomputed")]
    compared = {(one.table, one.column) for one in values if one.compared}
    tables = {one.table for one in report.outcomes if one.gate == "coverage"}
    assert tables == set(report.versions_after), "each table has the gate"
    return {one.column for one in values if one.declared and (one.table, one.column) not in compared}


def test_what_is_taken_back_is_covered(lab: Lab) -> None:
    revise(
        lab,
        'UpdateRows(table="t", set={"gain": "gain + 1"}, where="id > 3"), '
        'AddColumn(table="t", column="n: int64", sql="id")',
    )
    lab.upgrade()
    lab.downgrade("0001")
    entry = status.history(lab.catalog())[0]
    report = lab.catalog().store.reports.read(entry.report or "")
    assert excused_columns(report) == {"id", "gain", "fs", "info"}


def test_a_sample_of_none_is_a_declared_reason(lab: Lab) -> None:
    """Nulls are computed again all the same; a column that is null by declaration is looked at in full."""
    configured(lab, "verify_sample", "0")
    revise(
        lab,
        """AddColumn(table="t", column="n: int64", sql="id"),
        AddColumn(table="t", column="some: int64", sql="nullif(id, 3)"),
        AddColumn(table="t", column="none: int64", sql="nullif(id, id)"),
        AddColumn(table="t", column="null: int64"), RenameColumn(table="t", column="fs", to="rate"),
        AddColumn(table="notes", column="n: int64", sql="at"),
        AddColumn(table="notes", column="some: int64", sql="nullif(at, 3)")""",
    )
    report = flipped(lab)
    said = {(one.table, one.column): one.detail for one in report.outcomes if one.declared}
    assert set(said) == {("t", "n"), ("t", "some"), ("notes", "n"), ("notes", "some")}
    assert all("verify_sample is 0" in detail for detail in said.values())
    assert "1 null, computed again: all equal" in said["t", "some"]
    assert "1 null, computed again: all equal" in said["notes", "some"]


def test_where_no_drawn_row_stays_those_that_stay_are_computed_again(lab: Lab) -> None:
    configured(lab, "verify_sample", "1")
    revise(
        lab,
        'DeleteRows(table="t", where="id < 59"), AddColumn(table="t", column="n: int64", sql="id"), '
        'RenameColumn(table="t", column="fs", to="rate")',
    )
    report = flipped(lab)
    [one] = [one for one in report.outcomes if one.gate == "recomputed" and one.column == "n"]
    assert (one.way, one.rows) == ("sample", 1)
