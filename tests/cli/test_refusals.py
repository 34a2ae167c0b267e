"""What may refuse is asked before the commit point; what fails after it is told, with the way on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from console import CREATE, RENAME, Console
from lab import ROOT, Lab

from lancemig.apply import runner
from lancemig.apply.replicate import reconcile
from lancemig.errors import LancemigError, OutcomeUnknown, PlanError, StoreError

OTHER = 'CreateTable(table="notes", key=("id",), schema=pa.schema([("id", pa.int64())]), rows=[{"id": 1}])'
LOUD = """
def loud(batch: pa.RecordBatch) -> pa.Array:
    return pc.multiply(batch.column("volume"), 1.0)
"""
BY_FUNCTION = 'BackfillColumns(table="recordings", columns=("volume",), reads=("volume",), using=loud)'
BACK = 'RenameColumn(table="recordings", column="volume", to="gain")'
BUILD = """BuildTable(table="recordings", key=("id",), max_gone=0,
    schema=pa.schema([("id", pa.int64()), ("gain", pa.float64())]), rows=[{"id": 1, "gain": 9.0}])"""


def file(lab: Lab, revision: str = "0002") -> Path:
    return lab.folder / "versions" / f"{revision}.py"


def edit(lab: Lab, revision: str = "0002") -> None:
    file(lab, revision).write_text(file(lab, revision).read_text() + "# a remark\n")


def with_function(lab: Lab) -> None:
    """A rebuild whose operations only the file has, in both directions."""
    lab.revision(f"{RENAME}, {BY_FUNCTION}", above=LOUD, downgrade=f"{BY_FUNCTION}, {BACK}")


def late(lab: Lab, root: str, id_: int = 7, column: str = "gain") -> None:
    lab.append("recordings", [{"id": id_, column: 7.0}], root)


def told(console: Console, *arguments: str, status: int) -> str:
    """The error on stderr, below findings and progress."""
    done = console(*arguments)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    message = done.stderr.rpartition("lancemig: ")[2]
    assert message.count("\nnext: ") == 1, done.stderr
    return message


class Meddling:
    """Lets something happen after a flip has written the pointer, before late writes are replicated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
        self.happens: Callable[[], object] | None = happens
        self.inner = runner.reconcile_after_flip
        monkeypatch.setattr(runner, "reconcile_after_flip", self)

    def __call__(self, *given: object) -> None:
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        self.inner(*given)  # type: ignore[arg-type]


def fails(error: LancemigError) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


FAILURES = {
    "the store fails": StoreError("the bucket does not answer", next_step="run the same command again later"),
    "refused": PlanError("the file is not what it was", next_step="then the same command again"),
    "unknown": OutcomeUnknown("a commit may have landed", next_step="look"),
}
every_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))


@every_failure
@pytest.mark.parametrize("verb", ["upgrade", "flip", "recover"])
def test_what_fails_after_a_flip_says_that_it_is_done_and_the_next_command_ends_it(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch, failure: LancemigError, verb: str
) -> None:
    live.revision(RENAME)
    if verb != "upgrade":
        console.says("upgrade", "--no-flip")
    if verb == "recover":
        with monkeypatch.context() as patched:
            patched.setattr(runner, "flip", fails(StoreError("not yet")))
            console("flip")
    with monkeypatch.context() as patched:
        Meddling(patched, lambda: late(live, ROOT))
        patched.setattr(reconcile, "replicate", fails(failure))
        message = told(console, verb, status=1)
    assert f"flipped to {live.root}, which is live at 0002" in message
    assert f"late writes could not be carried over, because: {failure.message}" in message
    assert live.root != ROOT
    edit(live)
    console.says(*named(message))
    assert {"id": 7, "volume": 7.0} in live.rows("recordings")
    over(live, console)


def named(message: str) -> list[str]:
    """The first command that the message names, as arguments."""
    command = message.rpartition("\nnext: ")[2].partition("lancemig ")[2]
    return command.partition(";")[0].partition(",")[0].split()


def over(lab: Lab, console: Console) -> None:
    """No run is in flight, nothing is late, and a rollback works."""
    assert lab.catalog().in_flight() is None
    assert "no late writes" in console.says("reconcile")
    console.says("rollback")
    assert lab.root == ROOT


def test_a_flipped_run_whose_file_is_gone_is_ended_and_the_rows_are_not_forgotten(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_function(live)
    text = file(live).read_text()
    with monkeypatch.context() as patched:
        Meddling(patched, lambda: late(live, ROOT))
        patched.setattr(reconcile, "replicate", fails(StoreError("the bucket does not answer")))
        message = told(console, "upgrade", status=1)
    assert named(message) == ["recover"]
    assert "has flipped to" in console.refuses("rollback", status=3)
    assert "has already flipped" in console.refuses("recover", "--undo", status=3)
    edit(live)
    message = console.refuses("recover", status=1)
    assert "was edited after it was applied" in message
    assert "lancemig reconcile --discard" in message
    assert live.catalog().in_flight() is None
    assert "was written to after the flip" in console.says("status")
    console.refuses("reconcile", status=2)
    file(live).write_text(text)
    assert "1 row replicated" in console.says("reconcile")
    assert {"id": 7, "volume": 7.0} in live.rows("recordings")


@pytest.mark.parametrize("verb", ["recover", "upgrade"])
@pytest.mark.parametrize("broken", ["syntax", "no folder", "another revision"])
def test_a_flipped_run_is_ended_whatever_became_of_the_files(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch, verb: str, broken: str
) -> None:
    live.revision(RENAME)
    with monkeypatch.context() as patched:
        Meddling(patched, lambda: late(live, ROOT))
        patched.setattr(reconcile, "replicate", fails(StoreError("the bucket does not answer")))
        told(console, "upgrade", status=1)
    if broken == "syntax":
        file(live).write_text("operations = [[")
    elif broken == "no folder":
        shutil.rmtree(file(live).parent)
    else:
        live.revision('DropColumn(table="recordings", column="volume")')
        assert "lancemig recover" in told(console, "upgrade", status=3)
        verb = "recover"
    assert "lancemig recover" in told(console, "downgrade", "-1", status=3)
    console.says(verb)
    assert live.catalog().in_flight() is None
    assert {"id": 7, "volume": 7.0} in live.rows("recordings")


def test_an_interruption_after_the_commit_point_names_the_way_on(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.revision(RENAME)
    console.says("upgrade")
    late(live, live.root, column="volume")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(reconcile, "replicate", interrupted)
        message = told(console, "rollback", status=130)
    assert message.startswith(f"interrupted. rolled back to {ROOT} at 0001; the rest was not done")
    assert live.root == ROOT
    assert "lancemig reconcile" in told(console, "rollback", status=2)
    console.says(*named(message))
    assert {"id": 7, "gain": 7.0} in live.rows("recordings")


def test_late_writes_without_a_way_are_discarded_by_name(live: Lab, console: Console) -> None:
    with_function(live)
    console.says("upgrade")
    late(live, ROOT)
    file(live).unlink()
    message = console.refuses("reconcile", status=2)
    assert "lancemig reconcile --discard" in message
    assert "discarded: recordings: +1 rows, 1 commit" in console.says("reconcile", "--discard")
    assert console.json("reconcile", "--discard")["discarded"] == []
    assert "no late writes" in console.says("reconcile")
    assert len(live.rows("recordings")) == 2


def test_routes_over_two_flips_are_found_before_the_first_write(live: Lab, console: Console) -> None:
    live.revision(RENAME)
    console.says("upgrade")
    middle = live.root
    live.revision(
        'RenameColumn(table="recordings", column="volume", to="loudness"), '
        + BY_FUNCTION.replace("volume", "loudness"),
        above=LOUD.replace("volume", "loudness"),
    )
    console.says("upgrade")
    text = file(live, "0003").read_text()
    late(live, ROOT)
    edit(live, "0003")
    before = live.dataset("recordings", middle).version
    console.refuses("reconcile", status=2)
    assert live.dataset("recordings", middle).version == before
    assert len(list(live.catalog().store.pointers.chain(live.catalog().seen().pointer))) == 3
    file(live, "0003").write_text(text)
    console.says("reconcile")
    assert {"id": 7, "loudness": 7.0} in live.rows("recordings")


def test_a_write_between_the_question_and_the_rollback_is_told(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lancemig.commands import flip

    with_function(live)
    console.says("upgrade")
    new, asked = live.root, flip._refuse_without_routes

    def then_written(*given: object, **options: object) -> None:
        asked(*given, **options)  # type: ignore[arg-type]
        late(live, new, column="volume")
        file(live).unlink()

    monkeypatch.setattr(flip, "_refuse_without_routes", then_written)
    done = console("rollback")
    assert done.exit_code == 1
    assert live.root == ROOT
    assert "rolled back; late writes could not be carried back" in done.stdout
    assert "lancemig reconcile --discard" in done.stdout
    console.says("reconcile", "--discard")
    assert "no late writes" in console.says("reconcile")


def test_a_rollback_of_a_rollback_names_the_command_that_works(live: Lab, console: Console) -> None:
    with_function(live)
    console.says("upgrade")
    console.says("rollback")
    late(live, ROOT)
    edit(live)
    message = console.refuses("rollback", "--again", status=2)
    assert "lancemig rollback --again --discard" in message
    console.says("rollback", "--again", "--discard")
    assert live.root != ROOT


@pytest.mark.parametrize("gone", [False, True])
def test_nothing_to_carry_needs_no_file(live: Lab, console: Console, gone: bool) -> None:
    with_function(live)
    console.says("upgrade")
    if gone:
        shutil.rmtree(file(live).parent)
    else:
        edit(live)
    assert "no late writes" in console.says("reconcile")


def test_late_writes_to_a_table_that_no_operation_names_need_no_file(lab: Lab, console: Console) -> None:
    lab.revision(f"{CREATE.strip()} {OTHER}")
    console.says("upgrade")
    with_function(lab)
    console.says("upgrade")
    new = lab.root
    lab.append("notes", [{"id": 2}])
    file(lab).unlink()
    console.says("rollback")
    assert lab.root == ROOT
    assert lab.rows("notes") == [{"id": 1}, {"id": 2}]
    lab.append("notes", [{"id": 3}], new)
    assert "1 row replicated" in console.says("reconcile")


def test_an_entry_of_an_earlier_release_names_the_tables_of_its_steps(
    lab: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lancemig.apply import rebuild
    from lancemig.apply.run import applied_migrations

    monkeypatch.setattr(rebuild, "recorded_migrations", lambda c: applied_migrations(c.plan.staged))
    lab.revision(f"{CREATE.strip()} {OTHER}")
    console.says("upgrade")
    lab.revision(RENAME)
    console.says("upgrade")
    text = file(lab).read_text()
    lab.append("notes", [{"id": 2}])
    file(lab).unlink()
    console.says("rollback")
    assert lab.rows("notes") == [{"id": 1}, {"id": 2}]
    file(lab).write_text(text)
    console.says("rollback", "--again")
    late(lab, lab.root, column="volume")
    edit(lab)
    console.refuses("rollback", "--again", status=2)
    file(lab).write_text(text)
    console.says("rollback", "--again")
    assert {"id": 7, "gain": 7.0} in lab.rows("recordings")


def test_a_renamed_table_is_followed_by_the_lineage(live: Lab, console: Console) -> None:
    live.revision(
        'RenameTable(table="recordings", to="clips"), RenameColumn(table="clips", column="gain", to="v")'
    )
    console.says("upgrade")
    new = live.root
    late(live, ROOT)
    file(live).unlink()
    assert "1 row replicated" in console.says("reconcile")
    assert {"id": 7, "v": 7.0} in live.rows("clips")
    live.append("clips", [{"id": 8, "v": 8.0}], new)
    console.says("rollback")
    assert {"id": 8, "gain": 8.0} in live.rows("recordings")


def test_a_plan_of_a_flip_writes_nothing_and_counts(live: Lab, console: Console) -> None:
    live.revision(BUILD.replace("max_gone=0", "max_gone=1"))
    console.says("upgrade", "--no-flip")
    objects = live.catalog().store.objects
    before = [(item.key, item.size, item.modified) for item in objects.list("")]
    text = console.says("flip", "--plan")
    assert f"to       0002 (head)  {live.catalog().in_flight().staged_prefix}" in text  # type: ignore[union-attr]
    assert f"from     0001  {ROOT}" in text
    assert "derived  recordings: 1 key kept, 0 new, 1 gone; 1 row changed" in text
    assert console.json("flip", "--plan")["refused"] is False
    assert [(item.key, item.size, item.modified) for item in objects.list("")] == before
    console.says("flip")
    console.refuses("flip", "--plan", status=2)


def test_a_limit_that_refuses_a_flip_names_raising_it(live: Lab, console: Console) -> None:
    live.revision(BUILD.replace("max_gone=0", "max_gone=1"))
    console.says("upgrade", "--no-flip")
    live.append("recordings", [{"id": 8, "gain": 1.0}])
    assert "refused  the flip is refused because of recordings" in console.says("flip", "--plan")
    message = console.refuses("flip", status=4)
    assert "raise max_gone" in message
    assert "lancemig recover --undo" in message
    console.says("recover", "--undo")
    path = file(live)
    path.write_text(path.read_text().replace("max_gone=1", "max_gone=2"))
    console.says("upgrade")
    assert live.root != ROOT


def test_a_revision_in_place_before_the_one_that_fails_is_named(live: Lab, console: Console) -> None:
    live.revision('AddColumn(table="recordings", column=pa.field("note", pa.string()))')
    live.revision(f"{RENAME}, {BY_FUNCTION}", above=LOUD.replace("pc.multiply", "pc.no_such"))
    message = told(console, "upgrade", status=1)
    assert "v1/ is at 0002; the rest was not done, because: " in message
    assert live.catalog().in_flight() is None
    assert console.json("current")["revision"] == "0002"


def test_late_writes_that_conflict_after_a_flip_are_no_success(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.revision(RENAME)

    def both() -> None:
        live.dataset("recordings", ROOT).update({"gain": "5.0"}, where="id = 1")
        live.dataset("recordings").update({"volume": "6.0"}, where="id = 1")

    with monkeypatch.context() as patched:
        Meddling(patched, both)
        done = console("upgrade")
    assert done.exit_code == 1
    assert "recordings" in done.stdout
    assert "next: lancemig reconcile --when-exists overwrite" in done.stderr
    over_run = live.catalog().in_flight()
    assert over_run is None
    console.says("reconcile", "--when-exists", "overwrite")
    assert {"id": 1, "volume": 5.0} in live.rows("recordings")


def test_the_lineage_records_operations_as_data_and_no_code(live: Lab, console: Console) -> None:
    live.revision(f"{RENAME}, {BY_FUNCTION}", above=LOUD, downgrade=BACK)
    live.revision('RenameColumn(table="recordings", column="volume", to="loudness")')
    console.says("upgrade")
    first, second = console.json("history", "--lineage")["entries"][0]["migrations"]
    rename, computed = first["operations"]
    assert rename["fields"] == {
        "op": "rename_column",
        "table": "recordings",
        "column": "gain",
        "to": "volume",
    }
    assert computed["fields"] is None
    assert [each["fields"]["to"] for each in first["reverse"]] == ["gain"]
    assert [each["fields"]["to"] for each in second["operations"][0]["inverse"]] == ["volume"]
    live.append("recordings", [{"id": 7, "loudness": 7.0}])
    file(live).unlink()
    console.says("rollback")
    assert {"id": 7, "gain": 7.0} in live.rows("recordings")


def test_a_record_that_does_not_say_what_ran_is_not_used(
    live: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a release whose operations this one does not know."""
    from lancemig.apply import run

    inner = run._recorded
    monkeypatch.setattr(
        run, "_recorded", lambda operation: inner(operation).model_copy(update={"content": "other"})
    )
    live.revision(RENAME)
    console.says("upgrade")
    late(live, ROOT)
    text = file(live).read_text()
    edit(live)
    assert "was edited after it was applied" in console.refuses("reconcile", status=2)
    file(live).write_text(text)
    console.says("reconcile")
    assert {"id": 7, "volume": 7.0} in live.rows("recordings")
