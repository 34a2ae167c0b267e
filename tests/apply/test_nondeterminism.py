"""A function that is not deterministic is named as the cause, with the tolerance that accepts it."""

import re
from pathlib import Path

import pytest
from lab import Lab
from servers import Place

from lancemig.commands import recovery
from lancemig.errors import VerifyFailed

START = """CreateTable(table="t", schema=["id: int64", "x: float64", "v: fixed_size_list<float32>[2]"]{key},
    rows=[{{"id": i, "x": float(i)}} for i in range(40)])"""
NOISE = """
import random

def noise(batch):
    return pa.array([x + random.random() * {scale} for x in batch.column("x").to_pylist()], pa.float64())

def vectors(batch):
    values = [[x + random.random() * {scale}] * 2 for x in batch.column("x").to_pylist()]
    return pa.array(values, pa.list_(pa.float32(), 2))

def rows(batch):
    return pa.record_batch({{"id": batch.column("id"), "x": noise(batch)}})
"""
RENAME = 'RenameColumn(table="t", column="id", to="no"), '
OPERATIONS = {
    "backfill": ('BackfillColumns(table="t", columns=("x",), reads=("x",), using=noise)', "x"),
    "embedding": ('BackfillColumns(table="t", columns=("v",), reads=("x",), using=vectors)', "v"),
    "add": ('AddColumn(table="t", column="y: float64", reads=("x",), using=noise)', "y"),
}


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    return Lab(tmp_path, local_place)


def failure(lab: Lab, operations: str, key: str, scale: float = 1e-4, above: str = NOISE) -> str:
    lab.revision(START.format(key=key))
    lab.upgrade()
    lab.revision(operations, above=above.format(scale=scale))
    with pytest.raises(VerifyFailed) as failed:
        lab.upgrade()
    return failed.value.message


@pytest.mark.parametrize("name", OPERATIONS)
def test_it_is_named_with_the_tolerance(lab: Lab, name: str) -> None:
    operation, column = OPERATIONS[name]
    message = failure(lab, RENAME + operation, ', key=("id",)')
    assert "the function is not deterministic" in message
    declared = re.search(r"tolerances = \[(Tolerance\(.*?\))\]", message)
    assert declared is not None
    assert f'column="{column}"' in declared.group(1)

    recovery.undo(lab.catalog())
    path = lab.folder / "versions" / "0002.py"
    path.write_text(f"{path.read_text()}\ntolerances = [{declared.group(1)}]\n")
    lab.upgrade()
    assert len(lab.rows("t")) == 40


def test_without_a_key(lab: Lab) -> None:
    message = failure(lab, RENAME + OPERATIONS["backfill"][0], "")
    assert "the function is not deterministic" in message
    assert 'column="x"' in message


def test_of_a_transformation(lab: Lab) -> None:
    operation = 'TransformTable(table="t", using=rows, reads=("id", "x"), schema=["id: int64", "x: float64"])'
    message = failure(lab, operation, ', key=("id",)')
    assert "the function is not deterministic" in message
    assert 'column="x"' in message


def test_a_function_that_is_deterministic_is_not_accused(lab: Lab) -> None:
    """The staged values were changed by another program: the function gives the same each time."""
    lab.revision(START.format(key=', key=("id",)'))
    lab.upgrade()
    above = "def noise(batch):\n    return pc.add(batch.column('x'), 1.0)\n"
    lab.revision(RENAME + OPERATIONS["backfill"][0], above=above)
    lab.upgrade(no_flip=True)
    run = lab.catalog().in_flight()
    assert run is not None
    lab.dataset("t", run.staged_prefix).update({"x": "x + 7"})
    from lancemig.commands import flip

    with pytest.raises(VerifyFailed) as failed:
        flip.flip(lab.catalog(), None)
    assert "not deterministic" not in failed.value.message
