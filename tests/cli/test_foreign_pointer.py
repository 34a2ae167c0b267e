"""Another program writes the pointer: every verb notices, none acts on it, and `stamp` is the way on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from console import CREATE, DOUBLE, RENAME, Console
from lab import ROOT, Lab
from servers import NewPlace

from lancemig.commands import adopt, status
from lancemig.errors import ForeignPointer

Edit = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture
def flipped(live: Lab, console: Console) -> Lab:
    """Two revisions later: one in place, and a flip away from `v1/`."""
    live.revision(DOUBLE)
    live.revision(RENAME)
    console.says("upgrade")
    store = Path(live.place.store)
    shutil.copytree(store / live.root, store / "copy")
    return live


def pointer(lab: Lab) -> Path:
    return Path(lab.place.store) / "ACTIVE.json"


def rewrite(lab: Lab, edit: Edit) -> dict[str, Any]:
    """Write the pointer as another program does; returns the pointer before."""
    before = json.loads(pointer(lab).read_text())
    after = edit(dict(before))
    if after is None:
        pointer(lab).unlink()
    else:
        pointer(lab).write_text(json.dumps(after))
    return before


EDITS: dict[str, tuple[Edit, str]] = {
    "only two keys": (
        lambda now: {"active_prefix": "copy/", "previous_prefix": now["active_prefix"]},
        "names no lineage entry",
    ),
    "another root": (lambda now: {**now, "active_prefix": "copy/"}, "it names copy/ at 0003, but"),
    "another revision": (lambda now: {**now, "revision": "0001"}, "at 0001, but its lineage entry"),
    "back by hand": (
        lambda now: {**now, "active_prefix": now["previous_prefix"], "previous_prefix": now["active_prefix"]},
        "it names v1/ at 0003, but",
    ),
    "deleted": (lambda _: None, "another program deleted the pointer ACTIVE.json"),
}
every_edit = pytest.mark.parametrize(("edit", "why"), EDITS.values(), ids=list(EDITS))


@every_edit
def test_every_verb_that_reads_says_so(flipped: Lab, console: Console, edit: Edit, why: str) -> None:
    rewrite(flipped, edit)
    [finding] = console.json("check", status=1)["findings"]
    assert finding["code"] == "LM410"
    assert why in finding["message"]
    assert "lancemig stamp REVISION" in finding["next_step"]
    shown = console("status")
    assert "LM410" in shown.stdout
    assert "next     find out who wrote it" in shown.stdout
    for verb in (["current"], ["history", "--lineage"]):
        done = console(*verb)
        assert done.exit_code == 0
        assert why in done.stderr
    verified = console("history", "--verify")
    assert (verified.exit_code, why in verified.stderr) == (3, True)
    doctor = console("doctor")
    assert (doctor.exit_code, why in " ".join(doctor.stdout.split())) == (1, True)


@every_edit
@pytest.mark.parametrize(
    "verb",
    [
        ["gc"],
        ["gc", "--plan"],
        ["upgrade"],
        ["upgrade", "--plan"],
        ["downgrade", "-1"],
        ["rollback"],
        ["rollback", "--plan"],
        ["reconcile"],
        ["archive", "v1/"],
        ["detach"],
    ],
    ids=" ".join,
)
def test_every_verb_that_acts_is_refused(
    flipped: Lab, console: Console, edit: Edit, why: str, verb: list[str]
) -> None:
    flipped.revision(DOUBLE.replace("gain", "volume"))
    rewrite(flipped, edit)
    before = {p: p.read_bytes() for p in Path(flipped.place.store).rglob("*") if p.is_file()}
    assert why in console.refuses(*verb, status=3)
    after = {p: p.read_bytes() for p in Path(flipped.place.store).rglob("*") if p.is_file()}
    assert after == before


@every_edit
def test_putting_it_back_ends_it(flipped: Lab, console: Console, edit: Edit, why: str) -> None:
    del why
    before = rewrite(flipped, edit)
    pointer(flipped).write_text(json.dumps(before))
    assert console("check").exit_code == 0
    console.says("gc", "--plan")


def test_a_stamp_continues_the_newest_chain_and_names_the_writer(flipped: Lab, console: Console) -> None:
    before = rewrite(flipped, EDITS["only two keys"][0])
    console.says("stamp", "0003", "--note", "moved by hand")
    after = json.loads(pointer(flipped).read_text())
    assert (after["active_prefix"], after["previous_prefix"], after["revision"]) == (
        "copy/",
        before["active_prefix"],
        "0003",
    )
    entry, parent, *_ = status.history(flipped.catalog())
    assert (entry.parent, parent.id) == (before["lineage"], before["lineage"])
    assert entry.foreign is not None
    assert entry.foreign.active_prefix == "copy/"
    assert entry.foreign.written_by == pointer(flipped).owner()
    assert entry.foreign.written_at is not None
    assert "that another program wrote at" in console.says("history", "--lineage", "-v")
    console.says("history", "--verify")
    assert console("check").exit_code == 0
    assert "was live, not archived" in console.says("gc", "--plan")
    console.says("rollback")
    assert flipped.root == before["active_prefix"]
    assert console("check").exit_code == 0
    assert [row["volume"] for row in flipped.rows("recordings")] == [2.0, 4.0]


def test_guards_survive_a_stamp(flipped: Lab, console: Console) -> None:
    guards = flipped.catalog().store.tables.guards(ROOT, "recordings")
    rewrite(flipped, EDITS["another root"][0])
    console.says("stamp", "0003")
    console.says("gc", "--force")
    assert flipped.catalog().store.tables.guards(ROOT, "recordings") == guards


def test_a_rollback_by_hand_is_stamped_and_late_rows_are_reconciled(flipped: Lab, console: Console) -> None:
    new = flipped.root
    rewrite(flipped, EDITS["back by hand"][0])
    flipped.append("recordings", [{"id": 7, "volume": 7.0}], root=new)
    console.says("stamp", "0002")
    assert "recordings: 1 row" in console.says("reconcile")
    assert 7 in [row["id"] for row in flipped.rows("recordings", ROOT)]


def test_a_deleted_pointer_is_made_anew_by_a_stamp(flipped: Lab, console: Console) -> None:
    ini = flipped.folder / "lancemig.ini"
    ini.write_text(ini.read_text().replace("fallback_prefix = v1/", f"fallback_prefix = {flipped.root}"))
    rewrite(flipped, EDITS["deleted"][0])
    console.says("stamp", "0003")
    console.says("history", "--verify")
    assert len(status.history(flipped.catalog())) == 4
    assert console("check").exit_code == 0


def test_an_edit_while_a_run_goes_on_stops_it_at_its_conditional_write(live: Lab, console: Console) -> None:
    body = f"""
import json
from pathlib import Path

def loud(batch):
    path = Path({str(pointer(live))!r})
    path.write_text(json.dumps({{**json.loads(path.read_text()), "active_prefix": "elsewhere/"}}))
    return pc.multiply(batch.column("gain"), 3.0)
"""
    operation = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=loud)'
    live.revision(operation, above=body)
    message = console.refuses("upgrade", status=3)
    assert "the pointer ACTIVE.json was changed by another process" in message
    again = console.refuses("upgrade", status=3)
    assert "it names elsewhere/ at 0001, but its lineage entry" in again
    now = json.loads(pointer(live).read_text())
    pointer(live).write_text(json.dumps({**now, "active_prefix": ROOT}))
    console.says("recover")
    assert [row["gain"] for row in live.rows("recordings")] == [3.0, 6.0]


def test_an_unfinished_run_can_be_undone_beside_a_foreign_pointer(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    live.revision(RENAME)
    console.says("upgrade", "--no-flip")
    rewrite(live, lambda now: {**now, "active_prefix": "elsewhere/"})
    assert "it names elsewhere/" in console.refuses("flip", status=3)
    console.says("recover", "--undo")
    console.says("stamp", "0002")
    assert status.history(live.catalog())[0].foreign is not None


def test_an_entry_that_does_not_exist_breaks_the_lineage_until_a_stamp(
    flipped: Lab, console: Console
) -> None:
    rewrite(flipped, lambda now: {**now, "lineage": "000009-0123456789ab"})
    for verb in (["history", "--verify"], ["gc", "--plan"], ["upgrade"], ["rollback"]):
        message = console.refuses(*verb, status=1)
        assert "lineage entry 000009-0123456789ab is missing" in message
        assert "lancemig stamp REVISION" in message
    assert "LM203" in console("check").stdout
    console.says("stamp", "0003")
    console.says("history", "--verify")
    assert console("check").exit_code == 0
    assert len(status.history(flipped.catalog())) == 4


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: json.dumps(json.loads(text), indent=8).replace("\n", "\r\n"),
        lambda text: json.dumps({**json.loads(text), "owner": "lab", "note": "a remark"}),
        lambda text: json.dumps(dict(reversed(json.loads(text).items()))),
    ],
    ids=["another layout", "more keys", "another order"],
)
def test_what_says_the_same_is_not_foreign(
    flipped: Lab, console: Console, edit: Callable[[str], str]
) -> None:
    pointer(flipped).write_bytes(edit(pointer(flipped).read_text()).encode())
    assert console("check").exit_code == 0
    console.says("gc", "--plan")
    console.says("rollback")
    assert status.current(flipped.catalog()).prefix == ROOT


def test_a_pointer_without_any_lineage_is_adopted(lab: Lab, console: Console) -> None:
    lab.revision(CREATE)
    pointer(lab).write_text(json.dumps({"active_prefix": "theirs/", "kept": [1]}))
    console.says("upgrade")
    assert json.loads(pointer(lab).read_text())["kept"] == [1]
    assert len(lab.rows("recordings", "theirs/")) == 2


@pytest.mark.s3
def test_in_a_bucket_it_is_the_same(tmp_path: Path, new_place: NewPlace) -> None:
    lab = Lab(tmp_path, new_place("moto"))
    lab.revision(CREATE)
    lab.upgrade()
    objects = lab.catalog().store.objects
    body = objects.read("ACTIVE.json")
    assert body is not None
    objects.write_if("ACTIVE.json", b'{"active_prefix": "theirs/"}', body.version_token)
    lab.revision(DOUBLE)
    with pytest.raises(ForeignPointer, match=r"another program wrote the pointer ACTIVE.json at \d{4}-"):
        lab.upgrade()
    adopt.stamp(lab.catalog(), "0001")
    assert [entry.foreign is not None for entry in status.history(lab.catalog())] == [True, False]
