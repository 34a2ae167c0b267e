"""A row that comes late, while somebody inserts one with its key into the new root."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dying import Died, Fate, dying
from lab import Lab
from servers import Place

from lancemig.apply.replicate.types import ReplicationResult
from lancemig.commands import flip

LATE = {"id": 8, "ms": 2000.0, "note": "late"}
THEIRS = {"id": 8, "seconds": 1.0, "note": "theirs"}
WAS = {0: (0.0, "n")}


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path, local_place)
    lab.revision(
        """CreateTable(table="t", key=("id",), schema=["id: int64", "ms: float64", "note: string"],
                rows=[{"id": 0, "ms": 0.0, "note": "n"}]),"""
    )
    lab.upgrade()
    (tmp_path / "old").write_text(lab.root)
    lab.revision(
        """RenameColumn(table="t", column="ms", to="seconds"),
        RetypeColumn(table="t", column="seconds", to="float32", using="seconds / 1000"),"""
    )
    lab.upgrade()
    lab.append("t", [LATE], (tmp_path / "old").read_text())
    return lab


def there(lab: Lab) -> list[tuple[int, float, str]]:
    return sorted((row["id"], row["seconds"], row["note"]) for row in lab.rows("t"))


@dataclass
class Raced(Fate):
    """Somebody inserts the row's key right before it is brought; death comes so many effects `later`."""

    lab: Lab = field(kw_only=True)
    later: int | None = None

    def take(self, what: str, do: Any, half: Any = lambda: None) -> Any:
        if "commit tail/" in what and not any("commit tail/" in effect for effect in self.effects):
            self.lab.append("t", [THEIRS])
            self.at = None if self.later is None else len(self.effects) + self.later
        return super().take(what, do, half)


def raced(lab: Lab, later: int | None, **options: Any) -> list[ReplicationResult]:
    return flip.reconcile(dying(lab.catalog(), Raced(lab=lab, how="after", later=later)), **options)


def test_a_key_that_came_on_both_sides_at_once_is_a_conflict(lab: Lab) -> None:
    *_, one = raced(lab, None)
    assert one.conflicts == ("t: id=8 was changed in both roots",)
    assert there(lab) == [(0, 0.0, "n"), (8, 1.0, "theirs")]


@pytest.mark.slow
@pytest.mark.parametrize("later", range(1, 8))
@pytest.mark.parametrize("when_exists", ["error", "keep", "overwrite"])
def test_also_after_a_death(lab: Lab, when_exists: Any, later: int) -> None:
    try:
        raced(lab, later, when_exists=when_exists)
    except Died:
        lab.outlive_the_lock()
    *_, one = flip.reconcile(lab.catalog())
    if when_exists == "overwrite" and (8, 2.0, "late") in there(lab):
        assert one.conflicts == ()
        assert there(lab) == [(0, 0.0, "n"), (8, 2.0, "late")]
    else:
        assert there(lab) == [(0, 0.0, "n"), (8, 1.0, "theirs")]
    *_, one = flip.reconcile(lab.catalog(), when_exists="overwrite")
    assert one.conflicts == ()
    *_, one = flip.reconcile(lab.catalog())
    assert one.conflicts == ()
    assert len(there(lab)) == 2
