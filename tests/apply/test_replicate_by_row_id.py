"""Changes in a table without a key while it is staged: followed by stable row id, round after round."""

from datetime import timedelta
from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.commands import flip, upgrade
from lancemig.errors import VerifyFailed


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(
        """CreateTable(table="t", schema=["n: int64", "x: float64"],
                       rows=[{"n": n % 3, "x": float(n)} for n in range(9)])"""
    )
    lab.revision('RewriteTable(table="t", stable_row_ids=True)')
    lab.upgrade()
    return lab


def values(lab: Lab, name: str) -> list[tuple[int, float]]:
    found = lab.dataset("t").to_table().to_pylist()
    return sorted((row["n"], row[name]) for row in found)


def waiting(lab: Lab, operations: str) -> None:
    lab.revision(operations)
    lab.upgrade(no_flip=True)


RENAMED = 'RenameColumn(table="t", column="x", to="y"), RetypeColumn(table="t", column="n", to="int32")'


@pytest.mark.slow
def test_updates_and_deletes_of_rows_old_and_new_are_followed_in_every_round(
    lab: Lab, tmp_path: Path
) -> None:
    lab.revision(RENAMED)
    flag, told = tmp_path / "not-yet", list[list[tuple[int, float]]]()

    def sleep(_seconds: float) -> None:
        number = len(told)
        lab.late += timedelta(seconds=30)
        lab.append("t", [{"n": 100, "x": float(number)}, {"n": 100, "x": float(number)}])
        lab.dataset("t").update({"x": "x + 0.5"}, where=f"x = {number} or x = {number - 1}.5")
        lab.dataset("t").delete(f"x = {number + 4}")
        if number == 1:
            lab.dataset("t").optimize.compact_files()
        told.append(values(lab, "x"))
        if number == 3:
            flag.unlink()

    catalog = lab.catalog(sleep=sleep)
    upgrade.apply_prepared(catalog, upgrade.prepare(catalog, "head", "up"), postponed_by=flag)
    assert len(told) == 4
    assert values(lab, "y") == told[-1]


def test_alike_rows_are_told_apart(lab: Lab) -> None:
    lab.append("t", [{"n": 7, "x": 7.0}, {"n": 7, "x": 7.0}, {"n": 7, "x": 7.0}])
    waiting(lab, RENAMED)
    dataset = lab.dataset("t")
    first = dataset.scanner(filter="n = 7", with_row_id=True).to_table().column("_rowid")[0].as_py()
    dataset.delete(f"_rowid = {first}")
    flip.flip(lab.catalog(), None)
    assert values(lab, "y").count((7, 7.0)) == 2


def test_a_table_that_is_written_anew_has_other_row_ids_and_is_refused(lab: Lab) -> None:
    waiting(lab, 'RewriteTable(table="t", order_by=("x",))')
    lab.dataset("t").update({"x": "x + 1"})
    with pytest.raises(VerifyFailed, match=r"t was changed by Update \(version"):
        flip.flip(lab.catalog(), None)
