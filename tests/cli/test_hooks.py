"""Hooks: programs that are run on the files which verbs write, as lancemig.ini asks."""

import sys

import pytest
from console import CREATE, Console
from lab import Lab

APPEND = "import sys; open(sys.argv[1], 'a').write('# ' + ' '.join(sys.argv[2:]) + chr(10))"


def hooked(lab: Lab, *lines: str) -> None:
    (lab.folder / "append.py").write_text(APPEND)
    with (lab.folder / "lancemig.ini").open("a") as ini:
        ini.write("\n[post_write_hooks]\n" + "\n".join(lines) + "\n")


def written(lab: Lab, name: str) -> str:
    return (lab.folder / "versions" / name).read_text()


def test_each_hook_is_run_in_its_turn(lab: Lab, console: Console) -> None:
    hooked(
        lab,
        "hooks = one, two",
        "one.type = exec",
        f"one.executable = {sys.executable}",
        "one.options = %(here)s/append.py REVISION_SCRIPT_FILENAME first 'two words'",
        "two.type = module",
        "two.module = append",
        "two.options = second",
    )
    said = console("revision", "-m", "New")
    assert said.output == f"wrote {lab.folder}/versions/0001_new.py\n"
    assert written(lab, "0001_new.py").endswith("# first two words\n# second\n")


def test_a_console_script_formats(lab: Lab, console: Console) -> None:
    hooked(
        lab, "hooks = mig", "mig.type = console_scripts", "mig.entrypoint = lancemig", "mig.options = --help"
    )
    done = console("revision", "-m", "New")
    assert done.exit_code == 0
    assert "warning: hook mig on" in done.stderr, "the path comes first, which is no verb of lancemig"
    assert "failed with exit status 2" in done.stderr
    assert "No such command" in done.stderr


def test_a_hook_that_fails_is_told_and_the_file_stays(lab: Lab, console: Console) -> None:
    hooked(lab, "hooks = none, bad", "none.type = exec", "none.executable = /not/there", "bad.type = exec",
           f"bad.executable = {sys.executable}",
           "bad.options = -c 'print(1 / 0)' REVISION_SCRIPT_FILENAME")  # fmt: skip
    done = console("revision", "-m", "New")
    assert done.exit_code == 0
    assert "warning: hook none on" in done.stderr
    assert "[post_write_hooks] none.executable cannot be run" in done.stderr
    assert "failed with exit status" in done.stderr
    assert 'revision = "0001"' in written(lab, "0001_new.py")


def test_a_rebase_runs_them_too(live: Lab, console: Console) -> None:
    live.revision(CREATE.replace("recordings", "others"))
    (live.folder / "versions" / "b.py").write_text(
        'revision = "b"\ndown_revision = "0001"\noperations = []\n'
    )
    hooked(live, "hooks = one", "one.type = exec", f"one.executable = {sys.executable}",
           "one.options = append.py REVISION_SCRIPT_FILENAME moved")  # fmt: skip
    console.says("rebase", "b")
    assert written(live, "b.py").endswith("# moved\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["hooks = x"], "x.type is missing"),
        (["hooks = x", "x.type = exe"], "x.type is exe, not one of exec, console_scripts, module"),
        (["hooks = x", "x.type = exec"], "x.executable is missing"),
        (["hooks =", "x.optons = 1"], "did you mean options?"),
        (["hooks = x", "x.type = exec", "x.executable = y", "x.options = 'a"], "No closing quotation"),
        (["hooks = x", "x.type = exec", "x.executable = ${NOT_SET}"], "NOT_SET is not set"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_no_hook_is_refused(lab: Lab, console: Console, lines: list[str], said: str) -> None:
    hooked(lab, *lines)
    assert said in console.refuses("revision", "-m", "New", status=2)
    assert list((lab.folder / "versions").iterdir()) == []
