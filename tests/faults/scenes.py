"""A scene: a catalog in some state, and a command that dies in it at any effect and is given again."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

import pytest
from dying import HOWS, Died, Fate, How, dying
from lab import Lab
from servers import Place, client

from lancemig.catalog.arrow_types import format_field
from lancemig.catalog.schema import text_metadata
from lancemig.commands import recovery, status
from lancemig.commands.context import Catalog
from lancemig.errors import LancemigError
from lancemig.store.lance import Table, manifest_version

EVERY = [pytest.param(False, id="some"), pytest.param(True, id="every", marks=pytest.mark.nightly)]
"""Whether all deaths are tried, or a seeded part of them."""

Snapshot = dict[str, Any]
Look = Callable[[Lab], Snapshot]


def rows(lab: Lab) -> Snapshot:
    """What a reader sees who resolves the pointer and opens every table with Lance."""
    root = lab.root
    return {name: lab.rows(name, root) for name in lab.tables()}


def whole(lab: Lab) -> Snapshot:
    """All of it: columns, key, metadata, indices and rows, and what the indices find."""
    root, tables = lab.root, lab.catalog().store.tables
    found: Snapshot = {}
    for name in tables.names(root):
        table = tables.open(root, name)
        schema = table.schema()
        found[name] = {
            "columns": [(format_field(f), sorted(text_metadata(f.metadata).items())) for f in schema.columns],
            "key": schema.key,
            "metadata": schema.metadata,
            "indices": sorted((i.name, i.column, i.type) for i in schema.indices),
            "rows": table.read().sort_by(table.columns.names[0]).to_pylist(),
            "found": {i.column: _by_index(table, i.column) for i in schema.indices if i.type == "BTREE"},
        }
    return found


def _by_index(table: Table, column: str) -> list[Any]:
    """The values that an index on `column`, which holds numbers, finds."""
    return sorted(table.read([column], where=f"{column} > -1000000")[column].to_pylist())


@dataclass
class Scene:
    """A catalog in some state, the command that is killed there, and how what came of it is looked at."""

    lab: Lab
    command: Callable[[Lab, Catalog], object]
    look: Look = rows

    def copy(self, place: Place | None = None) -> Lab:
        """The same catalog somewhere else."""
        folder = Path(mkdtemp(dir=self.lab.folder.parent))
        (folder / "versions").mkdir()
        for path in (self.lab.folder / "versions").glob("*.py"):
            shutil.copy(path, folder / "versions")
        if place is None:
            shutil.copytree(self.lab.place.store, folder / "store")
            place = Place("local", str(folder / "store"))
        else:
            uploaded(Path(self.lab.place.store), place)
        return Lab(
            folder, place, late=self.lab.late, staging=self.lab.staging, written=list(self.lab.written)
        )

    def run(self, lab: Lab, fate: Fate) -> None:
        self.command(lab, dying(lab.catalog(), fate))

    def repeat(self, lab: Lab) -> None:
        self.command(lab, dying(lab.catalog(), Fate()))


def uploaded(folder: Path, place: Place) -> None:
    s3 = client(place.options["endpoint"])
    for path in folder.rglob("*"):
        if path.is_file() and ".lancemig" not in path.parts:
            key = str(path.relative_to(folder))
            s3.put_object(Bucket=place.store.removeprefix("s3://"), Key=key, Body=path.read_bytes())


@dataclass
class Course:
    """What an undisturbed run does: its effects, and what a reader sees after each of them."""

    effects: list[str]
    seen: list[Snapshot]
    actions: list[str] = field(default_factory=list)

    @property
    def distinct(self) -> list[Snapshot]:
        return [one for at, one in enumerate(self.seen) if not at or one != self.seen[at - 1]]


def course(scene: Scene, place: Place | None = None) -> Course:
    lab = scene.copy(place)
    seen = [scene.look(lab)]
    fate = Fate(watch=lambda: seen.append(scene.look(lab)))
    scene.run(lab, fate)
    settled(lab)
    return Course(fate.effects, seen, actions(lab))


def actions(lab: Lab) -> list[str]:
    """What the lineage tells, newest first."""
    return [f"{e.action} {e.origin.revision} {e.target.revision}" for e in status.history(lab.catalog())]


def settled(lab: Lab) -> None:
    """Nothing is left over but lineage, one chain, and reports; and no stamp is in a table's log twice."""
    catalog = lab.catalog()
    store, folder = catalog.store, catalog.store.pointers.folder
    left = [item.key.removeprefix(folder) for item in store.objects.list(folder)]
    assert [key for key in left if not key.startswith(("lineage/", "reports/"))] == []
    entries = status.history(catalog)
    assert [entry.seq for entry in entries] == list(range(len(entries), 0, -1))
    for name in store.tables.names(lab.root):
        table = store.tables.open(lab.root, name)
        manifests = store.objects.list(f"{store.tables.folder(lab.root, name)}_versions/")
        versions = {manifest_version(item.key.rpartition("/")[2]) for item in manifests}
        first = table.version
        # A version that only a tag keeps may be far before the others.
        while first - 1 in versions:
            first -= 1
        # All of the log; in a root that was staged, all since the one version that was carried there.
        log = store.tables.commits(table, 0 if first == 1 else first)
        stamps = Counter(commit.stamp for commit in log if commit.stamp)
        assert [stamp for stamp, times in stamps.items() if times > 1] == []


def dies(
    scene: Scene,
    usual: Course,
    at: int,
    how: How,
    place: Place | None = None,
    *,
    between: Callable[[Lab], object] = lambda _: None,
    ends: Sequence[Snapshot] = (),
) -> None:
    """Die there, look, let others write (`between`), and let the same command go on.

    `ends` are the states it may lead to then: that of the undisturbed run, if none are given.
    """
    lab = scene.copy(place)
    with pytest.raises(Died):
        scene.run(lab, Fate(at, how))
    allowed = usual.seen[at - 1 : at + 1] if how == "half" else [usual.seen[at if how == "after" else at - 1]]
    assert scene.look(lab) in allowed, "what readers see after the death"
    lab.outlive_the_lock()
    between(lab)
    repeated(scene, lab)
    assert one_of(scene.look(lab), ends or usual.seen[-1:]), "what readers see in the end"
    assert actions(lab) == usual.actions
    settled(lab)


def one_of(found: Snapshot, wanted: Sequence[Snapshot]) -> bool:
    """Whether it is one of them; else tells the difference to the last, table by table."""
    if found in wanted:
        return True
    for name in sorted({*found, *wanted[-1]}):
        if found.get(name) != wanted[-1].get(name):
            print(f"{name}:\n  found  {json.dumps(found.get(name), default=str)}")  # noqa: T201
            for one in wanted:
                print(f"  wanted {json.dumps(one.get(name), default=str)}")  # noqa: T201
    return False


def repeated(scene: Scene, lab: Lab) -> None:
    """The same command again; where all but the lock was done already it may say so instead."""
    try:
        scene.repeat(lab)
    except LancemigError as error:
        assert error.exit_status == 2, error
        assert lab.catalog().in_flight() is None, error
    recovery.unlock(lab.catalog(), force=False)


def kind(what: str) -> str:
    """What sort of effect it is."""
    verb, _, rest = what.partition(" ")
    if verb != "write":
        return verb
    sorts = (
        "runs",
        "lineage",
        "reports",
        "lock",
        "ACTIVE",
        "_lancemig-root",
        "_lancemig-copy",
        "_refs",
        "_versions",
        "scratch",
        "leases",
    )
    return next(part for part in sorts if part in rest)


def deaths(effects: Sequence[str], *, all_of_them: bool = False) -> list[tuple[int, How]]:
    """When a run dies: before and half-way through the first and the last effect of each sort, and others.

    To die after an effect leaves what to die before the next one leaves, but for what was staged; that too
    is among `all_of_them`.
    """
    random = Random(f"{len(effects)}")  # noqa: S311 - which moments are tried
    sorts: dict[str, list[int]] = {}
    for at, what in enumerate(effects, 1):
        sorts.setdefault(kind(what), []).append(at)
    ends = {at for ats in sorts.values() for at in (ats[0], ats[-1])}
    found: list[tuple[int, How]] = []
    for at, what in enumerate(effects, 1):
        torn = what.startswith(("copy", "delete", "receive"))
        if all_of_them:
            found += [(at, how) for how in HOWS if how != "half" or torn]
        elif at in ends or random.random() < 1 / 20:
            found += [(at, "before"), *([(at, "half")] if torn else [])]  # type: ignore[list-item]
    return found
