"""The steps of a run: the schemas around them, the files they need, and how their commits are made."""

import sys
from pathlib import Path
from typing import get_args

import pytest
from lab import Lab
from servers import Place

sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))
from dying import Died, Fate, dying

from lancemig.apply.commit import executor
from lancemig.apply.commit.executor import commit_strategy
from lancemig.apply.commit.target import StepCommitter
from lancemig.apply.effects.stage import stage
from lancemig.apply.run import RunContext, StagingRun
from lancemig.catalog.operations import AddColumn, AnyOperation, Operation
from lancemig.commands import recovery
from lancemig.errors import RunUnfinished

OPERATIONS: tuple[type[Operation], ...] = get_args(get_args(AnyOperation)[0])


@pytest.fixture
def lab(tmp_path: Path, local_place: Place) -> Lab:
    lab = Lab(tmp_path / "lab", local_place)
    lab.revision("""CreateTable(table="a", key=("id",), schema=["id: int64", "x: float64"],
                                rows=[{"id": n, "x": float(n)} for n in range(5)])""")
    lab.upgrade()
    return lab


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_commits_of_every_operation_are_made_by_its_strategy_or_staged(operation: type[Operation]) -> None:
    strategy = commit_strategy(operation.model_construct())
    staged = stage.dispatch(operation) is not stage.dispatch(object)
    assert strategy is not StepCommitter.commit_once or staged


def test_a_kind_of_an_operation_has_its_strategy() -> None:
    class Loudness(AddColumn):
        pass

    assert commit_strategy(Loudness.model_construct()) is executor.add_column


def _seen(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[RunContext]:
    """The contexts of the steps that the next run of the laboratory executes."""
    contexts: list[RunContext] = []
    perform = RunContext.perform

    def performing(context: RunContext, *args):
        contexts.append(context)
        return perform(context, *args)

    monkeypatch.setattr(RunContext, "perform", performing)
    return contexts


def test_each_step_comes_with_the_schemas_around_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.revision('AddColumn(table="a", column=pa.field("y", pa.int8()))')
    lab.revision('RenameColumn(table="a", column="y", to="z"), DropColumn(table="a", column="x")')
    contexts = _seen(lab, monkeypatch)
    lab.upgrade()
    context = contexts[0]
    columns = [
        (planned.step.id, planned.before.table("a").columns.names, planned.after.table("a").columns.names)
        for planned in context.steps(context.plan.migrations)
    ]
    assert columns == [
        ("0002/0", ["id", "x"], ["id", "x", "y"]),
        ("0003/0", ["id", "x", "y"], ["id", "x", "z"]),
        ("0003/1", ["id", "x", "z"], ["id", "z"]),
    ]
    assert [planned.step.id for planned in context.steps(context.plan.staged)] == ["0003/0", "0003/1"]
    assert context.staging_start().table("a").columns.names == ["id", "x", "y"]
    assert [type(each) is StagingRun for each in contexts] == [False, True, True]


def test_an_undo_needs_no_file_of_a_later_revision(lab: Lab) -> None:
    lab.revision('UpdateRows(table="a", set={"x": "x + 1"}), DeleteRows(table="a", where="id = 3")')
    lab.revision('UpdateRows(table="a", set={"x": "0"})')
    with pytest.raises(Died):
        lab.upgrade(catalog=dying(lab.catalog(), Fate(12)))
    lab.outlive_the_lock()
    assert lab.rows("a")[1]["x"] == 2.0
    [later] = (lab.folder / "versions").glob("0003*.py")
    later.write_text(later.read_text().replace('"0"', '"-1"'))
    with pytest.raises(RunUnfinished, match="was edited since"):
        recovery.recover(lab.catalog())
    recovery.undo(lab.catalog())
    assert [row["x"] for row in lab.rows("a")] == [0.0, 1, 2, 3, 4]
