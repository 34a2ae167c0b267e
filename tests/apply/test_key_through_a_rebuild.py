"""A rebuild that names what identifies a row: writers are followed by it, in a table that had no key."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from lab import Lab
from servers import Place

from lancemig.commands import flip
from lancemig.errors import VerifyFailed

START = """CreateTable(table="t", schema=["no: int32", "ms: float64"],
                rows=[{"no": n, "ms": 1000.0 * n} for n in range(5)]),"""
REBUILD = """
    RenameColumn(table="t", column="no", to="id"),
    RetypeColumn(table="t", column="id", to="int64"),
    SetKey(table="t", key=("id",)),
    RetypeColumn(table="t", column="ms", to="float64", using="ms / 1000"),
"""
BACK = """
    RetypeColumn(table="t", column="ms", to="float64", using="ms * 1000"),
    SetKey(table="t", key=()),
    RetypeColumn(table="t", column="id", to="int32"),
    RenameColumn(table="t", column="id", to="no"),
"""


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(START)
    lab.upgrade()
    lab.revision(REBUILD, downgrade=BACK)
    return lab


def write(table: Any, key: str, unit: float) -> None:
    """Update one row, delete another, insert a third."""
    table.update({"ms": f"{1.5 * unit}"}, where=f"{key} = 1")
    table.delete(f"{key} = 2")
    table.merge_insert(key).when_not_matched_insert_all().execute(
        pa.table({key: [9], "ms": [9.0 * unit]}, schema=table.schema)
    )


def there(lab: Lab, key: str = "id", prefix: str | None = None) -> dict[int, float]:
    return {row[key]: row["ms"] for row in lab.rows("t", prefix)}


AFTER = {0: 0.0, 1: 1.5, 3: 3.0, 4: 4.0, 9: 9.0}


def test_while_the_root_is_staged(lab: Lab) -> None:
    lab.upgrade(no_flip=True)
    write(lab.dataset("t"), "no", 1000.0)
    flip.flip(lab.catalog(), None)
    assert there(lab) == AFTER


def test_after_the_flip(lab: Lab) -> None:
    old = lab.dataset("t")
    lab.upgrade()
    write(old, "no", 1000.0)
    *_, one = flip.reconcile(lab.catalog())
    assert (one.rows, one.conflicts) == (3, ())
    assert there(lab) == AFTER


def test_after_the_rollback(lab: Lab) -> None:
    lab.upgrade()
    write(lab.dataset("t"), "id", 1.0)
    flip.rollback(lab.catalog())
    assert there(lab, "no") == {key: 1000 * ms for key, ms in AFTER.items()}


def test_a_downgrade_that_takes_the_key_back_follows_by_it(lab: Lab) -> None:
    lab.upgrade()
    lab.downgrade(no_flip=True)
    write(lab.dataset("t"), "id", 1.0)
    flip.flip(lab.catalog(), None)
    assert there(lab, "no") == {key: 1000 * ms for key, ms in AFTER.items()}


def test_a_late_row_with_the_key_of_another_is_refused(lab: Lab) -> None:
    lab.upgrade(no_flip=True)
    write(lab.dataset("t"), "no", 1000.0)
    lab.append("t", [{"no": 3, "ms": 7.0}])
    with pytest.raises(VerifyFailed, match="key"):
        flip.flip(lab.catalog(), None)
