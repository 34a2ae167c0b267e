"""Every operation in place, up and down, takes effect once: whenever it dies, whoever else writes."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import lance
import pytest
from dying import HOWS, Died, Fate, How
from lab import Lab
from scenes import Course, Scene, Snapshot, course, dies, settled, whole
from servers import NewPlace

from lancemig.commands import changing
from lancemig.commands.opening import Catalog
from lancemig.errors import RunUnfinished

START = """
    CreateTable(
        table="recordings", key=("id",),
        schema=pa.schema([
            ("id", pa.int64()), ("gain", pa.float64()), ("fs", pa.int32()), ("text", pa.string()),
            ("info", pa.struct([("serial", pa.string()), ("rate", pa.int64())])),
            ("vec", pa.list_(pa.float32(), 4)),
        ]),
        rows=made(1, 5),
    ),
    CreateTable(
        table="notes", schema=pa.schema([("at", pa.int64()), ("text", pa.string())]),
        rows=[{"at": n, "text": f"note {n}"} for n in range(3)],
    ),
"""
INDICES = """
    CreateIndex(table="recordings", column="id", type="BTREE"),
    CreateIndex(table="recordings", column="gain", type="BTREE"),
"""
ABOVE = """
def row(n):
    return {
        "id": n, "gain": float(n), "fs": 100 * n, "text": f"take {n}",
        "info": None if n == 2 else {"serial": f"s{n}", "rate": n}, "vec": [n, 0.0, 1.0, n],
    }

def made(first, last):
    return [row(n) for n in range(first, last + 1)]

def louder(batch):
    return pc.add(batch.column("gain"), 100.0)
"""
scope: dict[str, Any] = {}
exec(f"import pyarrow.compute as pc\n{ABOVE}", scope)  # noqa: S102 - the rows that others append are made alike
made: Callable[[int, int], list[dict[str, Any]]] = scope["made"]

OPERATIONS = {
    "update": 'UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id > 2")',
    "update struct": 'UpdateRows(table="recordings", set={"info.rate": "info.rate + 1"})',
    "backfill": 'BackfillColumns(table="recordings", columns=("gain",), reads=("gain",), using=louder)',
    "upsert": 'UpsertRows(table="recordings", on=("id",), rows=[*made(4, 5), *made(20, 21)])',
    "upsert overwrite": """UpsertRows(table="recordings", on=("id",), when_exists="overwrite",
                                      rows=[{**row(6), "gain": 0.5}, *made(20, 21)])""",
    "upsert keep": """UpsertRows(table="recordings", on=("id",), when_exists="keep",
                                 rows=[{**row(6), "gain": 0.5}, *made(20, 21)])""",
    "delete": 'DeleteRows(table="recordings", where="gain > 4 and gain < 8")',
    "metadata": 'SetMetadata(table="recordings", metadata={"owner": "us"})',
    "metadata of a column": 'SetMetadata(table="recordings", column="gain", metadata={"unit": "dB"})',
    "key": 'SetKey(table="notes", key=("at",))',
    "create": """CreateTable(table="tags", schema=pa.schema([("tag", pa.string())]), key=("tag",),
                             rows=[{"tag": "a"}, {"tag": "b"}])""",
    "add null": 'AddColumn(table="recordings", column=pa.field("new", pa.int64()))',
    "add sql": 'AddColumn(table="recordings", column=pa.field("new", pa.float64()), sql="gain * 2")',
    "add using": """AddColumn(table="recordings", column=pa.field("new", pa.float64()), using=louder,
                              reads=("gain",))""",
    "index BTREE": 'CreateIndex(table="recordings", column="fs", type="BTREE")',
    "index INVERTED": 'CreateIndex(table="recordings", column="text", type="INVERTED")',
    "index IVF_FLAT": """CreateIndex(table="recordings", column="vec", type="IVF_FLAT",
                                     params={"num_partitions": 1})""",
    "drop index": 'DropIndex(table="recordings", name="gain_idx")',
}
THREE = """
    UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="id <= 8"),
    UpsertRows(table="notes", on=("at",), rows=[{"at": 50, "text": "new"}]),
    DeleteRows(table="recordings", where="gain > 12 and id <= 8"),
"""
WAYS = ["up", "down", "undo"]
NOT_BY_METADATA_ALONE = ("update", "upsert overwrite", "delete", "create", "add sql")


def appended(lab: Lab) -> None:
    """Another writer's rows."""
    lab.append("recordings", made(90, 91))
    lab.append("notes", [{"at": 90, "text": "late"}])


def compacted(lab: Lab) -> None:
    """Another writer's rows, and its compaction: it rewrites an index, so pylance cannot read its commit."""
    appended(lab)
    lab.dataset("recordings").optimize.compact_files()
    log = lab.dataset("recordings")
    with pytest.raises(TypeError, match="RewrittenIndex"):
        log.read_transaction(log.version)


def nobody(lab: Lab) -> None:
    """Nobody writes."""


OTHERS = (nobody, appended, compacted)


@dataclass
class Played:
    """A scene, its undisturbed course, and where it may end when others write before, or after, all of it."""

    scene: Scene
    usual: Course
    ends: list[Snapshot]

    def ends_with(self, others: Callable[[Lab], object]) -> list[Snapshot]:
        return self.ends if others is not nobody else self.usual.seen[-1:]


Play = Callable[[str, str], Played]


def begun(folder: Path, new_place: NewPlace) -> Lab:
    """Tables of several fragments, which an index covers."""
    lab = Lab(folder / "lab", new_place("local"))
    lab.revision(START, above=ABOVE)
    lab.upgrade()
    for first in (6, 8):
        lab.append("recordings", made(first, first + 1))
    lab.revision(INDICES)
    lab.upgrade()
    return lab


def upgraded(lab: Lab, catalog: Catalog) -> None:
    lab.upgrade(catalog=catalog)


def downgraded(lab: Lab, catalog: Catalog) -> None:
    lab.downgrade("0002", catalog=catalog)


def given_up(lab: Lab, catalog: Catalog) -> None:
    changing.undo(catalog)


def staged(lab: Lab, operations: str, way: str) -> Scene:
    """One migration: to be applied; to be taken back; or, dead before it was published, to be undone."""
    lab.revision(operations, above=ABOVE)
    there = Scene(lab, upgraded, whole)
    if way == "up":
        return there
    if way == "down":
        lab.upgrade()
        return Scene(lab, downgraded, whole)
    fate = Fate()
    there.run(there.copy(), fate)
    with pytest.raises(Died):
        there.run(lab, Fate(next(at for at, what in enumerate(fate.effects, 1) if kind(what) == "ACTIVE")))
    lab.outlive_the_lock()
    return Scene(lab, given_up, whole)


def played(scene: Scene) -> Played:
    early, late = scene.copy(), scene.copy()
    appended(early)
    for lab in (early, late):
        scene.repeat(lab)
    appended(late)
    return Played(scene, course(scene), [whole(early), whole(late)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Scene:
    return Scene(begun(tmp_path_factory.mktemp("base"), new_place), upgraded)


@pytest.fixture(scope="module")
def play(base: Scene) -> Play:
    """Each scene set up once; every death happens to a copy."""

    @cache
    def get(operations: str, way: str) -> Played:
        return played(staged(base.copy(), operations, way))

    return get


Death = tuple[int, How, Callable[[Lab], object]]


def deaths(usual: Course) -> Iterator[Death]:
    """All of them: each effect, each moment, each kind of other writer."""
    for at, what in enumerate(usual.effects, 1):
        for how in HOWS:
            if how != "half" or what.startswith(("copy", "delete")):
                for others in OTHERS:
                    yield at, how, others


def kind(what: str) -> str:
    """What sort of effect it is."""
    verb, _, rest = what.partition(" ")
    if verb != "write":
        return verb
    return next(part for part in ("runs", "lineage", "lock", "ACTIVE") if part in rest)


def chosen(usual: Course, seed: str) -> list[Death]:
    """Around each commit, and for some where the pointer was written; others write after some of them."""
    random = Random(seed)  # noqa: S311 - which other writer
    moments: dict[str, tuple[How, ...]] = {
        "commit": ("before", "after"),
        "create": ("before", "after"),
        "ACTIVE": ("after",) if random.random() < 1 / 3 else (),
    }
    return [
        (at, how, random.choice(OTHERS))
        for at, what in enumerate(usual.effects, 1)
        for how in moments.get(kind(what), ())
    ]


def all_die(one: Played, wanted: list[Death], subtests: pytest.Subtests) -> None:
    for at, how, others in wanted:
        with subtests.test(f"{how} effect {at}: {one.usual.effects[at - 1]}; then {others.__name__}"):
            dies(one.scene, one.usual, at, how, between=others, ends=one.ends_with(others))


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in OPERATIONS for way in WAYS if way != "undo" or name in NOT_BY_METADATA_ALONE],
)
def test_an_operation_that_dies_takes_effect_once(
    play: Play, subtests: pytest.Subtests, name: str, way: str
) -> None:
    one = play(OPERATIONS[name], way)
    all_die(one, chosen(one.usual, f"{name} {way}"), subtests)


@pytest.mark.nightly
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_that_dies_anywhere_takes_effect_once(
    play: Play, subtests: pytest.Subtests, name: str, way: str
) -> None:
    one = play(OPERATIONS[name], way)
    all_die(one, list(deaths(one.usual)), subtests)


@pytest.mark.parametrize("way", ["up", "down"])
def test_three_operations_on_two_tables_that_die_anywhere_take_effect_once(
    play: Play, subtests: pytest.Subtests, way: str
) -> None:
    one = play(THREE, way)
    random = Random(way)  # noqa: S311 - which moments are tried
    # Dead before an effect or after the one before it, the store is the same but for what was staged.
    wanted = [
        (at, random.choice(HOWS[::2]), random.choice(OTHERS)) for at in range(1, len(one.usual.effects) + 1)
    ]
    all_die(one, wanted, subtests)


@pytest.mark.nightly
@pytest.mark.parametrize("way", WAYS)
def test_three_operations_that_die_at_any_moment_beside_any_writer_take_effect_once(
    play: Play, subtests: pytest.Subtests, way: str
) -> None:
    one = play(THREE, way)
    all_die(one, list(deaths(one.usual)), subtests)


NOTHING_AT_FIRST = {
    "update": """
        UpdateRows(table="recordings", set={"gain": "gain * 2"}, where="gain > 100"),
        UpdateRows(table="recordings", set={"gain": "gain + 200"}),""",
    "delete": """
        DeleteRows(table="recordings", where="gain > 100"),
        UpdateRows(table="recordings", set={"gain": "gain + 200"}),""",
    "upsert": """
        UpsertRows(table="recordings", on=("id",), when_exists="keep", rows=made(1, 2)),
        DeleteRows(table="recordings", where="id = 1"),""",
    "add": """
        AddColumn(table="recordings", column=pa.field("new", pa.float64()), sql="try_cast(text as double)"),
        UpdateRows(table="recordings", set={"text": "'5'"}),""",
}


@pytest.mark.parametrize("name", NOTHING_AT_FIRST)
def test_a_step_that_found_nothing_is_not_done_on_what_later_steps_made(
    base: Scene, subtests: pytest.Subtests, name: str
) -> None:
    lab = base.copy()
    lab.revision(NOTHING_AT_FIRST[name], above=ABOVE)
    scene = Scene(lab, upgraded, whole)
    from_its_commits_on(scene, subtests)


def from_its_commits_on(scene: Scene, subtests: pytest.Subtests) -> Course:
    """Die after each effect from the first commit to the pointer's write."""
    usual = course(scene)
    kinds = [kind(what) for what in usual.effects]
    last = kinds.index("ACTIVE" if "ACTIVE" in kinds else "delete") + 1
    for at in range(kinds.index("commit") + 1, last + 1):
        with subtests.test(f"after effect {at}: {usual.effects[at - 1]}"):
            dies(scene, usual, at, "after")
    return usual


def test_what_was_found_nothing_to_put_back_is_not_put_back_when_earlier_steps_are(
    base: Scene, subtests: pytest.Subtests
) -> None:
    lab = base.copy()
    lab.revision(
        """UpdateRows(table="recordings", set={"gain": "50.0"}, where="id = 1"),
        UpdateRows(table="recordings", set={"gain": "1.0"}, where="id = 1"),"""
    )
    there = Scene(lab, upgraded, whole)
    fate = Fate()
    there.run(there.copy(), fate)
    with pytest.raises(Died):
        there.run(lab, Fate(next(at for at, what in enumerate(fate.effects, 1) if kind(what) == "ACTIVE")))
    lab.outlive_the_lock()
    # Another writer sets what the first step had set: the second has nothing to put back, the first has.
    lance.dataset(lab.dataset("recordings").uri).update({"gain": "50.0"}, where="id = 1")
    scene = Scene(lab, given_up, whole)
    usual = from_its_commits_on(scene, subtests)
    assert usual.seen[-1]["recordings"]["rows"][0]["gain"] == 1.0


def test_a_run_that_is_half_undone_is_undone_and_not_published(play: Play, subtests: pytest.Subtests) -> None:
    one = play(THREE, "undo")
    for at, what in enumerate(one.usual.effects, 1):
        with subtests.test(f"after effect {at}: {what}"):
            lab = one.scene.copy()
            with pytest.raises(Died):
                one.scene.run(lab, Fate(at, "after"))
            lab.outlive_the_lock()
            begun = one.usual.seen[at] != one.usual.seen[0] and lab.catalog().in_flight() is not None
            try:
                lab.upgrade()
            except RunUnfinished as refused:
                assert refused.next_step == "lancemig recover --undo"
                given_up(lab, lab.catalog())
                assert whole(lab) == one.usual.seen[-1]
            else:
                assert not begun
                assert whole(lab) == play(THREE, "up").usual.seen[-1]
            settled(lab)


def dealt(plays: dict[str, Played], seed: str) -> Iterator[tuple[str, int, How]]:
    """One death for each scene, so that over all of them each kind of effect dies before and after."""
    random = Random(seed)  # noqa: S311 - which moments are tried
    sorts = {name: {kind(what) for what in one.usual.effects} for name, one in plays.items()}
    seldom = Counter(sort for own in sorts.values() for sort in own)
    left: set[tuple[str, How]] = {(sort, how) for sort in seldom for how in HOWS[::2]}
    for name, one in plays.items():
        own = sorted((seldom[sort], sort, how) for sort in sorts[name] for how in HOWS[::2])
        wanted = [(sort, how) for _, sort, how in own if (sort, how) in left]
        sort, how = wanted[0] if wanted else random.choice(own)[1:]
        left.discard((sort, how))
        yield (
            name,
            random.choice([at for at, what in enumerate(one.usual.effects, 1) if kind(what) == sort]),
            how,
        )
    assert left == set()


@pytest.mark.s3
@pytest.mark.nightly
def test_in_a_bucket_each_kind_of_effect_that_dies_is_made_once(
    play: Play, new_place: NewPlace, subtests: pytest.Subtests
) -> None:
    ways = {name: "down" if name in ("create", "add null", "delete") else "up" for name in OPERATIONS}
    plays = {f"{name} {way}": play(OPERATIONS[name], way) for name, way in ways.items()}
    plays |= {f"create up {again}": play(OPERATIONS["create"], "up") for again in "ab"}
    for name, at, how in dealt(plays, "moto"):
        one = plays[name]
        with subtests.test(f"{name}: {how} effect {at}: {one.usual.effects[at - 1]}"):
            dies(one.scene, one.usual, at, how, new_place("moto"))


@pytest.mark.s3
@pytest.mark.parametrize(
    ("name", "way", "sort", "how"),
    [
        ("update", "up", "commit", "after"),
        ("upsert", "up", "commit", "before"),
        ("delete", "down", "commit", "after"),
        ("create", "up", "create", "after"),
        ("add sql", "up", "commit", "after"),
        ("add null", "down", "copy", "half"),
        ("backfill", "up", "ACTIVE", "after"),
        ("drop index", "up", "runs", "after"),
    ],
)
def test_in_a_bucket_an_operation_that_dies_takes_effect_once(
    play: Play, new_place: NewPlace, name: str, way: str, sort: str, how: How
) -> None:
    one = play(OPERATIONS[name], way)
    random = Random(f"{name} {way}")  # noqa: S311 - which moments are tried, and who else writes
    at = random.choice([at for at, what in enumerate(one.usual.effects, 1) if kind(what) == sort])
    others = random.choice(OTHERS)
    dies(one.scene, one.usual, at, how, new_place("moto"), between=others, ends=one.ends_with(others))


@pytest.mark.s3
@pytest.mark.nightly
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("name", [*OPERATIONS, "three"])
def test_in_a_bucket_an_operation_that_dies_anywhere_takes_effect_once(
    play: Play, new_place: NewPlace, subtests: pytest.Subtests, name: str, way: str
) -> None:
    one = play(OPERATIONS.get(name, THREE), way)
    random = Random(f"{name} {way}")  # noqa: S311 - which other writer
    for at, what in enumerate(one.usual.effects, 1):
        how, others = random.choice(HOWS[::2]), random.choice(OTHERS)
        with subtests.test(f"{how} effect {at}: {what}; then {others.__name__}"):
            place = new_place("moto")
            dies(one.scene, one.usual, at, how, place, between=others, ends=one.ends_with(others))


@pytest.mark.s3
@pytest.mark.parametrize("name", ["update", "add using"])
def test_on_a_real_s3_server_an_operation_that_dies_takes_effect_once(
    play: Play, new_place: NewPlace, subtests: pytest.Subtests, name: str
) -> None:
    one = play(OPERATIONS[name], "up")
    commits = [at for at, what in enumerate(one.usual.effects, 1) if kind(what) == "commit"]
    at, others = commits[-1], appended
    with subtests.test(f"after effect {at}: {one.usual.effects[at - 1]}"):
        place = new_place("seaweedfs")
        dies(one.scene, one.usual, at, "after", place, between=others, ends=one.ends_with(others))
