"""Every verb: its words, its exit status, its JSON, and what goes to which stream."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from console import BOOM, CREATE, DOUBLE, RAISES, RENAME, Console
from lab import Lab
from servers import Place

from lancemig.cli import main
from lancemig.plan.plan import Plan
from lancemig.store.objects import WriteOk

FORMATS = Path(__file__).parent.parent / "formats"


def pointer(lab: Lab) -> dict:
    return json.loads((Path(lab.place.store) / "ACTIVE.json").read_text())


def write_pointer(lab: Lab, text: str) -> None:
    (Path(lab.place.store) / "ACTIVE.json").write_text(text)


def test_the_help_names_the_verbs_in_the_order_of_a_life() -> None:
    said = CliRunner().invoke(main, ["--help"]).stdout
    verbs = re.findall(r"^  (\w+)  ", said, re.MULTILINE)
    wanted = ["init", "revision", "heads", "history", "show", "current", "status", "check", "upgrade",
              "downgrade", "stamp", "recover", "unlock", "flip", "rollback", "reconcile"]  # fmt: skip
    assert [verb for verb in verbs if verb in wanted] == wanted


def test_the_help_says_of_each_verb_all_in_a_line() -> None:
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)
    _, _, verbs = result.output.partition("Files:")
    assert [line for line in verbs.splitlines() if line.endswith("...")] == []


def test_a_project_is_made_and_its_first_revision_written(tmp_path: Path) -> None:
    run = CliRunner()
    config = str(tmp_path / "new" / "lancemig.ini")
    made = run.invoke(main, ["init", str(tmp_path / "new")])
    assert made.exit_code == 0
    assert "next: " in made.stdout
    written = run.invoke(main, ["-c", config, "-x", "store=data", "revision", "-m", "Add gain"])
    assert written.exit_code == 0, written.output
    assert "0001_add_gain.py" in written.stdout
    again = run.invoke(main, ["init", str(tmp_path / "new")])
    assert again.exit_code == 2
    assert "already exists" in again.stderr


def test_files_are_listed_shown_and_headed(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    assert console.says("heads").startswith("0002 (head)")
    assert console.says("history").splitlines()[0].startswith("0001 -> 0002 (head)")
    assert "Parent: base" in console.says("history", "-v")
    assert "gain * 2" in console.says("show")
    assert "CreateTable" in console.says("show", "0001")
    assert [r["revision"] for r in console.json("history")["revisions"]] == ["0001", "0002"]
    assert console.json("heads")["revisions"][0]["revision"] == "0002"


def test_the_state_of_a_catalog_is_told(live: Lab, console: Console) -> None:
    assert console.says("current") == "0001 (head)  v1/\n"
    assert console.json("current")["revision"] == "0001"
    assert console.says("check") == "in sync\n"
    live.revision(DOUBLE)
    assert console.says("current") == "0001  v1/\n"
    status = console.says("status")
    assert "pending  0002" in status
    assert status.endswith("next     lancemig upgrade --plan\n")
    found = console.json("status")
    assert found["pending"] == ["0002"]
    assert found["tables"]["recordings"]["rows"] == 2


def test_an_upgrade_shows_its_plan_then_what_it_did(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    done = console("upgrade")
    assert done.exit_code == 0
    assert "target   0002  (upgrade, 1 revision)" in done.stdout
    assert "0002 operation 1  recordings: 2 rows changed" in done.stdout
    assert done.stdout.endswith("done     0002  v1/\n")
    assert "gain * 2" in done.stderr, "progress"
    assert console.says("upgrade").endswith("at 0002\nnothing to do\n")


@pytest.mark.slow
@pytest.mark.parametrize("verbose", [False, True])
def test_what_lance_warns_of_stands_between_the_lines_only_if_asked_for(lab: Lab, verbose: bool) -> None:
    lab.revision(
        """CreateTable(table="t", schema=["v: fixed_size_list<float32>[4]"],
                rows=[{"v": [1.0] * 4} for _ in range(300)]),
        CreateIndex(table="t", column="v", type="IVF_FLAT", params={"num_partitions": 2})"""
    )
    command = [sys.executable, "-m", "lancemig", *(["-v"] if verbose else []), "upgrade"]
    environ = {name: text for name, text in os.environ.items() if name != "LANCE_LOG"}
    done = subprocess.run(command, cwd=lab.folder, capture_output=True, text=True, env=environ)
    assert done.returncode == 0
    assert ("WARN" in done.stderr) == verbose


def test_a_plan_is_shown_and_nothing_done(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    done = console("upgrade", "--plan")
    assert done.stderr == ""
    assert "[data-only, in place]" in done.stdout
    assert console.json("upgrade", "--plan")["kind"] == "data-only"
    assert live.rows("recordings")[0]["gain"] == 1.0


def test_json_of_an_upgrade_is_one_document(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    done = console.json("upgrade")
    assert done["live"] == {"prefix": "v1/", "revision": "0002"}
    assert done["steps"][0]["changed"] == 2


def test_minus_one_is_a_target(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    console.says("upgrade", "+1")
    assert console.says("downgrade", "-1").endswith("done     0001  v1/\n")
    assert live.rows("recordings")[0]["gain"] == 1.0
    assert console("downgrade", "-q").exit_code == 2
    assert console("downgrade").exit_code == 2


def test_up_and_down_are_not_confused(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    assert "next: lancemig upgrade 0002" in console.refuses("downgrade", "0002", status=2)
    console.says("upgrade")
    assert "next: lancemig downgrade 0001" in console.refuses("upgrade", "0001", status=2)


def test_a_rebuild_is_staged_flipped_and_rolled_back(live: Lab, console: Console) -> None:
    live.revision(RENAME)
    said = console.says("upgrade", "--no-flip")
    assert said.endswith("(verified); next: lancemig flip\n")
    assert console.json("status")["next"] == "lancemig flip"
    assert "next: lancemig flip" in console.refuses("upgrade", status=3)
    assert "done     0002  lancemig-staging-" in console.says("flip")
    assert live.rows("recordings") == [{"id": 1, "volume": 1.0}, {"id": 2, "volume": 2.0}]
    live.append("recordings", [{"id": 3, "gain": 3.0}], root="v1/")
    assert console.says("reconcile") == "recordings: 1 row replicated\n"
    assert console.says("reconcile") == "no late writes in previous roots\n"
    assert console.json("reconcile")["tables"][0]["rows"] == 0
    said = console.says("rollback", "--note", "too early")
    assert said.startswith("live     0001  v1/\n")
    assert pointer(live)["note"] == "too early"
    actions = [entry["action"] for entry in console.json("history", "--lineage")["entries"]]
    assert actions == ["reconcile", "rollback", "reconcile", "flip", "upgrade"]
    verified = console("history", "--verify")
    assert "lineage verified: 5 entries in one chain" in verified.stderr


def test_rows_that_cannot_be_brought_over_make_reconcile_exit_1(live: Lab, console: Console) -> None:
    live.revision(RENAME)
    console.says("upgrade")
    live.dataset("recordings", "v1/").delete("id = 1")
    live.dataset("recordings").update({"volume": "7.0"}, where="id = 1")
    done = console("reconcile")
    assert done.exit_code == 1
    assert "recordings: id=1 was deleted in the source root, but changed in the target root" in done.stdout
    assert "recordings: 1 row unchanged (live values kept)" in console.says(
        "reconcile", "--when-exists", "keep"
    )
    assert console.says("reconcile") == "no late writes in previous roots\n"


def test_nothing_to_roll_back_flip_reconcile_or_recover_is_said(live: Lab, console: Console) -> None:
    assert "no flip has happened yet" in console.refuses("rollback", status=2)
    assert "no staged root is waiting for the flip" in console.refuses("flip", status=2)
    assert "v9/ is not a staged root" in console.refuses("flip", "--prefix", "v9/", status=2)
    assert "not made by a rebuild" in console.refuses("reconcile", status=2)
    assert "no run is in progress" in console.refuses("recover", status=2)
    assert console.says("unlock") == "no lock is held\n"


def test_an_unfinished_run_is_named_and_recovered_or_undone(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    live.revision(f"{DOUBLE}, {RAISES}", above=BOOM)
    message = console.refuses("upgrade", status=1)
    assert "v1/ is at 0002; the rest was not done, because: " in message
    assert "boom() raised ValueError: no" in message
    assert console.json("check", status=1)["findings"][0]["code"] == "LM402"
    assert "next     lancemig recover" in console.says("status")
    assert "next: finish it: lancemig recover" in console.refuses("downgrade", "-1", status=3)
    assert "next: " in console.refuses("stamp", "head", status=3)
    assert console("recover").exit_code == 2
    assert console.says("recover", "--undo").endswith("undone\n")
    assert live.rows("recordings")[0]["gain"] == 2.0
    assert console.json("current")["revision"] == "0002"


def test_sections_configs_and_overrides_choose_the_catalog(
    live: Lab, console: Console, tmp_path: Path, local_place: Place
) -> None:
    ini = live.folder / "lancemig.ini"
    ini.write_text(f"{ini.read_text()}\n[prod]\nfallback_prefix = v7/\npointer = prod/ACTIVE.json\n")
    assert console.says("-n", "prod", "current") == "base  v7/\n"
    assert console.says("-x", "pointer=other.json", "current") == "base  v1/\n"
    other = tmp_path / "other.ini"
    other.write_text(ini.read_text().replace("fallback_prefix = v1/", "fallback_prefix = v8/", 1))
    assert console.says("-c", str(other), "-x", "pointer=other.json", "current") == "base  v8/\n"
    assert console("current", LANCEMIG_CONFIG=str(other)).stdout == "0001 (head)  v1/\n"


def test_a_protected_catalog_wants_its_name(live: Lab, console: Console) -> None:
    ini = live.folder / "lancemig.ini"
    ini.write_text(ini.read_text() + "protected = true\n")
    live.revision(DOUBLE)
    assert "gain * 2" in console.says("upgrade", "--plan")
    downgraded = console("downgrade", "-1")
    assert (downgraded.exit_code, "next: add --confirm lancemig" in downgraded.stderr) == (2, True)
    for verb in (["stamp", "head"], ["flip"], ["rollback"], ["reconcile"], ["recover"]):
        assert "next: add --confirm lancemig" in console.refuses(*verb, status=2)
    for given in ((), ("--confirm", "prod"), ("--confirm", "")):
        refused = console("upgrade", *given)
        assert refused.exit_code == 2
        assert "next: add --confirm lancemig" in refused.stderr
    assert live.rows("recordings")[0]["gain"] == 1.0
    console.says("upgrade", "--confirm", "lancemig")
    assert live.rows("recordings")[0]["gain"] == 2.0


def as_0_1_0_wrote_it(document: dict) -> dict:
    """A plan as release 0.1.0 saved it, and put into its sidecars: see tests/formats/1/plan-up.json."""
    old = {name: value for name, value in document.items() if name not in ("digest_version", "checksum")}
    for migration in old["migrations"]:
        for step in migration["steps"]:
            step.pop("content", None)
    plan = Plan.model_validate({name: value for name, value in old.items() if name != "digest"})
    stored = json.loads((FORMATS / "1" / "plan-up.json").read_text())
    assert set(old) == set(stored)
    assert set(old["migrations"][0]["steps"][0]) == set(stored["migrations"][0]["steps"][0])
    return {**old, "digest": plan.digest}


class TestASavedPlan:
    @pytest.fixture
    def plan(self, live: Lab, console: Console) -> Path:
        live.revision(DOUBLE)
        path = live.folder / "plan.json"
        done = console("upgrade", "--plan", "--out", str(path))
        assert done.exit_code == 0
        assert f"lancemig upgrade --from {path}" in done.stderr
        return path

    def test_is_applied_as_it_is(self, live: Lab, console: Console, plan: Path) -> None:
        live.revision(DOUBLE)
        assert console.says("upgrade", "--from", str(plan)).endswith("done     0002  v1/\n")
        assert live.rows("recordings")[0]["gain"] == 2.0

    def test_outlives_appended_rows(self, live: Lab, console: Console, plan: Path) -> None:
        live.append("recordings", [{"id": 3, "gain": 3.0}])
        console.says("upgrade", "--from", str(plan))
        assert [row["gain"] for row in live.rows("recordings")] == [2.0, 4.0, 6.0]

    def test_is_stale_after_an_update(self, live: Lab, console: Console, plan: Path) -> None:
        live.dataset("recordings").update({"gain": "0.0"})
        said = console.refuses("upgrade", "--from", str(plan), status=3)
        assert "recordings: Update at version 2" in said

    def test_is_stale_after_another_upgrade(self, console: Console, plan: Path) -> None:
        console.says("upgrade")
        assert "the pointer is at 0002" in console.refuses("upgrade", "--from", str(plan), status=3)

    def test_is_stale_once_a_table_is_gone_or_new(self, live: Lab, console: Console, plan: Path) -> None:
        folder = Path(live.place.store) / "v1" / "catalog"
        (folder / "recordings.lance").rename(folder / "others.lance")
        assert "table recordings is missing" in console.refuses("upgrade", "--from", str(plan), status=3)

    def test_is_stale_once_its_file_was_edited(self, live: Lab, console: Console, plan: Path) -> None:
        file = live.folder / "versions" / "0002.py"
        file.write_text(file.read_text() + "\n# edited\n")
        assert "0002.py was edited since" in console.refuses("upgrade", "--from", str(plan), status=3)

    def test_that_was_edited_is_refused(self, console: Console, plan: Path) -> None:
        plan.write_text(plan.read_text().replace("gain * 2", "gain * 3"))
        assert "was changed after it was saved" in console.refuses("upgrade", "--from", str(plan), status=2)

    def test_as_0_1_0_saved_it_is_applied(self, live: Lab, console: Console, plan: Path) -> None:
        document = as_0_1_0_wrote_it(json.loads(plan.read_text()))
        plan.write_text(json.dumps(document))
        assert console.says("upgrade", "--from", str(plan)).endswith("done     0002  v1/\n")
        assert live.rows("recordings")[0]["gain"] == 2.0
        [entry, *_] = live.catalog().store.pointers.chain(live.catalog().seen().pointer)
        assert entry.plan_digest == document["digest"]

    def test_as_0_1_0_saved_it_and_edited_since_is_refused(self, console: Console, plan: Path) -> None:
        document = as_0_1_0_wrote_it(json.loads(plan.read_text()))
        plan.write_text(json.dumps(document).replace("gain * 2", "gain * 3"))
        assert "its digest does not match" in console.refuses("upgrade", "--from", str(plan), status=2)

    @pytest.mark.parametrize("words", [("upgrade", "--from", "plan.json"), ("upgrade",)], ids=["--from", ""])
    def test_a_run_that_0_1_0_began_goes_on(
        self, live: Lab, console: Console, plan: Path, words: tuple[str, ...]
    ) -> None:
        live.revision(RENAME)
        console.says("upgrade", "--plan", "--out", str(plan))
        plan.write_text(json.dumps(as_0_1_0_wrote_it(json.loads(plan.read_text()))))
        console.says("upgrade", "--from", str(plan), "--no-flip")
        [sidecar] = (Path(live.place.store) / "_lancemig" / "runs").glob("*.json")
        run = json.loads(sidecar.read_text())
        written = as_0_1_0_wrote_it(run["plan"])
        assert run["plan_digest"] == written["digest"]
        sidecar.write_text(json.dumps({**run, "phase": "catch-up", "no_flip": False, "plan": written}))
        words = tuple(str(plan) if word == "plan.json" else word for word in words)
        assert "done     0003" in console.says(*words)
        assert not list(sidecar.parent.glob("*.json"))

    def test_of_a_newer_release_is_refused(self, console: Console, plan: Path) -> None:
        plan.write_text(json.dumps({**json.loads(plan.read_text()), "digest_version": 3}))
        said = console.refuses("upgrade", "--from", str(plan), status=2)
        assert "has digest_version 3; this lancemig knows up to 2" in said

    def test_of_a_downgrade_is_stale_once_an_earlier_file_leads_to_another(
        self, live: Lab, console: Console, plan: Path
    ) -> None:
        live.revision('SetKey(table="recordings", key=())')
        console.says("upgrade")
        console.says("downgrade", "0002", "--plan", "--out", str(plan))
        file = live.folder / "versions" / "0001.py"
        file.write_text(file.read_text().replace('key=("id",)', 'key=("gain",)'))
        said = console.refuses("upgrade", "--from", str(plan), status=3)
        assert "step 0003/down.0 is 'set key gain' now, not what was planned" in said

    def test_of_another_catalog_is_refused(self, live: Lab, console: Console, plan: Path) -> None:
        ini = live.folder / "lancemig.ini"
        ini.write_text(f"{ini.read_text()}\n[prod]\nlock_ttl = 60\n")
        said = console.refuses("-n", "prod", "upgrade", "--from", str(plan), status=2)
        assert "is for the catalog lancemig" in said

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1}', "\x00\xff"])
    def test_that_is_none_is_refused(self, console: Console, plan: Path, text: str) -> None:
        plan.write_bytes(text.encode("latin-1"))
        console.refuses("upgrade", "--from", str(plan), status=2)


class TestCheck:
    def codes(self, console: Console) -> list[str]:
        return [finding["code"] for finding in console.json("check", status=1)["findings"]]

    def test_finds_a_catalog_behind_its_files(self, live: Lab, console: Console) -> None:
        live.revision(DOUBLE)
        assert self.codes(console) == ["LM401"]
        assert "next: lancemig upgrade --plan" in console("check").stdout

    def test_finds_a_file_edited_after_it_was_applied(self, live: Lab, console: Console) -> None:
        file = live.folder / "versions" / "0001.py"
        file.write_text(file.read_text() + "\n# edited\n")
        assert self.codes(console) == ["LM201"]

    def test_finds_a_revision_that_no_file_describes(self, live: Lab, console: Console) -> None:
        live.revision(DOUBLE)
        console.says("upgrade")
        (live.folder / "versions" / "0002.py").unlink()
        assert self.codes(console) == ["LM202"]
        assert "git pull" in console.refuses("upgrade", status=3)

    def test_finds_a_broken_lineage(self, live: Lab, console: Console) -> None:
        tampered(live)
        assert self.codes(console) == ["LM203"]

    def test_finds_two_heads_without_a_store(self, live: Lab, console: Console) -> None:
        live.revision(DOUBLE)
        live.revision(DOUBLE)
        file = live.folder / "versions" / "0003.py"
        file.write_text(file.read_text().replace('"0002"', '"0001"'))
        assert self.codes(console) == ["LM200"]
        assert console("check", "--offline").exit_code == 1
        assert "0002" in console("heads").stdout
        assert "0003" in console("heads").stdout

    def test_finds_a_file_that_does_not_load_without_a_store(self, live: Lab, console: Console) -> None:
        assert console.says("check", "--offline") == "in sync\n"
        live.revision("Nonsense()")
        assert self.codes(console) == ["LM200"]


def tampered(lab: Lab, old: str = '"rows_after": 2', new: str = '"rows_after": 3') -> None:
    [entry] = (Path(lab.place.store) / "_lancemig" / "lineage").glob("*.json")
    assert old in entry.read_text()
    entry.write_text(entry.read_text().replace(old, new))


@pytest.mark.parametrize("old", ['"rows_after": 2', '"seq": 1', '"actor"', "{"])
def test_a_tampered_lineage_entry_is_found_by_verify(live: Lab, console: Console, old: str) -> None:
    tampered(live, old, old.replace("2", "3").replace("1", "2").replace("actor", "actress").replace("{", ""))
    refusal = console.refuses("history", "--verify", status=1)
    assert re.search(r"lineage entry (_lancemig/lineage/)?000001-", refusal)


def test_a_missing_lineage_entry_is_found_by_verify(live: Lab, console: Console) -> None:
    [entry] = (Path(live.place.store) / "_lancemig" / "lineage").glob("*.json")
    entry.unlink()
    assert "is missing" in console.refuses("history", "--verify", status=1)


class TestStamp:
    def test_makes_the_first_pointer_of_a_catalog_never_seen(self, lab: Lab, console: Console) -> None:
        lab.revision(CREATE)
        assert console.says("stamp", "head", "--note", "as it was") == "stamped  0001 (head)  v1/\n"
        assert pointer(lab)["revision"] == "0001"
        assert console.json("history", "--lineage")["entries"][0]["action"] == "stamp"
        assert console.says("upgrade").endswith("at 0001\nnothing to do\n")
        assert lab.tables() == []

    def test_keeps_what_others_wrote_into_the_pointer(self, lab: Lab, console: Console) -> None:
        lab.revision(CREATE)
        write_pointer(lab, '{"active_prefix": "v3/", "previous_prefix": "v2/", "team": {"a": [1]}}')
        assert console.says("current") == "base  v3/\n"
        console.says("stamp", "0001")
        found = pointer(lab)
        assert (found["active_prefix"], found["previous_prefix"]) == ("v3/", "v2/")
        assert found["team"] == {"a": [1]}
        console.says("stamp", "base")
        assert pointer(lab)["team"] == {"a": [1]}
        assert pointer(lab)["revision"] is None

    def test_of_an_unknown_revision_is_refused(self, console: Console) -> None:
        console.refuses("stamp", "0009", status=2)


@pytest.mark.usefixtures("live")
class TestUnlock:
    def lock(self, lab: Lab, text: str) -> None:
        store = lab.catalog().store
        assert isinstance(store.objects.write_if(store.lock_key, text.encode(), None), WriteOk)

    @pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"format": 7}'])
    def test_removes_what_is_no_lock_only_by_force(self, live: Lab, console: Console, text: str) -> None:
        self.lock(live, text)
        live.revision(DOUBLE)
        assert "unlock --force" in console.refuses("upgrade", status=3)
        assert "unlock --force" in console.refuses("unlock", status=3)
        assert console.says("unlock", "--force").startswith("removed the lock _lancemig/lock.json")
        console.says("upgrade")


def test_a_pinned_catalog_is_read_and_never_changed(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    pinned = ("-x", "resolution=pinned")
    assert console.says(*pinned, "current") == "base  v1/\n"
    for verb in (["stamp", "head"], ["rollback"], ["reconcile"], ["flip"]):
        assert "resolution = pinned" in console.refuses(*pinned, *verb, status=2)


def test_the_traceback_is_shown_when_asked_for(lab: Lab, console: Console) -> None:
    lab.revision("Nonsense()")
    done = console("-v", "upgrade")
    assert done.exit_code == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.count("\nnext: ") >= 1


class TestRollback:
    RENAME = 'RenameColumn(table="recordings", column="gain", to="level")'

    def test_carries_back_what_was_written_since_and_is_not_repeated_by_accident(
        self, live: Lab, console: Console
    ) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        rebuilt = live.root
        live.append("recordings", [{"id": 3, "level": 3.0}])
        live.dataset("recordings").update({"level": "9.0"}, where="id = 1")
        live.dataset("recordings").delete("id = 2")
        plan = console.says("rollback", "--plan")
        assert plan.splitlines() == [
            "to       0001  v1/",
            f"from     0002  {rebuilt}",
            "         since the flip: recordings: +0 rows, 3 commits; can be carried back: "
            "1 inserted, 1 updated, 1 deleted",
        ]
        assert live.root == rebuilt
        assert console.json("rollback", "--plan")["done"] is False
        done = console("rollback")
        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            "live     0001  v1/",
            f"previous 0002  {rebuilt}",
            "         since the flip: recordings: +0 rows, 3 commits",
            "         recordings: 3 rows replicated",
        ]
        assert live.rows("recordings") == [{"id": 1, "gain": 9.0}, {"id": 3, "gain": 3.0}]
        refusal = console.refuses("rollback", status=2)
        assert "was a rollback" in refusal
        assert "lancemig rollback --again" in refusal
        assert live.root == "v1/"

    def test_a_writer_that_missed_the_rollback_is_told_and_reconciled(
        self, live: Lab, console: Console
    ) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        rebuilt = live.root
        console.says("rollback")
        live.append("recordings", [{"id": 4, "level": 4.0}], rebuilt)
        assert f"recordings in {rebuilt} was written to after the rollback" in console.says("status")
        assert console.says("reconcile") == "recordings: 1 row replicated\n"
        assert live.rows("recordings")[-1] == {"id": 4, "gain": 4.0}
        assert "LM403" not in console.says("status")

    def test_what_is_discarded_is_not_brought_later_either(self, live: Lab, console: Console) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        live.append("recordings", [{"id": 3, "level": 3.0}])
        assert "discarded: these writes stay there and are not carried back" in console.says(
            "rollback", "--discard"
        )
        assert console.says("reconcile") == "no late writes in previous roots\n"
        assert [row["id"] for row in live.rows("recordings")] == [1, 2]
        assert "LM403" not in console.says("status")

    def test_what_was_rolled_back_can_be_upgraded_again_with_all_rows(
        self, live: Lab, console: Console
    ) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        live.append("recordings", [{"id": 3, "level": 3.0}])
        console.says("rollback")
        live.append("recordings", [{"id": 4, "gain": 4.0}])
        console.says("upgrade")
        assert [(row["id"], row["level"]) for row in live.rows("recordings")][2:] == [(3, 3.0), (4, 4.0)]
        assert "LM403" not in console.says("status")

    def test_forward_again_brings_what_was_written_in_between(self, live: Lab, console: Console) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        assert "no writes since the flip" in console.says("rollback")
        live.append("recordings", [{"id": 3, "gain": 3.0}])
        there = console.json("rollback", "--again")
        assert there["live"]["revision"] == "0002"
        assert there["left"] == {"prefix": "v1/", "revision": "0001"}
        assert there["carried_back"][0]["rows"] == 1
        assert live.rows("recordings")[-1] == {"id": 3, "level": 3.0}

    def test_what_cannot_go_back_is_named_with_the_reason(self, live: Lab, console: Console) -> None:
        live.revision(
            """RetypeColumn(table="recordings", column="gain", to="int32", using="cast(gain * 100 as int)"),
            CreateTable(table="fresh", schema=["id: int64"])"""
        )
        live.upgrade()
        live.append("recordings", [{"id": 3, "gain": 3}])
        live.append("fresh", [{"id": 1}])
        plan = console.says("rollback", "--plan")
        assert "recordings: +1 rows, 1 commit; cannot be carried back: " in plan
        assert (
            "fresh: +1 rows, 1 commit; cannot be carried back: the other root does not have this table"
            in plan
        )
        done = console("rollback")
        assert done.exit_code == 1
        assert live.root == "v1/"
        assert "recordings: rows cannot be replicated: " in done.stdout

    def test_what_lancemig_did_there_since_is_nothing_to_carry_back(
        self, live: Lab, console: Console
    ) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        live.revision('AddColumn(table="recordings", column="c: int64", sql="id")')
        live.upgrade()
        assert "no writes since the flip" in console.says("rollback", "--plan")
        assert console("rollback").exit_code == 0
        assert "LM403" not in console.says("status")

    def test_rows_that_a_later_revision_changed_are_not_carried_back(
        self, live: Lab, console: Console
    ) -> None:
        live.revision(self.RENAME)
        live.upgrade()
        live.revision('UpdateRows(table="recordings", set={"level": "level * 2"})')
        live.upgrade()
        live.append("recordings", [{"id": 3, "level": 3.0}])
        assert "revision 0003 changed its rows after the flip" in console.says("rollback", "--plan")
        console.says("downgrade", "0002")
        console.says("rollback")
        assert [row["gain"] for row in live.rows("recordings")] == [1.0, 2.0, 3.0]


class TestStragglers:
    def test_a_writer_that_missed_the_flip_is_told_by_status_and_before_the_next_one(
        self, live: Lab, console: Console
    ) -> None:
        live.revision('RenameColumn(table="recordings", column="gain", to="level")')
        live.upgrade()
        late = {"id": 99, "gain": 1.0}
        live.append("recordings", [late], "v1/")
        found = console.says("status")
        assert "LM403" in found
        assert "recordings in v1/ was written to after the flip" in found
        assert found.rstrip().splitlines()[-1].startswith("next     lancemig reconcile")
        live.revision('RenameColumn(table="recordings", column="level", to="gain")')
        assert "LM403" in console("upgrade", "--plan").stderr
        console.says("reconcile")
        assert "LM403" not in console.says("status")
        assert "LM403" not in console("upgrade", "--plan").stderr
