"""Death at every effect on the files of a project: none is lost, and the command that is named goes on."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from dying import Died

from lancemig.cli import main

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_MOVES = {"os.rename": 2, "os.link": 2, "os.remove": 1, "os.mkdir": 1, "os.rmdir": 1}


@dataclass
class FileFate:
    """Death at the `at`-th effect that Python has on files below `folder`; None lets live.

    Before it; or half-way through it: a file that was opened to be written has some bytes then.
    """

    folder: Path
    at: int | None = None
    half: bool = False
    effects: list[str] = field(default_factory=list)
    dead: bool = False

    def see(self, event: str, given: tuple[Any, ...]) -> None:
        paths = [str(path) for path in given[: _MOVES.get(event, 1)] if isinstance(path, str | bytes | Path)]
        if not paths or not any(path.startswith(str(self.folder)) for path in paths):
            return
        if self.dead:
            raise Died(event)
        self.effects.append(f"{event} {' '.join(path.removeprefix(str(self.folder)) for path in paths)}")
        if len(self.effects) != self.at:
            return
        self.dead = True
        # A lock opens the folder of its file as well (filelock's O_TMPFILE), which holds no bytes.
        if self.half and event == "open" and not Path(paths[0]).is_dir():
            given_away, self.folder = self.folder, Path("/nowhere")
            Path(paths[0]).write_bytes(b'"""Half of a fi')
            self.folder = given_away
        raise Died(event)


_fate: FileFate | None = None


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if _fate is None:
        return
    if event in _MOVES or (event == "open" and isinstance(given[2], int) and given[2] & _WRITES):
        _fate.see(event, given)


# It cannot be taken away again; without a fate it does nothing.
sys.addaudithook(_hook)


@contextmanager
def fated(fate: FileFate) -> Iterator[None]:
    global _fate
    _fate = fate
    try:
        yield
    finally:
        _fate = None


def lancemig(folder: Path, *words: str) -> Result:
    env = {"LANCEMIG_CONFIG": str(folder / "lancemig.ini"), "VISUAL": str(folder / "editor.sh")}
    return CliRunner().invoke(main, words, env=env, prog_name="lancemig")


def says(folder: Path, *words: str) -> None:
    done = lancemig(folder, *words)
    assert done.exit_code == 0, done.output


def file(folder: Path, revision: str, parent: str | None, name: str, operations: str = "") -> None:
    (folder / "versions" / f"{revision}_{name}.py").write_text(
        f'"""{name}."""\nfrom lancemig import *\nimport pyarrow as pa\n\nrevision = "{revision}"\n'
        f"down_revision = {parent and repr(parent)}\noperations = [{operations}]\n"
    )


def project(folder: Path) -> None:
    (folder / "versions").mkdir(parents=True)
    (folder / "store").mkdir()
    (folder / "lancemig.ini").write_text(
        "[lancemig]\nstore = %(here)s/store\nfallback_prefix = v1/\n\n[post_write_hooks]\nhooks = mark\n"
        "mark.type = exec\nmark.executable = %(here)s/mark.sh\nmark.options = REVISION_SCRIPT_FILENAME\n"
    )
    for name, mark in (("editor", "edited"), ("mark", "formatted")):
        script = folder / f"{name}.sh"
        script.write_text(f'#!/bin/sh\ngrep -q "# {mark}" "$1" || echo "# {mark}" >> "$1"\n')
        script.chmod(0o755)
    creates = 'CreateTable(table="t", schema=pa.schema([("id", pa.int64())]), key=("id",))'
    file(folder, "0001", None, "a", creates)
    file(folder, "0002", "0001", "b", 'AddColumn(table="t", column=pa.field("b", pa.int8()))')
    says(folder, "rehash")


def forked(folder: Path) -> None:
    """A branch that gets new numbers, and a file of it the name that another one has now."""
    project(folder)
    file(folder, "0004", "0002", "y")
    says(folder, "rehash")
    file(folder, "0003", "0002", "x")
    file(folder, "0005", "0003", "x")


def found(folder: Path) -> None:
    """Tables of plain Lance, and no revisions yet."""
    project(folder)
    for path in (folder / "versions").iterdir():
        path.unlink()
    lance.write_dataset(pa.table({"id": [1]}), str(folder / "store" / "v1" / "catalog" / "t.lance"))


def bare(folder: Path) -> None:
    """Tables of plain Lance, and no project yet."""
    found(folder)
    (folder / "lancemig.ini").unlink()
    (folder / "versions").rmdir()


@dataclass(frozen=True)
class Scene:
    """A project, the words that are typed in it, and those that make good what an edit left."""

    begin: Callable[[Path], None]
    words: tuple[str, ...]
    good: tuple[str, ...] = ()


SCENES = {
    "revision": Scene(project, ("revision", "-m", "More")),
    "rebase": Scene(forked, ("rebase", "0005")),
    "squash": Scene(project, ("squash", "0001:0002")),
    "edit": Scene(project, ("edit", "0001"), ("rehash",)),
    "rehash": Scene(project, ("rehash",)),
    "baseline": Scene(found, ("baseline",)),
    "init": Scene(bare, ("init", "FOLDER", "--from-live", "--store", "FOLDER/store", "--prefix", "v1/")),
}


@dataclass(frozen=True)
class Played:
    """Where the scene lies, what an undisturbed command does, and what it leaves."""

    folder: Path
    effects: list[str]
    end: dict[str, str]


def files(folder: Path) -> dict[str, str]:
    """All files of the project but the store's, without what tells the time."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    return {
        str(path.relative_to(folder)): re.sub(
            r"Create Date: .*|[0-9a-f]{64}", "", path.read_text().replace(str(folder), "FOLDER")
        )
        for path in paths
        if not path.is_relative_to(folder / "store")
    }


def typed(scene: Scene, folder: Path) -> tuple[str, ...]:
    return tuple(word.replace("FOLDER", str(folder)) for word in scene.words)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Played]:
    made: dict[str, Played] = {}

    def get(name: str) -> Played:
        if name not in made:
            scene, folder = SCENES[name], tmp_path_factory.mktemp(name) / "base"
            scene.begin(folder)
            copy = folder.with_name("undisturbed")
            shutil.copytree(folder, copy)
            fate = FileFate(copy)
            with fated(fate):
                says(copy, *typed(scene, copy))
            assert lancemig(copy, "check", "--ignore", "LM401").exit_code == 0
            made[name] = Played(folder, fate.effects, files(copy))
        return made[name]

    return get


def made_good(folder: Path, words: tuple[str, ...]) -> None:
    """The same command again, or what its answers name, until nothing is named any more."""
    for _ in range(6):
        done = lancemig(folder, *words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        if done.exit_code == 0:
            return
        if "locked by" in done.stderr:
            says(folder, "unlock", "--force")
            continue
        if "nothing to rebase" in done.stderr:
            return
        named = re.search(r"^next: lancemig ([^,;\n]*)", done.stderr, re.MULTILINE)
        assert named, done.stderr
        words = tuple(shlex.split(named[1].replace("MESSAGE", "'The catalog as it was found'")))
    raise AssertionError(done.stderr)


@pytest.mark.parametrize("half", [False, True], ids=["before", "amid"])
@pytest.mark.parametrize("name", SCENES)
def test_what_died_at_any_effect_on_files_is_made_good(
    played: Callable[[str], Played], subtests: pytest.Subtests, name: str, half: bool
) -> None:
    scene, usual = SCENES[name], played(name)
    for at, what in enumerate(usual.effects, 1):
        if (half and not what.startswith("open")) or "/store/" in what.partition("_lancemig")[2]:
            continue
        with subtests.test(f"{at}: {what}"):
            folder = usual.folder.with_name(f"{at}{half}")
            shutil.copytree(usual.folder, folder)
            with fated(FileFate(folder, at, half)), pytest.raises(Died):
                lancemig(folder, *typed(scene, folder))
            seen = lancemig(folder, "check", "--offline")
            assert seen.exception is None or isinstance(seen.exception, SystemExit), seen.exception
            made_good(folder, typed(scene, folder))
            if scene.good:
                says(folder, *scene.good)
            left = files(folder)
            assert sorted(left) == sorted(usual.end)
            assert left == usual.end
            assert lancemig(folder, "check", "--ignore", "LM401").exit_code == 0


def test_what_they_do(played: Callable[[str], Played]) -> None:
    for name in SCENES:
        assert len(played(name).effects) >= 2, name
    moved = [path for path in played("squash").end if "squashed/" in path]
    assert len(moved) == 2
