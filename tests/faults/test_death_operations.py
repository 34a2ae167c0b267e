"""Every operation in place, up and down, takes effect once: whenever it dies, whoever else writes."""

from collections.abc import Callable, Iterator
from random import Random

import lance
import pytest
from dying import HOWS, Died, Fate, How
from lab import Lab
from migrations import (
    ABOVE,
    MOVING,
    NOT_BY_METADATA_ALONE,
    OPERATIONS,
    OTHERS,
    THREE,
    WAYS,
    Play,
    Played,
    given_up,
    played,
    renewed,
    staged,
    upgraded,
)
from scenes import Course, Scene, course, dies, kind, settled, whole
from scenes import deaths as some

from lancemig.errors import RunUnfinished

Death = tuple[int, How, Callable[[Lab], object]]


def deaths(usual: Course) -> Iterator[Death]:
    """All of them: each effect, each moment, each kind of other writer."""
    for at, what in enumerate(usual.effects, 1):
        for how in HOWS:
            if how != "half" or what.startswith(("copy", "delete")):
                for others in OTHERS:
                    yield at, how, others


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
    wanted = [(at, how, random.choice(OTHERS)) for at, how in some(one.usual.effects)]
    all_die(one, wanted, subtests)


@pytest.mark.nightly
@pytest.mark.parametrize("way", WAYS)
def test_three_operations_that_die_at_any_moment_beside_any_writer_take_effect_once(
    play: Play, subtests: pytest.Subtests, way: str
) -> None:
    one = play(THREE, way)
    all_die(one, list(deaths(one.usual)), subtests)


def moved(base: Scene, way: str, *, stable: bool) -> Played:
    """Operations that move rows of a table without a key; taken back, in two revisions."""
    lab = base.copy()
    renewed(lab, stable=stable)
    before = whole(lab)["notes"]
    first, then = MOVING
    one = played(staged(lab, first + then, way) if way == "undo" else staged(lab, first, way, then))
    after = {row["at"]: row["text"] for row in one.usual.seen[-1]["notes"]["rows"]}
    if way == "up":
        assert after == {0: "note 0!", 2: "?", 3: "note 3!?", 5: "other?", 50: "new?"}
    else:
        assert one.usual.seen[-1]["notes"] == before
    return one


@pytest.mark.parametrize("stable", [False, True], ids=["addresses", "stable row ids"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_without_a_key_that_are_moved_are_found_again_wherever_it_dies(
    base: Scene, subtests: pytest.Subtests, way: str, stable: bool
) -> None:
    one = moved(base, way, stable=stable)
    random = Random(f"{way} {stable}")  # noqa: S311 - which moments are tried
    wanted = chosen(one.usual, f"{way} {stable}")
    if not stable:
        wanted = [(at, how, random.choice(OTHERS)) for at, how in some(one.usual.effects)]
    all_die(one, wanted, subtests)


@pytest.mark.nightly
@pytest.mark.parametrize("stable", [False, True], ids=["addresses", "stable row ids"])
@pytest.mark.parametrize("way", WAYS)
def test_rows_without_a_key_that_are_moved_are_found_again_whenever_it_dies_beside_any_writer(
    base: Scene, subtests: pytest.Subtests, way: str, stable: bool
) -> None:
    one = moved(base, way, stable=stable)
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
                assert refused.next_step == "lancemig upgrade --plan"
                assert lab.catalog().in_flight() is None
                assert whole(lab) == one.usual.seen[-1]
            else:
                assert not begun
                assert whole(lab) == play(THREE, "up").usual.seen[-1]
            settled(lab)
