"""A refusal at every question of every verb: it changes nothing, or the command says what it has done.

Every function of lancemig that raises an error of its own is a question. In a run without disturbance, the
first call of each is noted, and the first one after each change of the pointer. Then the error is raised at
one of these calls at a time.
"""

import ast
import inspect
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import lance
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from lab import ROOT, Lab
from scenes import EVERY, Scene
from servers import Place

import lancemig
from lancemig import errors
from lancemig.apply import runner
from lancemig.cli import main
from lancemig.store.pointer import PointerStore

SEED, SOME = 12, 6
START = """
    CreateTable(
        table="recordings", key=("id",), schema=pa.schema([("id", pa.int64()), ("gain", pa.float64())]),
        rows=[{"id": 1, "gain": 1.0}, {"id": 2, "gain": 2.0}],
    ),
    CreateTable(table="notes", key=("id",), schema=pa.schema([("id", pa.int64())]), rows=[{"id": 1}]),
"""
ADD = 'AddColumn(table="notes", column=pa.field("text", pa.string()))'
RENAME = 'RenameColumn(table="recordings", column="gain", to="volume")'

Call = tuple[str, str, int]
"""The file and name of a function, and where it begins."""


@cache
def questions() -> dict[Call, type[errors.LancemigError]]:
    """The functions that raise an error of lancemig, and the first one that each raises."""
    known = {
        name: of for name, of in vars(errors).items() if inspect.isclass(of) and issubclass(of, Exception)
    }
    found = {}
    for path in Path(lancemig.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            for name in _raised(node):
                if name in known and known[name] not in (errors.Incomplete, errors.LancemigError):
                    found.setdefault((str(path), node.name, _first_line(node)), known[name])
    return found


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _raised(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
                yield name


@dataclass
class Watch:
    """Counts the calls of questions, and raises the error of one of them."""

    raise_at: tuple[Call, int] | None = None
    calls: Counter[Call] = field(default_factory=Counter)
    points: dict[tuple[Call, int], tuple[Call, int]] = field(default_factory=dict)
    """By question and number of changes of the pointer, the first call."""
    published: int = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code: CodeType = frame.f_code
        if event == "return" and code is PointerStore.publish.__code__:
            self.published += 1
        if event != "call":
            return
        call = (code.co_filename, code.co_name, code.co_firstlineno)
        if call not in questions():
            return
        self.calls[call] += 1
        point = (call, self.calls[call])
        self.points.setdefault((call, self.published), point)
        if point == self.raise_at:
            raise questions()[call]("injected")


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(None)


def lancemig_(lab: Lab, *arguments: str) -> Result:
    env = {"LANCEMIG_CONFIG": str(lab.folder / "lancemig.ini")}
    return CliRunner().invoke(main, arguments, env=env, prog_name="lancemig")


def says(lab: Lab, *arguments: str) -> None:
    done = lancemig_(lab, *arguments)
    assert done.exit_code == 0, done.output


def state(lab: Lab) -> Any:
    """Pointer, lineage, and the rows of all tables of roots that were ever live."""
    store = lab.catalog().store
    pointer = store.pointers.read().pointer
    chain = list(store.pointers.chain(pointer))
    roots = sorted({ROOT, *(entry.target.prefix for entry in chain)})
    tables = {(r, name): lab.rows(name, r) for r in roots for name in store.tables.names(r)}
    columns = {(r, name): lab.dataset(name, r).schema.names for r, name in tables}
    return pointer, [entry.id for entry in chain], tables, columns


def staged(lab: Lab) -> None:
    says(lab, "upgrade", "--no-flip")


def flipped(lab: Lab) -> None:
    says(lab, "upgrade")
    lab.append("recordings", [{"id": 7, "volume": 7.0}])


def left(lab: Lab) -> None:
    says(lab, "upgrade")
    lab.append("recordings", [{"id": 7, "gain": 7.0}], ROOT)
    lab.append("notes", [{"id": 7, "text": None}], ROOT)


def returned(lab: Lab) -> None:
    flipped(lab)
    says(lab, "rollback")
    lab.append("recordings", [{"id": 8, "gain": 8.0}])


def interrupted(lab: Lab) -> None:
    staged(lab)
    store = lab.catalog().store
    sidecars = store.sidecars()
    run = sidecars.in_flight()
    assert run is not None
    sidecars.write(run.changed(no_flip=False))


def nothing(_: Lab) -> None:
    pass


VERBS: dict[str, tuple[Callable[[Lab], None], tuple[str, ...]]] = {
    "upgrade": (nothing, ("upgrade",)),
    "flip": (staged, ("flip",)),
    "recover": (interrupted, ("recover",)),
    "downgrade": (flipped, ("downgrade", "0001")),
    "rollback": (flipped, ("rollback",)),
    "rollback --again": (returned, ("rollback", "--again")),
    "rollback --discard": (flipped, ("rollback", "--discard")),
    "reconcile": (left, ("reconcile",)),
    "reconcile --discard": (left, ("reconcile", "--discard")),
    "archive": (flipped, ("archive",)),
    "stamp": (flipped, ("stamp", "current")),
}


def scene(folder: Path, before: Callable[[Lab], None], verb: tuple[str, ...]) -> Scene:
    folder.mkdir()
    (folder / "first").mkdir()
    lab = Lab(folder / "lab", Place("local", str(folder / "first")))
    lab.revision(START)
    says(lab, "upgrade")
    lab.revision(ADD)
    lab.revision(RENAME)
    before(lab)
    return Scene(lab, lambda lab, _: says(lab, *verb))


@pytest.fixture(autouse=True)
def late_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that still uses the old root directly after a flip."""
    inner = runner.reconcile_after_flip

    def after_a_write(context: Any, *given: Any) -> None:
        if context.published:
            dataset = lance.dataset(context.store.tables.uri(context.root, "recordings"))
            late = pa.Table.from_pylist([{dataset.schema.names[0]: 70}], schema=dataset.schema)
            lance.write_dataset(late, dataset.uri, mode="append")
        inner(context, *given)

    monkeypatch.setattr(runner, "reconcile_after_flip", after_a_write)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("verb", VERBS)
def test_refused_before_or_told_after(tmp_path: Path, verb: str, every: bool) -> None:
    before, arguments = VERBS[verb]
    one = scene(tmp_path / "scene", before, arguments)
    lab, watch = one.copy(), Watch()
    with watching(watch):
        done = lancemig_(lab, *arguments)
    assert done.exit_code == 0, done.output
    points = list(watch.points.values())
    assert len(points) > SOME
    if not every:
        after = [point for (_, published), point in watch.points.items() if published]
        chosen = random.Random(SEED)  # noqa: S311 - a sample
        points = chosen.sample(points, SOME) + chosen.sample(after, min(SOME, len(after)))
    faults = [fault for point in points if (fault := tried(one, arguments, point))]
    assert not faults, "\n".join(faults)


def tried(one: Scene, arguments: tuple[str, ...], point: tuple[Call, int]) -> str | None:
    """What is wrong after a refusal at this call; None if all is well."""
    lab = one.copy()
    was = state(lab)
    with watching(Watch(point)):
        done = lancemig_(lab, *arguments)
    if done.exit_code == 0:
        return None
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        wrong: str | None = repr(done.exception)
    elif state(lab) == was:
        wrong = _stuck(lab, arguments)
    else:
        wrong = _untold(lab, done)
    (path, name, _), number = point
    where = f"{Path(path).name}:{name} call {number}: exit {done.exit_code}"
    return f"{where}: {wrong}\n  {_error(done)}" if wrong else None


def _error(done: Result) -> str:
    return done.stderr.rpartition("lancemig: ")[2] if "lancemig: " in done.stderr else done.output


def _stuck(lab: Lab, arguments: tuple[str, ...]) -> str | None:
    """Whether a command that was refused, and has changed nothing, can be given again, or its run ended."""
    again = lancemig_(lab, *arguments)
    if "locked by" in again.stderr:
        # Of this process, which is still there: a lock of one that ended is taken over.
        says(lab, "unlock", "--force")
        again = lancemig_(lab, *arguments)
    if again.exit_code and lab.catalog().in_flight() is not None:
        again = lancemig_(lab, "recover")
    if again.exit_code and ("no run is in progress" in again.stderr or "no staged root" in again.stderr):
        again = lancemig_(lab, "upgrade")
    return f"stuck: {again.stderr}" if again.exit_code else None


def _untold(lab: Lab, done: Result) -> str | None:
    """Whether a command that has changed something says so, and names a command that ends the state."""
    error = _error(done)
    # A run that is in flight, or has applied a revision before it failed, may keep its exit status.
    unfinished = "is unfinished, and has committed to" in error
    if done.exit_code != 1 and not unfinished and "the rest was not done" not in error:
        return "not told"
    command = error.rpartition("next: ")[2].partition("lancemig ")[2].partition("\n")[0]
    command = command.partition(";")[0].partition(",")[0]
    if not command:
        return "names no command"
    following = lancemig_(lab, *command.split())
    if following.exit_code or lab.catalog().in_flight() is not None:
        return f"lancemig {command} does not end it: {following.output}"
    return None
