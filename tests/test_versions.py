"""The shipped revisions, on the shipped example: from nothing to head, back, and to head again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from servers import Place

from lancemig.commands.check_files import all_findings, check_files
from lancemig.commands.lint import lint

SHIPPED = Path(__file__).parent.parent
REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006"]


@pytest.fixture
def shipped(tmp_path: Path, place: Place) -> Lab:
    """The shipped versions/ and raw data, beside a lancemig.ini for an empty place."""
    shutil.copytree(SHIPPED / "versions", tmp_path / "versions")
    shutil.copytree(SHIPPED / "docs" / "example", tmp_path / "docs" / "example")
    return Lab(tmp_path, place)


def seen(lab: Lab) -> dict[str, Any]:
    """Everything a reader can tell of the live catalog."""
    found = {}
    for table in lab.tables():
        dataset = lab.dataset(table)
        rows = dataset.to_table().to_pylist()
        found[table] = (
            dataset.schema.to_string(),
            sorted(rows, key=repr),
            sorted(index.name for index in dataset.describe_indices()),
        )
    return found


def test_the_files_are_those_of_the_sum_file_and_lint_finds_nothing(shipped: Lab) -> None:
    assert all_findings(check_files(shipped.settings)) == []
    assert lint(shipped.settings) == []


def test_every_revision_goes_up_down_and_up_again(shipped: Lab) -> None:
    states: dict[str, dict[str, Any]] = {"base": {}}
    for revision in REVISIONS:
        shipped.upgrade(revision)
        states[revision] = seen(shipped)
    for revision in reversed(["base", *REVISIONS[:-1]]):
        shipped.downgrade("-1")
        assert seen(shipped) == states[revision], revision
    shipped.upgrade()
    assert seen(shipped) == states["0006"]


def test_from_nothing_to_head_at_once_is_the_same_as_step_by_step(
    tmp_path: Path, new_place: Callable[[str], Place]
) -> None:
    found = []
    for name, targets in (("steps", REVISIONS), ("once", ["head"])):
        folder = tmp_path / name
        shutil.copytree(SHIPPED / "versions", folder / "versions")
        shutil.copytree(SHIPPED / "docs" / "example", folder / "docs" / "example")
        lab = Lab(folder, new_place("local"))
        for target in targets:
            lab.upgrade(target)
        found.append(seen(lab))
    assert found[0] == found[1]
