"""A check holds when its query gives what is expected, and never by mistake."""

from collections.abc import Callable
from typing import Any

import lance
import pyarrow as pa
import pytest
from pydantic import ValidationError

from lancemig import Check
from lancemig.apply.checks import SHOWN, run_checks
from lancemig.catalog.lineage import CheckResult
from lancemig.errors import StoreError
from lancemig.store.lance import Table, Tables
from lancemig.store.objects import open_objects

Run = Callable[..., CheckResult]
ROWS = pa.table({"rec_id": ["a", "b", "c"], "fs": [16000, -1, 0]})


@pytest.fixture
def tables(tmp_path) -> dict[str, Table]:
    lance.write_dataset(ROWS, tmp_path / "v1" / "recordings.lance")
    return {"recordings": Tables(open_objects(str(tmp_path), {}), "").open("v1/", "recordings")}


@pytest.fixture
def run(tables) -> Run:
    def run_one(sql: str, **fields: Any) -> CheckResult:
        [found] = run_checks(tables, [Check(sql=sql, **fields)])
        return found

    return run_one


class TestNoRowMayCome:
    def test_none_does(self, run):
        found = run("select * from recordings where fs > 20000", name="no rate is absurd")
        assert found == CheckResult(check="no rate is absurd", ok=True, detail="no row")

    def test_those_that_come_are_told(self, run):
        found = run("select rec_id, fs from recordings where fs <= 0 order by rec_id")
        assert not found.ok
        assert found.detail == "expected no row, got 2 rows: rec_id=b, fs=-1; rec_id=c, fs=0"

    def test_of_many_the_first_few_are_told_and_all_are_counted(self, run):
        found = run("select range as n from range(1000)")
        assert found.detail == "expected no row, got 1,000 rows: n=0; n=1; n=2; n=3; n=4; …"
        assert found.detail.count("n=") == SHOWN

    def test_an_offender_that_is_zero_is_an_offender(self, run):
        assert not run("select fs from recordings where fs = 0").ok

    def test_a_count_that_was_meant_as_a_value_is_explained(self, run):
        found = run("select count(*) as n from recordings where fs > 20000")
        assert not found.ok
        assert found.detail.startswith(
            "expected no row, got 1 row: n=0; declare the expected value with expect="
        )

    def test_a_long_or_many_lined_value_is_cut(self, run):
        found = run("select repeat('x\n', 1000) as x")
        assert "\n" not in found.detail
        assert len(found.detail) < 200


@pytest.mark.parametrize(
    ("sql", "expect"),
    [
        ("count(*)", 3),
        ("sum(fs)", 15999),
        ("sum(fs)", 15999.0),
        ("min(fs) < 0", True),
        ("min(fs) > 0", False),
        ("max(rec_id)", "c"),
        ("nullif(1, 1)", None),
        ("'nan'::float", float("nan")),
        ("'inf'::double", float("inf")),
        ("0.1::double + 0.2::double", 0.3),
        ("0.1::float", 0.1),
        ("1.50::decimal(5, 2)", "1.5"),
        ("1.50::decimal(5, 2)", "1.50"),
        ("1.50::decimal(5, 2)", 1.5),
        ("2::decimal(5, 2)", 2),
        ("max('2026-02-09'::date)", "2026-02-09"),
        ("'2026-02-09 10:31:00'::timestamp", "2026-02-09 10:31:00"),
        ("'2026-02-09 10:31:00'::timestamp", "2026-02-09T10:31"),
        ("'2026-02-09 10:31:00+02'::timestamptz", "2026-02-09T08:31:00Z"),
        ("'2026-02-09 10:31:00+02'::timestamptz", "2026-02-09 10:31:00+02:00"),
        ("'\\xff'::blob", "ff"),
    ],
)
def test_a_value_agrees(run, sql, expect):
    found = run(f"select {sql} from recordings limit 1", expect=expect)
    assert found.ok, found.detail


@pytest.mark.parametrize(
    ("sql", "expect", "detail"),
    [
        ("count(*)", 0, "expected 0, got 3"),
        ("count(*)", True, "expected True, got 3"),
        ("count(*) = 3", 1, "expected 1, got True"),
        ("count(*)", "3", "expected 3, got 3"),
        ("count(*)", None, "expected null, got 3"),
        ("nullif(1, 1)", 0, "expected 0, got null"),
        ("nullif(1, 1)", False, "expected False, got null"),
        ("'nan'::float", 0.0, "expected 0.0, got NaN"),
        ("1.0::double", float("nan"), "expected nan, got 1.0"),
        ("1e-12::double", 0, "expected 0, got 1e-12"),
        ("9007199254740993", 9007199254740992, "expected 9007199254740992, got 9007199254740993"),
        ("1.51::decimal(5, 2)", 1.5, "expected 1.5, got 1.51"),
        (
            "'2026-02-09 10:31:00'::timestamp",
            "2026-02-09",
            "expected 2026-02-09, got 2026-02-09T10:31:00",
        ),
        ("max(rec_id)", 3, "expected 3, got c"),
    ],
)
def test_a_value_does_not_agree(run, sql, expect, detail):
    found = run(f"select {sql} from recordings limit 1", expect=expect)
    assert (found.ok, found.detail) == (False, detail)


@pytest.mark.parametrize(
    ("sql", "shape"),
    [
        ("select fs from recordings", "3 rows of 1 column"),
        ("select fs from recordings where false", "0 rows of 1 column"),
        ("select 0, 0", "1 row of 2 columns"),
    ],
)
def test_what_is_no_single_value_agrees_with_none(run, sql, shape):
    for expect in (0, None):
        found = run(sql, expect=expect)
        assert not found.ok
        assert found.detail.endswith(f", got {shape}")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select nope from recordings", 'Referenced column "nope" not found'),
        ("select * from recording", "unknown table recording; did you mean recordings?"),
        ("select 1; drop table recordings", "expected one query, not"),
        ("select * from read_text('/etc/hostname')", "Permission Error"),
    ],
)
def test_a_check_that_cannot_be_made_has_failed_and_says_why(run, sql, said):
    for expect in ([], 0, None):
        found = run(sql, expect=expect)
        assert not found.ok
        assert said in found.detail


def test_a_table_that_is_absent_says_why(tables):
    [found] = run_checks(tables, [Check(sql="select * from gone")], absent={"gone": "it was cleaned away"})
    assert "gone: it was cleaned away" in found.detail


def test_a_store_that_fails_says_nothing_about_the_rows(tables, tmp_path):
    for file in (tmp_path / "v1" / "recordings.lance" / "data").iterdir():
        file.unlink()
    with pytest.raises(StoreError):
        run_checks(tables, [Check(sql="select sum(fs) from recordings", expect=0)])


def test_checks_are_made_when_they_are_due(tables):
    checks = [Check(sql="select 1", expect=1, name=when, when=when) for when in ("before", "after", "both")]
    due = {
        when: [r.check for r in run_checks(tables, checks, when=when)] for when in ("before", "after", None)
    }
    assert due == {
        "before": ["before", "both"],
        "after": ["after", "both"],
        None: ["before", "after", "both"],
    }


class TestTheValue:
    def test_expects_no_row_unless_told(self):
        assert Check(sql="select 1").expect == ()
        assert Check(sql="select 1", expect=[]) == Check(sql="select 1")
        assert Check(sql="select 1", expect=()) == Check(sql="select 1")

    def test_tells_apart_what_python_calls_equal(self):
        kinds = [type(Check(sql="select 1", expect=expect).expect) for expect in (1, 1.0, True, "1", None)]
        assert kinds == [int, float, bool, str, type(None)]

    @pytest.mark.parametrize("expect", [[1], [None], {"a": 1}, b"a", object()])
    def test_refuses_other_expectations(self, expect):
        with pytest.raises(ValidationError):
            Check(sql="select 1", expect=expect)

    @pytest.mark.parametrize(
        "fields", [{"sql": ""}, {"sql": " \n"}, {"sql": "select 1", "when": "during"}, {}]
    )
    def test_refuses_what_is_no_check(self, fields):
        with pytest.raises(ValidationError):
            Check(**fields)

    def test_is_called_by_its_name_or_the_head_of_its_sql(self):
        assert Check(sql="select 1", name="one").title == "one"
        assert Check(sql="select\n  1").title == "select 1"
        assert len(Check(sql="select " + "1 + " * 100 + "1").title) == 60

    def test_comes_back_from_json(self):
        for expect in ([], 1, 1.5, True, "x", None):
            check = Check(sql="select 1", expect=expect)
            assert Check.model_validate_json(check.model_dump_json()) == check
