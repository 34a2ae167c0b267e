"""Checks that a revision declares: if one fails before it, nothing is done; if after it, it is put back."""

from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.catalog.lineage import Action
from lancemig.commands import status, upgrade
from lancemig.errors import CheckFailed, VerifyFailed
from lancemig.report.plan import plan_text

START = """
    CreateTable(table="t", key=("id",), schema=["id: int64", "x: float64"],
                rows=[{"id": n, "x": float(n)} for n in range(5)])
"""
FIX = 'UpdateRows(table="t", set={"x": "x + 10"})'
RENAME = 'RenameColumn(table="t", column="x", to="y")'


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision(START)
    lab.upgrade()
    return lab


def xs(lab: Lab) -> list[float]:
    return [row["x"] for row in lab.rows("t")]


def test_what_fails_before_stops_the_run_with_nothing_done(lab: Lab) -> None:
    lab.revision(FIX, above='checks = [Check(sql="select id from t where x > 3", when="before")]')
    version = lab.dataset("t").version
    with pytest.raises(
        CheckFailed, match=r"checks failed before it:\n.*x > 3: expected no row, got 1 row: id=4"
    ) as e:
        lab.upgrade()
    assert e.value.exit_status == 1
    assert lab.dataset("t").version == version
    assert lab.catalog().in_flight() is None


def test_what_fails_after_is_put_back(lab: Lab) -> None:
    lab.revision(
        f'{FIX}, DeleteRows(table="t", where="id = 2")',
        above='checks = [Check(name="few", sql="select count(*) from t where x > 12", expect=0)]',
    )
    with pytest.raises(CheckFailed, match=r"few: expected 0, got 2(.|\n)*were undone"):
        lab.upgrade()
    assert xs(lab) == [0.0, 1, 2, 3, 4]
    assert lab.catalog().in_flight() is None
    entry = status.history(lab.catalog())[0]
    assert (entry.action, entry.target.revision) == (Action.RECOVER, "0001")


def test_what_holds_is_in_the_lineage(lab: Lab) -> None:
    lab.revision(FIX, above='checks = [Check(name="five", sql="select count(*) from t", expect=5)]')
    prepared = upgrade.prepare(lab.catalog(), "head", "up")
    text = plan_text(prepared.plan, store="", staging="")
    assert "  check five  (before and after)" in text
    lab.upgrade()
    entry = status.history(lab.catalog())[0]
    assert [(c.check, c.when, c.ok, c.detail) for c in entry.checks] == [
        ("five", "before", True, "5"),
        ("five", "after", True, "5"),
    ]


def test_of_two_revisions_the_first_stays(lab: Lab) -> None:
    lab.revision(FIX)
    lab.revision(FIX, above='checks = [Check(sql="select id from t where x > 13", when="before")]')
    with pytest.raises(CheckFailed, match="revision 0003"):
        lab.upgrade()
    assert status.current(lab.catalog()).revision == "0002"
    assert xs(lab) == [10.0, 11, 12, 13, 14]


def test_a_rebuild_that_fails_its_check_is_not_flipped_to(lab: Lab) -> None:
    lab.revision(RENAME, above='checks = [Check(name="y", sql="select y from t where y > 3", when="after")]')
    with pytest.raises(VerifyFailed, match=r"y: expected no row, got 1 row: y=4.0"):
        lab.upgrade()
    assert status.current(lab.catalog()).revision == "0001"
    assert xs(lab)[0] == 0.0


def test_a_rebuild_is_checked_on_both_sides(lab: Lab) -> None:
    lab.revision(
        RENAME,
        above='checks = [Check(name="x", sql="select count(x) from t", expect=5, when="before"),'
        ' Check(name="y", sql="select count(y) from t", expect=5, when="after")]',
    )
    lab.upgrade()
    checks = status.history(lab.catalog())[0].checks
    assert [(c.check, c.when) for c in checks if c.when] == [("x", "before"), ("y", "after")]
