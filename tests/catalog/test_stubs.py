"""Functions that are still to be written are told from those that are."""

from collections.abc import Iterator
from typing import Any

import pytest

from lancemig.catalog.sources import is_stub, rows_stub, values_stub


def only_raises(batch: Any) -> Any:
    """It is to do something."""
    raise NotImplementedError


def says_why(batch: Any) -> Any:
    raise NotImplementedError("ask the author")


def sometimes(batch: Any) -> Any:
    if batch:
        raise NotImplementedError
    return batch


def some() -> Iterator[Any]:
    yield 1
    raise NotImplementedError


@pytest.mark.parametrize(
    "function", [only_raises, says_why, values_stub("fill", "x"), rows_stub("rows", "x")]
)
def test_a_function_that_only_raises_is_unwritten(function: Any):
    assert is_stub(function)
    with pytest.raises(NotImplementedError):
        function(*[None] * function.__code__.co_argcount)


@pytest.mark.parametrize("function", [sometimes, some, len, None, lambda batch: batch])
def test_any_other_is_written(function: Any):
    assert not is_stub(function)


def test_a_place_has_the_name_and_the_words_that_it_was_given():
    place = values_stub("embed_docs", "Return vectors.")
    assert (place.__name__, place.__qualname__, place.__doc__) == (
        "embed_docs",
        "embed_docs",
        "Return vectors.",
    )
