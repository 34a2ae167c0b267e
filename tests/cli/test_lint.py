"""`lancemig lint` as it is called: what it prints, which files it looks at, what it ends with."""

import json
import os
from pathlib import Path

import pytest
from console import CREATE, DOUBLE, Console
from lab import Lab
from repository import committed, git, started

GOLDEN = Path(__file__).parent.parent / "golden" / "lint"
DROP = 'DropColumn(table="recordings", column="gain")'
ALL = """
    CreateTable(table="people", schema={"id": "int64", "email": "string"}),
    DropColumn(table="recordings", column="gain"),
    UpdateRows(table="recordings", set={"id": "id + 1"}),
    AddColumn(table="recordings", column="rate: float64", using=rates, reads=("id",)),
"""
RATES = """
import random

def rates(batch: pa.RecordBatch) -> pa.Array:
    print(batch)  # lancemig: ignore[LM011]
    return pa.array([random.random() for _ in range(batch.num_rows)])
"""


def codes(console: Console, *arguments: str, status: int = 1) -> list[str]:
    return [each["code"] for each in console.json("lint", *arguments, status=status)["findings"]]


@pytest.fixture
def shown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A project with much to find, as its own folder sees it."""
    lab.revision(CREATE)
    lab.revision(ALL, above=RATES, kind="rebuild")
    monkeypatch.chdir(lab.folder)
    return lab


@pytest.mark.parametrize("form", ["text", "github"])
def test_what_is_printed(shown: Lab, console: Console, form: str):
    done = console("lint", "--format", form)
    assert done.exit_code == 1
    path = GOLDEN / f"{form}.txt"
    if os.environ.get("ACCEPT"):
        path.write_text(done.stdout, encoding="utf-8")
    assert done.stdout == path.read_text(encoding="utf-8")


def test_json_has_place_and_level(shown: Lab, console: Console):
    found = console.json("lint", status=1)["findings"]
    [drop] = [each for each in found if each["code"] == "LM001"]
    assert (drop["path"], drop["line"], drop["level"]) == ("versions/0002.py", 23, "error")
    assert json.loads(console("lint", "--format", "json").stdout)["findings"] == found


def test_nothing_found_is_said_and_is_success(lab: Lab, console: Console):
    assert console.says("lint") == "no findings\n"
    assert console.says("lint", "--format", "github") == ""
    assert console.json("lint")["ok"] is True


@pytest.mark.parametrize("pattern", ["LM016", "LM0", "LM*6", "LM01?", "lm01", "LM0…", "LM001, LM016"])
def test_a_code_is_ignored_by_pattern(lab: Lab, console: Console, pattern: str):
    lab.revision(CREATE)
    assert codes(console) == ["LM210", "LM016"]
    assert codes(console, "--ignore", pattern) == ["LM210"]
    assert codes(console, "--ignore", pattern, "--ignore", "LM2", status=0) == []


def test_the_sum_file_is_looked_at(lab: Lab, console: Console):
    lab.revision(CREATE)
    assert codes(console, "--ignore", "LM016") == ["LM210"]
    console.says("rehash")
    assert codes(console, "--ignore", "LM016", status=0) == []
    lab.revision(DOUBLE)
    assert "LM212" in codes(console)


def test_a_file_that_does_not_load_does_not_hide_the_others(lab: Lab, console: Console):
    lab.revision(CREATE)
    lab.revision("Nonsense()")
    lab.revision(DROP)
    assert codes(console, "--ignore", "LM016", "--ignore", "LM210") == ["LM200", "LM001"]


def test_two_heads_do_not_hide_what_is_in_the_files(lab: Lab, console: Console):
    lab.revision(CREATE)
    lab.revision(DROP)
    lab.revision(DROP)
    file = lab.folder / "versions" / "0003.py"
    file.write_text(file.read_text().replace('"0002"', '"0001"'))
    assert codes(console, "--ignore", "LM016") == ["LM200", "LM001", "LM001"]


def test_a_file_that_is_no_python_has_a_place_and_hides_nothing(lab: Lab, console: Console):
    lab.revision(CREATE)
    lab.revision(DROP)
    lab.revision(DROP)
    (lab.folder / "versions" / "0002.py").write_text("operations = [\n")
    (lab.folder / "versions" / "0003.py").write_text('revision = "0003"\n')
    found = console.json("lint", "--ignore", "LM01", status=1)["findings"]
    said = [(each["code"], Path(each["path"]).name, each["line"]) for each in found]
    assert said == [("LM200", "0002.py", 1), ("LM200", "0003.py", None)]
    assert "'[' was never closed" in found[0]["message"]
    assert found[0]["path"] not in found[0]["message"]


@pytest.mark.parametrize(
    ("operations", "line"),
    [
        ("\n  Nonsense(),\n", 16),
        ('\n  DropTable(table="t"),\n  "text",\n', 17),
        ('\n  DropTable(table="t", colum=1),\n', 16),
        ('\n  AddColumn(table="t", column="a: int64", using=lambda b: b, reads=("id",)),\n', 16),
    ],
)
def test_what_does_not_load_is_at_its_line(lab: Lab, console: Console, operations: str, line: int):
    lab.revision(operations)
    [found] = console.json("lint", "--ignore", "LM21", status=1)["findings"]
    assert (found["code"], Path(found["path"]).name, found["line"]) == ("LM200", "0001.py", line)
    offline = console("check", "--offline", "--format", "github").stdout
    assert f"0001.py,line={line},title=LM200::" in offline
    assert f"0001.py:{line}: {found['message']}" in console("check", "--offline").stdout


def test_what_is_nested_too_deep_is_a_finding(lab: Lab, console: Console):
    lab.revision("", above="DEEP = " + " + ".join(["[]"] * 5000))
    [found] = console.json("lint", "--ignore", "LM21", status=1)["findings"]
    assert (found["code"], Path(found["path"]).name) == ("LM200", "0001.py")


def test_a_kind_that_promises_too_much_is_at_its_line(lab: Lab, console: Console):
    lab.revision('DropTable(table="t")', kind="additive")
    [found] = console.json("lint", "--ignore", "LM21", status=1)["findings"]
    assert (found["code"], found["line"]) == ("LM200", 11)


def test_two_heads_are_told_at_the_later_file(lab: Lab, console: Console):
    lab.revision(CREATE)
    lab.revision(DROP)
    lab.revision(DROP)
    file = lab.folder / "versions" / "0003.py"
    file.write_text(file.read_text().replace('"0002"', '"0001"'))
    [found] = console.json("lint", "--ignore", "LM0", status=1)["findings"]
    assert (found["code"], Path(found["path"]).name, found["line"]) == ("LM200", "0003.py", None)


class TestAnnotations:
    def annotations(self, console: Console, **environ: str) -> list[str]:
        return console("lint", "--format", "github", "--ignore", "LM016,LM21", **environ).stdout.splitlines()

    def test_what_workflow_commands_are_made_of_is_escaped(self, shown: Lab, console: Console):
        lab = shown
        for name in ("0001.py", "0002.py"):
            (lab.folder / "versions" / name).unlink()
        lab.written.clear()
        rev = lab.revision('\nUpdateRows(table="t", set={"a": "a %\\n2 :: b"}, where="id > 1")')
        odd = lab.folder / "versions" / "a,b;c%d:e.py"
        (lab.folder / "versions" / f"{rev}.py").rename(odd)
        [line] = [each for each in self.annotations(console) if "LM007" in each]
        assert line.startswith(
            "::error file=versions/a%2Cb;c%25d%3Ae.py,line=16,title=LM007::t.a is set from itself"
        )
        assert "(a = a %25%0A2 :: b)" in line

    def test_paths_are_counted_from_the_top_of_the_repository(
        self, shown: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
    ):
        top = str(shown.folder.parent)
        name = shown.folder.name
        found = self.annotations(console, GITHUB_WORKSPACE=top)
        assert found
        assert all(f" file={name}/versions/" in each for each in found if "file=" in each)
        elsewhere = self.annotations(console, GITHUB_WORKSPACE=str(shown.folder / "nowhere"))
        assert any(" file=versions/" in each for each in elsewhere)


def test_it_touches_no_store_and_writes_nothing(lab: Lab, console: Console):
    lab.revision(CREATE)
    before = sorted(path for path in lab.folder.rglob("*") if "__pycache__" not in str(path))
    codes(console)
    assert sorted(path for path in lab.folder.rglob("*") if "__pycache__" not in str(path)) == before
    assert not list(Path(lab.place.store).iterdir())


class TestBase:
    @pytest.fixture
    def branch(self, lab: Lab, console: Console) -> Lab:
        """One revision in `main`, and a branch."""
        lab.revision(CREATE)
        console.says("rehash")
        started(lab.folder)
        git(lab.folder, "checkout", "-q", "-b", "mine")
        return lab

    def linted(self, console: Console, base: str = "main", status: int = 1) -> list[str]:
        document = console.json("lint", "--base", base, "--ignore", "LM21", status=status)
        return [f"{each['code']} {Path(each['path'] or '').name}" for each in document["findings"]]

    def test_only_what_is_new_is_linted(self, branch: Lab, console: Console):
        assert self.linted(console, status=0) == []
        branch.revision(DROP)
        assert self.linted(console) == ["LM016 0002.py", "LM001 0002.py"]
        committed(branch.folder, "mine")
        assert self.linted(console) == ["LM016 0002.py", "LM001 0002.py"]

    def test_what_main_got_meanwhile_is_not(self, branch: Lab, console: Console):
        branch.revision(DROP)
        committed(branch.folder, "mine")
        git(branch.folder, "checkout", "-q", "main")
        other = branch.folder / "versions" / "0002_other.py"
        other.write_text((branch.folder / "versions" / "0001.py").read_text())
        committed(branch.folder, "theirs")
        git(branch.folder, "checkout", "-q", "mine")
        assert self.linted(console) == ["LM016 0002.py", "LM001 0002.py"]

    def test_a_file_that_got_another_name_is_new(self, branch: Lab, console: Console):
        versions = branch.folder / "versions"
        (versions / "0001.py").rename(versions / "0001_first.py")
        assert self.linted(console) == ["LM016 0001_first.py"]

    def test_a_changed_file_that_others_follow_is_found(self, branch: Lab, console: Console):
        git(branch.folder, "checkout", "-q", "main")
        branch.revision(DROP)
        committed(branch.folder, "theirs")
        git(branch.folder, "checkout", "-q", "-b", "late")
        file = branch.folder / "versions" / "0001.py"
        file.write_text(file.read_text() + "# edited\n")
        assert self.linted(console) == ["LM016 0001.py", "LM017 0001.py"]

    def test_a_folder_below_the_top_of_the_repository_is_one_too(self, branch: Lab, console: Console):
        """Paths are told from the folder of the revisions, wherever the repository begins."""
        folder = branch.folder
        (folder / "sub").mkdir()
        for name in ("versions", "lancemig.ini"):
            (folder / name).rename(folder / "sub" / name)
        committed(folder, "moved")
        git(folder, "branch", "-f", "main")
        (folder / "sub" / "versions" / "0001.py").write_text("nonsense")
        config = str(folder / "sub" / "lancemig.ini")
        done = console("-c", config, "lint", "--base", "main")
        assert done.exit_code == 1
        assert "LM200" in done.stdout

    def test_a_shallow_clone_counts_from_the_commit_itself(
        self, branch: Lab, console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ):
        branch.revision(DROP)
        committed(branch.folder, "mine")
        git(branch.folder, "checkout", "-q", "main")
        (branch.folder / "note").write_text("theirs")
        committed(branch.folder, "theirs")
        clone = tmp_path / "clone"
        origin = f"file://{branch.folder}"
        git(tmp_path, "clone", "-q", "--depth=1", "--branch", "mine", origin, str(clone))
        git(clone, "fetch", "-q", "--depth=1", "origin", "main:refs/remotes/origin/main")
        monkeypatch.chdir(clone)
        done = console("-c", "lancemig.ini", "lint", "--base", "origin/main", "--ignore", "LM21", "--json")
        found = json.loads(done.stdout)["findings"]
        assert [(each["code"], each["path"]) for each in found] == [
            ("LM016", "versions/0002.py"),
            ("LM001", "versions/0002.py"),
        ]

    def test_all_that_is_found_ignored_is_success(self, branch: Lab, console: Console):
        branch.revision(DROP)
        base = ("lint", "--base", "main", "--ignore", "LM21")
        assert console(*base).exit_code == 1
        assert console(*base, "--ignore", "LM016", "--ignore", "LM001").exit_code == 0
        assert console(*base, "--ignore", "LM016", "--ignore", "LM001", "--format", "github").stdout == ""

    def test_an_unknown_commit_is_named(self, branch: Lab, console: Console):
        assert "git fetch" in console.refuses("lint", "--base", "origin/nowhere", status=2)

    def test_an_option_is_no_commit(self, branch: Lab, console: Console):
        console.refuses("lint", "--base=--output=x", status=2)
        assert not (branch.folder / "x").exists()

    def test_outside_a_repository_it_is_refused(self, lab: Lab, console: Console):
        lab.revision(CREATE)
        said = console.refuses("lint", "--base", "main", status=2)
        assert "not in a git repository" in said
        assert "without --base" in said

    def test_a_machine_without_git_is_told(
        self, branch: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("PATH", "")
        assert "git cannot be run" in console.refuses("lint", "--base", "main", status=2)
