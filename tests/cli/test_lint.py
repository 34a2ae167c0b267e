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
    assert console.says("lint") == "nothing found\n"
    assert console.says("lint", "--format", "github") == ""
    assert console.json("lint")["ok"] is True


@pytest.mark.parametrize("pattern", ["LM016", "LM0", "LM*6", "LM01?", "lm01", "LM0…"])
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

    def test_an_unknown_commit_is_named(self, branch: Lab, console: Console):
        assert "git fetch" in console.refuses("lint", "--base", "origin/nowhere", status=2)

    def test_an_option_is_no_commit(self, branch: Lab, console: Console):
        console.refuses("lint", "--base=--output=x", status=2)
        assert not (branch.folder / "x").exists()

    def test_outside_a_repository_it_is_refused(self, lab: Lab, console: Console):
        lab.revision(CREATE)
        said = console.refuses("lint", "--base", "main", status=2)
        assert "no git repository" in said
        assert "without --base" in said

    def test_a_machine_without_git_is_told(
        self, branch: Lab, console: Console, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("PATH", "")
        assert "git cannot be run" in console.refuses("lint", "--base", "main", status=2)
