"""In a bucket, too, every operation that dies takes effect once."""

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest
from dying import HOWS, How
from migrations import OPERATIONS, OTHERS, THREE, Play, Played, appended
from scenes import dies, kind
from servers import NewPlace


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
