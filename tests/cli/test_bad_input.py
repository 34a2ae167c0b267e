"""What people and stores do wrong: one message, exit status, next command; the catalog stays as it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from console import BOOM, CREATE, DOUBLE, RAISES, RENAME, Console
from lab import Lab
from proxy import Proxy, answered, request_lost
from servers import Place

from lancemig.apply.lock import hold_lock
from lancemig.store.objects import ObjectBody


def file(lab: Lab, rev: str) -> Path:
    return lab.folder / "versions" / f"{rev}.py"


def store(lab: Lab) -> Path:
    return Path(lab.place.store)


def snapshot(lab: Lab) -> dict[str, bytes]:
    """Every byte of the store, but for the lock file of the directory itself."""
    return {
        str(path.relative_to(store(lab))): path.read_bytes()
        for path in store(lab).rglob("*")
        if path.is_file() and ".lancemig" not in path.parts
    }


class TestAFileThatIsWrong:
    @pytest.fixture(autouse=True)
    def untouched(self, live: Lab) -> object:
        before = snapshot(live)
        yield
        assert snapshot(live) == before

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("operations = [", "operations = [[", "0002.py"),
            ("operations = [", "operations = [\n    UpdateRows(tabel='x'),", "did you mean table?"),
            ("operations = [", "operations = [\n    Frobnicate(),", "Frobnicate"),
            ('down_revision = "0001"', 'down_revision = "0007"', "0007"),
            ('down_revision = "0001"', 'down_revision = "0002"', "0002"),
            ('down_revision = "0001"', "down_revision = None", "0001"),
            ("import pyarrow as pa", "import pyarrow as pa\nprint(1)", "0002.py"),
            ('revision = "0002"', 'revision = "0001"', "0001"),
        ],
        ids=["syntax", "field", "name", "missing parent", "own parent", "two bases", "a call", "twice"],
    )
    def test_is_named(self, live: Lab, console: Console, old: str, new: str, said: str) -> None:
        live.revision(DOUBLE)
        text = file(live, "0002").read_text()
        assert old in text
        file(live, "0002").write_text(text.replace(old, new, 1))
        assert said in console.refuses("upgrade", status=2)

    def test_two_heads_are_both_named(self, live: Lab, console: Console) -> None:
        live.revision(DOUBLE)
        live.revision(DOUBLE)
        text = file(live, "0003").read_text()
        file(live, "0003").write_text(text.replace('"0002"', '"0001"'))
        said = console.refuses("upgrade", status=2)
        assert "0002" in said
        assert "0003" in said

    def test_a_cycle_is_named(self, live: Lab, console: Console) -> None:
        live.revision(DOUBLE)
        live.revision(DOUBLE)
        text = file(live, "0002").read_text()
        file(live, "0002").write_text(text.replace('"0001"', '"0003"'))
        assert "0003" in console.refuses("upgrade", status=2)

    def test_a_kind_too_weak_is_refused(self, live: Lab, console: Console) -> None:
        live.revision(RENAME, kind="additive")
        assert 'write kind = "rebuild"' in console.refuses("upgrade", status=2)

    @pytest.mark.parametrize(
        "operation",
        [
            'UpdateRows(table="nope", set={"gain": "1.0"})',
            'UpdateRows(table="recordings", set={"nope": "1.0"})',
            'UpdateRows(table="recordings", set={"gain": "nope * 2"})',
            'UpdateRows(table="recordings", set={"gain": "gain *"})',
            'DropTable(table="nope")',
            'RetypeColumn(table="recordings", column="gain", to="nonsense")',
            'RequireColumn(table="recordings", column="nope")',
            'AddColumn(table="recordings", column=pa.field("gain", pa.int8()))',
        ],
    )
    def test_an_impossible_operation_is_refused_by_the_plan(
        self, live: Lab, console: Console, operation: str
    ) -> None:
        live.revision(operation)
        assert "0002" in console.refuses("upgrade", status=2)

    def test_an_unknown_target_is_refused(self, console: Console) -> None:
        for target in ("0009", "+3", "nonsense"):
            console.refuses("upgrade", target, status=2)


class TestAFunctionThatRaises:
    SAID = "boom() raised ValueError: no"

    def test_in_place_leaves_all_as_it_was(self, live: Lab, console: Console) -> None:
        live.revision(RAISES, above=BOOM)
        said = console.refuses("upgrade", status=2)
        assert f"step 0002/0 (backfill gain from boom(gain) on recordings): {self.SAID}" in said
        assert live.rows("recordings")[0]["gain"] == 1.0
        assert live.catalog().in_flight() is None

    def test_in_a_rebuild_leaves_the_live_root_alone(self, live: Lab, console: Console) -> None:
        live.revision(f"{RENAME}, {RAISES.replace('gain', 'volume')}", above=BOOM)
        done = console("upgrade")
        assert (done.exit_code, self.SAID in done.stderr) == (2, True)
        assert live.rows("recordings") == [{"id": 1, "gain": 1.0}, {"id": 2, "gain": 2.0}]
        assert live.catalog().in_flight() is None

    def test_can_be_mended_and_the_same_command_goes_on(self, live: Lab, console: Console) -> None:
        live.revision(RAISES, above=BOOM)
        console.refuses("upgrade", status=2)
        self.mend(live)
        console.says("upgrade")

    def test_after_a_step_that_landed_leaves_a_run_to_be_undone(self, live: Lab, console: Console) -> None:
        live.revision(f"{DOUBLE}, {RAISES}", above=BOOM)
        said = console.refuses("upgrade", status=2)
        assert "next: undo the changes of this run: lancemig recover --undo" in said
        broken = self.mend(live)
        said = console.refuses("upgrade", status=3)
        assert "was edited since" in said
        assert "git checkout" in console.refuses("recover", "--undo", status=3)
        file(live, "0002").write_text(broken)
        console.says("recover", "--undo")
        assert live.rows("recordings")[0]["gain"] == 1.0
        self.mend(live)
        console.says("upgrade")
        assert live.rows("recordings")[0]["gain"] == 2.0

    def mend(self, lab: Lab) -> str:
        broken = file(lab, "0002").read_text()
        file(lab, "0002").write_text(broken.replace('raise ValueError("no")', "return batch.column(0)"))
        return broken


class TestAPointerThatIsWrong:
    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "7", "null", "{}", '{"active_prefix": 7}', '{"format": 2, "active_prefix": "v1/"}',
         '{"format": "x", "active_prefix": "v1/"}', "\xff\xfe"],
    )  # fmt: skip
    def test_is_refused_and_kept(self, live: Lab, console: Console, text: str) -> None:
        (store(live) / "ACTIVE.json").write_bytes(text.encode("latin-1"))
        for verb in (["upgrade"], ["current"], ["status"], ["check"], ["stamp", "head"], ["rollback"]):
            assert "the pointer ACTIVE.json" in console.refuses(*verb, status=2)
        assert (store(live) / "ACTIVE.json").read_bytes() == text.encode("latin-1")

    def test_and_names_a_root_without_tables_is_told_by_the_plan(self, live: Lab, console: Console) -> None:
        live.revision(DOUBLE)
        (store(live) / "ACTIVE.json").write_text('{"active_prefix": "v9/", "revision": "0001"}')
        assert "another program wrote the pointer ACTIVE.json" in console.refuses("upgrade", status=3)
        assert "tables   none" in console.says("status")


class TestASidecarThatIsWrong:
    @pytest.mark.parametrize(
        ("text", "status"), [("", 6), ("{", 6), ("{}", 6), ("[]", 6), ('{"format": 2}', 2), ("\xff", 6)]
    )
    def test_is_refused_and_kept(self, live: Lab, console: Console, text: str, status: int) -> None:
        live.revision(DOUBLE)
        runs = store(live) / "_lancemig" / "runs"
        runs.mkdir()
        (runs / "x.json").write_bytes(text.encode("latin-1"))
        for verb in (["upgrade"], ["check"], ["status"], ["stamp", "head"], ["recover"]):
            assert "_lancemig/runs/x.json" in console.refuses(*verb, status=status)
        assert (runs / "x.json").read_bytes() == text.encode("latin-1")


class TestConfiguration:
    def test_without_a_file(self, console: Console) -> None:
        assert "does not exist" in console.refuses("-c", "/nowhere/lancemig.ini", "status", status=2)

    def test_without_the_section(self, console: Console) -> None:
        assert "no section [prod]" in console.refuses("-n", "prod", "status", status=2)

    def test_without_the_variable(self, lab: Lab, console: Console) -> None:
        ini = lab.folder / "lancemig.ini"
        ini.write_text(ini.read_text().replace("v1/", "${NOWHERE_SET}/"))
        assert "NOWHERE_SET" in console.refuses("status", status=2)

    def test_without_a_root(self, lab: Lab, console: Console) -> None:
        ini = lab.folder / "lancemig.ini"
        ini.write_text("".join(line for line in ini.open() if "fallback" not in line))
        assert "fallback_prefix" in console.refuses("status", status=2)

    def test_with_a_store_whose_folder_is_not_there(self, console: Console) -> None:
        console.refuses("-x", "store=/nowhere/at/all", "status", status=6)


class TestAStagedRoot:
    def test_that_went_missing_is_not_flipped_to(self, live: Lab, console: Console) -> None:
        live.revision(RENAME)
        console.says("upgrade", "--no-flip")
        [staged] = store(live).glob("lancemig-staging-*")
        shutil.rmtree(staged)
        said = console("flip")
        assert said.exit_code in (4, 6), said.output
        assert "Traceback" not in said.output
        assert live.root == "v1/"
        console.says("recover", "--undo")
        console.says("upgrade")
        assert live.rows("recordings")[0] == {"id": 1, "volume": 1.0}

    def test_that_lost_rows_is_not_flipped_to(self, live: Lab, console: Console) -> None:
        live.revision(RENAME)
        console.says("upgrade", "--no-flip")
        staged = f"{next(store(live).glob('lancemig-staging-*')).name}/"
        live.dataset("recordings", staged).delete("id = 1")
        said = console.refuses("flip", status=4)
        assert "1 key is missing, for example id=1" in said
        assert live.root == "v1/"

    def test_that_was_never_verified_is_not_flipped_to(self, live: Lab, console: Console) -> None:
        live.revision(RENAME)
        console.says("upgrade", "--no-flip")
        [sidecar] = (store(live) / "_lancemig" / "runs").iterdir()
        run = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps({**run, "phase": "stage"}))
        staged = run["staged_prefix"]
        assert "is incomplete" in console.refuses("flip", "--prefix", staged, status=2)
        assert f"{staged} is" in console.refuses("flip", "--prefix", "v1/", status=2)
        assert live.root == "v1/"


class TestAStore:
    @pytest.fixture
    def lab(self, tmp_path: Path, s3_place: Place, proxy: Proxy) -> Lab:
        lab = Lab(tmp_path, Place("moto", s3_place.store, {"endpoint": proxy.endpoint}))
        lab.revision(CREATE)
        lab.upgrade()
        lab.revision(DOUBLE)
        return lab

    @pytest.mark.s3
    @pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
    def test_that_refuses_everything_is_told(self, lab: Lab, proxy: Proxy, status: int, code: str) -> None:
        for method in ("GET", "HEAD", "PUT"):
            proxy.always_on(method, answered(status, code))
        console = Console(lab)
        for verb in ("status", "upgrade"):
            console.refuses(verb, status=6)
        proxy.forget()
        console.says("upgrade")

    @pytest.mark.s3
    @pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
    def test_that_refuses_writing_is_told_and_nothing_is_changed(
        self, lab: Lab, proxy: Proxy, status: int, code: str
    ) -> None:
        proxy.always_on("PUT", answered(status, code))
        proxy.always_on("POST", answered(status, code))
        console = Console(lab)
        console.refuses("upgrade", status=6)
        proxy.forget()
        assert lab.rows("recordings")[0]["gain"] == 1.0
        console.says("upgrade")

    @pytest.mark.s3
    def test_that_is_missing_is_told(self, tmp_path: Path, s3_place: Place) -> None:
        place = Place("moto", "s3://no-such-bucket-anywhere", s3_place.options)
        console = Console(Lab(tmp_path / "other", place))
        assert "no-such-bucket-anywhere" in console.refuses("status", status=6)


def cli(lab: Lab, *arguments: str, before: Sequence[str] = ()) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*before, sys.executable, "-m", "lancemig", *arguments],
        cwd=lab.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SLOW = """
import time

def slow(batch: pa.RecordBatch) -> pa.Array:
    time.sleep(3)
    return pc.multiply(batch.column(0), 2.0)
"""
SLOWLY = 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=slow)'


@pytest.mark.slow
@pytest.mark.parametrize("operations", [f"{SLOWLY}, {DOUBLE}", f"{SLOWLY}, {RENAME}"], ids=["place", "root"])
def test_ctrl_c_stops_with_130_and_the_same_command_finishes(
    live: Lab, console: Console, operations: str
) -> None:
    live.revision(operations, above=SLOW)
    process = cli(live, "upgrade")
    deadline = time.monotonic() + 20
    while live.catalog().in_flight() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert live.catalog().store.objects.read(live.catalog().store.lock_key) is None
    console.says("upgrade")
    values = {tuple(row.values()) for row in live.rows("recordings")}
    assert values in ({(1, 4.0), (2, 8.0)}, {(1, 2.0), (2, 4.0)})


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_the_same_command_finishes(live: Lab, console: Console) -> None:
    """The limit on the size of a file stands in for the disk's end."""
    rows = ", ".join(f'{{"id": {n}, "gain": {n}.5}}' for n in range(10, 60))
    live.revision(f"{DOUBLE}, UpsertRows(table='recordings', on=('id',), rows=[{rows}])")
    process = cli(live, "upgrade", before=("sh", "-c", 'ulimit -f 2; exec "$@"', "sh"))
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 6, stderr
    assert "Traceback" not in stderr
    console.says("upgrade")
    assert [row["gain"] for row in live.rows("recordings")[:3]] == [2.0, 4.0, 10.5]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("room", [96, 128, 192, 256], ids=lambda room: f"{room}k")
def test_a_disk_that_is_really_full_stops_the_run_and_the_same_command_finishes(
    live: Lab, tmp_path: Path, room: int
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={room}k", "lancemig-test", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        shutil.copytree(live.place.store, small / "store")
        lab = Lab(tmp_path / "project", Place("local", str(small / "store")))
        shutil.copy(file(live, "0001"), file(lab, "0001"))
        lab.written.append("0001")
        lab.revision(f"{DOUBLE}, {RENAME}, CreateIndex(table='recordings', column='volume', type='BTREE')")
        console = Console(lab)
        done = console("upgrade")
        assert done.exit_code in (0, 6), done.output
        if done.exit_code:
            assert "Traceback" not in done.output
            assert lab.root == "v1/"
            assert lab.rows("recordings")[0]["gain"] == 1.0
            subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
            console.says("upgrade")
        assert lab.rows("recordings") == [{"id": 1, "volume": 2.0}, {"id": 2, "volume": 4.0}]
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_lock_that_is_held_names_its_owner(live: Lab, console: Console) -> None:
    live.revision(DOUBLE)
    objects, key = live.catalog().store.objects, live.catalog().store.lock_key
    catalog = live.catalog(actor="ada", host="elsewhere", machine="another")
    with hold_lock(objects, key, "r1", catalog.environment, 60):
        said = console.refuses("upgrade", status=3)
        assert "run r1 of ada@elsewhere" in said
        assert "unlock --force" in said
        found = objects.read(key)
        assert isinstance(found, ObjectBody)
        assert json.loads(found.body)["run"] == "r1"
    assert live.rows("recordings")[0]["gain"] == 1.0


@pytest.mark.s3
def test_a_store_that_does_not_answer_is_told(
    live: Lab, s3_place: Place, proxy: Proxy, tmp_path: Path
) -> None:
    for method in ("GET", "HEAD", "PUT"):
        proxy.always_on(method, request_lost)
    place = Place("moto", s3_place.store, {"endpoint": proxy.endpoint})
    Console(Lab(tmp_path / "dark", place)).refuses("status", status=6)


@pytest.mark.parametrize(
    ("typed", "idle"),
    [
        ("upgrade --plan --report skipped.jsonl", "--report has no effect with --plan"),
        ("upgrade --plan --postpone-flip wait", "--postpone-flip has no effect with --plan"),
        ("downgrade -1 --plan --report skipped.jsonl", "--report has no effect with --plan"),
        ("rollback --plan --again", "--again has no effect with --plan"),
        ("rollback --plan --discard", "--discard has no effect with --plan"),
        ("rollback --discard --when-exists keep", "--when-exists has no effect with --discard"),
        ("reconcile --every 3", "--every requires --watch"),
    ],
)
def test_an_option_without_an_effect_is_refused(live: Lab, console: Console, typed: str, idle: str) -> None:
    before = snapshot(live)
    done = console(*typed.split())
    assert done.exit_code == 2
    assert idle in done.stderr
    assert snapshot(live) == before
    assert not (live.folder / "skipped.jsonl").exists()


def test_a_target_beside_a_saved_plan_is_refused(live: Lab, console: Console, tmp_path: Path) -> None:
    live.revision(DOUBLE)
    console.says("upgrade", "--plan", "--out", str(tmp_path / "plan.json"))
    done = console("upgrade", "0001", "--from", str(tmp_path / "plan.json"))
    assert (done.exit_code, "TARGET has no effect with --from" in done.stderr) == (2, True)
    console.says("upgrade", "--from", str(tmp_path / "plan.json"))


def test_a_panic_of_lance_while_reading_is_a_message(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    panic = type("PanicException", (BaseException,), {})

    def panics(*_: object, **__: object) -> None:
        raise panic("index out of bounds")

    monkeypatch.setattr("lancemig.commands.status.status", panics)
    done = console("status")
    assert done.exit_code == 2
    assert done.stderr == "lancemig: Lance failed internally: index out of bounds\nnext: lancemig check\n"
