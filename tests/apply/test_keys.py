"""No rebuild makes a null or repeated key live, whatever wrote the rows; memory for the check is bounded."""

import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from lab import ROOT, Lab
from servers import Place

from lancemig.apply import in_place
from lancemig.apply.rows import keys
from lancemig.apply.rows.keys import KeyScan, key_faults
from lancemig.commands import recovery, upgrade
from lancemig.errors import LancemigError, PlanError, StoreError, VerifyFailed

T = 'CreateTable(table="t", key=("id",), schema={"id": "int64", "v": "float64"}, rows=rows())'
ROWS = "def rows(n=6): return [{'id': i, 'v': float(i)} for i in range(n)]"


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    return Lab(tmp_path, local_place)


@pytest.fixture
def live(lab: Lab) -> Lab:
    lab.revision(T, above=ROWS)
    lab.upgrade()
    return lab


def refused(lab: Lab, kind: type[LancemigError] = VerifyFailed) -> str:
    root = lab.root
    with pytest.raises(kind) as raised:
        lab.upgrade()
    assert lab.root == root
    return raised.value.message


def table(lab: Lab, columns: dict[str, Any]) -> Any:
    """A table of the live root, pinned."""
    lance.write_dataset(pa.table(columns), f"{lab.place.store}/{ROOT}catalog/k.lance")
    return lab.catalog().store.tables.open(ROOT, "k")


class TestFaults:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            (
                pa.array([1, 2, 2, 3, 3, 3]),
                "2 keys occur more than once, for example k=2 (2 rows); k=3 (3 rows)",
            ),
            (pa.array(["a", None, "b", None]), "k is null in 2 rows"),
            (pa.array([0.0, -0.0, 1.0]), "1 key occurs more than once, for example k=0.0 (2 rows)"),
            (
                pa.array([float("nan"), -float("nan"), 1.0]),
                "1 key occurs more than once, for example k=nan (2 rows)",
            ),
            (pa.array([b"a", b"a"]), "1 key occurs more than once, for example k=b'a' (2 rows)"),
            (pa.array([Decimal("1.10"), Decimal("1.10")]), "Decimal('1.10') (2 rows)"),
            (pa.array([1, 1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001 (2 rows)"),
            (pa.array([True, False, True]), "k=True (2 rows)"),
            (pa.array([{"x": 0.0}, {"x": -0.0}]), "1 key occurs more than once"),
            (pa.array(["x", "y", "x"]).dictionary_encode(), "k='x' (2 rows)"),
            (pa.array(["x" * 80 + "a", "x" * 80 + "b"]), ""),
            (pa.array([{"t": 1}, {"t": 2}], pa.struct([("t", pa.timestamp("ns"))])), ""),
            (pa.array([1, 2, 3]), ""),
            (pa.array([], pa.string()), ""),
            (pa.array([1, 2], pa.timestamp("ns")), ""),
        ],
    )
    def test_they_are_named_with_the_first_ones(self, lab: Lab, values: pa.Array, text: str) -> None:
        found = key_faults(table(lab, {"k": values}), ("k",)).text
        assert text in found if text else found == ""

    def test_a_key_of_several_columns_is_compared_as_a_whole(self, lab: Lab) -> None:
        columns = {"a": [1, 1, 2, None, None], "b": ["x", "y", "x", "x", "x"]}
        assert key_faults(table(lab, columns), ("a", "b")).text == "a is null in 2 rows"
        lance.write_dataset(
            pa.table({"a": [1], "b": ["y"]}), f"{lab.place.store}/{ROOT}catalog/k.lance", mode="append"
        )
        again = lab.catalog().store.tables.open(ROOT, "k")
        assert "a=1, b='y' (2 rows)" in key_faults(again, ("a", "b")).text

    def test_two_keys_with_the_same_hash_are_two_keys(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keys, "hash_values", lambda array: np.zeros(len(array), np.uint64))
        assert not key_faults(table(lab, {"k": [1, 2, 3]}), ("k",))
        lance.write_dataset(pa.table({"k": [2]}), f"{lab.place.store}/{ROOT}catalog/k.lance", mode="append")
        found = key_faults(lab.catalog().store.tables.open(ROOT, "k"), ("k",))
        assert found.text == "1 key occurs more than once, for example k=2 (2 rows)"

    def test_the_hashes_are_searched_part_by_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys, "HASHES_AT_A_TIME", 100)
        sizes: list[int] = []
        unique = np.unique
        monkeypatch.setattr(np, "unique", lambda array: sizes.append(len(array)) or unique(array))
        scan = KeyScan(("k",))
        for start in range(0, 1000, 50):
            scan.add(pa.record_batch({"k": pa.array(range(start, start + 50))}))
        scan.add(pa.record_batch({"k": pa.array([7, 8, 9])}))
        count, found = scan.repeated()
        assert (count, len(found)) == (3, 3)
        assert len(sizes) == 11
        scan.close()

    def test_more_repeated_keys_than_are_compared_are_counted(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keys, "_MAX_SUSPECTS", 10)
        found = key_faults(table(lab, {"k": [*range(500), *range(500)]}), ("k",))
        assert found.repeated == 500
        assert len(found.examples) == 3


REBUILDS = {
    "BuildTable": (
        'BuildTable(table="t", key=("id",), schema={"id": "int64", "v": "float64"}, rows=twice)',
        "def twice():\n    for _ in range(2):\n        yield pa.RecordBatch.from_pylist(rows())",
    ),
    "BuildTable, a null": (
        'BuildTable(table="t", key=("id",), schema={"id": "int64", "v": "float64"}, rows=holes)',
        "def holes():\n    return pa.table({'id': [None, *range(6)], 'v': [0.0] * 7})",
    ),
    "a new table": (
        'BuildTable(table="n", key=("a", "b"), schema={"a": "int64", "b": "string"}, rows=pairs)',
        "def pairs():\n    return pa.table({'a': [1, 1, 2], 'b': ['x', 'x', None]})",
    ),
    "TransformTable": (
        'TransformTable(table="t", schema={"id": "int64", "v": "float64"}, using=doubled)',
        "def doubled(batch):\n    yield batch\n    yield batch",
    ),
    "CreateTable": (
        'CreateTable(table="n", key=("id",), schema={"id": "int64"}, rows=twice),'
        ' RenameColumn(table="t", column="v", to="w")',
        "def twice():\n    yield pa.table({'id': [1]})\n    yield pa.table({'id': [1]})",
    ),
    "an update of the key": (
        'RenameColumn(table="t", column="v", to="w"), UpdateRows(table="t", set={"id": "7"}, where="id > 3")',
        "",
    ),
}


class TestRebuilds:
    @pytest.mark.parametrize(("operations", "above"), REBUILDS.values(), ids=list(REBUILDS))
    def test_nothing_with_a_faulty_key_becomes_live(self, live: Lab, operations: str, above: str) -> None:
        live.revision(operations, above=f"{ROWS}\n{above}")
        message = refused(live)
        assert "unique: key " in message
        assert "occurs more than once" in message or "occur more than once" in message or "is null" in message
        recovery.undo(live.catalog())

    @pytest.mark.parametrize("staging", ["copy", "clone"])
    def test_a_fault_that_is_live_already_is_named_as_such(
        self, live: Lab, staging: str, tmp_path: Path
    ) -> None:
        lance.write_dataset(pa.table({"id": [3], "v": [9.0]}), live.dataset("t").uri, mode="append")
        ini = live.folder / "lancemig.ini"
        ini.write_text(ini.read_text().replace("staging = copy", f"staging = {staging}"))
        live.revision(
            'CreateTable(table="o", schema={"x": "int64"}), RewriteTable(table="t", order_by=("v",))'
        )
        message = refused(live)
        assert "t: unique: key id: 1 key occurs more than once, for example id=3 (2 rows)" in message
        assert "the live table t has them as well" in message
        recovery.undo(live.catalog())
        live.written.pop()
        live.revision('DeleteRows(table="t", where="v = 9.0")')
        live.upgrade()
        live.revision('RewriteTable(table="t", order_by=("v",))')
        live.upgrade()
        assert live.root != ROOT

    def test_a_downgrade_is_checked_as_well(self, live: Lab) -> None:
        live.revision(
            'RenameColumn(table="t", column="v", to="w")',
            downgrade='TransformTable(table="t", schema={"id": "int64", "v": "float64"}, using=doubled)',
            above="def doubled(batch):\n    old = batch.rename_columns(['id', 'v'])\n    return [old, old]",
        )
        live.upgrade()
        with pytest.raises(VerifyFailed, match="6 keys occur more than once"):
            live.downgrade("0001")

    def test_the_last_table_may_be_empty(self, live: Lab) -> None:
        live.revision('BuildTable(table="n", key=("id",), schema={"id": "int64"}, rows=[])')
        live.upgrade()
        assert live.rows("n") == []


class TestInPlace:
    def test_a_table_is_not_created_with_a_key_twice(self, live: Lab) -> None:
        live.revision(
            'CreateTable(table="n", key=("id",), schema={"id": "int64"}, rows=twice)',
            above="def twice():\n    yield pa.table({'id': [1, 2]})\n    yield pa.table({'id': [2]})",
        )
        message = refused(live, PlanError)
        assert (
            "table 'n' is not created with the key id: 1 key occurs more than once, for example id=2"
            in message
        )
        assert live.catalog().store.tables.names(ROOT) == ["t"]
        live.written.pop()
        live.revision('CreateTable(table="n", key=("id",), schema={"id": "int64"}, rows=[{"id": 1}])')
        live.upgrade()
        assert live.rows("n") == [{"id": 1}]

    @pytest.mark.parametrize(
        ("operation", "above", "text"),
        [
            (
                'UpdateRows(table="t", set={"id": "7"}, where="id > 3")',
                "",
                "1 key occurs more than once, for example id=7 (2 rows)",
            ),
            ('UpdateRows(table="t", set={"id": "0"}, where="id = 3")', "", "id=0 (2 rows)"),
            ('UpdateRows(table="t", set={"id": "null"}, where="id = 3")', "", "id is null in 1 row"),
            (
                'BackfillColumns(table="t", columns=("id",), reads=("id",), using=halved)',
                "def halved(batch):\n    return pc.divide(batch['id'], 2)",
                "3 keys occur more than once",
            ),
            (
                'UpsertRows(table="t", on=("v",), rows=[{"id": 0, "v": 9.0}])',
                "",
                "1 key occurs more than once, for example id=0 (2 rows)",
            ),
            (
                'UpsertRows(table="t", on=("v",), when_exists="overwrite", rows=[{"id": 0, "v": 5.0}])',
                "",
                "id=0 (2 rows)",
            ),
            (
                'UpsertRows(table="t", on=("v",), rows=[{"id": None, "v": 9.0}])',
                "",
                "id is null in 1 row",
            ),
        ],
    )
    @pytest.mark.parametrize("rehearsed", [True, False])
    def test_no_step_breaks_the_declared_key(
        self,
        live: Lab,
        monkeypatch: pytest.MonkeyPatch,
        operation: str,
        above: str,
        text: str,
        rehearsed: bool,
    ) -> None:
        if not rehearsed:
            # As for a row that a writer adds after the rehearsal: the step checks the version it changes.
            monkeypatch.setattr(in_place, "check_before_commits", lambda _: None)
        rows, version = live.rows("t"), live.dataset("t").version
        live.revision(operation, above=above)
        message = refused(live, PlanError)
        assert "the key id would be broken: " in message
        assert text in message
        assert (live.rows("t"), live.dataset("t").version) == (rows, version)

    @pytest.mark.parametrize(
        "operation",
        [
            'UpdateRows(table="t", set={"id": "id + 1"})',
            'UpsertRows(table="t", on=("v",), when_exists="overwrite", '
            'rows=[{"id": 0, "v": 5.0}, {"id": 5, "v": 0.0}])',
            'UpsertRows(table="t", on=("v",), rows=[{"id": 9, "v": 9.0}])',
        ],
    )
    def test_keys_may_change_places(self, live: Lab, operation: str) -> None:
        live.revision(operation)
        live.upgrade()
        ids = [row["id"] for row in live.rows("t")]
        assert len(ids) == len({*ids}) >= 6

    @pytest.mark.parametrize("of", ["composite", "struct", "float"])
    def test_keys_of_other_kinds_are_checked_too(self, lab: Lab, of: str) -> None:
        key, schema, rows, change = {
            "composite": (
                '("a", "b")',
                '{"a": "int64", "b": "string"}',
                [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}],
                '{"a": "1"}',
            ),
            "struct": (
                '("s",)',
                '{"s": pa.struct([("x", pa.int64())])}',
                [{"s": {"x": 1}}, {"s": {"x": 2}}],
                '{"s.x": "1"}',
            ),
            "float": (
                '("f",)',
                '{"f": "float64"}',
                [{"f": 1.0}, {"f": 2.0}],
                '{"f": "cast(\'nan\' as double)"}',
            ),
        }[of]
        lab.revision(f'CreateTable(table="k", key={key}, schema={schema}, rows={rows})')
        lab.upgrade()
        lab.revision(f'UpdateRows(table="k", set={change})')
        assert "1 key occurs more than once" in refused(lab, PlanError)

    def test_a_full_temporary_folder_is_named(self, live: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        full = SimpleNamespace(
            TemporaryFile=lambda **_: Path("/dev/full").open("w+b"),  # noqa: SIM115
            gettempdir=lambda: "/full",
        )
        monkeypatch.setattr(keys, "tempfile", full)
        live.revision('SetKey(table="t", key=("v",))')
        with pytest.raises(StoreError, match="temporary folder /full is full") as raised:
            live.upgrade()
        assert "TMPDIR" in (raised.value.next_step or "")

    def test_the_source_is_read_once(self, live: Lab, tmp_path: Path) -> None:
        calls = tmp_path / "calls"
        live.revision(
            'CreateTable(table="n", key=("the k",), schema={"the k": "int64", "x": "string"}, rows=changing)',
            above=f"""
            def changing():
                with open({str(calls)!r}, "a") as file:
                    file.write("x")
                again = len(open({str(calls)!r}).read()) > 1
                return [{{"the k": n if again else 7, "x": "a"}} for n in range(2)]
            """,
        )
        assert "for example the k=7 (2 rows)" in refused(live, PlanError)
        assert calls.read_text() == "x"

    def test_rows_in_the_file_are_refused_by_the_plan(self, live: Lab) -> None:
        live.revision(
            'CreateTable(table="n", key=("id",), schema={"id": "int64"}, rows=[{"id": 1}, {"id": 1}])'
        )
        with pytest.raises(PlanError, match="the rows of n: 1 key occurs more than once"):
            upgrade.prepare(live.catalog(), "head", "up")


BUILD = 'BuildTable(table="t", key={key}, schema={schema}, rows=rows{more})'


class TestDerived:
    """A table that is derived again is compared with the live one."""

    def build(
        self,
        lab: Lab,
        rows: str,
        *,
        more: str = "",
        key: str = '("id",)',
        schema: str = '{"id": "int64", "v": "float64"}',
    ) -> None:
        lab.revision(BUILD.format(key=key, schema=schema, more=more), above=f"def rows():\n    return {rows}")

    def detail(self, lab: Lab) -> str:
        """What the lineage says of the comparison."""
        entry = next(lab.catalog().store.pointers.chain(lab.catalog().seen().pointer))
        return next(check.detail for check in entry.checks if check.check == "derived")

    def test_a_row_that_is_gone_stops_the_flip(self, live: Lab) -> None:
        self.build(live, "[{'id': i, 'v': float(i)} for i in range(5)]")
        message = refused(live)
        assert "t: derived: 5 keys kept, 0 new, 1 gone; 0 rows changed, for example id=5 is gone" in message
        assert (
            "more rows are gone than max_gone = 0 allows; fix the source, or write max_gone=1 in BuildTable"
            in message
        )

    @pytest.mark.parametrize(
        ("more", "text"),
        [
            (
                {"id": [3, 3], "v": [1.0, 2.0]},
                "2 gone; 0 rows changed; gone are 2 live rows with a repeated key",
            ),
            ({"id": [None], "v": [1.0]}, "1 gone; 0 rows changed; gone are 1 live row with a null key"),
        ],
    )
    def test_live_rows_with_a_faulty_key_are_gone(
        self, live: Lab, more: dict[str, list[Any]], text: str
    ) -> None:
        added = pa.table(more, schema=pa.schema([("id", pa.int64()), ("v", pa.float64())]))
        lance.write_dataset(added, live.dataset("t").uri, mode="append")
        self.build(live, "[{'id': i, 'v': float(i)} for i in range(6)]")
        message = refused(live)
        assert text in message
        assert f"write max_gone={len(more['id'])} in BuildTable" in message

    @pytest.mark.parametrize(
        ("schema", "rows", "why"),
        [
            ('{"id": "int64"}', "[{'id': i} for i in range(6)]", "v (dropped)"),
            (
                '{"id": "int64", "v": "string"}',
                "[{'id': i, 'v': 'x'} for i in range(6)]",
                "v (double became string)",
            ),
        ],
    )
    def test_columns_that_cannot_be_compared_are_named(
        self, live: Lab, schema: str, rows: str, why: str
    ) -> None:
        self.build(live, rows, schema=schema, more=", max_changed=0")
        message = refused(live)
        assert f"0 rows changed; not compared: {why}: more rows are changed than max_changed = 0" in message
        assert "write max_changed=6 in BuildTable" in message
        recovery.undo(live.catalog())
        live.written.pop()
        self.build(live, rows, schema=schema)
        live.upgrade()
        assert self.detail(live).endswith(f"not compared: {why}")

    def test_what_is_allowed_is_recorded(self, live: Lab) -> None:
        self.build(live, "[{'id': i, 'v': i * 2.0} for i in range(1, 9)]", more=", max_gone=1, max_changed=5")
        live.upgrade()
        assert self.detail(live) == "5 keys kept, 3 new, 1 gone; 5 rows changed (v: 5 cells)"

    def test_too_many_changed_rows_stop_the_flip(self, live: Lab) -> None:
        self.build(live, "[{'id': i, 'v': i * 2.0} for i in range(6)]", more=", max_changed=4")
        message = refused(live)
        assert "6 keys kept, 0 new, 0 gone; 5 rows changed (v: 5 cells), for example id=" in message
        assert "more rows are changed than max_changed = 4 allows" in message

    def test_rows_that_arrive_meanwhile_are_gone_unless_the_source_has_them(self, live: Lab) -> None:
        above = f"""
import lance

def rows():
    lance.write_dataset(pa.table({{"id": [77], "v": [1.0]}}), {live.dataset("t").uri!r}, mode="append")
    return [{{"id": i, "v": float(i)}} for i in range(6)]
"""
        build = BUILD.format(key='("id",)', schema='{"id": "int64", "v": "float64"}', more="")
        live.revision(build, above=above)
        assert "1 gone; 0 rows changed, for example id=77 is gone" in refused(live)

    @pytest.mark.parametrize(
        ("key", "schema", "why"),
        [
            ("()", '{"id": "int64"}', "the table has no key"),
            ('("uid",)', '{"uid": "int64"}', "the live table has no such key"),
            ('("id",)', '{"id": "string"}', "the live table has no such key"),
        ],
    )
    def test_without_a_common_key_rows_are_counted(self, live: Lab, key: str, schema: str, why: str) -> None:
        name, of = ("uid", int) if "uid" in key else ("id", str if "string" in schema else int)
        row = f"{{'{name}': {of.__name__}(i)}}"
        self.build(live, f"[{row} for i in range(5)]", key=key, schema=schema)
        message = refused(live)
        assert (
            f"6 rows became 5; only counted, because {why}: more rows are gone than max_gone = 0" in message
        )
        recovery.undo(live.catalog())
        (live.folder / "versions" / "0002.py").unlink()
        live.written.pop()
        self.build(live, f"[{row} for i in range(5)]", key=key, schema=schema, more=", max_gone=None")
        live.upgrade()
        assert "6 rows became 5" in self.detail(live)

    def test_a_wider_type_of_the_key_is_compared(self, lab: Lab) -> None:
        lab.revision(
            'CreateTable(table="t", key=("id",), schema={"id": "int32"}, rows=[{"id": 1}, {"id": 2}])'
        )
        lab.upgrade()
        self.build(lab, "[{'id': 1}, {'id': 3}]", schema='{"id": "int64"}', more=", max_gone=1")
        lab.upgrade()
        assert self.detail(lab) == "1 key kept, 1 new, 1 gone; 0 rows changed"

    def test_many_rows_are_compared_part_by_part(self, live: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lancemig.apply.verify.derived.HASHES_AT_A_TIME", 4)
        self.build(live, "[{'id': i, 'v': i % 4 * 1.0} for i in range(2, 9)]", more=", max_gone=2")
        live.upgrade()
        assert self.detail(live) == "4 keys kept, 3 new, 2 gone; 2 rows changed (v: 2 cells)"


class TestLiveInChecks:
    CHECK = """
checks = [
    Check(sql="select id from live.t anti join t using (id)", when="after"),
    Check(sql="select (select count(*) from LIVE.t) - (select count(*) from t)", expect=0),
]
"""

    def test_a_check_compares_the_staged_table_with_the_live_one(self, live: Lab) -> None:
        live.revision(
            'DeleteRows(table="t", where="id = 2"), RenameColumn(table="t", column="v", to="w")',
            above=self.CHECK,
        )
        message = refused(live)
        assert "select id from live.t anti join t using (id): expected no row, got 1 row: id=2" in message
        assert "expected 0, got 1" in message

    def test_it_passes_where_nothing_is_lost(self, live: Lab) -> None:
        live.revision('RenameColumn(table="t", column="v", to="w")', above=self.CHECK)
        live.upgrade()
        assert live.root != ROOT

    def test_a_table_that_is_not_there_is_named(self, live: Lab) -> None:
        live.revision(
            'RenameColumn(table="t", column="v", to="w")',
            above='checks = [Check(sql="select * from live.u", when="after")]',
        )
        assert "unknown table" in refused(live)


class TestKeysWrittenInPlace:
    """A step in place that writes columns of the key is checked on a clone, before its first commit."""

    @pytest.mark.parametrize(
        ("operation", "text"),
        [
            ('UpdateRows(table="t", set={"id": "7"}, where="id > 3")', "for example id=7 (2 rows)"),
            ('UpdateRows(table="t", set={"id": "null"}, where="id = 3")', "id is null in 1 row"),
            ('UpdateRows(table="t", set={"id": "id + 1"}, where="id = 3")', "for example id=4 (2 rows)"),
            (
                'BackfillColumns(table="t", columns=("id",), reads=("v",), using=constant)',
                "for example id=1 (6 rows)",
            ),
            (
                'UpsertRows(table="t", on=("v",), rows=[{"id": 3, "v": 99.0}])',
                "for example id=3 (2 rows)",
            ),
            (
                'UpsertRows(table="t", on=("v",), rows=[{"id": 3, "v": 1.0}], when_exists="overwrite")',
                "for example id=3 (2 rows)",
            ),
        ],
    )
    def test_a_broken_key_is_refused_before_the_first_commit(
        self, live: Lab, operation: str, text: str
    ) -> None:
        version = live.dataset("t").version
        live.revision(
            f'UpdateRows(table="t", set={{"v": "v + 1"}}), {operation}',
            above="def constant(batch): return pa.array([1] * batch.num_rows)",
        )
        message = refused(live, PlanError)
        assert text in message
        assert "the key id would be broken" in message
        assert live.dataset("t").version == version
        assert live.catalog().store.sidecars().in_flight() is None

    def test_the_key_may_change_as_long_as_it_stays_unique(self, live: Lab) -> None:
        live.revision('UpdateRows(table="t", set={"id": "id + 10"})')
        live.upgrade()
        assert [row["id"] for row in live.rows("t")] == list(range(10, 16))
        live.downgrade()
        assert [row["id"] for row in live.rows("t")] == list(range(6))

    def test_an_undo_that_would_repeat_a_key_is_refused(self, live: Lab) -> None:
        live.revision('UpdateRows(table="t", set={"id": "id + 10"}, where="id = 3")')
        live.upgrade()
        live.append("t", [{"id": 3, "v": 0.0}])
        with pytest.raises(PlanError, match=r"the key id would be broken.*id=3 \(2 rows\)"):
            live.downgrade()
        assert sorted(row["id"] for row in live.rows("t")) == [0, 1, 2, 3, 4, 5, 13]

    def test_repeated_keys_of_another_writer_can_be_repaired(self, live: Lab) -> None:
        live.append("t", [{"id": 3, "v": 99.0}])
        live.revision('UpdateRows(table="t", set={"id": "99"}, where="v = 99")')
        live.upgrade()
        assert sorted(row["id"] for row in live.rows("t")) == [0, 1, 2, 3, 4, 5, 99]


class TestDerivedLate:
    """Writes to a table that is derived again are counted by the gate, or named after the flip."""

    BUILT = """BuildTable(table="t", key=("id",), schema={"id": "int64", "v": "float64"}, rows=rows)"""

    def test_a_table_that_is_dropped_and_built_is_compared(self, live: Lab) -> None:
        live.revision(f'DropTable(table="t"), {self.BUILT}', above="def rows(): return [{'id': 1, 'v': 1.0}]")
        assert "t: derived: 1 key kept, 0 new, 5 gone" in refused(live)

    def test_a_row_that_arrives_after_the_comparison_is_named(self, live: Lab, tmp_path: Path) -> None:
        ini = tmp_path / "lancemig.ini"
        script = tmp_path / "writes.py"
        script.write_text(
            "import lance, pyarrow as pa\n"
            f"uri = {live.dataset('t').uri!r}\n"
            "lance.write_dataset(pa.table({'id': [77], 'v': [0.5]}), uri, mode='append')\n"
        )
        ini.write_text(ini.read_text() + f"verify_command = {sys.executable} {script}\n")
        del live.opened  # with the new setting
        live.revision(self.BUILT, above=ROWS)
        outcome = live.upgrade()
        assert outcome.flipped
        (text,) = outcome.not_replicated
        assert "t: rows cannot be replicated: it is derived again from its source" in text
        assert [row["id"] for row in live.rows("t", ROOT)][-1] == 77
