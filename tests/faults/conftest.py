"""Scenes are set up once; every death happens to a copy."""

from functools import cache

import pytest
from migrations import Play, Played, begun, played, staged, upgraded
from scenes import Scene
from servers import NewPlace


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, new_place: NewPlace) -> Scene:
    """Tables before the migration under test."""
    return Scene(begun(tmp_path_factory.mktemp("base"), new_place), upgraded)


@pytest.fixture(scope="session")
def play(base: Scene) -> Play:
    """A migration's scene, by its operations and its way."""

    @cache
    def get(operations: str, way: str) -> Played:
        return played(staged(base.copy(), operations, way))

    return get
