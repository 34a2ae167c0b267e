"""Rolling back is the emergency exit: it depends on no file, and refuses only before the pointer changes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from console import DOUBLE, RENAME, Console
from lab import ROOT, Lab

from lancemig.apply.replicate import reconcile
from lancemig.commands import status
from lancemig.errors import StoreError

LOUD = """
def loud(batch: pa.RecordBatch) -> pa.Array:
    return pc.multiply(batch.column("volume"), 1.0)
"""
BY_FUNCTION = 'BackfillColumns(table="recordings", columns=("volume",), reads=("volume",), using=loud)'


@pytest.fixture
def flipped(live: Lab, console: Console) -> Lab:
    """A rebuild whose operations are plain data, which the lineage records."""
    live.revision(RENAME)
    console.says("upgrade")
    return live


@pytest.fixture
def computed(live: Lab, console: Console) -> Lab:
    """A rebuild whose way back needs a function, which only its file has."""
    live.revision(f"{RENAME}, {BY_FUNCTION}", above=LOUD, downgrade=f"{BY_FUNCTION}, {BACK}")
    console.says("upgrade")
    return live


BACK = 'RenameColumn(table="recordings", column="volume", to="gain")'


def file(lab: Lab) -> Path:
    return lab.folder / "versions" / "0002.py"


BREAKS: dict[str, Callable[[Lab], object]] = {
    "a comment": lambda lab: file(lab).write_text(file(lab).read_text() + "# a remark\n"),
    "deleted": lambda lab: file(lab).unlink(),
    "a syntax error": lambda lab: file(lab).write_text("operations = [["),
    "a missing module": lambda lab: file(lab).write_text("import no_such_helper\n" + file(lab).read_text()),
    "all files deleted": lambda lab: [path.unlink() for path in file(lab).parent.glob("*.py")],
    "no folder": lambda lab: shutil.rmtree(file(lab).parent),
}
every_break = pytest.mark.parametrize("broken", BREAKS.values(), ids=list(BREAKS))


@every_break
def test_without_late_writes_no_file_is_needed(
    flipped: Lab, console: Console, broken: Callable[[Lab], object]
) -> None:
    broken(flipped)
    assert "no writes since the flip" in console.says("rollback", "--plan")
    assert "live     0001" in console.says("rollback")
    assert flipped.root == ROOT
    console.says("rollback", "--again")
    assert flipped.root != ROOT


@every_break
def test_late_writes_are_carried_back_by_what_the_lineage_records(
    flipped: Lab, console: Console, broken: Callable[[Lab], object]
) -> None:
    new = flipped.root
    flipped.append("recordings", [{"id": 7, "volume": 7.0}])
    broken(flipped)
    assert "can be carried back: 1 inserted" in console.says("rollback", "--plan")
    console.says("rollback")
    assert {"id": 7, "gain": 7.0} in flipped.rows("recordings")
    flipped.append("recordings", [{"id": 8, "volume": 8.0}], new)
    assert "1 row replicated" in console.says("reconcile")
    assert {"id": 8, "gain": 8.0} in flipped.rows("recordings")


@every_break
def test_late_writes_that_only_the_file_can_carry_back_are_refused_before(
    computed: Lab, console: Console, broken: Callable[[Lab], object]
) -> None:
    flipped, new = computed, computed.root
    flipped.append("recordings", [{"id": 7, "volume": 7.0}])
    broken(flipped)
    assert "cannot be carried back" in console.says("rollback", "--plan")
    message = console.refuses("rollback", status=2)
    assert f"rows were written to {new} since the flip (recordings), and cannot be carried back: " in message
    assert "nothing was changed" in message
    assert "lancemig rollback --discard" in message
    assert flipped.root == new
    assert "discarded" in console.says("rollback", "--discard")
    assert flipped.root == ROOT


def test_restoring_the_file_is_the_other_way_on(computed: Lab, console: Console) -> None:
    flipped = computed
    flipped.append("recordings", [{"id": 7, "volume": 7.0}])
    text = file(flipped).read_text()
    file(flipped).write_text(text + "# a remark\n")
    console.refuses("rollback", status=2)
    file(flipped).write_text(text)
    console.says("rollback")
    assert {"id": 7, "gain": 7.0} in flipped.rows("recordings")


def test_what_fails_after_the_pointer_is_reported_as_what_it_is(
    flipped: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped.append("recordings", [{"id": 7, "volume": 7.0}])

    def fails(*_: object) -> None:
        raise StoreError("the bucket does not answer", next_step="run the same command again later")

    with monkeypatch.context() as patched:
        patched.setattr(reconcile, "replicate", fails)
        done = console("rollback")
    assert done.exit_code == 1
    assert "live     0001" in done.stdout
    assert (
        "rolled back; late writes could not be carried back: the bucket does not answer; next: "
        in done.stdout
    )
    assert flipped.root == ROOT
    console.says("reconcile")
    assert {"id": 7, "gain": 7.0} in flipped.rows("recordings")


def test_a_run_that_somebody_else_finishes_names_both(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.revision(DOUBLE)
    live.revision(RENAME)
    monkeypatch.setenv("LANCEMIG_ACTOR", "ada")
    console.says("upgrade", "--no-flip")
    monkeypatch.setenv("LANCEMIG_ACTOR", "bob")
    console.says("flip")
    entry = status.history(live.catalog())[0]
    assert (entry.actor, (entry.begun_by or "").partition("@")[0]) == ("bob", "ada")
    text = console.says("history", "--lineage", "-v")
    assert "begun by ada@" in text
    assert "finished by bob@" in text
    assert status.history(live.catalog())[-1].begun_by is None
